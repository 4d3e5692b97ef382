package spool

import (
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memkv"
	"github.com/spoolmq/spool/store/memlog"
)

// TestRewindOfNothing: a rewind that brings nothing back leaves nothing behind, in the log or in memory.
func TestRewindOfNothing(t *testing.T) {
	s := cleanOpen(t, t.TempDir())
	q := cleanQueue(t, s, "q", Meta{Rewind: time.Hour})
	cleanSend(t, q, 0, 3)
	cleanDelete(t, q, cleanTake(t, q, 1))
	now := shelfNow(t, q)
	if n, err := q.Rewind(t.Context(), now.Add(-time.Minute)); n != 1 || err != nil {
		t.Fatalf("Rewind = %d, %v, want 1", n, err)
	}
	end := s.commit.Appended()
	for range 3 {
		if n, err := q.Rewind(t.Context(), now.Add(-time.Minute)); n != 0 || err != nil {
			t.Fatalf("Rewind = %d, %v, want 0", n, err)
		}
	}
	if n := q.st.history.Len(); n != 1 {
		t.Errorf("%d events in the history, want 1", n)
	}
	if got := s.commit.Appended(); got != end {
		t.Errorf("the log has grown from %d to %d", end, got)
	}
}

// A heldLog does not sync while it is held.
type heldLog struct {
	*memlog.Log
	held atomic.Value // chan struct{}, closed to let go
}

func (l *heldLog) Sync(upTo store.Position) error {
	<-l.held.Load().(chan struct{})
	return l.Log.Sync(upTo)
}

// TestRewindOfNothingWaits: when another rewind has left nothing to bring back, that one is durable before the answer.
func TestRewindOfNothingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		close(open)
		log := &heldLog{Log: memlog.New(memlog.Options{})}
		log.held.Store(open)
		s, err := OpenOn(log, t.TempDir(), nil, WithoutPaging, WithDurability(Fsync))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		q := cleanQueue(t, s, "q", Meta{Rewind: time.Hour})
		cleanSend(t, q, 0, 1)
		cleanDelete(t, q, cleanTake(t, q, 1))
		held := make(chan struct{})
		log.held.Store(held)
		answers := make(chan int64, 2)
		for range 2 {
			go func() {
				n, err := q.Rewind(t.Context(), time.Unix(0, s.now()).Add(-time.Minute))
				if err != nil {
					t.Error(err)
				}
				answers <- n
			}()
			synctest.Wait()
		}
		if n := len(answers); n != 0 {
			t.Errorf("%d answers before the sync, want none", n)
		}
		close(held)
		if a, b := <-answers, <-answers; a+b != 1 {
			t.Errorf("answers %d and %d, want 1 and 0", a, b)
		}
	})
}

// deletedBlocks makes a queue with some full blocks of deletions.
func deletedBlocks(t testing.TB, blocks int) (*Spool, *Queue) {
	t.Helper()
	s, err := OpenMemory(WithoutPaging)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	q, err := s.CreateQueue(t.Context(), "q", Meta{Rewind: time.Hour, VisibilityTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	shelfSend(t, s, "q", blocks*blockSize)
	shelfDelete(t, s, "q", blocks*blockSize)
	return s, q
}

// TestRefreshBySpans: each deletion of a block becomes what the events say of its own instant.
func TestRefreshBySpans(t *testing.T) {
	s, q := deletedBlocks(t, 1)
	q.hold()
	defer q.mu.Unlock()
	st, b := q.st, q.st.block(0)
	at := func(off int) int64 { return st.cursor.get(&b.places, off).at }
	from, upTo := at(blockSize-1), at(0) // of the last batch and of the first one
	if st.history.Len() > 0 || from <= upTo {
		t.Fatalf("%d events, deletions from %d to %d", st.history.Len(), upTo, from)
	}
	if n := st.rewind(from, s.now()); n == 0 || n == blockSize {
		t.Fatalf("%d of %d deletions were brought back", n, blockSize)
	}
	st.history.Add(from, s.now(), 1, false)
	st.narrow(upTo)
	st.history.Add(upTo, s.now(), 2, true)
	want := settled(st, b)
	st.refresh(b)
	kept := 0
	for off := range blockSize {
		if got, want := b.kind(off), want.kind(off); got != want {
			t.Fatalf("message %d is %d, want %d", off, got, want)
		}
		if b.kind(off) == rewindable {
			kept++
		}
	}
	if kept == 0 || int32(kept) != b.count[rewindable] {
		t.Errorf("%d deletions are left, %d are counted", kept, b.count[rewindable])
	}
}

// TestHistoryCaughtUpInParts: a queue's lock is held for some blocks only while a long history is shortened, which leaves no
// block out and does not go on once a checkpoint has begun.
func TestHistoryCaughtUpInParts(t *testing.T) {
	s, q := deletedBlocks(t, 2*blocksAHold+3)
	q.hold()
	defer q.mu.Unlock()
	st := q.st
	st.history.Add(math.MaxInt64, s.now(), 1, false)
	current := func() (n int) {
		st.each(func(*summary) bool { return false }, func(b *block) bool {
			if b.generation == st.history.Generation() {
				n++
			}
			return true
		})
		return n
	}
	next, more := st.catchUp(0)
	if n := current(); n != blocksAHold || next != blocksAHold || !more {
		t.Errorf("catchUp = %d, %v with %d blocks up to date, want %d, true", next, more, n, blocksAHold)
	}
	s.keeper.checkpointing.Store(true)
	q.catchUpHere()
	if n := current(); n != blocksAHold || st.history.Len() != 1 {
		t.Errorf("in a checkpoint %d blocks are up to date, with %d events, want %d and 1", n, st.history.Len(), blocksAHold)
	}
	s.keeper.checkpointing.Store(false)
	q.catchUpHere()
	if n := current(); n != 2*blocksAHold+3 || st.history.Len() != 0 {
		t.Errorf("%d blocks are up to date, with %d events, want all and none", n, st.history.Len())
	}
}

// BenchmarkRefresh brings a block of deletions up to date with a history of the usual greatest length.
func BenchmarkRefresh(b *testing.B) {
	s, q := deletedBlocks(b, 1)
	q.hold()
	defer q.mu.Unlock()
	stale := q.st.block(0)
	for i := range maxEvents {
		q.st.history.Add(s.now(), s.now(), uint64(i), false)
	}
	b.ReportAllocs()
	for b.Loop() {
		stale.generation = 0
		q.st.refresh(stale)
	}
}

// TestForgottenBesideABlockAway: events that are forgotten while a block without deletions is out of memory concern no deletion that
// is made in it later, and nobody waits for it to catch up with them.
func TestForgottenBesideABlockAway(t *testing.T) {
	s, err := OpenOn(memlog.New(memlog.Options{}), t.TempDir(), func() (store.Index, error) { return memkv.NewSim(), nil }, WithPaging(0, 1<<40))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	k := s.keeper
	work := func(f func()) {
		k.work.Lock()
		defer k.work.Unlock()
		f()
	}
	q := cleanQueue(t, s, "q", Meta{Rewind: time.Hour, VisibilityTimeout: time.Hour})
	cleanSend(t, q, 0, 1)
	for work(func() { k.evict() }); q.BlocksAway() != 1; work(func() { k.evict() }) {
	}
	for _, d := range []time.Duration{2 * time.Hour, time.Hour} {
		if err := q.SetMeta(t.Context(), func(m *Meta) { m.Rewind = d }); err != nil {
			t.Fatal(err)
		}
	}
	work(func() { k.catchUp(q) })
	if q.st.history.Len() != 0 || q.st.history.Generation() == 0 {
		t.Fatalf("%d events, generation %d: nothing was forgotten", q.st.history.Len(), q.st.history.Generation())
	}
	cleanDelete(t, q, cleanTake(t, q, 1))
	for work(func() { k.evict() }); q.BlocksAway() != 1; work(func() { k.evict() }) {
	}
	if wrong := checkSpool(s); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	work(func() { k.catchUp(q) })
}
