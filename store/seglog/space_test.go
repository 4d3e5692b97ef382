package seglog

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/spoolmq/spool/store"
)

// TestSizes: segments grow while they are filled quickly, and are smaller again when they are not.
func TestSizes(t *testing.T) {
	files := newMemFS()
	l := openTest(t, "/spool", Options{files: files})
	defer l.Close()
	if got := l.capacityFor(1); got != minSize-overhead {
		t.Fatalf("first segments hold %d, want %d", got, minSize-overhead)
	}
	for _, want := range []int64{2 << 20, 4 << 20, 8 << 20, 16 << 20, 32 << 20, 32 << 20} {
		l.rolled()
		if got := l.capacityFor(1); got != want-overhead {
			t.Fatalf("segments that fill quickly hold %d, want %d", got, want-overhead)
		}
	}
	for _, want := range []int64{16 << 20, 8 << 20} {
		l.space.mu.Lock() // the goroutine looks at it when it has filled the reserve
		l.space.opened = l.space.opened.Add(-2 * quickFill)
		l.space.mu.Unlock()
		l.rolled()
		if got := l.capacityFor(1); got != want-overhead {
			t.Fatalf("segments that fill slowly hold %d, want %d", got, want-overhead)
		}
	}
	if got, want := l.capacityFor(9<<20), int64(16<<20-overhead); got != want {
		t.Errorf("a segment for 9 MB holds %d, want %d", got, want)
	}
	if got, want := l.capacityFor(50<<20+1), int64(50<<20+pageSize); got != want {
		t.Errorf("a segment for 50 MB and a byte holds %d, want %d", got, want)
	}
	files.mu.Lock()
	files.free = 40 << 20
	files.mu.Unlock()
	if got, want := l.capacityFor(1), int64(2<<20-overhead); got != want {
		t.Errorf("a segment where 40 MB are free holds %d, want %d", got, want)
	}
	if got, want := l.capacityFor(3<<20), int64(3<<20); got != want {
		t.Errorf("a segment for 3 MB where 40 MB are free holds %d, want %d", got, want)
	}
}

// TestFullLeavesNothing: taking space that is not there changes nothing on disk.
func TestFullLeavesNothing(t *testing.T) {
	files := newMemFS()
	l := openTest(t, "/spool", Options{SegmentSize: 4096, files: files})
	defer l.Close()
	before := files.files()
	files.setFull(true)
	if err := l.Grow(10000); !errors.Is(err, store.ErrNoSpace) {
		t.Fatalf("Grow on a full disk = %v, want %v", err, store.ErrNoSpace)
	}
	if after := files.files(); len(after) != len(before) {
		t.Fatalf("after ErrNoSpace there are %q, were %q", after, before)
	}
}

// TestIdleFiles: a log of many segments holds few of them open.
func TestIdleFiles(t *testing.T) {
	l := openTest(t, "/spool", Options{SegmentSize: 4096, RingSize: minRing, files: newMemFS()})
	defer l.Close()
	h := newHistory()
	for len(l.Boundaries()) < 50 {
		if err := h.append(l, 3000); err != nil {
			t.Fatal(err)
		}
	}
	for pos := range h.at {
		if _, err := l.ReadRecord(pos+store.FrameHeaderSize, nil); err != nil {
			t.Fatal(err)
		}
	}
	open := 0
	l.segs.mu.Lock()
	for _, s := range l.segs.list {
		if s.file != nil {
			open++
		}
	}
	l.segs.mu.Unlock()
	if open > maxIdleFiles+2 {
		t.Fatalf("%d of 50 files are open, want at most %d", open, maxIdleFiles+2)
	}
	if err := l.Drop(l.Boundaries()[48]); err != nil {
		t.Fatal(err)
	}
	l.segs.mu.Lock()
	defer l.segs.mu.Unlock()
	for _, s := range l.segs.idle {
		if s.dropped {
			t.Errorf("a reader may close %s while it is given up", s.path)
		}
	}
}

// TestPrepared: the next segment is ready before it is needed, so that a roll takes no space.
func TestPrepared(t *testing.T) {
	l := openTest(t, "/spool", Options{SegmentSize: 64 << 10, files: newMemFS()})
	defer l.Close()
	h := newHistory()
	if err := h.append(l, 40<<10); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); l.Room() < 64<<10; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("room %d with a segment more than half full, want a prepared one of %d", l.Room(), 64<<10)
		}
	}
}

// TestPreparedAgain: when there was no space for the next segment a drop makes it worth another try, and so does a Grow that
// has found some.
func TestPreparedAgain(t *testing.T) {
	for name, more := range map[string]func(*Log) error{
		"Drop": func(l *Log) error { return l.Drop(l.Boundaries()[1]) },
		"Grow": func(l *Log) error { return l.Grow(l.Room() + 1) },
	} {
		l := openTest(t, "/spool", Options{SegmentSize: 4096, files: newMemFS()})
		h := newHistory()
		for len(l.Boundaries()) < 4 {
			if err := h.append(l, 1000); err != nil {
				t.Fatal(err)
			}
		}
		l.space.starved.Store(true) // as by the goroutine that prepares, on a full disk
		if err := more(l); err != nil || l.space.starved.Load() {
			t.Errorf("%s = %v, and no segment is prepared any more: %t", name, err, l.space.starved.Load())
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestPreparedAsAsked: after a Grow for a large frame the next segment is prepared for one as large.
func TestPreparedAsAsked(t *testing.T) {
	const large = 5 << 20
	l := openTest(t, "/spool", Options{files: newMemFS()})
	defer l.Close()
	if err := l.Grow(large); err != nil {
		t.Fatal(err)
	}
	if err := newHistory().append(l, large-1000); err != nil { // more than half of the segment
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		l.segs.mu.Lock()
		next := l.segs.next
		l.segs.mu.Unlock()
		if next != nil {
			if next.capacity() < large {
				t.Errorf("a segment of %d bytes is prepared, want one for %d", next.capacity(), large)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no segment is prepared")
		}
	}
}

// TestPreparedTooSmall: a prepared segment that a larger one has to take the place of does not stay on the disk unknown.
func TestPreparedTooSmall(t *testing.T) {
	files := newMemFS()
	l := openTest(t, "/spool", Options{SegmentSize: 4096, files: files})
	defer l.Close()
	for n := int64(5000); n < 200_000; n *= 2 {
		if err := l.Grow(n); err != nil {
			t.Fatal(err)
		}
	}
	l.knowsAll(t, files)
}

// knowsAll checks that no segment is on the disk that the log has forgotten, and none is missing.
func (l *Log) knowsAll(t *testing.T, files *memFS) {
	t.Helper()
	l.space.mu.Lock()
	defer l.space.mu.Unlock()
	l.segs.mu.Lock()
	defer l.segs.mu.Unlock()
	if known, there := len(l.segs.files()), files.count(segmentSuffix); known != there {
		t.Errorf("the log knows of %d files, there are %d", known, there)
	}
}

// TestPassing: what a kill leaves of a segment that was not ready is removed.
func TestPassing(t *testing.T) {
	files := newMemFS()
	o := Options{SegmentSize: 4096, files: files}
	openTest(t, "/spool", o).Close()
	files.entries["/spool/log/00000000000000aa.tmp"] = &memNode{data: make([]byte, 100)}
	l := openTest(t, "/spool", o)
	defer l.Close()
	if files.entries["/spool/log/00000000000000aa.tmp"] != nil {
		t.Fatal("a file under a passing name is still there")
	}
	if err := l.Grow(8000); err != nil || files.entries["/spool/log/00000000000000ab.seg"] == nil {
		t.Fatalf("Grow = %v, files %q, want a name that was never used", err, files.files())
	}
}
