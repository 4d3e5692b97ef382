package workload_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool/bench/workload"
)

const size = 40

// loads are the three kinds, small.
var loads = []struct {
	name string
	run  func(context.Context, workload.System, string, workload.Load) (workload.Result, error)
	load workload.Load
}{
	{"send", workload.Send, workload.Load{Producers: 3, Batch: 2}},
	{"drain", workload.Drain, workload.Load{Consumers: 2, Batch: 4, Backlog: 40_000, AtLeast: 1000, Dead: 100}},
	{"through", workload.Through, workload.Load{Producers: 2, Consumers: 2, Batch: 1, Dead: 100}},
}

// each runs the loads on fakes, in virtual time.
func each(t *testing.T, level workload.Level, make func() *fake, check func(t *testing.T, l workload.Load, r workload.Result, err error)) {
	for _, l := range loads {
		l.load.Size, l.load.Warm, l.load.Measure = size, 10*time.Millisecond, 20*time.Millisecond
		t.Run(l.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				r, err := l.run(t.Context(), make().system(level), dir, l.load)
				check(t, l.load, r, err)
			})
		})
	}
}

// fails wants the run to fail with a text.
func fails(text string) func(*testing.T, workload.Load, workload.Result, error) {
	return func(t *testing.T, _ workload.Load, _ workload.Result, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("the error is %v, want one with %q", err, text)
		}
	}
}

// nth does something else with the nth body.
func nth(n int, wrong func(body []byte) [][]byte) func() *fake {
	return func() *fake {
		i := 0
		return &fake{syncs: -1, change: func(body []byte) [][]byte {
			if i++; i == n {
				return wrong(body)
			}
			return [][]byte{body}
		}}
	}
}

// A queue that does what it should has figures: every call of a worker takes a moment, but those of the warm-up are
// not counted.
func TestRun(t *testing.T) {
	each(t, workload.Fsync, func() *fake { return &fake{syncs: -1} }, func(t *testing.T, l workload.Load, r workload.Result, err error) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Took < l.Measure || r.Took > 2*l.Measure {
			t.Errorf("%v measured, want %v and little more", r.Took, l.Measure)
		}
		workers := max(l.Producers, l.Consumers)
		most := float64(workers*l.Batch) / moment.Seconds()
		if r.Rate() > most*1.05 || r.Rate() < most/2 {
			t.Errorf("%.0f messages a second, want about %.0f", r.Rate(), most)
		}
		if p := r.Calls.Percentile(50); p < moment {
			t.Errorf("the median call took %v, want at least %v", p, moment)
		}
		if r.Syncs <= 0 {
			t.Errorf("%d fsyncs", r.Syncs)
		}
	})
}

func TestLostMessage(t *testing.T) {
	each(t, workload.Fsync, nth(150, func([]byte) [][]byte { return nil }), fails("1 of "))
}

func TestDoubledMessage(t *testing.T) {
	each(t, workload.Fsync, nth(150, func(body []byte) [][]byte { return [][]byte{body, body} }), fails("came back twice"))
}

func TestChangedMessage(t *testing.T) {
	each(t, workload.Fsync, nth(150, func(body []byte) [][]byte {
		body[size-1]++
		return [][]byte{body}
	}), fails("came back changed"))
}

func TestInventedMessage(t *testing.T) {
	each(t, workload.Fsync, nth(150, func(body []byte) [][]byte {
		body[4]++ // of its number
		return [][]byte{body}
	}), fails("which was not sent"))
}

// A message that comes again after everything has been deleted is found as well.
func TestUndeletedMessage(t *testing.T) {
	each(t, workload.Fsync, func() *fake { return &fake{syncs: -1, forget: true} }, fails("came back twice"))
}

func TestPretendedDurability(t *testing.T) {
	lazy := func() *fake { return &fake{syncs: 3} }
	each(t, workload.Fsync, lazy, fails("not as durable as it says"))
	each(t, workload.Written, lazy, func(t *testing.T, _ workload.Load, _ workload.Result, err error) {
		if err != nil {
			t.Errorf("without a promise: %v", err)
		}
	})
}

func TestSmallBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{syncs: -1}
		_, err := workload.Drain(t.Context(), f.system(workload.Fsync), ".", workload.Load{
			Consumers: 1, Batch: 1, Size: size, Backlog: 1000, Measure: time.Second})
		fails("a backlog of 1000 messages lasted")(t, workload.Load{}, workload.Result{}, err)
	})
}

func TestCannot(t *testing.T) {
	f := &fake{}
	_, err := workload.Send(t.Context(), f.system(workload.Memory), t.TempDir(), workload.Load{Producers: 1, Batch: 17, Size: size})
	if !errors.Is(err, workload.ErrCannot) {
		t.Errorf("batches of 17 = %v, want ErrCannot", err)
	}
}

// Delays of half a second to two: the fake sends those under a second at once, and the rest in time.
func TestDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, err := workload.Delays(t.Context(), &fake{}, 1000, 10, 2, time.Second/2, 2*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if got.Early < 250 || got.Early > 420 || len(got.Late) != 1000 {
			t.Errorf("%d of %d messages came early, want about 333 of 1000", got.Early, len(got.Late))
		}
		if late := workload.Quantile(got.Late, 99); late < 0 || late > 10*time.Millisecond {
			t.Errorf("99%% of the messages came not more than %v late, want at most 10ms", late)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := nth(150, func([]byte) [][]byte { return nil })()
		_, err := workload.Delays(t.Context(), f, 1000, 10, 2, time.Second/2, 2*time.Second)
		fails("1 of 1000")(t, workload.Load{}, workload.Result{}, err)
	})
}
