package spool

import (
	"sync"

	"github.com/spoolmq/spool/store"
)

// This file lets queues rest that are empty and that nobody uses, and wakes them.

// A desk is what a queue needs while calls work on it.
type desk struct {
	waiters  waiters
	shelving bool           // a checkpoint of this queue is under way
	movers   int            // callers in makeMoves
	recorded store.Position // of the last dead letter that has gone from here and may not be visible yet where it goes; 0 = none
	moved    sync.Cond      // with mu; a move has ended
	rotten   error          // of a dead letter that cannot be read, until a receive has answered it
	scratch  encoder        // scratch
	receive  receiveRecord  // scratch
	erasing  []erased       // scratch
	newest   []leased       // scratch: leases that are not on the wheel yet
	fresh    fresh          // what the holder of mu has just sent, if a receiver may want it
}

// hold takes mu. The queue is not at rest then.
func (q *Queue) hold() {
	q.mu.Lock()
	q.rise()
}

// rise ends a rest. Caller holds mu.
func (q *Queue) rise() {
	if q.desk == nil {
		q.equip()
	}
}

func (q *Queue) equip() {
	q.desk = new(desk)
	q.moved.L = &q.mu
	if q.st.stock == nil {
		q.st.stock = newStock()
	}
}

// rest gives back what an empty queue that nobody uses does not need: ten thousand of them take a few megabytes. It
// answers false when the queue is in use or holds something. Caller holds mu.
func (q *Queue) rest() bool {
	d := q.desk
	if d == nil {
		return true
	}
	if d.waiters.n > 0 || d.shelving || d.movers > 0 || q.unseen() || !q.st.rest() {
		return false
	}
	q.desk = nil
	q.moveAt.Store(never)
	q.spool.pager.used.Add(-q.told)
	q.told = 0
	return true
}

// restIdle lets the queues rest that have nothing to do.
func (s *Spool) restIdle() {
	for _, q := range s.snapshotQueues() {
		q.mu.Lock()
		q.rest()
		q.mu.Unlock()
	}
}

// visit calls f with mu held, unless the queue is at rest: then it has nothing that f could look for.
func (q *Queue) visit(f func(st *state)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.desk != nil {
		f(q.st)
	}
}

// rest gives the stock back, if it is empty. The block that new messages went to is made anew by the next one.
func (st *state) rest() bool {
	if st.count != [kinds]int64{} || len(st.moves)+len(st.wanted) > 0 {
		return false
	}
	if b := st.block(st.next >> blockBits); b != nil {
		st.forget(b)
	}
	if len(st.left) > 0 || st.inside+st.out > 0 {
		return false
	}
	st.stock = nil
	return true
}
