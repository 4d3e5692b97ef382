package spool_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
)

func TestCase19InvisibleUntilTheLeaseEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{VisibilityTimeout: 10 * sec})
		start := time.Now()
		id := q.send("m")
		time.Sleep(sec)
		first := q.receive("m")
		if first.ID != id || first.Receives != 1 || first.Rewinds != 0 || first.DeadLetter != nil {
			t.Errorf("Receive = %+v, want %s for the first time", first, id)
		}
		wantAt(t, "EnqueuedAt", first.EnqueuedAt, start)
		wantAt(t, "FirstReceivedAt", first.FirstReceivedAt, start.Add(sec))
		wantAt(t, "VisibleAt", first.VisibleAt, start.Add(11*sec))
		time.Sleep(10*sec - 1)
		q.none()
		q.counts(0, 1, 0, 0)
		time.Sleep(time.Nanosecond)
		q.counts(1, 0, 0, 0)
		second := q.receive("m", spool.Visibility(time.Minute))
		if second.ID != id || second.Receives != 2 || second.Receipt == first.Receipt {
			t.Errorf("Receive = %+v, want %s for the second time with a receipt of its own", second, id)
		}
		wantAt(t, "EnqueuedAt", second.EnqueuedAt, start)
		wantAt(t, "FirstReceivedAt", second.FirstReceivedAt, start.Add(sec))
		wantAt(t, "VisibleAt", second.VisibleAt, start.Add(71*sec))
	})
}

func TestCase20VisibilityRunsFromTheReceive(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{VisibilityTimeout: 10 * sec})
		answers := q.waiting(bg, 1, spool.Wait(time.Minute))
		time.Sleep(5 * sec)
		q.send("polled")
		wantAt(t, "VisibleAt", answered(t, answers).ds[0].VisibleAt, time.Now().Add(10*sec))
		q.send("waited")
		time.Sleep(5 * sec)
		wantAt(t, "VisibleAt", q.receive("waited").VisibleAt, time.Now().Add(10*sec))
	})
}

func TestCase21VisibilityBeyondRetention(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{VisibilityTimeout: time.Hour, Retention: 10 * sec})
		q.send("m")
		time.Sleep(sec)
		d := q.receive("m")
		wantAt(t, "VisibleAt", d.VisibleAt, time.Now().Add(time.Hour))
		time.Sleep(9*sec - 1)
		q.none()
		q.counts(0, 1, 0, 0)
		time.Sleep(time.Nanosecond)
		q.counts(0, 0, 0, 0)
		q.refused(d.Receipt, spool.Gone)
		time.Sleep(2 * time.Hour)
		q.none()
		q.refused(d.Receipt, spool.Gone)
	})
}

func TestCase22DeleteBeforeTheLeaseEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{VisibilityTimeout: 10 * sec})
		q.send("in time")
		d := q.receive("in time")
		time.Sleep(10*sec - 1)
		q.delete(d)
		q.send("late")
		a := q.receive("late")
		time.Sleep(10 * sec)
		q.refused(a.Receipt, spool.Expired)
		wantReason(t, "Extend", a.Extend(bg, sec), spool.Expired)
		wantReason(t, "Release", a.Release(bg, 0), spool.Expired)
		q.counts(1, 0, 0, 0)
		b := q.receive("late")
		q.refused(a.Receipt, spool.Stale)
		wantReason(t, "Extend", a.Extend(bg, time.Hour), spool.Stale)
		wantReason(t, "Release", a.Release(bg, 0), spool.Stale)
		q.counts(0, 1, 0, 0)
		time.Sleep(10*sec - 1)
		q.counts(0, 1, 0, 0)
		q.delete(b)
		q.counts(0, 0, 0, 0)
	})
}

func TestCase24DeleteRacesLapse(t *testing.T) {
	s := inMemory(t)
	q := s.create("q", spool.Meta{})
	for i := range 300 {
		q.send("m")
		d := q.receive("m", spool.Visibility(200*time.Microsecond))
		start := d.VisibleAt.Add(time.Duration(i%30-20) * time.Microsecond)
		ctx, cancel := context.WithCancel(bg)
		var deleted, redelivered atomic.Int64
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for time.Now().Before(start) {
					runtime.Gosched()
				}
				if err := q.Delete(bg, d.Receipt); err == nil {
					deleted.Add(1)
					cancel()
				}
			})
		}
		all.Go(func() {
			if again, err := q.Receive(ctx, spool.Wait(time.Hour)); err == nil {
				redelivered.Add(1)
				q.delete(again)
			}
		})
		all.Wait()
		cancel()
		if deleted.Load()+redelivered.Load() != 1 {
			t.Fatalf("deleted %d times, redelivered %d times, want one of them once", deleted.Load(), redelivered.Load())
		}
	}
	q.counts(0, 0, 0, 0)
}

func TestCase26ChangeVisibility(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{VisibilityTimeout: 10 * sec})
		start := time.Now()
		q.send("m")
		d := q.receive("m")
		time.Sleep(9 * sec)
		if err := q.ChangeVisibility(bg, d.Receipt, 20*sec); err != nil {
			t.Fatal(err)
		}
		wantAt(t, "the Delivery's VisibleAt", d.VisibleAt, start.Add(10*sec))
		wantAt(t, "NextDue", q.attributes().NextDue, start.Add(29*sec))
		time.Sleep(19 * sec)
		if err := d.Extend(bg, 10*sec); err != nil { // the receipt is kept
			t.Fatal(err)
		}
		wantAt(t, "VisibleAt", d.VisibleAt, start.Add(38*sec))
		if err := d.Extend(bg, 2*sec); err != nil { // shorter is allowed too
			t.Fatal(err)
		}
		wantAt(t, "VisibleAt", d.VisibleAt, start.Add(30*sec))
		time.Sleep(2*sec - 1)
		q.none()
		time.Sleep(time.Nanosecond)
		q.refused(d.Receipt, spool.Expired)
		d = q.receive("m")
		if d.Receives != 2 {
			t.Errorf("Receives = %d, want 2", d.Receives)
		}
		answers := q.waiting(bg, 1, spool.Wait(time.Minute))
		if err := q.ChangeVisibility(bg, d.Receipt, 0); err != nil {
			t.Fatal(err)
		}
		a := answered(t, answers)
		if len(a.ds) != 1 || a.ds[0].Receives != 3 {
			t.Fatalf("Receive = %v, want m again", a)
		}
		q.refused(d.Receipt, spool.Stale)
		for _, bad := range []time.Duration{-1, -time.Hour, 365*24*time.Hour + 1} {
			wantArgument(t, "ChangeVisibility", q.ChangeVisibility(bg, a.ds[0].Receipt, bad))
			wantArgument(t, "Extend", a.ds[0].Extend(bg, bad))
			wantArgument(t, "Release", a.ds[0].Release(bg, bad))
		}
		wantAt(t, "VisibleAt", a.ds[0].VisibleAt, time.Now().Add(10*sec))
		if err := a.ds[0].Extend(bg, 365*24*time.Hour); err != nil {
			t.Errorf("Extend by 365 d = %v", err)
		}
	})
}

// Release ends the lease at once: the receipt is Expired, the message Active, or Delayed for that long.
func TestRuleRelease(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		q.send("m")
		for name, release := range map[string]func(d *spool.Delivery, after time.Duration) error{
			"Release": func(d *spool.Delivery, after time.Duration) error { return d.Release(bg, after) },
			"ChangeVisibility(0)": func(d *spool.Delivery, after time.Duration) error {
				if after > 0 {
					return d.Release(bg, after)
				}
				return q.ChangeVisibility(bg, d.Receipt, 0)
			},
		} {
			d := q.receive("m")
			if err := release(d, 0); err != nil {
				t.Fatalf("%s = %v", name, err)
			}
			q.counts(1, 0, 0, 0)
			q.refused(d.Receipt, spool.Expired)
			d = q.receive("m")
			time.Sleep(sec)
			if err := release(d, 5*sec); err != nil {
				t.Fatalf("%s = %v", name, err)
			}
			wantAt(t, "VisibleAt", d.VisibleAt, time.Now().Add(5*sec))
			q.counts(0, 0, 1, 0)
			wantAt(t, "NextDue", q.attributes().NextDue, d.VisibleAt)
			q.refused(d.Receipt, spool.Expired)
			time.Sleep(5*sec - 1)
			q.none()
			time.Sleep(time.Nanosecond)
			q.counts(1, 0, 0, 0)
		}
		d := q.receive("m")
		if err := d.Release(bg, 0); err != nil {
			t.Fatal(err)
		}
		wantAt(t, "VisibleAt", d.VisibleAt, time.Now())
		wantReason(t, "Release again", d.Release(bg, 0), spool.Expired)
	})
}

// A Delivery's methods may be called from several goroutines; one end of a lease wins.
func TestRuleDeliveryMethodsTogether(t *testing.T) {
	s := inMemory(t)
	q := s.create("q", spool.Meta{})
	for range 200 {
		q.send("m")
		d := q.receive("m")
		var ends atomic.Int64
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				var err error
				switch i % 4 {
				case 0:
					err = d.Delete(bg)
				case 1:
					err = d.Release(bg, 0)
				case 2:
					err = q.ChangeVisibility(bg, d.Receipt, 0)
				default:
					_ = d.Extend(bg, time.Minute)
					return
				}
				if err == nil {
					ends.Add(1)
				}
			})
		}
		if all.Wait(); ends.Load() != 1 {
			t.Fatalf("%d ends of one lease, want 1", ends.Load())
		}
		if a := q.attributes(); a.Active == 1 {
			q.delete(q.receive("m"))
		}
		q.counts(0, 0, 0, 0)
	}
}

// A lease is never ended early by one that came before it on the same message.
func TestRuleOldTimersDoNotEndNewLeases(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{VisibilityTimeout: 10 * sec})
		q.send("m", sec)
		time.Sleep(sec)
		d := q.receive("m")
		time.Sleep(sec)
		if err := d.Release(bg, sec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(sec)
		d = q.receive("m") // from 3 s to 13 s, while the first lease was to end at 11 s
		time.Sleep(8 * sec)
		synctest.Wait()
		q.counts(0, 1, 0, 0)
		if err := d.Extend(bg, 10*sec); err != nil { // to 21 s
			t.Fatal(err)
		}
		time.Sleep(10*sec - 1)
		q.counts(0, 1, 0, 0)
		q.none()
		time.Sleep(time.Nanosecond)
		q.counts(1, 0, 0, 0)
	})
}
