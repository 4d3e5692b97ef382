package bench

import (
	"testing"

	"github.com/spoolmq/spool/bench/limit"
	"github.com/spoolmq/spool/bench/subject"
	"github.com/spoolmq/spool/bench/workload"
)

const (
	bodySize = 1024
	turn     = 50 // rounds of one kind before those of the other
)

// limitOf is what a level is compared with.
func limitOf(level workload.Level) workload.System {
	if level == workload.Memory {
		return limit.Channel()
	}
	return limit.Files(level)
}

// BenchmarkLongPoll (W6) measures how long a Receive that is blocked takes to return, from the start of the Send that
// wakes it. Before each send the one receiver is seen to be parked; then an idle producer sleeps at least 100 µs, a busy
// one spins for 30 µs. The same is done with the limit, in turns: an unbuffered Go channel for what is in memory, and for
// the rest a raw file that is written, and synced for fsync, before a Go channel wakes the receiver. limit-p50-µs is its
// median, and x-limit the ratio of the medians. An iteration is 50 rounds of each; for the tail to mean something, give it
// time: -benchtime 5s.
func BenchmarkLongPoll(b *testing.B) {
	for _, level := range []workload.Level{workload.Memory, workload.Written, workload.Fsync} {
		for _, producer := range workload.Pauses {
			b.Run(level.String()+"/"+producer.Name, func(b *testing.B) {
				queue := newWake(b, subject.Spool(level))
				bound := newWake(b, limitOf(level))
				turns := func() {
					must(b, queue.Rounds(turn, producer.Pause))
					must(b, bound.Rounds(turn, producer.Pause))
				}
				turns()
				queue.Took, bound.Took = nil, nil
				for b.Loop() {
					turns()
				}
				b.ReportMetric(0, "ns/op") // the pauses, mostly
				b.ReportMetric(micros(workload.Quantile(queue.Took, 50)), "p50-µs")
				b.ReportMetric(micros(workload.Quantile(queue.Took, 99)), "p99-µs")
				b.ReportMetric(micros(workload.Quantile(queue.Took, 99.9)), "p99.9-µs")
				b.ReportMetric(micros(workload.Quantile(bound.Took, 50)), "limit-p50-µs")
				b.ReportMetric(micros(workload.Quantile(bound.Took, 99)), "limit-p99-µs")
				b.ReportMetric(float64(workload.Quantile(queue.Took, 50))/float64(workload.Quantile(bound.Took, 50)), "x-limit")
			})
		}
	}
}

// newWake starts a blocked receiver. At the end it is stopped, and everything must have come.
func newWake(b *testing.B, sys workload.System) *workload.Wake {
	b.Helper()
	st := open(b, sys, b.TempDir())
	w, err := workload.NewWake(st, bodySize)
	must(b, err)
	b.Cleanup(func() {
		if err := w.Close(); err != nil {
			b.Errorf("%s: %v", sys.Name, err)
		}
		if err := st.Close(); err != nil {
			b.Errorf("%s: %v", sys.Name, err)
		}
	})
	return w
}
