package workload

import (
	"math/bits"
	"slices"
	"time"
)

// steps is how many buckets share a power of two: a percentile is at most 1/32 too high.
const (
	stepBits = 5
	steps    = 1 << stepBits
)

// Latencies counts durations in buckets whose width grows with the duration, so that millions cost no memory. The
// zero value is empty. It is not safe for concurrent use.
type Latencies struct {
	counts [(64 - stepBits) * steps]int64
	n      int64
}

// Add counts one duration.
func (l *Latencies) Add(d time.Duration) {
	l.counts[bucket(uint64(max(0, d)))]++
	l.n++
}

// Merge adds what another one has counted.
func (l *Latencies) Merge(o *Latencies) {
	for i, n := range o.counts {
		l.counts[i] += n
	}
	l.n += o.n
}

// Percentile is the duration that p percent of those counted do not exceed, 0 if there are none.
func (l *Latencies) Percentile(p float64) time.Duration {
	rank := int64(p / 100 * float64(l.n))
	for i, n := range l.counts {
		if rank < n || rank == n && n > 0 && p == 100 {
			return time.Duration(highest(i))
		}
		rank -= n
	}
	return 0
}

// bucket maps v < 2*steps to itself, and of larger values the leading stepBits+1 bits.
func bucket(v uint64) int {
	shift := max(0, bits.Len64(v)-stepBits-1)
	return shift*steps + int(v>>shift)
}

// highest is the largest value of a bucket.
func highest(i int) uint64 {
	shift := max(0, i/steps-1)
	return uint64(i-shift*steps+1)<<shift - 1
}

// Quantile is the value that p percent of those given do not exceed, 0 if there are none.
func Quantile[T ~int64 | ~float64](values []T, p float64) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(p/100*float64(len(sorted))), len(sorted)-1)]
}

// Median is the middle of the values, the lower one of two.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(values))[(len(values)-1)/2]
}
