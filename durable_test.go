package spool_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memkv"
	"github.com/spoolmq/spool/store/memlog"
)

// A heldLog is a log whose writes and syncs wait as long as they are held.
type heldLog struct {
	*memlog.Log
	writes, syncs hold
}

// A hold lets everybody pass, or nobody.
type hold struct{ shut atomic.Pointer[chan struct{}] }

func (h *hold) close() {
	ch := make(chan struct{})
	h.shut.Store(&ch)
}

func (h *hold) open() { close(*h.shut.Swap(nil)) }

func (h *hold) pass() {
	if ch := h.shut.Load(); ch != nil {
		<-*ch
	}
}

func (l *heldLog) Append(p store.Payload) (store.Position, error) {
	l.writes.pass()
	return l.Log.Append(p)
}

func (l *heldLog) Sync(upTo store.Position) error {
	l.syncs.pass()
	return l.Log.Sync(upTo)
}

// openHeld opens a spool on a log that can be held, inside a bubble.
func openHeld(t *testing.T, dir string, opts ...spool.Option) (*heldLog, *caseSpool) {
	t.Helper()
	log := &heldLog{Log: memlog.New(memlog.Options{})}
	s, err := spool.OpenOn(log, dir, func() (store.Index, error) { return memkv.New(), nil }, append(opts, spool.WithoutPaging)...)
	if err != nil {
		t.Fatal(err)
	}
	return log, newCaseSpool(t, s)
}

// TestAnsweredWhenStored: no verb is answered before its record is written, nor, if the spool's durability covers it,
// before that is synced; and then it is.
func TestAnsweredWhenStored(t *testing.T) {
	type fixture struct {
		s *caseSpool
		q *caseQueue
		d *spool.Delivery // leased; another message is active, and a third one rewindable
	}
	message := spool.Message{Body: []byte("x")}
	changes := map[string]func(f fixture) error{
		"Send":        func(f fixture) error { _, err := f.q.Send(bg, message); return err },
		"SendBatch":   func(f fixture) error { _, err := f.q.SendBatch(bg, []spool.Message{message, message}); return err },
		"Delete":      func(f fixture) error { return f.d.Delete(bg) },
		"DeleteBatch": func(f fixture) error { return f.q.DeleteBatch(bg, []string{f.d.Receipt}) },
		"Rewind":      func(f fixture) error { _, err := f.q.Rewind(bg, time.Now().Add(-time.Minute)); return err },
		"Purge":       func(f fixture) error { return f.q.Purge(bg) },
		"SetMeta":     func(f fixture) error { return f.q.SetMeta(bg, func(m *spool.Meta) { m.PollingWait = time.Second }) },
		"CreateQueue": func(f fixture) error { _, err := f.s.CreateQueue(bg, "new", spool.Meta{}); return err },
		"DeleteQueue": func(f fixture) error { return f.s.DeleteQueue(bg, "old") },
	}
	leases := map[string]func(f fixture) error{
		"Receive":          func(f fixture) error { _, err := f.q.Receive(bg); return err },
		"ReceiveBatch":     func(f fixture) error { _, err := f.q.ReceiveBatch(bg, 10); return err },
		"ChangeVisibility": func(f fixture) error { return f.q.ChangeVisibility(bg, f.d.Receipt, time.Minute) },
		"Extend":           func(f fixture) error { return f.d.Extend(bg, time.Minute) },
		"Release":          func(f fixture) error { return f.d.Release(bg, 0) },
	}
	dir := t.TempDir()
	try := func(name string, verb func(f fixture) error, synced bool, opts ...spool.Option) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, s := openHeld(t, dir, opts...)
				s.create("old", spool.Meta{})
				q := s.create("q", spool.Meta{Rewind: time.Hour})
				q.sendDelete("rewindable")
				q.send("leased")
				f := fixture{s, q, q.receive("leased")}
				q.send("active")
				if err := s.Sync(bg); err != nil {
					t.Fatal(err)
				}
				log.writes.close()
				log.syncs.close()
				var answered atomic.Bool
				go func() {
					if err := verb(f); err != nil {
						t.Error(err)
					}
					answered.Store(true)
				}()
				synctest.Wait()
				if answered.Load() {
					t.Error("answered before the record is written")
				}
				log.writes.open()
				synctest.Wait()
				if answered.Load() == synced {
					t.Errorf("with the record written and not synced: answered is %t, want %t", answered.Load(), !synced)
				}
				log.syncs.open()
				synctest.Wait()
				if !answered.Load() {
					t.Error("not answered after the sync")
				}
			})
		})
	}
	for name, verb := range changes {
		try(name+"/fsync", verb, true)
		try(name+"/written", verb, false, spool.WithDurability(spool.Written))
	}
	for name, verb := range leases {
		try(name+"/fsync", verb, false)
		try(name+"/written", verb, false, spool.WithDurability(spool.Written), spool.WithDurableReceives())
		try(name+"/durable", verb, true, spool.WithDurableReceives())
	}
}

// TestReceivedWhenDurable: a receiver gets no message whose send has not reached the spool's durability, whether it waited
// before the send or came after it.
func TestReceivedWhenDurable(t *testing.T) {
	for _, size := range []int{10, 60 << 10} { // one that is handed over as a copy, one that is read
		for _, early := range []bool{true, false} {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				log, s := openHeld(t, dir)
				q := s.create("q", spool.Meta{PollingWait: time.Minute})
				log.syncs.close()
				var first, second <-chan answer
				if early {
					first = q.waiting(bg, 1)
				}
				sent := make(chan error, 1)
				go func() {
					_, err := q.Send(bg, spool.Message{Body: make([]byte, size)})
					sent <- err
				}()
				synctest.Wait()
				if !early {
					first = q.waiting(bg, 1)
				}
				ctx, cancel := context.WithCancel(bg)
				second = q.waiting(ctx, 1)
				if len(first)+len(second)+len(sent) > 0 {
					t.Errorf("%d bytes, receiver first %t: %d receivers and %d senders are answered before the sync, want none",
						size, early, len(first)+len(second), len(sent))
				}
				lost, err := spool.OpenOn(log.Crash(func(int64) int64 { return 0 }), filepath.Join(dir, "none"), nil)
				if err != nil {
					t.Fatal(err)
				}
				if n := lost.Stats().Messages; n != 0 {
					t.Errorf("a power loss before the sync leaves %d messages, want none", n)
				}
				if err := lost.Close(); err != nil {
					t.Error(err)
				}
				log.syncs.open()
				synctest.Wait()
				cancel()
				synctest.Wait()
				if len(first)+len(second) != 2 || len(sent) != 1 {
					t.Fatalf("after the sync %d receivers and %d senders are answered, want all", len(first)+len(second), len(sent))
				}
				if a := <-first; a.err != nil || len(a.ds) != 1 {
					t.Errorf("Receive = %v, want the message", a)
				}
				if err := <-sent; err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestRoomBesideSends: sends under way count for MaxMessages, delayed ones included.
func TestRoomBesideSends(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log, s := openHeld(t, dir)
		q := s.create("q", spool.Meta{MaxMessages: 3})
		q.send("there")
		log.syncs.close()
		answers := make(chan error, 6)
		for i := range cap(answers) {
			go func() {
				_, err := q.Send(bg, spool.Message{Body: []byte("x"), Delay: time.Duration(i%2) * time.Hour})
				answers <- err
			}()
			synctest.Wait()
		}
		log.syncs.open()
		synctest.Wait()
		full := 0
		for range cap(answers) {
			if err := <-answers; errors.Is(err, spool.ErrQueueFull) {
				full++
			} else if err != nil {
				t.Error(err)
			}
		}
		if a := q.attributes(); full != 4 || a.Active+a.Delayed != 3 {
			t.Errorf("of 6 sends to a queue with room for 2 %d were refused, %d active and %d delayed; want 4, and 3 in all", full, a.Active, a.Delayed)
		}
	})
}

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

// A readLog calls a function before each read of a record, which may make it fail.
type readLog struct {
	*memlog.Log
	read func() error
}

func (l *readLog) ReadRecord(pos store.Position, dst []byte) ([]byte, error) {
	if l.read != nil {
		if err := l.read(); err != nil {
			return dst, err
		}
	}
	return l.Log.ReadRecord(pos, dst)
}

// TestUnreadableIsNotReceived: a receive of a message that cannot be read counts neither for it nor for its queue, now and
// after a restart; the message is passed over until its lease ends.
func TestUnreadableIsNotReceived(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := &readLog{Log: memlog.New(memlog.Options{})}
		s, err := spool.OpenOn(log, dir, func() (store.Index, error) { return memkv.New(), nil }, spool.WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		q := newCaseSpool(t, s).create("q", spool.Meta{})
		q.send("rotten")
		q.send("whole")
		log.read = func() error {
			log.read = nil
			return &store.CorruptError{File: "log", Reason: "rotten for the test"}
		}
		_, err = q.Receive(bg, spool.Visibility(time.Minute))
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

// TestCleanBesideAMove: a message that sets out for the dead-letter queue between the moment at which the cleaner reads it
// and that at which it would record it is not copied: it is in one of the queues, also after a crash.
func TestCleanBesideAMove(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := &readLog{Log: memlog.New(memlog.Options{SegmentSize: 8 << 10})}
		s, err := spool.OpenOn(log, dir, func() (store.Index, error) { return memkv.New(), nil }, spool.WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		c := newCaseSpool(t, s)
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
		if err := s.Clean(); err != nil {
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

// A fullLog is a log that has nothing left but its reserve while it is full.
type fullLog struct {
	*memlog.Log
	full atomic.Bool
}

func (l *fullLog) Room() int64 {
	if l.full.Load() {
		return 0
	}
	return l.Log.Room()
}

func (l *fullLog) Grow(n int64) error {
	if l.full.Load() {
		return fmt.Errorf("grow by %d: %w", n, store.ErrNoSpace)
	}
	return l.Log.Grow(n)
}

// TestFullVerbs: on a full disk what stores more is refused, and has stored nothing; what stores less goes on; a dead-letter
// move waits, and all of it heals.
func TestFullVerbs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := &fullLog{Log: memlog.New(memlog.Options{})}
		s, err := spool.OpenOn(log, dir, func() (store.Index, error) { return memkv.New(), nil }, spool.WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		c := newCaseSpool(t, s)
		dead := c.create("dead", spool.Meta{})
		q := c.create("q", spool.Meta{Rewind: time.Hour, DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 1}})
		other := c.create("other", spool.Meta{})
		plain := c.create("plain", spool.Meta{Rewind: time.Hour})
		q.send("moves")
		if _, err := q.Receive(bg, spool.Visibility(sec)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			plain.send("x")
		}
		message := spool.Message{Body: []byte("x")}
		more := map[string]func() error{
			"Send":        func() error { _, err := other.Send(bg, message); return err },
			"SendBatch":   func() error { _, err := other.SendBatch(bg, []spool.Message{message, message}); return err },
			"CreateQueue": func() error { _, err := s.CreateQueue(bg, "new", spool.Meta{}); return err },
			"SetMeta":     func() error { return other.SetMeta(bg, func(m *spool.Meta) { m.PollingWait = sec }) },
		}
		log.full.Store(true)
		for name, f := range more {
			if err := f(); !errors.Is(err, spool.ErrNoSpace) {
				t.Errorf("%s on a full disk = %v, want ErrNoSpace", name, err)
			}
		}
		other.counts(0, 0, 0, 0)
		ds, err := plain.ReceiveBatch(bg, 3)
		if err != nil || len(ds) != 3 {
			t.Fatalf("ReceiveBatch on a full disk = %d, %v", len(ds), err)
		}
		for name, err := range map[string]error{"Extend": ds[0].Extend(bg, time.Hour), "Release": ds[1].Release(bg, 0), "Delete": ds[2].Delete(bg)} {
			if err != nil {
				t.Errorf("%s on a full disk = %v", name, err)
			}
		}
		plain.rewind(ds[2].EnqueuedAt, 1)
		plain.counts(2, 1, 0, 0)
		for name, err := range map[string]error{"Purge": plain.Purge(bg), "DeleteQueue": s.DeleteQueue(bg, "plain")} {
			if err != nil {
				t.Errorf("%s on a full disk = %v", name, err)
			}
		}
		time.Sleep(10 * sec)
		q.counts(0, 1, 0, 0)
		dead.counts(0, 0, 0, 0)
		log.full.Store(false)
		for name, f := range more {
			if err := f(); err != nil {
				t.Errorf("%s when there is space again = %v", name, err)
			}
		}
		time.Sleep(2 * sec)
		q.counts(0, 0, 0, 0)
		dead.counts(1, 0, 0, 0)
	})
}
