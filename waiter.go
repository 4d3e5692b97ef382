package spool

import (
	"time"

	"github.com/spoolmq/spool/store"
)

// A grant is one leased message on its way to a consumer.
type grant struct {
	seq      uint64
	nonce    uint64
	pos      store.Position // of its SEND
	size     int            // bytes of content
	due      int64
	first    int64
	receives uint32
	rewinds  uint32
	message  *stored // nil: it has to be read from the log
}

// A waiter is one blocked receive. Whoever makes a message active in its queue takes it off the list and gives it
// grants; until then it may leave by itself.
type waiter struct {
	prev, next *waiter       // guarded by the queue's mu
	listed     bool          // guarded by the queue's mu
	ready      chan struct{} // capacity 1; signalled once, after the waiter was taken off the list
	timer      *time.Timer   // of the call that waits; nil before the first

	max        int           // immutable while listed
	visibility time.Duration // immutable while listed; 0 = the queue's at hand-over
	grants     []grant       // written before ready is signalled
	pos        store.Position
	more       bool // as take says
	err        error
}

// waiters is a list of blocked receives, in the order they came.
//
// Bound: one for each call under way.
type waiters struct {
	first, last *waiter
	n           int
}

func (l *waiters) push(w *waiter) {
	w.listed, w.prev, w.next = true, l.last, nil
	if l.last == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last = w
	l.n++
}

func (l *waiters) remove(w *waiter) {
	if w.prev == nil {
		l.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.listed, w.prev, w.next = false, nil, nil
	l.n--
}

// fail takes everybody off the list and gives them an error.
func (l *waiters) fail(err error) {
	for l.first != nil {
		w := l.first
		l.remove(w)
		w.err = err
		w.ready <- struct{}{}
	}
}
