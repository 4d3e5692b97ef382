package workload_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/spoolmq/spool/bench/workload"
)

// The percentiles of counted durations are those of the sorted ones, or up to 1/32 higher.
func TestLatencies(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	var all, other workload.Latencies
	var sorted []time.Duration
	for i := range 10_000 {
		d := time.Duration(random.ExpFloat64() * float64(time.Millisecond))
		if i%2 == 0 {
			all.Add(d)
		} else {
			other.Add(d)
		}
		sorted = append(sorted, d)
	}
	all.Merge(&other)
	slices.Sort(sorted)
	for _, p := range []float64{0, 1, 50, 99, 99.9} {
		want := sorted[int(p/100*float64(len(sorted)))]
		if got := all.Percentile(p); got < want || got > want+want/32+1 {
			t.Errorf("Percentile(%v) = %v, want %v or up to 1/32 more", p, got, want)
		}
	}
	if got := all.Percentile(100); got < sorted[len(sorted)-1] {
		t.Errorf("Percentile(100) = %v, want at least %v", got, sorted[len(sorted)-1])
	}
	if got := new(workload.Latencies).Percentile(50); got != 0 {
		t.Errorf("Percentile(50) of nothing = %v", got)
	}
}

func TestQuantile(t *testing.T) {
	var values []time.Duration
	for i := range 1000 {
		values = append(values, time.Duration(1000-i))
	}
	for p, want := range map[float64]time.Duration{50: 501, 99: 991, 99.9: 1000, 100: 1000} {
		if got := workload.Quantile(values, p); got != want {
			t.Errorf("Quantile(%v) = %v, want %v", p, got, want)
		}
	}
	if got := workload.Median([]float64{9, 1, 5, 3}); got != 3 {
		t.Errorf("Median = %v, want 3", got)
	}
}
