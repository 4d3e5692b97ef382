package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spoolmq/spool/bench/workload"
)

// figures are what one run has shown, by unit.
type figures map[string]float64

// A work is one load at one level, or one point of a curve.
type work struct {
	ID, Name string
	Level    workload.Level
	Units    []string // of the figures that are shown; the first one is in the pictures
	Less     bool     // smaller figures are better
	Curve    string   // empty: it is a row of the table
	X        int      // where on the curve
	Asked    figures  // messages, by unit: a run that has fewer is noted as such
	run      func(ctx context.Context, sys workload.System, dir string) (figures, error)
}

const (
	bodySize  = 1024
	smallBody = 100
	million   = 1_000_000
	contract  = 192 << 20
)

// works lists what is measured. Rewind (W10), the timers alone (W11) and the cost of idling (W12) have no peer: they are
// measured in package bench only.
func works(o options) []work {
	var all []work
	for _, row := range workload.Rows() {
		row := row.Scaled(o.Scale)
		all = append(all, work{ID: row.ID, Name: row.Name, Level: row.Level, Units: []string{"msg/s"},
			Asked: figures{"drained": float64(row.Load.AtLeast)},
			run: func(ctx context.Context, sys workload.System, dir string) (figures, error) {
				return rates(row.Run(ctx, sys, dir, row.Load))
			}})
	}
	for _, level := range []workload.Level{workload.Memory, workload.Written, workload.Fsync} {
		for _, producer := range workload.Pauses {
			all = append(all, work{ID: "W6", Name: "wake/" + producer.Name + "/" + level.String(), Level: level, Units: []string{"p50-µs", "p99-µs"}, Less: true,
				run: func(_ context.Context, sys workload.System, dir string) (figures, error) {
					return wake(sys, dir, producer.Pause, o.duration(time.Second))
				}})
		}
	}
	all = append(all,
		work{ID: "W7", Name: "backlog/1M/written", Level: workload.Written, Units: []string{"B/msg", "open-ms"}, Less: true,
			Asked: figures{"stored": float64(o.count(million))}, run: keep(o.count(million))},
		work{ID: "W8", Name: "lateness/100k/written", Level: workload.Written, Units: []string{"p50-ms", "p99-ms", "max-ms"}, Less: true,
			run: lateness(o.count(100_000))},
		work{ID: "W9", Name: "disk/64-producers/fsync", Level: workload.Fsync, Units: []string{"device-B/msg", "disk-B/msg"}, Less: true,
			Asked: figures{"stored": float64(o.count(100_000))}, run: wear(o.count(100_000))},
	)
	return append(all, curves(o)...)
}

// curves are throughput and latency against what a system can be asked for more of.
func curves(o options) (all []work) {
	add := func(curve string, level workload.Level, x int, run func(context.Context, workload.System, string, workload.Load) (workload.Result, error), l workload.Load) {
		l.Warm, l.Measure = o.duration(time.Second), o.duration(time.Second)
		all = append(all, work{ID: "curve", Name: fmt.Sprintf("%s/%d/%s", curve, x, level), Level: level, Units: []string{"msg/s"}, Curve: curve, X: x,
			Asked: figures{"backlog": float64(l.Backlog)},
			run: func(ctx context.Context, sys workload.System, dir string) (figures, error) {
				return rates(run(ctx, sys, dir, l))
			}})
	}
	backlogs := []int{1_000, 10_000, 100_000, 1_000_000}
	if o.Full {
		backlogs = append(backlogs, 10_000_000)
	}
	for _, n := range backlogs {
		add("backlog", workload.Written, n, workload.Through, workload.Load{Producers: 1, Consumers: 1, Batch: 1, Size: smallBody, Backlog: o.count(n)})
	}
	for size := 16; size <= 1<<20; size *= 16 {
		add("size", workload.Fsync, size, workload.Send, workload.Load{Producers: 8, Batch: 1, Size: size})
	}
	for n := 1; n <= 256; n *= 4 {
		add("workers", workload.Fsync, n, workload.Through, workload.Load{Producers: n, Consumers: n, Batch: 1, Size: bodySize})
	}
	for n := 1; n <= 10_000; n *= 10 {
		add("queues", workload.Fsync, n, workload.Send, workload.Load{Producers: 64, Batch: 1, Size: bodySize, Queues: n})
	}
	return all
}

func rates(r workload.Result, err error) (figures, error) {
	f := figures{"msg/s": r.Rate(), "p50-µs": micros(r.Calls.Percentile(50)), "p99-µs": micros(r.Calls.Percentile(99)),
		"syncs": float64(r.Syncs), "flushes": float64(r.Flushes), "messages": float64(r.Messages),
		"backlog": float64(r.Backlog), "drained": float64(r.Drained)}
	return f, err
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// wake does as many rounds as fit into a time, after a tenth of it that does not count.
func wake(sys workload.System, dir string, pause func(), long time.Duration) (figures, error) {
	st, err := sys.Open(dir)
	if err != nil {
		return nil, err
	}
	w, err := workload.NewWake(st, bodySize)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	turns := func(long time.Duration) (err error) {
		for end := time.Now().Add(long); err == nil && time.Now().Before(end); {
			err = w.Rounds(10, pause)
		}
		return err
	}
	err = turns(long / 10)
	w.Took = nil
	if err == nil {
		err = turns(long)
	}
	f := figures{"p50-µs": micros(workload.Quantile(w.Took, 50)), "p99-µs": micros(workload.Quantile(w.Took, 99)),
		"p99.9-µs": micros(workload.Quantile(w.Took, 99.9))}
	return f, errors.Join(err, w.Close(), st.Close())
}

func keep(n int) func(context.Context, workload.System, string) (figures, error) {
	return func(ctx context.Context, sys workload.System, dir string) (figures, error) {
		f, err := workload.Keep(ctx, sys, dir, n, smallBody)
		return figures{"B/msg": f.Private, "open-ms": millis(f.Open), "stored": float64(f.Stored)}, err
	}
}

func lateness(n int) func(context.Context, workload.System, string) (figures, error) {
	return func(ctx context.Context, sys workload.System, dir string) (figures, error) {
		st, err := sys.Open(dir)
		if err != nil {
			return nil, err
		}
		got, err := workload.Delays(ctx, st, n, min(sys.Batch, 16), 8, time.Second, 5*time.Second)
		f := figures{"p50-ms": millis(workload.Quantile(got.Late, 50)), "p99-ms": millis(workload.Quantile(got.Late, 99)),
			"max-ms": millis(workload.Quantile(got.Late, 100)), "early": float64(got.Early)}
		return f, errors.Join(err, st.Close())
	}
}

func wear(n int) func(context.Context, workload.System, string) (figures, error) {
	return func(ctx context.Context, sys workload.System, dir string) (figures, error) {
		w, err := workload.Use(ctx, sys, dir, n, bodySize, 64, contract)
		if err != nil {
			return nil, err
		}
		return figures{"device-B/msg": w.Device, "disk-B/msg": float64(w.Disk) / float64(w.Stored), "stored": float64(w.Stored)}, nil
	}
}
