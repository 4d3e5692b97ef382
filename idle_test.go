package spool_test

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
)

// TestIdleQueue asserts what a queue takes that holds nothing and that nobody uses, and that those found at Open are no
// different.
func TestIdleQueue(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory too")
	}
	const n, limit = 10_000, 512
	dir := t.TempDir()
	s := openIdle(t, dir)
	q := made(t, s, "ballast")
	for range 256 { // which give the log's ring its size
		if _, err := q.Send(t.Context(), spool.Message{Body: make([]byte, 64<<10)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteQueue(t.Context(), "ballast"); err != nil {
		t.Fatal(err)
	}
	// The first opens the index, the second leaves the keeper nothing to give back: that takes a checkpoint, of all queues.
	if err := errors.Join(s.Checkpoint(), s.Clean()); err != nil {
		t.Fatal(err)
	}
	before := heapInUse()
	for i := range n {
		made(t, s, fmt.Sprintf("queue-%05d", i))
	}
	s.RestIdle()
	each := (heapInUse() - before) / n
	t.Logf("a queue takes %d bytes", each)
	if each > limit {
		t.Errorf("a queue takes %d bytes, want at most %d", each, limit)
	}
	for _, when := range []string{"made", "found"} {
		if resting := s.Resting(); resting != n {
			t.Errorf("%d of %d queues rest that were %s", resting, n, when)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openIdle(t, dir)
		s.RestIdle()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func openIdle(t *testing.T, dir string) *spool.Spool {
	s, err := spool.Open(dir, spool.WithDurability(spool.Written), spool.WithoutPaging)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func made(t *testing.T, s *spool.Spool, name string) *spool.Queue {
	q, err := s.CreateQueue(t.Context(), name, spool.Meta{})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestRest asserts when a queue goes to rest by itself, and that its next use finds everything as it was.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := spool.OpenMemory(spool.WithoutPaging) // blocks that the index has keep it awake until a checkpoint
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		q, err := s.CreateQueue(t.Context(), "q", spool.Meta{Rewind: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		rests := func(want int, when string) {
			t.Helper()
			time.Sleep(3 * time.Second)
			synctest.Wait()
			if got := s.Resting(); got != want {
				t.Fatalf("%s: %d queues rest, want %d", when, got, want)
			}
		}
		rests(1, "new")
		for round := range int64(3) {
			first, err := q.Send(t.Context(), spool.Message{Body: []byte("a")})
			if err != nil {
				t.Fatal(err)
			}
			rests(0, "a message is active")
			d, err := q.Receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			rests(0, "a message is leased")
			if err := d.Delete(t.Context()); err != nil {
				t.Fatal(err)
			}
			rests(0, "a message can be rewound")
			time.Sleep(time.Minute)
			rests(1, "nothing is left")
			if err := d.Delete(t.Context()); spool.CodeOf(err) != 4430 {
				t.Fatalf("Delete of what is long gone: %v, want ErrInvalidReceipt", err)
			}
			a, err := q.Attributes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if a.Active+a.Inactive+a.Delayed+a.Rewindable != 0 || a.Sent != round+1 || a.Received != round+1 || a.Deleted != round+1 {
				t.Fatalf("round %d: %+v", round, a)
			}
			if first == "" || first != d.ID {
				t.Fatalf("sent %q, received %q", first, d.ID)
			}
		}
		got := make(chan error)
		go func() {
			_, err := q.Receive(t.Context(), spool.Wait(time.Hour))
			got <- err
		}()
		rests(0, "a receiver waits")
		if _, err := q.Send(t.Context(), spool.Message{Body: []byte("b")}); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil {
			t.Fatal(err)
		}
	})
}
