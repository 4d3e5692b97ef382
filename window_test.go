package spool

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memkv"
	"github.com/spoolmq/spool/store/memlog"
)

// A lateLog calls a function once before it tells how far it is synced.
type lateLog struct {
	*memlog.Log
	before func()
}

func (l *lateLog) Synced() store.Position {
	if f := l.before; f != nil {
		l.before = nil
		f()
	}
	return l.Log.Synced()
}

// TestQueueMadeWhileTheLogIsCut: the log keeps what a queue needs that is made, and filled, while the keeper finds out where
// it can be cut.
func TestQueueMadeWhileTheLogIsCut(t *testing.T) {
	log := &lateLog{Log: memlog.New(memlog.Options{SegmentSize: 4 << 10})}
	s, err := OpenOn(log, t.TempDir(), func() (store.Index, error) { return memkv.New(), nil }, WithSizes(4<<10, 1<<40), WithSlack(1<<40), WithoutPaging)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cleanQueue(t, s, "old", cleanMeta)
	var q *Queue
	s.keeper.work.Lock()
	log.before = func() {
		q = cleanQueue(t, s, "new", cleanMeta)
		cleanSend(t, q, 0, 200)
	}
	s.keeper.reclaim()
	s.keeper.work.Unlock()
	if q == nil || log.End() < 3*4<<10 {
		t.Fatalf("the log ends at %d: nothing was sent in between", log.End())
	}
	again, err := OpenOn(log.Crash(func(unsynced int64) int64 { return unsynced }), filepath.Join(t.TempDir(), "none"), nil, WithoutPaging)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	cleanTake(t, cleanQueue(t, again, "new", cleanMeta), 200)
	cleanTake(t, q, 200)
}

// TestMoveAcrossACheckpoint: a message whose move to the dead letters has been recorded, but is not made in memory, when a
// checkpoint begins is not in both queues after a crash.
func TestMoveAcrossACheckpoint(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	var s *Spool
	stands, over := make(chan struct{}), make(chan struct{})
	var reads, moves, checkpoints int
	hook := func(name string) {
		switch name {
		case stepMoveRead:
			if reads++; reads == 1 {
				cleanCheckpoint(s) // has the message on its way
			}
		case stepMoveRecorded:
			if moves++; moves > 1 {
				return
			}
			if err := s.Sync(context.Background()); err != nil { // of another call
				t.Error(err)
			}
			go func() {
				defer close(over)
				cleanCheckpoint(s)
			}()
			for s.set.TryRLock() { // nobody waits for the move to be made
				s.set.RUnlock()
				select {
				case <-stands:
					return
				default:
					runtime.Gosched()
				}
			}
		case stepCheckpointStands:
			if checkpoints++; checkpoints == 2 {
				close(stands)
			}
		}
	}
	s = cleanOpen(t, dir, WithoutPaging, WithSizes(1<<20, 1<<40), WithDurability(Fsync), withStep(hook))
	cleanQueue(t, s, "dead", cleanMeta)
	m := cleanMeta
	m.DeadLetter = &DeadLetter{Queue: "dead", MaxReceives: 1}
	q := cleanQueue(t, s, "q", m)
	cleanSend(t, q, 0, 1)
	if err := cleanTake(t, q, 1)[0].Release(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	<-over
	if moves != 1 || checkpoints != 2 {
		t.Fatalf("%d moves, %d checkpoints, want 1 and 2", moves, checkpoints)
	}
	again := cleanOpen(t, cleanCopy(t, dir), WithSizes(1<<20, 1<<40))
	cleanSame(t, "after a crash", cleanDump(t, again), cleanDump(t, s))
}

// TestHistoryShortenedInACheckpoint: deletions that a lower Rewind has ended do not come back after a crash, though the history
// of that was too long to keep while a checkpoint was under way.
func TestHistoryShortenedInACheckpoint(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	var q *Queue
	armed := false
	s := cleanOpen(t, dir, WithSizes(1<<20, 1<<40), withStep(func(name string) {
		if name != stepCheckpointBegun || !armed {
			return
		}
		armed = false
		cleanSend(t, q, 0, blockSize+1)
		cleanDelete(t, q, cleanTake(t, q, blockSize))
		for _, d := range []time.Duration{0, time.Hour} {
			if err := q.SetMeta(t.Context(), func(m *Meta) { m.Rewind = d }); err != nil {
				t.Error(err)
			}
		}
		if _, err := q.Rewind(t.Context(), time.Unix(0, q.spool.now())); err != nil { // one more than is kept
			t.Error(err)
		}
	}))
	m := cleanMeta
	m.Rewind = time.Hour
	q = cleanQueue(t, s, "q", m)
	began := time.Unix(0, s.now())
	shelfEvents(t, q, maxEvents-2)
	armed = true
	cleanCheckpoint(s)
	if armed {
		t.Fatal("nothing was done in the checkpoint")
	}
	again := cleanOpen(t, cleanCopy(t, dir), WithSizes(1<<20, 1<<40))
	cleanSame(t, "after a crash", cleanDump(t, again), cleanDump(t, s))
	if n, err := cleanQueue(t, again, "q", m).Rewind(t.Context(), began); n > 0 || err != nil {
		t.Errorf("Rewind = %d, %v, want 0", n, err)
	}
}

// TestLapseUnderForgottenRules: a lease that ended before the settings changed is not judged by the later ones when the log is all
// there is and begins behind the record of the earlier ones. Found by seed 254436858342532 of TestSimulation.
func TestLapseUnderForgottenRules(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{SegmentSize: 4 << 10})
		s, err := OpenOn(log, dir, func() (store.Index, error) { return memkv.New(), nil }, WithoutPaging, WithSlack(1<<40))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		cleanQueue(t, s, "dead", cleanMeta)
		m := cleanMeta
		m.DeadLetter = &DeadLetter{Queue: "dead", MaxReceives: 2}
		q := cleanQueue(t, s, "q", m)
		fill := cleanQueue(t, s, "fill", cleanMeta)
		cleanSend(t, fill, 0, 100)
		cleanSend(t, q, 0, 1)
		if _, err := q.Receive(t.Context(), Visibility(time.Second)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if err := q.SetMeta(t.Context(), func(m *Meta) { m.DeadLetter.MaxReceives = 1 }); err != nil {
			t.Fatal(err)
		}
		created := q.origin
		if err := errors.Join(fill.Purge(t.Context()), s.Clean()); err != nil {
			t.Fatal(err)
		}
		if log.Start() <= created {
			t.Fatalf("the log begins at %d, the queue's first record is at %d", log.Start(), created)
		}
		again, err := OpenOn(log.Crash(func(unsynced int64) int64 { return unsynced }), dir+"/none", nil, WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if a, err := cleanQueue(t, again, "q", m).Attributes(t.Context()); err != nil || a.Active != 1 {
			t.Errorf("%d messages are active, %v, want 1", a.Active, err)
		}
	})
}
