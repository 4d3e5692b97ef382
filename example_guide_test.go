package spool_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spoolmq/spool"
)

// The code of docs/guide.md. TestSnippets holds the two together.

func Example_guideCreate() {
	dir, remove := tempDir()
	defer remove()

	ctx := context.Background()
	s, err := spool.Open(dir)
	check(err)
	defer s.Close()

	q, err := s.OpenQueue(ctx, "orders", spool.Meta{
		PollingWait:       20 * time.Second, // how long Receive waits for a message
		VisibilityTimeout: 30 * time.Second, // how long a received message is hidden from others
		MaxMessageSize:    256 << 10,
		Retention:         24 * time.Hour, // from the send on, whatever happens to the message
		Rewind:            24 * time.Hour, // deleted messages can be brought back for that long
	})
	check(err)

	a, err := q.Attributes(ctx)
	check(err)
	fmt.Println(a.Active, a.Inactive, a.Delayed, a.Rewindable)

	err = q.SetMeta(ctx, func(m *spool.Meta) { m.VisibilityTimeout = time.Minute })
	check(err)

	fmt.Println(q.Meta().VisibilityTimeout, q.Meta().Rewind)
	// Output:
	// 0 0 0 0
	// 1m0s 24h0m0s
}

func Example_guideProduce() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	id, err := q.Send(ctx, spool.Message{Body: []byte("order 1")})
	check(err)

	ids, err := q.SendBatch(ctx, []spool.Message{
		{Body: []byte("order 2")},
		{Body: []byte("order 3"), Attributes: map[string]string{"country": "PT"}},
	})
	check(err)

	fmt.Println(id != "" && len(ids) == 2)
	// Output: true
}

func Example_guideConsume() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()
	_, err := q.Send(ctx, spool.Message{Body: []byte("order 1")})
	check(err)
	bill := func(id string, body []byte) error { fmt.Printf("billing %s\n", body); return nil }

	d, err := q.Receive(ctx, spool.Wait(20*time.Second))
	switch {
	case errors.Is(err, spool.ErrNoMessage):
		return // nothing came; ask again
	case err != nil:
		check(err)
	}
	if err := bill(d.ID, d.Body); err != nil {
		check(d.Release(ctx, 10*time.Second)) // not now: it comes again in ten seconds
		return
	}
	check(d.Delete(ctx)) // done: it does not come again

	// Output: billing order 1
}

func Example_guideConsumeBatch() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()
	for i := range 3 {
		_, err := q.Send(ctx, spool.Message{Body: fmt.Append(nil, "order ", i+1)})
		check(err)
	}

	ds, err := q.ReceiveBatch(ctx, 16, spool.Wait(20*time.Second))
	check(err)
	receipts := make([]string, len(ds)) // 3 are there, so 3 come, at once
	for i, d := range ds {
		receipts[i] = d.Receipt
	}
	check(q.DeleteBatch(ctx, receipts))

	fmt.Println(len(ds))
	// Output: 3
}

func Example_guideConsumeOnce() {
	s, err := spool.OpenMemory()
	check(err)
	defer s.Close()
	ctx := context.Background()

	q, err := s.CreateQueue(ctx, "ticks", spool.Meta{
		Retention:         time.Hour,
		VisibilityTimeout: 2 * time.Hour, // longer than a message lives
	})
	check(err)
	_, err = q.Send(ctx, spool.Message{Body: []byte("tick")})
	check(err)
	d, err := q.Receive(ctx) // nobody gets it again, deleted or not
	check(err)

	fmt.Println(d.VisibleAt.After(d.EnqueuedAt.Add(time.Hour)))
	// Output: true
}

func Example_guideRewind() {
	s, q := newQueue(spool.Meta{Rewind: 24 * time.Hour})
	defer s.Close()
	ctx := context.Background()

	// A produces. B is not there yet: a backlog.
	for i := range 4 {
		_, err := q.Send(ctx, spool.Message{Body: fmt.Append(nil, "order ", i+1)})
		check(err)
	}

	type bill struct {
		enqueuedAt time.Time // of the order
		right      bool
	}
	bills := map[string]bill{} // B's own records, by message ID
	consume := func(right func() bool) {
		for d, err := range q.Deliveries(ctx, spool.Wait(0)) {
			check(err)
			bills[d.ID] = bill{d.EnqueuedAt, right()}
			check(d.Delete(ctx))
		}
	}

	// B consumes, and after two orders goes wrong.
	var wentWrong time.Time
	consume(func() bool {
		if len(bills) == 2 {
			wentWrong = time.Now()
		}
		return len(bills) < 2
	})

	// B is mended, and looks for the earliest order that it billed wrongly.
	var from time.Time
	for _, b := range bills {
		if !b.right && (from.IsZero() || b.enqueuedAt.Before(from)) {
			from = b.enqueuedAt
		}
	}
	fmt.Println("that order was sent before things went wrong:", from.Before(wentWrong))

	restored, err := q.Rewind(ctx, from)
	check(err)
	consume(func() bool { return true })

	fmt.Println("handled again:", restored)
	for _, b := range bills {
		if !b.right {
			fmt.Println("still wrong")
		}
	}
	// Output:
	// that order was sent before things went wrong: true
	// handled again: 2
}

func Example_guideDelay() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	_, err := q.Send(ctx, spool.Message{Body: []byte("remind me"), Delay: 600 * time.Second})
	check(err)
	a, err := q.Attributes(ctx)
	check(err)
	fmt.Println("delayed:", a.Delayed, "active:", a.Active)

	// Output: delayed: 1 active: 0
}

func Example_guideRetry() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()
	_, err := q.Send(ctx, spool.Message{Body: []byte("call")})
	check(err)
	call := func([]byte) error { return errors.New("no answer") }

	d, err := q.Receive(ctx, spool.Wait(20*time.Second))
	check(err)
	if err := call(d.Body); err != nil {
		after := min(time.Second<<min(d.Receives-1, 30), 15*time.Minute) // 1 s, 2 s, 4 s … 15 min
		check(d.Release(ctx, after))
	}

	a, err := q.Attributes(ctx)
	check(err)
	fmt.Println("delayed:", a.Delayed)
	// Output: delayed: 1
}
