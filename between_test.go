package spool_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memkv"
	"github.com/spoolmq/spool/store/memlog"
)

// A hookedIndex calls a function before changes are applied, once.
type hookedIndex struct {
	*memkv.Sim
	before func()
}

func (ix *hookedIndex) Apply(batch []store.Change) error {
	if f := ix.before; f != nil && len(batch) > 0 {
		ix.before = nil
		f()
	}
	return ix.Sim.Apply(batch)
}

// TestCheckpointInAGroup: a checkpoint is made while a frame gathers. What that frame had when a queue was looked at is in
// the checkpoint, what came to it later is replayed, neither of them twice.
func TestCheckpointInAGroup(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ix := &hookedIndex{Sim: memkv.NewSim()}
		log := &heldLog{Log: memlog.New(memlog.Options{})}
		s, err := spool.OpenOn(log, dir, func() (store.Index, error) { return ix, nil }, spool.WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		c := newCaseSpool(t, s)
		q := c.create("q", spool.Meta{})
		q.send("first")
		q.send("second")
		log.writes.close()
		for range 2 { // one is being written, and one gathers
			go q.send("later")
			synctest.Wait()
		}
		hooked, done := make(chan bool), make(chan error, 1)
		ix.before = func() {
			go q.receive("first", spool.Visibility(time.Hour))
			synctest.Wait()
			hooked <- true
		}
		go func() { done <- s.Checkpoint() }()
		<-hooked
		log.writes.open()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		after, index := log.Crash(func(unsynced int64) int64 { return unsynced }), ix.Crash(ix.Unsynced())
		want := q.attributes()
		if want.Sent != 4 || want.Received != 1 || want.Active != 3 || want.Inactive != 1 {
			t.Fatalf("%+v", want)
		}
		opened := false
		again, err := spool.OpenOn(after, dir, func() (store.Index, error) { opened = true; return index, nil }, spool.WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		got := newCaseSpool(t, again).get("q").attributes()
		if got.Sent != want.Sent || got.Received != want.Received || got.Active != want.Active || got.Inactive != want.Inactive || !opened {
			t.Errorf("opened again, with the index %t: sent %d, received %d, active %d, inactive %d; want %d, %d, %d, %d", opened,
				got.Sent, got.Received, got.Active, got.Inactive, want.Sent, want.Received, want.Active, want.Inactive)
		}
	})
}

// TestEvictedBesideACheckpoint: a block that is put out of memory again and again between two checkpoints does not take away
// what the first of them tells of it. Only time changes it, so no record makes the next Open look at it.
func TestEvictedBesideACheckpoint(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ix, log := memkv.NewSim(), memlog.New(memlog.Options{})
		s, err := spool.OpenOn(log, dir, func() (store.Index, error) { return ix, nil }, spool.WithPaging(0, 1<<40))
		if err != nil {
			t.Fatal(err)
		}
		q := newCaseSpool(t, s).create("q", spool.Meta{})
		for range 10 {
			q.send("x")
		}
		for i := range 5 {
			q.receive("x", spool.Visibility(time.Duration(3*(i+1))*time.Second))
		}
		if err := s.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		written := ix.Unsynced()
		for range 5 {
			time.Sleep(3 * time.Second) // a lease ends, which nothing records, and the block is put out
		}
		if ix.Unsynced() < written+5 {
			t.Fatalf("%d records were written after the checkpoint, want the block each time", ix.Unsynced()-written)
		}
		after, index := log.Crash(func(unsynced int64) int64 { return unsynced }), ix.Crash(ix.Unsynced())
		opened := false
		again, err := spool.OpenOn(after, dir, func() (store.Index, error) { opened = true; return index, nil }, spool.WithPaging(0, 1<<40))
		if err != nil {
			t.Fatal(err)
		}
		found := newCaseSpool(t, again).get("q")
		found.counts(10, 0, 0, 0)
		for range 10 {
			found.receive("x")
		}
		if found.none(); !opened {
			t.Error("the index is not opened again")
		}
	})
}

// TestRewindBehindACheckpoint: a rewind that brings back part of a block, and that only the log tells of, counts for that
// part when the spool is opened again.
func TestRewindBehindACheckpoint(t *testing.T) {
	for name, rest := range map[string]func(q *caseQueue){
		"rewind": func(*caseQueue) {},
		"rewind and a shorter window": func(q *caseQueue) {
			q.set(func(m *spool.Meta) { m.Rewind = 8 * sec })
		},
	} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			ix, log := memkv.NewSim(), memlog.New(memlog.Options{})
			open := func(log *memlog.Log, ix *memkv.Sim) *caseSpool {
				s, err := spool.OpenOn(log, dir, func() (store.Index, error) { return ix, nil }, spool.WithPaging(0, 1<<40))
				if err != nil {
					t.Fatal(err)
				}
				return newCaseSpool(t, s)
			}
			s := open(log, ix)
			q := s.create("q", spool.Meta{Rewind: time.Hour})
			var sent []time.Time
			for range 10 {
				sent = append(sent, time.Now())
				q.sendDelete("x")
				time.Sleep(sec)
			}
			if err := s.Checkpoint(); err != nil {
				t.Fatal(err)
			}
			q.rewind(sent[6], 4)
			rest(q)
			if err := s.Sync(bg); err != nil {
				t.Fatal(err)
			}
			want := q.attributes()
			again := open(log.Crash(func(unsynced int64) int64 { return unsynced }), ix.Crash(ix.Unsynced())).get("q")
			again.counts(want.Active, want.Inactive, want.Delayed, want.Rewindable)
			if want.Active != 4 || name == "rewind" && want.Rewindable != 6 {
				t.Errorf("%s: %d active, %d rewindable", name, want.Active, want.Rewindable)
			}
			if t.Failed() {
				return
			}
			for _, at := range sent[6:] {
				wantAt(t, name+": EnqueuedAt", again.receive("x").EnqueuedAt, at)
			}
			again.none()
		})
	}
}

// TestRuleBesideACheckpoint: a lease ends and then a dead-letter rule changes while a checkpoint is between the blocks of the
// queue and its settings. The lease is not judged by the later rule when the spool is opened again.
func TestRuleBesideACheckpoint(t *testing.T) {
	dir := t.TempDir()
	defer spool.SetSteps(func(string) {})
	synctest.Test(t, func(t *testing.T) {
		ix, log := memkv.NewSim(), memlog.New(memlog.Options{})
		open := func(log *memlog.Log, ix *memkv.Sim) *caseSpool {
			s, err := spool.OpenOn(log, dir, func() (store.Index, error) { return ix, nil }, spool.WithoutPaging)
			if err != nil {
				t.Fatal(err)
			}
			return newCaseSpool(t, s)
		}
		between := func() {}
		spool.SetSteps(func(name string) {
			if name == "checkpoint:blocks" {
				between()
			}
		})
		s := open(log, ix)
		q, _ := deadPair(s, 5, 0, spool.Meta{VisibilityTimeout: 10 * sec})
		q.send("x")
		q.receive("x")
		time.Sleep(10 * sec)
		q.receive("x")
		between = func() {
			between = func() {}
			time.Sleep(10 * sec)
			q.set(func(m *spool.Meta) { m.DeadLetter.MaxReceives = 2 })
		}
		if err := s.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(bg); err != nil {
			t.Fatal(err)
		}
		again := open(log.Crash(func(unsynced int64) int64 { return unsynced }), ix.Crash(ix.Unsynced()))
		for _, c := range []*caseSpool{s, again} {
			c.get("dead").counts(0, 0, 0, 0)
			if d := c.get("q").receive("x"); d.Receives != 3 {
				t.Errorf("Receives = %d, want 3", d.Receives)
			}
		}
	})
}

// A readLog calls a function before each read of a record, which may make it fail.
type readLog struct {
	*memlog.Log
	read func() error
}

var errRotten = &store.CorruptError{File: "log", Reason: "rotten for the test"}

// rotOnce makes the next read find its record rotten.
func (l *readLog) rotOnce() {
	l.read = func() error {
		l.read = nil
		return errRotten
	}
}

func (l *readLog) ReadRecord(pos store.Position, dst []byte) ([]byte, error) {
	if l.read != nil {
		if err := l.read(); err != nil {
			return dst, err
		}
	}
	return l.Log.ReadRecord(pos, dst)
}

func (l *readLog) ReadSpan(from, to store.Position, dst []byte) ([]byte, error) {
	if l.read != nil {
		if err := l.read(); err != nil {
			return dst, err
		}
	}
	return l.Log.ReadSpan(from, to, dst)
}

// TestUnreadableIsNotReceived: a receive of a message that cannot be read counts neither for it nor for its queue, now and
// after a restart; the message is passed over until its lease ends.
func TestUnreadableIsNotReceived(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := &readLog{Log: memlog.New(memlog.Options{})}
		q := openOn(t, log, dir).create("q", spool.Meta{})
		q.send("rotten")
		q.send("whole")
		log.rotOnce()
		_, err := q.Receive(bg, spool.Visibility(time.Minute))
		wantErr(t, "Receive", err, spool.ErrCorrupt)
		check := func(when string, q *caseQueue, received int64) {
			t.Helper()
			if got := q.attributes().Received; got != received {
				t.Errorf("%s: Received = %d, want %d", when, got, received)
			}
		}
		q.counts(1, 1, 0, 0)
		check("after ErrCorrupt", q, 0)
		q.receive("whole")
		check("after another one", q, 1)
		again, err := spool.OpenOn(log.Crash(func(unsynced int64) int64 { return unsynced }), dir+"/none", nil, spool.WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		for when, q := range map[string]*caseQueue{"here": q, "after a crash": newCaseSpool(t, again).get("q")} {
			check(when, q, 1)
			time.Sleep(time.Minute)
			if d := q.receive("rotten"); d.Receives != 1 || !d.FirstReceivedAt.Equal(time.Now()) {
				t.Errorf("%s: Receives = %d, FirstReceivedAt = %v, want 1 and now", when, d.Receives, d.FirstReceivedAt)
			}
		}
	})
}

// killed opens what is left of a spool whose process dies now, with all that was written and without an index.
func killed(t *testing.T, log *memlog.Log) *caseSpool {
	t.Helper()
	s, err := spool.OpenOn(log.Crash(func(unsynced int64) int64 { return unsynced }), t.TempDir(), nil, spool.WithoutPaging)
	if err != nil {
		t.Fatal(err)
	}
	return newCaseSpool(t, s)
}

// TestExpiredStaysExpired: the end of a message's life has no record. What had expired before the retention was raised is gone
// after a restart all the same, and no dead letter, whatever is due by then: its lease, its age, or nothing.
func TestExpiredStaysExpired(t *testing.T) {
	hour := func(m *spool.Meta) { m.Retention = time.Hour }
	for name, c := range map[string]struct {
		before func(q *caseQueue)
		raise  func(m *spool.Meta)
	}{
		"active":       {func(*caseQueue) {}, hour},
		"leased":       {func(q *caseQueue) { q.receive("m", spool.Visibility(20*time.Minute)) }, hour},
		"lease, count": {func(q *caseQueue) { q.receive("m", spool.Visibility(20*time.Minute)) }, func(m *spool.Meta) { hour(m); m.DeadLetter = &spool.DeadLetter{Queue: "dead", MaxReceives: 1} }},
		"age": {func(*caseQueue) {}, func(m *spool.Meta) {
			hour(m)
			m.DeadLetter = &spool.DeadLetter{Queue: "dead", MaxAge: 30 * time.Minute}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				log := memlog.New(memlog.Options{})
				s := openOn(t, log, dir)
				s.create("dead", spool.Meta{})
				q := s.create("q", spool.Meta{})
				q.send("m")
				c.before(q)
				time.Sleep(10 * sec)
				q.set(func(m *spool.Meta) { m.Retention = 5 * sec })
				q.counts(0, 0, 0, 0)
				q.set(c.raise)
				time.Sleep(40 * time.Minute)
				again := killed(t, log)
				again.get("q").counts(0, 0, 0, 0)
				again.get("dead").counts(0, 0, 0, 0)
			})
		})
	}
}

// TestFadedStaysFaded: that a message leaves the rewind window has no record. What had left it when a rewind or a wider window
// came is gone after a restart all the same.
func TestFadedStaysFaded(t *testing.T) {
	for name, c := range map[string]struct {
		then   func(q *caseQueue)
		counts [4]int64
	}{
		"rewind from the edge": {func(q *caseQueue) { q.rewind(time.Now().Add(-time.Hour), 1) }, [4]int64{1, 0, 0, 0}},
		"wider window":         {func(q *caseQueue) { q.set(func(m *spool.Meta) { m.Rewind = 2 * time.Hour }) }, [4]int64{0, 0, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				log := memlog.New(memlog.Options{})
				q := openOn(t, log, dir).create("q", spool.Meta{Rewind: time.Hour})
				q.sendDelete("faded")
				time.Sleep(time.Nanosecond)
				q.sendDelete("kept")
				time.Sleep(time.Hour - 1)
				q.counts(0, 0, 0, 1)
				c.then(q)
				for _, q := range []*caseQueue{q, killed(t, log).get("q")} {
					q.counts(c.counts[0], c.counts[1], c.counts[2], c.counts[3])
				}
			})
		})
	}
}

// TestUnreadableDeadLetter: a dead letter that cannot be read is tried again now and then, not once a second until its retention
// ends, and moves when it can be read. A receive that finds nothing else says so, once for each try.
func TestUnreadableDeadLetter(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var rotten atomic.Bool
		var tries atomic.Int64
		log := &readLog{Log: memlog.New(memlog.Options{}), read: func() error {
			if !rotten.Load() {
				return nil
			}
			tries.Add(1)
			return errRotten
		}}
		s := openOn(t, log, dir)
		dead := s.create("dead", spool.Meta{})
		q := s.create("q", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 1}})
		q.send("x")
		q.receive("x", spool.Visibility(sec))
		rotten.Store(true)
		time.Sleep(time.Hour)
		if n := tries.Load(); n < 2 || n > 100 {
			t.Errorf("the move was tried %d times in an hour, want some, and 100 at most", n)
		}
		for _, want := range []error{spool.ErrCorrupt, spool.ErrNoMessage} {
			_, err := q.Receive(bg, spool.Wait(0))
			wantErr(t, "Receive beside a dead letter that cannot be read", err, want)
		}
		q.counts(0, 1, 0, 0)
		rotten.Store(false)
		time.Sleep(time.Minute)
		q.counts(0, 0, 0, 0)
		dead.receive("x")
	})
}

// TestUnreadableAndReceivedAgain: a receive that finds its message unreadable when its lease is over takes nothing back: the
// message is somebody else's by then.
func TestUnreadableAndReceivedAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := &readLog{Log: memlog.New(memlog.Options{})}
		q := openOn(t, log, dir).create("q", spool.Meta{})
		q.send("x")
		q.receive("x", spool.Visibility(msec)) // the next one finds nothing of it in memory
		time.Sleep(sec)
		log.read = func() error {
			log.read = nil
			time.Sleep(time.Minute)
			return errRotten
		}
		first := q.waiting(bg, 1, spool.Visibility(sec))
		time.Sleep(sec)
		d := q.receive("x", spool.Visibility(time.Hour))
		time.Sleep(time.Minute)
		wantErr(t, "Receive", answered(t, first).err, spool.ErrCorrupt)
		q.counts(0, 1, 0, 0)
		if a := q.attributes(); a.Received != 3 || d.Receives != 3 {
			t.Errorf("Received = %d, Receives = %d, want 3 and 3", a.Received, d.Receives)
		}
		q.delete(d)
	})
}

// TestUnreadableInABatch: a batch has the messages that can be read, and no error beside them.
func TestUnreadableInABatch(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := &readLog{Log: memlog.New(memlog.Options{})}
		q := openOn(t, log, dir).create("q", spool.Meta{MaxMessageSize: 1 << 20})
		for range 2 {
			q.send(strings.Repeat("x", 200<<10)) // too large to be read together
		}
		log.rotOnce()
		if ds, err := q.ReceiveBatch(bg, 2); len(ds) != 1 || err != nil {
			t.Errorf("ReceiveBatch = %d messages, %v, want the one that is whole", len(ds), err)
		}
		q.counts(0, 2, 0, 0)
	})
}

// TestCleanBesideAMove: a message that sets out for the dead-letter queue between the moment at which the cleaner reads it
// and that at which it would record it is not copied: it is in one of the queues, also after a crash.
func TestCleanBesideAMove(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := &readLog{Log: memlog.New(memlog.Options{SegmentSize: 8 << 10})}
		c := openOn(t, log, dir)
		dead := c.create("dead", spool.Meta{})
		q := c.create("q", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 1}})
		for range 20 {
			q.send(strings.Repeat("x", 1000))
		}
		if _, err := q.Receive(bg, spool.Visibility(sec)); err != nil {
			t.Fatal(err)
		}
		var reads atomic.Int64
		moves := make(chan struct{})
		log.read = func() error {
			switch reads.Add(1) {
			case 1: // the cleaner's, of the message that is leased
				time.Sleep(2 * sec)
			case 2: // that of the move
				<-moves
			}
			return nil
		}
		if err := c.Clean(); err != nil {
			t.Fatal(err)
		}
		if n := reads.Load(); n < 3 {
			t.Fatalf("%d reads, want that of the move beside those of the cleaner", n)
		}
		close(moves)
		synctest.Wait()
		q.counts(19, 0, 0, 0)
		dead.counts(1, 0, 0, 0)
		after, err := spool.OpenOn(log.Crash(func(unsynced int64) int64 { return unsynced }), dir+"/none", nil, spool.WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		again := newCaseSpool(t, after)
		again.get("q").counts(19, 0, 0, 0)
		again.get("dead").counts(1, 0, 0, 0)
	})
}

// TestRestBesideAMove: a queue whose last message is on its way to the dead letters does not rest: whoever looks at it
// waits for the move.
func TestRestBesideAMove(t *testing.T) {
	defer spool.SetSteps(func(string) {})
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		done := func() {}
		spool.SetSteps(func(name string) {
			if name == "move:made" || name == "commit:written" { // it is gone here, and not visible yet there
				done()
			}
		})
		s := openOn(t, memlog.New(memlog.Options{}), dir)
		q, dead := deadPair(s, 1, 0, spool.Meta{})
		q.send("x")
		d := q.receive("x")
		moves := 0
		done = func() {
			moves++
			if s.RestIdle(); s.Resting() != 0 {
				t.Error("the queue rests")
			}
		}
		if err := d.Release(bg, 0); err != nil {
			t.Fatal(err)
		}
		done = func() {}
		dead.counts(1, 0, 0, 0)
		q.counts(0, 0, 0, 0)
		if s.RestIdle(); moves != 2 || s.Resting() != 1 {
			t.Errorf("%d looks beside the move, then %d queues rest, want 2 and 1", moves, s.Resting())
		}
	})
}

// TestMoveInACheckpoint: a message on its way to the dead letters, of which only a checkpoint tells, is still on its way when
// the spool is opened again.
func TestMoveInACheckpoint(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ix, log := memkv.NewSim(), &readLog{Log: memlog.New(memlog.Options{})}
		opened, said := 0, &bytes.Buffer{}
		open := func(log store.Log, ix *memkv.Sim) *caseSpool {
			s, err := spool.OpenOn(log, dir, func() (store.Index, error) { opened++; return ix, nil }, spool.WithoutPaging,
				spool.WithLogger(slog.New(slog.NewTextHandler(said, nil))))
			if err != nil {
				t.Fatal(err)
			}
			return newCaseSpool(t, s)
		}
		s := open(log, ix)
		q, dead := deadPair(s, 1, 0, spool.Meta{})
		q.send("x")
		d := q.receive("x")
		reads := make(chan struct{})
		log.read = func() error {
			<-reads
			return nil
		}
		go func() {
			if err := d.Release(bg, 0); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		if err := s.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		after, index := log.Crash(func(unsynced int64) int64 { return unsynced }), ix.Crash(ix.Unsynced())
		close(reads)
		synctest.Wait()
		dead.counts(1, 0, 0, 0)
		again := open(after, index)
		again.get("q").counts(0, 0, 0, 0)
		again.get("dead").counts(1, 0, 0, 0)
		if opened != 2 || strings.Contains(said.String(), "index not used") {
			t.Errorf("the index is not used again: %s", said)
		}
	})
}

// TestExpiryBesideAMove: messages that are on their way to the dead letters arrive there, though the life of their block ends
// before they do.
func TestExpiryBesideAMove(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var reads hold
		log := &readLog{memlog.New(memlog.Options{}), func() error { reads.pass(); return nil }}
		s := openOn(t, log, dir)
		q, dead := deadPair(s, 1, 0, spool.Meta{Retention: 10 * sec, VisibilityTimeout: 5 * sec})
		q.send("a")
		q.send("b")
		q.receive("a")
		q.receive("b")
		q.send("c")
		reads.close()
		time.Sleep(20 * sec)
		go q.counts(0, 0, 0, 0) // the life of the block ends when somebody looks
		synctest.Wait()
		reads.open()
		synctest.Wait()
		dead.receive("a")
		dead.receive("b")
		q.counts(0, 0, 0, 0)
	})
}

// TestDeadLettersInOrder: leases of one queue that ended while the spool was closed give their messages up in the order in
// which they ended, not in that of the sends.
func TestDeadLettersInOrder(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		index := func() (store.Index, error) { return memkv.New(), nil }
		s, err := spool.OpenOn(log, dir, index, spool.WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		c := newCaseSpool(t, s)
		c.create("dead", spool.Meta{})
		q := c.create("q", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 1}})
		ends := []int{7, 3, 9, 1, 5, 2, 8, 4, 6}
		for _, end := range ends {
			q.send(fmt.Sprint(end))
			q.receive(fmt.Sprint(end), spool.Visibility(time.Duration(end)*sec))
		}
		after := log.Crash(func(unsynced int64) int64 { return unsynced })
		time.Sleep(time.Minute)
		again, err := spool.OpenOn(after, dir+"/none", index, spool.WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		dead := newCaseSpool(t, again).get("dead")
		for end := range len(ends) {
			dead.receive(fmt.Sprint(end + 1))
		}
	})
}

// TestStoppedPrecedence: a spool that has stopped says so, at once to receivers that wait, but to a context that has ended,
// which gets its own error, and after Close.
func TestStoppedPrecedence(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		s, err := spool.OpenOn(log, dir, func() (store.Index, error) { return memkv.New(), nil }, spool.WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		q, err := s.CreateQueue(bg, "q", spool.Meta{})
		if err != nil {
			t.Fatal(err)
		}
		other, err := s.CreateQueue(bg, "other", spool.Meta{})
		if err != nil {
			t.Fatal(err)
		}
		waiting := (&caseQueue{other, t}).waiting(bg, 1, spool.Wait(time.Hour))
		log.Fail(memlog.Append, 0, syscall.EIO)
		done, cancel := context.WithCancel(bg)
		cancel()
		send := func(ctx context.Context, want error) {
			t.Helper()
			_, err := q.Send(ctx, spool.Message{Body: []byte("x")})
			wantErr(t, "Send", err, want)
			_, err = q.Receive(ctx, spool.Wait(time.Hour))
			wantErr(t, "Receive", err, want)
		}
		send(bg, spool.ErrStoreFailed)
		wantErr(t, "Receive that waited", answered(t, waiting).err, spool.ErrStoreFailed)
		send(done, context.Canceled)
		wantErr(t, "Close", s.Close(), spool.ErrStoreFailed)
		send(bg, spool.ErrClosed)
		send(done, spool.ErrClosed)
	})
}

// TestRestAfterLargeReceives: a queue whose blocks were read back for large receives gives up its memory when it is empty.
func TestRestAfterLargeReceives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inMemory(t, spool.WithPaging(0, 1<<40))
		q := s.create("q", spool.Meta{})
		const n = 3 * spool.MaxBatch
		for range 3 {
			ms := make([]spool.Message, spool.MaxBatch)
			for i := range ms {
				ms[i].Body = []byte("x")
			}
			if _, err := q.SendBatch(bg, ms); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second) // all of it is put out
		for got := 0; got < n; {
			ds, err := q.ReceiveBatch(bg, 1000) // parts of two blocks
			if err != nil {
				t.Fatal(err)
			}
			var receipts []string
			for _, d := range ds {
				receipts = append(receipts, d.Receipt)
			}
			if err := q.DeleteBatch(bg, receipts); err != nil {
				t.Fatal(err)
			}
			got += len(ds)
			time.Sleep(2 * time.Second)
		}
		if err := s.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		if s.RestIdle(); s.Resting() != 1 {
			t.Error("an empty queue does not rest")
		}
	})
}
