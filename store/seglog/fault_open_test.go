package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/spoolmq/spool/store"
)

// faultImages are file systems that a crash has left, and what had been acknowledged then.
func faultImages(t *testing.T) map[string]struct {
	files *memFS
	h     *history
} {
	images := map[string]struct {
		files *memFS
		h     *history
	}{}
	for _, power := range []bool{false, true} {
		for seed := range uint64(8) {
			files, h := newMemFS(), newHistory()
			l := h.open(t, Options{SegmentSize: 4096, RingSize: 8192, files: files})
			if err := h.run(t, l, rand.New(rand.NewPCG(seed, 5)), 120); err != nil {
				t.Fatal(err)
			}
			if seed == 0 {
				if err := h.append(l, 600_000); err != nil { // larger than what a scan reads at a time
					t.Fatal(err)
				}
			}
			after := files.killed()
			closeDead(l)
			if power {
				after.loses(rand.New(rand.NewPCG(seed, 6)))
			}
			images[fmt.Sprintf("crash %d, power %t", seed, power)] = struct {
				files *memFS
				h     *history
			}{after, h}
		}
	}
	for _, name := range []string{stepCreateFormat, stepCreateRename} { // a creation that was cut short
		files := newMemFS()
		o := Options{SegmentSize: 4096, files: files}
		o.Step = func(at string) {
			if at == name {
				files.killed()
			}
		}
		if _, err := Open("/spool", o); !errors.Is(err, errDead) {
			t.Fatalf("Open that dies at %s = %v", name, err)
		}
		images[name] = struct {
			files *memFS
			h     *history
		}{files.killed(), newHistory()}
	}
	return images
}

// TestFaultOpen has each operation fail that an Open makes: it answers the fault, and not that something is corrupt, and
// the next Open finds what was acknowledged. Then each one of a replay and of reading every record.
func TestFaultOpen(t *testing.T) {
	points := 0
	for what, image := range faultImages(t) {
		for n := 1; ; n++ {
			how := fmt.Sprintf("%s, operation %d", what, n)
			files := image.files.unlocked()
			hit := false
			faulty := &faultFS{vfs: files, fault: func(i int, _ string) error {
				if i == n {
					hit = true
					return syscall.EIO
				}
				return nil
			}}
			l, err := Open("/spool", Options{SegmentSize: 4096, RingSize: 8192, files: faulty})
			if err != nil && (!errors.Is(err, syscall.EIO) || errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNotStore)) {
				t.Errorf("%s: Open = %v, want the fault", how, err)
			}
			faulty.mu.Lock()
			done := !hit
			faulty.mu.Unlock()
			closeDead(l)
			l, err = Open("/spool", Options{SegmentSize: 4096, RingSize: 8192, files: files.unlocked()})
			if err != nil {
				t.Fatalf("%s: the next Open = %v", how, err)
			}
			image.h.check(t, l, !strings.Contains(what, "power true"))
			faultReads(t, how, l, n)
			closeDead(l)
			if done || t.Failed() {
				break
			}
			points++
		}
	}
	t.Logf("%d operations failed", points)
	if points < 100 {
		t.Errorf("%d operations failed, want at least 100", points)
	}
}

// unlocked is copy for tests: a file system of its own with the same contents.
func (m *memFS) unlocked() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.copy()
}

// faultReads has the n-th operation of a replay and of reading all records fail.
func faultReads(t *testing.T, how string, l *Log, n int) {
	t.Helper()
	var at []store.Position
	if err := l.Replay(l.Start(), func(pos store.Position, _ []byte) error { at = append(at, pos); return nil }); err != nil {
		t.Fatalf("%s: %v", how, err)
	}
	ops := 0
	l.files = &faultFS{vfs: l.files, fault: func(_ int, op string) error {
		if ops++; ops == n {
			return syscall.EIO
		}
		return nil
	}}
	l.segs.mu.Lock()
	for _, s := range l.segs.list { // files are opened again, so that their reads are seen
		if f := s.detach(); f != nil {
			f.Close()
		}
	}
	l.segs.mu.Unlock()
	fine := func(err error) bool {
		return err == nil || errors.Is(err, syscall.EIO) && !errors.Is(err, store.ErrCorrupt)
	}
	for _, pos := range slices.Backward(at) { // nothing is read ahead
		if _, err := l.ReadRecord(pos+store.FrameHeaderSize, nil); !fine(err) {
			t.Errorf("%s: ReadRecord(%d) = %v, want the fault", how, pos, err)
		}
	}
	if err := l.Replay(l.Start(), func(store.Position, []byte) error { return nil }); !fine(err) {
		t.Errorf("%s: Replay = %v, want the fault", how, err)
	}
	for _, pos := range at {
		if _, err := l.ReadRecord(pos+store.FrameHeaderSize, nil); !fine(err) {
			t.Errorf("%s: ReadRecord(%d) = %v, want the fault", how, pos, err)
		}
	}
}

// TestFaultLargeFrames has each operation fail of appending frames larger than the ring, of segments made larger for
// them, and of what has been prepared ahead.
func TestFaultLargeFrames(t *testing.T) {
	for _, segment := range []int64{4096, 64 << 10} {
		faultLargeFrames(t, segment)
	}
}

func faultLargeFrames(t *testing.T, segment int64) {
	for n := 1; ; n++ {
		files := newMemFS()
		faulty := &faultFS{vfs: files}
		l := openTest(t, "/spool", Options{SegmentSize: segment, RingSize: 8192, files: faulty})
		hit, from := false, 0
		faulty.mu.Lock()
		from = faulty.ops
		faulty.fault = func(i int, _ string) error {
			if i-from == n {
				hit = true
				return syscall.EIO
			}
			return nil
		}
		faulty.mu.Unlock()
		h := newHistory()
		h.fault = syscall.EIO
		var err error
		for _, size := range []int{10, 30_000, 20, 7_900, 8_000, 7_950, 60_000, 3_000, 9_000} {
			if err = h.append(l, size); err != nil {
				break
			}
		}
		if err == nil {
			err = l.Sync(l.End())
		}
		if err == nil {
			h.synced = l.End()
			err = l.Drop(l.Boundaries()[1])
		}
		if err != nil && !errors.Is(err, syscall.EIO) {
			t.Errorf("operation %d: %v, want the fault", n, err)
		}
		l.space.mu.Lock() // the goroutine has finished the file that it was making
		faulty.mu.Lock()
		done := !hit
		faulty.mu.Unlock()
		l.space.mu.Unlock()
		after := files.killed()
		closeDead(l)
		l, err = Open("/spool", Options{SegmentSize: segment, RingSize: 8192, files: after})
		if err != nil {
			t.Fatalf("operation %d: Open = %v", n, err)
		}
		if l.End() < h.synced {
			t.Errorf("operation %d: the log ends at %d, and %d was synced", n, l.End(), h.synced)
		}
		closeDead(l)
		if done || t.Failed() {
			break
		}
	}
}

// resealedAt returns b with some bytes replaced and its checksum right.
func resealedAt(b []byte, at int, with ...byte) []byte {
	b = append([]byte(nil), b...)
	copy(b[at:], with)
	seal(b, binary.LittleEndian.Uint32(b))
	return b
}

// TestDecodersRefuse: what is whole by its checksum, and means nothing, is refused with a reason.
func TestDecodersRefuse(t *testing.T) {
	good := encodeHeader(header{size: 4096 + overhead, kind: kindUsed, base: 64, prev: 0, salt: 1, use: 1})[:headerSize]
	slot := encodeMark(mark{epoch: 1, durable: tail{pos: 64, base: 64}})[:markSize]
	key := encodeKey(identity{})
	text := func(version, id string) []byte {
		b := []byte("spool " + version + "\n" + id + "\n")
		return fmt.Appendf(b, "%08x\n", crc32.Checksum(b, store.Castagnoli))
	}
	zeros := strings.Repeat("0", 32)
	decode := map[string]func() error{
		"header's size": func() error { _, err := decodeHeader(resealedAt(good, 32, 1)); return err },
		"header's kind": func() error { _, err := decodeHeader(resealedAt(good, 60, 9)); return err },
		"header's base": func() error { _, err := decodeHeader(resealedAt(good, 40, 1)); return err },
		"mark's flags":  func() error { _, err := decodeMark(resealedAt(slot, 60, 9)); return err },
		"mark's order":  func() error { _, err := decodeMark(resealedAt(slot, 40, 255)); return err },
		"key's zero":    func() error { _, err := decodeKey(resealedAt(key, 12, 1)); return err },
		"version line":  func() error { _, err := decodeFormat(text("one", zeros)); return err },
		"id line":       func() error { _, err := decodeFormat(text("1", "xyz")); return err },
		"other spelling": func() error {
			_, err := decodeFormat(text("01", zeros))
			return err
		},
	}
	for what, f := range decode {
		if err := f(); err == nil || err.Error() == "" || errors.Is(err, store.ErrFormatVersion) {
			t.Errorf("%s: %v, want a reason", what, err)
		}
	}
}

// TestIdentityMismatch: a KEY or FORMAT of another spool is damage, and a file of a newer version is that.
func TestIdentityMismatch(t *testing.T) {
	for _, newer := range []bool{false, true} {
		files := newMemFS()
		o := Options{SegmentSize: 4096, files: files}
		if err := openTest(t, "/spool", o).Close(); err != nil {
			t.Fatal(err)
		}
		key := encodeKey(identity{id: [16]byte{1}})
		want := store.ErrCorrupt
		if newer {
			key, want = resealed(key, formatVersion+1), store.ErrFormatVersion
		}
		files.entries["/spool/"+keyName].data = key
		if _, err := Open("/spool", o); !errors.Is(err, want) {
			t.Errorf("Open = %v, want %v", err, want)
		}
	}
	files := newMemFS()
	o := Options{SegmentSize: 4096, files: files}
	if err := openTest(t, "/spool", o).Close(); err != nil {
		t.Fatal(err)
	}
	files.entries["/spool/"+formatName].data = encodeFormat([16]byte{1}) // all other files agree
	if l, err := Open("/spool", o); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Open with another FORMAT = %v, want %v", err, store.ErrCorrupt)
		closeDead(l)
	}
}

// TestMarkLost: without a valid slot, and without the log's directory, there is damage.
func TestMarkLost(t *testing.T) {
	for what, spoil := range map[string]func(files *memFS){
		"mark": func(files *memFS) { clear(files.entries["/spool/"+markName].data) },
		"log":  func(files *memFS) { delete(files.entries, "/spool/log") },
		"segment of a newer version": func(files *memFS) {
			for _, name := range files.files() {
				if n := files.entries[name]; strings.HasSuffix(name, segmentSuffix) {
					copy(n.data, resealed(n.data[:headerSize], formatVersion+1))
				}
			}
		},
	} {
		files := newMemFS()
		o := Options{SegmentSize: 4096, files: files}
		if err := openTest(t, "/spool", o).Close(); err != nil {
			t.Fatal(err)
		}
		spoil(files)
		if _, err := Open("/spool", o); !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrFormatVersion) {
			t.Errorf("%s: Open = %v", what, err)
		}
	}
}

// TestLastEpoch: epochs do not begin again.
func TestLastEpoch(t *testing.T) {
	dir := t.TempDir()
	if err := Plant(filepath.Join(dir, "spool"), Seed{Epoch: math.MaxUint32}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(dir, "spool"), Options{}); err == nil || !strings.Contains(err.Error(), "epoch 4294967295 was the last one") {
		t.Errorf("Open = %v", err)
	}
}

// TestTooLarge: no file is made that a header could not tell of, and a log that has failed draws on nothing.
func TestTooLarge(t *testing.T) {
	l := openTest(t, "/spool", Options{SegmentSize: 4096, files: newMemFS()})
	if err := l.Grow(maxSegmentSize); err == nil || errors.Is(err, store.ErrNoSpace) {
		t.Errorf("Grow = %v, want a refusal", err)
	}
	fault := errors.New("for the test")
	l.fail(fault)
	if err := l.Draw(1, true); !errors.Is(err, fault) {
		t.Errorf("Draw of a failed log = %v, want %v", err, fault)
	}
	closeDead(l)
}

// TestOSErrors: what the operating system refuses is an error that says so.
func TestOSErrors(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	closed, err := os.Create(filepath.Join(t.TempDir(), "closed"))
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	v := osFS{}
	_, free := v.Free(missing)
	_, locked := v.Lock(filepath.Join(missing, lockName))
	_, size := osFile{closed}.Size()
	for what, err := range map[string]error{
		"SyncDir":    v.SyncDir(missing),
		"Free":       free,
		"Lock":       locked,
		"Size":       size,
		"writePid":   writePid(closed),
		"refused":    lockRefused(closed, missing, syscall.EIO),
		"writeZeros": writeZeros(closed, 0, 1),
	} {
		if err == nil || errors.Is(err, store.ErrLocked) {
			t.Errorf("%s = %v, want an error", what, err)
		}
	}
	if err := lockRefused(closed, missing, syscall.EIO); !errors.Is(err, syscall.EIO) {
		t.Errorf("lockRefused = %v", err)
	}
}

// TestLostFoundUnreadable: a directory of the system that others cannot read is in nobody's way.
func TestLostFoundUnreadable(t *testing.T) {
	files := newMemFS()
	if err := errors.Join(files.Mkdir("/spool"), files.Mkdir("/spool/"+lostName)); err != nil {
		t.Fatal(err)
	}
	l, err := Open("/spool", Options{SegmentSize: 4096, files: &lostPrivate{files}})
	if err != nil {
		t.Fatalf("Open beside an unreadable %s = %v", lostName, err)
	}
	closeDead(l)
}

// lostPrivate has a lost+found that belongs to somebody else.
type lostPrivate struct{ vfs }

func (v *lostPrivate) List(dir string) ([]fs.DirEntry, error) {
	if filepath.Base(dir) == lostName {
		return nil, fs.ErrPermission
	}
	return v.vfs.List(dir)
}

// TestFormatLostAndHeader: without FORMAT a first segment that cannot be read is damage, and is not made anew.
func TestFormatLostAndHeader(t *testing.T) {
	files := newMemFS()
	o := Options{SegmentSize: 4096, files: files}
	if err := errors.Join(openTest(t, "/spool", o).Close(), files.Remove("/spool/"+formatName)); err != nil {
		t.Fatal(err)
	}
	for _, name := range files.files() {
		if strings.HasSuffix(name, segmentSuffix) {
			files.entries[name].data[20]++
		}
	}
	if _, err := Open("/spool", o); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Open = %v, want ErrCorrupt", err)
	}
}

// faultOf is a log of some segments on a file system of which the operations that are named fail from now on.
func faultOf(t *testing.T, fault error, ops ...string) (l *Log, arm func(bool)) {
	t.Helper()
	var armed atomic.Bool
	files := &faultFS{vfs: newMemFS(), fault: func(_ int, op string) error {
		if armed.Load() && slices.Contains(ops, op) {
			return fault
		}
		return nil
	}}
	l = openTest(t, "/spool", Options{SegmentSize: 4096, RingSize: 8192, files: files})
	h := newHistory()
	for range 60 {
		if err := h.append(l, 3000); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Sync(l.End()); err != nil {
		t.Fatal(err)
	}
	return l, armed.Store
}

// keptBack returns how many files wait to be given up. It fails the test unless the log knows of all that there are.
func keptBack(t *testing.T, l *Log, files *memFS) int {
	t.Helper()
	l.space.mu.Lock()
	defer l.space.mu.Unlock()
	l.segs.mu.Lock()
	defer l.segs.mu.Unlock()
	if n := len(l.segs.files()); n != files.count(segmentSuffix) {
		t.Errorf("the log knows of %d files, there are %d", n, files.count(segmentSuffix))
	}
	return len(l.segs.retired)
}

// TestReclaimShort: a want of descriptors while segments are given up is no fault of the disk: the next Drop does it, and no
// file is forgotten.
func TestReclaimShort(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE} {
		l, arm := faultOf(t, errno, "open")
		files := l.o.files.(*faultFS).vfs.(*memFS)
		drop := func(before store.Position) (waiting int) {
			t.Helper()
			if err := l.Drop(before); err != nil {
				t.Errorf("%v: Drop = %v", errno, err)
			}
			return keptBack(t, l, files)
		}
		at := l.Boundaries()
		arm(true)
		if n := drop(at[3]); n == 0 {
			t.Errorf("%v: no segment waits", errno)
		}
		arm(false)
		if n := drop(at[4]); n > 0 {
			t.Errorf("%v: after the next Drop %d segments wait", errno, n)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRemoveShort: a want of descriptors while a segment is removed passes: it is removed later and nothing else comes of it,
// whoever had it removed.
func TestRemoveShort(t *testing.T) {
	for _, c := range []struct {
		what string
		do   func(l *Log) error
	}{
		{"Drop, which has a spare too many", func(l *Log) error { return l.Drop(l.Boundaries()[1]) }},
		{"the thinning of spares", func(l *Log) error {
			l.space.began.Store(-int64(time.Hour))
			_, err := l.thinSpares()
			return err
		}},
		{"a full disk", func(l *Log) error {
			l.space.mu.Lock()
			defer l.space.mu.Unlock()
			_, err := l.dropSpares()
			return err
		}},
	} {
		l, arm := faultOf(t, syscall.EMFILE, "syncdir")
		files := l.o.files.(*faultFS).vfs.(*memFS)
		if err := l.Drop(l.Boundaries()[maxSpares]); err != nil {
			t.Fatal(err)
		}
		arm(true)
		if err := c.do(l); err != nil && !noDescriptors(err) {
			t.Errorf("%s: %v", c.what, err)
		}
		arm(false)
		for range 4 {
			if _, err := l.Append(testPayload(2500, 1)); err != nil {
				t.Errorf("%s: Append = %v", c.what, err)
			}
		}
		at := l.Boundaries()
		if err := l.Drop(at[len(at)-1]); err != nil {
			t.Errorf("%s: Drop = %v", c.what, err)
		}
		if n := keptBack(t, l, files); n > 0 {
			t.Errorf("%s: %d segments wait", c.what, n)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestReplaceShort: so does one while an empty segment gives way to a larger one.
func TestReplaceShort(t *testing.T) {
	var short atomic.Bool
	var removals atomic.Int32
	files := newMemFS()
	faulty := &faultFS{vfs: files, fault: func(_ int, op string) error {
		if short.Load() && op == "syncdir" {
			return syscall.EMFILE
		}
		return nil
	}}
	l := openTest(t, "/spool", Options{SegmentSize: 4096, files: faulty, Step: func(name string) {
		if name == stepDropRemove {
			short.Store(removals.Add(1) == 1)
		}
	}})
	defer l.Close()
	if _, err := l.Append(testPayload(20000, 1)); err != nil {
		t.Fatal(err)
	}
	short.Store(false)
	l.reclaim()
	if n, err := keptBack(t, l, files), l.Sync(l.End()); n > 0 || err != nil {
		t.Errorf("%d segments wait, Sync = %v", n, err)
	}
}

// TestPrewriteFails: of a file that could not be written ahead nothing is left.
func TestPrewriteFails(t *testing.T) {
	l, arm := faultOf(t, syscall.EIO, "write")
	files := l.o.files.(*faultFS).vfs.(*memFS)
	l.space.mu.Lock()
	before := len(files.files())
	arm(true)
	seg, err := l.create(64<<10, true)
	arm(false)
	if !errors.Is(err, syscall.EIO) || seg != nil || len(files.files()) != before {
		t.Errorf("create = %v, %v, and there are %d files, want %d", seg, err, len(files.files()), before)
	}
	l.space.mu.Unlock()
	closeDead(l)
}

// TestPrewriteEnds: nothing is written ahead while somebody waits for space: the file is as good without.
func TestPrewriteEnds(t *testing.T) {
	files := &faultFS{vfs: newMemFS()}
	l := openTest(t, "/spool", Options{SegmentSize: 4096, files: files})
	defer l.Close()
	l.space.mu.Lock()
	defer l.space.mu.Unlock()
	for _, waiting := range []int32{0, 1} {
		writes := 0
		files.mu.Lock()
		files.fault = func(_ int, op string) error {
			if op == "write" {
				writes++
			}
			return nil
		}
		files.mu.Unlock()
		l.space.waiting.Store(waiting)
		seg, err := l.create(8*prewriteStep, true)
		l.space.waiting.Store(0)
		if err != nil {
			t.Fatal(err)
		}
		if ahead := writes > 1; ahead == (waiting > 0) { // one is that of the header
			t.Errorf("with %d who wait, %d pieces are written", waiting, writes)
		}
		if err := l.remove(seg); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSpareStays: a spare whose space is needed, and that cannot be removed, is an error of Grow, not a want of space.
func TestSpareStays(t *testing.T) {
	for range 100 { // until the log does not take the spare before it is looked at
		l, arm := faultOf(t, syscall.EIO, "remove")
		if err := l.Drop(l.Boundaries()[4]); err != nil {
			t.Fatal(err)
		}
		l.o.files.(*faultFS).setFull(true)
		arm(true)
		err := l.Grow(1 << 20)
		arm(false)
		closeDead(l)
		switch {
		case err == nil || errors.Is(err, store.ErrNoSpace): // there was no spare
		case errors.Is(err, syscall.EIO):
			return
		default:
			t.Fatalf("Grow = %v, want the fault", err)
		}
	}
	t.Error("there never was a spare")
}

// TestSurplusClose: a file that is open beyond what is kept open, and cannot be closed, is in no reader's way.
func TestSurplusClose(t *testing.T) {
	l, arm := faultOf(t, syscall.EIO, "close")
	arm(true)
	for _, pos := range l.Boundaries() {
		if _, err := l.ReadRecord(pos+store.FrameHeaderSize, nil); err != nil {
			t.Errorf("ReadRecord(%d) = %v", pos, err)
		}
	}
	arm(false)
	closeDead(l)
}

// TestCloseInReplay: a replay of a log that is closed meanwhile says so.
func TestCloseInReplay(t *testing.T) {
	l, _ := faultOf(t, nil)
	err := l.Replay(0, func(store.Position, []byte) error { l.Close(); return nil })
	if !errors.Is(err, store.ErrClosed) {
		t.Errorf("Replay = %v, want ErrClosed", err)
	}
}

// TestFileCutMeanwhile: a file that is shorter than it was is damage.
func TestFileCutMeanwhile(t *testing.T) {
	l, _ := faultOf(t, nil)
	files := l.o.files.(*faultFS).vfs.(*memFS)
	files.mu.Lock() // the goroutine may be preparing a segment
	n := files.entries[l.segs.list[0].path]
	n.data = n.data[:pageSize+1000]
	files.mu.Unlock()
	if err := l.Replay(0, func(store.Position, []byte) error { return nil }); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Replay = %v, want ErrCorrupt", err)
	}
	closeDead(l)
}

// TestFreeUnknown: a file system that does not say how much is free is used as far as it goes.
func TestFreeUnknown(t *testing.T) {
	files := &faultFS{vfs: newMemFS(), fault: func(_ int, op string) error {
		if op == "free" {
			return syscall.EIO
		}
		return nil
	}}
	l := openTest(t, "/spool", Options{files: files})
	if err := l.Grow(l.Room() + 1); err != nil {
		t.Errorf("Grow = %v", err)
	}
	closeDead(l)
}

// TestNowhere: a relative path in a working directory that is gone is an error.
func TestNowhere(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere a working directory cannot be removed")
	}
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if l, err := Open("spool", Options{}); err == nil {
		t.Error("Open answers nil")
		closeDead(l)
	}
}
