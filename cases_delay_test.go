package spool_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sort"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

func TestCase27Delay(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		start := time.Now()
		id := q.send("m", 10*sec)
		q.counts(0, 0, 1, 0)
		wantAt(t, "NextDue", q.attributes().NextDue, start.Add(10*sec))
		wantAt(t, "Oldest", q.attributes().Oldest, start)
		time.Sleep(9999 * msec)
		q.none()
		q.counts(0, 0, 1, 0)
		time.Sleep(msec - 1)
		q.none()
		time.Sleep(time.Nanosecond)
		q.counts(1, 0, 0, 0)
		if due := q.attributes().NextDue; !due.IsZero() {
			t.Errorf("NextDue = %v, want none", due)
		}
		d := q.receive("m")
		wantAt(t, "EnqueuedAt", d.EnqueuedAt, start)
		wantAt(t, "FirstReceivedAt", d.FirstReceivedAt, start.Add(10*sec))
		if d.ID != id || d.Receives != 1 {
			t.Errorf("Receive = %+v, want %s for the first time", d, id)
		}
	})
}

func TestCase27DelayedAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		q.send("the seed", 600*sec)
		q.counts(0, 0, 1, 0)
		q.none()
		if a := q.attributes(); a.Sent != 1 || !a.NextDue.Equal(a.Oldest.Add(600*sec)) {
			t.Errorf("Attributes = %+v, want one sent and due 600 s later", a)
		}
	})
}

func TestCase28DueOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		const n = 500
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		q := s.create("q", spool.Meta{})
		start := time.Now()
		var delays []time.Duration
		for range n {
			delay := time.Duration(1+rng.Int64N(100_000)) * 10 * msec
			delays = append(delays, delay)
			q.send(delay.String(), delay)
		}
		sort.Slice(delays, func(i, j int) bool { return delays[i] < delays[j] })
		for i, delay := range delays {
			d, err := q.Receive(bg, spool.Wait(time.Hour), spool.Visibility(time.Hour))
			if err != nil || string(d.Body) != delay.String() {
				t.Fatalf("Receive %d = %s, %v, want %v", i, bodyOf(d), err, delay)
			}
			wantSoon(t, "Receive", time.Now(), start.Add(delay))
		}
	})
}

// A queue's delay counts for messages sent after it was set; each message of a batch has its own.
func TestRuleDelayOfTheQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Delay: 5 * sec})
		q.send("old")
		q.set(func(m *spool.Meta) { m.Delay = 2 * sec })
		ids, err := q.SendBatch(bg, []spool.Message{
			{Body: []byte("own"), Delay: 3 * sec}, {Body: []byte("queue's")}, {Body: []byte("none"), Delay: spool.NoDelay}})
		if err != nil || len(ids) != 3 {
			t.Fatalf("SendBatch = %q, %v", ids, err)
		}
		q.counts(1, 0, 3, 0)
		q.receive("none")
		q.none()
		time.Sleep(2 * sec)
		q.receive("queue's")
		q.none()
		time.Sleep(sec)
		q.receive("own")
		q.none()
		time.Sleep(2 * sec)
		q.receive("old")
	})
}

func TestCase28ManyDelayed(t *testing.T) {
	s := inMemory(t)
	q := s.create("q", spool.Meta{})
	quickest := func() time.Duration { // of a few, so that what else the machine does counts little
		best := time.Duration(math.MaxInt64)
		for range 5 {
			start := time.Now()
			for range 500 {
				q.sendDelete("m")
			}
			best = min(best, time.Since(start))
		}
		return best
	}
	const n = 100_000
	alone := quickest()
	sendMany(q, n, time.Hour)
	q.counts(0, 0, n, 0)
	if beside := quickest(); beside > 8*alone {
		t.Errorf("500 messages beside %d delayed ones took %v, alone %v", n, beside, alone)
	}
}

// sendMany sends n messages "m" with one delay, in the largest batches.
func sendMany(q *caseQueue, n int, delay time.Duration) {
	q.tb.Helper()
	for n > 0 {
		batch := make([]spool.Message, min(n, spool.MaxBatch))
		for i := range batch {
			batch[i] = spool.Message{Body: []byte("m"), Delay: delay}
		}
		if _, err := q.SendBatch(bg, batch); err != nil {
			q.tb.Fatalf("SendBatch = %v", err)
		}
		n -= len(batch)
	}
}

func TestCase28DueWhileClosed(t *testing.T) {
	onDisks(t, func(t *testing.T, reopen func() *caseSpool) {
		q := reopen().create("q", spool.Meta{})
		q.send("due", msec)
		q.send("later", time.Hour)
		id := q.send("leased")
		d, err := q.ReceiveBatch(bg, 2, spool.Visibility(msec))
		if err != nil {
			t.Fatal(err)
		}
		until := time.Now().Add(2 * msec)
		reopen()
		for time.Now().Before(until) {
			runtime.Gosched()
		}
		q = reopen().get("q")
		q.counts(2, 0, 1, 0)
		q.receive("due")
		if again := q.receive("leased"); again.ID != id || again.Receives != 2 {
			t.Errorf("Receive = %+v, want %s for the second time", again, id)
		}
		q.refused(d[len(d)-1].Receipt, spool.Stale)
	})
}

// Everything due at one instant: the counters are right at once, and other queues are not held up.
func TestCase46DueAtOneInstant(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		n := unraced(50_000, 10_000)
		dead, other := s.create("dead", spool.Meta{}), s.create("other", spool.Meta{})
		byAge := s.create("by-age", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: "dead", MaxAge: time.Minute}})
		delays, leases := s.create("delays", spool.Meta{}), s.create("leases", spool.Meta{})
		expires := s.create("expires", spool.Meta{Retention: time.Minute})
		sendMany(delays, n, time.Minute)
		sendMany(leases, n, spool.NoDelay)
		sendMany(expires, n, spool.NoDelay)
		sendMany(byAge, n/10, spool.NoDelay)
		for got := 0; got < n; {
			ds, err := leases.ReceiveBatch(bg, spool.MaxBatch, spool.Visibility(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			got += len(ds)
		}
		time.Sleep(time.Minute - 1)
		delays.counts(0, 0, int64(n), 0)
		leases.counts(0, int64(n), 0, 0)
		expires.counts(int64(n), 0, 0, 0)
		byAge.counts(int64(n/10), 0, 0, 0)
		dead.counts(0, 0, 0, 0)
		time.Sleep(time.Nanosecond)
		other.send("m")
		other.receive("m")
		for _, c := range []struct {
			q *caseQueue
			n int
		}{{delays, n}, {leases, n}, {expires, 0}, {byAge, 0}, {dead, n / 10}} {
			c.q.counts(int64(c.n), 0, 0, 0)
		}
		delays.receive("m")
	})
}

func TestRuleNextDue(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Retention: 5 * sec, VisibilityTimeout: time.Minute})
		start := time.Now()
		want := func(after time.Duration) {
			t.Helper()
			due := q.attributes().NextDue
			if after == 0 && !due.IsZero() {
				t.Errorf("NextDue = %v, want none", due)
			} else if after > 0 {
				wantAt(t, fmt.Sprint("NextDue of ", after), due, start.Add(after))
			}
		}
		want(0)
		q.send("m")
		want(0)
		d := q.receive("m")
		want(time.Minute) // retention is left aside
		q.send("n", 4*sec)
		want(4 * sec)
		if err := d.Release(bg, 3*sec); err != nil {
			t.Fatal(err)
		}
		want(3 * sec)
		time.Sleep(3 * sec)
		want(4 * sec)
		q.delete(q.receive("m"))
		time.Sleep(sec)
		want(0)
		time.Sleep(sec)
		want(0)
	})
}
