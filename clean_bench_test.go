package spool

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkClean sends a wave of 400,000 messages of 1 KB, deletes all but every nth, and has the log cleaned while a
// producer and a consumer work on another queue. It tells what the disk holds before and after, and the other calls'
// latencies without and with the cleaner beside them, in µs: with the pauses of a log that has just become untidy, of one
// that is about to become crowded, of a crowded one, and without. A slow cleaner is watched for five seconds.
func BenchmarkClean(b *testing.B) {
	for _, nth := range []int{1000, 2} {
		for level, name := range []string{Fsync: "fsync", Written: "written"} {
			for _, p := range []pace{{"long-pauses", untidy, 0}, {"pauses", untidy, 1}, {"short-pauses", crowded, 1}, {"at-once", clogged, 1}} {
				b.Run(fmt.Sprintf("every=%d/%s/%s", nth, name, p.name), func(b *testing.B) {
					for range b.N {
						benchmarkClean(b, nth, Durability(level), p)
					}
				})
			}
		}
	}
}

type pace struct {
	name  string
	press pressure
	haste float64
}

func benchmarkClean(b *testing.B, nth int, level Durability, p pace) {
	const wave, size, batch, watched = 400_000, 1000, 1000, 5 * time.Second
	ctx := context.Background()
	var (
		s    *Spool
		late time.Time
	)
	s, err := Open(b.TempDir(), WithDurability(level), WithSlack(1<<50), WithSteps(func(string) {
		if !late.IsZero() && time.Now().After(late) {
			s.keeper.press = clogged
		}
	}))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	q, err := s.CreateQueue(ctx, "wave", Meta{VisibilityTimeout: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	other, err := s.CreateQueue(ctx, "other", Meta{})
	if err != nil {
		b.Fatal(err)
	}
	ms := make([]Message, batch)
	for i := range ms {
		ms[i].Body = make([]byte, size)
	}
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	for range wave / batch {
		_, err := q.SendBatch(ctx, ms)
		must(err)
		ds, err := q.ReceiveBatch(ctx, batch)
		must(err)
		receipts := make([]string, 0, batch)
		for i, d := range ds {
			if i%nth != 0 {
				receipts = append(receipts, d.Receipt)
			}
		}
		must(q.DeleteBatch(ctx, receipts))
	}
	work := func(until func() bool) (calls [3][]time.Duration) {
		for !until() {
			at := time.Now()
			took := func(i int) {
				now := time.Now()
				calls[i] = append(calls[i], now.Sub(at))
				at = now
			}
			_, err := other.Send(ctx, ms[0])
			took(0)
			must(err)
			d, err := other.Receive(ctx)
			took(1)
			must(err)
			must(d.Delete(ctx))
			took(2)
		}
		return calls
	}
	tell := func(when string, calls [3][]time.Duration) {
		for i, name := range []string{"send", "receive", "delete"} {
			slices.Sort(calls[i])
			b.ReportMetric(float64(calls[i][len(calls[i])*99/100].Nanoseconds())/1e3, name+"-p99-"+when)
		}
	}
	weigh := func(when string) {
		st := s.Stats()
		b.ReportMetric(float64(st.DiskBytes>>20), "MB-disk-"+when)
		b.ReportMetric(float64(st.LogBytes>>20), "MB-log-"+when)
		b.ReportMetric(float64(st.LiveBytes>>20), "MB-live-"+when)
	}
	begun := time.Now()
	tell("alone", work(func() bool { return time.Since(begun) > 3*time.Second }))
	weigh("before")

	end := s.disk.Boundaries()[len(s.disk.Boundaries())-1]
	var cleaning sync.WaitGroup
	late = time.Now().Add(watched)
	never := late.Add(time.Hour)
	cleaning.Go(func() {
		for s.disk.Start() < end {
			s.keeper.work.Lock()
			s.keeper.press, s.keeper.haste, s.keeper.weighed, s.keeper.crowd = p.press, p.haste, never, time.Now()
			must(s.keeper.cleanSegment())
			s.keeper.work.Unlock()
		}
	})
	begun = time.Now()
	tell("cleaning", work(func() bool { return s.disk.Start() >= end || time.Since(begun) > watched }))
	b.ReportMetric(time.Since(begun).Seconds(), "s-cleaning")
	cleaning.Wait()
	weigh("after")
}
