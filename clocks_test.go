package spool_test

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/store/memlog"
)

// clockJumps are what a wall clock may jump by between two runs. From the bubble's 2000-01-01, the last one leads to 1970 and
// back.
var clockJumps = []time.Duration{time.Second, time.Hour, 365 * 24 * time.Hour, 30 * 365 * 24 * time.Hour}

var clockControl = flag.Bool("spool.clocks.control", false, "a control: between the runs more time passes than TestClocks knows of, and it must fail")

const (
	clockLease     = 10 * time.Second
	clockDelay     = 20 * time.Second
	clockRewind    = time.Hour
	clockRetention = 2 * time.Hour
)

// A clockSpool has one message in each state: active, leased for clockLease, delayed for clockDelay, rewindable.
type clockSpool struct {
	t   *testing.T
	log *memlog.Log
	s   *spool.Spool
	q   *spool.Queue
	dir string
}

// clockFill makes one on a log.
func clockFill(t *testing.T, log *memlog.Log, dir string) *clockSpool {
	c := &clockSpool{t: t, log: log, dir: dir}
	c.open("first")
	ctx := context.Background()
	var err error
	c.q, err = c.s.CreateQueue(ctx, "q", spool.Meta{Rewind: clockRewind, Retention: clockRetention})
	c.must(err)
	for _, delay := range []time.Duration{0, 0, clockDelay, 0} {
		_, err := c.q.Send(ctx, spool.Message{Body: []byte("x"), Delay: delay})
		c.must(err)
	}
	d, err := c.q.Receive(ctx)
	c.must(err)
	c.must(d.Delete(ctx))
	_, err = c.q.Receive(ctx, spool.Visibility(clockLease))
	c.must(err)
	c.is("at first", 1, 1, 1, 1)
	return c
}

func (c *clockSpool) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// is asserts the counters.
func (c *clockSpool) is(when string, active, inactive, delayed, rewindable int64) {
	c.t.Helper()
	a, err := c.q.Attributes(context.Background())
	c.must(err)
	if got, want := [...]int64{a.Active, a.Inactive, a.Delayed, a.Rewindable}, [...]int64{active, inactive, delayed, rewindable}; got != want {
		c.t.Errorf("%s: active, inactive, delayed, rewindable = %d, want %d", when, got, want)
	}
}

// open opens the spool on the log.
func (c *clockSpool) open(name string) {
	c.t.Helper()
	disk, err := newSimDisk(c.log, nil, filepath.Join(c.dir, name), rand.New(rand.NewPCG(1, 1)))
	c.must(err)
	c.s, err = spool.OpenOn(disk, disk.dir, disk.open, spool.WithoutPaging)
	c.must(err)
}

// reopen closes the spool, cleanly or by a kill, lets between happen, and opens it again.
func (c *clockSpool) reopen(kill bool, between func()) {
	c.t.Helper()
	after := c.log.Crash(func(unsynced int64) int64 { return unsynced })
	c.must(c.s.Close())
	if c.log = after; !kill {
		c.must(c.log.Mark(time.Now().UnixNano(), true))
	}
	between()
	if *clockControl {
		time.Sleep(2 * clockJumps[len(clockJumps)-1])
	}
	c.open("second")
	var err error
	c.q, err = c.s.Queue("q")
	c.must(err)
}

// TestClocks lets the wall clock jump between two runs. When it went back the spool's time goes on from where it was: nothing comes
// early, nothing is frozen. When it went forward that much time has passed.
func TestClocks(t *testing.T) {
	for _, jump := range clockJumps {
		for _, kill := range []bool{false, true} {
			how := map[bool]string{false: "/closed", true: "/killed"}[kill]
			t.Run("back/"+jump.String()+how, func(t *testing.T) {
				dir := t.TempDir()
				synctest.Test(t, func(t *testing.T) { clockBack(t, dir, jump, kill) })
			})
			t.Run("forward/"+jump.String()+how, func(t *testing.T) {
				dir := t.TempDir()
				synctest.Test(t, func(t *testing.T) { clockForward(t, dir, jump, kill) })
			})
		}
	}
}

func clockBack(t *testing.T, dir string, jump time.Duration, kill bool) {
	ctx := context.Background()
	ahead := time.Now().Add(jump) // the first run sees the clock that is put back after it
	log := memlog.New(memlog.Options{})
	if err := log.Mark(ahead.UnixNano(), false); err != nil {
		t.Fatal(err)
	}
	c := clockFill(t, log.Crash(func(n int64) int64 { return n }), dir)
	c.reopen(kill, func() {})
	defer func() { c.must(c.s.Close()) }()
	c.is("put back", 1, 1, 1, 1)
	time.Sleep(clockLease - time.Millisecond)
	synctest.Wait()
	c.is("before the lease ends", 1, 1, 1, 1)
	time.Sleep(time.Millisecond)
	c.is("when the lease ends", 2, 0, 1, 1)
	time.Sleep(clockDelay - clockLease)
	c.is("when the delay ends", 3, 0, 0, 1)
	d, err := c.q.Receive(ctx)
	c.must(err)
	if d.EnqueuedAt.Before(ahead) {
		t.Errorf("EnqueuedAt is %v, want %v or later", d.EnqueuedAt, ahead)
	}
	c.must(d.Delete(ctx))
	_, err = c.q.Send(ctx, spool.Message{Body: []byte("y")})
	c.must(err)
	list, err := c.q.Peek(ctx, 10)
	c.must(err)
	for i := 1; i < len(list); i++ {
		if list[i].EnqueuedAt.Before(list[i-1].EnqueuedAt) {
			t.Errorf("message %d was sent at %v, before the one before it at %v", i, list[i].EnqueuedAt, list[i-1].EnqueuedAt)
		}
	}
	restored, err := c.q.Rewind(ctx, ahead)
	if err != nil || restored != 2 {
		t.Errorf("Rewind = %d, %v, want 2", restored, err)
	}
}

func clockForward(t *testing.T, dir string, jump time.Duration, kill bool) {
	c := clockFill(t, memlog.New(memlog.Options{}), dir)
	c.reopen(kill, func() { time.Sleep(jump) })
	defer func() { c.must(c.s.Close()) }()
	switch {
	case jump < clockLease:
		c.is("a moment later", 1, 1, 1, 1)
	case jump < clockRetention:
		c.is("after the leases", 3, 0, 0, 0) // Rewind and the jump are an hour both
	default:
		c.is("after all lives", 0, 0, 0, 0)
		if _, err := c.q.Receive(context.Background()); !errors.Is(err, spool.ErrNoMessage) {
			t.Errorf("Receive = %v, want ErrNoMessage", err)
		}
	}
}
