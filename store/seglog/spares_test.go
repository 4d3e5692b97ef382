package seglog

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fillAndDrop appends until there are so many segments and drops all but the last.
func fillAndDrop(t *testing.T, l *Log, h *history, segments, size int) {
	t.Helper()
	for len(l.Boundaries()) < segments {
		if err := h.append(l, size); err != nil {
			t.Fatal(err)
		}
	}
	at := l.Boundaries()
	if err := l.Drop(at[len(at)-1]); err != nil {
		t.Fatal(err)
	}
}

func (l *Log) spareSizes() (sizes []int64) {
	l.segs.mu.Lock()
	defer l.segs.mu.Unlock()
	for _, s := range l.segs.spares {
		sizes = append(sizes, s.size)
	}
	return sizes
}

// TestSpares: however much is dropped, few files are kept beside the prepared one while there is traffic, one when there is
// none, and they are used again.
func TestSpares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := newMemFS()
		l := openTest(t, "/spool", Options{SegmentSize: 4096, files: files})
		defer l.Close()
		h := newHistory()
		for round := range 5 {
			fillAndDrop(t, l, h, 8, 1500)
			if n := files.count(segmentSuffix); n < 1+maxSpares || n > 2+maxSpares {
				t.Fatalf("round %d: %d files for one segment, want it, up to %d spares and perhaps the next one", round, n, maxSpares)
			}
		}
		before := l.space.number
		for len(l.Boundaries()) < maxSpares {
			if err := h.append(l, 1500); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if made := l.space.number - before; made > 0 {
			t.Fatalf("%d new files while there were %d to be used again", made, maxSpares)
		}
		fillAndDrop(t, l, h, 8, 1500)
		time.Sleep(quietAfter + time.Second)
		synctest.Wait()
		if n := len(l.spareSizes()); n != quietSpares {
			t.Fatalf("%d spares after %v without traffic, want %d", n, quietAfter, quietSpares)
		}
		if n := files.count(segmentSuffix); n > 2+quietSpares {
			t.Fatalf("%d files after %v without traffic, want at most %d", n, quietAfter, 2+quietSpares)
		}
		if err := l.Grow(l.Room()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSparesLargest: of the files of a log that has grown the largest are kept, but none that was made for a large frame, and
// one that is far too small is not prepared: each switch of segments costs a sync.
func TestSparesLargest(t *testing.T) {
	l := openTest(t, "/spool", Options{files: newMemFS()})
	defer l.Close()
	l.space.mu.Lock()
	defer l.space.mu.Unlock()
	l.space.size.Store(maxSize)
	for _, size := range []int64{2 * minSize, minSize, 8 * minSize, maxSize / 2, 12 * minSize, 4 * minSize} {
		s, err := l.create(size-overhead, false)
		if err == nil {
			err = l.giveUp(s)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got, want := l.spareSizes(), []int64{8 * minSize, maxSize / 2, 4 * minSize}; !slices.Equal(got, want) {
		t.Fatalf("spares of %d bytes, want the largest: %d", got, want)
	}
	for _, want := range []int64{maxSize / 2, 8 * minSize, maxSize} {
		l.segs.mu.Lock()
		l.segs.next = nil
		l.segs.mu.Unlock()
		if err := l.prepare(0, how{ahead: true}); err != nil {
			t.Fatal(err)
		}
		if got := l.segs.next.size; got != want {
			t.Errorf("a file of %d bytes is prepared, want %d; left are spares of %d", got, want, l.spareSizes())
		}
	}
}

// TestSparesGiveWay: on a full disk spares that are too small make room for the segment that is needed.
func TestSparesGiveWay(t *testing.T) {
	inner := newMemFS()
	files := &faultFS{vfs: inner}
	l := openTest(t, "/spool", Options{SegmentSize: 4096, files: files})
	defer l.Close()
	fillAndDrop(t, l, newHistory(), 8, 1500)
	l.space.mu.Lock()
	defer l.space.mu.Unlock()
	spares := len(l.spareSizes())
	room := inner.count(segmentSuffix) - spares // files for which there is space
	files.mu.Lock()
	files.fault = func(_ int, op string) error {
		if op == "create" && inner.count(segmentSuffix) > room {
			return syscall.ENOSPC
		}
		return nil
	}
	files.mu.Unlock()
	if err := l.prepare(100_000, how{}); err != nil || spares == 0 {
		t.Errorf("with %d spares: prepare = %v, want that they are given up", spares, err)
	}
}

// TestSparesStay: a spare that cannot be removed when it is quiet is no fault of the log, and is told of.
func TestSparesStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		files := &faultFS{vfs: newMemFS()}
		l := openTest(t, "/spool", Options{SegmentSize: 4096, files: files, Logger: slog.New(slog.NewTextHandler(&said, nil))})
		defer l.Close()
		h := newHistory()
		fillAndDrop(t, l, h, 8, 1500)
		files.mu.Lock()
		files.fault = func(_ int, op string) error {
			if op == "remove" {
				return syscall.EIO
			}
			return nil
		}
		files.mu.Unlock()
		time.Sleep(quietAfter + time.Second)
		synctest.Wait()
		if !strings.Contains(said.String(), "spare") {
			t.Errorf("the log said %q, want it to tell of spares that are left", said.String())
		}
		if err := h.append(l, 1500); err != nil {
			t.Errorf("Append after a spare could not be removed: %v", err)
		}
	})
}
