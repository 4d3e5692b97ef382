package spool_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

func TestRuleSetMetaIsAtomic(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{MaxMessages: 1})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 10 {
					if err := q.SetMeta(bg, func(m *spool.Meta) { m.MaxMessages++ }); err != nil {
						t.Errorf("SetMeta = %v", err)
					}
				}
			})
		}
		all.Wait()
		if got := q.Meta().MaxMessages; got != 81 {
			t.Errorf("MaxMessages after 80 increments = %d, want 81", got)
		}
	})
}

// A change that changes the settings itself does not count, and ends: what it has called is done, and it is refused.
func TestRuleSetMetaInsideItself(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, other := s.create("q", spool.Meta{Rewind: time.Hour}), s.create("other", spool.Meta{})
		calls, waits := 0, q.Meta().PollingWait
		wantArgument(t, "SetMeta inside SetMeta", q.SetMeta(bg, func(m *spool.Meta) {
			calls++
			m.MaxMessages = 7
			waits = time.Duration(calls)
			if err := q.SetMeta(bg, func(m *spool.Meta) { m.PollingWait = waits }); err != nil {
				t.Error(err)
			}
		}))
		if m := q.Meta(); m.PollingWait != waits || m.MaxMessages == 7 {
			t.Errorf("Meta = %+v after %d calls, want what the inner one has set", m, calls)
		}
		// Once is an ordinary conflict, and another queue is none.
		calls = 0
		q.set(func(m *spool.Meta) {
			m.MaxMessages = 7
			if calls++; calls == 1 {
				q.set(func(m *spool.Meta) { m.PollingWait = sec })
			}
			other.set(func(m *spool.Meta) { m.MaxMessages = int64(calls) })
		})
		if m := q.Meta(); calls != 2 || m.MaxMessages != 7 || m.PollingWait != sec || other.Meta().MaxMessages != 2 {
			t.Errorf("Meta = %+v after %d calls, want both changes after 2", m, calls)
		}
	})
}

// What a change function does with its argument later, or with what Meta returned, does not reach the queue. It may
// look at the spool.
func TestRuleMetaIsACopy(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		s.create("d1", spool.Meta{})
		s.create("d2", spool.Meta{})
		dead := &spool.DeadLetter{Queue: "d1", MaxReceives: 1}
		q := s.create("q", spool.Meta{DeadLetter: dead})
		check := func(what string) {
			t.Helper()
			if got := *q.Meta().DeadLetter; got != (spool.DeadLetter{Queue: "d1", MaxReceives: 1}) {
				t.Fatalf("DeadLetter after %s = %+v, want it unchanged", what, got)
			}
		}
		dead.MaxReceives = 9
		check("a write to what CreateQueue got")
		q.Meta().DeadLetter.MaxReceives = 9
		check("a write to what Meta returned")
		q.attributes().DeadLetter.MaxReceives = 9
		check("a write to what Attributes returned")
		err := q.SetMeta(bg, func(m *spool.Meta) { m.DeadLetter.MaxReceives, m.Retention = 9, -1 })
		wantArgument(t, "SetMeta", err)
		check("a refused SetMeta")
		var kept *spool.Meta
		q.set(func(m *spool.Meta) { kept = m })
		kept.DeadLetter.MaxReceives, kept.MaxMessages = 9, 9
		check("a write to what SetMeta gave")
		if got := q.Meta().MaxMessages; got != 100_000_000 {
			t.Errorf("MaxMessages = %d, want it unchanged", got)
		}
		q.set(func(m *spool.Meta) {
			if q.Meta().MaxMessages != m.MaxMessages || len(s.Queues()) != 3 {
				t.Errorf("Meta inside of a change differs from its argument")
			}
			if _, err := q.Attributes(bg); err != nil {
				t.Errorf("Attributes inside of a change = %v", err)
			}
		})
	})
}

func TestRuleModifiedAt(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		created := time.Now()
		time.Sleep(sec)
		q.send("m")
		q.delete(q.receive("m"))
		wantArgument(t, "SetMeta", q.SetMeta(bg, func(m *spool.Meta) { m.Delay = -1 }))
		done, cancel := context.WithCancel(bg)
		cancel()
		wantErr(t, "SetMeta", q.SetMeta(done, func(m *spool.Meta) { m.Delay = 1 }), context.Canceled)
		wantAt(t, "ModifiedAt", q.attributes().ModifiedAt, created)
		q.set(func(m *spool.Meta) { m.Delay = 1 })
		wantAt(t, "ModifiedAt", q.attributes().ModifiedAt, created.Add(sec))
		wantAt(t, "CreatedAt", q.attributes().CreatedAt, created)
	})
}

// VisibilityTimeout, PollingWait and Delay count from the next call; a receive that waits keeps its wait and takes the
// visibility at hand-over.
func TestRuleSetMetaUnderAWaiter(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{PollingWait: 10 * sec, VisibilityTimeout: 30 * sec})
		start := time.Now()
		gives := q.waiting(bg, 1)
		named := q.waiting(bg, 1, spool.Visibility(7*sec))
		times := q.waiting(bg, 1)
		q.set(func(m *spool.Meta) { m.PollingWait, m.VisibilityTimeout, m.Delay = sec, 5*sec, sec })
		time.Sleep(2 * sec)
		stillWaiting(t, gives)
		q.send("a", spool.NoDelay)
		q.send("b", spool.NoDelay)
		if a := answered(t, gives); len(a.ds) == 1 {
			wantAt(t, "VisibleAt", a.ds[0].VisibleAt, start.Add(7*sec))
			q.delete(a.ds[0])
		} else {
			t.Errorf("Receive = %v, want a", a)
		}
		if a := answered(t, named); len(a.ds) == 1 {
			wantAt(t, "VisibleAt", a.ds[0].VisibleAt, start.Add(9*sec))
			q.delete(a.ds[0])
		} else {
			t.Errorf("Receive = %v, want b", a)
		}
		time.Sleep(9 * sec)
		a := answered(t, times)
		wantErr(t, "Receive", a.err, spool.ErrNoMessage)
		wantSoon(t, "its end", a.at, start.Add(10*sec))
		q.send("c")
		q.counts(0, 0, 1, 0)
		d := <-q.waiting(bg, 1, spool.Wait(5*sec))
		if d.err != nil {
			t.Errorf("Receive = %v, want c after its delay", d)
		}
	})
}

func TestRuleMaxMessagesLowered(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		for _, body := range []string{"a", "b", "c"} {
			q.send(body)
		}
		q.set(func(m *spool.Meta) { m.MaxMessages = 2 })
		for _, body := range []string{"a", "b"} {
			_, err := q.Send(bg, spool.Message{Body: []byte("x")})
			wantErr(t, "Send", err, spool.ErrQueueFull)
			q.delete(q.receive(body))
		}
		q.send("d")
		q.counts(2, 0, 0, 0)
	})
}
