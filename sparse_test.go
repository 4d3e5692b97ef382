package spool_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memkv"
	"github.com/spoolmq/spool/store/memlog"
)

// sendSparse sends so many blocks of messages of which one can be received, each with its number, and the others are
// delayed for an hour.
func (q *caseQueue) sendSparse(blocks int) {
	q.tb.Helper()
	ms := make([]spool.Message, 1024)
	for n := range blocks {
		for i := range ms {
			ms[i] = spool.Message{Body: []byte("delayed"), Delay: time.Hour}
		}
		ms[500] = spool.Message{Body: fmt.Append(nil, n), Delay: spool.NoDelay}
		if _, err := q.SendBatch(bg, ms); err != nil {
			q.tb.Fatal(err)
		}
	}
}

// numbers are what sendSparse sends, from one up to another.
func numbers(from, to int) (bodies []string) {
	for n := from; n < to; n++ {
		bodies = append(bodies, fmt.Sprint(n))
	}
	return bodies
}

func receiptsOf(ds []*spool.Delivery) (receipts []string) {
	for _, d := range ds {
		receipts = append(receipts, d.Receipt)
	}
	return receipts
}

// wantBodies expects messages with their bodies, in order.
func wantBodies(tb testing.TB, what string, ds []*spool.Delivery, err error, want []string) {
	tb.Helper()
	if got := bodiesOf(ds); err != nil || !slices.Equal(got, want) {
		tb.Errorf("%s = %d messages %.40q, %v, want %d, %.40q", what, len(got), got, err, len(want), want)
	}
}

// TestSparseBatch: a batch takes what can be received however many blocks that is spread over, and memory stays within the
// budget at every moment, and within three eighths of it soon after.
func TestSparseBatch(t *testing.T) {
	for _, budget := range []int64{8 << 20, 64 << 20} {
		t.Run(fmt.Sprint(budget>>20, " MiB"), func(t *testing.T) {
			blocks := unraced(1000, 200)
			s := onDisk(t, t.TempDir(), spool.WithDurability(spool.Written), spool.WithoutPaging, spool.WithMemoryBudget(budget))
			q := s.create("q", spool.Meta{VisibilityTimeout: time.Hour})
			q.sendSparse(blocks)
			bounded := func(what string) {
				t.Helper()
				if n := s.Stats().MemoryBytes; n > budget {
					t.Errorf("%s: %d bytes in memory, budget %d", what, n, budget)
				}
				for deadline := time.Now().Add(20 * time.Second); s.Stats().MemoryBytes > budget*3/8; runtime.Gosched() {
					if time.Now().After(deadline) {
						t.Fatalf("%s: %d bytes stay in memory, want three eighths of %d", what, s.Stats().MemoryBytes, budget)
					}
				}
			}
			want := numbers(0, blocks)
			ds, err := q.Peek(bg, blocks)
			wantBodies(t, "Peek", ds, err, want)
			bounded("Peek")
			ds, err = q.ReceiveBatch(bg, blocks)
			wantBodies(t, "ReceiveBatch", ds, err, want)
			bounded("ReceiveBatch")
			if err := q.DeleteBatch(bg, receiptsOf(ds)); err != nil {
				t.Errorf("DeleteBatch = %v", err)
			}
			bounded("DeleteBatch")
			q.counts(0, 0, int64(blocks)*1023, 0)
		})
	}
}

// TestDeleteBatchTogether: a batch of deletions is one record, so that all of it or nothing survives a crash, when the blocks
// of its messages have to be read first too.
func TestDeleteBatchTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New(memlog.Options{})
		q := openOn(t, log, t.TempDir(), spool.WithMemoryBudget(8<<20)).create("q", spool.Meta{VisibilityTimeout: time.Hour})
		const blocks, of = 60, 5
		var receipts []string
		for n := range blocks {
			if _, err := q.SendBatch(bg, make1024()); err != nil {
				t.Fatal(err)
			}
			ds, err := q.ReceiveBatch(bg, 1024)
			if err != nil || len(ds) != 1024 {
				t.Fatalf("ReceiveBatch = %d messages, %v, want 1024", len(ds), err)
			}
			if n < of-1 || n == blocks-1 {
				receipts = append([]string{ds[3].Receipt, ds[900].Receipt}, receipts...) // the newest are in memory
			}
		}
		time.Sleep(time.Minute)
		if out := q.Queue.BlocksAway(); out < blocks/2 {
			t.Fatalf("%d of %d blocks are out of memory, want half of them", out, blocks)
		}
		end := log.End()
		if err := q.DeleteBatch(bg, receipts); err != nil {
			t.Fatal(err)
		}
		records := 0
		err := log.Replay(end, func(_ store.Position, payload []byte) error {
			for len(payload) > 0 {
				_, rest, err := store.NextRecord(payload)
				if err != nil {
					return err
				}
				payload = rest
				records++
			}
			return nil
		})
		if err != nil || records != 1 {
			t.Errorf("a batch of %d deletions is %d records, %v, want one", len(receipts), records, err)
		}
		q.counts(0, blocks*1024-2*of, 0, 0)
	})
}

// TestSparseDeletesEnd: batches of deletions that are spread over more blocks than there is memory for come to an end, though
// what one has read is put out again for the others.
func TestSparseDeletesEnd(t *testing.T) {
	const callers = 4
	blocks := unraced(100, 30)
	high := int64(unraced(4<<20, 1<<20))
	q := onDisk(t, t.TempDir(), spool.WithDurability(spool.Written), spool.WithPaging(high/4, high)).create("q", spool.Meta{VisibilityTimeout: time.Hour})
	receipts := make([][]string, callers)
	for range blocks {
		if _, err := q.SendBatch(bg, make1024()); err != nil {
			t.Fatal(err)
		}
		ds, err := q.ReceiveBatch(bg, 1024)
		if err != nil || len(ds) != 1024 {
			t.Fatalf("ReceiveBatch = %d messages, %v, want 1024", len(ds), err)
		}
		for i := range receipts {
			receipts[i] = append(receipts[i], ds[i*200].Receipt, ds[i*200+100].Receipt)
		}
	}
	var calls sync.WaitGroup
	for i := range receipts {
		calls.Go(func() {
			if err := q.DeleteBatch(bg, receipts[i]); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	q.counts(0, int64(blocks)*1024-int64(callers*blocks*2), 0, 0)
}

func make1024() (ms []spool.Message) {
	for range 1024 {
		ms = append(ms, spool.Message{Body: []byte("m")})
	}
	return ms
}

// TestSparseBatches: however many queues are read at once, memory stays within the budget.
func TestSparseBatches(t *testing.T) {
	const budget, queues = 8 << 20, 32
	blocks := unraced(40, 10)
	s := onDisk(t, t.TempDir(), spool.WithDurability(spool.Written), spool.WithoutPaging, spool.WithMemoryBudget(budget))
	var qs []*caseQueue
	for i := range queues {
		q := s.create(fmt.Sprint("q", i), spool.Meta{VisibilityTimeout: time.Hour})
		q.sendSparse(blocks)
		qs = append(qs, q)
	}
	var most atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				most.Store(max(most.Load(), s.Stats().MemoryBytes))
				runtime.Gosched()
			}
		}
	}()
	var calls sync.WaitGroup
	for _, q := range qs {
		calls.Go(func() {
			ds, err := q.Peek(bg, blocks)
			wantBodies(t, "Peek", ds, err, numbers(0, blocks))
			ds, err = q.ReceiveBatch(bg, blocks)
			wantBodies(t, "ReceiveBatch", ds, err, numbers(0, blocks))
			if err := q.DeleteBatch(bg, receiptsOf(ds)); err != nil {
				t.Errorf("DeleteBatch = %v", err)
			}
		})
	}
	calls.Wait()
	close(stop)
	<-stopped
	t.Logf("up to %d bytes in memory", most.Load())
	if most.Load() > budget {
		t.Errorf("up to %d bytes in memory, budget %d", most.Load(), budget)
	}
}

// A getIndex calls a function before a read, if one is set.
type getIndex struct {
	*memkv.Index
	get atomic.Pointer[func()]
}

func (x *getIndex) Get(key []byte) ([]byte, error) {
	if f := x.get.Load(); f != nil {
		(*f)()
	}
	return x.Index.Get(key)
}

// A portionRun is a queue whose blocks are away, and are read one by one.
type portionRun struct {
	*caseSpool
	q   *caseQueue
	ix  *getIndex
	log *readLog
}

const portionBlocks = 12

// inPortions runs f in a bubble with a sparse queue whose blocks are away; a portion is one block.
func inPortions(t *testing.T, meta spool.Meta, f func(t *testing.T, r *portionRun)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := &readLog{Log: memlog.New(memlog.Options{SegmentSize: 4 << 20})} // what is deleted can be read
		r := &portionRun{ix: &getIndex{Index: memkv.New()}, log: log}
		s, err := spool.OpenOn(r.log, dir, func() (store.Index, error) { return r.ix, nil }, spool.WithPaging(0, 2<<10))
		if err != nil {
			t.Fatal(err)
		}
		r.caseSpool = newCaseSpool(t, s)
		r.q = r.create("q", meta)
		r.q.sendSparse(portionBlocks)
		time.Sleep(2 * sec)
		f(t, r)
	})
}

// between has f called once, when so many more blocks have been read and the next one is about to be. Whoever needs that
// block too waits until f returns; nobody else does.
func (r *portionRun) between(blocks int, f func()) {
	gets := 2*blocks + 1
	once := func() {
		if gets--; gets == 0 {
			f()
		}
	}
	r.ix.get.Store(&once)
}

func (r *portionRun) receive(max int, opts ...spool.ReceiveOption) ([]*spool.Delivery, error) {
	return r.q.ReceiveBatch(bg, max, opts...)
}

// TestPortions: a receive of several portions is one to its caller.
func TestPortions(t *testing.T) {
	hour := spool.Meta{VisibilityTimeout: time.Hour}
	all := numbers(0, portionBlocks)
	t.Run("max", func(t *testing.T) {
		inPortions(t, hour, func(t *testing.T, r *portionRun) {
			ds, err := r.q.Peek(bg, 5)
			wantBodies(t, "Peek", ds, err, all[:5])
			ds, err = r.receive(5)
			wantBodies(t, "ReceiveBatch", ds, err, all[:5])
			ds, err = r.receive(spool.MaxBatch)
			wantBodies(t, "ReceiveBatch", ds, err, all[5:])
			r.q.counts(0, portionBlocks, 1023*portionBlocks, 0)
			if err := r.q.DeleteBatch(bg, receiptsOf(ds)); err != nil {
				t.Errorf("DeleteBatch = %v", err)
			}
			_, err = r.receive(spool.MaxBatch)
			wantErr(t, "ReceiveBatch", err, spool.ErrNoMessage)
			ds, err = r.q.Peek(bg, spool.MaxBatch)
			wantBodies(t, "Peek", ds, err, nil)
		})
	})
	t.Run("a waiting receiver", func(t *testing.T) {
		inPortions(t, spool.Meta{VisibilityTimeout: time.Hour, Rewind: time.Hour}, func(t *testing.T, r *portionRun) {
			ds, err := r.receive(spool.MaxBatch)
			wantBodies(t, "ReceiveBatch", ds, err, all)
			if err := r.q.DeleteBatch(bg, receiptsOf(ds)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * sec)
			answers := r.q.waiting(bg, 10, spool.Wait(time.Minute))
			r.q.rewind(r.q.attributes().CreatedAt, portionBlocks)
			synctest.Wait()
			a := answered(t, answers)
			wantBodies(t, "a waiting ReceiveBatch", a.ds, a.err, all[:10])
			r.q.counts(2, 10, 1023*portionBlocks, 0)
		})
	})
	t.Run("a lease is over", func(t *testing.T) {
		inPortions(t, hour, func(t *testing.T, r *portionRun) {
			r.between(3, func() { time.Sleep(sec) })
			ds, err := r.receive(spool.MaxBatch, spool.Visibility(sec))
			wantBodies(t, "ReceiveBatch", ds, err, all[:max(3, min(4, len(ds)))]) // the fourth at the instant at which its read began
			r.q.counts(portionBlocks, 0, 1023*portionBlocks, 0)
		})
	})
	t.Run("an older message", func(t *testing.T) {
		inPortions(t, hour, func(t *testing.T, r *portionRun) {
			ds, err := r.receive(2)
			wantBodies(t, "ReceiveBatch", ds, err, all[:2])
			if err := ds[1].Release(bg, sec); err != nil {
				t.Fatal(err)
			}
			r.between(3, func() { time.Sleep(sec) })
			ds, err = r.receive(spool.MaxBatch)
			wantBodies(t, "ReceiveBatch", ds, err, all[1:])
		})
	})
	t.Run("somebody looks later", func(t *testing.T) {
		inPortions(t, hour, func(t *testing.T, r *portionRun) {
			ds, err := r.receive(spool.MaxBatch)
			wantBodies(t, "ReceiveBatch", ds, err, all)
			for i, after := range []time.Duration{5 * sec, 4 * sec} {
				if err := ds[i].Release(bg, after); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(2 * sec)
			r.q.Oversleep()
			time.Sleep(2 * sec)
			if n := r.q.BlocksAway(); n != portionBlocks {
				t.Fatalf("%d blocks away, want %d", n, portionBlocks)
			}
			// A second passes while the block of the second message is read, and the lease begins behind it: the first one, which
			// is older, has become active meanwhile.
			r.between(0, func() { time.Sleep(sec); r.q.send("x") })
			ds, err = r.receive(1)
			wantBodies(t, "ReceiveBatch", ds, err, all[:1])
		})
	})
	t.Run("each is recorded", func(t *testing.T) {
		inPortions(t, hour, func(t *testing.T, r *portionRun) {
			other := r.create("other", spool.Meta{})
			r.between(3, func() { other.send("x") }) // writes what was recorded before, and nothing of what comes
			ds, err := r.receive(spool.MaxBatch)
			wantBodies(t, "ReceiveBatch", ds, err, all)
			after, err := spool.OpenOn(r.log.Crash(func(unsynced int64) int64 { return unsynced }), t.TempDir(), nil, spool.WithoutPaging)
			if err != nil {
				t.Fatal(err)
			}
			q := newCaseSpool(t, after).get("q")
			q.counts(0, portionBlocks, 1023*portionBlocks, 0)
			if err := q.DeleteBatch(bg, receiptsOf(ds)); err != nil {
				t.Errorf("DeleteBatch after a crash = %v", err)
			}
		})
	})
	t.Run("the queue ends", func(t *testing.T) {
		inPortions(t, hour, func(t *testing.T, r *portionRun) {
			r.between(3, func() {
				if err := r.DeleteQueue(bg, "q"); err != nil {
					t.Error(err)
				}
			})
			ds, err := r.receive(spool.MaxBatch)
			wantBodies(t, "ReceiveBatch", ds, err, all[:3])
			_, err = r.receive(spool.MaxBatch)
			wantErr(t, "ReceiveBatch", err, spool.ErrQueueNotFound)
		})
	})
	t.Run("the queue is purged", func(t *testing.T) {
		inPortions(t, hour, func(t *testing.T, r *portionRun) {
			purged := make(chan error, 1)
			r.between(3, func() { go func() { purged <- r.q.Purge(bg) }() }) // it needs the block too, and is next or last
			ds, err := r.receive(spool.MaxBatch)
			wantBodies(t, "ReceiveBatch", ds, err, all[:max(3, len(ds))])
			if err := <-purged; err != nil {
				t.Error(err)
			}
			r.q.counts(0, 0, 0, 0)
			for _, d := range ds {
				r.q.refused(d.Receipt, spool.Gone)
			}
		})
	})
	t.Run("the spool closes", func(t *testing.T) {
		inPortions(t, hour, func(t *testing.T, r *portionRun) {
			r.between(3, func() { go r.Close(); time.Sleep(sec) })
			ds, err := r.receive(spool.MaxBatch)
			wantBodies(t, "ReceiveBatch", ds, err, all)
			r.close()
		})
	})
	t.Run("a body cannot be read", func(t *testing.T) {
		inPortions(t, hour, func(t *testing.T, r *portionRun) {
			n := 0
			r.log.read = func() error {
				if n++; n == 7 {
					return errRotten
				}
				return nil
			}
			ds, err := r.receive(spool.MaxBatch)
			wantBodies(t, "ReceiveBatch", ds, err, slices.Concat(all[:6], all[7:]))
			if a := r.q.attributes(); a.Inactive != portionBlocks || a.Received != portionBlocks-1 {
				t.Errorf("Attributes = %+v, want %d inactive and one received less", a, portionBlocks)
			}
		})
	})
}

// TestPutOutWhenSettled: what cannot be put out of memory when the pager looks at it, because its send is under way, is put
// out soon after that has ended, though nobody calls then. Blocks that are read meanwhile can be put out.
func TestPutOutWhenSettled(t *testing.T) {
	const budget = 8 << 20
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log, s := openHeld(t, dir, spool.WithMemoryBudget(budget))
		sparse := s.create("sparse", spool.Meta{})
		sparse.sendSparse(100)
		q := s.create("q", spool.Meta{})
		q.send("x")
		if err := s.Checkpoint(); err != nil { // another one would wait for the sync
			t.Fatal(err)
		}
		log.syncs.close()
		delayed := make([]spool.Message, spool.MaxBatch)
		for i := range delayed {
			delayed[i] = spool.Message{Body: []byte("x"), Delay: time.Hour}
		}
		for range 80 {
			go q.SendBatch(bg, delayed)
		}
		time.Sleep(50 * msec)
		unsettled := s.Stats().MemoryBytes
		if unsettled < budget*3/8 {
			t.Errorf("%d bytes in memory, want so many that calls would wait", unsettled)
		}
		ds, err := sparse.Peek(bg, 100)
		wantBodies(t, "Peek", ds, err, numbers(0, 100))
		if n := s.Stats().MemoryBytes; n > unsettled+budget/4 {
			t.Errorf("%d bytes in memory by 100 blocks that were read, want little more than %d", n, unsettled)
		}
		log.syncs.open()
		time.Sleep(sec)
		if n := s.Stats().MemoryBytes; n > budget*3/8 {
			t.Errorf("%d bytes stay in memory, want three eighths of %d", n, budget)
		}
		q.counts(1, 0, 80*spool.MaxBatch, 0)
	})
}

// TestPortionsBytes: MaxBatchBytes counts for all portions together.
func TestPortionsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inMemory(t, spool.WithPaging(0, 2<<10))
		q := s.create("q", spool.Meta{MaxMessageSize: 2 << 20})
		delayed := make([]spool.Message, 1023)
		for i := range delayed {
			delayed[i] = spool.Message{Body: []byte("x"), Delay: time.Hour}
		}
		for n := range 10 {
			if _, err := q.Send(bg, spool.Message{Body: numbered(n, 2<<20)}); err != nil {
				t.Fatal(err)
			}
			if _, err := q.SendBatch(bg, delayed); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * sec)
		peeked, err := q.Peek(bg, 10)
		if err != nil || len(peeked) != 8 {
			t.Errorf("Peek = %d messages of 2 MiB, %v, want 8", len(peeked), err)
		}
		for _, want := range []int{8, 2} {
			if ds, err := q.ReceiveBatch(bg, 10); err != nil || len(ds) != want {
				t.Errorf("ReceiveBatch = %d messages of 2 MiB, %v, want %d", len(ds), err, want)
			}
		}
		if _, err := q.ReceiveBatch(bg, 10); !errors.Is(err, spool.ErrNoMessage) {
			t.Errorf("ReceiveBatch = %v, want ErrNoMessage", err)
		}
	})
}
