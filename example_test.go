package spool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/spoolmq/spool"
)

// newQueue opens a spool in memory with one queue of its own for an example.
func newQueue(meta spool.Meta) (*spool.Spool, *spool.Queue) {
	s, err := spool.OpenMemory()
	check(err)
	q, err := s.CreateQueue(context.Background(), "jobs", meta)
	check(err)
	return s, q
}

// tempDir makes a directory of its own for an example and returns how to remove it.
func tempDir() (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "spool-example-")
	check(err)
	return dir, func() { check(os.RemoveAll(dir)) }
}

// check ends an example at an error that it does not expect.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

// A queue on disk, a message sent, received and deleted. What was sent is still there after a crash; what was received
// and not deleted comes again.
func Example() {
	dir, remove := tempDir()
	defer remove()

	s, err := spool.Open(dir) // one process at a time; everything lies in this directory
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	ctx := context.Background()
	q, err := s.OpenQueue(ctx, "mails", spool.Meta{VisibilityTimeout: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := q.Send(ctx, spool.Message{Body: []byte("welcome")}); err != nil {
		log.Fatal(err) // nil means: on stable storage
	}

	d, err := q.Receive(ctx, spool.Wait(20*time.Second)) // waits until there is one
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, delivered for the %dst time\n", d.Body, d.Receives)
	if err := d.Delete(ctx); err != nil { // within the minute, or it comes again
		log.Fatal(err)
	}
	// Output: welcome, delivered for the 1st time
}

func ExampleOpen() {
	dir, remove := tempDir()
	defer remove()
	ctx := context.Background()

	s, err := spool.Open(dir)
	check(err)
	q, err := s.CreateQueue(ctx, "jobs", spool.Meta{})
	check(err)
	_, err = q.Send(ctx, spool.Message{Body: []byte("outlives the process")})
	check(err)
	check(s.Close())

	s, err = spool.Open(dir)
	check(err)
	defer s.Close()
	q, err = s.Queue("jobs")
	check(err)
	d, err := q.Receive(ctx)
	check(err)
	fmt.Printf("%s\n", d.Body)

	_, err = spool.Open(dir)
	fmt.Println("a second time:", errors.Is(err, spool.ErrLocked))
	// Output:
	// outlives the process
	// a second time: true
}

func ExampleOpenMemory() {
	s, err := spool.OpenMemory() // for tests, and for what need not outlive the process
	check(err)
	defer s.Close()
	ctx := context.Background()
	q, err := s.CreateQueue(ctx, "jobs", spool.Meta{})
	check(err)
	_, err = q.Send(ctx, spool.Message{Body: []byte("hello")})
	check(err)
	d, err := q.Receive(ctx)
	check(err)
	fmt.Printf("%s\n", d.Body)
	// Output: hello
}

func ExampleWithDurability() {
	dir, remove := tempDir()
	defer remove()
	ctx := context.Background()

	// A nil error now means that the message survives the death of the process. A power loss takes at most the last
	// second.
	s, err := spool.Open(dir, spool.WithDurability(spool.Written))
	check(err)
	defer s.Close()
	q, err := s.CreateQueue(ctx, "clicks", spool.Meta{})
	check(err)
	for range 1000 {
		_, err := q.Send(ctx, spool.Message{Body: []byte("click")})
		check(err)
	}
	check(s.Sync(ctx)) // from here on the thousand survive a power loss as well
	a, err := q.Attributes(ctx)
	check(err)
	fmt.Println(a.Active)
	// Output: 1000
}

func ExampleWithDurableReceives() {
	dir, remove := tempDir()
	defer remove()
	ctx := context.Background()

	// Without this option a power loss may undo the latest receives, and their counts with them. With it a message
	// that brings the machine down is counted each time.
	s, err := spool.Open(dir, spool.WithDurableReceives())
	check(err)
	defer s.Close()
	q, err := s.CreateQueue(ctx, "jobs", spool.Meta{})
	check(err)
	_, err = q.Send(ctx, spool.Message{Body: []byte("risky")})
	check(err)
	d, err := q.Receive(ctx)
	check(err)
	fmt.Printf("%s %d\n", d.Body, d.Receives)
	// Output: risky 1
}

func ExampleWithLogger() {
	dir, remove := tempDir()
	defer remove()
	s, err := spool.Open(dir, spool.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))))
	check(err)
	check(s.Close())
	// Output:
}

func ExampleWithMemoryBudget() {
	s, err := spool.OpenMemory(spool.WithMemoryBudget(16 << 20))
	check(err)
	check(s.Close())

	_, err = spool.OpenMemory(spool.WithMemoryBudget(1 << 20))
	fmt.Println("1 MiB:", errors.Is(err, spool.ErrInvalidArgument))
	// Output: 1 MiB: true
}

func ExampleSpool_CreateQueue() {
	s, err := spool.OpenMemory()
	check(err)
	defer s.Close()
	ctx := context.Background()

	q, err := s.CreateQueue(ctx, "Orders", spool.Meta{Rewind: 24 * time.Hour})
	check(err)
	m := q.Meta()
	fmt.Println(m.VisibilityTimeout, m.MaxMessageSize, m.Retention, m.Rewind)

	_, err = s.CreateQueue(ctx, "orders", spool.Meta{})
	fmt.Println("names differ in more than case:", !errors.Is(err, spool.ErrQueueExists))

	_, err = s.CreateQueue(ctx, "parcels", spool.Meta{Retention: time.Hour, Rewind: 2 * time.Hour})
	var wrong *spool.ArgumentError
	fmt.Println("refused:", errors.As(err, &wrong))
	// Output:
	// 30s 65536 96h0m0s 24h0m0s
	// names differ in more than case: false
	// refused: true
}

func ExampleSpool_OpenQueue() {
	s, err := spool.OpenMemory()
	check(err)
	defer s.Close()
	ctx := context.Background()

	for _, visibility := range []time.Duration{time.Minute, time.Hour} {
		q, err := s.OpenQueue(ctx, "jobs", spool.Meta{VisibilityTimeout: visibility})
		check(err)
		fmt.Println(q.Meta().VisibilityTimeout) // the second call finds the queue and leaves it as it is
	}
	// Output:
	// 1m0s
	// 1m0s
}

func ExampleSpool_Queue() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()

	found, err := s.Queue("jobs")
	check(err)
	fmt.Println(found.Name() == q.Name())

	_, err = s.Queue("absent")
	fmt.Println(errors.Is(err, spool.ErrQueueNotFound))
	// Output:
	// true
	// true
}

func ExampleSpool_Queues() {
	s, err := spool.OpenMemory()
	check(err)
	defer s.Close()
	for _, name := range []string{"parcels", "mails", "orders"} {
		_, err := s.CreateQueue(context.Background(), name, spool.Meta{})
		check(err)
	}
	for _, q := range s.Queues() {
		fmt.Println(q.Name())
	}
	// Output:
	// mails
	// orders
	// parcels
}

func ExampleSpool_DeleteQueue() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	check(s.DeleteQueue(ctx, "jobs"))
	_, err := q.Send(ctx, spool.Message{Body: []byte("too late")})
	fmt.Println(errors.Is(err, spool.ErrQueueNotFound))
	// Output: true
}

func ExampleSpool_Sync() {
	dir, remove := tempDir()
	defer remove()
	ctx := context.Background()
	s, err := spool.Open(dir, spool.WithDurability(spool.Written))
	check(err)
	defer s.Close()
	fmt.Println(s.Sync(ctx)) // nil: everything acknowledged so far survives a power loss
	// Output: <nil>
}

func ExampleSpool_Stats() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	_, err := q.Send(context.Background(), spool.Message{Body: []byte("hello")})
	check(err)

	st := s.Stats()
	fmt.Println("queues", st.Queues, "messages", st.Messages)
	fmt.Println("live bytes", st.LiveBytes) // the body, and 64 for the message
	// Output:
	// queues 1 messages 1
	// live bytes 69
}

func ExampleSpool_Close() {
	s, q := newQueue(spool.Meta{})
	check(s.Close())
	check(s.Close()) // once more does nothing

	_, err := q.Receive(context.Background(), spool.Wait(time.Hour))
	fmt.Println(errors.Is(err, spool.ErrClosed))
	// Output: true
}

func ExampleQueue_SetMeta() {
	s, q := newQueue(spool.Meta{PollingWait: 10 * time.Second, Rewind: time.Hour})
	defer s.Close()

	err := q.SetMeta(context.Background(), func(m *spool.Meta) {
		m.VisibilityTimeout = 5 * time.Minute
		m.PollingWait = 0
	})
	check(err)
	m := q.Meta()
	fmt.Println(m.VisibilityTimeout, m.PollingWait, m.Rewind) // what the function leaves alone stays
	// Output: 5m0s 0s 1h0m0s
}

func ExampleQueue_Attributes() {
	s, q := newQueue(spool.Meta{Rewind: time.Hour})
	defer s.Close()
	ctx := context.Background()

	_, err := q.SendBatch(ctx, []spool.Message{
		{Body: []byte("a")}, {Body: []byte("b")}, {Body: []byte("c")},
		{Body: []byte("later"), Delay: 10 * time.Minute},
	})
	check(err)
	d, err := q.Receive(ctx)
	check(err)
	check(d.Delete(ctx))
	_, err = q.Receive(ctx)
	check(err)

	a, err := q.Attributes(ctx)
	check(err)
	fmt.Println("active", a.Active, "inactive", a.Inactive, "delayed", a.Delayed, "rewindable", a.Rewindable)
	fmt.Println("sent", a.Sent, "received", a.Received, "deleted", a.Deleted)
	// Output:
	// active 1 inactive 1 delayed 1 rewindable 1
	// sent 4 received 2 deleted 1
}

func ExampleAttributes() {
	s, q := newQueue(spool.Meta{DeadLetter: nil})
	defer s.Close()
	a, err := q.Attributes(context.Background())
	check(err)
	text, err := json.Marshal(a) // the names and units of CMQ: durations in seconds, times in Unix seconds
	check(err)
	var names map[string]any
	check(json.Unmarshal(text, &names))
	fmt.Println(names["visibilityTimeout"], names["msgRetentionSeconds"], names["activeMsgNum"])
	// Output: 30 345600 0
}

func ExampleQueue_Send() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	_, err := q.Send(ctx, spool.Message{
		Body:       []byte("any bytes"),
		Attributes: map[string]string{"content-type": "text/plain"},
	})
	check(err)
	d, err := q.Receive(ctx)
	check(err)
	fmt.Printf("%s, %s\n", d.Body, d.Attributes["content-type"])

	_, err = q.Send(ctx, spool.Message{Body: make([]byte, 1<<20)})
	fmt.Println("1 MiB:", errors.Is(err, spool.ErrMessageTooLarge))
	// Output:
	// any bytes, text/plain
	// 1 MiB: true
}

func ExampleQueue_Send_delay() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	_, err := q.Send(ctx, spool.Message{Body: []byte("in a moment"), Delay: 500 * time.Millisecond})
	check(err)
	_, err = q.Receive(ctx)
	fmt.Println("at once:", errors.Is(err, spool.ErrNoMessage))
	d, err := q.Receive(ctx, spool.Wait(time.Minute)) // returns when the delay is over
	check(err)
	fmt.Printf("%s\n", d.Body)
	// Output:
	// at once: true
	// in a moment
}

func ExampleNoDelay() {
	s, q := newQueue(spool.Meta{Delay: time.Hour}) // the delay of a message that names none
	defer s.Close()
	ctx := context.Background()

	_, err := q.Send(ctx, spool.Message{Body: []byte("urgent"), Delay: spool.NoDelay})
	check(err)
	d, err := q.Receive(ctx)
	check(err)
	fmt.Printf("%s\n", d.Body)
	// Output: urgent
}

func ExampleQueue_SendBatch() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	ids, err := q.SendBatch(ctx, []spool.Message{
		{Body: []byte("first")},
		{Body: []byte("second"), Delay: time.Hour}, // each has a delay of its own
		{Body: []byte("third")},
	})
	check(err)
	fmt.Println(len(ids), "stored")

	_, err = q.SendBatch(ctx, []spool.Message{{Body: []byte("good")}, {Body: nil}})
	fmt.Println("all or nothing:", errors.Is(err, spool.ErrInvalidArgument))
	a, err := q.Attributes(ctx)
	check(err)
	fmt.Println(a.Active, a.Delayed)
	// Output:
	// 3 stored
	// all or nothing: true
	// 2 1
}

func ExampleQueue_Receive() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	_, err := q.Receive(ctx)
	if errors.Is(err, spool.ErrNoMessage) {
		fmt.Println("nothing there")
	}
	go func() {
		_, err := q.Send(ctx, spool.Message{Body: []byte("good morning")})
		check(err)
	}()
	d, err := q.Receive(ctx, spool.Wait(time.Minute)) // returns as soon as the message is there
	check(err)
	fmt.Printf("%s\n", d.Body)
	// Output:
	// nothing there
	// good morning
}

func ExampleQueue_ReceiveBatch() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	for i := range 3 {
		_, err := q.Send(ctx, spool.Message{Body: fmt.Append(nil, i)})
		check(err)
	}
	ds, err := q.ReceiveBatch(ctx, 16, spool.Wait(time.Minute)) // takes what is there, never waits to fill
	check(err)
	for _, d := range ds {
		fmt.Printf("%s ", d.Body)
	}
	// Output: 0 1 2
}

func ExampleQueue_Deliveries() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	for i := range 3 {
		_, err := q.Send(ctx, spool.Message{Body: fmt.Append(nil, i)})
		check(err)
	}
	for d, err := range q.Deliveries(ctx) { // waits for more, until ctx ends
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", d.Body)
		check(d.Delete(context.WithoutCancel(ctx)))
		if string(d.Body) == "2" {
			cancel()
		}
	}
	// Output:
	// 0
	// 1
	// 2
}

func ExampleQueue_Delete() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	_, err := q.Send(ctx, spool.Message{Body: []byte("once")})
	check(err)
	d, err := q.Receive(ctx)
	check(err)
	receipt := d.Receipt // a string: it can be kept, and sent to another program that asks for the deletion

	check(q.Delete(ctx, receipt))
	err = q.Delete(ctx, receipt)
	var why *spool.ReceiptError
	if errors.As(err, &why) {
		fmt.Println(why.Reason == spool.Deleted)
	}
	// Output: true
}

func ExampleQueue_DeleteBatch() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	_, err := q.SendBatch(ctx, []spool.Message{{Body: []byte("a")}, {Body: []byte("b")}})
	check(err)
	ds, err := q.ReceiveBatch(ctx, 2)
	check(err)

	err = q.DeleteBatch(ctx, []string{ds[0].Receipt, "not a receipt", ds[1].Receipt})
	var partial *spool.BatchError
	if errors.As(err, &partial) {
		for _, f := range partial.Failed { // the others are deleted
			fmt.Println(f.Index, errors.Is(f.Err, spool.ErrInvalidReceipt))
		}
	}
	// Output: 1 true
}

func ExampleQueue_ChangeVisibility() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	_, err := q.Send(ctx, spool.Message{Body: []byte("long work")})
	check(err)
	d, err := q.Receive(ctx)
	check(err)
	check(q.ChangeVisibility(ctx, d.Receipt, time.Hour)) // ends an hour from now; the receipt stays
	check(q.ChangeVisibility(ctx, d.Receipt, 0))         // given back: visible at once, the receipt is void

	d, err = q.Receive(ctx)
	check(err)
	fmt.Printf("%s, delivery %d\n", d.Body, d.Receives)
	// Output: long work, delivery 2
}

func ExampleQueue_Rewind() {
	s, q := newQueue(spool.Meta{Rewind: 24 * time.Hour})
	defer s.Close()
	ctx := context.Background()

	for _, body := range []string{"a", "b", "c"} {
		_, err := q.Send(ctx, spool.Message{Body: []byte(body)})
		check(err)
	}
	ds, err := q.ReceiveBatch(ctx, 3)
	check(err)
	for _, d := range ds {
		check(d.Delete(ctx))
	}

	restored, err := q.Rewind(ctx, ds[0].EnqueuedAt) // what was sent from then on, whenever it was deleted
	check(err)
	fmt.Println(restored, "restored")
	ds, err = q.ReceiveBatch(ctx, 3)
	check(err)
	for _, d := range ds {
		fmt.Printf("%s: delivery %d after rewind %d\n", d.Body, d.Receives, d.Rewinds)
	}
	// Output:
	// 3 restored
	// a: delivery 1 after rewind 1
	// b: delivery 1 after rewind 1
	// c: delivery 1 after rewind 1
}

func ExampleQueue_RewindPreview() {
	s, q := newQueue(spool.Meta{Rewind: 24 * time.Hour})
	defer s.Close()
	ctx := context.Background()

	_, err := q.Send(ctx, spool.Message{Body: []byte("a")})
	check(err)
	d, err := q.Receive(ctx)
	check(err)
	check(d.Delete(ctx))
	n, err := q.RewindPreview(ctx, d.EnqueuedAt)
	check(err)
	fmt.Println("would bring back", n)
	// Output: would bring back 1
}

func ExampleQueue_RewindRange() {
	s, q := newQueue(spool.Meta{Rewind: 24 * time.Hour})
	defer s.Close()

	earliest, latest, err := q.RewindRange()
	check(err)
	fmt.Println(latest.Sub(earliest))
	_, err = q.Rewind(context.Background(), earliest.Add(-time.Hour))
	fmt.Println(errors.Is(err, spool.ErrInvalidRewindTime)) // refused, not moved to the nearest allowed time
	// Output:
	// 24h0m0s
	// true
}

func ExampleQueue_Peek() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	_, err := q.SendBatch(ctx, []spool.Message{{Body: []byte("a")}, {Body: []byte("b")}, {Body: []byte("c")}})
	check(err)
	ds, err := q.Peek(ctx, 2) // the oldest, without taking them
	check(err)
	for _, d := range ds {
		fmt.Printf("%s ", d.Body)
	}
	a, err := q.Attributes(ctx)
	check(err)
	fmt.Println("and still active:", a.Active)
	// Output: a b and still active: 3
}

func ExampleQueue_Purge() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	_, err := q.SendBatch(ctx, []spool.Message{{Body: []byte("a")}, {Body: []byte("b"), Delay: time.Hour}})
	check(err)
	check(q.Purge(ctx)) // active, inactive, delayed and rewindable
	a, err := q.Attributes(ctx)
	check(err)
	fmt.Println(a.Active, a.Delayed)
	// Output: 0 0
}

func ExampleWait() {
	s, q := newQueue(spool.Meta{PollingWait: time.Hour}) // what Receive waits when it is not told
	defer s.Close()

	_, err := q.Receive(context.Background(), spool.Wait(0))
	fmt.Println(errors.Is(err, spool.ErrNoMessage))
	// Output: true
}

func ExampleVisibility() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	_, err := q.Send(ctx, spool.Message{Body: []byte("slow")})
	check(err)
	d, err := q.Receive(ctx, spool.Visibility(2*time.Hour))
	check(err)
	fmt.Println(d.VisibleAt.Sub(d.FirstReceivedAt))
	// Output: 2h0m0s
}

func ExampleDelivery_Delete() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	_, err := q.Send(ctx, spool.Message{Body: []byte("short work")})
	check(err)
	d, err := q.Receive(ctx, spool.Visibility(time.Millisecond))
	check(err)
	_, err = q.Receive(ctx, spool.Wait(time.Minute)) // the lease is over: it comes again
	check(err)

	err = d.Delete(ctx) // only the latest receipt deletes
	var why *spool.ReceiptError
	if errors.As(err, &why) {
		fmt.Println(why.Reason == spool.Stale)
	}
	// Output: true
}

func ExampleDelivery_Extend() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	_, err := q.Send(ctx, spool.Message{Body: []byte("long work")})
	check(err)
	d, err := q.Receive(ctx, spool.Visibility(time.Minute))
	check(err)
	check(d.Extend(ctx, time.Hour)) // an hour from now
	fmt.Println(d.VisibleAt.Sub(d.FirstReceivedAt) >= time.Hour)
	check(d.Delete(ctx))
	// Output: true
}

func ExampleDelivery_Release() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	_, err := q.Send(ctx, spool.Message{Body: []byte("try again")})
	check(err)
	d, err := q.Receive(ctx)
	check(err)
	check(d.Release(ctx, 50*time.Millisecond)) // not handled: give it back, for later
	a, err := q.Attributes(ctx)
	check(err)
	fmt.Println("active or delayed:", a.Active+a.Delayed)
	d, err = q.Receive(ctx, spool.Wait(time.Minute))
	check(err)
	fmt.Println("delivery", d.Receives)
	// Output:
	// active or delayed: 1
	// delivery 2
}

func ExampleCodeOf() {
	s, q := newQueue(spool.Meta{})
	defer s.Close()
	ctx := context.Background()

	_, err := q.Receive(ctx)
	fmt.Println(spool.CodeOf(err))
	_, err = s.CreateQueue(ctx, "JOBS", spool.Meta{})
	fmt.Println(spool.CodeOf(err))
	fmt.Println(spool.CodeOf(nil), spool.CodeOf(errors.New("something else")))
	// Output:
	// 7000
	// 4460
	// 0 6000
}
