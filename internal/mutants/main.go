// Command mutants asks whether the tests would notice: it puts mistakes into the library, one at a time, and looks for a test
// that fails. Each mistake of the list names the test that is expected to notice it; when that one does not, all tests are
// run, and with -torture the short form of the reliability campaigns. It fails when less than 95 % are noticed, or when the
// list is wrong: a mistake whose place has changed, that does not compile, or whose test is gone.
//
//	go run ./internal/mutants                   all of them
//	go run ./internal/mutants -run 'receipt'    those whose names match
//	go run ./internal/mutants -shard 2/4        the second of four parts
//	go run ./internal/mutants -quick            only the named tests: the list is right when they notice all
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"sync"
	"time"
)

// enough is how many of 100 mutants must be caught.
const enough = 95

var (
	pattern = flag.String("run", "", "mutants whose names match this regular expression only")
	shard   = flag.String("shard", "1/1", "i/n: every n-th mutant only, from the i-th on")
	workers = flag.Int("workers", max(1, runtime.NumCPU()/2), "mutants at a time")
	timeout = flag.Duration("timeout", 2*time.Minute, "of the named tests; what takes longer hangs, and the mutant is caught")
	quick   = flag.Bool("quick", false, "run the named tests only")
	keep    = flag.String("keep", "", "a folder for the output of each run that has caught a mutant")
	torture = flag.Bool("torture", false, "run internal/torture -ci on what go test ./... does not catch")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	all, err := readList(".")
	if err != nil {
		return err
	}
	list, err := choose(all)
	if err != nil {
		return err
	}
	var (
		work  = make(chan *mutant)
		group sync.WaitGroup
		mu    sync.Mutex
		tally [broken + 1]int // guarded by mu
		bad   error           // guarded by mu
	)
	for range min(*workers, len(list)) {
		b, err := newBench()
		if err != nil {
			return err
		}
		group.Go(func() {
			var err error
			for m := range work {
				if err != nil {
					continue
				}
				var o outcome
				o, err = b.try(ctx, m)
				mu.Lock()
				if err == nil {
					tally[o.verdict]++
					fmt.Println(line(m, o))
				}
				mu.Unlock()
			}
			mu.Lock()
			bad = errors.Join(bad, err, b.remove())
			mu.Unlock()
		})
	}
	for i := range list {
		work <- &list[i]
	}
	close(work)
	group.Wait()
	if bad != nil {
		return bad
	}
	return sum(tally)
}

// choose picks the mutants that the flags ask for.
func choose(all []mutant) (list []mutant, err error) {
	names, err := regexp.Compile(*pattern)
	if err != nil {
		return nil, err
	}
	var i, n int
	if _, err := fmt.Sscanf(*shard, "%d/%d", &i, &n); err != nil || n < 1 || i < 1 || i > n {
		return nil, fmt.Errorf("-shard %s, want i/n with i from 1 to n", *shard)
	}
	for at, m := range all {
		if at%n == i-1 && names.MatchString(m.name) {
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("no mutant matches")
	}
	return list, nil
}

func line(m *mutant, o outcome) string {
	took := o.took.Round(time.Second / 10)
	switch o.verdict {
	case caught:
		return fmt.Sprintf("caught      %-32s %6v  %s", m.name, took, o.by)
	case equivalent:
		return fmt.Sprintf("equivalent  %-32s         %s", m.name, o.by)
	case broken:
		return fmt.Sprintf("WRONG       %-32s %6v  %s", m.name, took, o.by)
	}
	return fmt.Sprintf("SURVIVED    %-32s %6v  %s: %s", m.name, took, m.file, m.why)
}

func sum(tally [broken + 1]int) error {
	tried := tally[caught] + tally[survived]
	fmt.Printf("%d mutants: %d caught, %d survived, %d known to be equivalent, %d wrong\n",
		tried+tally[equivalent]+tally[broken], tally[caught], tally[survived], tally[equivalent], tally[broken])
	if tally[broken] > 0 {
		return fmt.Errorf("%d of the list are wrong", tally[broken])
	}
	if tally[caught]*100 < enough*tried {
		return fmt.Errorf("%d of %d are caught, want %d %%", tally[caught], tried, enough)
	}
	return nil
}
