package badgerkv

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/spoolmq/spool/store"
)

// BenchmarkOpen opens and closes an index with the given number of keys and values of 4 to 30 KB.
func BenchmarkOpen(b *testing.B) {
	for _, keys := range []int{0, 3_500, 18_000} {
		b.Run(fmt.Sprintf("%dkeys", keys), func(b *testing.B) {
			dir := b.TempDir()
			ix := mustOpen(b, dir)
			f := newFlood(keys)
			must(b, f.run(ix, 10))
			must(b, ix.Close())
			for b.Loop() {
				ix = mustOpen(b, dir)
				b.StopTimer()
				must(b, ix.Close())
				b.StartTimer()
			}
			b.ReportMetric(float64(f.written>>20), "MB")
		})
	}
}

// BenchmarkFlood writes as checkpoints do.
func BenchmarkFlood(b *testing.B) {
	for b.Loop() {
		ix := mustOpen(b, b.TempDir())
		f := newFlood(18_000)
		must(b, f.run(ix, 20))
		b.SetBytes(int64(f.written))
		must(b, ix.Close())
	}
}

// BenchmarkClose closes an index to which 1 MB was applied since it was opened.
func BenchmarkClose(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		b.StopTimer()
		ix := mustOpen(b, dir)
		must(b, writeMB(ix, 1))
		b.StartTimer()
		must(b, ix.Close())
	}
}

// BenchmarkApply applies batches of 1,000 values, synced every 100th.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{64, 4096} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			ix := mustOpen(b, b.TempDir())
			defer func() { must(b, ix.Close()) }()
			batch := make([]store.Change, 1000)
			value := bytes.Repeat([]byte("v"), size)
			n := 0
			for b.Loop() {
				for i := range batch {
					batch[i] = store.Change{Key: fmt.Appendf(nil, "%012d", n), Value: value}
					n++
				}
				must(b, ix.Apply(batch))
				if n%100_000 == 0 {
					must(b, ix.Sync())
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "values/s")
			b.SetBytes(int64(size * len(batch)))
		})
	}
}

// BenchmarkSync syncs after a batch of one small value.
func BenchmarkSync(b *testing.B) {
	ix := mustOpen(b, b.TempDir())
	defer func() { must(b, ix.Close()) }()
	for b.Loop() {
		must(b, ix.Apply([]store.Change{set("a", "1")}))
		must(b, ix.Sync())
	}
}

// BenchmarkRead reads an index of 20 MB in values of 4 KB.
func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	ix := mustOpen(b, dir)
	must(b, writeMB(ix, 20))
	must(b, ix.Close())
	ix = mustOpen(b, dir)
	defer func() { must(b, ix.Close()) }()
	b.Run("Get", func(b *testing.B) {
		i := 0
		for b.Loop() {
			_, err := ix.Get(fmt.Appendf(nil, "%09d", i%5120*7919%1_000_003))
			must(b, err)
			i++
		}
	})
	b.Run("Scan", func(b *testing.B) {
		n := 0
		for b.Loop() {
			m, err := readAll(ix)
			must(b, err)
			n += m
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
	})
}
