package bench

import (
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/spoolmq/spool/bench/limit"
	"github.com/spoolmq/spool/bench/subject"
	"github.com/spoolmq/spool/bench/workload"
)

// BenchmarkW7 stores messages of 100 bytes and tells what each of them takes of memory, before and after the store was
// closed and opened again, and how long that takes until the first message is received. The limit is the raw file,
// which keeps a place in memory for each message and reads all of itself when it is opened.
func BenchmarkW7(b *testing.B) {
	sizes(b, func(b *testing.B, n int) {
		figures := series{}
		dirs := newScratch(b)
		for b.Loop() {
			for range *rounds {
				bound := backlog(b, limit.Files(workload.Fsync), dirs.next(), n, "limit-", figures)
				own := backlog(b, subject.Spool(workload.Fsync), dirs.next(), n, "", figures)
				figures.add("x-limit-open", own.Seconds()/bound.Seconds())
			}
		}
		figures.report(b)
	})
}

// backlog does W7 once on one system and returns how long opening took.
func backlog(b *testing.B, sys workload.System, dir string, n int, prefix string, figures series) time.Duration {
	b.Helper()
	st := open(b, sys, dir)
	stock := workload.NewBacklog(background, sys, st, smallBody)
	heap, private := memory()
	weigh := func(when string) {
		h, p := memory()
		figures.add(prefix+"heap-B/msg"+when, float64(h-heap)/float64(n))
		figures.add(prefix+"private-B/msg"+when, float64(p-private)/float64(n))
	}
	must(b, stock.Store(n))
	weigh("")
	must(b, st.Close())
	start := time.Now()
	st = open(b, sys, dir)
	c, err := st.Consumer(0)
	must(b, err)
	into := make([]workload.Message, 1)
	_, err = c.Receive(background, into)
	took := time.Since(start)
	must(b, err)
	figures.add(prefix+"open-ms", millis(took))
	must(b, c.Delete(background, into))
	must(b, stock.Took(into[0]))
	weigh("-reopened")
	stock.Reopened(st)
	must(b, stock.ReadBack())
	must(b, st.Close())
	return took
}

// memory is what the process holds when everything has been freed that can be: Go's heap, and all memory of its own.
func memory() (heap, private int64) {
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), workload.PrivateMemory(os.Getpid())
}
