package spool_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

var stepKills = flag.Int("spool.kill.steps", 0, "kills of TestStepKill at each step, for each durability (0: one, for one of them)")

const (
	stepPatience = 2 * time.Second // that a process has to come to its step
	stepTries    = 15              // processes that may fail to, one after the other
)

// TestStepKill is TestKill with processes that end themselves, at each kill point in turn: see spool.Steps. A kill point
// that is never reached fails.
func TestStepKill(t *testing.T) {
	kills, seed := *stepKills, *killSeed
	if seed == 0 {
		seed = rand.Uint64() >> 16
	}
	for i, name := range []string{"fsync", "written"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("-spool.kill.seed=%d", seed)
			s := &stepKiller{t: t, durability: spool.Durability(i), rng: rand.New(rand.NewPCG(seed, uint64(i+100)))}
			var fresh, names []string
			for range max(1, kills) {
				for n, name := range spool.Steps() {
					switch {
					case kills == 0 && n%2 != i:
					case strings.HasPrefix(name, "create:"):
						fresh = append(fresh, name)
					case !strings.HasPrefix(name, "repair:"): // see TestRepairKill
						names = append(names, name)
					}
				}
			}
			s.rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			for _, name := range fresh {
				s.all([]string{name})
			}
			s.all(names)
			t.Logf("%d kills at %d steps, %d processes did not come to theirs, %d calls acknowledged, %d in flight (%d of them found done)",
				s.kills, len(s.met), s.missed, s.acknowledged, s.inFlight, s.done)
		})
	}
}

// A stepKiller has processes end themselves.
type stepKiller struct {
	t          *testing.T
	durability spool.Durability
	rng        *rand.Rand

	kills, missed                int
	acknowledged, inFlight, done int
	met                          map[string]int
}

// all has a process die at each of the steps, one after the other, on one spool.
func (s *stepKiller) all(names []string) {
	k := &killer{t: s.t, dir: s.t.TempDir(), durability: s.durability, small: true, rng: s.rng}
	for range killWorkers {
		k.workers = append(k.workers, &killTrack{possible: []*killState{{Visibility: 1}}})
	}
	for c, name := range names {
		if err := s.one(k, c, name); err != nil {
			s.t.Error(err)
		}
	}
	k.step = ""
	k.cycle(len(names))
	k.finish()
	s.acknowledged, s.inFlight, s.done = s.acknowledged+k.acknowledged, s.inFlight+k.inFlight, s.done+k.done
}

// one has a process die at a step.
func (s *stepKiller) one(k *killer, c int, name string) error {
	if s.met == nil {
		s.met = map[string]int{}
	}
	for try := range stepTries {
		k.step, k.nth, k.linger = name, 1, 0
		if s.rng.IntN(2) == 0 {
			k.linger = time.Duration(s.rng.IntN(int(4 * time.Millisecond)))
		}
		if try == 0 && !stepOnce(name) && s.rng.IntN(3) > 0 {
			k.nth = 1 + s.rng.Int64N(1<<s.rng.IntN(5))
		}
		k.history = append(k.history, fmt.Sprintf("-- to die %v after it has reached %s %d times", k.linger, k.step, k.nth))
		k.cycle(c)
		if !k.late {
			s.kills++
			s.met[name]++
			return nil
		}
		s.missed++
	}
	return fmt.Errorf("step %s was not reached by %d processes", name, stepTries)
}

// stepOnce tells whether a process passes a step only while it starts.
func stepOnce(name string) bool {
	part, _, _ := strings.Cut(name, ":")
	return part == "create" || part == "recover" || part == "index"
}

// stepOptions are those of a spool whose process dies at a step: all of them are reached soon.
func stepOptions(orders *killOrders) []spool.Option {
	if orders.Step == "" {
		return nil
	}
	var n atomic.Int64
	spool.SetSteps(func(name string) {
		if name == orders.Step && n.Add(1) == orders.Nth {
			<-time.After(orders.Linger)
			dieNow()
		}
	})
	return []spool.Option{spool.WithSlack(32 << 10), spool.WithPaging(0, 1<<40)}
}

// breakIndex flips a bit in each file of the index.
func breakIndex(t *testing.T, dir string, rng *rand.Rand) {
	t.Helper()
	for _, f := range damageFiles(t, dir) {
		if !f.index || f.size == 0 {
			continue
		}
		name := filepath.Join(dir, f.name)
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		data[rng.IntN(max(1, len(bytes.TrimRight(data, "\x00"))))] ^= 1 << rng.IntN(8)
		if err := damageWrite(name, data); err != nil {
			t.Fatal(err)
		}
	}
}

// dieNow ends the process as kill -9 does.
func dieNow() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	select {}
}
