package spool_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memkv"
	"github.com/spoolmq/spool/store/memlog"
)

// A spoilt log cannot read the records that hold some bytes.
type spoilt struct {
	*memlog.Log
	needle []byte
	tries  atomic.Int64
}

const mostTries = 1000

func (l *spoilt) ReadRecord(pos store.Position, dst []byte) ([]byte, error) {
	b, err := l.Log.ReadRecord(pos, dst)
	if err != nil || !bytes.Contains(b, l.needle) {
		return b, err
	}
	if l.tries.Add(1) > mostTries {
		panic("the cleaner does not rest")
	}
	return nil, &store.CorruptError{File: "log", Offset: int64(pos), Reason: "spoilt"}
}

// TestCleanerRests: a message that cannot be read pins the first segment. The cleaner tries again, also while blocks come into
// memory because it looks at them and go out again, but not all the time: in a bubble time would stand still.
func TestCleanerRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &spoilt{Log: memlog.New(memlog.Options{SegmentSize: 4 << 10}), needle: []byte("pinned")}
		s, err := spool.OpenOn(log, t.TempDir(), func() (store.Index, error) { return memkv.New(), nil },
			spool.WithPaging(0, 1<<40), spool.WithSizes(4<<10, 4<<10), spool.WithSlack(1))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		q, err := s.CreateQueue(t.Context(), "q", spool.Meta{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Send(t.Context(), spool.Message{Body: log.needle, Delay: time.Hour}); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if _, err := q.Send(t.Context(), spool.Message{Body: make([]byte, 500)}); err != nil {
				t.Fatal(err)
			}
			d, err := q.Receive(t.Context())
			if err == nil {
				err = d.Delete(t.Context())
			}
			if err != nil && !errors.Is(err, spool.ErrNoMessage) {
				t.Fatal(err)
			}
		}
		before := log.tries.Load()
		time.Sleep(10 * time.Second)
		if n := log.tries.Load() - before; n < 5 || n > 300 {
			t.Errorf("the cleaner has tried %d times in ten seconds, want some 10 to 200", n)
		}
	})
}

// TestCleanerHoldsNobodyUp: sends do not wait for a cleaner that has found something in its way, and it complains once.
func TestCleanerHoldsNobodyUp(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := &spoilt{Log: memlog.New(memlog.Options{SegmentSize: 4 << 10}), needle: []byte("pinned")}
		var said bytes.Buffer
		q := openOn(t, log, dir, spool.WithSlack(1), spool.WithLogger(slog.New(slog.NewTextHandler(&said, nil)))).create("q", spool.Meta{})
		q.send("pinned", time.Hour)
		for range 100 {
			q.sendDelete(strings.Repeat("x", 500))
		}
		for range 300 {
			time.Sleep(10 * msec)
			from := time.Now()
			q.sendDelete("y")
			if waited := time.Since(from); waited > 0 {
				t.Fatalf("a send has waited %v", waited)
			}
		}
		synctest.Wait()
		if n := strings.Count(said.String(), "log not cleaned"); log.tries.Load() < 2 || n != 1 {
			t.Errorf("the cleaner has tried %d times, and complained %d times, want once", log.tries.Load(), n)
		}
	})
}

// TestCleanBesideReads: what the cleaner has recorded and not yet written is still read from where it was. Nothing that it
// has done keeps room in the log.
func TestCleanBesideReads(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := &heldLog{Log: memlog.New(memlog.Options{SegmentSize: 8 << 10})}
		s := openOn(t, log, dir)
		q := s.create("q", spool.Meta{})
		const n = 20
		for range n {
			q.send(strings.Repeat("x", 1000))
		}
		log.writes.close()
		cleaned := make(chan error, 1)
		go func() { cleaned <- s.Clean() }()
		synctest.Wait()
		peeked := make(chan int, 1)
		go func() {
			list, err := q.Peek(bg, n)
			if err != nil {
				t.Errorf("Peek = %v", err)
			}
			peeked <- len(list)
		}()
		synctest.Wait()
		select {
		case got := <-peeked:
			if got != n {
				t.Errorf("Peek = %d messages, want %d", got, n)
			}
		default:
			t.Error("a reader waits for the cleaner")
		}
		log.writes.open()
		if err := <-cleaned; err != nil {
			t.Fatal(err)
		}
		for range 4 {
			if err := s.Clean(); err != nil {
				t.Fatal(err)
			}
		}
		if synctest.Wait(); s.KeepsRoom() {
			t.Error("the cleaner keeps room in the log")
		}
	})
}

// TestExpiryGivesSpaceBack: messages whose life ends leave garbage behind, though nobody calls.
func TestExpiryGivesSpaceBack(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{SegmentSize: 4 << 10})
		q := openOn(t, log, dir, spool.WithSlack(16<<10)).create("q", spool.Meta{Retention: time.Hour})
		for range 100 {
			q.send(strings.Repeat("x", 1000))
		}
		time.Sleep(time.Hour - sec)
		if n := log.Size().Live; n < 100_000 {
			t.Fatalf("log of %d bytes before the messages expire", n)
		}
		time.Sleep(time.Minute)
		if n := log.Size().Live; n > 32<<10 {
			t.Errorf("log of %d bytes after all messages have expired, want at most %d", n, 32<<10)
		}
	})
}
