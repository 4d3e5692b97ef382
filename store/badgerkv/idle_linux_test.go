package badgerkv

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// idleSwitches is how often the threads of a process may wait in a second in which it only has an index open. Badger's
// compactors alone make it 80 and more.
const idleSwitches = 15

// TestIdle: nothing ticks in an index that nobody uses, but for Badger's memory pool, every two seconds, and its
// statistics, every minute. In a process of its own, so that nothing else runs.
func TestIdle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has threads of its own")
	}
	var least int64
	var cpu time.Duration
	if _, err := fmt.Sscan(runChild(t, "idle", t.TempDir()), &least, (*int64)(&cpu)); err != nil {
		t.Fatal(err)
	}
	t.Logf("in the quietest second %d context switches, %v of processor time", least, cpu)
	if least > idleSwitches {
		t.Errorf("%d context switches in a second of an idle index, want %d at most", least, idleSwitches)
	}
}

func init() {
	childTasks["idle"] = func(args []string) error {
		ix, err := Open(args[0], Options{})
		if err != nil {
			return err
		}
		if err := errors.Join(newFlood(1000).run(ix, 10), ix.Sync()); err != nil {
			return err
		}
		runtime.GC()
		// The garbage collector gives memory back for a while, and the machine may be busy: the quietest second counts.
		least, cpu := int64(idleSwitches+1), time.Duration(0)
		for second := 0; second < 8 && least > idleSwitches; second++ {
			before, err := usage()
			if err != nil {
				return err
			}
			time.Sleep(time.Second)
			after, err := usage()
			if err != nil {
				return err
			}
			n := int64(after.Nvcsw) - int64(before.Nvcsw)
			if second == 0 || n < least {
				least, cpu = n, time.Duration(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano())
			}
		}
		fmt.Println(least, int64(cpu))
		return ix.Close()
	}
}

func usage() (u unix.Rusage, err error) {
	err = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return u, err
}
