package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"runtime"
	"testing"

	"github.com/spoolmq/spool/store"
)

// TestReadAhead: a sequential reader costs few reads of the file, and readers that jump about leave it its window.
func TestReadAhead(t *testing.T) {
	reads := 0
	faulty := &faultFS{vfs: newMemFS(), fault: func(_ int, op string) error {
		if op == "read" {
			reads++
		}
		return nil
	}}
	l := openTest(t, "/spool", Options{RingSize: minRing, files: faulty})
	defer l.Close()
	var at []store.Position
	p := testPayload(200, 1)
	for range 3000 {
		pos, err := l.Append(p)
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, pos+store.FrameHeaderSize)
	}
	want := bytes.Join(p.Parts, nil)
	read := func(pos store.Position) {
		t.Helper()
		if got, err := l.ReadRecord(pos, nil); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("ReadRecord(%d) = %d bytes, %v", pos, len(got), err)
		}
	}
	reads = 0
	for i, pos := range at[:2900] {
		read(pos)
		if i%100 == 50 {
			before := reads
			for k := range 20 {
				read(at[(i*7919+k*1327)%2900])
			}
			reads = before
		}
	}
	if reads > 40 {
		t.Errorf("%d reads of the file for 2900 records in order, want at most 40", reads)
	}
	if n := len(l.Boundaries()); n != 1 {
		t.Fatalf("%d segments, want 1", n)
	}
}

// TestReadAheadDropped: what is dropped is gone even while a window has it.
func TestReadAheadDropped(t *testing.T) {
	l := openTest(t, "/spool", Options{SegmentSize: 64 << 10, RingSize: minRing, files: newMemFS()})
	defer l.Close()
	h := newHistory()
	for len(l.Boundaries()) < 3 {
		if err := h.append(l, 500); err != nil {
			t.Fatal(err)
		}
	}
	first := store.Position(store.FrameHeaderSize)
	size := store.Position(store.FrameSize(len(h.frames[0])))
	for i := range store.Position(5) {
		if _, err := l.ReadRecord(first+i*size, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Drop(l.Boundaries()[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := l.ReadRecord(first+5*size, nil); !errors.Is(err, store.ErrGone) {
		t.Fatalf("ReadRecord of what is dropped = %v, want %v", err, store.ErrGone)
	}
	for i := range l.ahead.all {
		if l.ahead.all[i].buf != nil {
			t.Error("a window below the start keeps its memory")
		}
	}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestHostileLengths: a length is compared with what is there before it is allocated.
func TestHostileLengths(t *testing.T) {
	files := newMemFS()
	o := Options{SegmentSize: 64 << 10, files: files}
	l := openTest(t, "/spool", o)
	envelope := make([]byte, store.RecordOverhead)
	copy(envelope[5:], "\xff\xff\xff")
	binary.LittleEndian.PutUint32(envelope[8:], store.MaxBody)
	body := bytes.Repeat(envelope, 1000)
	head := store.AppendRecordHead(nil, 1, nil, len(body), store.BodySum(body))
	end, err := l.Append(store.Payload{
		Parts: [][]byte{head, body}, Len: len(head) + len(body), Heads: crc32.Checksum(head, store.Castagnoli), Records: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, inRing := range []bool{true, false} {
		n := allocated(func() {
			_, err := l.ReadRecord(end+store.FrameHeaderSize+store.RecordOverhead, nil)
			if !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("ReadRecord of a hostile length = %v, want %v", err, store.ErrCorrupt)
			}
		})
		if n > 64<<10 {
			t.Errorf("ReadRecord of a hostile length allocated %d bytes (in ring: %t)", n, inRing)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = openTest(t, "/spool", o)
	}
	// A frame whose header is right and says that it is as large as frames may be.
	frame := make([]byte, store.FrameHeaderSize)
	store.PutFrameHeader(frame, store.FrameHeader{
		Size: store.MaxFrameSize, Payload: store.MaxFrameSize - store.FrameHeaderSize, Pos: l.End(),
		Prev: l.segs.tail.crc, Epoch: l.info.Epoch + 1,
	}, l.segs.last().salt)
	at := offset(l.segs.last().base, l.End())
	l.Close()
	copy(files.entries["/spool/log/0000000000000001.seg"].data[at:], frame)
	n := allocated(func() {
		l = openTest(t, "/spool", o)
	})
	if n > 4<<20 {
		t.Errorf("Open with a hostile frame allocated %d bytes", n)
	}
	l.Close()
}
