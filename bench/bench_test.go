package bench

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spoolmq/spool/bench/workload"
)

var (
	full   = flag.Bool("spool.full", false, "measure 10 million messages as well")
	rounds = flag.Int("spool.rounds", 3, "runs of each system, in turn, of which the medians are told")
	scale  = flag.Float64("spool.scale", 1, "multiply counts and times by this; below 1 the figures mean little")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A scratch hands out directories one after the other. Each is removed when the next one is asked for, and the disk
// has come to rest before that is used.
type scratch struct {
	b    *testing.B
	root string
	n    int
}

func newScratch(b *testing.B) *scratch { return &scratch{b: b, root: b.TempDir()} }

func (s *scratch) next() string {
	s.b.Helper()
	if err := os.RemoveAll(filepath.Join(s.root, strconv.Itoa(s.n))); err != nil {
		s.b.Fatal(err)
	}
	s.n++
	dir := filepath.Join(s.root, strconv.Itoa(s.n))
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.b.Fatal(err)
	}
	if err := workload.SyncDir(dir); err != nil {
		s.b.Fatal(err)
	}
	return dir
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func open(b *testing.B, sys workload.System, dir string) workload.Store {
	b.Helper()
	st, err := sys.Open(dir)
	must(b, err)
	return st
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

var background = context.Background()

func scaled(n int) int { return max(1000, int(float64(n)**scale)) }

func scaledTime(d time.Duration) time.Duration { return time.Duration(float64(d) * *scale) }

const (
	million   = 1_000_000
	smallBody = 100
)

// sizes runs a benchmark with a million messages, and with -spool.full with ten million.
func sizes(b *testing.B, run func(b *testing.B, n int)) {
	b.Run("1M", func(b *testing.B) { run(b, scaled(million)) })
	b.Run("10M", func(b *testing.B) {
		if !*full {
			b.Skip("10 million messages take minutes and gigabytes of disk: -spool.full")
		}
		run(b, scaled(10*million))
	})
}

// A series collects the figures of the rounds, by unit.
type series map[string][]float64

func (s series) add(unit string, figure float64) { s[unit] = append(s[unit], figure) }

// report tells the medians.
func (s series) report(b *testing.B) {
	b.ReportMetric(0, "ns/op") // of all rounds
	for unit, figures := range s {
		b.ReportMetric(workload.Median(figures), unit)
	}
}
