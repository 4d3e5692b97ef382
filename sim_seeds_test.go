package spool_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Seeds run side by side, in processes of their own with one processor each. In one process they would hinder each other:
// the clock of a bubble stands still while a goroutine lets others run, and with several processors each of those turns
// takes a lock of the whole runtime and wakes a thread. With one, what is awake at an instant runs in the same order every
// time besides. So that it also runs at once, some seeds have all processors, and under the race detector all have.

const (
	simServes = "SPOOL_TEST_SIM" // set in the environment of such a process
	simWide   = 8                // one seed in so many has all processors
	simAgain  = 4                // of a year: one seed in so many is run again

	// simHung is longer than any seed takes: virtual time stands still where something goes round without end.
	simHung = 5 * time.Minute
)

// simTotals is what seeds add up to.
type simTotals struct {
	Ops, Calls     int
	Crashes, Power int
	Closes         int
	Faults         [simFaults]int
	Squeezes       int
	Span           time.Duration
	Messages       int
	Deliveries     int
	Numbers, Exact int
	Again          int      // seeds that were run again
	Other          []uint64 // those of them that made other histories each time
}

func (s *simTotals) add(o simTotals) {
	s.Ops += o.Ops
	s.Calls += o.Calls
	s.Crashes += o.Crashes
	s.Power += o.Power
	s.Closes += o.Closes
	for f := range s.Faults {
		s.Faults[f] += o.Faults[f]
	}
	s.Squeezes += o.Squeezes
	s.Span += o.Span
	s.Messages += o.Messages
	s.Deliveries += o.Deliveries
	s.Numbers += o.Numbers
	s.Exact += o.Exact
	s.Again += o.Again
	s.Other = append(s.Other, o.Other...)
}

func (s *simTotals) faultCount() (n int) {
	for _, f := range s.Faults {
		n += f
	}
	return n + s.Squeezes
}

func TestSimulation(t *testing.T) {
	if os.Getenv(simServes) != "" {
		simServe(t)
		return
	}
	seed, seeds := *simSeed, *simSeeds
	if seed == 0 {
		seed = rand.Uint64() >> 16
	}
	switch {
	case seeds > 0:
	case *simYears > 0:
		seeds = int(*simYears * simPerYear)
	case testing.Short() || raceEnabled:
		seeds = 2
	default:
		seeds = 4
	}
	t.Logf("-spool.sim.seed=%d -spool.sim.seeds=%d", seed, seeds)
	begun := time.Now()
	var totals simTotals
	if seeds == 1 {
		totals = simSeedTwice(t, seed)
	} else {
		totals = simSideBySide(t, seed, seeds)
	}
	simReport(t, seed, seeds, totals, time.Since(begun))
}

// simReport tells what was run, and whether it was enough.
func simReport(t *testing.T, seed uint64, seeds int, s simTotals, took time.Duration) {
	// What the background does at the same instant as a call has no order, so not every seed repeats.
	if len(s.Other) > 1+s.Again/3 {
		t.Errorf("%d of %d seeds made another history when they were run again", len(s.Other), s.Again)
	}
	t.Logf("%.2f simulated years, seeds %d to %d: %d operations (%d calls recorded), %d crashes (%d of the machine), %d faults, %d clean closes, %d messages, %d deliveries; %d numbers at rest compared, %d of them exact; %v, %.0f operations a second",
		float64(s.Span)/float64(simYear), seed, seed+uint64(seeds)-1, s.Ops, s.Calls, s.Crashes, s.Power,
		s.faultCount(), s.Closes, s.Messages, s.Deliveries, s.Numbers, s.Exact, took.Round(time.Second/10), float64(s.Ops)/took.Seconds())
	var faults []string
	for f, n := range s.Faults {
		faults = append(faults, fmt.Sprintf("%s %d", simFaultNames[f], n))
	}
	t.Logf("faults: %s, no room %d; %d of %d seeds made the same history twice, not so %d", strings.Join(faults, ", "), s.Squeezes, s.Again-len(s.Other), s.Again, s.Other)
	if *simYears > 0 {
		for _, c := range []struct {
			what string
			got  int
			want float64
		}{{"operations", s.Ops, 1e6}, {"crashes", s.Crashes, 2000}, {"faults", s.faultCount(), 2000}} {
			if want := c.want * *simYears; float64(c.got) < want {
				t.Errorf("%d %s, want at least %.0f", c.got, c.what, want)
			}
		}
	}
}

// simSideBySide has as many processes as there are processors run seeds until one has failed.
func simSideBySide(t *testing.T, first uint64, seeds int) (totals simTotals) {
	var mu sync.Mutex
	given := 0
	take := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		given++
		return first + uint64(given-1), given <= seeds && !t.Failed()
	}
	var wait sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), seeds) {
		wait.Go(func() {
			sum := simProcess(t, take)
			mu.Lock()
			defer mu.Unlock()
			totals.add(sum)
		})
	}
	wait.Wait()
	return totals
}

// simProcess runs the seeds that it takes in a process of their own. The test fails where that does.
func simProcess(t *testing.T, take func() (uint64, bool)) (totals simTotals) {
	args := []string{"-test.run=^TestSimulation$", "-test.timeout=" + flag.Lookup("test.timeout").Value.String()}
	flag.Visit(func(f *flag.Flag) {
		if strings.HasPrefix(f.Name, "spool.sim.") {
			args = append(args, "-"+f.Name+"="+f.Value.String())
		}
	})
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), simServes+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Error(err)
		return totals
	}
	out, reply, err := os.Pipe()
	if err != nil {
		t.Error(err)
		return totals
	}
	defer out.Close()
	cmd.ExtraFiles = []*os.File{reply}
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	err = cmd.Start()
	reply.Close()
	if err != nil {
		t.Error(err)
		return totals
	}
	answers := json.NewDecoder(out)
	for seed, ok := take(); ok; seed, ok = take() {
		var s simTotals
		hung := time.AfterFunc(simHung, func() { // it tells where it is
			t.Errorf("-spool.sim.seed=%d -spool.sim.seeds=1: no end after %v", seed, simHung)
			cmd.Process.Signal(syscall.SIGQUIT)
		})
		if _, err = fmt.Fprintln(in, seed); err == nil {
			err = answers.Decode(&s)
		}
		hung.Stop()
		if totals.add(s); err != nil {
			break // it has failed, or died
		}
	}
	in.Close()
	if e := cmd.Wait(); e != nil || err != nil {
		t.Errorf("a process that runs seeds: %v, %v\n%s", e, err, &printed)
	}
	return totals
}

// simServe runs the seeds that another process asks for, and tells it of each what there was. It ends when one has failed.
func simServe(t *testing.T) {
	debug.SetGCPercent(400) // a seed has tens of megabytes, and the processor has better things to do
	answers := json.NewEncoder(os.NewFile(3, "answers"))
	for asks := bufio.NewScanner(os.Stdin); asks.Scan() && !t.Failed(); {
		var seed uint64
		if _, err := fmt.Sscan(asks.Text(), &seed); err != nil {
			t.Fatal(err)
		}
		if err := answers.Encode(simSeedTwice(t, seed)); err != nil {
			t.Fatal(err)
		}
	}
}

// simSeedTwice runs one seed and, if it may be expected to repeat, sees whether it does.
func simSeedTwice(t *testing.T, seed uint64) simTotals {
	totals, hash := simulate(t, seed)
	if hash == 0 || *simYears > 0 && seed%simAgain != 0 {
		return totals
	}
	totals.Again = 1
	for range 3 {
		if _, again := simulate(t, seed); again == hash {
			return totals
		}
	}
	totals.Other = []uint64{seed}
	return totals
}

// simulate runs one seed and returns the hash of its history, 0 where another run may make another one: what is done in the
// background at the same instant as a call may come before it or after.
func simulate(t *testing.T, seed uint64) (totals simTotals, hash uint64) {
	if seed%simWide != 0 && !raceEnabled {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	}
	dir, err := os.MkdirTemp(damageTemp(), "spool-sim-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	sim := &simulation{seed: seed, dir: dir, rng: rand.New(rand.NewPCG(seed, 0))}
	synctest.Test(t, sim.run)
	if *simFile != "" {
		text := strings.Join(slices.Collect(sim.h.Lines()), "")
		if err := os.WriteFile(fmt.Sprintf("%s.%d", *simFile, seed), []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	v := sim.h.Check()
	for _, x := range v.Violations {
		t.Errorf("-spool.sim.seed=%d -spool.sim.seeds=1: %v", seed, x)
	}
	for _, wrong := range sim.wrong {
		t.Errorf("-spool.sim.seed=%d -spool.sim.seeds=1: %s", seed, wrong)
	}
	totals = simTotals{Ops: sim.ops, Calls: v.Ops, Crashes: sim.crashes, Power: sim.power, Closes: sim.closes, Faults: sim.faults,
		Squeezes: sim.squeezes, Span: sim.span, Messages: v.Messages, Deliveries: v.Deliveries, Numbers: v.Numbers, Exact: v.Exact}
	if !sim.calm {
		return totals, 0
	}
	return totals, sim.h.Hash()
}
