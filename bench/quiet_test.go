package bench

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/bench/subject"
	"github.com/spoolmq/spool/bench/workload"
)

const blocked = 100 // receivers

// BenchmarkW12 tells what part of a processor an idle spool takes: with a million messages that are due in an hour, and a
// hundred receivers that wait. The limit is the process with a hundred goroutines that wait for a channel. Five
// seconds are measured, when the process has come to rest.
func BenchmarkW12(b *testing.B) {
	figures := series{}
	dirs := newScratch(b)
	for b.Loop() {
		channelIdle(b, figures)
		spoolIdle(b, dirs.next(), figures)
	}
	figures.report(b)
}

func channelIdle(b *testing.B, figures series) {
	b.Helper()
	nothing := make(chan struct{})
	var all sync.WaitGroup
	for range blocked {
		all.Go(func() { <-nothing })
	}
	figures.add("limit-%core", idle(b))
	close(nothing)
	all.Wait()
}

func spoolIdle(b *testing.B, dir string, figures series) {
	b.Helper()
	st := open(b, subject.Spool(workload.Fsync), dir)
	s := st.(subject.Store)
	q, err := s.Numbered(0)
	must(b, err)
	ms := make([]spool.Message, spool.MaxBatch)
	for i := range ms {
		ms[i] = spool.Message{Body: make([]byte, smallBody), Delay: time.Hour}
	}
	n := (scaled(million) + len(ms) - 1) / len(ms)
	for range n {
		_, err := q.SendBatch(background, ms)
		must(b, err)
	}
	ctx, cancel := context.WithCancel(background)
	var all sync.WaitGroup
	for range blocked {
		all.Go(func() {
			if _, err := q.Receive(ctx, spool.Wait(time.Hour)); !errors.Is(err, context.Canceled) {
				b.Errorf("a receiver that waits got %v", err)
			}
		})
	}
	for s.Stats().Waiting < blocked {
		time.Sleep(time.Millisecond)
	}
	figures.add("%core", idle(b))
	a, err := q.Attributes(background)
	must(b, err)
	if want := int64(n * len(ms)); a.Delayed != want {
		b.Errorf("%d messages are delayed, want %d", a.Delayed, want)
	}
	cancel()
	all.Wait()
	must(b, st.Close())
}

// idle is the part of a processor that the process takes while the benchmark sleeps, in percent.
func idle(b *testing.B) float64 {
	b.Helper()
	debug.FreeOSMemory() // what is left of before is not to be collected meanwhile
	time.Sleep(scaledTime(5 * time.Second))
	window := scaledTime(5 * time.Second)
	before := workload.ProcessCPU(os.Getpid())
	if before < 0 {
		b.Skip("the processor time of threads is not known here")
	}
	time.Sleep(window)
	return 100 * float64(workload.ProcessCPU(os.Getpid())-before) / float64(window)
}
