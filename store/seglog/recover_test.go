package seglog

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/spoolmq/spool/store"
)

// forge writes a frame behind the end of a closed log, as alter wants it, and opens the log.
func forge(t *testing.T, alter func(h *store.FrameHeader, salt *uint32, body []byte)) (l *Log, end store.Position, err error) {
	t.Helper()
	files := newMemFS()
	o := Options{SegmentSize: 4096, files: files}
	h := newHistory()
	l = openTest(t, "/spool", o)
	if err := errors.Join(h.append(l, 100), l.Sync(l.End()), l.Mark(1, false), h.append(l, 100)); err != nil {
		t.Fatal(err)
	}
	seg, at := l.segs.last(), l.segs.tail
	l.Close()
	p := testPayload(50, 7)
	body := bytes.Join(p.Parts, nil)
	fh := store.FrameHeader{
		Size: uint32(store.FrameSize(p.Len)), Payload: uint32(p.Len), Pos: at.pos, Synced: 0, Prev: at.crc,
		Epoch: l.info.Epoch, Heads: p.Heads, Records: 1,
	}
	salt := seg.salt
	alter(&fh, &salt, body)
	frame := make([]byte, store.FrameHeaderSize)
	store.PutFrameHeader(frame, fh, salt)
	copy(files.entries[seg.path].data[offset(seg.base, at.pos):], append(frame, body...))
	l, err = Open("/spool", o)
	return l, at.pos, err
}

// TestFrameMustFollow: a frame continues the log only if all of it says so.
func TestFrameMustFollow(t *testing.T) {
	for name, alter := range map[string]func(h *store.FrameHeader, salt *uint32, body []byte){
		"another salt":              func(_ *store.FrameHeader, salt *uint32, _ []byte) { *salt++ },
		"another frame before":      func(h *store.FrameHeader, _ *uint32, _ []byte) { h.Prev++ },
		"another before, later on":  func(h *store.FrameHeader, _ *uint32, _ []byte) { h.Prev++; h.Epoch++ },
		"another position":          func(h *store.FrameHeader, _ *uint32, _ []byte) { h.Pos += 8 },
		"a position before":         func(h *store.FrameHeader, _ *uint32, _ []byte) { h.Pos -= 4096 },
		"a lower epoch":             func(h *store.FrameHeader, _ *uint32, _ []byte) { h.Epoch-- },
		"synced before it is there": func(h *store.FrameHeader, _ *uint32, _ []byte) { h.Synced = h.Pos + 8 },
		"another record head":       func(h *store.FrameHeader, _ *uint32, _ []byte) { h.Heads++ },
		"more records":              func(h *store.FrameHeader, _ *uint32, _ []byte) { h.Records++ },
		"another body":              func(_ *store.FrameHeader, _ *uint32, body []byte) { body[len(body)-1]++ },
		"more than the segment":     func(h *store.FrameHeader, _ *uint32, _ []byte) { h.Payload += 4096; h.Size += 4096 },
	} {
		l, end, err := forge(t, alter)
		if err != nil || l.End() != end {
			t.Errorf("%s: Open = %v, want the log to end before that frame", name, err)
		}
		closeDead(l)
	}
	l, end, err := forge(t, func(*store.FrameHeader, *uint32, []byte) {})
	if err != nil || l.End() <= end {
		t.Errorf("Open = %v, want a frame with nothing wrong to be taken", err)
	}
	closeDead(l)
}

// TestReplacedSegment: a frame that the first, still empty segment is too small for gets one with the same base. At no
// operation is the log without a segment to begin at.
func TestReplacedSegment(t *testing.T) {
	seed := seedFor(t)
	for die, alive := 1, false; !alive; die++ {
		for try := range uint64(8) {
			files := newMemFS()
			o := Options{SegmentSize: 4096, files: files}
			h := newHistory()
			l := h.open(t, o)
			files.mu.Lock()
			files.die = files.ops + die
			files.mu.Unlock()
			if h.append(l, 10000) == nil && l.Sync(l.End()) == nil {
				h.synced = l.End()
			}
			closeDead(l)
			alive = !files.dead
			o.files = files.killed().loses(rand.New(rand.NewPCG(seed, try)))
			l, err := Open("/spool", o)
			if err != nil {
				t.Fatalf("operation %d: Open = %v", die, err)
			}
			h.check(t, l, false)
			l.Close()
		}
	}
}

// TestBehindAHole: frames that a power loss left behind a missing one are dropped for good. None of them comes back
// when the log grows over their place.
func TestBehindAHole(t *testing.T) {
	files := newMemFS()
	o := Options{SegmentSize: 64 << 10, files: files}
	h := newHistory()
	l := openTest(t, "/spool", o)
	if err := errors.Join(h.append(l, 100), l.Sync(l.End()), l.Mark(1, false)); err != nil {
		t.Fatal(err)
	}
	hole := l.End()
	for range 20 {
		if err := h.append(l, 100); err != nil {
			t.Fatal(err)
		}
	}
	end := l.End()
	seg := l.segs.last()
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	data := files.entries[seg.path].data
	clear(data[offset(seg.base, hole):][:store.FrameHeaderSize])
	clear(files.entries["/spool/STAGE"].data[hole:][:store.FrameHeaderSize])
	l = openTest(t, "/spool", o)
	if l.End() != hole {
		t.Fatalf("End %d, want %d, where a frame is missing", l.End(), hole)
	}
	if rest := data[offset(seg.base, hole):offset(seg.base, end)]; len(bytes.Trim(rest, "\x00")) > 0 {
		t.Error("what lay behind the hole is still there")
	}
	l.Close()
}

// TestPinned: a file that is being read is neither used again nor removed, however long that takes.
func TestPinned(t *testing.T) {
	files := newMemFS()
	l := openTest(t, "/spool", Options{SegmentSize: 4096, files: files})
	defer l.Close()
	h := newHistory()
	salts := map[uint32]bool{}
	fill := func() {
		for len(l.Boundaries()) < 4 {
			if err := h.append(l, 2000); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range l.segs.list {
			salts[s.salt] = true
		}
	}
	fill()
	seg, _ := l.segs.pin(0)
	if _, err := seg.open(l.files); err != nil {
		t.Fatal(err)
	}
	files.mu.Lock()
	want := bytes.Clone(files.entries[seg.path].data)
	files.mu.Unlock()
	for range 3 {
		at := l.Boundaries()
		if err := l.Drop(at[len(at)-1]); err != nil {
			t.Fatal(err)
		}
		fill()
	}
	files.mu.Lock()
	if n := files.entries[seg.path]; n == nil || !bytes.Equal(n.data, want) {
		t.Error("a file changed while it was read")
	}
	files.mu.Unlock()
	l.unpin(seg)
	for reclaimed := false; !reclaimed; {
		l.segs.mu.Lock()
		reclaimed = len(l.segs.retired) == 0
		l.segs.mu.Unlock()
		runtime.Gosched()
	}
	if len(salts) < 10 {
		t.Errorf("%d salts in four rounds of four segments, want at least 10", len(salts))
	}
}

// TestOpenIsDurable: after a kill the frames may be in the page cache only. What Open answers survives a power loss.
func TestOpenIsDurable(t *testing.T) {
	for seed := range uint64(20) {
		files := newMemFS()
		o := Options{SegmentSize: 4096, files: files}
		h := newHistory()
		l := h.open(t, o)
		for len(l.Boundaries()) < 3 {
			if err := h.append(l, 700); err != nil {
				t.Fatal(err)
			}
		}
		o.files = files.killed()
		closeDead(l)
		l = h.open(t, o)
		if h.synced = l.Synced(); h.synced != h.last()+store.Position(store.FrameSize(len(h.frames[0]))) {
			t.Fatalf("Synced %d after a kill, the last frame is at %d", h.synced, h.last())
		}
		files = o.files.(*memFS).killed().loses(rand.New(rand.NewPCG(seed, 1)))
		closeDead(l)
		o.files = files
		l = openTest(t, "/spool", o)
		h.check(t, l, true)
		l.Close()
	}
}

// TestCleanEndsExactly: after a clean close there is nothing behind the end, be it as valid as can be.
func TestCleanEndsExactly(t *testing.T) {
	for _, size := range []int{100, 4000} { // in the same segment, in the next one
		files := newMemFS()
		o := Options{SegmentSize: 4096, files: files}
		h := newHistory()
		l := openTest(t, "/spool", o)
		if err := errors.Join(h.append(l, 300), h.finish(l), h.append(l, size), l.flush(), l.Close()); err != nil {
			t.Fatal(err)
		}
		if l, err := Open("/spool", o); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("Open with a frame of %d bytes behind a clean end = %v, want %v", size, err, store.ErrCorrupt)
			closeDead(l)
		}
	}
}

// TestEpochOfTheNewest: an epoch is never used again, also when the slot of MARK that tells it is lost: frames and headers of
// segments tell it too.
func TestEpochOfTheNewest(t *testing.T) {
	for name, change := range map[string]func(h *history, l *Log) error{
		"frame": func(h *history, l *Log) error { return errors.Join(h.append(l, 100), l.flush()) },
		"segment": func(h *history, l *Log) error {
			return errors.Join(l.Grow(4096), l.roll(l.segs.tail))
		},
	} {
		files := newMemFS()
		o := Options{SegmentSize: 4096, files: files}
		h := newHistory()
		l := openTest(t, "/spool", o)
		if err := errors.Join(h.append(l, 300), l.Sync(l.End()), l.Mark(1, false)); err != nil {
			t.Fatal(err)
		}
		o.files = files.killed()
		closeDead(l)
		l = openTest(t, "/spool", o)
		was, slot := l.Info().Epoch, l.marking.marker.last.number%2
		if err := change(h, l); err != nil {
			t.Fatal(err)
		}
		files = o.files.(*memFS).killed()
		closeDead(l)
		clear(files.entries["/spool/MARK"].data[slot*pageSize:][:pageSize])
		o.files = files
		l = openTest(t, "/spool", o)
		if got := l.Info().Epoch; got <= was {
			t.Errorf("told by a %s: epoch %d behind one of %d", name, got, was)
		}
		closeDead(l)
	}
}

// TestCleanEndsWithDamage: what is behind a clean end was written by somebody who came later, also when it has rotted or when
// the segment in between is lost.
func TestCleanEndsWithDamage(t *testing.T) {
	for name, damage := range map[string]func(l *Log, files *memFS){
		"a frame that has rotted": func(l *Log, files *memFS) {
			seg, end := l.segs.last(), l.End()
			files.entries[seg.path].data[offset(seg.base, end)-store.FrameAlign-1] ^= 1
		},
		"a segment behind a lost one": func(l *Log, files *memFS) { delete(files.entries, l.segs.list[1].path) },
	} {
		files := newMemFS()
		o := Options{SegmentSize: 4096, files: files}
		h := newHistory()
		l := openTest(t, "/spool", o)
		size, more := 300, 1
		if name != "a frame that has rotted" {
			size, more = 4000, 2
		}
		if err := errors.Join(h.append(l, 300), h.finish(l)); err != nil {
			t.Fatal(err)
		}
		for range more {
			if err := h.append(l, size); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(l.flush(), l.Close()); err != nil {
			t.Fatal(err)
		}
		damage(l, files)
		if l, err := Open("/spool", o); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("Open with %s behind a clean end = %v, want %v", name, err, store.ErrCorrupt)
			closeDead(l)
		}
	}
}

// TestPadding: behind the last frame its page is zero, whatever stood in the ring there.
func TestPadding(t *testing.T) {
	files := newMemFS()
	l := openTest(t, "/spool", Options{SegmentSize: 1 << 20, RingSize: minRing, files: files})
	defer l.Close()
	h := newHistory()
	seg := l.segs.last()
	for i := range 300 {
		if err := h.append(l, i*37%500); err != nil {
			t.Fatal(err)
		}
		rest := files.entries[seg.path].data[offset(seg.base, l.End()):offset(seg.base, pageCeil(l.End()))]
		if len(bytes.Trim(rest, "\x00")) > 0 {
			t.Fatalf("%x behind the end at %d", rest, l.End())
		}
	}
}

// TestSearchFindsAll: a frame is found wherever it stands, also across the edges of what is read at a time.
func TestSearchFindsAll(t *testing.T) {
	files := newMemFS()
	l := openTest(t, "/spool", Options{SegmentSize: 2 << 20, files: files})
	defer l.Close()
	seg := l.segs.last()
	data := files.entries[seg.path].data
	s := scanner{files: files}
	if err := s.enter(seg); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, store.FrameHeaderSize)
	for _, edge := range []store.Position{64, scanSize, 2*scanSize - store.FrameHeaderSize, 2 * scanSize, 2<<20 - 64} {
		for pos := edge - 64; pos <= edge+16 && pos < seg.limit(); pos += store.FrameAlign {
			for _, from := range []store.Position{0, 8, 16, 40} {
				store.PutFrameHeader(frame, store.FrameHeader{Size: 48, Pos: pos, Synced: pos / 2}, seg.salt)
				at := data[offset(seg.base, pos):][:len(frame)]
				copy(at, frame)
				found, err := s.search(from)
				clear(at)
				want := trace{synced: pos / 2, end: pos + 48}
				if pos < from {
					want = trace{end: from}
				}
				if err != nil || found != want {
					t.Fatalf("search(%d) for a frame at %d = %+v, %v, want %+v", from, pos, found, err, want)
				}
			}
		}
	}
}
