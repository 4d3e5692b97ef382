package workload

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Lateness tells when delayed messages came. A message is due when its delay is over, counted from when the store took
// it. If the store does not say when that was, it counts from the start of the send.
type Lateness struct {
	Late  []time.Duration // after the message was due; of each message
	Early int             // messages that came before their delay was over, counted from the start of the send
}

// Delays sends n messages with random delays between from and to, in one go, and has consumers wait for them.
func Delays(ctx context.Context, st Store, n, batch, consumers int, from, to time.Duration) (Lateness, error) {
	p, err := st.Producer(0)
	if err != nil {
		return Lateness{}, err
	}
	defer p.Close()
	delayer, ok := p.(Delayer)
	if !ok {
		return Lateness{}, ErrCannot
	}
	d := &delayed{book: NewBook(1, 100), delays: make([]time.Duration, n), started: make([]atomic.Int64, n), begun: time.Now()}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range d.delays {
		d.delays[i] = from + time.Duration(random.Int64N(int64(to-from)))
	}
	jobs := []job{func(ctx context.Context, _ *meter) error { return d.send(ctx, delayer, batch) }}
	for range consumers {
		c, err := st.Consumer(0)
		if err != nil {
			return Lateness{}, err
		}
		defer c.Close()
		jobs = append(jobs, func(ctx context.Context, _ *meter) error { return d.receive(ctx, c, batch) })
	}
	ctx, cancel := context.WithTimeoutCause(ctx, to+patience, errStalled)
	defer cancel()
	_, err = together(ctx, 0, 0, jobs)
	return d.result, errors.Join(err, d.book.Missing())
}

type delayed struct {
	book    *Book
	delays  []time.Duration // by number; immutable
	begun   time.Time
	started []atomic.Int64 // by number: ns from begun to the start of the send

	mu     sync.Mutex
	result Lateness // guarded by mu
}

func (d *delayed) send(ctx context.Context, p Delayer, batch int) error {
	for at := 0; at < len(d.delays); at += batch {
		end := min(at+batch, len(d.delays))
		var bodies [][]byte
		for range d.delays[at:end] {
			body := make([]byte, d.book.size)
			d.book.Fill(0, body)
			bodies = append(bodies, body)
		}
		started := int64(time.Since(d.begun))
		for i := at; i < end; i++ {
			d.started[i].Store(started)
		}
		if err := p.SendDelayed(ctx, bodies, d.delays[at:end]); err != nil {
			return err
		}
	}
	return nil
}

func (d *delayed) receive(ctx context.Context, c Consumer, batch int) error {
	into := make([]Message, batch)
	for {
		n, err := c.Receive(ctx, into)
		at := time.Now()
		if err != nil {
			return err
		}
		if err := d.note(into[:n], at); err != nil {
			return err
		}
		if err := c.Delete(context.WithoutCancel(ctx), into[:n]); err != nil {
			return err
		}
		if d.book.Taken() == int64(len(d.delays)) {
			return errFinished
		}
	}
}

// note keeps how late messages are that were received at an instant.
func (d *delayed) note(ms []Message, at time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range ms {
		if err := d.book.Take(m.Body); err != nil {
			return err
		}
		number := Number(m.Body)
		started := d.begun.Add(time.Duration(d.started[number].Load()))
		if at.Sub(started) < d.delays[number] {
			d.result.Early++
		}
		if m.SentAt.IsZero() {
			m.SentAt = started
		}
		d.result.Late = append(d.result.Late, at.Sub(m.SentAt)-d.delays[number])
	}
	return nil
}
