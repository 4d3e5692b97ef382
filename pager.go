package spool

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/spoolmq/spool/store"
)

const (
	pageStep   = 16   // Bound: blocks that are read from the index, or put out of memory, in one go
	passes     = 8    // Bound: looks at every block in memory in one go
	evictSaves = 8192 // records made superfluous by saving blocks between checkpoints, before there is one
	tellGrain  = 4 << 10
	passRest   = 100 * time.Millisecond
)

// A pager keeps what blocks and timers take within bounds. Three eighths of the budget are theirs at most: Go's collector
// lets the heap grow to twice of what lives, and there are buffers.
//
//	used ≤ low           nothing to do
//	low < used ≤ high    the keeper puts blocks out that were not used lately
//	high < used          likewise, and calls wait for it
type pager struct {
	paging
	used  atomic.Int64
	gate  gate
	stuck atomic.Bool // nothing can be put out: calls do not wait for it
}

// paging is what tests change about a pager.
type paging struct {
	low, high int64         // 0 = from the budget
	grain     int64         // bytes that a queue's memory may differ from what the pager was told
	rest      time.Duration // before the pager tries again when it could put nothing out
}

func (p *pager) init(o options) {
	p.paging = o.paging
	if p.high == 0 {
		p.low, p.high = o.memoryBudget/4, o.memoryBudget/4+o.memoryBudget/8
	}
}

// portion is how many bytes of blocks are read to be used together, at most.
func (p *pager) portion() int64 { return p.high / 4 }

// tell makes the pager know what the queue takes by now. Caller holds mu.
func (q *Queue) tell() {
	m := q.st.memory()
	d := m - q.told
	s := q.spool
	if -s.pager.grain < d && d < s.pager.grain {
		return
	}
	q.told = m
	n := s.pager.used.Add(d)
	if d < 0 || n <= s.pager.low || s.keeper.shelf == nil {
		return
	}
	if n > s.pager.high && s.pager.gate.closed.Load() == nil && !s.pager.stuck.Load() {
		s.pager.gate.set(true)
	}
	s.keeper.shelveSoon()
}

// pageIn reads blocks that the state wants from the index, and brings them in. It answers false when that is impossible:
// the spool has failed then. patient callers wait until there is room in memory. Caller holds mu; it is released
// meanwhile. One caller reads for all.
func (q *Queue) pageIn(patient bool) bool {
	q.mu.Unlock()
	if patient {
		_ = q.spool.pager.gate.pass(context.Background())
	}
	q.paging.Lock()
	defer q.paging.Unlock()
	q.hold()
	list, _ := q.st.missing(pageStep)
	if len(list) == 0 {
		return true
	}
	q.mu.Unlock()
	var (
		bodies [pageStep]*body
		bad    error
	)
	for i, b := range list {
		// Nothing changes what the index has of a block that is away, but its end.
		if bodies[i], bad = q.spool.keeper.shelf.fetch(q.id, b.number, b.saved); bad != nil {
			list = list[:i+1]
			break
		}
	}
	q.hold()
	for i, b := range list {
		switch {
		case b.body != nil || q.st.block(b.number) != b:
		case bodies[i] != nil:
			q.st.install(b, bodies[i])
		default:
			q.mu.Unlock()
			q.spool.indexFailed(bad)
			q.hold()
			return false
		}
	}
	q.st.missing(0) // what is here is not wanted any more
	q.tell()
	return true
}

// indexFailed stops the spool: the index has not what it should have. The next Open makes it anew from the log.
func (s *Spool) indexFailed(err error) {
	sh := s.keeper.shelf
	if e := sh.distrust(); e != nil {
		s.log.Error("the index stays marked as usable", "error", e)
	}
	if errors.Is(err, errShelf) || errors.Is(err, store.ErrNotFound) {
		err = &store.CorruptError{File: filepath.Base(sh.dir), Reason: err.Error()}
	}
	s.commit.Fail(err)
}

// evict puts blocks out of memory until what is left is within bounds. Caller holds work.
func (k *keeper) evict() {
	p := &k.spool.pager
	defer p.gate.set(false)
	if k.shelf == nil || p.used.Load() <= p.low || time.Since(k.fruitless) < p.rest {
		return
	}
	if k.shelf.index == nil {
		k.checkpoint()
	}
	if k.shelf.index == nil {
		k.stall(errSuspended)
		return
	}
	if err := k.prepare(); err != nil {
		k.checkpointFailed(err)
		k.stall(err)
		return
	}
	// The first pass forgets which blocks were used, the second finds them.
	for pass, idle := 0, 0; idle < 2 && pass < passes; pass++ {
		before := k.evicted
		for _, q := range k.spool.snapshotQueues() {
			if err := k.evictQueue(q); err != nil {
				k.stall(err)
				return
			}
			if p.used.Load() <= p.low {
				p.stuck.Store(false)
				return
			}
		}
		if idle++; k.evicted > before {
			idle = 0
		}
		if pass == passes-1 {
			k.shelveSoon() // others bring blocks in as fast
			return
		}
	}
	k.stall(nil)
}

// stall notes that nothing more can be put out for the time being.
func (k *keeper) stall(err error) {
	k.fruitless = time.Now()
	if !k.spool.pager.stuck.Swap(true) {
		k.spool.log.Warn("more in memory than the budget allows", "error", err)
	}
}

// evictQueue looks at each block of a queue that is in memory once, until enough was put out. What the index does not
// have as it is goes there first.
func (k *keeper) evictQueue(q *Queue) error {
	p := &k.spool.pager
	todo := 0
	q.visit(func(st *state) { todo = st.inside })
	for todo > 0 && p.used.Load() > p.low {
		var dirty []uint64
		var out int
		dirty, out, todo = q.sweep(todo)
		k.evicted += out
		if len(dirty) == 0 {
			continue
		}
		if err := errors.Join(k.shelveBlocks(q, dirty), k.shelf.flush()); err != nil {
			k.checkpointFailed(err)
			return err
		}
		q.hold()
		for _, number := range dirty {
			if b := q.st.block(number); b != nil && b.body != nil && b.evictable() {
				q.st.evict(b)
				k.evicted++
			}
		}
		q.tell()
		q.mu.Unlock()
		k.spool.step.at(stepCleanEvicted)
		if len(k.shelf.pending) >= evictSaves {
			k.checkpoint()
		}
		if k.shelf.index == nil {
			return errSuspended
		}
	}
	return nil
}

// sweep looks at some of the next todo blocks in memory, puts out what may be, and returns those that have to be saved
// first, how many it has put out, and how many are left to be looked at.
func (q *Queue) sweep(todo int) (dirty []uint64, out, left int) {
	q.hold()
	defer q.mu.Unlock()
	defer q.tell()
	todo = min(todo, q.st.inside)
	for work := 0; todo > 0 && work < looksAHold && len(dirty) < blocksAHold; work++ {
		b := q.st.hand
		q.st.hand = b.behind
		todo--
		switch {
		case b.used:
			b.used = false
		case b.unsettled() || b.places.n == 0:
		case b.evictable():
			q.st.evict(b)
			out++
			work += looksAHold / pageStep
		default:
			dirty = append(dirty, b.number)
		}
	}
	return dirty, out, todo
}
