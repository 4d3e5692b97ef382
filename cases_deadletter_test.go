package spool_test

import (
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

// deadPair is a queue whose messages go to another one, "dead".
func deadPair(s *caseSpool, receives int, age time.Duration, meta spool.Meta) (q, dead *caseQueue) {
	s.tb.Helper()
	dead = s.create("dead", spool.Meta{})
	meta.DeadLetter = &spool.DeadLetter{Queue: "dead", MaxReceives: receives, MaxAge: age}
	return s.create("q", meta), dead
}

func TestCase40MaxReceives(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 3, 0, spool.Meta{VisibilityTimeout: 10 * sec, Rewind: time.Hour})
		start := time.Now()
		id, err := q.Send(bg, spool.Message{Body: []byte("m"), Attributes: map[string]string{"k": "v"}})
		if err != nil {
			t.Fatal(err)
		}
		var last *spool.Delivery
		for i := range 3 {
			if i > 0 {
				time.Sleep(10 * sec)
			}
			dead.counts(0, 0, 0, 0)
			last = q.receive("m")
		}
		answers := dead.waiting(bg, 1, spool.Wait(time.Minute))
		time.Sleep(10*sec - 1)
		dead.counts(0, 0, 0, 0)
		q.counts(0, 1, 0, 0)
		time.Sleep(time.Nanosecond)
		q.counts(0, 0, 0, 0)
		a := answered(t, answers)
		if len(a.ds) != 1 {
			t.Fatalf("Receive of the dead-letter queue = %v, want m", a)
		}
		wantSoon(t, "arrival", a.at, start.Add(30*sec))
		d := a.ds[0]
		if string(d.Body) != "m" || d.ID == id || d.Receives != 1 || d.Rewinds != 0 || d.Attributes["k"] != "v" || d.DeadLetter == nil {
			t.Fatalf("Receive = %+v, want m under a new id, received once, with its attributes and its origin", d)
		}
		wantSoon(t, "EnqueuedAt", d.EnqueuedAt, start.Add(30*sec))
		wantAt(t, "Origin.EnqueuedAt", d.DeadLetter.EnqueuedAt, start)
		d.DeadLetter.EnqueuedAt = time.Time{}
		if want := (spool.Origin{Queue: "q", ID: id, Receives: 3, Reason: "max-receives"}); *d.DeadLetter != want {
			t.Errorf("DeadLetter = %+v, want %+v", *d.DeadLetter, want)
		}
		q.refused(last.Receipt, spool.Gone)
		dead.refused(last.Receipt, spool.WrongQueue)
		q.rewind(start, 0)
		if a := q.attributes(); a.Sent != 1 || a.Received != 3 || a.Deleted != 0 {
			t.Errorf("Attributes of the source = %+v, want Sent 1, Received 3, Deleted 0", a)
		}
		if a := dead.attributes(); a.Sent != 0 || a.Received != 1 || a.Inactive != 1 {
			t.Errorf("Attributes of the target = %+v, want Sent 0, Received 1, Inactive 1", a)
		}
	})
}

func TestCase40DeletedOnTheLastReceive(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 1, 0, spool.Meta{VisibilityTimeout: 10 * sec})
		q.send("deleted")
		q.send("extended")
		d, e := q.receive("deleted"), q.receive("extended")
		time.Sleep(10*sec - 1)
		q.delete(d)
		if err := e.Extend(bg, 10*sec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*sec - 1)
		q.counts(0, 1, 0, 0)
		dead.counts(0, 0, 0, 0)
		time.Sleep(time.Nanosecond)
		q.counts(0, 0, 0, 0)
		dead.receive("extended")
		dead.none()
	})
}

// A release counts as the end of a lease, however long it is to last.
func TestRuleReleaseToDeadLetter(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 2, 0, spool.Meta{})
		for i, release := range []func(d *spool.Delivery) error{
			func(d *spool.Delivery) error { return d.Release(bg, 0) },
			func(d *spool.Delivery) error { return d.Release(bg, time.Hour) },
			func(d *spool.Delivery) error { return q.ChangeVisibility(bg, d.Receipt, 0) },
		} {
			q.send("m")
			if err := q.receive("m").Release(bg, 0); err != nil {
				t.Fatal(err)
			}
			d := q.receive("m")
			if err := release(d); err != nil {
				t.Fatal(err)
			}
			q.counts(0, 0, 0, 0)
			dead.counts(int64(i+1), 0, 0, 0)
			q.refused(d.Receipt, spool.Gone)
		}
		for range 3 {
			if d := dead.receive("m"); d.DeadLetter == nil || !d.EnqueuedAt.Equal(time.Now()) {
				t.Errorf("Receive = %+v, want it with its origin, sent now", d)
			}
		}
	})
}

// TestRuleMovesWakeReceivers: a receiver that waits at the dead-letter queue gets what arrives there, time after time, though
// nobody else looks at either queue.
func TestRuleMovesWakeReceivers(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 1, 0, spool.Meta{VisibilityTimeout: sec})
		lapse := func(*spool.Delivery) error { time.Sleep(2 * sec); return nil }
		release := func(d *spool.Delivery) error { return d.Release(bg, 0) }
		for i, end := range []func(*spool.Delivery) error{lapse, lapse, release, release} {
			waiting := dead.waiting(bg, 1, spool.Wait(time.Hour))
			q.send("m")
			if err := end(q.receive("m")); err != nil {
				t.Fatal(err)
			}
			a := answered(t, waiting)
			if len(a.ds) != 1 || a.ds[0].DeadLetter == nil {
				t.Fatalf("move %d: Receive = %v, want the message with its origin", i, a)
			}
			dead.delete(a.ds[0])
		}
	})
}

func TestCase41MaxAge(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 0, 20*sec, spool.Meta{VisibilityTimeout: 15 * sec, Rewind: time.Hour})
		start := time.Now()
		q.sendDelete("rewound") // its age counts from its rewind on
		id := q.send("active")
		q.send("delayed", 5*sec) // its age counts from 5 s on
		q.send("leased")
		q.receive("active", spool.Visibility(sec)) // a redelivery does not restart its age
		time.Sleep(10 * sec)
		q.rewind(start, 1)
		for _, body := range []string{"rewound", "active", "delayed", "leased"} {
			q.receive(body, spool.Visibility(sec))
		}
		time.Sleep(9 * sec) // 19 s
		for _, body := range []string{"rewound", "active", "delayed"} {
			q.receive(body, spool.Visibility(sec))
		}
		leased := q.receive("leased", spool.Visibility(10*sec)) // due at 20 s, leased until 29 s
		time.Sleep(sec - 1)
		dead.counts(0, 0, 0, 0)
		time.Sleep(time.Nanosecond) // 20 s
		dead.counts(1, 0, 0, 0)
		d := dead.receive("active", spool.Visibility(time.Hour))
		wantSoon(t, "EnqueuedAt", d.EnqueuedAt, start.Add(20*sec))
		wantAt(t, "Origin.EnqueuedAt", d.DeadLetter.EnqueuedAt, start)
		d.DeadLetter.EnqueuedAt = time.Time{}
		if want := (spool.Origin{Queue: "q", ID: id, Receives: 3, Reason: "max-age"}); *d.DeadLetter != want {
			t.Errorf("DeadLetter = %+v, want %+v", *d.DeadLetter, want)
		}
		q.counts(2, 1, 0, 0)
		time.Sleep(5*sec - 1) // 25 s
		dead.counts(0, 1, 0, 0)
		time.Sleep(time.Nanosecond)
		dead.receive("delayed", spool.Visibility(time.Hour))
		time.Sleep(4*sec - 1) // 29 s
		q.counts(1, 1, 0, 0)
		time.Sleep(time.Nanosecond)
		dead.receive("leased", spool.Visibility(time.Hour))
		q.refused(leased.Receipt, spool.Gone)
		time.Sleep(sec - 1) // 30 s
		q.counts(1, 0, 0, 0)
		time.Sleep(time.Nanosecond)
		dead.receive("rewound", spool.Visibility(time.Hour))
		q.counts(0, 0, 0, 0)
	})
}

// An Inactive message that is over age moves when its lease ends, by a release too; a delete in time wins.
func TestRuleMaxAgeWhileInactive(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 0, 5*sec, spool.Meta{VisibilityTimeout: 10 * sec})
		q.send("deleted")
		q.send("released")
		q.send("released for long")
		q.send("lapsed")
		deleted, released, long := q.receive("deleted"), q.receive("released"), q.receive("released for long")
		q.receive("lapsed")
		time.Sleep(8 * sec)
		q.counts(0, 4, 0, 0)
		q.delete(deleted)
		if err := released.Release(bg, 0); err != nil {
			t.Fatal(err)
		}
		dead.receive("released")
		if err := long.Release(bg, time.Hour); err != nil {
			t.Fatal(err)
		}
		dead.receive("released for long")
		time.Sleep(2 * sec)
		dead.receive("lapsed")
		dead.none()
		q.counts(0, 0, 0, 0)

		q.send("released before")
		if err := q.receive("released before").Release(bg, time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5*sec - 1)
		q.counts(0, 0, 1, 0)
		time.Sleep(time.Nanosecond) // due, and not Inactive
		q.counts(0, 0, 0, 0)
		dead.receive("released before")
	})
}

// "max-receives" wins where both limits are due.
func TestRuleBothLimits(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 2, 10*sec, spool.Meta{VisibilityTimeout: 10 * sec})
		reason := func(want string, receives int) {
			t.Helper()
			d := dead.receive("m")
			if o := *d.DeadLetter; o.Reason != want || o.Receives != receives {
				t.Errorf("DeadLetter = %+v, want %s after %d receives", o, want, receives)
			}
			dead.delete(d)
		}
		q.send("m")
		if err := q.receive("m").Release(bg, 0); err != nil {
			t.Fatal(err)
		}
		q.receive("m")
		time.Sleep(10 * sec)
		reason("max-receives", 2)
		q.send("m")
		q.receive("m")
		time.Sleep(10 * sec)
		reason("max-age", 1)
		q.send("m")
		time.Sleep(10 * sec)
		reason("max-age", 0)
		q.send("m")
		for range 2 {
			if err := q.receive("m").Release(bg, 0); err != nil {
				t.Fatal(err)
			}
		}
		reason("max-receives", 2)
	})
}

// Both limits are looked at when an age is due: a lowered MaxReceives moves nothing by itself, and is the reason then.
func TestRuleBothLimitsByAge(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 5, 10*sec, spool.Meta{VisibilityTimeout: sec})
		for _, receives := range []int{0, 1, 2, 3} {
			q.set(func(m *spool.Meta) { m.DeadLetter.MaxReceives = 5 })
			q.send("m")
			for range receives {
				q.receive("m")
				time.Sleep(sec)
			}
			q.set(func(m *spool.Meta) { m.DeadLetter.MaxReceives = 2 })
			q.counts(1, 0, 0, 0)
			time.Sleep(10 * sec)
			want := "max-age"
			if receives >= 2 {
				want = "max-receives"
			}
			d := dead.receive("m")
			if o := *d.DeadLetter; o.Reason != want || o.Receives != receives {
				t.Errorf("DeadLetter = %+v, want %s after %d receives", o, want, receives)
			}
			dead.delete(d)
		}
	})
}

// If retention ended before the last lease did, or at the same instant, the message expires instead.
func TestRuleExpiryBeforeDeadLetter(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 1, 4*sec, spool.Meta{Retention: 10 * sec})
		for _, lease := range []time.Duration{10 * sec, 10*sec + 1, time.Hour} {
			q.send("m")
			q.receive("m", spool.Visibility(lease))
			time.Sleep(10 * sec)
			q.counts(0, 0, 0, 0)
			dead.counts(0, 0, 0, 0)
			time.Sleep(2 * time.Hour)
			dead.counts(0, 0, 0, 0)
		}
		q.send("m")
		q.receive("m", spool.Visibility(10*sec-1))
		time.Sleep(10*sec - 1)
		q.counts(0, 0, 0, 0)
		dead.receive("m")

		q.send("m", 6*sec) // reaches its age when its life ends
		time.Sleep(10 * sec)
		q.counts(0, 0, 0, 0)
		dead.counts(0, 1, 0, 0)
		q.send("m", 6*sec-1)
		time.Sleep(10*sec - 1)
		q.counts(0, 0, 0, 0)
		dead.receive("m")
	})
}

// Rules are looked at when a lease ends and when an age is due.
func TestRuleDeadLetterChanged(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 5, 0, spool.Meta{VisibilityTimeout: sec})
		q.send("m")
		for range 3 {
			q.receive("m")
			time.Sleep(sec)
		}
		q.set(func(m *spool.Meta) { m.DeadLetter.MaxReceives = 1 })
		q.counts(1, 0, 0, 0) // lowering MaxReceives moves nothing by itself
		d := q.receive("m")
		if d.Receives != 4 {
			t.Errorf("Receives = %d, want 4", d.Receives)
		}
		q.set(func(m *spool.Meta) { m.DeadLetter = nil })
		time.Sleep(sec)
		q.counts(1, 0, 0, 0)
		dead.counts(0, 0, 0, 0)
		q.receive("m")
		q.set(func(m *spool.Meta) { m.DeadLetter = &spool.DeadLetter{Queue: "dead", MaxReceives: 6} })
		time.Sleep(sec)
		q.counts(1, 0, 0, 0)
		q.receive("m")
		time.Sleep(sec)
		dead.counts(1, 0, 0, 0)

		q.send("old")
		q.send("leased")
		q.send("delayed", 9*sec)
		time.Sleep(10 * sec)
		q.send("young")
		q.receive("old", spool.Visibility(1))
		leased := func() *spool.Delivery {
			time.Sleep(time.Nanosecond)
			q.receive("old", spool.Visibility(1))
			return q.receive("leased", spool.Visibility(30*sec))
		}()
		time.Sleep(time.Nanosecond)
		q.set(func(m *spool.Meta) { m.DeadLetter = &spool.DeadLetter{Queue: "dead", MaxAge: 10 * sec} })
		q.counts(2, 1, 0, 0) // "old" moved at once; "leased" is Inactive, "delayed" is 1 s old
		dead.counts(2, 0, 0, 0)
		if err := leased.Release(bg, 0); err != nil {
			t.Fatal(err)
		}
		dead.counts(3, 0, 0, 0)
		q.set(func(m *spool.Meta) { m.DeadLetter.MaxAge = time.Hour })
		time.Sleep(time.Minute)
		q.counts(2, 0, 0, 0)
		q.set(func(m *spool.Meta) { m.DeadLetter = nil })
		time.Sleep(time.Hour)
		q.counts(2, 0, 0, 0)
	})
}
