package limit

import (
	"context"
	"slices"
	"time"

	"github.com/spoolmq/spool/bench/workload"
)

// Channel is an unbuffered Go channel.
func Channel() workload.System {
	return workload.System{Name: "Go channel", Config: "unbuffered", Level: workload.Memory, Batch: 1,
		Open: func(string) (workload.Store, error) { return channel(make(chan []byte)), nil }}
}

type channel chan []byte

func (c channel) Producer(int) (workload.Producer, error) { return c, nil }
func (c channel) Consumer(int) (workload.Consumer, error) { return c, nil }

func (c channel) Try(body []byte) bool {
	select {
	case c <- body:
		return true
	default:
		return false
	}
}

func (c channel) Send(ctx context.Context, bodies [][]byte) error {
	select {
	case c <- slices.Clone(bodies[0]):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c channel) Receive(ctx context.Context, into []workload.Message) (int, error) {
	select {
	case into[0].Body = <-c:
		return 1, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (channel) Delete(context.Context, []workload.Message) error { return nil }

func (channel) Close() error { return nil }

// Timers is a Go timer for each message, and a Go channel from there.
func Timers() workload.System {
	return workload.System{Name: "Go timers", Config: "time.AfterFunc", Level: workload.Memory, Batch: 1024,
		Open: func(string) (workload.Store, error) { return timers{make(chan workload.Message)}, nil }}
}

type timers struct{ fired chan workload.Message }

func (t timers) Producer(int) (workload.Producer, error) { return t, nil }
func (t timers) Consumer(int) (workload.Consumer, error) { return t, nil }

// SendDelayed implements workload.Delayer. A message that nobody receives leaves a goroutine behind.
func (t timers) SendDelayed(_ context.Context, bodies [][]byte, delays []time.Duration) error {
	now := time.Now()
	for i, body := range bodies {
		m := workload.Message{Body: slices.Clone(body), SentAt: now}
		time.AfterFunc(time.Until(now.Add(delays[i])), func() { t.fired <- m })
	}
	return nil
}

func (t timers) Send(ctx context.Context, bodies [][]byte) error {
	return t.SendDelayed(ctx, bodies, make([]time.Duration, len(bodies)))
}

func (t timers) Receive(ctx context.Context, into []workload.Message) (int, error) {
	select {
	case into[0] = <-t.fired:
		return 1, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (timers) Delete(context.Context, []workload.Message) error { return nil }

func (timers) Close() error { return nil }
