package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/spoolmq/spool"
)

func longPoll(queue *string) *sqs.ReceiveMessageInput {
	return &sqs.ReceiveMessageInput{QueueUrl: queue, WaitTimeSeconds: 20}
}

func TestLongPoll(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", map[string]string{"ReceiveMessageWaitTimeSeconds": "20"})
	got := make(chan string)
	for _, in := range []*sqs.ReceiveMessageInput{longPoll(jobs), {QueueUrl: jobs}} { // the queue's own wait, too
		go func() {
			out, err := s.ReceiveMessage(t.Context(), in)
			if err != nil || len(out.Messages) != 1 {
				got <- fmt.Sprint(out, err)
				return
			}
			got <- *out.Messages[0].Body
		}()
		s.waiting(1)
		start := time.Now()
		s.send(jobs, "x")
		if body := arrives(t, got, "message"); body != "x" || time.Since(start) > 10*time.Second {
			t.Errorf("a waiting receive got %q after %v", body, time.Since(start))
		}
	}
	start := time.Now()
	out, err := s.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: jobs, WaitTimeSeconds: 1})
	if took := time.Since(start); err != nil || len(out.Messages) != 0 || took < time.Second {
		t.Errorf("a wait of 1 s on an empty queue: %v, %v after %v", out, err, took)
	}
}

// A client that goes away while it waits takes nothing with it.
func TestCancelledPoll(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := s.ReceiveMessage(ctx, longPoll(jobs))
		ended <- err
	}()
	s.waiting(1)
	start := time.Now()
	cancel()
	if err := arrives(t, ended, "end of the poll"); !errors.Is(err, context.Canceled) {
		t.Errorf("the poll ended with %v", err)
	}
	if s.waiting(0); time.Since(start) > 10*time.Second {
		t.Errorf("the poll went on for %v without its client", time.Since(start))
	}
	s.send(jobs, "x")
	if m := s.receiveOne(jobs); m.Attributes["ApproximateReceiveCount"] != "1" {
		t.Errorf("the message was received before: %v", m.Attributes)
	}
}

// Clients that go away at the moment of a send: every message is with a client or comes again, and none waits for more than
// a lease.
func TestCancelRace(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", map[string]string{"VisibilityTimeout": "1"})
	got := map[string]bool{}
	keep := func(ms []types.Message) {
		for _, m := range ms {
			if got[*m.Body] {
				t.Errorf("%s came again after it was deleted", *m.Body)
			}
			got[*m.Body] = true
			s.delete(jobs, m)
		}
	}
	take := func(wait int32) {
		for {
			out, err := s.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: jobs, MaxNumberOfMessages: 10, WaitTimeSeconds: wait})
			check(t, err)
			if len(out.Messages) == 0 {
				return
			}
			keep(out.Messages)
		}
	}
	const rounds = 200
	inTime := 0
	for i := range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		out := make(chan []types.Message, 1)
		go func() {
			o, err := s.ReceiveMessage(ctx, longPoll(jobs))
			if err != nil {
				out <- nil
				return
			}
			out <- o.Messages
		}()
		until(t, func() bool { return s.spool.Stats().Waiting == 1 || len(out) == 1 }, "receive that waits or has ended")
		turns := rnd.IntN(3000)
		go func() {
			for range turns {
				runtime.Gosched()
			}
			cancel()
		}()
		s.send(jobs, fmt.Sprint(i))
		ms := arrives(t, out, "end of the poll")
		inTime += len(ms)
		keep(ms)
		cancel()
		s.waiting(0)
		take(0)
	}
	take(3) // longer than a lease
	if len(got) != rounds {
		t.Errorf("%d of %d messages came", len(got), rounds)
	}
	t.Logf("%d messages came before the client went away", inTime)
}

// 500 polls wait, on a spool on disk that syncs each send. Each send wakes one of them.
func TestManyPolls(t *testing.T) {
	const polls = 500
	sends := 500
	if testing.Short() {
		sends = 50
	}
	s := newSite(t, func(o *siteOptions) { o.dir = t.TempDir() }, nil)
	jobs := s.create("jobs", nil)
	type arrival struct {
		body string
		at   time.Time
	}
	arrivals := make(chan arrival, polls)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var failures atomic.Int64
	for range polls {
		wg.Go(func() {
			for ctx.Err() == nil {
				out, err := s.ReceiveMessage(ctx, longPoll(jobs))
				at := time.Now()
				if err != nil && ctx.Err() == nil || err == nil && len(out.Messages) > 1 {
					failures.Add(1)
				}
				if err == nil && len(out.Messages) > 0 {
					arrivals <- arrival{*out.Messages[0].Body, at}
				}
			}
		})
	}
	var took, alone, later []time.Duration
	for i := range sends {
		s.waiting(polls)
		body := fmt.Sprint(i)
		start := time.Now()
		s.send(jobs, body)
		stored := time.Now()
		a := arrives(t, arrivals, "message")
		took, alone, later = append(took, a.at.Sub(start)), append(alone, stored.Sub(start)), append(later, max(0, a.at.Sub(stored)))
		if a.body != body {
			t.Fatalf("message %s came, want %s", a.body, body)
		}
	}
	s.waiting(polls)
	if n := len(arrivals); n != 0 || failures.Load() != 0 {
		t.Errorf("%d messages came twice, %d polls failed", n, failures.Load())
	}
	q, err := s.spool.Queue("jobs")
	check(t, err)
	if a, err := q.Attributes(t.Context()); err != nil || a.Received != int64(sends) {
		t.Errorf("%d receives of %d messages, %v", a.Received, sends, err)
	}
	cancel()
	wg.Wait()
	p50, p99 := percentiles(took)
	s50, s99 := percentiles(alone)
	_, l99 := percentiles(later)
	t.Logf("%d polls wait, %d sends: from the start of a send to the end of a poll p50 %v, p99 %v; to the end of the send p50 %v, p99 %v; "+
		"the poll later than the send p99 %v", polls, sends, p50, p99, s50, s99, l99)
	if p99 > time.Second {
		t.Errorf("p99 is %v", p99)
	}
}

func percentiles(ds []time.Duration) (p50, p99 time.Duration) {
	slices.Sort(ds)
	return ds[len(ds)/2], ds[len(ds)*99/100]
}

// A shutdown answers the polls that wait, and those that come while it goes on, with a success.
func TestShutdown(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", nil)
	const polls = 20
	ended := make(chan error, polls)
	for range polls {
		go func() {
			out, err := s.ReceiveMessage(t.Context(), longPoll(jobs))
			if err == nil && len(out.Messages) != 0 {
				err = errors.New("a message from nowhere")
			}
			ended <- err
		}()
	}
	s.waiting(polls)
	start := time.Now()
	check(t, s.stop())
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the shutdown took %v", took)
	}
	for range polls {
		if err := arrives(t, ended, "answer to a poll"); err != nil {
			t.Errorf("a poll that waited ended with %v", err)
		}
	}
	q, err := s.spool.Queue("jobs")
	check(t, err)
	if _, err := q.Send(t.Context(), spool.Message{Body: []byte("late")}); err != nil {
		t.Errorf("the spool is closed with the server: %v", err)
	}
}

// After Drain nothing is handed out any more.
func TestDrained(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", nil)
	s.send(jobs, "x")
	s.sqs.Drain()
	out, err := s.ReceiveMessage(t.Context(), longPoll(jobs))
	if err != nil || len(out.Messages) != 0 {
		t.Errorf("after Drain a receive answers %v, %v", out, err)
	}
	if n := s.attributes(jobs, "All")["ApproximateNumberOfMessages"]; n != "1" {
		t.Errorf("%s messages are there, want 1", n)
	}
}
