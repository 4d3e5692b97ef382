package spool

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fairQueue has so many messages in it that have fallen due, unknown to the clock.
func fairQueue(t *testing.T, s *Spool, n int) *Queue {
	t.Helper()
	q := cleanQueue(t, s, "q", Meta{})
	for range n / MaxBatch {
		ms := make([]Message, MaxBatch)
		for i := range ms {
			ms[i] = Message{Body: []byte("x"), Delay: time.Second}
		}
		if _, err := q.SendBatch(t.Context(), ms); err != nil {
			t.Fatal(err)
		}
	}
	s.clock.unset(q)
	time.Sleep(time.Second)
	return q
}

// TestTickMakesOneStep: what falls due in one queue at once is taken into account in steps, between which the clock looks at others.
func TestTickMakesOneStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := OpenMemory(WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		q := fairQueue(t, s, 4*stepSize)
		for n := int64(1); n < 4; n++ {
			q.tick()
			q.hold()
			if got := q.st.count[active]; got > n*stepSize || got == 0 {
				t.Errorf("after %d ticks %d messages are active, a step is of %d", n, got, stepSize)
			}
			if q.armed != s.now() {
				t.Errorf("the queue is to be looked at at %d, it is %d", q.armed, s.now())
			}
			s.clock.unset(q)
			q.mu.Unlock()
		}
	})
}

// TestDispatchMakesOneStep: those who wait are served in steps, between which others may have the queue.
func TestDispatchMakesOneStep(t *testing.T) {
	const waiting = 5
	synctest.Test(t, func(t *testing.T) {
		s, err := OpenMemory(WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		q := fairQueue(t, s, (waiting+1)*stepSize)
		q.hold()
		for now := s.now(); q.st.advance(now); {
		}
		var all sync.WaitGroup
		for range waiting {
			w := s.newWaiter()
			w.max = MaxBatch
			q.waiters.push(w)
			all.Go(func() { <-w.ready })
		}
		if q.dispatch(s.now(), false); q.waiters.n != waiting-1 {
			t.Errorf("%d of %d are left after one step, want %d", q.waiters.n, waiting, waiting-1)
		}
		q.mu.Unlock()
		all.Wait() // for the worker
	})
}
