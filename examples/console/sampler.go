package console

import (
	"context"
	"sync"
	"time"

	"github.com/spoolmq/spool"
)

// A point is what a queue held and had done at an instant.
type point struct {
	at                      time.Time
	active, inactive, delay int64
	sent, received, deleted int64
}

// A sampler keeps the recent past of queues. Bound: maxSampled queues, the first by name, maxPoints points of each.
type sampler struct {
	spool    *spool.Spool
	interval time.Duration

	mu     sync.Mutex
	past   map[string]*past // guarded by mu; by name
	sample chan struct{}    // guarded by mu; closed and replaced with each sample
}

// past is the points of one queue, the oldest first.
type past struct {
	created time.Time // tells a queue from an earlier one of its name
	points  []point
}

func newSampler(s *spool.Spool, interval time.Duration) *sampler {
	return &sampler{spool: s, interval: interval, past: map[string]*past{}, sample: make(chan struct{})}
}

// run samples until ctx ends.
func (s *sampler) run(ctx context.Context) {
	tick := time.NewTicker(s.interval)
	defer tick.Stop()
	for {
		s.look(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look takes one point of each queue and forgets those that are gone.
func (s *sampler) look(ctx context.Context) {
	queues := s.spool.Queues()
	queues = queues[:min(len(queues), maxSampled)]
	seen := make(map[string]*past, len(queues))
	for _, q := range queues {
		a, err := q.Attributes(ctx)
		if err != nil {
			continue // deleted since, or the spool is closed
		}
		s.mu.Lock()
		p := s.past[q.Name()]
		s.mu.Unlock()
		seen[q.Name()] = p.with(a, time.Now())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.past = seen
	close(s.sample)
	s.sample = make(chan struct{})
}

// with returns the past with one point more. The old one is left as it is: readers may have it.
func (p *past) with(a spool.Attributes, now time.Time) *past {
	next := &past{created: a.CreatedAt}
	if p != nil && p.created.Equal(a.CreatedAt) {
		next.points = p.points[max(0, len(p.points)-maxPoints+1):]
	}
	next.points = append(next.points[:len(next.points):len(next.points)], point{
		at: now, active: a.Active, inactive: a.Inactive, delay: a.Delayed,
		sent: a.Sent, received: a.Received, deleted: a.Deleted,
	})
	return next
}

// points returns what is known of a queue, the oldest first; the caller must not change it.
func (s *sampler) points(name string, created time.Time) []point {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.past[name]; p != nil && p.created.Equal(created) {
		return p.points
	}
	return nil
}

// next is closed when the next sample has been taken.
func (s *sampler) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sample
}

// rates are numbers a second.
type rates struct {
	Sent, Received, Deleted float64
	Known                   bool
}

// rateSpan is over how long a rate is taken.
const rateSpan = 10 * time.Second

func ratesOf(points []point) (r rates) {
	if len(points) < 2 {
		return r
	}
	last := points[len(points)-1]
	first := points[len(points)-2]
	for i := len(points) - 3; i >= 0 && last.at.Sub(points[i].at) <= rateSpan; i-- {
		first = points[i]
	}
	d := last.at.Sub(first.at).Seconds()
	if d <= 0 {
		return r
	}
	over := func(a, b int64) float64 { return float64(b-a) / d }
	return rates{over(first.sent, last.sent), over(first.received, last.received), over(first.deleted, last.deleted), true}
}
