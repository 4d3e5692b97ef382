package seglog

import (
	"errors"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/spoolmq/spool/store"
)

// filled waits until the reserve is as large as it is to be, and returns its bytes.
func (l *Log) filled(t *testing.T) int64 {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		if !l.lacking() {
			return l.reserved()
		}
		if time.Now().After(deadline) {
			t.Fatalf("the reserve stays at %d bytes", l.reserved())
		}
	}
}

// addPiece adds a piece to the reserve. Caller holds space.mu.
func (l *Log) addPiece(t *testing.T, size int64) {
	t.Helper()
	s, err := l.create(size-overhead, false)
	if err != nil {
		t.Fatal(err)
	}
	l.enlarge(s)
}

// TestReserve: on a full disk Grow takes nothing from the reserve, Draw takes three quarters of the shared part, also after an
// Open, and the cleaner the rest; when there is space again a piece that was not used goes back and everybody is served.
func TestReserve(t *testing.T) {
	files := newMemFS()
	l := openTest(t, "/spool", Options{files: files})
	defer l.Close()
	have := l.filled(t)
	if have != 2*minReserve {
		t.Fatalf("reserve of %d bytes, want %d", have, 2*minReserve)
	}
	files.setFull(true)
	before := l.Room()
	if err := l.Grow(before + 1); !errors.Is(err, store.ErrNoSpace) {
		t.Fatalf("Grow on a full disk = %v, want %v", err, store.ErrNoSpace)
	}
	if err := l.Draw(before+1, false); !errors.Is(err, store.ErrNoSpace) {
		t.Fatalf("Draw of more than a piece = %v, want %v", err, store.ErrNoSpace)
	}
	fill(t, l) // up to the last bytes of the first segment
	for drawn := 0; ; drawn++ {
		err := l.Draw(l.ReserveRoom()+1, false)
		if errors.Is(err, store.ErrNoSpace) {
			if drawn != 3 {
				t.Fatalf("%d pieces of %d bytes drawn from %d, want 3", drawn, smallPiece, have)
			}
			break
		}
		if err != nil || l.Room() >= l.ReserveRoom() {
			t.Fatalf("Draw = %v, Room %d, ReserveRoom %d", err, l.Room(), l.ReserveRoom())
		}
		fill(t, l)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, "/spool", Options{files: files})
	defer l.Close()
	if err := l.Draw(l.ReserveRoom()+1, false); !errors.Is(err, store.ErrNoSpace) {
		t.Fatalf("Draw after an Open = %v, want %v", err, store.ErrNoSpace)
	}
	if left := l.Left(); left < have-3*smallPiece || left > have-2*smallPiece {
		t.Fatalf("%d bytes are left for who makes room, of %d", left, have)
	}
	if err := l.Draw(l.ReserveRoom()+1, true); err != nil {
		t.Fatalf("Draw by who makes room = %v", err)
	}
	files.setFull(false)
	if err := l.Grow(l.Room() + 1); err != nil || l.Room() < minSize/2 {
		t.Fatalf("Grow when there is space again = %v, Room %d", err, l.Room())
	}
	if l.filled(t) < minReserve {
		t.Fatal("the piece that was not used is not in the reserve")
	}
	l.knowsAll(t, files)
}

// TestReserveBeforeSpares: on a full disk no file is kept to be used again while the reserve lacks one.
func TestReserveBeforeSpares(t *testing.T) {
	files := newMemFS()
	l := openTest(t, "/spool", Options{files: files})
	defer l.Close()
	l.filled(t)
	l.space.mu.Lock()
	defer l.space.mu.Unlock()
	for _, full := range []bool{true, false} {
		s, err := l.create(minSize-overhead, false)
		if err != nil {
			t.Fatal(err)
		}
		files.setFull(full)
		if l.takePiece(1, true) == nil {
			t.Fatal("the reserve is empty")
		}
		if err := l.giveUp(s); err != nil || len(l.spareSizes()) > 0 == full || l.reserved() < 2*minReserve != full {
			t.Errorf("full %t: giveUp = %v; spares of %d bytes, a reserve of %d", full, err, l.spareSizes(), l.reserved())
		}
		files.setFull(false)
	}
}

// TestReservePieces: beyond the first megabyte the reserve is in large pieces, and an Open keeps no more of them than it may.
func TestReservePieces(t *testing.T) {
	files := newMemFS()
	l := openTest(t, "/spool", Options{files: files})
	l.filled(t)
	h := newHistory()
	for range 3 {
		if err := h.append(l, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	l.space.mu.Lock()
	l.fillReserve()
	l.space.mu.Unlock()
	sizes := map[int64]int{}
	l.segs.mu.Lock()
	for _, s := range l.segs.reserve {
		sizes[s.size]++
	}
	l.segs.mu.Unlock()
	if sizes[smallPiece] != minReserve/smallPiece || sizes[largePiece] < 2 {
		t.Errorf("pieces %v, want %d of %d and 2 or more of %d", sizes, minReserve/smallPiece, smallPiece, largePiece)
	}
	if err := errors.Join(h.finish(l), l.Close()); err != nil {
		t.Fatal(err)
	}
	files.free = minReserve // the disk has become small
	l = openTest(t, "/spool", Options{files: files})
	defer l.Close()
	if n := l.reserved(); n > 2*minReserve+largePiece {
		t.Errorf("reserve of %d bytes after Open, want at most %d and a piece", n, 2*minReserve)
	}
}

// TestReserveOfAFullDisk: what a disk has room for is what is free and what the log takes.
func TestReserveOfAFullDisk(t *testing.T) {
	files := newMemFS()
	files.free = 1
	l := openTest(t, "/spool", Options{files: files})
	h := newHistory()
	for range 40 {
		if err := h.append(l, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(h.finish(l), l.Close()); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, "/spool", Options{files: files})
	defer l.Close()
	if least := int64(40<<20) / freeShare; l.reserveMost < least {
		t.Errorf("each part of the reserve is of %d bytes at most, want %d", l.reserveMost, least)
	}
}

// TestReserveFused: for a frame that no piece holds several become one.
func TestReserveFused(t *testing.T) {
	files := newMemFS()
	l := openTest(t, "/spool", Options{files: files})
	defer l.Close()
	l.filled(t)
	files.setFullBut()
	fill(t, l)
	const n = largePiece + smallPiece/2
	if err := l.Draw(n, false); !errors.Is(err, store.ErrNoSpace) || l.reserved() != 2*minReserve {
		t.Fatalf("Draw of more than is shared = %v; a reserve of %d bytes", err, l.reserved())
	}
	if err := l.Draw(n, true); err != nil || l.ReserveRoom() < n || l.Room() >= n {
		t.Fatalf("Draw of more than a piece = %v; room of %d, for all %d", err, l.ReserveRoom(), l.Room())
	}
	if got := l.reserved(); got != 2*minReserve-largePiece-smallPiece {
		t.Errorf("reserve of %d bytes, want %d", got, 2*minReserve-largePiece-smallPiece)
	}
	files.setFull(false)
	if err := l.Grow(l.Room() + 1); err != nil || l.Room() < n {
		t.Errorf("Grow when there is space again = %v; room of %d, and somebody counts on %d", err, l.Room(), n)
	}
	l.knowsAll(t, files)
}

// TestReserveFusedFault: whoever fails to make one piece of several says why, and what somebody else has left of the space
// goes back into the reserve.
func TestReserveFusedFault(t *testing.T) {
	for _, c := range []struct {
		op        string
		err, want error
	}{
		{"remove", syscall.EIO, syscall.EIO},
		{"allocate", syscall.EIO, syscall.EIO},
		{"allocate", syscall.ENOSPC, store.ErrNoSpace},
	} {
		files := newMemFS()
		removed, failed := false, false
		faulty := &faultFS{vfs: files, fault: func(_ int, op string) error {
			if !files.regaining() || failed {
				return nil
			}
			removed = removed || op == "remove"
			if failed = removed && op == c.op; failed {
				return c.err
			}
			return nil
		}}
		l := openTest(t, "/spool", Options{files: faulty})
		had := l.filled(t)
		files.setFullBut()
		fill(t, l)
		err := l.Draw(largePiece+smallPiece/2, true)
		if !errors.Is(err, c.want) || !failed {
			t.Errorf("%v at %s: Draw = %v, want %v; met %t", c.err, c.op, err, c.want, failed)
		}
		if got := l.reserved(); c.want == store.ErrNoSpace && got != had {
			t.Errorf("%v at %s: a reserve of %d bytes, want the %d of before", c.err, c.op, got, had)
		}
		closeDead(l)
	}
}

// TestReserveOwnFirst: when space comes back, who makes room has its part of the reserve before others have theirs.
func TestReserveOwnFirst(t *testing.T) {
	l := openTest(t, "/spool", Options{files: newMemFS()})
	defer l.Close()
	l.filled(t)
	l.space.mu.Lock()
	defer l.space.mu.Unlock()
	for l.takePiece(1, true) != nil {
	}
	if l.segs.shared != 0 {
		t.Fatalf("%d bytes of nothing are shared", l.segs.shared)
	}
	all, shared := l.reserveTarget()
	for l.lacking() {
		l.addPiece(t, smallPiece)
		if want := max(0, l.reserved()-(all-shared)); l.segs.shared != want {
			t.Fatalf("%d of %d bytes are shared, want %d", l.segs.shared, l.reserved(), want)
		}
	}
	if l.segs.shared != shared {
		t.Errorf("%d bytes are shared in the end, want %d", l.segs.shared, shared)
	}
}

// TestReserveSmallest: the smallest piece that suffices is drawn, so that the large ones are there for large frames.
func TestReserveSmallest(t *testing.T) {
	l := openTest(t, "/spool", Options{files: newMemFS()})
	defer l.Close()
	l.filled(t)
	l.space.mu.Lock()
	defer l.space.mu.Unlock()
	for _, size := range []int64{largePiece, smallPiece, largePiece} {
		l.addPiece(t, size)
	}
	for _, n := range []int64{1, smallPiece} {
		want := map[int64]int64{1: smallPiece, smallPiece: largePiece}[n]
		if s := l.takePiece(n, true); s == nil || s.size != want {
			t.Errorf("for %d bytes a piece of %+v is taken, want one of %d", n, s, want)
		}
	}
}

// fill appends frames until nothing fits that may be appended without Draw or Grow.
func fill(t *testing.T, l *Log) {
	t.Helper()
	h := newHistory()
	for l.ReserveRoom() > 16<<10 {
		if err := h.append(l, 12<<10); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReserveSurvives: an Open finds the pieces of the reserve again.
func TestReserveSurvives(t *testing.T) {
	files := newMemFS()
	l := openTest(t, "/spool", Options{files: files})
	l.filled(t)
	if err := errors.Join(l.Mark(0, true), l.Close()); err != nil {
		t.Fatal(err)
	}
	files.setFull(true)
	l = openTest(t, "/spool", Options{files: files})
	defer l.Close()
	if got := l.filled(t); got != 2*minReserve {
		t.Fatalf("reserve of %d bytes after Open on a full disk, want %d", got, 2*minReserve)
	}
}
