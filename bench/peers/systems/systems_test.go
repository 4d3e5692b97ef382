package systems

import (
	"errors"
	"testing"
	"time"

	"github.com/spoolmq/spool/bench/workload"
)

// Every system that can run here passes the small form of each load: what goes in comes out, once, and also after it was
// closed and opened again.
func TestSystems(t *testing.T) {
	for _, kind := range Kinds() {
		for _, level := range []workload.Level{workload.Written, workload.Fsync} {
			t.Run(kind.Name+"/"+level.String(), func(t *testing.T) {
				if err := kind.Missing(); err != nil {
					t.Skip(err)
				}
				sys, ok := kind.At(level)
				if !ok {
					t.Fatalf("it has no level %v", level)
				}
				if sys.Config == "" || sys.Level != level {
					t.Errorf("it says %q, %v", sys.Config, sys.Level)
				}
				if sys.Fresh {
					sys.Bound = time.Minute // as when it is measured: a consumer that has enough ends the others
				}
				for _, batch := range []int{1, min(sys.Batch, 16)} {
					small(t, sys, batch)
				}
				wakes(t, sys)
			})
		}
	}
}

func small(t *testing.T, sys workload.System, batch int) {
	t.Helper()
	l := workload.Load{Producers: 3, Consumers: 3, Batch: batch, Size: 100, Dead: 20, Measure: 5 * time.Millisecond}
	if _, err := workload.Send(t.Context(), sys, t.TempDir(), l); err != nil {
		t.Errorf("Send: %v", err)
	}
	if _, err := workload.Through(t.Context(), sys, t.TempDir(), l); err != nil {
		t.Errorf("Through: %v", err)
	}
	l.Backlog, l.Measure = 200, 0
	if _, err := workload.Drain(t.Context(), sys, t.TempDir(), l); err != nil {
		t.Errorf("Drain: %v", err)
	}
}

// wakings are more than what JetStream asks for at once.
const wakings = natsAhead + 1

func wakes(t *testing.T, sys workload.System) {
	t.Helper()
	st, err := sys.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w, err := workload.NewWake(st, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Rounds(wakings, func() {}); err != nil {
		t.Errorf("Wake: %v", err)
	}
	if err := errors.Join(w.Close(), st.Close()); err != nil {
		t.Errorf("Wake: %v", err)
	}
}
