package spool

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memkv"
)

// With this variable set every test runs on a spool that puts each block out of memory as soon as it may, in memory too.
func init() {
	if os.Getenv("SPOOL_TEST_PAGING") != "" {
		WithPaging(0, 1<<40)(&defaults)
	}
}

// WithPaging has blocks put out of memory while they take more than low bytes, and calls wait for it above high. A replay
// keeps low or 8 KB, whichever is more. A spool
// in memory gets an index for it.
func WithPaging(low, high int64) Option {
	return func(o *options) {
		o.paging = paging{low: low, high: high, most: max(low, min(high, 8<<10)), grain: 1}
		o.index = func() (store.Index, error) { return memkv.New(), nil }
	}
}

// WithSizes makes all segments of one size and a checkpoint every so many bytes of log: what takes gigabytes in
// production then takes kilobytes.
func WithSizes(segment, checkpoint int64) Option {
	return func(o *options) { o.segmentSize, o.checkpointEvery = segment, checkpoint }
}

// WithSlack sets how many bytes of garbage beside its share of what is live the log may hold before it is cleaned.
func WithSlack(bytes int64) Option { return func(o *options) { o.slack = bytes } }

// Every test checks that the kill points it passes are in the list.
func init() {
	for _, name := range steps() {
		knownSteps[name] = true
	}
	defaults.step = knownStep
}

var knownSteps = map[string]bool{}

func knownStep(name string) {
	if !knownSteps[name] {
		panic("a kill point that is not in the list: " + name)
	}
}

// Steps returns the names of all kill points.
func Steps() []string { return steps() }

// SetSteps has f called at every kill point, in every spool that is opened or repaired from now on.
func SetSteps(f func(name string)) {
	defaults.step = func(name string) {
		knownStep(name)
		f(name)
	}
}

// WithSteps has f called between the steps of cleaning, with what their names have behind the colon.
func WithSteps(f func(name string)) Option {
	return withStep(func(name string) {
		if short, ok := strings.CutPrefix(name, "clean:"); ok {
			f(short)
		}
	})
}

// RepairByRename is Repair in place where the system cannot exchange two names.
func RepairByRename(ctx context.Context, dir, to string, opts ...CheckOption) (Report, error) {
	c, err := newCheck(ctx, dir, opts)
	if err != nil {
		return Report{Dir: dir}, err
	}
	p, err := newPlacement(c.report.Dir, to)
	if err != nil {
		return c.report, errors.Join(err, c.survey.Close())
	}
	p.exchange = func(string, string) error { return errors.ErrUnsupported }
	return c.report, errors.Join(c.repairInto(p), c.survey.Close())
}

// withStep has f called at every kill point.
func withStep(f func(name string)) Option { return func(o *options) { o.step = f } }

// WithoutPaging has blocks put out of memory as usual, whatever the environment says.
func WithoutPaging(o *options) {
	o.index, o.paging = nil, paging{grain: tellGrain, rest: passRest}
}

// Clean cleans the first segment of the log now, whatever garbage there is.
func (s *Spool) Clean() error {
	s.keeper.work.Lock()
	defer s.keeper.work.Unlock()
	return s.keeper.cleanSegment()
}

// Checkpoint makes one now.
func (s *Spool) Checkpoint() error {
	s.keeper.work.Lock()
	defer s.keeper.work.Unlock()
	return s.keeper.writeCheckpoint(time.Time{})
}

// KeepsRoom tells, of a spool that nobody uses, whether room in its log is held for somebody.
func (s *Spool) KeepsRoom() bool {
	all := s.disk.Room() - store.FrameHeaderSize - store.FrameAlign
	if !s.commit.TryAdmit(all, store.Ordinary) {
		return true
	}
	s.commit.Forgo(all)
	return false
}

// Resting is how many queues are at rest.
func (s *Spool) Resting() (n int) {
	for _, q := range s.snapshotQueues() {
		if q.mu.Lock(); q.desk == nil && q.st.stock == nil {
			n++
		}
		q.mu.Unlock()
	}
	return n
}

// RestIdle lets the queues rest that have nothing to do, as the keeper does once a second, and waits until it does
// nothing else.
func (s *Spool) RestIdle() {
	s.keeper.work.Lock()
	defer s.keeper.work.Unlock()
	s.restIdle()
}

// BlocksAway is how many blocks of a queue are out of memory.
func (q *Queue) BlocksAway() int {
	q.hold()
	defer q.mu.Unlock()
	return q.st.out
}

// Oversleep has the clock forget the queue: what is armed by now is taken into account when a call comes.
func (q *Queue) Oversleep() { q.spool.clock.unset(q) }

// Wanted is how many blocks of a queue somebody wants.
func (q *Queue) Wanted() int {
	q.hold()
	defer q.mu.Unlock()
	return len(q.st.wanted)
}

// ResidentMB is the anonymous resident memory of the process.
func ResidentMB() int64 { return residentMB() }

// bring has a block of a queue in memory, which may put it out as soon as its lock is free. Caller holds mu.
func bring(t testing.TB, q *Queue, b *block) {
	t.Helper()
	for !q.st.here(b) {
		if !q.pageIn(true) {
			q.mu.Unlock()
			t.Fatal("a block cannot be read")
		}
	}
}
