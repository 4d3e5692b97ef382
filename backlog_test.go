package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var (
	backlogSize   = flag.Int("spool.backlog.n", 0, "messages of TestBacklog in each state; 0 = a few")
	backlogBudget = flag.Int64("spool.backlog.budget", 32<<20, "memory budget of TestBacklog with many messages, bytes")
)

// A backlogRun is a queue full of messages of one state, on disk, that is closed, opened, and drained in order.
type backlogRun struct {
	t     *testing.T
	state string
	n     int
	long  bool // figures are printed and memory is bounded as it is in production
	wait  time.Duration
	s     *Spool
	q     *Queue
	peak  atomic.Int64 // MB
	since time.Time
}

// TestBacklog: however many messages wait, are delayed, leased or rewindable, they take no more memory than the budget
// says, and come back in order, also after a reopen.
func TestBacklog(t *testing.T) {
	for _, state := range []string{"active", "delayed", "random delays", "inactive", "rewindable", "one of a thousand"} {
		t.Run(state, func(t *testing.T) {
			r := &backlogRun{t: t, state: state, n: 20_000, wait: time.Second}
			if state == "inactive" {
				r.wait *= 3 // no lease ends before the last message has been received, on a busy machine either
			}
			if *backlogSize > 0 {
				r.n, r.long, r.wait = *backlogSize, true, 20*time.Second+time.Duration(*backlogSize)*4*time.Microsecond
			}
			stop, ended := make(chan struct{}), make(chan struct{})
			go r.watch(stop, ended)
			r.run()
			close(stop)
			<-ended
		})
	}
}

// watch notes the highest resident memory of the process.
func (r *backlogRun) watch(stop, ended chan struct{}) {
	defer close(ended)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			if mb := residentMB(); mb > r.peak.Load() {
				r.peak.Store(mb)
			}
		}
	}
}

// residentMB is the anonymous resident memory of the process, 0 where the system does not tell.
func residentMB() (mb int64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			_, _ = fmt.Sscan(rest, &mb)
		}
	}
	return mb >> 10
}

func (r *backlogRun) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *backlogRun) open(dir string) {
	options := []Option{WithDurability(Written), WithMemoryBudget(*backlogBudget)}
	if !r.long {
		options = append(options, WithPaging(0, 64<<10), WithSizes(1<<20, 1<<20))
	}
	r.since = time.Now()
	s, err := Open(dir, options...)
	r.must(err)
	r.s = s
	r.t.Cleanup(func() { s.Close() })
}

// note prints what a phase took.
func (r *backlogRun) note(phase string) {
	if !r.long {
		return
	}
	st := r.s.Stats()
	r.t.Logf("%-18s %-9s %7.2f s, RssAnon at most %4d MB, blocks %5.1f MB, disk %5d MB, index %4d MB, %d bytes of log a message",
		r.state, phase, time.Since(r.since).Seconds(), r.peak.Load(), float64(st.MemoryBytes)/(1<<20), st.DiskBytes>>20, st.IndexBytes>>20, st.LogBytes/int64(r.n))
	if limit := (*backlogBudget + 100<<20) >> 20; r.peak.Load() > limit {
		r.t.Errorf("%s, %s: %d MB resident, limit %d", r.state, phase, r.peak.Load(), limit)
	}
	r.peak.Store(0)
	r.since = time.Now()
}

func (r *backlogRun) run() {
	dir := r.t.TempDir()
	r.open(dir)
	meta := Meta{VisibilityTimeout: 24 * time.Hour}
	switch r.state {
	case "inactive":
		meta.VisibilityTimeout = r.wait
	case "rewindable":
		meta.Rewind = 24 * time.Hour
	}
	q, err := r.s.CreateQueue(r.t.Context(), "q", meta)
	r.must(err)
	r.q = q
	r.send()
	r.note("sent")
	every := 1
	switch r.state {
	case "inactive":
		r.drain(1, false)
		r.note("leased")
	case "rewindable":
		r.drain(1, true)
		r.note("deleted")
	case "one of a thousand":
		every = 1000
		r.thin(every)
		r.note("thinned")
	}
	before, err := r.q.Attributes(r.t.Context())
	r.must(err)
	r.must(r.s.Close())
	r.open(dir)
	r.q, err = r.s.Queue("q")
	r.must(err)
	if before.Active > 0 {
		_, err := r.q.Peek(r.t.Context(), 1)
		r.must(err)
	}
	r.note("opened")
	after, err := r.q.Attributes(r.t.Context())
	r.must(err)
	if n := r.n / every; after.Active+after.Inactive+after.Delayed+after.Rewindable != int64(n) || before.Sent != after.Sent || before.Rewindable != after.Rewindable {
		r.t.Fatalf("%d messages: before %+v, after %+v", n, before, after)
	}
	if r.state == "rewindable" {
		n, err := r.q.Rewind(r.t.Context(), after.CreatedAt)
		if err != nil || n != int64(r.n) {
			r.t.Fatalf("Rewind = %d, %v, want %d", n, err, r.n)
		}
	}
	r.drain(every, true)
	r.note("drained")
	reads := r.s.keeper.shelf.reads.Load()
	if reads == 0 {
		r.t.Error("the index has answered no read")
	}
	checkAll(r.t, r.s)
	r.must(r.s.Close())
}

// send sends the messages, each with its number, in batches. Delays end in the order of the messages, or at random.
func (r *backlogRun) send() {
	due := time.Now().Add(r.wait)
	rng := rand.New(rand.NewPCG(1, 2))
	body := bytes.Repeat([]byte("spool"), 20)
	batch := make([]Message, MaxBatch)
	for n := 0; n < r.n; n += len(batch) {
		batch = batch[:min(len(batch), r.n-n)]
		for i := range batch {
			batch[i] = Message{Body: binary.BigEndian.AppendUint64(bytes.Clone(body)[:92], uint64(n+i))}
			switch r.state {
			case "delayed":
				batch[i].Delay = r.wait
			case "random delays":
				batch[i].Delay = max(time.Until(due)-time.Duration(rng.Int64N(int64(r.wait/2))), 1)
			}
		}
		_, err := r.q.SendBatch(r.t.Context(), batch)
		r.must(err)
	}
}

// drain receives every message, and checks that each comes once; in the order of production, unless delays mix it.
func (r *backlogRun) drain(every int, remove bool) {
	var seen []bool
	if r.state == "random delays" {
		seen = make([]bool, r.n)
	}
	next := every - 1
	for got := 0; got < r.n/every; {
		ds, err := r.q.ReceiveBatch(r.t.Context(), MaxBatch, Wait(time.Hour))
		r.must(err)
		receipts := make([]string, len(ds))
		for i, d := range ds {
			n := int(binary.BigEndian.Uint64(d.Body[92:]))
			switch {
			case seen == nil && n != next:
				r.t.Fatalf("message %d has come, want %d", n, next)
			case seen != nil && seen[n]:
				r.t.Fatalf("message %d has come twice", n)
			case seen != nil:
				seen[n] = true
			}
			next = n + every
			receipts[i] = d.Receipt
		}
		got += len(ds)
		if remove {
			r.must(r.q.DeleteBatch(r.t.Context(), receipts))
		}
	}
	if _, err := r.q.Receive(r.t.Context(), Wait(0)); !errors.Is(err, ErrNoMessage) {
		r.t.Fatalf("Receive = %v when all have come", err)
	}
}

// thin deletes all messages but one of so many.
func (r *backlogRun) thin(every int) {
	for got := 0; got < r.n; {
		ds, err := r.q.ReceiveBatch(r.t.Context(), MaxBatch, Wait(0))
		r.must(err)
		var gone []string
		for i, d := range ds {
			if (got+i)%every != every-1 {
				gone = append(gone, d.Receipt)
				continue
			}
			defer func() { r.must(d.Release(r.t.Context(), 0)) }()
		}
		r.must(r.q.DeleteBatch(r.t.Context(), gone))
		got += len(ds)
	}
}
