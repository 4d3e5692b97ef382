// Package subject is what is measured: a spool, used through its public API, as a workload.System.
package subject

import (
	"context"
	"strconv"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/bench/workload"
)

// lease is longer than any run: nothing is to come back by itself.
const lease = time.Hour

// Spool is a spool with its defaults but for the level, the options given and the size of messages.
func Spool(level workload.Level, opts ...spool.Option) workload.System {
	sys := workload.System{Name: "spool", Level: level, Batch: spool.MaxBatch, Queues: true}
	open := spool.Open
	switch level {
	case workload.Memory:
		sys.Config = "OpenMemory"
		open = func(_ string, opts ...spool.Option) (*spool.Spool, error) { return spool.OpenMemory(opts...) }
	case workload.Written:
		sys.Config = "Open, WithDurability(Written)"
		opts = append(opts, spool.WithDurability(spool.Written))
	case workload.Fsync:
		sys.Config = "Open"
	}
	sys.Open = func(dir string) (workload.Store, error) {
		s, err := open(dir, opts...)
		if err != nil {
			return nil, err
		}
		return Store{s}, nil
	}
	return sys
}

// A Store is an open spool. Its queues are named q0, q1 and so on.
type Store struct{ *spool.Spool }

// Numbered opens a queue. It is created with a lease that outlasts the run and without rewind.
func (s Store) Numbered(queue int) (*spool.Queue, error) {
	return s.OpenQueue(context.Background(), "q"+strconv.Itoa(queue), spool.Meta{
		VisibilityTimeout: lease, MaxMessageSize: 16 << 20,
	})
}

// Syncs implements workload.Syncer.
func (s Store) Syncs() int64 { return s.Stats().Fsyncs }

// Waiting implements workload.Waiting.
func (s Store) Waiting() (int, error) { return s.Stats().Waiting, nil }

// Producer implements workload.Store.
func (s Store) Producer(queue int) (workload.Producer, error) {
	q, err := s.Numbered(queue)
	return &producer{q: q}, err
}

// Consumer implements workload.Store.
func (s Store) Consumer(queue int) (workload.Consumer, error) {
	q, err := s.Numbered(queue)
	return &consumer{q: q, wait: spool.Wait(lease)}, err
}

type producer struct {
	q  *spool.Queue
	ms []spool.Message
}

func (p *producer) Send(ctx context.Context, bodies [][]byte) error {
	return p.SendDelayed(ctx, bodies, nil)
}

func (p *producer) SendDelayed(ctx context.Context, bodies [][]byte, delays []time.Duration) error {
	p.ms = p.ms[:0]
	for i, body := range bodies {
		p.ms = append(p.ms, spool.Message{Body: body})
		if delays != nil {
			p.ms[i].Delay = delays[i]
		}
	}
	var err error
	if len(p.ms) == 1 {
		_, err = p.q.Send(ctx, p.ms[0])
	} else {
		_, err = p.q.SendBatch(ctx, p.ms)
	}
	return err
}

func (*producer) Close() error { return nil }

type consumer struct {
	q        *spool.Queue
	wait     spool.ReceiveOption
	receipts []string
}

func (c *consumer) Receive(ctx context.Context, into []workload.Message) (int, error) {
	if len(into) == 1 {
		d, err := c.q.Receive(ctx, c.wait)
		if err != nil {
			return 0, err
		}
		into[0] = message(d)
		return 1, nil
	}
	ds, err := c.q.ReceiveBatch(ctx, len(into), c.wait)
	for i, d := range ds {
		into[i] = message(d)
	}
	return len(ds), err
}

func message(d *spool.Delivery) workload.Message {
	return workload.Message{Body: d.Body, SentAt: d.EnqueuedAt, Handle: d}
}

func (c *consumer) Delete(ctx context.Context, ms []workload.Message) error {
	if len(ms) == 1 {
		return ms[0].Handle.(*spool.Delivery).Delete(ctx)
	}
	c.receipts = c.receipts[:0]
	for _, m := range ms {
		c.receipts = append(c.receipts, m.Handle.(*spool.Delivery).Receipt)
	}
	return c.q.DeleteBatch(ctx, c.receipts)
}

func (*consumer) Close() error { return nil }
