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

const bound = 5 * time.Millisecond

// bounded is a load that would take a hundred times the bound.
var bounded = workload.Load{Consumers: 2, Batch: 1, Size: size, Backlog: 5_000_000, AtLeast: 1_000_000, Warm: bound / 5, Measure: bound / 5}

// A drain that is bounded measures for as long as the bound, on what could be stored meanwhile, and no message of that is
// let off.
func TestBoundedDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := (&fake{syncs: -1}).system(workload.Fsync)
		sys.Bound = bound
		r, err := workload.Drain(t.Context(), sys, ".", bounded)
		if err != nil {
			t.Fatal(err)
		}
		if r.Took < bound || r.Took > bound+2*moment {
			t.Errorf("%v measured, want %v", r.Took, bound)
		}
		if most := int64(8*16*2*bound/moment) + 8*16; r.Backlog < most*9/10 || r.Backlog > most {
			t.Errorf("%d messages stored, want up to %d", r.Backlog, most)
		}
		if most := int64(2 * (r.Took + bounded.Warm) / moment); r.Drained < most*9/10 || r.Drained > most+2 {
			t.Errorf("%d messages drained, want up to %d", r.Drained, most)
		}
		if r.Messages >= r.Drained || r.Messages < r.Drained/2 {
			t.Errorf("%d of %d messages measured", r.Messages, r.Drained)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		sys := nth(20_000, func([]byte) [][]byte { return nil })().system(workload.Fsync)
		sys.Bound = bound
		_, err := workload.Drain(t.Context(), sys, ".", bounded)
		fails("1 of ")(t, bounded, workload.Result{}, err)
	})
}

// A bounded drain ends before its bound when it has measured enough and taken as many messages as it should.
func TestBoundedDrainEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := (&fake{syncs: -1}).system(workload.Fsync)
		sys.Bound = bound
		l := bounded
		l.AtLeast = 100
		if r, err := workload.Drain(t.Context(), sys, ".", l); err != nil || r.Took > l.Measure+2*moment {
			t.Errorf("%v measured, %v; want %v", r.Took, err, l.Measure)
		}
	})
}

// What was stored within the bound has to last for what is measured.
func TestBoundedBacklogTooSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := (&fake{syncs: -1}).system(workload.Fsync)
		sys.Bound = bound / 50
		l := bounded
		l.Consumers, l.Batch, l.Measure = 16, 16, bound
		_, err := workload.Drain(t.Context(), sys, ".", l)
		fails("messages lasted")(t, l, workload.Result{}, err)
	})
}

// A consumer that has drained for long enough may hold what another one waits for.
func TestBoundedDrainEndsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := (&greedy{fake: &fake{syncs: -1}}).system()
		sys.Bound = bound
		if _, err := workload.Drain(t.Context(), sys, ".", bounded); err != nil {
			t.Error(err)
		}
	})
}

// Consumers that cannot keep up with the producers go on for the bound and no longer.
func TestBoundedThrough(t *testing.T) {
	l := workload.Load{Producers: 8, Consumers: 1, Batch: 1, Size: size, Measure: bound}
	for _, within := range []time.Duration{0, bound} {
		synctest.Test(t, func(t *testing.T) {
			sys := (&fake{syncs: -1}).system(workload.Fsync)
			sys.Bound = within
			r, err := workload.Through(t.Context(), sys, ".", l)
			want := l.Measure + within
			if within == 0 {
				want = 8 * l.Measure
			}
			if err != nil || r.Took < want || r.Took > want+2*time.Millisecond {
				t.Errorf("bound %v: %v measured, %v; want %v", within, r.Took, err, want)
			}
		})
	}
}

// What is not measured is done on a store that was opened for it: the backlog of a drain and what it leaves, what was sent.
func TestQuick(t *testing.T) {
	want := map[string]string{"send": "open quick ", "drain": "quick open quick ", "through": "open "}
	for _, l := range loads {
		synctest.Test(t, func(t *testing.T) {
			f, opened := &fake{syncs: -1}, ""
			sys := f.system(workload.Fsync)
			sys.Bound = bound
			sys.Open = func(string) (workload.Store, error) { opened += "open "; return f, nil }
			sys.Quick = func(string) (workload.Store, error) { opened += "quick "; return f, nil }
			l.load.Size, l.load.Measure = size, bound
			if _, err := l.run(t.Context(), sys, ".", l.load); err != nil || opened != want[l.name] {
				t.Errorf("%s: opened %q, %v; want %q", l.name, opened, err, want[l.name])
			}
		})
	}
}

// A system that uses no space again is not made to.
func TestFresh(t *testing.T) {
	for _, fresh := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			sent := 0
			f := &fake{syncs: -1, change: func(body []byte) [][]byte {
				sent++
				return [][]byte{body}
			}}
			sys := f.system(workload.Fsync)
			sys.Fresh = fresh
			_, err := workload.Send(t.Context(), sys, ".", workload.Load{Producers: 1, Batch: 1, Size: size, Dead: 10_000, Measure: time.Millisecond})
			if err != nil || sent >= 10_000 == fresh {
				t.Errorf("fresh %v: %d messages sent, %v", fresh, sent, err)
			}
		})
	}
}

func TestBoundedKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := (&fake{syncs: -1}).system(workload.Fsync)
		sys.Bound = bound
		f, err := workload.Keep(t.Context(), sys, t.TempDir(), 5_000_000, size)
		if most := int64(8*16*bound/moment) + 8*16; err != nil || f.Stored < most*9/10 || f.Stored > most {
			t.Errorf("%d messages stored, %v; want up to %d", f.Stored, err, most)
		}
	})
}

func TestNeverParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := workload.NewWake(crowd{&fake{}}, size)
		if err != nil {
			t.Fatal(err)
		}
		fails("2 are blocked, want 1")(t, workload.Load{}, workload.Result{}, w.Rounds(1, func() {}))
		fails("1 of 1")(t, workload.Load{}, workload.Result{}, w.Close())
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
