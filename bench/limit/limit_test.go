package limit_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spoolmq/spool/bench/limit"
	"github.com/spoolmq/spool/bench/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Everything that goes into a raw file comes out of it, also after it was opened again, and over segments that are used
// again.
func TestFiles(t *testing.T) {
	for _, sys := range []workload.System{limit.Small(workload.Written), limit.Small(workload.Fsync), limit.Growing(workload.Fsync)} {
		for _, batch := range []int{1, 16} {
			t.Run(fmt.Sprintf("%s/%v/%d", sys.Name, sys.Level, batch), func(t *testing.T) {
				l := workload.Load{Producers: 4, Consumers: 4, Batch: batch, Size: 300, Dead: 1000, Measure: 20 * time.Millisecond}
				if _, err := workload.Through(t.Context(), sys, t.TempDir(), l); err != nil {
					t.Fatal(err)
				}
				l.Backlog, l.Measure = 3000, 0
				if _, err := workload.Drain(t.Context(), sys, t.TempDir(), l); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// Dead segments are used again: their number does not grow with what has passed through.
func TestRecycle(t *testing.T) {
	dir := t.TempDir()
	st, err := limit.Small(workload.Written).Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	p, _ := st.Producer(0)
	c, _ := st.Consumer(0)
	into := make([]workload.Message, 1)
	for range 1000 {
		if err := p.Send(t.Context(), [][]byte{make([]byte, 300)}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Receive(t.Context(), into); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(t.Context(), into); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := workload.DiskUsage(dir); err != nil || left > 5*4<<10 {
		t.Errorf("%d KB are left of 300 KB that are dead (%v), want at most 20", left>>10, err)
	}
}

// What is acknowledged is gone after opening again, and the rest is there.
func TestReopen(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	sys := limit.Files(workload.Fsync)
	want := []string{"one", "two", "three"}
	for i := range want {
		st, err := sys.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		p, _ := st.Producer(0)
		if i == 0 {
			if err := p.Send(ctx, [][]byte{[]byte("one"), []byte("two"), []byte("three")}); err != nil {
				t.Fatal(err)
			}
		}
		c, _ := st.Consumer(0)
		into := make([]workload.Message, 1)
		if n, err := c.Receive(ctx, into); n != 1 || err != nil || string(into[0].Body) != want[i] {
			t.Fatalf("Receive = %d, %q, %v, want 1, %q", n, into[0].Body, err, want[i])
		}
		if err := c.Delete(ctx, into); err != nil {
			t.Fatal(err)
		}
		if got := workload.Syncs(st); got < 1 {
			t.Errorf("%d fsyncs", got)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A receive whose context ends takes no message along.
func TestLeave(t *testing.T) {
	st, err := limit.Files(workload.Written).Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	c, _ := st.Consumer(0)
	p, _ := st.Producer(0)
	into := make([]workload.Message, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if n, err := c.Receive(ctx, into); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Receive = %d, %v, want 0 and the context's error", n, err)
	}
	if err := p.Send(t.Context(), [][]byte{[]byte("x")}); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Receive(t.Context(), into); n != 1 || err != nil {
		t.Fatalf("Receive = %d, %v, want the message", n, err)
	}
}

func TestWake(t *testing.T) {
	for _, sys := range []workload.System{limit.Channel(), limit.Files(workload.Written)} {
		st, err := sys.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		w, err := workload.NewWake(st, 100)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Rounds(20, func() {}); err != nil {
			t.Errorf("%s: %v", sys.Name, err)
		}
		if err := errors.Join(w.Close(), st.Close()); err != nil {
			t.Errorf("%s: %v", sys.Name, err)
		}
		if len(w.Took) != 20 {
			t.Errorf("%s: %d rounds measured, want 20", sys.Name, len(w.Took))
		}
	}
}

func TestTimers(t *testing.T) {
	st, err := limit.Timers().Open("")
	if err != nil {
		t.Fatal(err)
	}
	got, err := workload.Delays(t.Context(), st, 1000, 10, 2, time.Millisecond, 20*time.Millisecond)
	if err != nil || got.Early != 0 || len(got.Late) != 1000 {
		t.Errorf("%d messages, %d early, %v; want 1000 and none", len(got.Late), got.Early, err)
	}
}
