package spool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memlog"
)

// TestRoomForMoves: a call with a large batch meets dead letters that are due and larger than a group of commits. It must
// not hold room in the log that the moves wait for. A deadlock ends the bubble.
func TestRoomForMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		s, err := spool.OpenMemory()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		dead, err := s.CreateQueue(ctx, "dead", spool.Meta{})
		if err != nil {
			t.Fatal(err)
		}
		q, err := s.CreateQueue(ctx, "q", spool.Meta{MaxMessageSize: 1 << 20,
			DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 1}})
		if err != nil {
			t.Fatal(err)
		}
		batch := make([]spool.Message, 15)
		for i := range batch {
			batch[i].Body = make([]byte, 1<<20)
		}
		const rounds = 3
		for range rounds {
			if _, err := q.SendBatch(ctx, batch); err != nil {
				t.Fatal(err)
			}
			if ds, err := q.ReceiveBatch(ctx, len(batch), spool.Visibility(time.Second)); err != nil || len(ds) != len(batch) {
				t.Fatalf("ReceiveBatch = %d, %v, want %d", len(ds), err, len(batch))
			}
			time.Sleep(time.Second) // the next call finds the leases over, or the worker is at it
		}
		synctest.Wait()
		if a, err := dead.Attributes(ctx); err != nil || a.Active != rounds*int64(len(batch)) {
			t.Fatalf("Attributes of dead = %+v, %v, want %d active", a, err, rounds*len(batch))
		}
	})
}

// A strictLog has just the room that it was asked for, and gives none of it to anybody else. It fails its test when a frame does
// not fit. One call at a time uses it.
type strictLog struct {
	*memlog.Log
	t    *testing.T
	room atomic.Int64
}

func (l *strictLog) Room() int64                { return l.room.Load() }
func (l *strictLog) ReserveRoom() int64         { return l.room.Load() }
func (l *strictLog) Draw(n int64, _ bool) error { return l.Grow(n) }

func (l *strictLog) Grow(n int64) error {
	l.room.Store(n)
	return l.Log.Grow(n)
}

func (l *strictLog) Append(p store.Payload) (store.Position, error) {
	if have, need := l.room.Swap(0), int64(store.FrameSize(p.Len)); have < need {
		l.t.Errorf("a frame of %d bytes with %d records, room for %d", need, p.Records, have)
	}
	return l.Log.Append(p)
}

// TestRoomSuffices: a call takes as much room in the log as its record needs, whatever is in it. What it takes too little would be
// missing on a full disk, and the end of the spool.
func TestRoomSuffices(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openOn(t, &strictLog{Log: memlog.New(memlog.Options{SegmentSize: 64}), t: t}, dir)
		long := func(name string) string { return name + strings.Repeat("x", 63) }
		dead := s.create(long("d"), spool.Meta{})
		q := s.create(long("q"), spool.Meta{Rewind: 48 * time.Hour, DeadLetter: &spool.DeadLetter{Queue: dead.Name(), MaxReceives: 3}})
		batch := make([]spool.Message, spool.MaxBatch)
		for i := range batch {
			batch[i] = spool.Message{Body: []byte("m"), Delay: 24 * time.Hour, Attributes: map[string]string{"k": "v"}}
		}
		for range 2 {
			if _, err := q.SendBatch(bg, batch); err != nil {
				t.Fatal(err)
			}
			time.Sleep(24 * time.Hour)
			ds, err := q.ReceiveBatch(bg, spool.MaxBatch)
			if err != nil || len(ds) != spool.MaxBatch {
				t.Fatalf("ReceiveBatch = %d, %v", len(ds), err)
			}
			receipts := make([]string, len(ds))
			for i, d := range ds {
				receipts[i*389%len(ds)] = d.Receipt // neighbours are far apart
			}
			if err := q.DeleteBatch(bg, receipts); err != nil {
				t.Fatal(err)
			}
		}
		q.rewind(time.Now().Add(-48*time.Hour+1), spool.MaxBatch)
		if err := q.Purge(bg); err != nil {
			t.Fatal(err)
		}
		q.send("m", time.Hour)
		q.send("m")
		d := q.receive("m")
		if err := errors.Join(d.Extend(bg, time.Hour), d.Release(bg, 0), q.receive("m").Release(bg, 0), q.receive("m").Release(bg, 0)); err != nil {
			t.Fatal(err)
		}
		dead.counts(1, 0, 0, 0)
		for n := range int64(10) { // the one who looks makes the move, unless the worker has been there
			q.send("m")
			time.Sleep(time.Minute)
			q.set(func(m *spool.Meta) { m.DeadLetter.MaxAge = sec })
			dead.counts(n+2, 0, 0, 0)
			q.set(func(m *spool.Meta) { m.DeadLetter.MaxAge = 0 })
		}
		q.set(func(m *spool.Meta) { m.Rewind = time.Hour })
		if err := errors.Join(s.Clean(), s.DeleteQueue(bg, q.Name())); err != nil {
			t.Fatal(err)
		}
	})
}

// TestNothingKeepsRoom: a call takes room in the log before it knows whether it will record anything, and gives it back
// when it does not, or has. What is kept is lost until the spool is closed.
func TestNothingKeepsRoom(t *testing.T) {
	for _, opts := range [][]spool.Option{nil, {spool.WithPaging(0, 1<<40)}} {
		synctest.Test(t, func(t *testing.T) { nothingKeepsRoom(t, inMemory(t, opts...)) })
	}
}

func nothingKeepsRoom(t *testing.T, s *caseSpool) {
	dead := s.create("dead", spool.Meta{})
	q := s.create("q", spool.Meta{MaxMessages: 2, Rewind: time.Hour, DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 1}})
	gone := s.create("gone", spool.Meta{})
	message := spool.Message{Body: []byte("x")}
	missing := spool.Meta{DeadLetter: &spool.DeadLetter{Queue: "missing", MaxReceives: 1}}
	_, deleted := q.sendDelete("deleted")
	if err := s.DeleteQueue(bg, "gone"); err != nil {
		t.Fatal(err)
	}
	ends, cancel := context.WithTimeout(bg, sec)
	defer cancel()
	for _, c := range []struct {
		name string
		call func() error
		want error
	}{
		{"Receive of nothing", func() error { _, err := q.Receive(bg); return err }, spool.ErrNoMessage},
		{"Receive that waits", func() error { _, err := q.Receive(bg, spool.Wait(sec)); return err }, spool.ErrNoMessage},
		{"Receive whose context ends", func() error { _, err := q.Receive(ends, spool.Wait(time.Hour)); return err }, context.DeadlineExceeded},
		{"Send", func() error { _, err := q.Send(bg, message); return err }, nil},
		{"SendBatch that is too much", func() error { _, err := q.SendBatch(bg, []spool.Message{message, message}); return err }, spool.ErrQueueFull},
		{"Delete", func() error { return q.Delete(bg, deleted) }, spool.ErrInvalidReceipt},
		{"DeleteBatch", func() error { return q.DeleteBatch(bg, []string{deleted, "no receipt"}) }, spool.ErrBatchPartial},
		{"ChangeVisibility", func() error { return q.ChangeVisibility(bg, deleted, sec) }, spool.ErrInvalidReceipt},
		{"Rewind that is too late", func() error { _, err := q.Rewind(bg, time.Now().Add(-time.Hour-1)); return err }, spool.ErrInvalidRewindTime},
		{"Rewind of a queue that keeps nothing", func() error { _, err := dead.Rewind(bg, time.Now()); return err }, spool.ErrRewindDisabled},
		{"Rewind", func() error { _, err := q.Rewind(bg, time.Now().Add(-time.Minute)); return err }, nil},
		{"SetMeta", func() error { return q.SetMeta(bg, func(m *spool.Meta) { *m = missing }) }, spool.ErrQueueNotFound},
		{"SetMeta of a dead-letter queue", func() error { return dead.SetMeta(bg, func(m *spool.Meta) { m.DeadLetter = q.Meta().DeadLetter }) }, spool.ErrInvalidArgument},
		{"CreateQueue", func() error { _, err := s.CreateQueue(bg, "new", missing); return err }, spool.ErrQueueNotFound},
		{"CreateQueue of one that is there", func() error { _, err := s.CreateQueue(bg, "Q", spool.Meta{}); return err }, spool.ErrQueueExists},
		{"DeleteQueue", func() error { return s.DeleteQueue(bg, "missing") }, spool.ErrQueueNotFound},
		{"DeleteQueue of a dead-letter queue", func() error { return s.DeleteQueue(bg, "dead") }, spool.ErrInvalidArgument},
		{"a verb of a queue that was deleted", func() error { return gone.Purge(bg) }, spool.ErrQueueNotFound},
		{"Receive", func() error { _, err := q.Receive(bg, spool.Visibility(sec)); return err }, nil},
		{"a move to the dead letters", func() error { time.Sleep(sec); return nil }, nil},
		{"Receive of the next", func() error { _, err := q.Receive(bg, spool.Visibility(sec)); return err }, nil},
		{"a move beside the first", func() error { time.Sleep(sec); return nil }, nil},
		{"Receive of a batch", func() error { _, err := dead.ReceiveBatch(bg, spool.MaxBatch); return err }, nil},
		{"Purge", func() error { return dead.Purge(bg) }, nil},
	} {
		if err := c.call(); !errors.Is(err, c.want) {
			t.Errorf("%s = %v, want %v", c.name, err, c.want)
		}
		if synctest.Wait(); s.KeepsRoom() {
			t.Fatalf("%s keeps room in the log", c.name)
		}
	}
}

// TestHandOverWithoutRoom: a receiver waits, and when a message falls due the log has no room at hand to record that it was
// handed over. The receiver gets it when room can be made, and learns otherwise that there is none.
func TestHandOverWithoutRoom(t *testing.T) {
	for _, full := range []bool{false, true} {
		t.Run(fmt.Sprint("full=", full), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				log := memlog.New(memlog.Options{SegmentSize: 16 << 10})
				q := openOn(t, log, dir).create("q", spool.Meta{})
				q.send("m", time.Minute)
				waiting := q.waiting(bg, spool.MaxBatch, spool.Wait(time.Hour)) // has taken room for a record of 24 KB, and given it back
				if full {
					log.SetCapacity(1)
				}
				var err error
				for i := 0; i < 12 || full && err == nil; i++ {
					_, err = q.Send(bg, spool.Message{Body: make([]byte, 2<<10), Delay: 2 * time.Hour})
				}
				time.Sleep(time.Minute)
				a := answered(t, waiting)
				if full && (!errors.Is(a.err, spool.ErrNoSpace) || !errors.Is(err, spool.ErrNoSpace)) {
					t.Errorf("on a full disk: Receive = %v; Send = %v; want ErrNoSpace", a, err)
				}
				if !full && (a.err != nil || len(a.ds) != 1) {
					t.Errorf("Receive = %v, want the message", a)
				}
				log.SetCapacity(0)
			})
		})
	}
}
