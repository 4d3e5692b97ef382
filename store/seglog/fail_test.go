package seglog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/spoolmq/spool/store"
)

// TestFaults lets every operation of a script fail once. Every call says the truth, and after a failed write or sync
// nothing is written or synced any more.
func TestFaults(t *testing.T) {
	seed := seedFor(t)
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
		for _, ring := range []int{8192, 16384} { // without a stage, and with one
			t.Run(fmt.Sprintf("%v, ring %d", fault, ring), func(t *testing.T) {
				failed := 0
				for n := 1; ; n += 1 + n/200 {
					hit, fatal := faultOnce(t, fault, seed, n, ring)
					if !hit {
						break
					}
					if fatal {
						failed++
					}
				}
				if failed < 50 {
					t.Errorf("%d operations failed the log, want at least 50", failed)
				}
			})
		}
	}
}

// faultOnce lets the n-th operation fail. It tells whether there was one, and whether it failed the log.
func faultOnce(t *testing.T, fault error, seed uint64, n, ring int) (hit, fatal bool) {
	files := newMemFS()
	faulty := &faultFS{vfs: files}
	var failed atomic.Bool
	var writes atomic.Int64 // after the log has failed
	faulty.fault = func(i int, op string) error {
		if failed.Load() && (op == "write" || op == "sync") {
			writes.Add(1)
		}
		if i != n {
			return nil
		}
		hit = true
		return fault // of Free too: then traffic alone decides
	}
	o := Options{SegmentSize: 4096, RingSize: ring, files: faulty}
	h := newHistory()
	h.fault = fault
	script := rand.New(rand.NewPCG(seed, 1))
	var l *Log
	for range 2 {
		if l = h.openOr(t, o, store.ErrNoSpace); l == nil {
			break
		}
		err := h.run(t, l, script, 60)
		if err == nil {
			err = h.finish(l)
		}
		if fatal = l.failure.Load() != nil; fatal {
			l.space.mu.Lock() // the goroutine has finished the file that it was making
			failed.Store(true)
			l.space.mu.Unlock()
			h.afterFailure(t, l, fault)
		} else if err != nil && errors.Is(err, store.ErrNoSpace) {
			break // nothing has changed: closing is all that is left to do here
		}
		if err := l.Close(); err != nil && !errors.Is(err, fault) {
			t.Fatalf("operation %d: Close = %v", n, err)
		}
		if fatal {
			break
		}
	}
	closeDead(l)
	if writes.Load() > 0 {
		t.Fatalf("operation %d: %d writes and syncs after the log has failed", n, writes.Load())
	}
	chance := rand.New(rand.NewPCG(seed, uint64(n)))
	o.files = files.killed().loses(chance)
	l, err := Open("/spool", o)
	if err != nil {
		t.Fatalf("operation %d: Open = %v", n, err)
	}
	h.check(t, l, false)
	closeDead(l)
	return hit, fatal
}

// openOr is open that may also answer another error.
func (h *history) openOr(t testing.TB, o Options, other error) *Log {
	l, err := Open("/spool", o)
	if err != nil && !errors.Is(err, h.fault) && !errors.Is(err, other) {
		t.Fatalf("Open: %v", err)
	}
	if err != nil {
		return nil
	}
	h.epoch = l.Info().Epoch
	return l
}

// afterFailure verifies that a failed log stays failed, and still reads.
func (h *history) afterFailure(t *testing.T, l *Log, fault error) {
	t.Helper()
	_, err := l.Append(testPayload(10, 0))
	calls := map[string]error{
		"Append": err,
		"Sync":   l.Sync(l.End() + 1),
		"Mark":   l.Mark(1, false),
		"Drop":   l.Drop(l.End()),
		"Grow":   l.Grow(1 << 20),
	}
	for name, err := range calls {
		if !errors.Is(err, fault) || errors.Is(err, store.ErrNoSpace) {
			t.Fatalf("%s of a failed log = %v, want the first failure", name, err)
		}
	}
	for pos, i := range h.at {
		if pos < l.Start() || pos >= l.End() {
			continue
		}
		if got, err := l.ReadRecord(pos+store.FrameHeaderSize, nil); err != nil || string(got) != h.frames[i] {
			t.Fatalf("ReadRecord of a failed log = %d bytes, %v", len(got), err)
		}
	}
}

// TestSyncIsNotRetried: pages that a sync has lost may look clean to the next one.
func TestSyncIsNotRetried(t *testing.T) {
	faulty := &faultFS{vfs: newMemFS()}
	l := openTest(t, "/spool", Options{SegmentSize: 4096, files: faulty})
	defer closeDead(l)
	if _, err := l.Append(testPayload(10, 0)); err != nil {
		t.Fatal(err)
	}
	syncs := 0
	faulty.fault = func(_ int, op string) error {
		if op == "sync" {
			syncs++
			return syscall.EIO
		}
		return nil
	}
	for range 3 {
		if err := l.Sync(l.End()); !errors.Is(err, syscall.EIO) {
			t.Fatalf("Sync = %v, want %v", err, syscall.EIO)
		}
	}
	if syncs != 1 || l.Synced() != 0 {
		t.Fatalf("%d syncs, synced to %d, want 1, 0", syncs, l.Synced())
	}
}

// TestSteps: every kill point is reached by a script, under its name.
func TestSteps(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]bool{}
	o := Options{SegmentSize: 4096, RingSize: 16384, files: newMemFS()}
	o.Step = func(name string) {
		mu.Lock()
		defer mu.Unlock()
		seen[name] = true
	}
	l := openTest(t, "/spool", o)
	h := newHistory()
	if err := errors.Join(h.append(l, 20000), h.run(t, l, rand.New(rand.NewPCG(3, 3)), 200), h.finish(l), l.Close()); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, name := range Steps() {
		if known[name] {
			t.Errorf("step %q twice", name)
		}
		known[name] = true
		if !seen[name] {
			t.Errorf("step %q was not reached", name)
		}
	}
	for name := range seen {
		if !known[name] {
			t.Errorf("step %q is not in Steps", name)
		}
	}
}

// TestKilledAtSteps kills at each step of each kind, first and later times, and opens again.
func TestKilledAtSteps(t *testing.T) {
	seed := seedFor(t)
	for _, name := range Steps() {
		for _, power := range []bool{false, true} {
			for time := 1; time <= 5; time += 2 {
				t.Run(fmt.Sprintf("%s/power=%t/%d", name, power, time), func(t *testing.T) {
					killAt(t, seed, name, time, power)
				})
			}
		}
	}
}

func killAt(t *testing.T, seed uint64, name string, time int, power bool) {
	files := newMemFS()
	left := time
	o := Options{SegmentSize: 4096, RingSize: 8192, files: files}
	o.Step = func(at string) {
		files.mu.Lock()
		defer files.mu.Unlock()
		if at == name && !files.dead {
			if left--; left == 0 {
				files.last, files.dead = files.copy(), true
			}
		}
	}
	h := newHistory()
	script := rand.New(rand.NewPCG(seed, 1))
	l := h.open(t, o)
	for range 6 {
		if l == nil || h.run(t, l, script, 30) != nil {
			break
		}
		closeDead(l) // as a crash would
		l = h.open(t, o)
	}
	closeDead(l)
	files = files.killed()
	if power {
		files.loses(rand.New(rand.NewPCG(seed, uint64(time))))
	}
	o.Step, o.files = nil, files
	l = openTest(t, "/spool", o)
	defer l.Close()
	h.check(t, l, !power)
}

// TestTooManyFiles: a log that lacks a descriptor to grow says that there is no space, and grows when there is one again.
func TestTooManyFiles(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE} {
		for _, op := range []string{"create", "open"} {
			var short atomic.Bool
			files := &faultFS{vfs: newMemFS()}
			files.fault = func(_ int, at string) error {
				if short.Load() && at == op {
					return errno
				}
				return nil
			}
			l := openTest(t, "/spool", Options{SegmentSize: 4096, RingSize: 8192, files: files})
			need := l.Room() + 1
			short.Store(true)
			if err := l.Grow(need); !errors.Is(err, store.ErrNoSpace) {
				t.Errorf("%v at %s: Grow = %v, want ErrNoSpace", errno, op, err)
			}
			short.Store(false)
			if err := l.Grow(need); err != nil {
				t.Errorf("%v at %s has passed: Grow = %v", errno, op, err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestSpanFails: a span whose file cannot be opened or read is an error that leaves what was there, and is no fault of the
// log: the next one succeeds.
func TestSpanFails(t *testing.T) {
	faulty := &faultFS{vfs: newMemFS()}
	l := openTest(t, "/spool", Options{SegmentSize: 4096, RingSize: minRing, files: faulty})
	defer l.Close()
	h := newHistory()
	for len(l.Boundaries()) < 5 {
		if err := h.append(l, 1500); err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n <= 2; n++ {
		l.segs.mu.Lock()
		if f := l.segs.list[0].detach(); f != nil {
			f.Close()
		}
		l.segs.mu.Unlock()
		ops := 0
		faulty.mu.Lock()
		faulty.fault = func(int, string) error {
			if ops++; ops == n {
				return syscall.EIO
			}
			return nil
		}
		faulty.mu.Unlock()
		got, err := l.ReadSpan(l.Start(), l.Start()+100, []byte("dst"))
		if !errors.Is(err, syscall.EIO) || string(got) != "dst" {
			t.Errorf("ReadSpan whose operation %d fails = %q, %v, want %q and the fault", n, got, err, "dst")
		}
		if got, err := l.ReadSpan(l.Start(), l.Start()+100, nil); err != nil || len(got) != 100 {
			t.Errorf("the next ReadSpan = %d bytes, %v, want 100", len(got), err)
		}
	}
}
