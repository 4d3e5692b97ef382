package spool_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/store/memlog"
)

// TestStopped: a spool that has stopped lets everything be. It tries no dead-letter move again, for hours, and its index
// is not believed again when it is what failed. Found by seeds 231951172985271 and 231951172985276 of TestSimulation.
func TestStopped(t *testing.T) {
	for name, fault := range map[string]simFault{"mark": faultMark, "get": faultGet} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				disk, err := newSimDisk(memlog.New(memlog.Options{}), nil, filepath.Join(dir, "spool"), rand.New(rand.NewPCG(1, 1)))
				if err != nil {
					t.Fatal(err)
				}
				var log bytes.Buffer
				s, err := spool.OpenOn(disk, disk.dir, disk.open, spool.WithoutPaging, spool.WithPaging(0, 1<<40), spool.WithSizes(4<<10, 4<<10),
					spool.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
				if err != nil {
					t.Fatal(err)
				}
				q := simStoppedQueues(t, s)
				time.Sleep(2 * time.Second) // blocks are put out, and the index is believed
				if _, err := os.Stat(disk.marker()); err != nil {
					t.Fatal(err)
				}
				disk.arm(fault, 0, syscall.EIO)
				for range 100 {
					_, err = q.Send(context.Background(), spool.Message{Body: []byte("y")})
					time.Sleep(100 * time.Millisecond)
				}
				if !errors.Is(err, spool.ErrStoreFailed) {
					t.Fatalf("Send = %v, want ErrStoreFailed", err)
				}
				time.Sleep(3 * time.Hour)
				if err := s.Close(); !errors.Is(err, spool.ErrStoreFailed) {
					t.Errorf("Close = %v, want ErrStoreFailed", err)
				}
				if n := bytes.Count(log.Bytes(), []byte("\n")); n > 30 {
					t.Errorf("%d lines of log, want a few:\n%.1000s", n, log.String())
				}
				if _, err := os.Stat(disk.marker()); fault == faultGet && err == nil {
					t.Error("the index that failed is believed again")
				}
			})
		})
	}
}

// TestWaitingMove: while a dead-letter move waits for room the receipt of the lease that is over stays worthless: nobody has
// received the message again, so it is Expired. Found by seed 231951172985275 of TestSimulation.
func TestWaitingMove(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log, s, q, d := waitingMove(t, dir, lapse)
		ctx := context.Background()
		for what, err := range map[string]error{"Extend": d.Extend(ctx, time.Minute), "Release": d.Release(ctx, 0), "Delete": d.Delete(ctx)} {
			if refused := (*spool.ReceiptError)(nil); !errors.As(err, &refused) || refused.Reason != spool.Expired {
				t.Errorf("%s after the lease = %v, want ErrInvalidReceipt: Expired", what, err)
			}
		}
		log.SetCapacity(0)
		time.Sleep(5 * time.Second)
		moved(t, s, q)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestWaitingMoveReplayed: a move that waits for room is still to be made after a crash, however the lease has ended, also
// when settings have changed meanwhile that have nothing to do with it. Found by seed 205267622999594 of TestSimulation.
func TestWaitingMoveReplayed(t *testing.T) {
	ctx := context.Background()
	for name, end := range map[string]func(*spool.Delivery) error{
		"lapse":   lapse,
		"release": func(d *spool.Delivery) error { return d.Release(ctx, 0) },
		"later":   func(d *spool.Delivery) error { return d.Release(ctx, time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				log, s, q, _ := waitingMove(t, dir, end)
				if err := q.SetMeta(ctx, func(m *spool.Meta) { m.PollingWait = time.Second }); err != nil {
					t.Fatal(err)
				}
				after := log.Crash(func(unsynced int64) int64 { return unsynced })
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				after.SetCapacity(0)
				disk, err := newSimDisk(after, nil, filepath.Join(dir, "after"), rand.New(rand.NewPCG(1, 1)))
				if err != nil {
					t.Fatal(err)
				}
				if s, err = spool.OpenOn(disk, disk.dir, disk.open, spool.WithoutPaging); err != nil {
					t.Fatal(err)
				}
				if q, err = s.Queue("q"); err != nil {
					t.Fatal(err)
				}
				moved(t, s, q)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// lapse ends a lease by time.
func lapse(*spool.Delivery) error {
	time.Sleep(5 * time.Second)
	return nil
}

// waitingMove returns a spool without space, and the queue q in it with one message whose lease d has come to an end. It is to go to the
// queue dead, for which there is no room.
func waitingMove(t *testing.T, dir string, end func(*spool.Delivery) error) (*memlog.Log, *spool.Spool, *spool.Queue, *spool.Delivery) {
	t.Helper()
	ctx := context.Background()
	log := memlog.New(memlog.Options{SegmentSize: 64 << 10})
	disk, err := newSimDisk(log, nil, filepath.Join(dir, "spool"), rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := spool.OpenOn(disk, disk.dir, disk.open, spool.WithoutPaging)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateQueue(ctx, "dead", spool.Meta{}); err != nil {
		t.Fatal(err)
	}
	q, err := s.CreateQueue(ctx, "q", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Send(ctx, spool.Message{Body: bytes.Repeat([]byte("x"), 8<<10)}); err != nil {
		t.Fatal(err)
	}
	d, err := q.Receive(ctx, spool.Visibility(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	disk.SetCapacity(1)
	for err == nil {
		_, err = q.Send(ctx, spool.Message{Body: bytes.Repeat([]byte("y"), 4<<10), Delay: time.Hour})
	}
	if !errors.Is(err, spool.ErrNoSpace) {
		t.Fatalf("Send = %v, want ErrNoSpace", err)
	}
	if err := end(d); err != nil {
		t.Fatal(err)
	}
	return log, s, q, d
}

// moved asserts that the message of waitingMove is in the queue dead, and only there.
func moved(t *testing.T, s *spool.Spool, q *spool.Queue) {
	t.Helper()
	dead, err := s.Queue("dead")
	if err != nil {
		t.Fatal(err)
	}
	from, err := q.Attributes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	to, err := dead.Attributes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if from.Active != 0 || from.Inactive != 0 || to.Active != 1 {
		t.Errorf("source: %d active, %d inactive; dead-letter queue: %d active; want 0, 0, 1", from.Active, from.Inactive, to.Active)
	}
}

// simStoppedQueues makes a queue with messages that will be too old, and returns it.
func simStoppedQueues(t *testing.T, s *spool.Spool) *spool.Queue {
	t.Helper()
	ctx := context.Background()
	if _, err := s.CreateQueue(ctx, "dead", spool.Meta{}); err != nil {
		t.Fatal(err)
	}
	q, err := s.CreateQueue(ctx, "q", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: "dead", MaxAge: 10 * time.Minute}})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := q.Send(ctx, spool.Message{Body: bytes.Repeat([]byte("x"), 100)}); err != nil {
			t.Fatal(err)
		}
	}
	return q
}
