package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/spoolmq/spool/store"
)

// salvageMake makes a log with n frames of a few records each, and returns their bodies.
func salvageMake(t testing.TB, dir string, n int, o Options) (bodies []string) {
	t.Helper()
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		var b []byte
		var heads uint32
		for j := range 3 {
			body := fmt.Sprintf("<frame %d record %d %s>", i, j, bytes.Repeat([]byte("x"), i%50))
			at := len(b)
			b = store.AppendRecordHead(b, 1, []byte("head"), len(body), store.BodySum([]byte(body)))
			heads = crc32.Update(heads, store.Castagnoli, b[at:])
			b = append(b, body...)
			bodies = append(bodies, body)
		}
		if err := l.Grow(int64(store.FrameSize(len(b)))); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(store.Payload{Parts: [][]byte{b}, Len: len(b), Heads: heads, Records: 3}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.Sync(l.End()), l.Mark(1, true), l.Close()); err != nil {
		t.Fatal(err)
	}
	return bodies
}

// salvageRead reads all there is.
func salvageRead(t testing.TB, dir string) (bodies []string, faults []Fault) {
	t.Helper()
	s, err := TakeSurvey(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	faults = append(faults, s.Faults()...)
	err = s.Read(math.MaxUint64, Reader{
		Record: func(f Find) error {
			if !f.Rotten {
				bodies = append(bodies, string(f.Body))
			}
			return nil
		},
		Frame:     func() {},
		Fault:     func(f Fault) { faults = append(faults, f) },
		Plausible: func(typ byte, head []byte) bool { return typ == 1 && string(head) == "head" },
		Message:   func(typ byte) bool { return typ == 1 },
		Progress:  func(int64) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return bodies, faults
}

// A salt is found out from a frame's checksum.
func TestSaltOf(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		salt, b := rng.Uint32(), make([]byte, rng.IntN(60))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		if got := saltOf(crc32.Update(salt, store.Castagnoli, b), b); got != salt {
			t.Fatalf("salt of %x = %#x, want %#x", b, got, salt)
		}
	}
}

// A log that is whole is read whole, without a fault, and so is one whose headers are lost, with faults.
func TestSurveyHeaders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	want := salvageMake(t, dir, 300, Options{SegmentSize: 8 << 10})
	got, faults := salvageRead(t, dir)
	if fmt.Sprint(got) != fmt.Sprint(want) || len(faults) > 0 {
		t.Fatalf("%d records, want %d; faults %v", len(got), len(want), faults)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err != nil || len(segments) < 4 {
		t.Fatal(segments, err)
	}
	for _, name := range segments {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt(make([]byte, headerSize), 0)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	got, faults = salvageRead(t, dir)
	if fmt.Sprint(got) != fmt.Sprint(want) || len(faults) < len(segments) {
		t.Errorf("without headers %d records, want %d; faults %v", len(got), len(want), faults)
	}
}

// While the log is open a survey is refused, and the other way round. It leaves the pid in LOCK.
func TestSurveyLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	salvageMake(t, dir, 1, Options{})
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TakeSurvey(dir); !errors.Is(err, store.ErrLocked) {
		t.Errorf("TakeSurvey of an open log = %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := TakeSurvey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("Open under a survey = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := TakeSurvey(t.TempDir()); !errors.Is(err, store.ErrNotStore) {
		t.Errorf("TakeSurvey of an empty directory = %v", err)
	}
}

// A body may hold what looks like a record. Behind a damaged length only messages are taken from it.
func TestSalvageForged(t *testing.T) {
	forged := store.AppendRecordHead(nil, 2, []byte("head"), 0, 0)
	body := append([]byte("a message and in it "), forged...)
	b := store.AppendRecordHead(nil, 1, []byte("head"), len(body), store.BodySum(body))
	heads := crc32.Checksum(b, store.Castagnoli)
	b = append(b, body...)
	dir := filepath.Join(t.TempDir(), "log")
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(store.Payload{Parts: [][]byte{b}, Len: len(b), Heads: heads, Records: 1}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Sync(l.End()), l.Mark(1, true), l.Close()); err != nil {
		t.Fatal(err)
	}
	name := segmentPath(filepath.Join(dir, "log"), 1, segmentSuffix)
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	file[pageSize+store.FrameHeaderSize+9] ^= 1 // the length of the body
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := TakeSurvey(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Read(math.MaxUint64, Reader{
		Record:    func(f Find) error { return fmt.Errorf("record of type %d at %d", f.Type, f.Offset) },
		Frame:     func() {},
		Fault:     func(Fault) {},
		Plausible: func(_ byte, head []byte) bool { return string(head) == "head" },
		Message:   func(typ byte) bool { return typ == 1 },
		Progress:  func(int64) error { return nil },
	})
	if err != nil {
		t.Error(err)
	}
}

// Whatever stands in a file, reading it ends, does not panic, and asks for no more memory than the file warrants.
func FuzzSalvage(f *testing.F) {
	dir := f.TempDir()
	salvageMake(f, dir, 20, Options{SegmentSize: 8 << 10})
	name := segmentPath(filepath.Join(dir, "log"), 1, segmentSuffix)
	whole, err := os.ReadFile(name)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), []byte{})
	f.Add(uint32(pageSize+8), []byte{0xff, 0xff, 0xff, 0x03})
	f.Add(uint32(pageSize+store.FrameHeaderSize+5), bytes.Repeat([]byte{0xff}, 7))
	f.Add(uint32(0), make([]byte, 6000))
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		b := bytes.Clone(whole)
		copy(b[int(at)%len(b):], patch)
		// A header that asks for much, and verifies.
		if len(patch) > 0 && patch[0]&1 == 1 {
			h := b[pageSize:][:store.FrameHeaderSize]
			binary.LittleEndian.PutUint32(h[8:], store.MaxFrameSize)
			binary.LittleEndian.PutUint32(h[12:], store.MaxFrameSize-store.FrameHeaderSize)
			salt := binary.LittleEndian.Uint32(b[56:])
			binary.LittleEndian.PutUint32(h[4:], crc32.Update(salt, store.Castagnoli, h[8:]))
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		salvageRead(t, dir)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
			t.Errorf("%d bytes allocated for a file of %d", n, len(b))
		}
	})
}
