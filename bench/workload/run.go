package workload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// ErrCannot is what a load answers that a system has no means for. It is no failure.
var ErrCannot = errors.New("not possible with this system")

const (
	helpers   = 8   // producers and consumers that store and read back what is not measured
	bulk      = 256 // messages in their calls, if the system has batches
	afterward = 50 * time.Millisecond

	// stocking is how many times its Bound a system may store what it is to drain: some store little faster.
	stocking = 2
)

// Send measures producers alone: a message counts when its Send has returned. What was sent is read back from the store
// after that was closed and opened again.
func Send(ctx context.Context, sys System, dir string, l Load) (Result, error) {
	return measure(ctx, sys, dir, l, sys.Open, func(r *run) error {
		return errors.Join(r.phase(l, r.produce(l, false, (*meter).over)), r.reopen(sys.quick()))
	})
}

// Drain measures consumers alone, on a backlog that was stored before: a message counts when its Delete has returned.
// The store is closed and opened again in between, so that no body is in its memory.
func Drain(ctx context.Context, sys System, dir string, l Load) (Result, error) {
	return measure(ctx, sys, dir, l, sys.quick(), func(r *run) error {
		if err := errors.Join(r.storeBy(l.Backlog, r.help(), stocking*sys.Bound), r.reopen(sys.Open)); err != nil {
			return err
		}
		before := r.deleted.Load()
		stored := r.book.Sent() - before
		enough := func(m *meter) bool {
			return m.over() && (r.deleted.Load()-before >= int64(l.AtLeast) || r.tired(m, m.from))
		}
		err := r.phase(l, r.consume(l, false, enough))
		r.result.Backlog, r.result.Drained = stored, r.deleted.Load()-before
		switch {
		case err != nil:
			return err
		case !r.finished() && sys.Quick != nil:
			return r.reopen(sys.Quick)
		case r.finished() && r.result.Took < l.Measure:
			return fmt.Errorf("a backlog of %d messages lasted %v after the warm-up, want at least %v",
				min(stored, int64(l.Backlog)), r.result.Took, l.Measure)
		}
		return nil
	})
}

// Through measures producers and consumers together: a message counts when its Delete has returned. When the time is
// over the producers stop, and the consumers go on until nothing is left, or for the system's Bound. A backlog that was
// stored before is part of what they get.
func Through(ctx context.Context, sys System, dir string, l Load) (Result, error) {
	return measure(ctx, sys, dir, l, sys.Open, func(r *run) error {
		if err := r.store(l.Backlog); err != nil {
			return err
		}
		stored := r.book.Sent() - r.deleted.Load()
		enough := func(m *meter) bool { return r.producing.Load() == 0 && r.tired(m, m.until) }
		err := r.phase(l, r.produce(l, true, (*meter).over), r.consume(l, false, enough))
		r.result.Backlog = stored
		return err
	})
}

// A run is one load on one store.
type run struct {
	ctx    context.Context
	sys    System
	dir    string
	load   Load
	book   *Book
	st     Store
	result Result

	producing atomic.Int64 // producers that have not ended
	deleted   atomic.Int64
}

// measure does a part of its own between what all loads begin and end with. The store is opened for it by open.
func measure(ctx context.Context, sys System, dir string, l Load, open opener, part func(*run) error) (Result, error) {
	if err := l.check(sys); err != nil {
		return Result{}, err
	}
	st, err := open(dir)
	if err != nil {
		return Result{}, err
	}
	r := &run{ctx: ctx, sys: sys, dir: dir, load: l, st: st, book: NewBook(max(l.Producers, helpers), l.Size)}
	for _, step := range []func() error{
		func() error { return r.waste(l.Dead) },
		func() error { return part(r) },
		r.readBack, r.nothingLeft, r.durable,
	} {
		if err = step(); err != nil {
			break
		}
	}
	return r.result, errors.Join(err, r.st.Close())
}

// A crew makes jobs. What they need open is closed at the end.
type crew func() ([]job, []io.Closer, error)

// phase lets crews work together on what is measured.
func (r *run) phase(l Load, crews ...crew) error {
	if err := SyncDir(r.dir); err != nil {
		return err
	}
	syncs, flushes := Syncs(r.st), DeviceOf(r.dir).Flushes
	result, err := r.together(l.Warm, l.Measure, crews...)
	result.Syncs, result.Flushes = since(Syncs(r.st), syncs), since(DeviceOf(r.dir).Flushes, flushes)
	r.result = result
	return err
}

func since(now, before int64) int64 {
	if now < 0 {
		return -1
	}
	return now - before
}

func (r *run) together(warm, measured time.Duration, crews ...crew) (result Result, err error) {
	var jobs []job
	for _, open := range crews {
		js, closers, openErr := open()
		defer func() {
			for _, c := range closers {
				err = errors.Join(err, c.Close())
			}
		}()
		if openErr != nil {
			return Result{}, openErr
		}
		jobs = append(jobs, js...)
	}
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	done := make(chan struct{})
	defer close(done)
	go r.watch(done, cancel)
	result, err = together(ctx, warm, measured, jobs)
	if errors.Is(err, errStalled) {
		err = errors.Join(err, r.book.Missing())
	}
	return result, err
}

// watch cancels when nothing moves.
func (r *run) watch(done <-chan struct{}, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(patience)
	defer tick.Stop()
	for before := int64(-1); ; {
		now := r.book.Sent() + r.deleted.Load()
		if now == before {
			cancel(errStalled)
		}
		before = now
		select {
		case <-tick.C:
		case <-done:
			return
		}
	}
}

// produce makes producers that send until it is enough. If there are more queues than producers, each uses its share of
// them in turn.
func (r *run) produce(l Load, quiet bool, enough func(*meter) bool) crew {
	return func() (jobs []job, closers []io.Closer, err error) {
		for i := range l.Producers {
			var own []Producer
			for queue := i % r.load.queues(); queue < r.load.queues(); queue += l.Producers {
				p, err := r.st.Producer(queue)
				if err != nil {
					return nil, closers, err
				}
				closers = append(closers, p)
				own = append(own, p)
			}
			r.producing.Add(1)
			jobs = append(jobs, func(ctx context.Context, m *meter) error {
				m.quiet = quiet
				return r.producer(ctx, m, own, i, l.Batch, enough)
			})
		}
		return jobs, closers, nil
	}
}

func (r *run) producer(ctx context.Context, m *meter, own []Producer, number, batch int, enough func(*meter) bool) error {
	bodies := make([][]byte, batch)
	for i := range bodies {
		bodies[i] = make([]byte, r.load.Size)
	}
	for calls := 0; !enough(m); calls++ {
		for _, body := range bodies {
			r.book.Fill(number, body)
		}
		if err := own[calls%len(own)].Send(ctx, bodies); err != nil {
			return err
		}
		m.acknowledged(batch)
	}
	r.producing.Add(-1)
	return r.verdict()
}

// tired tells whether the system's Bound has passed since an instant.
func (r *run) tired(m *meter, since time.Time) bool { return m.passed(since, r.sys.Bound) }

// consume makes consumers that check off, receive and delete until it is enough, or until nothing is left and nobody
// produces.
func (r *run) consume(l Load, quiet bool, enough func(*meter) bool) crew {
	return func() (jobs []job, closers []io.Closer, err error) {
		for i := range l.Consumers {
			c, err := r.st.Consumer(i % r.load.queues())
			if err != nil {
				return nil, closers, err
			}
			closers = append(closers, c)
			jobs = append(jobs, func(ctx context.Context, m *meter) error {
				m.quiet = quiet
				return r.consumer(ctx, m, c, l.Batch, enough)
			})
		}
		return jobs, closers, nil
	}
}

func (r *run) consumer(ctx context.Context, m *meter, c Consumer, batch int, enough func(*meter) bool) error {
	into := make([]Message, batch)
	for enough == nil || !enough(m) {
		n, err := c.Receive(ctx, into)
		if err != nil {
			return err
		}
		for _, got := range into[:n] {
			if err := r.book.Take(got.Body); err != nil {
				return err
			}
		}
		if err := c.Delete(r.ctx, into[:n]); err != nil {
			return err
		}
		m.acknowledged(n)
		r.deleted.Add(int64(n))
		if err := r.verdict(); err != nil {
			return err
		}
	}
	if r.sys.Bound > 0 {
		return errFinished // what the others wait for may be with this one, fetched ahead
	}
	return nil
}

// verdict ends everything when there is nothing left to do for a consumer.
func (r *run) verdict() error {
	if r.finished() {
		return errFinished
	}
	return nil
}

// finished tells whether everything that was sent has been deleted and nothing more will come.
func (r *run) finished() bool {
	return r.producing.Load() == 0 && r.deleted.Load() == r.book.Sent()
}

func (r *run) reopen(open opener) error {
	if err := r.st.Close(); err != nil {
		return err
	}
	st, err := open(r.dir)
	if err != nil {
		r.st = closed{}
		return err
	}
	r.st = st
	return nil
}

// closed is a store that could not be opened again.
type closed struct{ Store }

func (closed) Close() error { return nil }

// waste leaves space that can be used again: of messages sent and deleted.
func (r *run) waste(n int) error {
	if n == 0 || r.sys.Fresh {
		return nil
	}
	if err := r.store(n); err != nil {
		return err
	}
	return r.readBack()
}

// store sends n messages or some more, fewer if the system's Bound passes.
func (r *run) store(n int) error { return r.storeBy(n, r.help(), r.sys.Bound) }

func (r *run) storeBy(n int, l Load, within time.Duration) error {
	if n == 0 {
		return nil
	}
	want := r.book.Sent() + int64(n)
	_, err := r.together(0, 0, r.produce(l, true, func(m *meter) bool { return r.book.Sent() >= want || m.passed(m.from, within) }))
	return err
}

// readBack receives and deletes what is in the store, and compares it with what was sent.
func (r *run) readBack() error {
	if !r.finished() {
		if _, err := r.together(0, 0, r.consume(r.help(), true, nil)); err != nil {
			return err
		}
	}
	return r.book.Missing()
}

func (r *run) help() Load {
	n := max(helpers, r.load.queues())
	return Load{Producers: helpers, Consumers: n, Batch: min(max(1, r.sys.Batch), bulk)}
}

// nothingLeft looks for messages that should not be there.
func (r *run) nothingLeft() (err error) {
	ctx, cancel := context.WithTimeout(r.ctx, afterward)
	defer cancel()
	c, err := r.st.Consumer(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	into := make([]Message, 1)
	switch n, err := c.Receive(ctx, into); {
	case n > 0:
		return errors.Join(errors.New("a message is left after all have come back"), r.book.Take(into[0].Body))
	case err != nil && ctx.Err() == nil:
		return err
	}
	return nil
}

// durable refuses a result that promises more than was done: calls that share no fsync are as many at a time as there
// are workers.
func (r *run) durable() error {
	n := r.result.Syncs
	if n < 0 {
		n = r.result.Flushes
	}
	groups := r.result.Calls.n / int64(max(1, r.load.Producers, r.load.Consumers))
	if r.sys.Level == Fsync && n >= 0 && n < groups {
		return fmt.Errorf("%d fsyncs for at least %d groups of calls: %s is not as durable as it says", n, groups, r.sys.Name)
	}
	return nil
}

// Syncs is a store's count of its fsyncs, -1 if it has none.
func Syncs(st Store) int64 {
	if s, ok := st.(Syncer); ok {
		return s.Syncs()
	}
	return -1
}
