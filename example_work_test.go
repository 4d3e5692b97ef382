package spool_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spoolmq/spool"
)

// A pool of workers that shuts down in good order: no worker takes another message once ctx has ended, each finishes
// the one it has in hand, and its Delete does not fail because ctx has ended.
func Example_workerPool() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx, shutdown := context.WithCancel(context.Background()) // in a program: signal.NotifyContext
	defer shutdown()

	const messages = 100
	var handled atomic.Int64
	worker := func() error {
		for d, err := range q.Deliveries(ctx) {
			if err != nil {
				return err
			}
			if handled.Add(1) == messages { // the work would be here
				shutdown()
			}
			if err := d.Delete(context.WithoutCancel(ctx)); err != nil {
				return err
			}
		}
		return nil
	}
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() { check(worker()) })
	}
	for i := range messages {
		_, err := q.Send(context.Background(), spool.Message{Body: fmt.Append(nil, i)})
		check(err)
	}
	workers.Wait()

	a, err := q.Attributes(context.Background())
	check(err)
	fmt.Println("handled", handled.Load(), "left", a.Active+a.Inactive)
	// Output: handled 100 left 0
}

// Work that takes longer than any sensible visibility timeout: a heartbeat extends the lease for as long as the work
// goes on. If the process dies the heartbeat dies with it, and another worker has the message soon. If the lease is
// lost all the same, the work is told to stop.
func Example_heartbeat() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	withHeartbeat := func(ctx context.Context, d *spool.Delivery, lease time.Duration, work func(context.Context) error) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		var beat sync.WaitGroup
		done := make(chan struct{})
		beat.Go(func() {
			tick := time.NewTicker(lease / 3)
			defer tick.Stop()
			for {
				select {
				case <-done:
					return
				case <-tick.C:
					if err := d.Extend(ctx, lease); err != nil {
						cancel(err) // context.Cause says why the work has to stop
						return
					}
				}
			}
		})
		err := work(ctx)
		close(done)
		beat.Wait()
		return err
	}

	_, err := q.Send(ctx, spool.Message{Body: []byte("film")})
	check(err)
	const lease = 2 * time.Second
	d, err := q.Receive(ctx, spool.Visibility(lease))
	check(err)
	err = withHeartbeat(ctx, d, lease, func(ctx context.Context) error {
		fmt.Printf("working on %s\n", d.Body)
		return nil
	})
	check(err)
	fmt.Println(d.Delete(ctx))
	// Output:
	// working on film
	// <nil>
}

// A message that cannot be handled now comes again later, and later still the next time: Receives counts the attempts.
func Example_growingRetryDelays() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	retryAfter := func(receives int) time.Duration { // 10 ms, 20 ms, 40 ms … up to 1 minute
		return min(10*time.Millisecond<<min(receives-1, 20), time.Minute)
	}
	handle := func(d *spool.Delivery) error { // a service that answers at the fourth attempt
		if d.Receives < 4 {
			return errors.New("service is away")
		}
		return nil
	}

	_, err := q.Send(ctx, spool.Message{Body: []byte("call")})
	check(err)
	for {
		d, err := q.Receive(ctx, spool.Wait(time.Minute))
		check(err)
		if err := handle(d); err != nil {
			fmt.Printf("attempt %d: %v, again in %v\n", d.Receives, err, retryAfter(d.Receives))
			check(d.Release(ctx, retryAfter(d.Receives)))
			continue
		}
		fmt.Printf("attempt %d: done\n", d.Receives)
		check(d.Delete(ctx))
		break
	}
	// Output:
	// attempt 1: service is away, again in 10ms
	// attempt 2: service is away, again in 20ms
	// attempt 3: service is away, again in 40ms
	// attempt 4: done
}

// Wait(0) makes Deliveries end when nothing is left to receive now.
func Example_draining() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	for i := range 5 {
		_, err := q.Send(ctx, spool.Message{Body: fmt.Append(nil, i)})
		check(err)
	}
	n := 0
	for d, err := range q.Deliveries(ctx, spool.Wait(0)) {
		check(err)
		check(d.Delete(ctx))
		n++
	}
	fmt.Println("drained", n)
	// Output: drained 5
}

// A message may be delivered more than once: after a lease that ended too early, a crash before Delete, a rewind. Its
// ID is the same each time. What a message does is kept together with its ID, so that doing it again does nothing.
func Example_idempotentConsumer() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	balance := 0
	done := map[string]bool{} // in a program: a table in the same database as the balance, in the same transaction
	credit := func(d *spool.Delivery) {
		if done[d.ID] {
			fmt.Println("seen before")
			return
		}
		balance += 10
		done[d.ID] = true
	}

	_, err := q.Send(ctx, spool.Message{Body: []byte("credit 10")})
	check(err)
	d, err := q.Receive(ctx, spool.Visibility(time.Millisecond))
	check(err)
	credit(d)
	// The worker is too slow, or dies here: its lease ends and the message comes again.
	d, err = q.Receive(ctx, spool.Wait(time.Minute))
	check(err)
	credit(d)
	check(d.Delete(ctx))
	fmt.Println("balance", balance)
	// Output:
	// seen before
	// balance 10
}

// Moving a message to another queue is a Send there and then a Delete here. A crash between the two leaves it in both,
// never in none: the consumer of the other queue has to recognize the second copy. The copy has an ID of its own, so the
// first ID travels with it.
func Example_moveToAnotherQueue() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()
	other, err := s.CreateQueue(ctx, "other", spool.Meta{})
	check(err)

	const origin = "origin-id"
	move := func(d *spool.Delivery, crash bool) {
		attributes := map[string]string{origin: d.ID}
		for k, v := range d.Attributes {
			attributes[k] = v
		}
		_, err := other.Send(ctx, spool.Message{Body: d.Body, Attributes: attributes})
		check(err)
		if !crash {
			check(d.Delete(ctx))
		}
	}

	_, err = q.Send(ctx, spool.Message{Body: []byte("parcel")})
	check(err)
	for _, crash := range []bool{true, false} {
		d, err := q.Receive(ctx, spool.Visibility(time.Minute), spool.Wait(time.Minute))
		check(err)
		move(d, crash)
		if crash {
			check(d.Release(ctx, 0)) // what the end of the lease would do
		}
	}

	seen := map[string]bool{}
	for d, err := range other.Deliveries(ctx, spool.Wait(0)) {
		check(err)
		fmt.Printf("%s, again: %v\n", d.Body, seen[d.Attributes[origin]])
		seen[d.Attributes[origin]] = true
		check(d.Delete(ctx))
	}
	// Output:
	// parcel, again: false
	// parcel, again: true
}

// A message that was delivered MaxReceives times without being deleted is moved to the dead-letter queue, with a note
// on where it comes from.
func Example_deadLetters() {
	s, err := spool.OpenMemory()
	check(err)
	defer s.Close()
	ctx := context.Background()

	dead, err := s.CreateQueue(ctx, "dead", spool.Meta{})
	check(err)
	q, err := s.CreateQueue(ctx, "jobs", spool.Meta{
		DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 2},
	})
	check(err)

	_, err = q.Send(ctx, spool.Message{Body: []byte("poison")})
	check(err)
	for range 2 {
		d, err := q.Receive(ctx)
		check(err)
		check(d.Release(ctx, 0)) // the handler failed; a lease that ends counts as well
	}

	d, err := dead.Receive(ctx, spool.Wait(time.Minute))
	check(err)
	fmt.Printf("%s, from %s after %d deliveries: %s\n", d.Body, d.DeadLetter.Queue, d.DeadLetter.Receives, d.DeadLetter.Reason)
	// Output: poison, from jobs after 2 deliveries: max-receives
}
