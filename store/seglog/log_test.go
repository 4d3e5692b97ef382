package seglog

import (
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openTest opens a log and fails the test when that fails.
func openTest(t testing.TB, dir string, o Options) *Log {
	t.Helper()
	l, err := Open(dir, o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return l
}

// The sizes that every test runs with.
var shapes = map[string]Options{
	"tiny":  {SegmentSize: 4096, RingSize: 8192},
	"tinyW": {SegmentSize: 4096},
	"small": {SegmentSize: 64 << 10, RingSize: 16 << 10},
}

func TestLog(t *testing.T) {
	for name, o := range shapes {
		t.Run(name, func(t *testing.T) {
			var files *memFS
			storetest.TestLog(t, storetest.LogHarness{
				Open: func(t testing.TB) (store.Log, func() store.Log) {
					files = newMemFS()
					o.files = files
					return openTest(t, "/spool", o), func() store.Log { return openTest(t, "/spool", o) }
				},
				Full:         func(full bool) { files.setFull(full) }, // files is another one for each Open
				SegmentBytes: o.SegmentSize,
			})
		})
	}
}

func TestLogOnDisk(t *testing.T) {
	files := &faultFS{vfs: osFS{}}
	o := Options{SegmentSize: 64 << 10, RingSize: 16 << 10, files: files}
	storetest.TestLog(t, storetest.LogHarness{
		Open: func(t testing.TB) (store.Log, func() store.Log) {
			dir := t.TempDir()
			return openTest(t, dir, o), func() store.Log { return openTest(t, dir, o) }
		},
		Full:         files.setFull,
		SegmentBytes: o.SegmentSize,
	})
}

// TestSyncBesideAppend: a frame that is appended while a sync runs is not one that this sync has made durable.
func TestSyncBesideAppend(t *testing.T) {
	var late func() // called once, between the sync and its report
	files := newMemFS()
	l := openTest(t, "/spool", Options{SegmentSize: 64 << 10, files: files, Step: func(name string) {
		if name == stepSyncDone && late != nil {
			f := late
			late = nil
			f()
		}
	}})
	defer l.Close()
	if _, err := l.Append(records(1, 100)); err != nil {
		t.Fatal(err)
	}
	end := l.End()
	late = func() {
		if _, err := l.Append(records(1, 100)); err != nil {
			t.Error(err)
		}
	}
	if err := l.Sync(end); err != nil {
		t.Fatal(err)
	}
	if got := l.Synced(); got != end || l.End() <= end {
		t.Errorf("Synced = %d of %d, want %d: the sync began there", got, l.End(), end)
	}
	if err := l.Mark(1, true); err == nil {
		t.Error("a log with a frame that was not synced was marked clean")
	}
	if err := l.Sync(l.End()); err != nil || l.Synced() != l.End() {
		t.Errorf("Synced = %d after the next sync, want %d: %v", l.Synced(), l.End(), err)
	}
}

// TestMarkKeepsTheOtherSlot: a Mark that is torn takes nothing with it: what the one before it said still counts.
func TestMarkKeepsTheOtherSlot(t *testing.T) {
	files := newMemFS()
	o := Options{SegmentSize: 4096, files: files}
	for round := range int64(4) { // the newer slot is the first one and the second one in turns
		l := openTest(t, "/spool", o)
		marks := []int64{100 * (round + 1), 100*(round+1) + 1, 100*(round+1) + 2}[:2+round%2]
		for _, at := range marks {
			if err := l.Mark(at, false); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		n := files.entries["/spool/MARK"]
		newer, highest := int64(0), uint64(0)
		for slot := range int64(2) {
			m, err := decodeMark(n.data[slot*pageSize:][:markSize])
			if err != nil {
				t.Fatalf("slot %d: %v", slot, err)
			}
			if m.number > highest {
				newer, highest = slot, m.number
			}
		}
		n.write(make([]byte, 40), newer*pageSize)
		torn := openTest(t, "/spool", o)
		if got, want := torn.Info().HighWater, marks[len(marks)-2]; got != want {
			t.Errorf("with the newer slot torn HighWater = %d, want %d of the Mark before", got, want)
		}
		if err := torn.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDropBesideRoll: a drop comes when a segment has just been begun and nothing is in it yet. The place that is durable
// lies in what is given up then, and what the log says of itself must not.
func TestDropBesideRoll(t *testing.T) {
	var begun func() // called once, when a segment has been begun
	o := Options{SegmentSize: 4096, files: newMemFS(), Step: func(name string) {
		if name == stepRollDone && begun != nil {
			f := begun
			begun = nil
			f()
		}
	}}
	l := openTest(t, "/spool", o)
	begun = func() {
		bounds := l.Boundaries()
		if err := l.Drop(bounds[len(bounds)-1]); err != nil {
			t.Errorf("Drop = %v", err)
		}
	}
	h := newHistory()
	for len(l.Boundaries()) < 2 && begun != nil {
		if err := h.append(l, 1000); err != nil {
			t.Fatal(err)
		}
	}
	start, end := l.Start(), l.End()
	if start == 0 || end == start {
		t.Fatalf("the log is from %d to %d", start, end)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, "/spool", o)
	defer l.Close()
	if l.Start() != start || l.End() != end {
		t.Errorf("opened again, the log is from %d to %d, want %d to %d", l.Start(), l.End(), start, end)
	}
}

// TestRollFails: a segment whose header cannot be written is closed like the others when the log is.
func TestRollFails(t *testing.T) {
	var mu sync.Mutex
	open := 0
	files := &faultFS{vfs: &countFS{newMemFS(), func(n int) { mu.Lock(); open += n; mu.Unlock() }}}
	refuse := false // only roll is at work then
	files.fault = func(_ int, op string) error {
		if refuse && op == "write" {
			return syscall.EIO
		}
		return nil
	}
	l := openTest(t, "/spool", Options{SegmentSize: 4096, files: files, Step: func(name string) {
		if name == stepRollHeader {
			files.mu.Lock()
			refuse = true
			files.mu.Unlock()
		}
	}})
	var err error
	for h := newHistory(); err == nil; {
		err = h.append(l, 1000)
	}
	if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "write header") {
		t.Fatalf("Append = %v, want that a header cannot be written", err)
	}
	if err := l.Close(); err != nil || open != 0 {
		t.Errorf("Close = %v, and %d files are open, want none", err, open)
	}
}

// A countFS tells how many files are opened and closed.
type countFS struct {
	vfs
	count func(int)
}

func (c *countFS) OpenFile(name string, flag int) (vfile, error) {
	f, err := c.vfs.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	c.count(1)
	return &countFile{f, c}, nil
}

type countFile struct {
	vfile
	fs *countFS
}

func (f *countFile) Close() error {
	f.fs.count(-1)
	return f.vfile.Close()
}
