package spool_test

import (
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

func TestCase29Retention(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Retention: 10 * sec, VisibilityTimeout: 2 * sec})
		q.send("m")
		time.Sleep(10*sec - 1)
		q.counts(1, 0, 0, 0)
		time.Sleep(time.Nanosecond)
		q.counts(0, 0, 0, 0)
		if a := q.attributes(); !a.Oldest.IsZero() || a.Sent != 1 || a.Deleted != 0 {
			t.Errorf("Attributes = %+v, want no Oldest, and expiry not among the deleted", a)
		}
		q.none()

		q.send("n")
		time.Sleep(10*sec - 1)
		d := q.receive("n")
		time.Sleep(time.Nanosecond)
		q.counts(0, 0, 0, 0)
		q.refused(d.Receipt, spool.Gone)
	})
}

// Every state ends with retention; neither redelivery nor an extension nor a release nor a rewind makes life longer.
func TestCase29NothingExtendsLife(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Retention: 10 * sec, Rewind: 10 * sec, VisibilityTimeout: 2 * sec})
		start := time.Now()
		q.send("redelivered")
		q.receive("redelivered")
		q.send("extended")
		extended := q.receive("extended")
		if err := extended.Extend(bg, time.Hour); err != nil {
			t.Fatal(err)
		}
		wantAt(t, "VisibleAt", extended.VisibleAt, start.Add(time.Hour))
		q.send("released")
		released := q.receive("released")
		if err := released.Release(bg, time.Hour); err != nil {
			t.Fatal(err)
		}
		q.send("delayed", 9*sec)
		q.sendDelete("rewound")
		q.sendDelete("rewindable")
		time.Sleep(5 * sec)
		q.rewind(start, 2)
		q.receive("redelivered")
		q.receive("rewound")
		q.delete(q.receive("rewindable"))
		q.counts(0, 3, 2, 1)
		time.Sleep(4 * sec)
		q.receive("redelivered", spool.Visibility(time.Hour))
		q.counts(2, 2, 1, 1)
		time.Sleep(sec - 1)
		q.counts(2, 2, 1, 1)
		time.Sleep(time.Nanosecond)
		q.counts(0, 0, 0, 0)
		q.refused(extended.Receipt, spool.Gone)
		q.none()
		q.rewind(start, 0)
	})
}

// Room is there again when messages expire, and the oldest that is left counts.
func TestRuleExpiryFreesRoom(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Retention: 10 * sec, MaxMessages: 2})
		q.send("a")
		time.Sleep(5 * sec)
		q.send("b")
		b := time.Now()
		time.Sleep(5*sec - 1)
		_, err := q.Send(bg, spool.Message{Body: []byte("c")})
		wantErr(t, "Send", err, spool.ErrQueueFull)
		time.Sleep(time.Nanosecond)
		q.send("c")
		wantAt(t, "Oldest", q.attributes().Oldest, b)
		q.receive("b")
		q.receive("c")
	})
}

// Expired messages were never deleted, so they are not rewindable, and their counters say so.
func TestRuleExpiredIsNotRewindable(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Retention: 10 * sec, Rewind: 10 * sec})
		start := time.Now()
		q.send("m")
		time.Sleep(9 * sec)
		q.send("n")
		time.Sleep(sec)
		q.counts(1, 0, 0, 0)
		q.rewind(start, 0)
		q.receive("n")
	})
}

// Raising the retention resurrects nothing, whether or not anybody looked in between.
func TestRuleRetentionRaised(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Retention: 10 * sec})
		q.send("old")
		time.Sleep(5 * sec)
		q.send("young")
		time.Sleep(5 * sec)
		q.set(func(m *spool.Meta) { m.Retention = time.Hour })
		q.counts(1, 0, 0, 0)
		time.Sleep(time.Hour - 5*sec - 1)
		q.counts(1, 0, 0, 0) // the new retention counts for messages that were there
		time.Sleep(time.Nanosecond)
		q.counts(0, 0, 0, 0)
	})
}

// A waiter is not woken by expiry, and does not get what expired.
func TestRuleExpiryDoesNotWake(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Retention: 10 * sec})
		q.send("m")
		q.receive("m", spool.Visibility(10*sec))
		q.send("n", 10*sec-1)
		answers := q.waiting(bg, 1, spool.Wait(time.Minute))
		time.Sleep(10 * sec)
		select {
		case a := <-answers:
			if len(a.ds) != 1 || string(a.ds[0].Body) != "n" { // it was Active for one nanosecond
				t.Fatalf("Receive = %v, want n or nothing yet", a)
			}
			q.refused(a.ds[0].Receipt, spool.Gone)
		default:
		}
		q.counts(0, 0, 0, 0)
		answers = q.waiting(bg, 1, spool.Wait(time.Minute))
		time.Sleep(30 * sec)
		stillWaiting(t, answers)
		wantErr(t, "Receive", (<-answers).err, spool.ErrNoMessage)
	})
}

func TestRulePurge(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Rewind: time.Hour, MaxMessages: 3})
		start := time.Now()
		q.sendDelete("rewindable")
		q.send("inactive")
		d := q.receive("inactive")
		q.send("delayed", 5*sec)
		q.send("active")
		q.counts(1, 1, 1, 1)
		before := q.attributes()
		if err := q.Purge(bg); err != nil {
			t.Fatal(err)
		}
		q.counts(0, 0, 0, 0)
		after := q.attributes()
		if after.Sent != before.Sent || after.Received != before.Received || after.Deleted != before.Deleted ||
			!after.Oldest.IsZero() || !after.NextDue.IsZero() {
			t.Errorf("Attributes after Purge = %+v, want what was counted unchanged", after)
		}
		q.refused(d.Receipt, spool.Gone)
		q.rewind(start, 0)
		time.Sleep(time.Minute)
		q.none()
		q.counts(0, 0, 0, 0)
		if err := q.Purge(bg); err != nil {
			t.Errorf("Purge of an empty queue = %v", err)
		}
		for _, body := range []string{"a", "b", "c"} {
			q.send(body)
		}
		q.receive("a")
		q.rewind(start, 0)
	})
}

// Waiters keep waiting through a purge, and what arrives afterwards wakes them.
func TestRulePurgeKeepsWaiters(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		q.send("purged", 2*sec)
		first, second := q.waiting(bg, 1, spool.Wait(10*sec)), q.waiting(bg, 5, spool.Wait(10*sec))
		time.Sleep(sec)
		if err := q.Purge(bg); err != nil {
			t.Fatal(err)
		}
		stillWaiting(t, first)
		time.Sleep(4 * sec)
		stillWaiting(t, first)
		q.send("a")
		if a := answered(t, first); len(a.ds) != 1 || string(a.ds[0].Body) != "a" {
			t.Errorf("Receive = %v, want a", a)
		}
		wantErr(t, "ReceiveBatch", (<-second).err, spool.ErrNoMessage)
	})
}
