package workload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// patience is how long nothing may happen before a run is given up: a message that must be there does not come.
const patience = 30 * time.Second

var (
	errFinished = errors.New("finished")
	errStalled  = fmt.Errorf("nothing has happened for %v", patience)
)

// A job is what one goroutine does until it is done or ctx ends. errFinished ends the other jobs as well, without being a
// failure.
type job func(ctx context.Context, m *meter) error

// A meter counts what one goroutine got acknowledged. Calls that end in the warm-up do not count.
type meter struct {
	from, until time.Time // what is measured
	at          time.Time // the end of the last call
	last        time.Time // the same, of a call that counts
	n           int64
	calls       Latencies
	quiet       bool // nothing of it counts
}

// acknowledged counts a call that ends now and was about n messages.
func (m *meter) acknowledged(n int) {
	now := time.Now()
	if !m.quiet && now.After(m.from) {
		m.n += int64(n)
		m.calls.Add(now.Sub(m.at))
		m.last = now
	}
	m.at = now
}

// over tells whether the time to be measured has passed.
func (m *meter) over() bool { return !m.at.Before(m.until) }

// passed tells whether so much time has passed since an instant; never, if that is 0.
func (m *meter) passed(since time.Time, long time.Duration) bool {
	return long > 0 && m.at.Sub(since) >= long
}

// together starts jobs at the same moment, waits for them and sums up what their meters counted.
func together(ctx context.Context, warm, measured time.Duration, jobs []job) (Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	from := time.Now().Add(warm)
	meters := make([]*meter, len(jobs))
	errs := make([]error, len(jobs))
	var all sync.WaitGroup
	for i, work := range jobs {
		m := &meter{from: from, until: from.Add(measured), at: time.Now()}
		meters[i] = m
		all.Go(func() {
			err := work(ctx, m)
			if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return // cut off
			}
			if err != nil {
				cancel(err)
			}
			if !errors.Is(err, errFinished) {
				errs[i] = err
			}
		})
	}
	all.Wait()
	r, last := Result{}, from
	for _, m := range meters {
		r.Messages += m.n
		r.Calls.Merge(&m.calls)
		if m.last.After(last) {
			last = m.last
		}
	}
	r.Took = last.Sub(from)
	err := errors.Join(errs...)
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, errFinished) {
		err = cause
	}
	return r, err
}
