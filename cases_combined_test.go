package spool_test

import (
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

// Combinations of rules that no single case names.

// A rewind restarts the age that a dead letter counts, also after all ages of before were looked at.
func TestRuleRewoundComesOfAge(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 0, time.Minute, spool.Meta{Rewind: time.Hour})
		start := time.Now()
		q.sendDelete("m")
		time.Sleep(10 * time.Minute) // nothing is here that could come of age
		q.rewind(start, 1)
		time.Sleep(time.Minute - 1)
		q.counts(1, 0, 0, 0)
		time.Sleep(time.Nanosecond)
		q.counts(0, 0, 0, 0)
		dead.receive("m")
	})
}

// A message that is leased when those beside it come of age does so in its turn, however its lease ends.
func TestRuleAgeBesideALease(t *testing.T) {
	for name, end := range map[string]func(d *spool.Delivery) error{
		"lapse":   func(*spool.Delivery) error { time.Sleep(10 * sec); return nil },
		"release": func(d *spool.Delivery) error { time.Sleep(10 * sec); return d.Release(bg, 0) },
		"later":   func(d *spool.Delivery) error { time.Sleep(10 * sec); return d.Release(bg, time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *caseSpool) {
				q, dead := deadPair(s, 0, time.Minute, spool.Meta{})
				q.send("first")
				time.Sleep(30 * sec)
				q.send("second")
				q.receive("first", spool.Visibility(sec))
				visibility := 40 * sec
				if name != "lapse" {
					visibility = time.Hour
				}
				d := q.receive("second", spool.Visibility(visibility))
				time.Sleep(30 * sec)
				dead.counts(1, 0, 0, 0)
				if err := end(d); err != nil {
					t.Fatal(err)
				}
				time.Sleep(20*sec - 1)
				dead.counts(1, 0, 0, 0)
				time.Sleep(time.Nanosecond)
				q.counts(0, 0, 0, 0)
				dead.counts(2, 0, 0, 0)
			})
		})
	}
}

// A rewind restarts the age that a dead letter counts, but not life: here it ends first.
func TestRuleRewoundDeadLetterExpires(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 2, 40*sec, spool.Meta{Retention: time.Minute, Rewind: time.Minute, VisibilityTimeout: sec})
		start := time.Now()
		q.send("m")
		if err := q.receive("m").Release(bg, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * sec)
		q.delete(q.receive("m"))
		time.Sleep(5 * sec)
		q.rewind(start, 1)
		if err := q.receive("m").Release(bg, 5*sec); err != nil { // the first of two again
			t.Fatal(err)
		}
		time.Sleep(5*sec - 1) // 40 s: due by the age that counted before the rewind
		q.counts(0, 0, 1, 0)
		time.Sleep(time.Nanosecond)
		q.counts(1, 0, 0, 0)
		time.Sleep(20*sec - 1)
		q.counts(1, 0, 0, 0)
		q.receive("m", spool.Visibility(time.Hour))
		time.Sleep(time.Nanosecond)
		q.counts(0, 0, 0, 0)
		dead.counts(0, 0, 0, 0)
		time.Sleep(2 * time.Hour)
		dead.counts(0, 0, 0, 0)
	})
}

// A lease, a delay or a release that was given up does not end what came after it.
func TestRuleGivenUpTimers(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 3, 0, spool.Meta{VisibilityTimeout: 10 * sec, Rewind: time.Hour})
		start := time.Now()
		q.send("rewound")
		first := q.receive("rewound")
		time.Sleep(sec)
		q.delete(first)
		time.Sleep(sec)
		q.rewind(start, 1)
		time.Sleep(sec)
		second := q.receive("rewound", spool.Visibility(20*sec)) // until 23 s
		q.refused(first.Receipt, spool.Deleted)
		time.Sleep(20*sec - 1)
		q.counts(0, 1, 0, 0)
		time.Sleep(time.Nanosecond)
		q.counts(1, 0, 0, 0)
		q.refused(second.Receipt, spool.Expired)

		q.receive("rewound")
		q.send("delayed", 5*sec)
		if err := q.Purge(bg); err != nil {
			t.Fatal(err)
		}
		q.send("new")
		d := q.receive("new", spool.Visibility(30*sec))
		q.send("later", 20*sec)
		time.Sleep(20*sec - 1)
		q.counts(0, 1, 1, 0)
		time.Sleep(time.Nanosecond)
		q.counts(1, 1, 0, 0)
		time.Sleep(10*sec - 1)
		q.delete(d)
		dead.counts(0, 0, 0, 0)
	})
}

// Nothing of a deleted queue reaches its dead-letter queue, nor the queue that is created under its name; and it binds that
// queue no longer.
func TestRuleDeletedSource(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 1, 20*sec, spool.Meta{VisibilityTimeout: 10 * sec})
		q.send("leased")
		q.receive("leased")
		q.send("aging")
		if err := s.DeleteQueue(bg, "q"); err != nil {
			t.Fatal(err)
		}
		q = s.create("q", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 1}})
		q.send("new")
		time.Sleep(time.Minute)
		dead.counts(0, 0, 0, 0)
		q.counts(1, 0, 0, 0)
		wantArgument(t, "DeleteQueue of a dead-letter queue", s.DeleteQueue(bg, "dead"))
		if err := s.DeleteQueue(bg, "q"); err != nil {
			t.Fatal(err)
		}
		s.create("beyond", spool.Meta{})
		dead.set(func(m *spool.Meta) { m.DeadLetter = &spool.DeadLetter{Queue: "beyond", MaxReceives: 1} })
		dead.set(func(m *spool.Meta) { m.DeadLetter = nil })
		if err := s.DeleteQueue(bg, "dead"); err != nil {
			t.Errorf("DeleteQueue of a queue that is no dead-letter queue any more = %v", err)
		}
	})
}

// What is due to go to a dead-letter queue when its own is deleted goes there, whoever looks first.
func TestRuleDeletedSourceMovesFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		for i := range 20 {
			q, dead := deadPair(s, 1, 20*sec, spool.Meta{})
			q.send("aged")
			time.Sleep(10 * sec)
			q.send("leased")
			q.receive("aged", spool.Visibility(5*sec+time.Duration(i)))
			q.receive("leased", spool.Visibility(10*sec))
			q.send("young")
			time.Sleep(10 * sec)
			if err := s.DeleteQueue(bg, "q"); err != nil {
				t.Fatal(err)
			}
			for _, body := range []string{"aged", "leased"} {
				if d := dead.receive(body); d.DeadLetter == nil || d.DeadLetter.Reason != "max-receives" {
					t.Errorf("%s has the origin %+v, want max-receives", body, d.DeadLetter)
				}
			}
			if dead.none(); s.DeleteQueue(bg, "dead") != nil {
				t.Error("the dead-letter queue is still bound")
			}
		}
	})
}

// A message goes to the target that is bound when its lease ends.
func TestRuleTargetChangedUnderALease(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 1, 0, spool.Meta{VisibilityTimeout: 10 * sec})
		other := s.create("other", spool.Meta{})
		q.send("m")
		q.receive("m")
		q.set(func(m *spool.Meta) { m.DeadLetter.Queue = "other" })
		if err := s.DeleteQueue(bg, "dead"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * sec)
		ds, err := other.Peek(bg, 1)
		if err != nil || len(ds) != 1 || ds[0].DeadLetter == nil || ds[0].DeadLetter.Queue != "q" || ds[0].Receives != 0 {
			t.Errorf("Peek = %+v, %v, want m with its origin and no receives", ds, err)
		}
		_, err = dead.Attributes(bg)
		wantErr(t, "Attributes of the deleted target", err, spool.ErrQueueNotFound)
	})
}

// What a change of meta moves or frees wakes those that wait for it.
func TestRuleSetMetaWakes(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 0, time.Hour, spool.Meta{})
		q.send("m")
		time.Sleep(time.Minute)
		answers := dead.waiting(bg, 1, spool.Wait(time.Minute))
		q.set(func(m *spool.Meta) { m.DeadLetter.MaxAge = time.Minute })
		a := <-answers
		if len(a.ds) != 1 || a.ds[0].DeadLetter.Reason != "max-age" {
			t.Fatalf("Receive = %v, want m by its age", a)
		}
		wantSoon(t, "EnqueuedAt", a.ds[0].EnqueuedAt, a.at.Add(-wakeLate))
	})
}

// A meta is validated as a whole: what was allowed before may forbid a change.
func TestRuleMetaAsAWhole(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q, _ := deadPair(s, 0, 20*sec, spool.Meta{Retention: time.Minute, Delay: 10 * sec})
		for name, change := range map[string]func(m *spool.Meta){
			"Retention = Delay":  func(m *spool.Meta) { m.Retention, m.DeadLetter = 10*sec, nil },
			"Retention = MaxAge": func(m *spool.Meta) { m.Retention = 20 * sec },
			"no limit left":      func(m *spool.Meta) { m.DeadLetter.MaxAge = 0 },
			"default Retention":  func(m *spool.Meta) { m.Retention, m.Rewind = 0, 96*time.Hour+1 },
		} {
			wantArgument(t, "SetMeta with "+name, q.SetMeta(bg, change))
		}
		if m := q.Meta(); m.Retention != time.Minute || m.DeadLetter == nil || m.DeadLetter.MaxAge != 20*sec || m.Rewind != 0 {
			t.Errorf("Meta = %+v, want it unchanged", m)
		}
		q.set(func(m *spool.Meta) { m.Retention = 20*sec + 1 })
	})
}

// What becomes Active at one instant by a delay, a lapse, a release and a rewind comes in order of production.
func TestRuleOneInstant(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Rewind: time.Hour, VisibilityTimeout: 10 * sec})
		start := time.Now()
		q.sendDelete("rewound")
		q.send("released")
		released := q.receive("released")
		q.send("delayed", 10*sec)
		q.send("lapsed")
		q.receive("lapsed")
		if err := released.Release(bg, 10*sec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * sec)
		q.rewind(start, 1)
		q.send("sent")
		ds, err := q.ReceiveBatch(bg, 10)
		if err != nil || len(ds) != 5 {
			t.Fatalf("ReceiveBatch = %q, %v, want all five", bodiesOf(ds), err)
		}
		for i, want := range []string{"rewound", "released", "delayed", "lapsed", "sent"} {
			if string(ds[i].Body) != want {
				t.Errorf("ReceiveBatch[%d] = %s, want %s", i, ds[i].Body, want)
			}
		}
	})
}

// A change of the window under a lease: what counts is the window at the deletion, and what was dropped stays dropped.
func TestRuleWindowUnderALease(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Rewind: time.Hour, VisibilityTimeout: 2 * time.Hour})
		start := time.Now()
		for _, body := range []string{"a", "b", "c", "d"} {
			q.send(body)
		}
		a, b, c, d := q.receive("a"), q.receive("b"), q.receive("c"), q.receive("d")
		q.delete(a)
		q.set(func(m *spool.Meta) { m.Rewind = 0 })
		q.delete(b)
		q.set(func(m *spool.Meta) { m.Rewind = time.Minute })
		q.delete(c)
		q.counts(0, 1, 0, 1)
		time.Sleep(time.Minute)
		q.counts(0, 1, 0, 0)
		q.delete(d)
		q.counts(0, 0, 0, 0)
		q.set(func(m *spool.Meta) { m.Rewind = time.Hour })
		q.rewind(start, 0)
		for _, d := range []*spool.Delivery{a, b, c, d} {
			q.refused(d.Receipt, spool.Deleted)
		}
	})
}

// An end of a lease that is refused changes nothing of the Delivery.
func TestRuleRefusedExtend(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{VisibilityTimeout: sec})
		q.send("m")
		d := q.receive("m")
		end := d.VisibleAt
		time.Sleep(sec)
		wantReason(t, "Extend", d.Extend(bg, time.Hour), spool.Expired)
		wantReason(t, "Release", d.Release(bg, time.Hour), spool.Expired)
		wantAt(t, "VisibleAt", d.VisibleAt, end)
		q.counts(1, 0, 0, 0)
		d = q.receive("m")
		if err := d.Extend(bg, 0); err != nil {
			t.Fatal(err)
		}
		wantAt(t, "VisibleAt", d.VisibleAt, time.Now())
		q.counts(1, 0, 0, 0)
		q.refused(d.Receipt, spool.Expired)
	})
}

// A window that is closed drops what is rewindable all at once, in blocks with and without anything else in them.
func TestRuleWindowClosedOverBlocks(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		const block = 1024
		q := s.create("q", spool.Meta{Rewind: time.Hour})
		start := q.attributes().CreatedAt
		sendMany(q, 3*block/2, 0)
		receiveMany(q, 3*block/2-2, true)
		q.counts(2, 0, 0, 3*block/2-2)
		q.set(func(m *spool.Meta) { m.Rewind = 0 })
		q.counts(2, 0, 0, 0)
		d := q.receive("m")
		q.set(func(m *spool.Meta) { m.Rewind = time.Hour })
		q.delete(d)
		q.counts(1, 0, 0, 1)
		q.rewind(start, 1)
		q.rewind(start, 0)
		receiveMany(q, 2, true)
		q.counts(0, 0, 0, 2)
		if err := q.Purge(bg); err != nil {
			t.Fatal(err)
		}
		q.rewind(start, 0)
		q.counts(0, 0, 0, 0)
	})
}
