package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memkv"
	"github.com/spoolmq/spool/store/memlog"
)

// overtakenOpen opens a spool in memory with an index.
func overtakenOpen(t *testing.T, dir string, ix store.Index, opts ...Option) *Spool {
	t.Helper()
	s, err := OpenOn(memlog.New(memlog.Options{}), dir, func() (store.Index, error) { return ix, nil }, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// overtakenFill sends so many blocks of messages.
func overtakenFill(t *testing.T, q *Queue, blocks int) {
	t.Helper()
	ms := make([]Message, blockSize)
	for i := range ms {
		ms[i] = Message{Body: []byte("x")}
	}
	for range blocks {
		if _, err := q.SendBatch(context.Background(), ms); err != nil {
			t.Fatal(err)
		}
	}
}

// A fullIndex has no room for changes while full is set.
type fullIndex struct {
	*memkv.Index
	full atomic.Bool
}

func (ix *fullIndex) Apply(batch []store.Change) error {
	if ix.full.Load() && len(batch) > 0 {
		return fmt.Errorf("test: %w", store.ErrNoSpace)
	}
	return ix.Index.Apply(batch)
}

// TestEvictAfterACheckpointWithoutRoom: blocks that a checkpoint has collected and could not write are not put out of memory.
func TestEvictAfterACheckpointWithoutRoom(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		bg := context.Background()
		ix := &fullIndex{Index: memkv.New()}
		var armed atomic.Bool
		s := overtakenOpen(t, dir, ix, WithPaging(1<<40, 1<<40), withStep(func(name string) {
			if armed.Load() && name == stepCheckpointBegun {
				ix.full.Store(true)
			}
		}))
		defer s.Close()
		q := cleanQueue(t, s, "q", Meta{})
		overtakenFill(t, q, 64)
		time.Sleep(time.Minute)
		k := s.keeper
		k.work.Lock()
		k.checkpoint() // makes the index
		// Everything changes.
		for range 64 {
			ds, err := q.ReceiveBatch(bg, 1024, Visibility(time.Hour))
			if err != nil || len(ds) != 1024 {
				t.Fatal(len(ds), err)
			}
		}
		for len(k.shelf.pending) < evictSaves { // as many have been superseded since
			k.shelf.discard(key(keyState, 1<<30, uint64(len(k.shelf.pending)), 1))
		}
		s.pager.low = 0
		armed.Store(true)
		k.evict()
		armed.Store(false)
		s.pager.low = 1 << 40
		lost := 0
		q.st.each(func(*summary) bool { return false }, func(b *block) bool {
			if b.body == nil {
				if _, err := k.shelf.fetch(q.id, b.number, b.saved); err != nil {
					lost++
				}
			}
			return true
		})
		k.work.Unlock()
		if !ix.full.Load() {
			t.Error("no checkpoint was made")
		}
		if lost > 0 {
			t.Errorf("%d blocks are neither in memory nor in the index", lost)
		}
		time.Sleep(2 * time.Hour)
		if _, err := q.Attributes(bg); err != nil {
			t.Errorf("Attributes = %v", err)
		}
	})
}

// A brokenIndex refuses changes while bad is set, and calls a function after a read, once.
type brokenIndex struct {
	*memkv.Index
	bad bool
	get func()
}

func (ix *brokenIndex) Apply(batch []store.Change) error {
	if ix.bad && len(batch) > 0 {
		return errors.New("the index is broken")
	}
	return ix.Index.Apply(batch)
}

func (ix *brokenIndex) Get(k []byte) ([]byte, error) {
	v, err := ix.Index.Get(k)
	if f := ix.get; f != nil {
		ix.get = nil
		f()
	}
	return v, err
}

// blockAway opens a spool with the queue q, whose one message is in a block that is out of memory. Its index can be broken.
func blockAway(t *testing.T, dir string) (*Spool, *Queue, *brokenIndex) {
	t.Helper()
	ix := &brokenIndex{Index: memkv.New()}
	s := overtakenOpen(t, dir, ix, WithPaging(0, 1<<40))
	q := cleanQueue(t, s, "q", Meta{})
	if _, err := q.Send(context.Background(), Message{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
	if q.BlocksAway() != 1 {
		t.Fatal("the block is not away")
	}
	return s, q, ix
}

// TestIndexGivenUpBesideARead: the index fails and is given up while a block of a queue that has just been deleted is read.
func TestIndexGivenUpBesideARead(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		bg := context.Background()
		s, q, ix := blockAway(t, dir)
		defer s.Close()
		done := make(chan struct{})
		ix.get = func() {
			if err := s.DeleteQueue(bg, "q"); err != nil {
				t.Error(err)
			}
			ix.bad = true
			go func() {
				defer close(done)
				s.keeper.work.Lock()
				defer s.keeper.work.Unlock()
				s.keeper.checkpoint()
			}()
			synctest.Wait()
		}
		if _, err := q.Receive(bg); !errors.Is(err, ErrQueueNotFound) {
			t.Errorf("Receive = %v, want ErrQueueNotFound", err)
		}
		<-done
	})
}

// TestIndexGivenUpBeforeARead: the index fails and is given up while the read of a block waits for other reads. The block is
// of a queue that has just been deleted.
func TestIndexGivenUpBeforeARead(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		bg := context.Background()
		s, q, ix := blockAway(t, dir)
		defer s.Close()
		p := &s.pager
		p.begin(1<<40, false) // others read as much as may be
		received := make(chan error, 1)
		go func() {
			_, err := q.Receive(bg)
			received <- err
		}()
		synctest.Wait()
		if err := s.DeleteQueue(bg, "q"); err != nil {
			t.Fatal(err)
		}
		ix.bad = true
		p.mu.Lock()
		p.reading = 0 // the keeper is the first to see that they have ended
		p.mu.Unlock()
		s.keeper.work.Lock()
		s.keeper.checkpoint()
		s.keeper.work.Unlock()
		if s.keeper.shelf.index != nil {
			t.Error("the index is still there")
		}
		p.read.Broadcast()
		if err := <-received; !errors.Is(err, ErrQueueNotFound) {
			t.Errorf("Receive = %v, want ErrQueueNotFound", err)
		}
	})
}

// TestDeletedBeforeItsFirstCheckpoint: what the index has of blocks of a queue that is deleted before a checkpoint has told of
// it goes with the next checkpoint.
func TestDeletedBeforeItsFirstCheckpoint(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		bg := context.Background()
		ix := memkv.New()
		s := overtakenOpen(t, dir, ix, WithPaging(0, 1<<40))
		defer s.Close()
		if err := s.Checkpoint(); err != nil { // which makes the index
			t.Fatal(err)
		}
		q := cleanQueue(t, s, "q", Meta{})
		overtakenFill(t, q, 8)
		time.Sleep(time.Minute)
		if q.BlocksAway() == 0 {
			t.Fatal("no block is away")
		}
		if err := s.DeleteQueue(bg, "q"); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := s.Checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		for _, letter := range []byte{keyQueue, keyBlocks, keyState, keyPlaces} {
			entries, err := ix.Scan(key(letter, uint64(q.id)), key(letter, uint64(q.id)+1), 1000)
			if err != nil {
				t.Fatal(err)
			}
			n += len(entries)
		}
		if n > 0 {
			t.Errorf("the index has %d records of a deleted queue", n)
		}
	})
}

// A hookLog calls a function before each read of a record, if one is set.
type hookLog struct {
	*memlog.Log
	read func()
}

func (l *hookLog) ReadRecord(pos store.Position, dst []byte) ([]byte, error) {
	if f := l.read; f != nil {
		f()
	}
	return l.Log.ReadRecord(pos, dst)
}

// TestCleanerBesideAGatedBatch: the cleaner waits for the group to have space for a large copy, whose room a batch holds that
// records its first part and then waits for memory, which only the cleaner's goroutine gives.
func TestCleanerBesideAGatedBatch(t *testing.T) {
	bg := context.Background()
	log := &hookLog{Log: memlog.New(memlog.Options{SegmentSize: 8 << 20})}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := OpenOn(log, t.TempDir(), func() (store.Index, error) { return memkv.New(), nil }, WithPaging(0, 2<<10))
	must(err)
	defer s.Close()
	q, err := s.CreateQueue(bg, "q", Meta{MaxMessageSize: 8 << 20, VisibilityTimeout: time.Hour})
	must(err)
	big, err := s.CreateQueue(bg, "big", Meta{MaxMessageSize: 8 << 20})
	must(err)
	_, err = big.Send(bg, Message{Body: make([]byte, 5<<20)})
	must(err)
	_, err = big.Send(bg, Message{Body: make([]byte, 5<<20)}) // begins the next segment
	must(err)
	ms := make([]Message, 1024)
	for range 4 {
		for i := range ms {
			ms[i] = Message{Body: []byte("delayed"), Delay: time.Hour}
		}
		ms[500] = Message{Body: []byte("x")}
		_, err := q.SendBatch(bg, ms)
		must(err)
	}
	var receipts []string
	for range 4 {
		d, err := q.Receive(bg)
		must(err)
		receipts = append(receipts, d.Receipt)
	}
	for deadline := time.Now().Add(time.Minute); q.BlocksAway() != 4; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d blocks away, want 4", q.BlocksAway())
		}
	}
	deleted := make(chan error, 1)
	log.read = func() { // the cleaner reads the large message
		log.read = nil
		s.pager.gate.set(false)
		q.hold()
		for b := q.st.block(0); !q.st.here(b); {
			if !q.pageIn(false) {
				t.Error("the first block cannot be read")
			}
		}
		s.pager.gate.set(false) // as evict ends, some of which is done between two copies
		go func() { deleted <- q.DeleteBatch(bg, receipts) }()
		for s.commit.TryAdmit(4<<20-100, store.Ordinary) {
			s.commit.Forgo(4<<20 - 100)
			runtime.Gosched()
		}
		time.AfterFunc(300*time.Millisecond, func() {
			s.pager.gate.set(true) // as Queue.tell of somebody who has added much
			q.mu.Unlock()
		})
	}
	cleaned := make(chan error, 1)
	go func() { cleaned <- s.Clean() }()
	select {
	case <-deleted:
	case <-cleaned:
	case <-time.After(10 * time.Second):
		t.Error("the cleaner and DeleteBatch wait for each other")
	}
	s.pager.gate.set(false)
}

// TestCleanerWithNothingToCopy: a large message is deleted while the cleaner reads it. The room that its copy was to have is
// given back, though nothing is recorded: the next copy, and every call beside it, would wait for it for ever.
func TestCleanerWithNothingToCopy(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		bg := context.Background()
		log := &hookLog{Log: memlog.New(memlog.Options{SegmentSize: 12 << 20})}
		s, err := OpenOn(log, dir, func() (store.Index, error) { return memkv.New(), nil }, WithoutPaging, WithSlack(1<<40))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		q := cleanQueue(t, s, "q", Meta{MaxMessageSize: 8 << 20, VisibilityTimeout: time.Hour})
		for range 3 { // two of them fill the first segment
			if _, err := q.Send(bg, Message{Body: make([]byte, 5<<20)}); err != nil {
				t.Fatal(err)
			}
		}
		d, err := q.Receive(bg)
		if err != nil {
			t.Fatal(err)
		}
		log.read = func() {
			log.read = nil
			if err := d.Delete(bg); err != nil {
				t.Error(err)
			}
			time.Sleep(3 * time.Second) // the keeper has synced that, which would write any group
		}
		cleaned := make(chan error, 1)
		go func() { cleaned <- s.Clean() }()
		select {
		case err := <-cleaned:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Hour):
			t.Error("the cleaner waits for room that nobody uses")
			s.Sync(bg) // writes the group without records
			t.Log(<-cleaned)
		}
		if s.KeepsRoom() {
			t.Error("room is held for nobody")
		}
	})
}

// TestIndexFailsInACheckpoint: the index is found bad while a checkpoint is under way. That checkpoint does not mark it as
// usable again, nor does Close.
func TestIndexFailsInACheckpoint(t *testing.T) {
	for _, step := range []string{stepCheckpointBegun, stepCheckpointLog, stepCheckpointRecorded} {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				var s *Spool
				armed := false
				s = overtakenOpen(t, dir, memkv.New(), WithoutPaging, withStep(func(name string) {
					if armed && name == step {
						armed = false
						s.indexFailed(errShelf)
					}
				}))
				marker := filepath.Join(dir, "index.ok")
				q := cleanQueue(t, s, "q", Meta{})
				overtakenFill(t, q, 1)
				if err := s.Checkpoint(); err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(marker); err != nil {
					t.Fatal(err)
				}
				overtakenFill(t, q, 1)
				armed = true
				if err := s.Checkpoint(); err == nil {
					t.Error("the checkpoint stands")
				}
				if _, err := os.Stat(marker); err == nil {
					t.Error("the index is marked as usable after the checkpoint")
				}
				if err := s.Close(); !errors.Is(err, ErrCorrupt) {
					t.Errorf("Close = %v, want ErrCorrupt", err)
				}
				if _, err := os.Stat(marker); err == nil {
					t.Error("the index is marked as usable after Close")
				}
			})
		})
	}
}

// A simIndex can crash, and calls a function after a change with a key of a letter, once.
type simIndex struct {
	*memkv.Sim
	letter  byte
	applied func()
}

func (ix *simIndex) Apply(batch []store.Change) error {
	err := ix.Sim.Apply(batch)
	if f := ix.applied; f != nil && len(batch) > 0 && batch[len(batch)-1].Key[0] == ix.letter {
		ix.applied = nil
		f()
	}
	return err
}

// TestBlocksEndInACheckpoint: blocks end after a checkpoint has dealt with those that have ended, and before it tells of the
// others. It does not say that the index holds nothing else, so that after a crash their records are removed.
func TestBlocksEndInACheckpoint(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		bg := context.Background()
		log, ix := memlog.New(memlog.Options{}), &simIndex{Sim: memkv.NewSim(), letter: keyBlocks}
		open := func(log store.Log, ix store.Index) *Spool {
			s, err := OpenOn(log, dir, func() (store.Index, error) { return ix, nil }, WithoutPaging)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open(log, ix)
		defer s.Close()
		q := cleanQueue(t, s, "q", Meta{})
		for range pageBlocks + 10 { // two pages of blocks, each with one message
			if _, err := q.Send(bg, Message{Body: []byte("x")}); err != nil {
				t.Fatal(err)
			}
			q.hold()
			q.st.next += blockSize - 1
			q.mu.Unlock()
		}
		s.keeper.shelf.most = 1
		ix.applied = func() { // the first page is written
			if err := q.Purge(bg); err != nil {
				t.Error(err)
			}
		}
		if err := s.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		if ix.applied != nil {
			t.Fatal("the checkpoint has no page")
		}
		if err := s.Sync(bg); err != nil {
			t.Fatal(err)
		}
		after := ix.Crash(ix.Unsynced())
		again := open(log.Crash(func(n int64) int64 { return n }), after)
		defer again.Close()
		if again.keeper.shelf.index == nil {
			t.Fatal("the index is not used")
		}
		for range 3 {
			if err := again.Checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
		for _, letter := range []byte{keyState, keyPlaces} {
			entries, err := after.Scan(key(letter, uint64(q.id)), key(letter, uint64(q.id)+1), pageBlocks)
			if err != nil || len(entries) > 0 {
				t.Errorf("%d records %c of blocks that are no more, %v", len(entries), letter, err)
			}
		}
	})
}

// TestRestAfterACheckpoint: an empty queue rests although a checkpoint has told of its last block, as soon as another one has
// removed that.
func TestRestAfterACheckpoint(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		bg := context.Background()
		s := overtakenOpen(t, dir, memkv.New(), WithoutPaging)
		defer s.Close()
		q := cleanQueue(t, s, "q", Meta{})
		if _, err := q.Send(bg, Message{Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		if err := s.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		d, err := q.Receive(bg)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Delete(bg); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Checkpoint(); err != nil {
				t.Fatal(err)
			}
			s.RestIdle()
		}
		if s.Resting() != 1 {
			t.Error("the queue does not rest")
		}
	})
}
