package seglog

import (
	"errors"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/spoolmq/spool/store"
)

// loses makes m what a power loss leaves of it: of each directory a prefix of its pending changes, as file systems do
// that keep a journal, or any of them; of each file any of the sectors that were written since its last sync.
func (m *memFS) loses(rng *rand.Rand) *memFS {
	kept := map[string]int{}
	for _, p := range m.pending {
		kept[filepath.Dir(p.name)]++
	}
	for _, dir := range slices.Sorted(maps.Keys(kept)) {
		kept[dir] = rng.IntN(kept[dir] + 1)
	}
	journal := rng.IntN(2) == 0
	for _, p := range m.pending {
		dir := filepath.Dir(p.name)
		if journal && kept[dir] > 0 || !journal && rng.IntN(2) == 0 {
			m.apply(m.durable, p)
		}
		kept[dir]--
	}
	m.pending = nil
	m.entries = maps.Clone(m.durable)
	grain := []int64{512, pageSize, 64 << 10}[rng.IntN(3)]
	keep := []float64{0, 0.5, 0.9, 1}[rng.IntN(4)]
	for _, name := range slices.Sorted(maps.Keys(m.entries)) {
		m.entries[name].lose(rng, grain, keep)
	}
	return m
}

// cut makes m what the power loss leaves of it that keeps nothing of what was not synced.
func (m *memFS) cut() *memFS {
	m.pending = nil
	m.entries = maps.Clone(m.durable)
	for _, n := range m.entries {
		n.data, n.dirty = slices.Clone(n.synced), nil
	}
	return m
}

// lose keeps each grain of the dirty parts with probability keep.
func (n *memNode) lose(rng *rand.Rand, grain int64, keep float64) {
	after := slices.Clone(n.synced)
	if len(n.data) > len(after) && rng.IntN(2) == 0 {
		after = append(after, make([]byte, len(n.data)-len(after))...)
	}
	for _, s := range n.dirty {
		for from := s.from - s.from%grain; from < s.to; from += grain {
			if rng.Float64() < keep {
				lo, hi := max(from, s.from), min(from+grain, s.to, int64(len(after)))
				if lo < hi {
					copy(after[lo:hi], n.data[lo:hi])
				}
			}
		}
	}
	n.data, n.synced, n.dirty = after, slices.Clone(after), nil
}

// killThenCut makes a log with make, kills the process at each operation of act, or where it fails, and has the power fail at
// each operation of the Open behind it. Then the log opens, and ends where it did when everything was synced.
func killThenCut(t *testing.T, make func(l *Log), act func(l *Log, files *memFS) error) {
	t.Helper()
	for die := 1; ; die++ {
		for again := 1; ; again++ {
			files := newMemFS()
			o := Options{SegmentSize: 4096, files: files}
			l := openTest(t, "/spool", o)
			make(l)
			end := l.Synced()
			l.space.mu.Lock() // the goroutine is not at work
			files.dieIn(die)
			l.space.mu.Unlock()
			failure := act(l, files)
			alive := files.survives()
			files = files.killed()
			closeDead(l)
			if alive && failure == nil {
				return
			}
			o.files, files.die = files, again
			l, err := Open("/spool", o)
			closeDead(l)
			o.files = files.killed().cut()
			if l, err := Open("/spool", o); err != nil {
				t.Errorf("killed at operation %d, no power at operation %d of Open: Open = %v", die, again, err)
			} else if l.End() < end {
				t.Errorf("killed at operation %d, no power at operation %d of Open: End %d, want %d", die, again, l.End(), end)
			} else {
				closeDead(l)
			}
			if t.Failed() || err == nil && alive {
				return
			}
			if err == nil {
				break
			}
		}
	}
}

// TestDropKilledThenCut: what Drop was about to give up when it was killed is there until MARK says durably that it is not.
func TestDropKilledThenCut(t *testing.T) {
	var before store.Position
	fill := func(l *Log) {
		for range 6 {
			if _, err := l.Append(testPayload(3000, 1)); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Sync(l.End()); err != nil {
			t.Fatal(err)
		}
		before = l.Boundaries()[4]
	}
	killThenCut(t, fill, func(l *Log, _ *memFS) error { return l.Drop(before) })
	killThenCut(t, fill, func(l *Log, files *memFS) error { // its sync of MARK fails
		files.setForgets()
		return l.Drop(before)
	})
}

// TestForgottenPages: after a sync that failed the next process finds what was written, and what it reports to be durable
// then is.
func TestForgottenPages(t *testing.T) {
	for _, size := range []int64{4096, 1 << 20} { // the header of the segment is forgotten as well, and more is than one step of a rewrite
		files := newMemFS()
		o := Options{SegmentSize: size, files: files}
		failing := o
		failing.Step = func(name string) {
			if name == stepSyncCurrent {
				files.setForgets()
			}
		}
		h := newHistory()
		h.fault = syscall.EIO
		l := h.open(t, failing)
		for l.End() < store.Position(size*3/4) || len(l.Boundaries()) == 1 && size == 4096 {
			if err := h.append(l, 2500); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Sync(l.End()); !errors.Is(err, syscall.EIO) {
			t.Fatalf("Sync = %v, want %v", err, syscall.EIO)
		}
		files = stageKill(l, files)
		o.files = files
		l = stageHas(t, h, o)
		if err := h.append(l, 2500); err != nil {
			t.Fatal(err)
		}
		if err := l.Sync(l.End()); err != nil {
			t.Fatal(err)
		}
		o.files = stageKill(l, files).cut()
		stageHas(t, h, o).Close()
	}
}

// TestReplaceKilledThenCut: an empty segment that was replaced when the process was killed goes when the other one is durable.
func TestReplaceKilledThenCut(t *testing.T) {
	killThenCut(t, func(*Log) {}, func(l *Log, _ *memFS) error {
		_, err := l.Append(testPayload(20000, 1))
		return err
	})
}

// TestSpareNameIsDurable: a spare may have got its name behind the clean mark, in a process that was killed then. What goes
// there is safe after a sync like anything else.
func TestSpareNameIsDurable(t *testing.T) {
	files := newMemFS()
	o := Options{SegmentSize: 4096, files: files}
	l := openTest(t, "/spool", o)
	if _, err := l.Append(testPayload(2500, 0)); err != nil {
		t.Fatal(err)
	}
	l.prepareAhead()
	spare := l.segs.next.path
	if err := errors.Join(l.Sync(l.End()), l.Mark(1, true), l.Close()); err != nil {
		t.Fatal(err)
	}
	delete(files.durable, spare)
	files.pending = append(files.pending, memChange{name: spare, node: files.entries[spare]})

	l = openTest(t, "/spool", o)
	if _, err := l.Append(testPayload(1800, 1)); err != nil || l.segs.last().path != spare {
		t.Fatalf("Append = %v into %s, want %s", err, l.segs.last().path, spare)
	}
	if err := l.Sync(l.End()); err != nil {
		t.Fatal(err)
	}
	end := l.End()
	o.files = files.killed().cut()
	closeDead(l)
	l = openTest(t, "/spool", o)
	defer l.Close()
	if l.End() != end {
		t.Errorf("End %d, was told that %d is synced", l.End(), end)
	}
}
