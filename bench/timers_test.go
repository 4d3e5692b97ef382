package bench

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/spoolmq/spool/bench/limit"
	"github.com/spoolmq/spool/bench/subject"
	"github.com/spoolmq/spool/bench/workload"
	"github.com/spoolmq/spool/timer"
)

// BenchmarkW8 sends 100,000 messages with random delays of one to five seconds and tells how late they come, counted
// from when the message is due to the return of Receive, and how many come too early. The limit is a Go timer for each
// message and a channel. There are 8 consumers, and the spool is not fsynced.
func BenchmarkW8(b *testing.B) {
	figures := series{}
	dirs := newScratch(b)
	for b.Loop() {
		for range *rounds {
			bound := lateness(b, limit.Timers(), dirs.next(), "limit-", figures)
			own := lateness(b, subject.Spool(workload.Written), dirs.next(), "", figures)
			figures.add("x-limit", float64(own)/float64(bound))
		}
	}
	figures.report(b)
}

// lateness does W8 once on one system and returns the median.
func lateness(b *testing.B, sys workload.System, dir, prefix string, figures series) time.Duration {
	b.Helper()
	st := open(b, sys, dir)
	got, err := workload.Delays(background, st, scaled(100_000), 16, 8, time.Second, 5*time.Second)
	must(b, err)
	must(b, st.Close())
	middle := workload.Quantile(got.Late, 50)
	figures.add(prefix+"p50-ms", millis(middle))
	figures.add(prefix+"p99-ms", millis(workload.Quantile(got.Late, 99)))
	figures.add(prefix+"max-ms", millis(workload.Quantile(got.Late, 100)))
	figures.add(prefix+"early", float64(got.Early))
	return middle
}

// BenchmarkW11 starts and stops a million timers: of the wheel that a spool has for delays and leases, and for the limit
// Go's own. Half of the runs start them in the order in which they are due and stop them in that order, the others at
// random. B/timer is what a pending one takes.
func BenchmarkW11(b *testing.B) {
	n := scaled(million)
	random := rand.New(rand.NewPCG(1, 1))
	for _, order := range []struct {
		name string
		at   func(i int) time.Duration
		stop func() []int
	}{
		{"in-order", func(i int) time.Duration { return time.Duration(i) * time.Microsecond }, func() []int { return ascending(n) }},
		{"random", func(int) time.Duration { return time.Duration(random.Int64N(int64(time.Hour))) }, func() []int { return random.Perm(n) }},
	} {
		b.Run(order.name, func(b *testing.B) {
			figures := series{}
			delays := make([]time.Duration, n)
			for i := range delays {
				delays[i] = time.Minute + order.at(i)
			}
			stops := order.stop()
			for b.Loop() {
				for range *rounds {
					bound := timers(goTimers(n), delays, stops, "limit-", figures)
					own := timers(wheel(n), delays, stops, "", figures)
					figures.add("x-limit-start", own/bound)
				}
			}
			figures.report(b)
		})
	}
}

func ascending(n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	return order
}

// timers does W11 once and returns what a start takes, in ns.
func timers(t timerSet, delays []time.Duration, stops []int, prefix string, figures series) float64 {
	n := float64(len(delays))
	before := heap()
	begin := time.Now()
	for i, d := range delays {
		t.start(i, d)
	}
	started := float64(time.Since(begin)) / n
	after := heap()
	stop := t.stopper(stops)
	begin = time.Now()
	stop()
	figures.add(prefix+"stop-ns", float64(time.Since(begin))/n)
	figures.add(prefix+"start-ns", started)
	figures.add(prefix+"B/timer", float64(after-before)/n)
	return started
}

// heap is what is left of Go's heap when everything has been freed that can be, in bytes. The runtime lets go of timers
// that were stopped when a processor looks for work.
func heap() int64 {
	time.Sleep(10 * time.Millisecond)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A timerSet has timers by number. What it knows them by is there before it is used. The function that stops them has laid
// that out in the order in which it needs it: where an owner finds it is its own affair.
type timerSet struct {
	start   func(i int, d time.Duration)
	stopper func(order []int) func()
}

func wheel(n int) timerSet {
	w := new(timer.Wheel)
	w.Advance(1, 1, nil)
	type known struct {
		handle timer.Handle
		id     uint32
	}
	pending := make([]known, n)
	return timerSet{
		func(i int, d time.Duration) { pending[i] = known{w.Schedule(int64(d), uint64(i)), uint32(i)} },
		func(order []int) func() {
			ordered := pick(pending, order)
			return func() {
				for _, t := range ordered {
					w.Cancel(t.handle, uint64(t.id))
				}
			}
		},
	}
}

func goTimers(n int) timerSet {
	pending := make([]*time.Timer, n)
	return timerSet{
		func(i int, d time.Duration) { pending[i] = time.AfterFunc(d, func() {}) },
		func(order []int) func() {
			ordered := pick(pending, order)
			return func() {
				for _, t := range ordered {
					t.Stop()
				}
			}
		},
	}
}

func pick[T any](of []T, order []int) []T {
	picked := make([]T, 0, len(order))
	for _, i := range order {
		picked = append(picked, of[i])
	}
	return picked
}
