package bench

import (
	"testing"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/bench/limit"
	"github.com/spoolmq/spool/bench/subject"
	"github.com/spoolmq/spool/bench/workload"
)

// BenchmarkW10 deletes messages of 100 bytes and rewinds the queue to before the first one. It tells how long the call
// takes and how long from there to the first redelivery, and receives and deletes everything once more; then how long
// a rewind to the middle takes. The limit is a synced write of a few bytes to the raw file, which no rewind can do without.
func BenchmarkW10(b *testing.B) {
	sizes(b, func(b *testing.B, n int) {
		figures := series{}
		dirs := newScratch(b)
		for b.Loop() {
			bound := smallWrite(b, dirs.next())
			figures.add("limit-ms", millis(bound))
			figures.add("x-limit", rewind(b, dirs.next(), n, figures).Seconds()/bound.Seconds())
		}
		figures.report(b)
	})
}

// rewind does W10 once and returns how long the rewind of everything took.
func rewind(b *testing.B, dir string, n int, figures series) time.Duration {
	b.Helper()
	sys := subject.Spool(workload.Fsync)
	stock, err := workload.NewBacklog(background, sys, dir, smallBody)
	must(b, err)
	q, err := stock.Open().(subject.Store).Numbered(0)
	must(b, err)
	must(b, q.SetMeta(background, func(m *spool.Meta) { m.Rewind = time.Hour }))
	begin := time.Now()
	must(b, stock.Store(n/2))
	first, middle := stock.Stored(), time.Now()
	must(b, stock.Store(n/2))
	must(b, stock.ReadBack())

	to := func(instant time.Time, want int64) time.Duration {
		start := time.Now()
		restored, err := q.Rewind(background, instant)
		took := time.Since(start)
		must(b, err)
		if restored != want {
			b.Fatalf("Rewind restored %d messages, want %d", restored, want)
		}
		return took
	}
	all := to(begin, stock.Stored())
	start := time.Now()
	d, err := q.Receive(background)
	must(b, err)
	figures.add("first-ms", millis(time.Since(start)))
	figures.add("call-ms", millis(all))
	stock.Expect()
	must(b, d.Delete(background))
	must(b, stock.Took(d.Body))
	must(b, stock.ReadBack())
	figures.add("middle-call-ms", millis(to(middle, stock.Stored()-first)))
	must(b, stock.Close())
	return all
}

// smallWrite is the median of a hundred synced writes.
func smallWrite(b *testing.B, dir string) time.Duration {
	b.Helper()
	st := open(b, limit.Files(workload.Fsync), dir)
	p, err := st.Producer(0)
	must(b, err)
	var took []time.Duration
	for range 100 {
		start := time.Now()
		must(b, p.Send(background, [][]byte{make([]byte, 16)}))
		took = append(took, time.Since(start))
	}
	must(b, st.Close())
	return workload.Quantile(took, 50)
}
