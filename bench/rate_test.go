package bench

import (
	"slices"
	"testing"
	"time"

	"github.com/spoolmq/spool/bench/limit"
	"github.com/spoolmq/spool/bench/subject"
	"github.com/spoolmq/spool/bench/workload"
)

// BenchmarkW1 sends messages of 1 KB one by one from one producer.
func BenchmarkW1(b *testing.B) { rows(b, "W1") }

// BenchmarkW2 sends messages of 1 KB one by one from 64 producers.
func BenchmarkW2(b *testing.B) { rows(b, "W2") }

// BenchmarkW3 sends batches of 16 and of 256 messages of 1 KB from 8 producers.
func BenchmarkW3(b *testing.B) { rows(b, "W3") }

// BenchmarkW4 receives and deletes a backlog, one by one and in batches.
func BenchmarkW4(b *testing.B) { rows(b, "W4") }

// BenchmarkW5 sends, receives and deletes with 8 producers and 8 consumers, one by one and in batches.
func BenchmarkW5(b *testing.B) { rows(b, "W5") }

// longest is the time after which a row begins no further round: on a slow disk ten minutes must do for everything.
const longest = 50 * time.Second

// rows measures spool and the raw file in turn: all start together, after a warm-up of a second at least a second is
// measured, and the last acknowledgement ends it. Then everything is read back. The metrics are medians over the rounds:
// x-limit is the ratio of the rates of one round, x-limit-min and x-limit-max its range. What only sends is also measured on
// a raw file that grows instead of being fallocated, and limit-x-growing is how much faster than that the limit is.
func rows(b *testing.B, id string) {
	for _, row := range workload.Rows() {
		if !row.Is(id) {
			continue
		}
		b.Run(row.Name, func(b *testing.B) {
			row := row.Scaled(*scale)
			systems := []workload.System{limit.Files(row.Level), subject.Spool(row.Level)}
			if row.Load.Consumers == 0 && row.Level == workload.Fsync {
				systems = append(systems, limit.Growing(row.Level))
			}
			results := make([][]workload.Result, len(systems))
			dirs := newScratch(b)
			for b.Loop() {
				start := time.Now()
				for round := range *rounds {
					if took := time.Since(start); took > longest {
						b.Logf("%d of %d rounds: they took %v", round, *rounds, took.Round(time.Second))
						break
					}
					for i, sys := range systems {
						r, err := row.Run(background, sys, dirs.next(), row.Load)
						if err != nil {
							b.Fatalf("%s: %v", sys.Name, err)
						}
						results[i] = append(results[i], r)
					}
				}
			}
			report(b, results)
		})
	}
}

func report(b *testing.B, results [][]workload.Result) {
	bound, own := results[0], results[1]
	ratios := quotients(own, bound)
	b.ReportMetric(0, "ns/op") // of all rounds
	b.ReportMetric(median(own, workload.Result.Rate), "msg/s")
	b.ReportMetric(median(own, percentile(50)), "p50-µs")
	b.ReportMetric(median(own, percentile(99)), "p99-µs")
	b.ReportMetric(median(own, syncs), "fsyncs")
	b.ReportMetric(median(bound, workload.Result.Rate), "limit-msg/s")
	b.ReportMetric(median(bound, percentile(50)), "limit-p50-µs")
	b.ReportMetric(median(bound, syncs), "limit-fsyncs")
	b.ReportMetric(workload.Median(ratios), "x-limit")
	b.ReportMetric(slices.Min(ratios), "x-limit-min")
	b.ReportMetric(slices.Max(ratios), "x-limit-max")
	if len(results) > 2 {
		b.ReportMetric(workload.Median(quotients(bound, results[2])), "limit-x-growing")
	}
}

// quotients are the ratios of the rates, round by round.
func quotients(of, by []workload.Result) (q []float64) {
	for i := range of {
		q = append(q, of[i].Rate()/by[i].Rate())
	}
	return q
}

func median(results []workload.Result, figure func(workload.Result) float64) float64 {
	var figures []float64
	for _, r := range results {
		figures = append(figures, figure(r))
	}
	return workload.Median(figures)
}

func percentile(p float64) func(workload.Result) float64 {
	return func(r workload.Result) float64 { return micros(r.Calls.Percentile(p)) }
}

// syncs are those of the whole run, of the warm-up too.
func syncs(r workload.Result) float64 { return float64(r.Syncs) }
