package spool_test

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

var (
	soakTime = flag.Duration("spool.soak", 2*time.Second, "how long TestSoak loads a spool")
	soakLeak = flag.Bool("spool.soak.leak", false, "leak memory, goroutines and files beside it: TestSoak must fail")
)

const (
	soakSamples = 40
	soakBurst   = 5_000  // messages
	soakMost    = 50_000 // messages that are not deleted, before a burst is left out
)

// A soakSample is what a process with a steady load takes.
type soakSample struct{ residentMB, goroutines, files, diskMB int64 }

// TestSoak loads a spool in bursts: delays, leases that lapse, deletions, rewinds. What it takes of memory, goroutines, files and disk
// in the last quarter of the time is what it took in the second one.
func TestSoak(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory too")
	}
	s, err := spool.Open(t.TempDir(), spool.WithDurability(spool.Written), spool.WithMemoryBudget(32<<20))
	if err != nil {
		t.Fatal(err)
	}
	life := min(max(2*time.Second, *soakTime/10), 30*time.Second) // of a message, so that the second quarter is like the last
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	var calls atomic.Int64
	for _, name := range []string{"a", "b"} {
		q, err := s.CreateQueue(t.Context(), name, spool.Meta{Rewind: life / 2, Retention: life, VisibilityTimeout: 500 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		work.Go(func() { soakSend(ctx, t, q, &calls) })
		for range 2 {
			work.Go(func() { soakReceive(ctx, t, q, &calls) })
		}
	}
	var samples []soakSample
	tick := time.NewTicker(*soakTime / soakSamples)
	for range soakSamples {
		<-tick.C
		samples = append(samples, soakLook(s))
		if *soakLeak {
			soakWaste(t)
		}
	}
	tick.Stop()
	stop()
	work.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	usual := soakSample{residentMB: 64, goroutines: 40, files: 60, diskMB: 192} // a short run has hardly begun in its second quarter
	early, late := soakPeak(append(samples[soakSamples/4:soakSamples/2:soakSamples/2], usual)), soakPeak(samples[3*soakSamples/4:])
	t.Logf("%d calls in %v: %+v, then %+v", calls.Load(), *soakTime, early, late)
	if late.residentMB > early.residentMB*5/4+16 || late.goroutines > early.goroutines+4 || late.files > early.files+8 ||
		late.diskMB > early.diskMB*3/2+96 {
		t.Errorf("a quarter of the time took %+v, a later one %+v", early, late)
	}
}

// soakSend sends bursts, some messages with a delay, and rewinds now and then.
func soakSend(ctx context.Context, t *testing.T, q *spool.Queue, calls *atomic.Int64) {
	rest := time.NewTicker(200 * time.Millisecond)
	defer rest.Stop()
	for burst := 0; ; burst++ {
		a, err := q.Attributes(context.WithoutCancel(ctx))
		if err == nil && a.Active+a.Delayed+a.Inactive < soakMost {
			for i := 0; i < soakBurst/50 && ctx.Err() == nil && err == nil; i++ {
				ms := make([]spool.Message, 50)
				for j := range ms {
					ms[j] = spool.Message{Body: make([]byte, 1+rand.IntN(2000)), Delay: time.Duration(rand.IntN(3)) * 100 * time.Millisecond}
				}
				_, err = q.SendBatch(context.WithoutCancel(ctx), ms)
				calls.Add(1)
			}
		}
		if err == nil && burst%10 == 9 {
			_, err = q.Rewind(context.WithoutCancel(ctx), time.Now().Add(-50*time.Millisecond))
		}
		if err != nil {
			t.Error(err)
			return
		}
		select {
		case <-rest.C:
		case <-ctx.Done():
			return
		}
	}
}

// soakReceive receives, and deletes nine of ten.
func soakReceive(ctx context.Context, t *testing.T, q *spool.Queue, calls *atomic.Int64) {
	for {
		ds, err := q.ReceiveBatch(ctx, 100, spool.Wait(time.Second))
		if ctx.Err() != nil {
			return
		}
		calls.Add(1)
		if err != nil && !errors.Is(err, spool.ErrNoMessage) {
			t.Error(err)
			return
		}
		var receipts []string
		for _, d := range ds {
			if rand.IntN(10) > 0 {
				receipts = append(receipts, d.Receipt)
			}
		}
		if len(receipts) == 0 {
			continue
		}
		calls.Add(1)
		if err := q.DeleteBatch(context.WithoutCancel(ctx), receipts); err != nil && !errors.Is(err, spool.ErrInvalidReceipt) && !errors.Is(err, spool.ErrBatchPartial) {
			t.Error(err)
			return
		}
	}
}

func soakLook(s *spool.Spool) soakSample {
	files, _ := os.ReadDir("/proc/self/fd") // none where there is no such directory
	return soakSample{spool.ResidentMB(), int64(runtime.NumGoroutine()), int64(len(files)), s.Stats().DiskBytes >> 20}
}

// soakPeak is the most of each.
func soakPeak(samples []soakSample) (most soakSample) {
	for _, x := range samples {
		most = soakSample{max(most.residentMB, x.residentMB), max(most.goroutines, x.goroutines), max(most.files, x.files), max(most.diskMB, x.diskMB)}
	}
	return most
}

// soakWaste leaks until the test ends.
func soakWaste(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	kept, over := make([]byte, 4<<20), make(chan struct{})
	for i := range kept {
		kept[i] = 1
	}
	go func() { <-over; runtime.KeepAlive(kept) }()
	t.Cleanup(func() { close(over); f.Close() })
}
