package spool

import (
	"container/heap"
	"sync"
	"time"
)

// A clock wakes queues when something of theirs falls due. One goroutine serves all queues of a spool; it does no I/O
// and leads no commit. While nothing is due it sleeps: there is no tick.
//
// Lock order: a queue's lock before mu.
type clock struct {
	now   func() int64 // ns since the epoch; never goes back
	tick  func(*Queue) // a queue's instant has come
	kick  chan struct{}
	stop  chan struct{}
	ended chan struct{}

	mu    sync.Mutex
	queue alarms // guarded by mu; Bound: one alarm a queue
	until int64  // guarded by mu; what the goroutine sleeps towards
}

func newClock(now func() int64, tick func(*Queue)) *clock {
	c := &clock{now: now, tick: tick, until: never,
		kick: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{})}
	go c.run()
	return c
}

// set makes the clock call tick(q) at an instant, or at an earlier one that was set before.
func (c *clock) set(q *Queue, at int64) {
	c.mu.Lock()
	switch {
	case q.alarm.index == 0:
		q.alarm.at = at
		heap.Push(&c.queue, q)
	case at < q.alarm.at:
		q.alarm.at = at
		heap.Fix(&c.queue, q.alarm.index-1)
	}
	early := at < c.until
	c.mu.Unlock()
	if early {
		select {
		case c.kick <- struct{}{}:
		default:
		}
	}
}

// unset forgets a queue.
func (c *clock) unset(q *Queue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q.alarm.index > 0 {
		heap.Remove(&c.queue, q.alarm.index-1)
	}
}

// next takes the queue whose instant has come, or tells how long there is none.
func (c *clock) next() (q *Queue, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.until = never
		return nil, never
	}
	if at, now := c.queue[0].alarm.at, c.now(); at > now {
		c.until = at
		return nil, time.Duration(at - now)
	}
	return heap.Pop(&c.queue).(*Queue), 0
}

func (c *clock) run() {
	defer close(c.ended)
	timer := time.NewTimer(never)
	defer timer.Stop()
	for {
		q, wait := c.next()
		if q != nil {
			c.tick(q)
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-c.kick:
		case <-c.stop:
			return
		}
	}
}

// close stops the goroutine and waits for it.
func (c *clock) close() {
	close(c.stop)
	<-c.ended
}

// An alarm is a queue's place in the clock.
type alarm struct {
	at    int64 // guarded by the clock's mu
	index int   // guarded by the clock's mu; place in the heap + 1, 0 = none
}

// alarms is a heap of queues by instant.
type alarms []*Queue

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].alarm.at < a[j].alarm.at }
func (a alarms) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].alarm.index, a[j].alarm.index = i+1, j+1
}
func (a *alarms) Push(x any) {
	q := x.(*Queue)
	*a = append(*a, q)
	q.alarm.index = len(*a)
}
func (a *alarms) Pop() any {
	last := len(*a) - 1
	q := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	q.alarm.index = 0
	return q
}
