package spool_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

func TestCase12NoFalseEmpty(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		_, err := q.Receive(bg, spool.Wait(0))
		if wantErr(t, "Receive of an empty queue", err, spool.ErrNoMessage); spool.CodeOf(err) != 7000 {
			t.Errorf("CodeOf = %d, want 7000", spool.CodeOf(err))
		}
		_, err = q.ReceiveBatch(bg, 5)
		wantErr(t, "ReceiveBatch of an empty queue", err, spool.ErrNoMessage)

		rounds := 1000
		if raceEnabled || !strings.HasSuffix(t.Name(), "/memory") {
			rounds = 50
		}
		batch := make([]spool.Message, 50)
		for i := range batch {
			batch[i].Body = []byte("m")
		}
		for range rounds {
			if _, err := q.SendBatch(bg, batch); err != nil {
				t.Fatal(err)
			}
			receipts := make([]string, len(batch))
			var all sync.WaitGroup
			for i := range receipts {
				all.Go(func() {
					d, err := q.Receive(bg, spool.Wait(0))
					if err != nil {
						t.Errorf("Receive = %v, want one of the messages left", err)
						return
					}
					receipts[i] = d.Receipt
				})
			}
			if all.Wait(); t.Failed() {
				return
			}
			if err := q.DeleteBatch(bg, receipts); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestCase13Waits(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{PollingWait: 2 * sec})
		for _, c := range []struct {
			opts []spool.ReceiveOption
			want time.Duration
		}{
			{nil, 2 * sec},
			{[]spool.ReceiveOption{spool.Wait(3 * sec)}, 3 * sec},
			{[]spool.ReceiveOption{spool.Wait(0)}, 0},
			{[]spool.ReceiveOption{spool.Wait(1)}, 1},
			{[]spool.ReceiveOption{spool.Wait(24 * time.Hour)}, 24 * time.Hour},
			{[]spool.ReceiveOption{spool.Visibility(sec)}, 2 * sec},
		} {
			for max := 1; max <= 2; max++ {
				start := time.Now()
				a := <-q.waiting(bg, max, c.opts...)
				wantErr(t, "Receive", a.err, spool.ErrNoMessage)
				wantSoon(t, fmt.Sprintf("end of a wait of %v", c.want), a.at, start.Add(c.want))
			}
		}
	})
}

func TestRuleReceiveArguments(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		q.send("m")
		for name, opt := range map[string]spool.ReceiveOption{
			"Wait(-1)": spool.Wait(-1), "Wait(24 h + 1)": spool.Wait(24*time.Hour + 1),
			"Visibility(0)": spool.Visibility(0), "Visibility(-1)": spool.Visibility(-1),
			"Visibility(365 d + 1)": spool.Visibility(365*24*time.Hour + 1),
		} {
			_, err := q.Receive(bg, opt)
			wantArgument(t, "Receive with "+name, err)
			_, err = q.ReceiveBatch(bg, 2, opt)
			wantArgument(t, "ReceiveBatch with "+name, err)
			rounds := 0
			for d, err := range q.Deliveries(bg, opt) {
				if rounds++; d != nil {
					t.Errorf("Deliveries = %s, want an error only", bodyOf(d))
				}
				wantArgument(t, "Deliveries with "+name, err)
			}
			if rounds != 1 {
				t.Errorf("Deliveries with %s went round %d times, want once", name, rounds)
			}
		}
		for _, max := range []int{0, -1, spool.MaxBatch + 1} {
			_, err := q.ReceiveBatch(bg, max)
			wantArgument(t, fmt.Sprint("ReceiveBatch of ", max), err)
			_, err = q.Peek(bg, max)
			wantArgument(t, fmt.Sprint("Peek of ", max), err)
		}
		q.counts(1, 0, 0, 0)
		q.receive("m", spool.Wait(24*time.Hour), spool.Visibility(365*24*time.Hour))
	})
}

func TestCase14Wakes(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		got := func(answers <-chan answer, body string, at time.Time) *spool.Delivery {
			t.Helper()
			a := <-answers
			if len(a.ds) != 1 || string(a.ds[0].Body) != body {
				t.Fatalf("Receive = %v, want %s", a, body)
			}
			wantSoon(t, "Receive of "+body, a.at, at)
			return a.ds[0]
		}
		start := time.Now()
		answers := q.waiting(bg, 1, spool.Wait(10*sec))
		time.Sleep(sec)
		q.send("sent")
		a := answered(t, answers)
		if len(a.ds) != 1 || !a.at.Equal(start.Add(sec)) {
			t.Fatalf("Receive = %v at %v, want it at once", a, a.at)
		}
		q.delete(a.ds[0])

		start = time.Now()
		answers = q.waiting(bg, 1, spool.Wait(10*sec))
		q.send("delayed", 2*sec)
		q.delete(got(answers, "delayed", start.Add(2*sec)))

		start = time.Now()
		q.send("lapsed")
		q.receive("lapsed", spool.Visibility(3*sec))
		got(q.waiting(bg, 1, spool.Wait(10*sec), spool.Visibility(5*sec)), "lapsed", start.Add(3*sec))
		d := got(q.waiting(bg, 1, spool.Wait(10*sec)), "lapsed", start.Add(8*sec))

		start = time.Now()
		answers = q.waiting(bg, 1, spool.Wait(10*sec))
		time.Sleep(sec)
		if err := d.Release(bg, 0); err != nil {
			t.Fatal(err)
		}
		d = got(answers, "lapsed", start.Add(sec))
		answers = q.waiting(bg, 1, spool.Wait(10*sec))
		if err := d.Release(bg, 2*sec); err != nil {
			t.Fatal(err)
		}
		d = got(answers, "lapsed", start.Add(3*sec))
		answers = q.waiting(bg, 1, spool.Wait(10*sec))
		if err := q.ChangeVisibility(bg, d.Receipt, sec); err != nil {
			t.Fatal(err)
		}
		q.delete(got(answers, "lapsed", start.Add(4*sec)))

		var three [3]<-chan answer
		for i := range three {
			three[i] = q.waiting(bg, 1, spool.Wait(10*sec))
		}
		q.send("one")
		q.delete(answered(t, three[0]).ds[0])
		stillWaiting(t, three[1])
		stillWaiting(t, three[2])
		time.Sleep(11 * sec)
		wantErr(t, "Receive", answered(t, three[1]).err, spool.ErrNoMessage)
		wantErr(t, "Receive", answered(t, three[2]).err, spool.ErrNoMessage)
	})
}

func TestCase15Batches(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{PollingWait: 10 * sec})
		for _, body := range []string{"a", "b", "c"} {
			q.send(body)
		}
		want := func(answers <-chan answer, bodies ...string) {
			t.Helper()
			if a := answered(t, answers); a.err != nil || !reflect.DeepEqual(bodiesOf(a.ds), bodies) {
				t.Errorf("ReceiveBatch = %v, want %q", a, bodies)
			}
		}
		want(q.waiting(bg, 16), "a", "b", "c")
		answers := q.waiting(bg, 16)
		time.Sleep(sec)
		q.send("d")
		want(answers, "d")
		first, second := q.waiting(bg, 2), q.waiting(bg, 16)
		if _, err := q.SendBatch(bg, []spool.Message{{Body: []byte("e")}, {Body: []byte("f")}, {Body: []byte("g")}}); err != nil {
			t.Fatal(err)
		}
		want(first, "e", "f")
		want(second, "g")
	})
}

func TestRuleReceiveBatchStopsAtMaxBatchBytes(t *testing.T) {
	s := inMemory(t)
	q := s.create("q", spool.Meta{MaxMessageSize: 16 << 20})
	for i, size := range []int{8 << 20, 8 << 20, 1024, 16 << 20, 1024, 8 << 20, 8<<20 - 1024} {
		m := spool.Message{Body: make([]byte, size)}
		if i == 5 {
			m.Attributes = map[string]string{"k": strings.Repeat("v", 1024)}
		}
		if _, err := q.Send(bg, m); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []int{2, 1, 1, 2, 1} {
		if ds, err := q.Peek(bg, 7); err != nil || len(ds) != want {
			t.Errorf("Peek = %d messages, %v, want %d", len(ds), err, want)
		}
		ds, err := q.ReceiveBatch(bg, 7)
		if err != nil || len(ds) != want {
			t.Errorf("ReceiveBatch = %d messages, %v, want %d", len(ds), err, want)
		}
	}
	q.none()
}

// TestRuleLargestBatchComesBack: what one SendBatch takes comes in one Peek and one ReceiveBatch, however much the encoding of
// its attributes adds.
func TestRuleLargestBatchComesBack(t *testing.T) {
	few := map[string]string{"k": "v"}
	many := map[string]string{} // whose lengths take the most
	for i := range 64 {
		key := fmt.Sprintf("%0128d", i)
		many[key] = key
	}
	for _, key := range slices.Sorted(maps.Keys(many))[:3] {
		many[key] = strings.Repeat("v", 16<<10)
	}
	size := func(attrs map[string]string) (n int) {
		for k, v := range attrs {
			n += len(k) + len(v)
		}
		return n
	}
	for name, attrs := range map[string][2]map[string]string{"few": {nil, few}, "most": {many, many}} {
		t.Run(name, func(t *testing.T) {
			s := inMemory(t)
			q := s.create("q", spool.Meta{MaxMessageSize: 8 << 20})
			ms := make([]spool.Message, 2)
			for i := range ms {
				ms[i] = spool.Message{Body: make([]byte, 8<<20-size(attrs[i])), Attributes: attrs[i]}
			}
			if _, err := q.SendBatch(bg, ms); err != nil {
				t.Fatal(err)
			}
			if ds, err := q.Peek(bg, 2); err != nil || len(ds) != 2 {
				t.Errorf("Peek = %d messages, %v, want the 2 of the batch", len(ds), err)
			}
			if ds, err := q.ReceiveBatch(bg, 2); err != nil || len(ds) != 2 {
				t.Errorf("ReceiveBatch = %d messages, %v, want the 2 of the batch", len(ds), err)
			}
		})
	}
}

func TestCase16CancelledWait(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		ctx, cancel := context.WithCancel(bg)
		first := q.waiting(ctx, 1, spool.Wait(time.Hour))
		second := q.waiting(bg, 1, spool.Wait(time.Hour))
		cancel()
		if a := answered(t, first); a.err != context.Canceled {
			t.Errorf("Receive = %v, want context.Canceled as it is", a)
		}
		q.send("m")
		if a := answered(t, second); len(a.ds) != 1 {
			t.Errorf("Receive = %v, want m", a)
		}
		ctx, cancel = context.WithTimeout(bg, sec)
		defer cancel()
		a := <-q.waiting(ctx, 5, spool.Wait(2*sec))
		if a.err != context.DeadlineExceeded {
			t.Errorf("ReceiveBatch = %v, want context.DeadlineExceeded, not ErrNoMessage", a)
		}
		q.send("n")
		_, err := q.Receive(ctx)
		wantErr(t, "Receive with a done context", err, context.DeadlineExceeded)
		q.counts(1, 1, 0, 0)
	})
}

func TestCase16CancelRacesSend(t *testing.T) {
	s := inMemory(t)
	q := s.create("q", spool.Meta{})
	for range 10_000 {
		ctx, cancel := context.WithCancel(bg)
		answers := make(chan answer, 1)
		go func() {
			d, err := q.Receive(ctx, spool.Wait(time.Hour))
			answers <- answer{[]*spool.Delivery{d}, err, time.Time{}}
		}()
		go cancel()
		q.send("m")
		a := <-answers
		if a.err != nil {
			if a.err != context.Canceled {
				t.Fatalf("Receive = %v, want context.Canceled", a.err)
			}
			a.ds[0] = q.receive("m")
		}
		if a.ds[0].Receives != 1 {
			t.Fatalf("Receives = %d, want 1", a.ds[0].Receives)
		}
		q.delete(a.ds[0])
	}
	q.counts(0, 0, 0, 0)
}

// A wait that ends at the instant of a send, in both orders.
func TestCase16EndRacesSend(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		for i := range 500 {
			ctx, cancel := context.WithTimeout(bg, sec+time.Duration(i%3-1))
			answers := q.waiting(ctx, 1+i%2, spool.Wait(sec))
			time.Sleep(sec)
			q.send("m")
			a := <-answers
			if cancel(); a.err != nil {
				a.ds = append(a.ds, q.receive("m"))
			}
			q.delete(a.ds[0])
			q.counts(0, 0, 0, 0)
		}
	})
}

func TestCase17ArrivalOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		var waiters [10]<-chan answer
		for i := range waiters {
			waiters[i] = q.waiting(bg, 1+i%3, spool.Wait(time.Hour))
		}
		for i := range waiters {
			q.send(fmt.Sprint(i))
			if a := answered(t, waiters[i]); len(a.ds) != 1 || string(a.ds[0].Body) != fmt.Sprint(i) {
				t.Errorf("waiter %d got %v, want message %d", i, a, i)
			}
			for _, later := range waiters[i+1:] {
				stillWaiting(t, later)
			}
		}
	})
}

// Who waits comes before a receive that begins later, also one that begins at the very instant at which a message comes
// back and so is the first to look.
func TestCase17WaitersBeforeNewcomers(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		for i := range 60 {
			switch i % 3 {
			case 0:
				q.send("m", sec)
			case 1:
				q.send("m")
				q.receive("m", spool.Visibility(sec))
			case 2:
				q.send("m")
				if err := q.receive("m").Release(bg, sec); err != nil {
					t.Fatal(err)
				}
			}
			first := q.waiting(bg, 1+i%2, spool.Wait(time.Hour))
			time.Sleep(sec)
			late, err := q.Receive(bg, spool.Wait(0)) // before the clock of the spool has looked, as often as not
			if late != nil || !errors.Is(err, spool.ErrNoMessage) {
				t.Fatalf("round %d: a later Receive = %s, %v, want ErrNoMessage: somebody waits for the message", i, bodyOf(late), err)
			}
			q.delete(answered(t, first).ds[0])
		}
	})
}

// TestCase17WaitersWhereASegmentEnds: who waits comes first also when the log has no room for its RECEIVE at hand.
func TestCase17WaitersWhereASegmentEnds(t *testing.T) {
	for _, max := range []int{1, 16, spool.MaxBatch} {
		for size := 38; size < 2000; size += 37 * 6 {
			inBubble(t, func(t *testing.T, s *caseSpool) {
				q := s.create("q", spool.Meta{})
				for i := range 300 {
					first := q.waiting(bg, max, spool.Wait(time.Hour))
					q.send(strings.Repeat("x", size))
					if late, err := q.Receive(bg, spool.Wait(0)); late != nil || !errors.Is(err, spool.ErrNoMessage) {
						t.Fatalf("a batch of %d waits, %d bytes, round %d: a later Receive = %v, %v, want ErrNoMessage", max, size, i, late != nil, err)
					}
					q.delete(answered(t, first).ds[0])
				}
			})
		}
	}
}

// TestCase17SeenWithAWaiter: what somebody waits for is never seen to be active, whether or not the spool's clock has looked.
func TestCase17SeenWithAWaiter(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{VisibilityTimeout: sec})
		for range 40 {
			q.send("m", sec)
			first := q.waiting(bg, 1, spool.Wait(time.Minute))
			time.Sleep(sec)
			q.counts(0, 1, 0, 0)
			old := answered(t, first).ds[0]
			second := q.waiting(bg, 1, spool.Wait(time.Minute), spool.Visibility(time.Hour))
			time.Sleep(sec)
			q.refused(old.Receipt, spool.Stale)
			ds, err := q.Peek(bg, 1)
			wantBodies(t, "Peek", ds, err, nil)
			q.delete(answered(t, second).ds[0])
			third := q.waiting(bg, 1, spool.Wait(time.Minute))
			if err := q.SetMeta(bg, func(*spool.Meta) {}); err != nil {
				t.Fatal(err)
			}
			q.send("m")
			q.counts(0, 1, 0, 0)
			q.delete(answered(t, third).ds[0])
		}
	})
}

// TestCase17DueBeforeSent: what fell due at the instant of a send is older, and goes first to a receiver that waits, also
// when the sender comes before the clock.
func TestCase17DueBeforeSent(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		for range 100 {
			waiting := q.waiting(bg, 1, spool.Wait(time.Hour))
			q.send("older", sec)
			time.Sleep(sec)
			q.send("newer")
			a := answered(t, waiting)
			if len(a.ds) != 1 || string(a.ds[0].Body) != "older" {
				t.Fatalf("Receive = %v, want the older message", a)
			}
			q.delete(a.ds[0])
			q.delete(q.receive("newer"))
		}
	})
}

func TestCase18LeasesDoNotOverlap(t *testing.T) {
	const consumers = 32
	messages := unraced(100_000, 20_000)
	end := binary.BigEndian.AppendUint32(nil, uint32(messages))
	s := inMemory(t)
	q := s.create("q", spool.Meta{})
	held := make([]atomic.Bool, messages)
	var done atomic.Int64
	var all sync.WaitGroup
	for c := range consumers {
		all.Go(func() {
			for {
				ds, err := q.ReceiveBatch(bg, 1+c%4*8, spool.Wait(time.Minute))
				if err != nil {
					t.Errorf("ReceiveBatch = %v", err)
					return
				}
				for _, d := range ds {
					n := binary.BigEndian.Uint32(d.Body)
					if n == uint32(messages) { // the end
						if err := d.Release(bg, 0); err != nil {
							t.Errorf("Release = %v", err)
						}
						return
					}
					if held[n].Swap(true) {
						t.Errorf("message %d has two leases", n)
					}
				}
				for _, d := range ds {
					n := binary.BigEndian.Uint32(d.Body)
					held[n].Store(false)
					if d.Receives == 1 && n%10 == 0 {
						err = d.Release(bg, 0)
					} else if err = d.Delete(bg); err == nil {
						done.Add(1)
					}
					if err != nil {
						t.Errorf("end of a lease = %v", err)
					}
				}
				if done.Load() == int64(messages) {
					q.send(string(end))
				}
			}
		})
	}
	for n := 0; n < messages; {
		batch := make([]spool.Message, 100)
		for i := range batch {
			batch[i].Body = binary.BigEndian.AppendUint32(nil, uint32(n))
			n++
		}
		if _, err := q.SendBatch(bg, batch); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	if a := q.attributes(); a.Deleted != int64(messages) || a.Delayed != 0 {
		t.Errorf("Attributes = %+v, want all %d deleted", a, messages)
	}
}
