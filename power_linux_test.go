package spool_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/spoolmq/spool"
)

var (
	powerCycles  = flag.Int("spool.power.cycles", 0, "power losses of TestPower (0: 3)")
	powerSeed    = flag.Uint64("spool.power.seed", 0, "seed of TestPower; 0 draws one")
	powerControl = flag.Bool("spool.power.control", false, "a control: TestPower takes what is only written for durable, and must fail")
)

// TestPower is TestKill on an ext4 file system on a loop device that is shut down without its journal being flushed, as a
// power loss does: what was acknowledged at Fsync, with durable receives, is there afterwards.
func TestPower(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("losing power needs root, ext4 and a loop device")
	}
	seed, cycles := *powerSeed, *powerCycles
	if seed == 0 {
		seed = rand.Uint64() >> 16
	}
	if cycles == 0 {
		cycles = 3
	}
	t.Logf("-spool.power.seed=%d", seed)
	dir, power := powerDisk(t)
	k := &killer{t: t, dir: dir, durability: spool.Fsync, small: seed%2 == 0, rng: rand.New(rand.NewPCG(seed, 0)), power: power}
	if *powerControl {
		k.durability = spool.Written
	}
	for range killWorkers {
		k.workers = append(k.workers, &killTrack{possible: []*killState{{Visibility: 1}}})
	}
	for c := range cycles {
		k.cycle(c)
	}
	k.finish()
	t.Logf("%d power losses, %d before the state was told, %d calls acknowledged, %d in flight (%d of them found done)", cycles, k.early, k.acknowledged, k.inFlight, k.done)
}

// TestPowerRepair: the power fails as soon as Repair has answered. The repaired spool is there, under its name.
func TestPowerRepair(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("losing power needs root, ext4 and a loop device")
	}
	dir, power := powerDisk(t)
	damaged := filepath.Join(t.TempDir(), "damaged")
	repairDamaged(t, damaged, 10)
	to := filepath.Join(dir, "repaired")
	if _, err := spool.Repair(t.Context(), damaged, to); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err == nil {
		err = errors.Join(unix.IoctlSetPointerInt(int(f.Fd()), shutdownIoctl, noLogFlush), f.Close(), power.back())
	}
	if err != nil {
		t.Fatal(err)
	}
	if r, err := spool.Verify(t.Context(), to); err != nil || !r.OK() {
		t.Errorf("Verify = %+v, %v", r, err)
	}
}

// shutdownIoctl is EXT4_IOC_SHUTDOWN, and noLogFlush its argument: the journal in memory is lost.
const (
	shutdownIoctl = 0x8004587d
	noLogFlush    = 2
)

// powerDisk mounts an ext4 on a loop device and returns a directory on it.
func powerDisk(t *testing.T) (dir string, p *killPower) {
	t.Helper()
	image, mount := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 512<<20); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) error {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, out)
		}
		return nil
	}
	mounted := func() error { return run("mount", "-o", "loop", image, mount) }
	if err := run("mkfs.ext4", "-q", "-F", image); err != nil {
		t.Skipf("losing power needs ext4: %v", err)
	}
	if err := mounted(); err != nil {
		t.Skipf("losing power needs a loop device: %v", err)
	}
	t.Cleanup(func() {
		if err := run("umount", mount); err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(filepath.Join(mount, "spool"), 0o700); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
	return filepath.Join(mount, "spool"), &killPower{
		lose: func(pid int) error {
			if err := stopProcess(pid); err != nil {
				return err
			}
			f, err := os.Open(mount)
			if err != nil {
				return err
			}
			defer f.Close()
			return unix.IoctlSetPointerInt(int(f.Fd()), shutdownIoctl, noLogFlush)
		},
		back: func() error {
			if err := run("umount", mount); err != nil {
				return err
			}
			return mounted()
		},
	}
}

// stopProcess stops a process and returns when none of its threads runs. A sync that is under way while ext4 is being
// shut down may return success though it did nothing, which no power loss does: so nobody may be there to tell.
func stopProcess(pid int) error {
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		return err
	}
	for {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			return err
		}
		runs := false
		for _, name := range stats {
			text, err := os.ReadFile(name)
			if at := bytes.LastIndexByte(text, ')'); err == nil && at > 0 && len(text) > at+2 {
				state := text[at+2]
				runs = runs || state != 'T' && state != 'D' && state != 'Z'
			}
		}
		if !runs {
			return nil
		}
		runtime.Gosched()
	}
}
