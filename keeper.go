package spool

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spoolmq/spool/store"
)

const (
	// markEvery is how often the side file is written while something changes.
	markEvery = time.Second

	// checkpointEvery is how many bytes of log are replayed at most by the next Open, give or take a group.
	checkpointEvery = 32 << 20

	// checkpointAtClose is how many bytes of log are left to be replayed by the next Open rather than checkpointed by
	// Close: opening the index costs more than they do.
	checkpointAtClose = 4 << 20

	// closeCheckpoint is how long Close works on its checkpoint before it gives it up.
	closeCheckpoint = 5 * time.Second
)

// A keeper does what no call waits for: it makes written frames stable within store.BackgroundSync, writes the side
// file, checkpoints, cleans the log, and gives dead segments back. Two goroutines, so that a long checkpoint does not hold
// a sync up; both sleep while nothing changes.
type keeper struct {
	spool *Spool
	shelf *shelf // nil = no index; used by the checkpointing goroutine only, and by Open and Close
	every int64
	slack int64

	work    sync.Mutex     // held by whoever checkpoints, cleans or reclaims
	press   pressure       // guarded by work
	haste   float64        // guarded by work; of an untidy log to become crowded
	weighed time.Time      // guarded by work; when these two were found
	crowd   time.Time      // guarded by work; the log was not crowded then
	stuck   bool           // guarded by work; the first segment could not be dropped
	warned  store.Position // guarded by work; one above the start of the log at the last complaint
	cut     store.Position // guarded by work; end of the segment that is being cleaned
	draws   bool           // guarded by work; on the reserve, which suffices for what is left of that segment
	weight  weight         // guarded by work

	suspended bool         // guarded by work; there was no room for the last checkpoint
	evicted   int          // guarded by work; blocks put out of memory
	fruitless time.Time    // guarded by work; nothing could be put out of memory then
	short     atomic.Bool  // the disk is full: the log is cleaned for less than its slack
	heavy     atomic.Int64 // bytes that copies take for 1,000 that the space contract counts

	kick      chan struct{}
	shelve    chan struct{}
	stop      chan struct{}
	wait      sync.WaitGroup
	indexSize atomic.Int64          // bytes on disk, after the last checkpoint
	at        atomic.Int64          // position of the last checkpoint
	late      atomic.Pointer[Queue] // its history has become long
	busy      atomic.Bool           // a sync is to come: no further kick is needed

	checkpointing atomic.Bool // there is a position where the replay of the checkpoint to come begins

	marks sync.Mutex // one Mark or Drop at a time
}

func newKeeper(sh *shelf) *keeper {
	return &keeper{shelf: sh, kick: make(chan struct{}, 1), shelve: make(chan struct{}, 1), stop: make(chan struct{})}
}

func (k *keeper) start(s *Spool, o options) {
	k.spool, k.every, k.slack = s, o.checkpointEvery, o.slack
	k.at.Store(int64(s.disk.Start()))
	if k.shelf != nil {
		k.at.Store(int64(k.shelf.at))
	}
	k.wait.Add(2)
	go k.syncing()
	go k.shelving()
}

// dirty is the committer's call: something was written and is not synced.
func (k *keeper) dirty() {
	if k.busy.Swap(true) {
		return
	}
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// isShort is the committer's call: room was not to be had but from the reserve, or it was.
func (k *keeper) isShort(short bool) {
	if k.short.Swap(short) != short && short {
		k.shelveSoon()
	}
}

// syncing makes written frames stable, and the side file follow.
func (k *keeper) syncing() {
	defer k.wait.Done()
	timer := time.NewTimer(never)
	defer timer.Stop()
	var marked time.Time
	for {
		select {
		case <-k.stop:
			return
		case <-k.kick:
		}
		for more := true; more; {
			timer.Reset(store.BackgroundSync)
			select {
			case <-k.stop:
				return
			case <-timer.C:
			}
			more = k.round(&marked)
		}
	}
}

// round makes stable what was written since the last one, and writes the side file when it is time. It tells whether
// something is left to do before the next kick.
func (k *keeper) round(marked *time.Time) (more bool) {
	s := k.spool
	if k.busy.Swap(false) {
		if s.commit.Sync() != nil {
			return false // the spool has stopped; there is nothing left to keep
		}
		if k.due() {
			k.shelveSoon()
		}
	}
	if time.Since(*marked) < markEvery {
		return true
	}
	*marked = time.Now()
	s.restIdle()
	if k.cuttable() || k.untidy() {
		k.shelveSoon()
	}
	if err := k.mark(false); err != nil {
		s.commit.Fail(err)
		return false
	}
	return k.busy.Load()
}

func (k *keeper) shelveSoon() {
	select {
	case k.shelve <- struct{}{}:
	default:
	}
}

// shelving makes checkpoints, gives dead segments back, and makes them dead.
func (k *keeper) shelving() {
	defer k.wait.Done()
	again, retry := time.NewTimer(never), time.NewTimer(never)
	defer again.Stop()
	defer retry.Stop()
	var failed time.Time // when the cleaner last met something in its way
	for {
		select {
		case <-k.stop:
			return
		case <-k.shelve:
			k.tend(retry)
		case <-retry.C:
			k.tend(retry)
		case <-again.C:
		}
		// To look for what is live brings blocks into memory, and that is a reason to be called.
		if rest := recleanRest - time.Since(failed); rest > 0 {
			again.Reset(rest)
		} else if k.clean() {
			failed = time.Now()
			again.Reset(recleanAfter)
		}
	}
}

// tend puts out what is too much in memory, makes a checkpoint when it is due, or lets a segment go. It sets the timer where
// it was called too early for the first of these.
func (k *keeper) tend(retry *time.Timer) {
	k.work.Lock()
	defer k.work.Unlock()
	if wait := k.evict(); wait > 0 {
		retry.Reset(wait)
	}
	if q := k.late.Swap(nil); q != nil {
		k.catchUp(q)
	}
	if k.due() || k.cuttable() {
		k.checkpoint()
		k.reclaim()
	}
}

func (k *keeper) mark(clean bool) error {
	k.marks.Lock()
	defer k.marks.Unlock()
	return k.spool.disk.Mark(k.spool.now(), clean)
}

// due tells whether a checkpoint is.
func (k *keeper) due() bool {
	return int64(k.spool.disk.End())-k.at.Load() >= k.every
}

// close makes everything stable and marks the end as clean, unless the spool has failed.
func (k *keeper) close() error {
	close(k.stop)
	k.wait.Wait()
	s := k.spool
	if err := s.commit.Sync(); err != nil {
		return errors.Join(err, k.shelf.close())
	}
	if k.shelf != nil && (int64(s.disk.End())-k.at.Load() >= min(checkpointAtClose, k.every) || k.shelf.index != nil && k.shelf.draft) {
		// Given up, the last checkpoint stands: the index is a cache.
		if err := k.writeCheckpoint(time.Now().Add(closeCheckpoint)); err != nil {
			s.log.Warn("no checkpoint", "error", err)
		}
	}
	err := k.shelf.close()
	if err != nil {
		s.log.Warn("closing the index", "error", err)
	}
	return k.mark(true) // a checkpoint appends nothing
}
