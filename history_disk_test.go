package spool_test

import (
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/internal/history"
)

var (
	diskHistorySeed  = flag.Uint64("spool.history.seed", 0, "seed of TestHistory; 0 draws one")
	diskHistorySeeds = flag.Int("spool.history.seeds", 1, "how many seeds TestHistory takes, from that one on")
	diskHistorySteps = flag.Int("spool.history.steps", 0, "calls of TestHistory on each spool (0: 4000, 1200 with -short)")
	diskHistoryBack  = flag.Bool("spool.history.control", false, "put an older copy of the directory back in between: TestHistory has to fail")
)

const (
	diskHistoryActors = 3
	diskHistoryRounds = 4

	// diskHistorySlack is how far the wall clock, by which calls are recorded, may be from the spool's.
	diskHistorySlack = time.Millisecond
)

// TestHistory has goroutines make calls of every verb on a spool on real files, with Badger as its index, in real time, and
// has internal/history judge what they were told. The spool is closed and opened in between.
func TestHistory(t *testing.T) {
	seed, steps := drawn(*diskHistorySeed, *diskHistorySteps, 1200)
	for range *diskHistorySeeds {
		t.Logf("-spool.history.seed=%d", seed)
		diskHistories(t, seed, steps)
		seed++
	}
}

// diskHistories makes and judges a history at each level of durability.
func diskHistories(t *testing.T, seed uint64, steps int) {
	for i, level := range []spool.Durability{spool.Fsync, spool.Written} {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		sim := &simulation{seed: seed, dir: t.TempDir(), rng: rng, real: true, durability: level, calm: true, wake: make(chan struct{})}
		sim.options = []spool.Option{spool.WithDurability(level), spool.WithoutPaging, spool.WithSizes(64<<10, 64<<10), spool.WithSlack(128 << 10)}
		if i == 1 {
			sim.options = append(sim.options, spool.WithPaging(0, 1<<40))
		}
		sim.h = history.New(history.Options{Fsync: level == spool.Fsync, Slack: int64(diskHistorySlack), LateMoves: true})
		diskHistory(t, sim, steps)
		v := sim.h.Check()
		for _, x := range v.Violations {
			t.Errorf("-spool.history.seed=%d: %v", seed, x)
		}
		for _, wrong := range sim.wrong {
			t.Errorf("-spool.history.seed=%d: %s", seed, wrong)
		}
		t.Logf("%d operations, %d messages, %d deliveries, %d numbers at rest compared, %d of them exact", v.Ops, v.Messages, v.Deliveries, v.Numbers, v.Exact)
		if v.Ops < steps*3/4 || v.Deliveries == 0 || v.Numbers == 0 {
			t.Errorf("the history is too small: %+v", v)
		}
	}
}

func diskHistory(t *testing.T, sim *simulation, steps int) {
	for i := range diskHistoryActors {
		sim.actors = append(sim.actors, &simActor{sim: sim, n: i, rng: rand.New(rand.NewPCG(sim.seed, uint64(i+1)))})
	}
	older := t.TempDir()
	for round := range diskHistoryRounds {
		if *diskHistoryBack && round == diskHistoryRounds-1 {
			if err := errors.Join(os.RemoveAll(sim.dir), os.CopyFS(sim.dir, os.DirFS(older))); err != nil {
				t.Fatal(err)
			}
		}
		s, err := spool.Open(sim.dir, sim.options...)
		if err != nil {
			t.Fatal(err)
		}
		sim.s = s
		if round == 0 {
			sim.makeQueues()
		}
		for _, q := range sim.queues {
			if q.q == nil {
				continue
			}
			if q.q, err = s.Queue(q.name); err != nil {
				t.Fatal(err)
			}
		}
		sim.open, sim.ready = true, true
		sim.rest(false)
		var wait sync.WaitGroup
		for _, a := range sim.actors {
			wait.Go(func() {
				for range steps / diskHistoryRounds / diskHistoryActors {
					a.step()
				}
			})
		}
		wait.Wait()
		sim.rest(false)
		o := &history.Op{Verb: history.Sync, Queue: history.None}
		sim.h.Call(o, simNow())
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		sim.h.Return(o, history.OK, simNow())
		if *diskHistoryBack && round == 0 {
			if err := os.CopyFS(older, os.DirFS(sim.dir)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Queues(), s.Sync(t.Context()); !errors.Is(err, spool.ErrClosed) {
			t.Errorf("Sync after Close = %v", err)
		}
	}
}
