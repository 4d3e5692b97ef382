package seglog

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/spoolmq/spool/store"
)

// stageShape is a log whose small frames stay in the stage.
func stageShape(files vfs) Options { return Options{SegmentSize: 256 << 10, files: files} }

// stageFill appends n frames of 100 bytes and fails the test unless all of them are staged.
func stageFill(t testing.TB, h *history, l *Log, n int) {
	t.Helper()
	was := l.written.Load()
	for range n {
		if err := h.append(l, 100); err != nil {
			t.Fatal(err)
		}
	}
	if l.written.Load() != was {
		t.Fatalf("%d bytes were written for %d frames that fit the stage", l.written.Load()-was, n)
	}
}

// stageKill kills the process that has a log open, and returns what the next one finds.
func stageKill(l *Log, files *memFS) *memFS {
	files = files.killed()
	closeDead(l)
	return files
}

// stageHas opens a log that has all that was appended.
func stageHas(t testing.TB, h *history, o Options) *Log {
	t.Helper()
	l := h.open(t, o)
	h.epoch-- // as it was before
	h.check(t, l, true)
	return l
}

// stageEnds opens a log that ends at a position, and closes it.
func stageEnds(t testing.TB, how string, o Options, end store.Position) {
	t.Helper()
	l := openTest(t, "/spool", o)
	if l.End() != end {
		t.Fatalf("%s: End %d, want %d", how, l.End(), end)
	}
	l.Close()
}

// stageFaults has each operation of an Open fail: it answers the fault or nothing, and the next one finds the end where it
// is. It returns how many of them failed.
func stageFaults(t testing.TB, files *memFS, o Options, end store.Position) (failed int) {
	t.Helper()
	for n := 1; ; n++ {
		how := fmt.Sprintf("operation %d failed", n)
		hit := false
		tried := files.copy()
		o.files = &faultFS{vfs: tried, fault: func(i int, _ string) error {
			if i != n {
				return nil
			}
			hit = true
			return syscall.EIO
		}}
		l, err := Open("/spool", o)
		closeDead(l)
		if errors.Is(err, syscall.EIO) {
			failed++
		} else if err != nil {
			t.Fatalf("%s: Open = %v, want %v", how, err, syscall.EIO)
		}
		o.files = tried.killed()
		stageEnds(t, how, o, end)
		if !hit {
			return failed
		}
	}
}

// TestStageKilled: frames that are nowhere but in the stage are there after a kill, and again after another one before
// anything was appended, and are in their segment by then.
func TestStageKilled(t *testing.T) {
	files := newMemFS()
	h := newHistory()
	l := h.open(t, stageShape(files))
	stageFill(t, h, l, 50)
	end := l.End()
	for range 2 {
		files = stageKill(l, files)
		l = stageHas(t, h, stageShape(files))
		if l.End() != end || l.Synced() != end {
			t.Fatalf("End %d, Synced %d after a kill, want %d", l.End(), l.Synced(), end)
		}
	}
	files = stageKill(l, files)
	delete(files.entries, "/spool/"+stageName)
	stageHas(t, h, stageShape(files)).Close()
}

// TestStageWraps: more than the stage holds goes through it, and is written before it is overwritten.
func TestStageWraps(t *testing.T) {
	files := newMemFS()
	h := newHistory()
	l := h.open(t, stageShape(files))
	for l.End() < 3*stageSize {
		if err := h.append(l, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if n := int64(l.End()) - l.written.Load(); n <= 0 || n > stageSize {
		t.Fatalf("%d bytes are staged, want at most %d", n, stageSize)
	}
	files = stageKill(l, files)
	stageHas(t, h, stageShape(files)).Close()
}

// TestStageRead: what is staged is read like anything else, also by one who asks for more than the ring holds.
func TestStageRead(t *testing.T) {
	h := newHistory()
	l := h.open(t, Options{SegmentSize: 256 << 10, RingSize: 16 << 10, files: newMemFS()})
	defer l.Close()
	for len(h.frames) < 100 {
		if err := h.append(l, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if store.Position(l.stage.written.Load()) == l.End() {
		t.Fatal("nothing is staged")
	}
	b, err := l.ReadSpan(0, l.End(), nil)
	if err != nil || store.Position(len(b)) > l.End() {
		t.Fatalf("ReadSpan: %d bytes, %v", len(b), err)
	}
	for pos, i := range h.at {
		at := int(pos) + store.FrameHeaderSize
		if at+len(h.frames[i]) <= len(b) && string(b[at:at+len(h.frames[i])]) != h.frames[i] {
			t.Fatalf("frame %d is not what was appended", i)
		}
	}
	// A position within a record: the ring has no record there, so its bytes are looked for in the file.
	if _, err := l.ReadRecord(l.End()-40, nil); !errors.Is(err, store.ErrCorrupt) {
		t.Fatalf("ReadRecord within a record = %v, want %v", err, store.ErrCorrupt)
	}
	if b, err := l.ReadSpan(0, l.End(), nil); err != nil || store.Position(len(b)) != l.End() {
		t.Fatalf("ReadSpan of what is written: %d bytes, %v, want %d", len(b), err, l.End())
	}
	h.epoch--
	h.check(t, l, true)
}

// TestStageHole: of staged frames of which one is lost, those behind it are dropped.
func TestStageHole(t *testing.T) {
	files := newMemFS()
	h := newHistory()
	l := h.open(t, stageShape(files))
	stageFill(t, h, l, 10)
	hole := l.End()
	stageFill(t, h, l, 10)
	files = stageKill(l, files)
	files.entries["/spool/"+stageName].data[hole+store.FrameHeaderSize+90] ^= 1
	stageEnds(t, "a frame has rotted", stageShape(files), hole)
}

// TestStageFault: a stage that takes nothing more fails the log, and what it took before is there.
func TestStageFault(t *testing.T) {
	files := newMemFS()
	faulty := &faultFS{vfs: files}
	h := newHistory()
	h.fault = syscall.EIO
	l := h.open(t, stageShape(faulty))
	stageFill(t, h, l, 10)
	end := l.End()
	puts := 0
	faulty.fault = func(_ int, op string) error {
		if op == "put" {
			if puts++; puts == 2 {
				return syscall.EIO
			}
		}
		return nil
	}
	for range 2 {
		if err := h.append(l, 100); !errors.Is(err, syscall.EIO) {
			t.Fatalf("Append = %v, want %v", err, syscall.EIO)
		}
	}
	if err := l.flush(); !errors.Is(err, syscall.EIO) || puts != 2 {
		t.Fatalf("flush = %v, %d puts, want %v, 2", err, puts, syscall.EIO)
	}
	files = stageKill(l, files)
	stageEnds(t, "the stage has failed", stageShape(files), end)
}

// TestStageTells: that a position was durable may be told by a frame in the stage alone. Damage below it is not taken for
// the end of the log.
func TestStageTells(t *testing.T) {
	files := newMemFS()
	h := newHistory()
	l := h.open(t, stageShape(files))
	stageFill(t, h, l, 1)
	if err := errors.Join(h.append(l, 10000), l.Sync(l.End())); err != nil {
		t.Fatal(err)
	}
	stageFill(t, h, l, 1)
	seg := l.segs.last()
	files = stageKill(l, files)
	files.entries[seg.path].data[5000] ^= 1
	if l, err := Open("/spool", stageShape(files)); !errors.Is(err, store.ErrCorrupt) {
		closeDead(l)
		t.Fatalf("Open of a log that is damaged where it was durable = %v, want %v", err, store.ErrCorrupt)
	}
}

// TestStageOfCleanLog: a log that was closed cleanly does not look at its stage, whatever is there.
func TestStageOfCleanLog(t *testing.T) {
	files := newMemFS()
	h := newHistory()
	l := h.open(t, stageShape(files))
	stageFill(t, h, l, 10)
	if err := errors.Join(h.finish(l), l.Close()); err != nil {
		t.Fatal(err)
	}
	for i := range files.entries["/spool/"+stageName].data {
		files.entries["/spool/"+stageName].data[i] ^= 0x55
	}
	stageHas(t, h, stageShape(files)).Close()
}

// TestStageCleared: a clean close leaves nothing in the stage.
func TestStageCleared(t *testing.T) {
	files := newMemFS()
	h := newHistory()
	l := h.open(t, stageShape(files))
	stageFill(t, h, l, 10)
	if err := errors.Join(h.finish(l), l.Close()); err != nil {
		t.Fatal(err)
	}
	if b := files.entries["/spool/"+stageName].data; len(b) != stageSize || len(bytes.Trim(b, "\x00")) > 0 {
		t.Fatal("the stage of a log that was closed cleanly is not empty")
	}
}

// TestStageOrder: a frame stays in the stage that a power loss has cut off, and another log goes on in its place, with a
// frame of the same length before it. The old one does not follow the new one.
func TestStageOrder(t *testing.T) {
	files := newMemFS()
	h := newHistory()
	l := h.open(t, stageShape(files))
	stageFill(t, h, l, 2)
	files = stageKill(l, files)
	old := slices.Clone(files.entries["/spool/"+stageName].data)
	clear(files.entries["/spool/"+stageName].data)
	l = h.open(t, stageShape(files))
	if l.End() != 0 {
		t.Fatalf("End %d of a log of which everything is lost, want 0", l.End())
	}
	stageFill(t, h, l, 1)
	end := l.End()
	files = stageKill(l, files)
	copy(files.entries["/spool/"+stageName].data[end:], old[end:])
	stageEnds(t, "an old frame behind the end", stageShape(files), end)
}

// TestStageAcrossSegments: after a power loss the stage may have the frames at the end of a segment behind which another one
// was begun. They are written where they belong, and read there before.
func TestStageAcrossSegments(t *testing.T) {
	files := newMemFS()
	h := newHistory()
	o := stageShape(files)
	o.SegmentSize = 8192
	l := h.open(t, o)
	for len(l.Boundaries()) < 2 {
		if err := h.append(l, 500); err != nil {
			t.Fatal(err)
		}
	}
	stageFill(t, h, l, 3)
	first := l.segs.list[0]
	at := first.end.pos - 2000
	if l.segs.older == nil {
		t.Fatal("the first segment is durable")
	}
	files = stageKill(l, files)
	clear(files.entries[first.path].data[offset(0, at):])
	o.files = files
	found := 0
	o.Found = func(l *Log) error {
		for range 3 { // no other open file takes the place of those that have what was staged
			found = 0
			if err := l.Replay(0, func(store.Position, []byte) error { found++; return nil }); err != nil {
				return err
			}
		}
		return nil
	}
	l = stageHas(t, h, o)
	if found != len(h.frames) {
		t.Fatalf("%d frames, want %d", found, len(h.frames))
	}
	delete(files.entries, "/spool/"+stageName)
	closeDead(l)
	o.files = files.killed()
	stageHas(t, h, o).Close()
}

// stageOnDisk opens a log on disk, and skips the test where there is no stage.
func stageOnDisk(t *testing.T, dir string) *Log {
	t.Helper()
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if l.stage.to == nil {
		l.Close()
		t.Skip("frames are not staged on this system")
	}
	return l
}

// stageTorn makes a log on disk that nobody has closed, whose last frames are staged, and returns its bodies.
func stageTorn(t *testing.T, dir string) (bodies []string) {
	bodies = salvageMake(t, dir, 200, Options{})
	more := salvageMake(t, dir+"-more", 5, Options{})
	l := stageOnDisk(t, dir)
	for i := range more {
		head := store.AppendRecordHead(nil, 1, []byte("head"), len(more[i]), store.BodySum([]byte(more[i])))
		p := store.Payload{Parts: [][]byte{head, []byte(more[i])}, Len: len(head) + len(more[i]), Heads: crc32.Checksum(head, store.Castagnoli), Records: 1}
		if _, err := l.Append(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return append(bodies, more...)
}

// TestStageSalvaged: a survey finds what is staged, also behind damage.
func TestStageSalvaged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	want := stageTorn(t, dir)
	got, faults := salvageRead(t, dir)
	if len(faults) > 0 || !slices.Equal(got, want) {
		t.Fatalf("%d bodies, want %d; faults %v", len(got), len(want), faults)
	}
	path := filepath.Join(dir, logName, "0000000000000001.seg")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := bytes.LastIndex(b, []byte("<frame 199 record 2"))
	clear(b[end-500 : end+60]) // the last frames in the segment
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	got, faults = salvageRead(t, dir)
	if len(faults) == 0 || len(got) < len(want)-30 || !slices.Equal(got[len(got)-15:], want[len(want)-15:]) {
		t.Fatalf("%d bodies of %d, faults %v", len(got), len(want), faults)
	}
}

// TestStageBehindRot: a survey finds all that is staged behind a last frame of the segment in which one bit has rotted.
func TestStageBehindRot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	want := stageTorn(t, dir)
	path := filepath.Join(dir, logName, "0000000000000001.seg")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(b, []byte("<frame 199 record 0"))
	last := bytes.LastIndex(b, []byte("<frame 199 record 2"))
	for _, c := range []struct {
		what string
		bit  int // the byte that it is in
		lost int
	}{
		{"the body of the first record", at, 1},
		{"the body of the last record", last, 1},
		{"the head of the first record", at - 1, 1},
		{"the head of the last record", last - 1, 1},
		{"the header", at - len("head") - store.RecordOverhead - store.FrameHeaderSize, 0},
	} {
		b[c.bit] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		b[c.bit] ^= 1
		got, faults := salvageRead(t, dir)
		if len(faults) != 1 || len(got) != len(want)-c.lost || !slices.Equal(got[len(got)-15:], want[len(want)-15:]) {
			t.Errorf("%s: %d bodies, faults %v, want %d bodies and one fault", c.what, len(got), faults, len(want)-c.lost)
		}
	}
}

// TestStageHidesNothing: damage where the log was durable is told by a survey, though the stage still has what stood there.
func TestStageHidesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	l := stageOnDisk(t, dir)
	for i := range uint64(10) {
		if _, err := l.Append(testPayload(100, i)); err != nil {
			t.Fatal(err)
		}
	}
	path := l.segs.last().path
	if err := errors.Join(l.Sync(l.End()), l.Mark(1, false), l.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[pageSize+500] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, faults := salvageRead(t, dir); len(faults) == 0 {
		t.Error("no fault")
	}
}

// TestStageBehindDamage: behind damage where the log was durable a survey goes on with the frames of the segment, and then with
// those that were staged, though the stage has others too of what is damaged.
func TestStageBehindDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	l := stageOnDisk(t, dir)
	var at []store.Position
	for i := range uint64(15) {
		if i == 10 {
			if err := errors.Join(l.Sync(l.End()), l.Mark(1, false)); err != nil {
				t.Fatal(err)
			}
		}
		pos, err := l.Append(testPayload(100, i))
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, pos)
	}
	path := l.segs.last().path
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []int{6, 10} { // to where frames follow in the segment, and to where none does
		clear(b[offset(0, at[3]):offset(0, at[to])])
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, faults := salvageRead(t, dir); len(got) != 15-to+3 || len(faults) != 1 {
			t.Errorf("%d records, faults %v, want %d records and one fault", len(got), faults, 15-to+3)
		}
	}
	// Behind the end of a file that has been cut.
	if err := os.Truncate(path, offset(0, at[3])); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, faults := salvageRead(t, dir); len(got) != 3+5 || len(faults) != 2 {
			t.Errorf("%d records, faults %v, want 8 records and two faults", len(got), faults)
		}
		f, err := os.OpenFile(filepath.Join(dir, stageName), os.O_APPEND|os.O_WRONLY, 0) // what is too much of a stage does no harm
		if err == nil {
			_, err = f.WriteString("x")
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSurveyEnds: who gives up a reading is not kept by a file that is far too long.
func TestSurveyEnds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	l := stageOnDisk(t, dir)
	if _, err := l.Append(testPayload(100, 0)); err != nil {
		t.Fatal(err)
	}
	path := l.segs.last().path
	if err := errors.Join(l.Sync(l.End()), l.Mark(1, true), l.Close(), os.Truncate(path, 1<<40)); err != nil {
		t.Fatal(err)
	}
	s, err := TakeSurvey(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	gone, looks := errors.New("somebody has gone"), 0
	err = s.Read(math.MaxUint64, Reader{
		Record:    func(Find) error { return nil },
		Frame:     func() {},
		Fault:     func(Fault) {},
		Plausible: func(byte, []byte) bool { return false },
		Message:   func(byte) bool { return false },
		Progress: func(int64) error {
			if looks++; looks == 8 {
				return gone
			}
			return nil
		},
	})
	if err != gone {
		t.Errorf("Read = %v, want that of Progress", err)
	}
}

// TestStageCutOff: somebody cuts the file off while it is mapped. That is an error, not the end of the process.
func TestStageCutOff(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	l := stageOnDisk(t, dir)
	defer l.Close()
	if err := os.Truncate(filepath.Join(dir, stageName), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(testPayload(10, 0)); err == nil {
		t.Fatal("Append into a stage that is not there = nil, want an error")
	}
}

// TestStageRefused: without a stage each frame is written at once.
func TestStageRefused(t *testing.T) {
	faulty := &faultFS{vfs: newMemFS()}
	faulty.fault = func(_ int, op string) error {
		if op == "map" {
			return syscall.ENODEV
		}
		return nil
	}
	h := newHistory()
	l := h.open(t, stageShape(faulty))
	defer l.Close()
	if err := h.append(l, 10); err != nil || l.stage.written.Load() != uint64(l.End()) {
		t.Fatalf("written to %d, want %d, %v", l.stage.written.Load(), l.End(), err)
	}
}

// TestStageFaultOpen lets each operation of an Open fail that moves what was staged to its segment. The next Open finds all of it.
func TestStageFaultOpen(t *testing.T) {
	files := newMemFS()
	h := newHistory()
	l := h.open(t, stageShape(files))
	stageFill(t, h, l, 5)
	end := l.End()
	if failed := stageFaults(t, stageKill(l, files), stageShape(nil), end); failed < 20 {
		t.Errorf("%d operations failed, want at least 20", failed)
	}
}

// TestStageFaultRead: what is staged cannot be written when somebody reads it. That is an error, and the log has failed.
func TestStageFaultRead(t *testing.T) {
	for what, read := range map[string]func(l *Log) error{
		"ReadRecord": func(l *Log) error { _, err := l.ReadRecord(l.End()-40, nil); return err },
		"Replay": func(l *Log) error {
			return l.Replay(0, func(store.Position, []byte) error { return nil })
		},
	} {
		faulty := &faultFS{vfs: newMemFS()}
		h := newHistory()
		h.fault = syscall.EIO
		l := h.open(t, stageShape(faulty))
		stageFill(t, h, l, 5)
		faulty.fault = func(_ int, op string) error {
			if op == "write" {
				return syscall.EIO
			}
			return nil
		}
		for range 2 {
			if err := read(l); !errors.Is(err, syscall.EIO) {
				t.Errorf("%s = %v, want %v", what, err, syscall.EIO)
			}
		}
		closeDead(l)
	}
}

// TestFaultBehindTheEnd lets each operation of an Open fail that looks for what later segments tell of the durable position.
func TestFaultBehindTheEnd(t *testing.T) {
	files := newMemFS()
	o := Options{SegmentSize: 4096, RingSize: 8192, files: files}
	h := newHistory()
	l := h.open(t, o)
	for len(l.Boundaries()) < 3 {
		if err := h.append(l, 700); err != nil {
			t.Fatal(err)
		}
	}
	torn := l.segs.list[1]
	files = stageKill(l, files)
	clear(files.entries[torn.path].data[offset(torn.base, torn.base):])
	if failed := stageFaults(t, files, o, torn.base); failed < 20 {
		t.Errorf("%d operations failed, want at least 20", failed)
	}
}
