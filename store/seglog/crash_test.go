package seglog

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/spoolmq/spool/store"
)

var crashSeed = flag.Uint64("crash.seed", 0, "seed of the crash tests; 0 takes a new one")

func seedFor(t testing.TB) uint64 {
	seed := *crashSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-crash.seed=%d", seed)
	return seed
}

// testPayload is one record with n bytes of body that tell what it is.
func testPayload(n int, mark uint64) store.Payload {
	body := make([]byte, n)
	rng := rand.New(rand.NewPCG(mark, 3))
	for i := range body {
		body[i] = byte(rng.Uint64())
	}
	head := store.AppendRecordHead(nil, 1, fmt.Appendf(nil, "%08d", mark), n, store.BodySum(body))
	return store.Payload{
		Parts: [][]byte{head, body}, Len: len(head) + n, Heads: crc32.Checksum(head, store.Castagnoli), Records: 1,
	}
}

// A history is what a script did to a log and was told.
type history struct {
	frames    []string                // payloads in order, the last one perhaps without an answer
	at        map[store.Position]int  // index of the frame at a position
	synced    store.Position          // acknowledged
	start     store.Position          // acknowledged
	starts    map[store.Position]bool // starts that were asked for
	highWater int64                   // acknowledged
	epoch     uint32                  // acknowledged
	fault     error                   // what calls may fail with
}

func newHistory() *history {
	return &history{fault: errDead, at: map[store.Position]int{}, starts: map[store.Position]bool{0: true}}
}

// open opens the log of a script. It is nil when the machine died meanwhile.
func (h *history) open(t testing.TB, o Options) *Log {
	l, err := Open("/spool", o)
	if err != nil {
		if !errors.Is(err, h.fault) {
			t.Fatalf("Open: %v", err)
		}
		return nil
	}
	h.epoch = l.Info().Epoch
	return l
}

// run does n random things with a log until the machine dies, which it tells.
func (h *history) run(t testing.TB, l *Log, rng *rand.Rand, n int) error {
	for range n {
		var err error
		switch what := rng.IntN(20); {
		case what < 10:
			err = h.append(l, rng.IntN(1+rng.IntN(6000)))
		case what < 11:
			left := int(l.segs.last().limit() - l.End())
			err = h.append(l, max(0, left-store.FrameHeaderSize-store.RecordOverhead-8-rng.IntN(2)))
		case what < 15:
			end := l.End()
			if err = l.Sync(end); err == nil {
				h.synced = end
			}
		case what < 16:
			high := h.highWater + 1
			if err = l.Mark(high, false); err == nil {
				h.highWater = high
			}
		case what < 17:
			err = l.Grow(rng.Int64N(20000))
		default:
			at := l.Boundaries()
			before := at[rng.IntN(len(at))]
			h.starts[before] = true
			if err = l.Drop(before); err == nil {
				h.start = max(h.start, before)
				h.synced = max(h.synced, before)
			}
		}
		if errors.Is(err, store.ErrNoSpace) && errors.Is(h.fault, syscall.ENOSPC) {
			continue // nothing has changed
		}
		if err != nil {
			if !errors.Is(err, h.fault) {
				t.Fatalf("%v", err)
			}
			return err
		}
	}
	return nil
}

func (h *history) append(l *Log, n int) error {
	p := testPayload(n, uint64(len(h.frames)))
	h.at[l.End()] = len(h.frames)
	h.frames = append(h.frames, string(bytes.Join(p.Parts, nil)))
	at := l.End()
	_, err := l.Append(p)
	if err != nil && l.usable() == nil { // the log could not grow: nothing has been written
		delete(h.at, at)
		h.frames = h.frames[:len(h.frames)-1]
	}
	return err
}

// finish closes the log cleanly.
func (h *history) finish(l *Log) error {
	end := l.End()
	if err := l.Sync(end); err != nil {
		return err
	}
	h.synced = end
	return l.Mark(h.highWater, true)
}

// check compares a log that was opened after a crash with what had been acknowledged. killed means that the machine
// went on: then every frame that was appended is there.
func (h *history) check(t testing.TB, l *Log, killed bool) {
	t.Helper()
	info := l.Info()
	if info.Epoch <= h.epoch || info.HighWater < h.highWater {
		t.Fatalf("epoch %d, high water %d, want above %d, at least %d", info.Epoch, info.HighWater, h.epoch, h.highWater)
	}
	if l.Start() < h.start || !h.starts[l.Start()] {
		t.Fatalf("Start %d, was told that it is %d", l.Start(), h.start)
	}
	if l.End() < h.synced {
		t.Fatalf("End %d, was told that %d is synced", l.End(), h.synced)
	}
	count, first := 0, -1
	err := l.Replay(l.Start(), func(pos store.Position, payload []byte) error {
		i, ok := h.at[pos]
		if first < 0 {
			first = i
		}
		if !ok || i != first+count || string(payload) != h.frames[i] {
			t.Fatalf("frame at %d is not the one that was appended there", pos)
		}
		if _, err := l.ReadRecord(pos+store.FrameHeaderSize, nil); err != nil {
			t.Fatalf("ReadRecord: %v", err)
		}
		count++
		return nil
	})
	if err != nil {
		t.Fatalf("Replay: %v", err)
	}
	if killed && count > 0 && first+count < len(h.frames)-1 {
		t.Fatalf("%d of %d frames after a kill", first+count, len(h.frames))
	}
}

// adopt makes the history say what a log holds that was opened after a crash.
func (h *history) adopt(t testing.TB, l *Log) {
	h.frames, h.at = nil, map[store.Position]int{}
	err := l.Replay(l.Start(), func(pos store.Position, payload []byte) error {
		h.at[pos] = len(h.frames)
		h.frames = append(h.frames, string(payload))
		return nil
	})
	if err != nil {
		t.Fatalf("Replay: %v", err)
	}
	h.epoch, h.synced, h.start = l.Info().Epoch, l.End(), l.Start()
	h.starts[h.start] = true
}

// closeDead closes a log whose machine is gone: it leaves no goroutine, and says so or not.
func closeDead(l *Log) {
	if l != nil {
		l.Close()
	}
}

// TestCrash lets the machine die at every operation of a script, and again at a random operation of the recovery.
func TestCrash(t *testing.T) {
	seed := seedFor(t)
	for _, name := range []string{"tiny", "tinyW", "small"} {
		for _, power := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/power=%t", name, power), func(t *testing.T) {
				alive, dense := false, 80
				if testing.Short() {
					dense = 25
				}
				for die := 1; !alive; die += 1 + die/dense {
					alive = crashOnce(t, shapes[name], seed, die, power)
				}
			})
		}
	}
}

// crashOnce runs the script of a seed on a machine that dies at an operation, and tells whether it lived to the end.
func crashOnce(t *testing.T, o Options, seed uint64, die int, power bool) (alive bool) {
	files := newMemFS()
	files.die = die
	o.files = files
	h := newHistory()
	script := rand.New(rand.NewPCG(seed, 1))
	chance := rand.New(rand.NewPCG(seed, uint64(die)))
	l := h.open(t, o)
	for round := 0; l != nil && round < 3; round++ {
		if h.run(t, l, script, 40) != nil || h.finish(l) != nil {
			break
		}
		if err := l.Close(); err != nil && !errors.Is(err, errDead) {
			t.Fatal(err)
		}
		l = h.open(t, o)
	}
	closeDead(l)
	files.mu.Lock()
	alive = !files.dead
	files.mu.Unlock()

	files = files.killed()
	if power {
		files.loses(chance)
	}
	// The recovery dies as well, as often as it likes.
	for range chance.IntN(3) {
		files.die = 1 + chance.IntN(60)
		o.files = files
		if l, err := Open("/spool", o); err == nil {
			files.mu.Lock()
			files.die = 0
			gone := files.dead // while the goroutine prepared something
			files.mu.Unlock()
			if !gone {
				h.check(t, l, !power)
			}
			h.epoch = l.Info().Epoch
			closeDead(l)
		} else if !errors.Is(err, errDead) {
			t.Fatalf("die %d: Open: %v", die, err)
		}
		files = files.killed()
		if power {
			files.loses(chance)
		}
	}
	o.files = files
	l, err := Open("/spool", o)
	if err != nil {
		t.Fatalf("die %d: Open: %v", die, err)
	}
	h.check(t, l, !power)
	end := l.End()
	h.adopt(t, l)
	// What goes on from there is a log like any other.
	if err := h.run(t, l, chance, 10); err != nil {
		t.Fatal(err)
	}
	if err := h.finish(l); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, "/spool", o)
	if l.End() < end {
		t.Fatalf("End %d, was %d", l.End(), end)
	}
	h.check(t, l, true)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return alive
}

// TestCrashMixed lets processes die one after the other in one directory, at any operation of Open or of what they do then, and
// the power fail behind some of them: what one has left in the page cache the next one finds, and a power loss may take it.
func TestCrashMixed(t *testing.T) {
	seed, runs := seedFor(t), 100
	if testing.Short() {
		runs = 25
	}
	for i := range runs {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		crashMixed(t, shapes[[]string{"tiny", "tinyW", "small"}[rng.IntN(3)]], rng)
	}
}

func crashMixed(t *testing.T, o Options, rng *rand.Rand) {
	files, h := newMemFS(), newHistory()
	made, power := false, false // power says that it has failed since the history was last compared
	for range 2 + rng.IntN(10) {
		o.files = files
		if rng.IntN(2) == 0 {
			files.die = 1 + rng.IntN(60) // in Open
		}
		l, err := Open("/spool", o)
		switch {
		case err != nil && !errors.Is(err, errDead):
			t.Fatalf("Open: %v", err)
		case err == nil && files.survives():
			if made {
				h.check(t, l, !power)
			}
			h.adopt(t, l)
			made, power = true, false
			files.dieIn(1 + rng.IntN(300))
			if h.run(t, l, rng, 1+rng.IntN(40)) == nil && rng.IntN(2) == 0 && h.finish(l) == nil && rng.IntN(2) == 0 {
				l.Close()
			}
		case err == nil: // it died while the goroutine prepared something
			made, h.epoch, h.synced = true, l.Info().Epoch, max(h.synced, l.End())
		}
		files = files.killed()
		closeDead(l)
		if rng.IntN(2) == 0 {
			files.loses(rng)
			power = true
		}
	}
	o.files = files
	l := openTest(t, "/spool", o)
	if made {
		h.check(t, l, !power)
	}
	closeDead(l)
}

// TestCrashControl shows that TestCrash can fail: on a disk whose syncs do nothing, acknowledged frames are lost.
func TestCrashControl(t *testing.T) {
	lost := 0
	for seed := range uint64(50) {
		files := newMemFS()
		o := shapes["tiny"]
		o.files = files
		l := openTest(t, "/spool", o)
		files.mu.Lock()
		files.noSync = true
		files.mu.Unlock()
		h := newHistory()
		if err := h.run(t, l, rand.New(rand.NewPCG(seed, 1)), 30); err != nil {
			t.Fatal(err)
		}
		files = files.killed().loses(rand.New(rand.NewPCG(seed, 2)))
		files.noSync = false
		closeDead(l)
		o.files = files
		l, err := Open("/spool", o)
		if err != nil || l.End() < h.synced {
			lost++
		}
		closeDead(l)
	}
	if lost < 10 {
		t.Fatalf("%d of 50 runs on a disk that does not sync lost something, want most", lost)
	}
}
