package spool_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
)

// Delays and leases from a nanosecond to ten years end exactly at their instant.
func TestRuleEveryDuration(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		const decade = 3650 * 24 * time.Hour
		delays, leases := s.create("delays", spool.Meta{Retention: decade}), s.create("leases", spool.Meta{Retention: decade})
		start := time.Now()
		var all []time.Duration
		for d := time.Duration(1); d > 0 && d < decade; d *= 2 {
			for _, near := range []time.Duration{d - 1, d, d + 1, d + d/3} {
				if near > 0 && near < decade && (len(all) == 0 || near > all[len(all)-1]) {
					all = append(all, near)
				}
			}
		}
		leased := int64(0)
		for _, d := range all {
			delays.send(d.String(), d)
			if d <= 365*24*time.Hour {
				leases.send(d.String())
				leases.receive(d.String(), spool.Visibility(d))
				leased++
			}
		}
		n := int64(len(all))
		for i, d := range all {
			time.Sleep(time.Until(start.Add(d - 1)))
			due := int64(i)
			if i > 0 && all[i-1] == d-1 || d == 1 {
				due = int64(i) // the one before was due at this very instant
			}
			delays.counts(due, 0, n-due, 0)
			leases.counts(min(due, leased), leased-min(due, leased), 0, 0)
			time.Sleep(time.Nanosecond)
			delays.counts(due+1, 0, n-due-1, 0)
			leases.counts(min(due+1, leased), leased-min(due+1, leased), 0, 0)
			if t.Failed() {
				t.Fatalf("at %v", d)
			}
		}
		for _, d := range all {
			delays.receive(d.String())
		}
	})
}

// A waiter sleeps towards the next instant, however that moves.
func TestRuleWaiterFollowsTheNextInstant(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		start := time.Now()
		wait := func() <-chan answer { return q.waiting(bg, 1, spool.Wait(24*time.Hour)) }
		got := func(answers <-chan answer, body string, after time.Duration) *spool.Delivery {
			t.Helper()
			a := <-answers
			if len(a.ds) != 1 || string(a.ds[0].Body) != body {
				t.Fatalf("Receive = %v, want %s", a, body)
			}
			wantSoon(t, "Receive of "+body, a.at, start.Add(after))
			return a.ds[0]
		}
		q.send("leased")
		leased := q.receive("leased", spool.Visibility(time.Hour))
		answers := wait()
		if err := leased.Extend(bg, 10*sec); err != nil { // nearer
			t.Fatal(err)
		}
		time.Sleep(5 * sec)
		if err := leased.Extend(bg, 10*sec); err != nil { // farther
			t.Fatal(err)
		}
		leased = got(answers, "leased", 15*sec)
		if err := leased.Extend(bg, time.Hour); err != nil {
			t.Fatal(err)
		}
		answers = wait()
		for _, delay := range []time.Duration{30, 20, 10, 40} { // each nearer, then one farther
			q.send(fmt.Sprint(int(delay)), delay*sec)
		}
		start = time.Now()
		got(answers, "10", 10*sec)
		got(wait(), "20", 20*sec)
		got(wait(), "30", 30*sec)
		if err := q.Purge(bg); err != nil { // nothing is left that comes due
			t.Fatal(err)
		}
		answers = wait()
		time.Sleep(time.Minute)
		stillWaiting(t, answers)
		q.send("last", sec)
		got(answers, "last", 91*sec)
	})
}

// Ages, leases and ends of life of dead letters at every distance.
func TestRuleEveryAge(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		dead := s.create("dead", spool.Meta{Retention: 3650 * 24 * time.Hour})
		ages := []time.Duration{1, 1000, 249_999, 250_000, 250_001, msec, sec, time.Minute, time.Hour, 1000 * time.Hour}
		var queues []*caseQueue
		start := time.Now()
		for i, age := range ages {
			q := s.create(fmt.Sprint("q", i), spool.Meta{Retention: 3650 * 24 * time.Hour, DeadLetter: &spool.DeadLetter{Queue: "dead", MaxAge: age}})
			q.send("m")
			queues = append(queues, q)
		}
		for i, age := range ages {
			time.Sleep(time.Until(start.Add(age - 1)))
			dead.counts(int64(i), 0, 0, 0)
			queues[i].counts(1, 0, 0, 0)
			time.Sleep(time.Nanosecond)
			dead.counts(int64(i+1), 0, 0, 0)
			queues[i].counts(0, 0, 0, 0)
		}
		for i, age := range ages {
			d := dead.receive("m")
			wantSoon(t, "EnqueuedAt", d.EnqueuedAt, start.Add(age))
			if d.DeadLetter.Queue != queues[i].Name() {
				t.Errorf("DeadLetter = %+v, want from %s", d.DeadLetter, queues[i].Name())
			}
		}
	})
}

// Rule: nothing comes early, also when something else falls due a moment before it.
func TestRuleNothingComesWithAnother(t *testing.T) {
	for _, gap := range []time.Duration{1, time.Microsecond, msec / 2, msec - 1} {
		inBubble(t, func(t *testing.T, s *caseSpool) {
			q := s.create("q", spool.Meta{})
			q.send("first", sec)
			q.send("second", sec+gap)
			q.send("leased")
			q.receive("leased", spool.Visibility(sec+2*gap))
			from := time.Now()
			for i, counts := range [][3]int64{{0, 1, 2}, {1, 1, 1}, {2, 1, 0}, {3, 0, 0}} {
				if i > 0 {
					time.Sleep(time.Until(from.Add(sec + time.Duration(i-1)*gap)))
				}
				q.counts(counts[0], counts[1], counts[2], 0)
			}
		})
	}
}

// Rule: a receiver is woken when a message of its queue falls due, whatever the other queues wait for, also when that
// instant came closer meanwhile.
func TestRuleWaitersOfManyQueues(t *testing.T) {
	for seed := range uint64(20) {
		inBubble(t, func(t *testing.T, s *caseSpool) {
			rng := rand.New(rand.NewPCG(seed, 1))
			const n = 12
			var queues []*caseQueue
			var answers []<-chan answer
			for i := range n {
				q := s.create(fmt.Sprintf("q%d", i), spool.Meta{})
				q.send("late", time.Duration(100+rng.IntN(100))*sec)
				queues = append(queues, q)
				answers = append(answers, q.waiting(bg, 1, spool.Wait(time.Hour)))
			}
			due := make([]time.Time, n)
			for _, i := range rng.Perm(n) {
				d := time.Duration(1+rng.IntN(99)) * sec
				due[i] = time.Now().Add(d)
				queues[i].send("early", d)
			}
			time.Sleep(100 * sec)
			synctest.Wait()
			for i, ch := range answers {
				select {
				case a := <-ch:
					if a.err != nil || bodiesOf(a.ds)[0] != "early" {
						t.Errorf("q%d: Receive = %v, want the early message", i, a)
					}
					wantSoon(t, fmt.Sprintf("q%d: Receive returned", i), a.at, due[i])
				default:
					t.Errorf("q%d: nobody is woken", i)
					queues[i].receive("early")
					<-ch
				}
			}
		})
	}
}

// Rule: what falls due at the very instant at which a wait ends is still received, whichever is looked at first.
func TestRuleLastInstantOfAWait(t *testing.T) {
	for range 50 {
		inBubble(t, func(t *testing.T, s *caseSpool) {
			q := s.create("q", spool.Meta{})
			for _, wait := range []time.Duration{1, msec, sec - 1} {
				q.send("delayed", wait)
				a := <-q.waiting(bg, 1, spool.Wait(wait), spool.Visibility(wait))
				if a.err != nil {
					t.Fatalf("Receive(Wait(%v)) of a message that is delayed for as long = %v", wait, a.err)
				}
				a = <-q.waiting(bg, 1, spool.Wait(wait))
				if a.err != nil {
					t.Fatalf("Receive(Wait(%v)) of a message that is leased for as long = %v", wait, a.err)
				}
				q.delete(a.ds[0])
			}
		})
	}
}
