package spool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
	"go.uber.org/goleak"
)

// Real goroutines, real time: what holds when many call at once. Nothing here waits for longer than what it waits for.

// fewer is n, or a part of it where time is short.
func fewer(n int) int {
	if raceEnabled || testing.Short() {
		return max(1, n/8)
	}
	return n
}

func raceSpool(t *testing.T) *spool.Spool {
	t.Helper()
	s, err := spool.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func raceQueue(t *testing.T, s *spool.Spool, name string, meta spool.Meta) *spool.Queue {
	t.Helper()
	q, err := s.CreateQueue(context.Background(), name, meta)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func raceAttributes(t *testing.T, q *spool.Queue) spool.Attributes {
	t.Helper()
	a, err := q.Attributes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A message whose receiver gives up while it is being sent is either returned or still active: never inactive and in
// nobody's hands. A receiver that did not give up gets it.
func TestCancelAgainstSend(t *testing.T) {
	s := raceSpool(t)
	for _, steady := range []int{0, 1} {
		t.Run(fmt.Sprintf("beside %d others", steady), func(t *testing.T) {
			q := raceQueue(t, s, "q"+strconv.Itoa(steady), spool.Meta{})
			returned := 0
			for round := range fewer(10_000) {
				ctx, cancel := context.WithCancel(context.Background())
				got := make(chan *spool.Delivery, 1+steady)
				var all sync.WaitGroup
				ready := make(chan struct{}, 1)
				all.Go(func() {
					ready <- struct{}{}
					d, err := q.Receive(ctx, spool.Wait(time.Minute))
					if err == nil {
						got <- d
					} else if !errors.Is(err, context.Canceled) {
						t.Errorf("round %d: %v", round, err)
					}
				})
				<-ready
				other, stop := context.WithCancel(context.Background())
				for range steady {
					all.Go(func() {
						if d, err := q.Receive(other, spool.Wait(time.Minute)); err == nil {
							got <- d
						}
					})
				}
				// The receiver leaves some microseconds after the cancel; the send comes before, during and after that.
				lag := func(n int) {
					for range n {
						_ = ctx.Err()
					}
				}
				var gate atomic.Bool
				done := make(chan struct{})
				go func() {
					defer close(done)
					gate.Store(true)
					for gate.Load() {
						runtime.Gosched()
					}
					lag(round % 16 * 20)
					cancel()
				}()
				for !gate.Load() {
					runtime.Gosched()
				}
				gate.Store(false)
				lag(round / 16 % 32 * 400)
				if _, err := q.Send(context.Background(), spool.Message{Body: []byte("x")}); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
				<-done
				var d *spool.Delivery
				if steady > 0 { // somebody must get it
					select {
					case d = <-got:
					case <-time.After(10 * time.Second):
						t.Fatalf("round %d: a receiver waits beside a message: %+v", round, raceAttributes(t, q))
					}
				}
				stop()
				all.Wait()
				select {
				case d = <-got:
				default:
				}
				if a := raceAttributes(t, q); d == nil && (a.Active != 1 || a.Inactive != 0) || d != nil && (a.Active != 0 || a.Inactive != 1) {
					t.Fatalf("round %d: returned %v, active %d, inactive %d", round, d != nil, a.Active, a.Inactive)
				}
				if d != nil {
					returned++
				} else {
					var err error
					if d, err = q.Receive(context.Background(), spool.Wait(0)); err != nil {
						t.Fatalf("round %d: %v", round, err)
					}
				}
				if err := d.Delete(context.Background()); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
			}
			t.Logf("returned %d of %d", returned, fewer(10_000))
		})
	}
}

// No two leases on one message overlap, though many lapse; what is deleted never comes again.
func TestLeasesNeverOverlap(t *testing.T) {
	const consumers, visibility = 32, 150 * time.Millisecond
	messages := fewer(100_000)
	s := raceSpool(t)
	q := raceQueue(t, s, "q", spool.Meta{VisibilityTimeout: visibility})
	type lease struct {
		from, to time.Time
		deleted  bool
	}
	leases := make([][]lease, messages)
	locks := make([]sync.Mutex, 256)
	var left atomic.Int64
	left.Store(int64(messages))
	var all sync.WaitGroup
	all.Go(func() {
		for i := 0; i < messages; {
			var batch []spool.Message
			for ; i < messages && len(batch) < 200; i++ {
				batch = append(batch, spool.Message{Body: strconv.AppendInt(nil, int64(i), 10)})
			}
			if _, err := q.SendBatch(context.Background(), batch); err != nil {
				t.Error(err)
				return
			}
		}
	})
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	for c := range consumers {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(c)))
			for left.Load() > 0 && ctx.Err() == nil {
				got, err := q.ReceiveBatch(ctx, 1+rng.IntN(16), spool.Wait(20*time.Millisecond))
				if errors.Is(err, spool.ErrNoMessage) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				for _, d := range got {
					i, _ := strconv.Atoi(string(d.Body))
					l := lease{from: d.VisibleAt.Add(-visibility), to: d.VisibleAt}
					if rng.IntN(20) > 0 { // else let it lapse
						err := d.Delete(ctx)
						l.deleted = err == nil
						if l.deleted {
							left.Add(-1)
						} else if r := failure(err); r != "Expired" && r != "Stale" && r != "Gone" && r != "context.DeadlineExceeded" { // Gone: another deleted it, over 4,096 deletions ago
							t.Errorf("delete of message %d: %v", i, err)
						}
					}
					locks[i%len(locks)].Lock()
					leases[i] = append(leases[i], l)
					locks[i%len(locks)].Unlock()
				}
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		t.Fatalf("%d messages left after a minute: %+v", left.Load(), raceAttributes(t, q))
	}
	lapsed := 0
	for i, ls := range leases {
		slices.SortFunc(ls, func(a, b lease) int { return a.from.Compare(b.from) })
		for j, l := range ls {
			if last := j == len(ls)-1; l.deleted != last {
				t.Fatalf("message %d: delivery %d of %d deleted: %v", i, j+1, len(ls), l.deleted)
			}
			if j > 0 && l.from.Before(ls[j-1].to) {
				t.Fatalf("message %d: leased from %v to %v and from %v to %v", i, ls[j-1].from, ls[j-1].to, l.from, l.to)
			}
		}
		lapsed += len(ls) - 1
	}
	if a := raceAttributes(t, q); a.Active+a.Inactive+a.Delayed+a.Rewindable != 0 || a.Deleted != int64(messages) || a.Received != int64(messages+lapsed) {
		t.Errorf("at rest: %+v, want %d deleted, %d received", a, messages, messages+lapsed)
	}
	t.Logf("%d messages, %d lapsed leases", messages, lapsed)
}

// A delete that races the end of its lease wins or loses: the message is deleted or delivered again, never both and
// never neither.
func TestDeleteRacesLapse(t *testing.T) {
	const messages, deleters = 64, 4
	s := raceSpool(t)
	wins := 0
	for round := range fewer(40) {
		q := raceQueue(t, s, "q"+strconv.Itoa(round), spool.Meta{})
		for range messages {
			if _, err := q.Send(context.Background(), spool.Message{Body: []byte("x")}); err != nil {
				t.Fatal(err)
			}
		}
		var first []*spool.Delivery // one by one: their leases end one after the other
		for range messages {
			d, err := q.Receive(context.Background(), spool.Visibility(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			first = append(first, d)
		}
		for _, d := range first {
			if err := d.Extend(context.Background(), 5*time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		deleted := make([]atomic.Int32, messages)
		var all sync.WaitGroup
		for w := range deleters {
			all.Go(func() {
				for i, d := range first {
					// As near to the deadline as we can, from both sides.
					for time.Until(d.VisibleAt) > time.Duration((i*deleters+w)%12-2)*time.Microsecond {
						runtime.Gosched()
					}
					err := q.Delete(context.Background(), d.Receipt)
					switch r := failure(err); r {
					case "":
						deleted[i].Add(1)
					case "Deleted", "Expired", "Stale":
					default:
						t.Errorf("Delete: %v", err)
					}
				}
			})
		}
		again := map[string]int{}
		all.Go(func() {
			for {
				// The second lease is long: each message comes at most once.
				got, err := q.ReceiveBatch(context.Background(), messages, spool.Wait(30*time.Millisecond), spool.Visibility(time.Hour))
				if err != nil {
					return
				}
				for _, d := range got {
					again[d.ID]++
				}
			}
		})
		all.Wait()
		for i, d := range first {
			if n := int(deleted[i].Load()); n+again[d.ID] != 1 {
				t.Fatalf("round %d: message %d was deleted %d times and delivered again %d times", round, i, n, again[d.ID])
			}
			wins += int(deleted[i].Load())
		}
		if err := s.DeleteQueue(context.Background(), q.Name()); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("deletes won %d of %d", wins, fewer(40)*messages)
}

// A message that has left its queue for the dead-letter queue is there: whoever has seen the one sees the other, also
// when the spool moved it by itself.
func TestMoveIsSeenAtOnce(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) (*spool.Spool, error){
		"memory": func(*testing.T) (*spool.Spool, error) { return spool.OpenMemory() },
		"fsync":  func(t *testing.T) (*spool.Spool, error) { return spool.Open(t.TempDir()) },
	} {
		t.Run(name, func(t *testing.T) {
			s, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			dead := raceQueue(t, s, "dead", spool.Meta{})
			work := raceQueue(t, s, "work", spool.Meta{VisibilityTimeout: time.Millisecond, DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 1}})
			for round := range int64(fewer(300)) {
				if _, err := work.Send(context.Background(), spool.Message{Body: []byte("x")}); err != nil {
					t.Fatal(err)
				}
				if _, err := work.Receive(context.Background(), spool.Wait(0)); err != nil {
					t.Fatal(err)
				}
				if round%2 == 0 { // the spool's own clock comes first
					time.Sleep(time.Millisecond + time.Duration(round)*time.Microsecond)
				}
				for raceAttributes(t, work).Inactive > 0 {
				}
				if a := raceAttributes(t, dead); a.Active != round+1 {
					t.Fatalf("round %d: the message has left its queue, and the dead-letter queue has %d, want %d", round, a.Active, round+1)
				}
			}
		})
	}
}

// Everything at once, then the books are closed and must balance.
func TestHammer(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) (*spool.Spool, error){
		"memory": func(*testing.T) (*spool.Spool, error) { return spool.OpenMemory() },
		"written": func(t *testing.T) (*spool.Spool, error) {
			return spool.Open(t.TempDir(), spool.WithDurability(spool.Written))
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			s, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			hammer(t, s, time.Duration(fewer(1600))*time.Millisecond)
		})
	}
}

// A ledger is what callers know of one queue.
type ledger struct{ sent, received, deleted, restored atomic.Int64 }

func hammer(t *testing.T, s *spool.Spool, d time.Duration) {
	bg := context.Background()
	meta := spool.Meta{VisibilityTimeout: 30 * time.Millisecond, Rewind: time.Hour, Retention: time.Hour}
	dead := raceQueue(t, s, "dead", spool.Meta{VisibilityTimeout: 20 * time.Millisecond})
	chaos := raceQueue(t, s, "chaos", meta)
	meta.DeadLetter = &spool.DeadLetter{Queue: "dead", MaxReceives: 3}
	steady := raceQueue(t, s, "steady", meta)
	queues := []*spool.Queue{steady, chaos, dead}
	books := map[*spool.Queue]*ledger{steady: {}, chaos: {}, dead: {}}

	ctx, stop := context.WithTimeout(bg, d)
	defer stop()
	allowed := func(what string, err error, fails ...string) bool {
		if err != nil && !slices.Contains(append(fails, "context.DeadlineExceeded", "context.Canceled"), failure(err)) && ctx.Err() == nil {
			t.Errorf("%s: %v", what, err)
		}
		return err == nil
	}
	receipts := []string{"Expired", "Stale", "Gone", "Deleted", "WrongQueue"}
	var all sync.WaitGroup
	for g := range 24 {
		rng := rand.New(rand.NewPCG(7, uint64(g)))
		all.Go(func() {
			var held []*spool.Delivery
			for ctx.Err() == nil {
				q := queues[rng.IntN(2)]
				if rng.IntN(6) == 0 {
					q = dead
				}
				b := books[q]
				switch v := rng.IntN(20); {
				case v < 5 && q != dead:
					batch := make([]spool.Message, 1+rng.IntN(8))
					for i := range batch {
						batch[i].Body = []byte("body")
						batch[i].Delay = spool.NoDelay
						if rng.IntN(8) == 0 {
							batch[i].Delay = time.Duration(rng.IntN(int(20 * time.Millisecond)))
						}
						if batch[i].Delay == 0 {
							batch[i].Delay = 1
						}
					}
					if ids, err := q.SendBatch(ctx, batch); allowed("SendBatch", err, "ErrQueueFull") {
						b.sent.Add(int64(len(ids)))
					}
				case v < 11:
					wait := time.Duration(rng.IntN(int(5 * time.Millisecond)))
					if got, err := q.ReceiveBatch(ctx, 1+rng.IntN(8), spool.Wait(wait)); allowed("ReceiveBatch", err, "ErrNoMessage") {
						b.received.Add(int64(len(got)))
						held = append(held, got...)
						for _, d := range got {
							if d.FirstReceivedAt.Before(d.EnqueuedAt) || !d.VisibleAt.After(d.FirstReceivedAt) || d.Receives == 1 && d.VisibleAt.Sub(d.FirstReceivedAt) > 30*time.Millisecond {
								t.Errorf("%s: sent %v, first received %v, leased until %v, receives %d", d.ID, d.EnqueuedAt, d.FirstReceivedAt, d.VisibleAt, d.Receives)
							}
							if o := d.DeadLetter; o != nil && d.EnqueuedAt.Before(o.EnqueuedAt) {
								t.Errorf("%s: moved at %v, sent at %v", d.ID, d.EnqueuedAt, o.EnqueuedAt)
							}
						}
					}
				case v < 16 && len(held) > 0:
					n := min(len(held), 1+rng.IntN(8))
					var rs []string
					for _, d := range held[:n] {
						rs = append(rs, d.Receipt)
					}
					last := held[n-1]
					held = held[n:]
					switch rng.IntN(6) {
					case 0:
						allowed("Extend", last.Extend(ctx, time.Duration(1+rng.IntN(int(50*time.Millisecond)))), receipts...)
					case 1:
						allowed("Release", last.Release(ctx, time.Duration(rng.IntN(int(5*time.Millisecond)))), receipts...)
					default:
						err := q.DeleteBatch(bg, rs)
						var be *spool.BatchError
						if errors.As(err, &be) {
							for _, f := range be.Failed {
								allowed("DeleteBatch", f.Err, receipts...)
							}
							n -= len(be.Failed)
						} else if !allowed("DeleteBatch", err) {
							n = 0
						}
						b.deleted.Add(int64(n))
					}
				case v == 16 && q != dead:
					to := time.Now().Add(-time.Duration(rng.IntN(int(50 * time.Millisecond))))
					if n, err := q.Rewind(ctx, to); allowed("Rewind", err, "ErrRewindDisabled", "ErrInvalidRewindTime") {
						b.restored.Add(n)
					}
				case v == 17:
					switch rng.IntN(4) {
					case 0:
						allowed("Purge", chaos.Purge(ctx))
					case 1:
						allowed("SetMeta", chaos.SetMeta(ctx, func(m *spool.Meta) {
							m.MaxMessages = int64(1 + rng.IntN(1000))
							m.Rewind = time.Duration(rng.IntN(int(time.Second)))
						}))
					case 2:
						_, err := q.Peek(ctx, 10)
						allowed("Peek", err)
					case 3:
						_ = s.Stats()
						allowed("Sync", s.Sync(ctx))
					}
				case v == 18:
					a, err := q.Attributes(ctx)
					if allowed("Attributes", err) && (a.Active < 0 || a.Inactive < 0 || a.Delayed < 0 || a.Rewindable < 0) {
						t.Errorf("negative counters %+v", a)
					}
				case v == 19:
					name := "temp" + strconv.Itoa(rng.IntN(3))
					if rng.IntN(2) == 0 {
						allowed("DeleteQueue", s.DeleteQueue(ctx, name), "ErrQueueNotFound")
						continue
					}
					temp, err := s.OpenQueue(ctx, name, spool.Meta{})
					if allowed("OpenQueue", err, "ErrQueueNotFound") {
						_, err = temp.Send(ctx, spool.Message{Body: []byte("temp")})
						allowed("Send", err, "ErrQueueNotFound")
						_, err = temp.Receive(ctx, spool.Wait(time.Millisecond))
						allowed("Receive", err, "ErrQueueNotFound", "ErrNoMessage")
					}
				}
			}
		})
	}
	all.Wait()

	// Let leases and delays end, then everything is active or rewindable.
	var as [3]spool.Attributes
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		busy := int64(0)
		for i, q := range queues {
			as[i] = raceAttributes(t, q)
			busy += as[i].Inactive + as[i].Delayed
		}
		if busy == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("leases and delays do not end: %+v", as)
		}
	}
	for i, q := range queues {
		b, a := books[q], as[i]
		if a.Sent != b.sent.Load() || a.Received < b.received.Load() || a.Deleted != b.deleted.Load() {
			t.Errorf("%s at rest: sent %d, received %d, deleted %d; callers know of %d, %d, %d", q.Name(), a.Sent, a.Received, a.Deleted, b.sent.Load(), b.received.Load(), b.deleted.Load())
		}
		if a.Received != b.received.Load() {
			t.Errorf("%s: %d were received, %d returned: a delivery was stranded", q.Name(), a.Received, b.received.Load())
		}
	}
	moved := as[2].Active + as[2].Deleted
	b := books[steady]
	if want := b.sent.Load() - b.deleted.Load() + b.restored.Load() - moved; as[0].Active != want {
		t.Errorf("steady has %d active, want %d = %d sent - %d deleted + %d restored - %d moved", as[0].Active, want, b.sent.Load(), b.deleted.Load(), b.restored.Load(), moved)
	}
	if want := b.deleted.Load() - b.restored.Load(); as[0].Rewindable != want {
		t.Errorf("steady has %d rewindable, want %d", as[0].Rewindable, want)
	}
	for i, q := range queues { // what is counted can be had
		n := int64(0)
		for {
			got, err := q.ReceiveBatch(bg, spool.MaxBatch, spool.Visibility(time.Hour), spool.Wait(0))
			if err != nil {
				break
			}
			n += int64(len(got))
		}
		if n != as[i].Active {
			t.Errorf("%s: %d received at the end, %d were active", q.Name(), n, as[i].Active)
		}
	}
	t.Logf("sent %d, received %d, deleted %d, restored %d, moved %d", b.sent.Load(), b.received.Load(), b.deleted.Load(), b.restored.Load(), moved)

	// Close under load.
	for range 8 {
		all.Go(func() {
			for {
				_, err := chaos.Send(bg, spool.Message{Body: []byte("x")})
				if err == nil || errors.Is(err, spool.ErrQueueFull) {
					_, err = chaos.Receive(bg, spool.Wait(time.Minute))
				}
				if errors.Is(err, spool.ErrClosed) {
					return
				}
				if err != nil {
					t.Errorf("during Close: %v", err)
					return
				}
			}
		})
	}
	time.Sleep(5 * time.Millisecond)
	for range 2 {
		all.Go(func() {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	all.Wait()
}

// Receivers are served in the order in which they came.
func TestWaitersInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := raceSpool(t)
		q := raceQueue(t, s, "q", spool.Meta{})
		const n = 50
		served := make(chan int, n)
		for i := range n {
			go func() {
				if _, err := q.Receive(context.Background(), spool.Wait(time.Hour)); err != nil {
					t.Error(err)
				}
				served <- i
			}()
			synctest.Wait()
		}
		for i := range n {
			if _, err := q.Send(context.Background(), spool.Message{Body: []byte("x")}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if len(served) != 1 {
				t.Fatalf("message %d woke %d receivers, want 1", i, len(served))
			}
			if got := <-served; got != i {
				t.Fatalf("message %d went to receiver %d", i, got)
			}
		}
	})
}

// A receive that does not wait finds a message whenever there is one.
func TestNoFalseEmpty(t *testing.T) {
	const consumers = 50
	s := raceSpool(t)
	q := raceQueue(t, s, "q", spool.Meta{})
	batch := make([]spool.Message, consumers)
	for i := range batch {
		batch[i].Body = []byte("x")
	}
	for round := range fewer(1000) {
		if round%2 == 0 {
			if _, err := q.SendBatch(context.Background(), batch); err != nil {
				t.Fatal(err)
			}
		} else { // what comes back at once counts as well
			got, err := q.ReceiveBatch(context.Background(), consumers, spool.Wait(0))
			if err != nil || len(got) != consumers {
				t.Fatalf("round %d: received %d, %v", round, len(got), err)
			}
			for _, d := range got {
				if err := d.Release(context.Background(), 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		begin := make(chan struct{})
		var all sync.WaitGroup
		for range consumers {
			all.Go(func() {
				<-begin
				d, err := q.Receive(context.Background(), spool.Wait(0))
				if err != nil {
					t.Errorf("round %d: %v", round, err)
					return
				}
				if round%2 == 0 {
					err = d.Release(context.Background(), 0)
				} else {
					err = d.Delete(context.Background())
				}
				if err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		close(begin)
		all.Wait()
		if t.Failed() {
			t.Fatalf("%+v", raceAttributes(t, q))
		}
	}
}

// Close ends a hundred receives that wait, and leaves no goroutine.
func TestCloseWakesReceivers(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) (*spool.Spool, error){
		"memory": func(*testing.T) (*spool.Spool, error) { return spool.OpenMemory() },
		"disk":   func(t *testing.T) (*spool.Spool, error) { return spool.Open(t.TempDir()) },
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			s, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			qs := []*spool.Queue{raceQueue(t, s, "a", spool.Meta{}), raceQueue(t, s, "b", spool.Meta{PollingWait: time.Hour})}
			var all, begun sync.WaitGroup
			for i := range 100 {
				begun.Add(1)
				all.Go(func() {
					begun.Done()
					var err error
					switch i % 4 {
					case 0:
						_, err = qs[0].Receive(context.Background(), spool.Wait(time.Hour))
					case 1:
						_, err = qs[1].ReceiveBatch(context.Background(), 10)
					default:
						for _, err = range qs[i%2].Deliveries(context.Background()) {
						}
					}
					if !errors.Is(err, spool.ErrClosed) {
						t.Errorf("receiver %d: %v, want ErrClosed", i, err)
					}
				})
			}
			begun.Wait()
			time.Sleep(5 * time.Millisecond) // most of them wait by now
			before := time.Now()
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			all.Wait()
			if d := time.Since(before); d > 5*time.Second {
				t.Errorf("Close took %v", d)
			}
			if _, err := qs[0].Send(context.Background(), spool.Message{Body: []byte("x")}); !errors.Is(err, spool.ErrClosed) {
				t.Errorf("Send after Close: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("second Close: %v", err)
			}
		})
	}
}
