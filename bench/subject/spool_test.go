package subject_test

import (
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spoolmq/spool/bench/subject"
	"github.com/spoolmq/spool/bench/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Each kind of load passes on a spool, in its small form.
func TestSpool(t *testing.T) {
	for _, level := range []workload.Level{workload.Memory, workload.Written, workload.Fsync} {
		t.Run(level.String(), func(t *testing.T) {
			sys := subject.Spool(level)
			for _, batch := range []int{1, 16} {
				l := workload.Load{Producers: 3, Consumers: 3, Batch: batch, Size: 100, Dead: 20, Measure: 5 * time.Millisecond}
				if _, err := workload.Through(t.Context(), sys, t.TempDir(), l); err != nil {
					t.Errorf("Through: %v", err)
				}
				if level == workload.Memory {
					continue // the others open the store again
				}
				l.Queues = 5
				if _, err := workload.Send(t.Context(), sys, t.TempDir(), l); err != nil {
					t.Errorf("Send: %v", err)
				}
				l.Queues, l.Backlog, l.Measure = 1, 200, 0
				if _, err := workload.Drain(t.Context(), sys, t.TempDir(), l); err != nil {
					t.Errorf("Drain: %v", err)
				}
			}
		})
	}
}

func TestWakeAndDelays(t *testing.T) {
	st, err := subject.Spool(workload.Memory).Open("")
	if err != nil {
		t.Fatal(err)
	}
	w, err := workload.NewWake(st, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Rounds(20, func() {}), w.Close()); err != nil {
		t.Error(err)
	}
	got, err := workload.Delays(t.Context(), st, 1000, 10, 2, time.Millisecond, 20*time.Millisecond)
	if err != nil || got.Early != 0 || len(got.Late) != 1000 {
		t.Errorf("%d messages, %d early, %v; want 1000 and none", len(got.Late), got.Early, err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}
