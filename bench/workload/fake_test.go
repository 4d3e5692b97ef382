package workload_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spoolmq/spool/bench/workload"
)

// A fake is a queue in memory that does wrong what it is told to. Opening it again gives what is left in it. A call takes
// a moment of virtual time.
type fake struct {
	change func(body []byte) [][]byte // what is kept of a body that is sent
	forget bool                       // what is deleted comes again when the queue is empty
	syncs  int64                      // what it says it has synced; -1: once for each call

	calls atomic.Int64
	mu    sync.Mutex
	queue [][]byte // guarded by mu
}

func (f *fake) system(level workload.Level) workload.System {
	return workload.System{Name: "fake", Level: level, Batch: 16, Queues: true,
		Open: func(string) (workload.Store, error) { return f, nil }}
}

func (f *fake) Producer(int) (workload.Producer, error) { return f, nil }
func (f *fake) Consumer(int) (workload.Consumer, error) { return f, nil }
func (f *fake) Close() error                            { return nil }

func (f *fake) Syncs() int64 {
	if f.syncs < 0 {
		return f.calls.Load()
	}
	return f.syncs
}

const moment = 10 * time.Microsecond

func (f *fake) Send(_ context.Context, bodies [][]byte) error {
	time.Sleep(moment)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls.Add(1)
	for _, body := range bodies {
		kept := [][]byte{slices.Clone(body)}
		if f.change != nil {
			kept = f.change(kept[0])
		}
		f.queue = append(f.queue, kept...)
	}
	return nil
}

// SendDelayed sends at once what is delayed by less than a second, which is too early, and the rest in time.
func (f *fake) SendDelayed(ctx context.Context, bodies [][]byte, delays []time.Duration) error {
	for i, body := range bodies {
		if delays[i] < time.Second {
			if err := f.Send(ctx, [][]byte{body}); err != nil {
				return err
			}
			continue
		}
		time.AfterFunc(delays[i], func() { _ = f.Send(ctx, [][]byte{body}) })
	}
	return nil
}

func (f *fake) Receive(ctx context.Context, into []workload.Message) (int, error) {
	for {
		f.mu.Lock()
		n := min(len(into), len(f.queue))
		for i := range n {
			into[i] = workload.Message{Body: f.queue[i]}
		}
		f.queue = f.queue[n:]
		f.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func (f *fake) Delete(_ context.Context, ms []workload.Message) error {
	time.Sleep(moment)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls.Add(1)
	if f.forget && len(f.queue) == 0 {
		f.queue = append(f.queue, ms[0].Body)
	}
	return nil
}

// A greedy fake gives messages to the first of its open consumers only.
type greedy struct {
	*fake
	open atomic.Int64
}

func (g *greedy) system() workload.System {
	sys := g.fake.system(workload.Fsync)
	sys.Open = func(string) (workload.Store, error) { return g, nil }
	return sys
}

func (g *greedy) Consumer(int) (workload.Consumer, error) {
	return greedyEnd{g.fake, g, g.open.Add(1) == 1}, nil
}

type greedyEnd struct {
	*fake
	from  *greedy
	first bool
}

func (e greedyEnd) Receive(ctx context.Context, into []workload.Message) (int, error) {
	if !e.first {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return e.fake.Receive(ctx, into)
}

func (e greedyEnd) Close() error {
	e.from.open.Add(-1)
	return nil
}

// A crowd says that two receivers are blocked, where there is one.
type crowd struct{ *fake }

func (crowd) Waiting() (int, error) {
	time.Sleep(time.Second)
	return 2, nil
}
