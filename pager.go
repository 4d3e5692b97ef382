package spool

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
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
	complain   = time.Minute // of peace before the log is told of trouble again
)

// Why nothing can be put out.
const (
	allUnsettled = iota + 1 // all that is in memory is about to change
	noIndex                 // the index takes nothing
)

// A pager keeps what blocks and timers take within bounds. Three eighths of the budget are theirs at most: Go's collector
// lets the heap grow to twice of what lives, and there are buffers.
//
//	used ≤ low           nothing to do
//	low < used ≤ high    the keeper puts blocks out that were not used lately
//	high < used          likewise, and calls wait for it
//
// Bound: above high there is what was being read then, two portions or half as much as high, and what calls had begun to
// add. When nothing can be put out calls go on: nobody knows when it can.
type pager struct {
	paging
	used  atomic.Int64
	gate  gate
	stuck atomic.Int32 // nothing can be put out, and why: calls do not wait for it; 0 = it can

	mu      sync.Mutex
	reading int64     // guarded by mu; bytes of blocks being read. Bound: two portions, and one for each impatient caller
	read    sync.Cond // with mu; it has become less
}

// paging is what tests change about a pager.
type paging struct {
	low, high int64         // 0 = from the budget
	most      int64         // what a replay keeps in memory; 0 = high
	grain     int64         // bytes that a queue's memory may differ from what the pager was told
	rest      time.Duration // before the pager tries again when it could put nothing out
}

func (p *pager) init(o options) {
	p.paging = o.paging
	if p.high == 0 {
		p.low, p.high = o.memoryBudget/4, o.memoryBudget/4+o.memoryBudget/8
	}
	if p.most == 0 {
		p.most = p.high
	}
	p.read.L = &p.mu
}

// portion is how many bytes of blocks are read to be used together, at most.
func (p *pager) portion() int64 { return p.high / 4 }

// begin notes that n bytes are being read. A patient caller waits while much is already, and is answered false when memory
// is full by then: it begins anew. end must follow when the answer is true.
func (p *pager) begin(n int64, patient bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for patient && p.reading > 0 && p.reading+n > 2*p.portion() {
		p.read.Wait()
	}
	if patient && p.gate.closed.Load() != nil {
		return false
	}
	p.reading += n
	return true
}

// await waits until nothing is being read.
func (p *pager) await() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.reading > 0 {
		p.read.Wait()
	}
}

func (p *pager) end(n int64) {
	p.mu.Lock()
	p.reading -= n
	p.mu.Unlock()
	p.read.Broadcast()
}

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
	if n > s.pager.high && s.pager.gate.closed.Load() == nil && s.pager.stuck.Load() == 0 {
		s.pager.gate.set(true)
	}
	s.keeper.shelveSoon()
}

// pageIn reads blocks that the state wants from the index, and brings them in. It answers false when that is impossible:
// the spool has failed then. patient callers wait until there is room in memory. Caller holds mu; it is released
// meanwhile. One caller reads for all.
func (q *Queue) pageIn(patient bool) bool {
	q.mu.Unlock()
	for {
		if patient {
			_ = q.spool.pager.gate.pass(context.Background())
		}
		if begun, ok := q.pageInSome(patient); begun {
			return ok
		}
	}
}

// pageInSome is pageIn without its lock, and returns as that does, or has not begun because memory is full.
func (q *Queue) pageInSome(patient bool) (begun, ok bool) {
	p := &q.spool.pager
	q.paging.Lock()
	defer q.paging.Unlock()
	q.hold()
	list, n := q.st.missing(pageStep)
	if len(list) == 0 {
		return true, true
	}
	q.mu.Unlock()
	if !p.begin(n, patient) {
		return false, false
	}
	defer p.end(n)
	q.hold() // while begin waited the queue may have been deleted, and the index given up
	list = slices.DeleteFunc(list, func(b *block) bool { return b.body != nil || q.st.block(b.number) != b })
	q.mu.Unlock()
	return true, q.bringIn(list)
}

// bringIn reads blocks that are away, and brings them in. Caller holds paging; mu is held when it returns. It answers false
// when that is impossible.
func (q *Queue) bringIn(list []*block) bool {
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
	q.st.missing(0)                                     // what is here is not wanted any more
	q.spool.pager.stuck.CompareAndSwap(allUnsettled, 0) // these can be put out
	q.tell()
	return true
}

// indexFailed stops the spool: the index has not what it should have. The next Open makes it anew from the log.
func (s *Spool) indexFailed(err error) {
	sh := s.keeper.shelf
	if e := sh.forsake(); e != nil {
		s.log.Error("the index stays marked as usable", "error", e)
	}
	if errors.Is(err, errShelf) || errors.Is(err, store.ErrNotFound) {
		err = &store.CorruptError{File: filepath.Base(sh.dir), Reason: err.Error()}
	}
	s.commit.Fail(err)
}

// evict puts blocks out of memory until what is left is within bounds. It returns after how long it is to be called again, 0 =
// it need not. Caller holds work.
func (k *keeper) evict() (again time.Duration) {
	p := &k.spool.pager
	defer p.gate.set(false)
	if k.shelf == nil || p.used.Load() <= p.low {
		return 0
	}
	if wait := p.rest - time.Since(k.fruitless); wait > 0 && p.stuck.Load() != 0 {
		return wait
	}
	if k.shelf.index == nil {
		k.checkpoint()
	}
	if k.shelf.index == nil {
		k.stall(noIndex, errSuspended)
		return 0
	}
	if err := k.shelf.prepare(k.spool.knownQueues); err != nil {
		k.checkpointFailed(err)
		k.stall(noIndex, err)
		return 0
	}
	// The first pass forgets which blocks were used, the second finds them.
	for pass, idle := 0, 0; idle < 2 && pass < passes; pass++ {
		before := k.evicted
		for _, q := range k.spool.snapshotQueues() {
			if err := k.evictQueue(q); err != nil {
				k.stall(noIndex, err)
				return 0
			}
			if p.used.Load() <= p.low {
				p.stuck.Store(0)
				return 0
			}
		}
		if idle++; k.evicted > before {
			idle = 0
		}
		if pass == passes-1 {
			k.shelveSoon() // others bring blocks in as fast
			return 0
		}
	}
	k.stall(allUnsettled, errUnsettled)
	return 0
}

// errUnsettled says why nothing of what is in memory may be put out.
var errUnsettled = errors.New("sends of all that is in memory are under way")

// stall notes that nothing more can be put out for the time being.
func (k *keeper) stall(why int32, err error) {
	if time.Since(k.fruitless) > complain {
		k.spool.log.Warn("more in memory than the budget allows", "error", err)
	}
	k.fruitless = time.Now()
	k.spool.pager.stuck.Store(why)
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
		if k.shelf.index == nil || len(k.shelf.batch) > 0 { // what counts as saved is not all there
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
