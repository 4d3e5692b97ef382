package spool

import (
	"sync"

	"github.com/spoolmq/spool/store"
)

// A worker serves queues that have something to do which blocks and which no caller is there for: dead-letter moves, and
// hand-overs to waiting receivers for which the log had no room at hand. One goroutine a spool.
type worker struct {
	kick  chan struct{}
	stop  chan struct{}
	ended chan struct{}

	mu    sync.Mutex
	queue []*Queue            // guarded by mu; in order of arrival
	in    map[*Queue]struct{} // guarded by mu; what is in queue. Bound: the queues of the spool
}

func newWorker() *worker {
	w := &worker{kick: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}), in: map[*Queue]struct{}{}}
	go w.run()
	return w
}

// add makes the worker look at a queue soon. It does not block; the queue's mu may be held.
func (w *worker) add(q *Queue) {
	w.mu.Lock()
	if _, ok := w.in[q]; !ok {
		w.in[q] = struct{}{}
		w.queue = append(w.queue, q)
	}
	w.mu.Unlock()
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

func (w *worker) next() *Queue {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return nil
	}
	q := w.queue[0]
	w.queue = w.queue[1:]
	delete(w.in, q)
	return q
}

func (w *worker) run() {
	defer close(w.ended)
	for {
		select {
		case <-w.stop:
			return
		default:
		}
		if q := w.next(); q != nil {
			q.serve()
			continue
		}
		select {
		case <-w.kick:
		case <-w.stop:
			return
		}
	}
}

func (w *worker) close() {
	close(w.stop)
	<-w.ended
}

// serve is the worker's look at a queue: it makes the log have room, and one step of what is due. With more to do the queue goes to
// the end of the worker's list.
func (q *Queue) serve() {
	need := receiveNeed(MaxBatch)
	err := q.spool.commit.AdmitFrom(need, store.Reserve)
	if err == nil {
		q.spool.commit.Forgo(need)
	}
	q.hold()
	if err != nil {
		q.waiters.fail(q.spool.failure(err))
	}
	now := q.spool.now()
	if q.behind(now) && q.step(now) && q.behind(now) {
		q.spool.worker.add(q)
	}
	q.settleMoves()
	q.resume()
	q.unlock(now)
}
