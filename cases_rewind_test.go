package spool_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

func TestCase30RewindSwitchedOnAndOff(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{MaxMessages: 1})
		_, err := q.Rewind(bg, time.Now())
		if wantErr(t, "Rewind", err, spool.ErrRewindDisabled); spool.CodeOf(err) != 6050 {
			t.Errorf("CodeOf = %d, want 6050", spool.CodeOf(err))
		}
		_, err = q.RewindPreview(bg, time.Time{})
		wantErr(t, "RewindPreview", err, spool.ErrRewindDisabled)
		_, _, err = q.RewindRange()
		wantErr(t, "RewindRange", err, spool.ErrRewindDisabled)
		q.sendDelete("lost")
		q.counts(0, 0, 0, 0)
		q.set(func(m *spool.Meta) { m.Rewind = time.Hour })
		q.rewind(time.Now(), 0)
		q.sendDelete("kept")
		q.counts(0, 0, 0, 1)
		q.send("room")
		q.counts(1, 0, 0, 1)
		earliest, latest, err := q.RewindRange()
		if err != nil {
			t.Fatal(err)
		}
		wantAt(t, "earliest", earliest, time.Now().Add(-time.Hour))
		wantAt(t, "latest", latest, time.Now())
	})
}

func TestCase31RewindToATime(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Rewind: time.Hour})
		var at [4]time.Time
		var ds [4]*spool.Delivery
		var ids [4]string
		for i := 1; i <= 3; i++ {
			time.Sleep(10 * sec)
			at[i] = time.Now()
			ids[i] = q.send(fmt.Sprint("m", i))
			ds[i] = q.receive(fmt.Sprint("m", i))
		}
		for _, i := range []int{2, 3, 1} {
			time.Sleep(sec)
			q.delete(ds[i])
		}
		q.counts(0, 0, 0, 3)
		before := q.attributes()
		q.rewind(at[2], 2)
		q.counts(2, 0, 0, 1)
		after := q.attributes()
		wantAt(t, "Oldest", after.Oldest, at[2])
		if after.Sent != before.Sent || after.Received != before.Received || after.Deleted != before.Deleted {
			t.Errorf("Attributes after a rewind = %+v, want what was counted unchanged", after)
		}
		for _, i := range []int{2, 3} {
			d := q.receive(fmt.Sprint("m", i))
			if d.ID != ids[i] || d.Receives != 1 || d.Rewinds != 1 {
				t.Errorf("Receive = %+v, want %s, Receives 1, Rewinds 1", d, ids[i])
			}
			wantAt(t, "EnqueuedAt", d.EnqueuedAt, at[i])
			wantAt(t, "FirstReceivedAt", d.FirstReceivedAt, time.Now())
			q.refused(ds[i].Receipt, spool.Deleted)
		}
		q.none()
		q.rewind(at[1].In(time.FixedZone("far", 12345)), 1)
		q.receive("m1")
	})
}

// What a rewind brings back is as new: Peek shows no receives.
func TestRuleRewoundIsNew(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Rewind: time.Hour, Delay: sec})
		start := time.Now()
		q.send("m")
		time.Sleep(sec)
		q.delete(q.receive("m"))
		q.rewind(start, 1)
		q.counts(1, 0, 0, 0) // a delay is not applied again
		ds, err := q.Peek(bg, 1)
		if err != nil || len(ds) != 1 || ds[0].Receives != 0 || ds[0].Rewinds != 1 || !ds[0].FirstReceivedAt.IsZero() {
			t.Errorf("Peek = %+v, %v, want no receives and one rewind", ds, err)
		}
	})
}

func TestCase32RewindRange(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Rewind: time.Minute})
		q.sendDelete("gone")
		time.Sleep(sec)
		q.sendDelete("m")
		time.Sleep(time.Minute - sec)
		now := time.Now()
		for name, to := range map[string]time.Time{
			"just too early": now.Add(-time.Minute - 1), "just too late": now.Add(1), "later": now.Add(sec),
			"zero": {}, "1970": time.Unix(0, 0), "far": now.AddDate(1000, 0, 0), "very far": time.Unix(1<<62, 0), "past": time.Unix(-1<<62, 0),
		} {
			for _, rewind := range []func() (int64, error){
				func() (int64, error) { return q.Rewind(bg, to) },
				func() (int64, error) { return q.RewindPreview(bg, to) },
			} {
				n, err := rewind()
				var r *spool.RewindRangeError
				if n != 0 || !errors.As(err, &r) || !errors.Is(err, spool.ErrInvalidRewindTime) || spool.CodeOf(err) != 4000 {
					t.Fatalf("Rewind to %s = %d, %v, want ErrInvalidRewindTime", name, n, err)
				}
				wantAt(t, "Earliest", r.Earliest, now.Add(-time.Minute))
				wantAt(t, "Latest", r.Latest, now)
			}
		}
		q.counts(0, 0, 0, 1)
		q.rewind(now, 0)
		q.rewind(now.Add(-time.Minute), 1)
		q.receive("m")
	})
}

func TestCase33UntouchedByARewind(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Rewind: time.Hour, VisibilityTimeout: 10 * sec})
		start := time.Now()
		q.send("inactive")
		d := q.receive("inactive")
		q.send("delayed", 5*sec)
		q.sendDelete("deleted")
		q.send("active")
		q.rewind(start, 1)
		q.counts(2, 1, 1, 0)
		q.receive("deleted", spool.Visibility(time.Minute))
		q.receive("active", spool.Visibility(time.Minute))
		q.none()
		time.Sleep(5*sec - 1)
		q.none()
		time.Sleep(time.Nanosecond)
		if d := q.receive("delayed", spool.Visibility(time.Minute)); d.Rewinds != 0 {
			t.Errorf("Rewinds = %d, want 0", d.Rewinds)
		}
		time.Sleep(5*sec - 1)
		q.none()
		q.delete(d)
		q.counts(0, 3, 0, 1)
	})
}

func TestCase34RewindAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Rewind: time.Minute})
		start := time.Now()
		q.send("m")
		for i := range 5 {
			d := q.receive("m")
			if d.Rewinds != i || d.Receives != 1 {
				t.Errorf("Receive = %+v, want Rewinds %d, Receives 1", d, i)
			}
			q.delete(d)
			time.Sleep(10 * sec)
			q.rewind(start, 1)
			q.rewind(start, 0)
		}
		q.delete(q.receive("m"))
		time.Sleep(10*sec - 1)
		q.counts(0, 0, 0, 1)
		time.Sleep(time.Nanosecond)
		q.counts(0, 0, 0, 0)
		q.rewind(start, 0)
	})
}

func TestCase34WindowCountsFromSend(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Rewind: time.Minute})
		q.send("m")
		q.send("late")
		time.Sleep(50 * sec)
		q.delete(q.receive("m"))
		d := q.receive("late")
		time.Sleep(10*sec - 1)
		q.counts(0, 1, 0, 1)
		time.Sleep(time.Nanosecond)
		q.counts(0, 1, 0, 0)
		q.delete(d) // beyond the window: gone at once
		q.counts(0, 0, 0, 0)
		q.refused(d.Receipt, spool.Deleted)
	})
}

func TestCase35WindowChanged(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Rewind: time.Hour})
		start := time.Now()
		q.sendDelete("a")
		time.Sleep(10 * sec)
		q.sendDelete("b")
		q.counts(0, 0, 0, 2)
		q.set(func(m *spool.Meta) { m.Rewind = 10 * sec })
		q.counts(0, 0, 0, 1)
		q.set(func(m *spool.Meta) { m.Rewind = time.Hour })
		q.counts(0, 0, 0, 1)
		if n, err := q.RewindPreview(bg, start); n != 1 || err != nil {
			t.Errorf("RewindPreview = %d, %v, want 1", n, err)
		}
		q.set(func(m *spool.Meta) { m.Rewind = 0 })
		q.counts(0, 0, 0, 0)
		q.set(func(m *spool.Meta) { m.Rewind = time.Hour })
		q.counts(0, 0, 0, 0)
		q.rewind(start, 0)
		q.sendDelete("c")
		q.set(func(m *spool.Meta) { m.Retention, m.Rewind = 5*sec, 5*sec })
		q.counts(0, 0, 0, 1)
		q.rewind(time.Now(), 1)
		q.receive("c")
	})
}

func TestCase36RewindWakes(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Rewind: time.Hour})
		start := time.Now()
		for _, body := range []string{"a", "b", "c"} {
			q.sendDelete(body)
		}
		var waiters [4]<-chan answer
		for i := range waiters {
			waiters[i] = q.waiting(bg, 1, spool.Wait(time.Minute))
		}
		if n, err := q.Rewind(bg, start); n != 3 || err != nil {
			t.Errorf("Rewind = %d, %v, want 3", n, err)
		}
		for i, body := range []string{"a", "b", "c"} {
			a := answered(t, waiters[i])
			if len(a.ds) != 1 || string(a.ds[0].Body) != body {
				t.Fatalf("waiter %d got %v, want %s", i, a, body)
			}
			q.delete(a.ds[0])
		}
		stillWaiting(t, waiters[3])
		q.send("d")
		answered(t, waiters[3])
		q.rewind(start, 3)
		q.send("e")
		for _, body := range []string{"a", "b", "c", "e"} {
			q.receive(body)
		}
	})
}

func TestCase37RewindOfMany(t *testing.T) {
	s := inMemory(t)
	q := s.create("q", spool.Meta{Rewind: time.Hour})
	n := unraced(50_000, 10_000)
	start := time.Now()
	sendMany(q, n, spool.NoDelay)
	receiveMany(q, n, true)
	q.counts(0, 0, 0, int64(n))
	before := time.Now()
	q.rewind(start, int64(n))
	if took := time.Since(before); took > 200*msec {
		t.Errorf("rewind of %d took %v, want milliseconds", n, took)
	}
	q.counts(int64(n), 0, 0, 0)
	receiveMany(q, n, true)
	q.rewind(start, int64(n))
	q.set(func(m *spool.Meta) { m.Rewind = 0 })
	q.counts(int64(n), 0, 0, 0)
}

// receiveMany receives n messages, and deletes them if told so.
func receiveMany(q *caseQueue, n int, remove bool) {
	q.tb.Helper()
	for n > 0 {
		ds, err := q.ReceiveBatch(bg, min(n, spool.MaxBatch), spool.Visibility(time.Hour))
		if err != nil {
			q.tb.Fatalf("ReceiveBatch = %v", err)
		}
		n -= len(ds)
		var receipts []string
		for _, d := range ds {
			receipts = append(receipts, d.Receipt)
		}
		if remove {
			if err := q.DeleteBatch(bg, receipts); err != nil {
				q.tb.Fatalf("DeleteBatch = %v", err)
			}
		}
	}
}

func TestCase37RewindSurvivesReopening(t *testing.T) {
	onDisks(t, func(t *testing.T, reopen func() *caseSpool) {
		q := reopen().create("q", spool.Meta{Rewind: time.Hour})
		start := q.attributes().CreatedAt
		ids := map[string]string{}
		var receipt string
		for _, body := range []string{"a", "b", "c"} {
			ids[body], receipt = q.sendDelete(body)
		}
		q = reopen().get("q")
		q.counts(0, 0, 0, 3)
		q.refused(receipt, spool.Deleted)
		q.rewind(start, 3)
		q = reopen().get("q")
		q.counts(3, 0, 0, 0)
		q.rewind(start, 0)
		q.refused(receipt, spool.Stale)
		for _, body := range []string{"a", "b", "c"} {
			if d := q.receive(body); d.ID != ids[body] || d.Receives != 1 || d.Rewinds != 1 {
				t.Errorf("Receive = %+v, want %s, Receives 1, Rewinds 1", d, ids[body])
			}
		}
	})
}

func TestCase38RewindRestartsTheCount(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		dead := s.create("dead", spool.Meta{})
		q := s.create("q", spool.Meta{Rewind: time.Hour, DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 3}})
		start := time.Now()
		q.send("m")
		release := func(receives int) {
			t.Helper()
			d := q.receive("m")
			if d.Receives != receives {
				t.Errorf("Receives = %d, want %d", d.Receives, receives)
			}
			if err := d.Release(bg, 0); err != nil {
				t.Fatal(err)
			}
		}
		release(1)
		release(2)
		q.delete(q.receive("m"))
		q.rewind(start, 1)
		release(1)
		release(2)
		dead.counts(0, 0, 0, 0)
		release(3)
		q.counts(0, 0, 0, 0)
		dead.counts(1, 0, 0, 0)
		q.rewind(start, 0) // moved messages are not rewindable
	})
}

// The window lowered drops what is older at once; raised it brings nothing back, but keeps what is deleted later.
func TestRuleWindowRaised(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		start := time.Now()
		q.send("a")
		q.send("b")
		q.send("c")
		q.delete(q.receive("a"))
		time.Sleep(10 * sec)
		b := q.receive("b")
		q.set(func(m *spool.Meta) { m.Rewind = time.Minute })
		q.counts(1, 1, 0, 0)
		q.delete(b) // sent before the window was opened
		q.counts(1, 0, 0, 1)
		q.set(func(m *spool.Meta) { m.Rewind = 5 * sec })
		q.counts(1, 0, 0, 0)
		q.set(func(m *spool.Meta) { m.Rewind = time.Minute })
		q.delete(q.receive("c"))
		q.counts(0, 0, 0, 1)
		q.rewind(start, 1)
		q.receive("c")
	})
}
