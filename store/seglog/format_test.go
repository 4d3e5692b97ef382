package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/spoolmq/spool/store"
)

var update = flag.Bool("update", false, "write the golden files of the formats")

// golden compares b with a file in testdata.
func golden(t *testing.T, name string, b []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, want) {
		t.Errorf("%s is not what is written now (frozen format)\n got %x\nwant %x", name, b, want)
	}
}

var (
	someID     = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	someKey    = identity{id: someID, key: [32]byte{31: 9, 0: 7}}
	someHeader = header{epoch: 3, id: someID, size: 1 << 20, base: 8000, prev: 4096, salt: 0xdeadbeef, kind: kindUsed, use: 12}
	someMark   = mark{
		id: someID, epoch: 7, number: 1 << 33, start: 4096, highWater: 1_700_000_000_000_000_001, clean: true,
		durable: tail{pos: 9000, crc: 0xabad1dea, base: 8000},
	}
)

func TestFormats(t *testing.T) {
	golden(t, "format", encodeFormat(someID))
	golden(t, "key", encodeKey(someKey))
	golden(t, "mark", encodeMark(someMark))
	golden(t, "segment", encodeHeader(someHeader))

	if id, err := decodeFormat(encodeFormat(someID)); id != someID || err != nil {
		t.Errorf("decodeFormat = %x, %v", id, err)
	}
	if k, err := decodeKey(encodeKey(someKey)); k != someKey || err != nil {
		t.Errorf("decodeKey = %x, %v", k, err)
	}
	if m, err := decodeMark(encodeMark(someMark)); m != someMark || err != nil {
		t.Errorf("decodeMark = %+v, %v", m, err)
	}
	if h, err := decodeHeader(encodeHeader(someHeader)); h != someHeader || err != nil {
		t.Errorf("decodeHeader = %+v, %v", h, err)
	}
}

// TestGoldenLog pins what a log writes, frame included: the bytes of a segment and of MARK.
func TestGoldenLog(t *testing.T) {
	files := newMemFS()
	l := openTest(t, "/spool", Options{SegmentSize: 4096, files: files})
	defer l.Close()
	// What is random is set to what it was when the golden files were made.
	l.info.SpoolID, l.info.Key = someID, someKey.key
	l.marking.marker.last.id = someID
	seg := l.segs.last()
	seg.id, seg.salt = someID, 0x01020304
	if err := l.writeHeader(seg, seg.header, false); err != nil {
		t.Fatal(err)
	}
	for i, n := range []int{10, 0, 700} {
		if _, err := l.Append(testPayload(n, uint64(i))); err != nil {
			t.Fatal(err)
		}
		if err := l.Sync(l.End()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Mark(77, true); err != nil {
		t.Fatal(err)
	}
	golden(t, "log-segment", files.entries["/spool/log/0000000000000001.seg"].data)
	first := (l.marking.marker.last.number - 1) % 2 // a clean Mark is made twice
	golden(t, "log-mark", files.entries["/spool/MARK"].data[pageSize*int(first):][:pageSize])
}

// resealed is what seal would have written, with another version.
func resealed(b []byte, version uint32) []byte {
	b = bytes.Clone(b)
	binary.LittleEndian.PutUint32(b[8:], version)
	binary.LittleEndian.PutUint32(b[4:], store.BodySum(b[8:]))
	return b
}

func TestVersions(t *testing.T) {
	decoders := map[string]func(version uint32) error{
		"format": func(v uint32) error {
			text := fmt.Sprintf("spool %d\n%x\n", v, someID)
			_, err := decodeFormat(fmt.Appendf(nil, "%s%08x\n", text, store.BodySum([]byte(text))))
			return err
		},
		"key":  func(v uint32) error { _, err := decodeKey(resealed(encodeKey(someKey), v)); return err },
		"mark": func(v uint32) error { _, err := decodeMark(resealed(encodeMark(someMark)[:markSize], v)); return err },
		"header": func(v uint32) error {
			_, err := decodeHeader(resealed(encodeHeader(someHeader)[:headerSize], v))
			return err
		},
	}
	for name, decode := range decoders {
		if err := decode(1); err != nil {
			t.Errorf("%s of version 1 = %v", name, err)
		}
		if err := decode(2); !errors.Is(err, store.ErrFormatVersion) {
			t.Errorf("%s of version 2 = %v, want %v", name, err, store.ErrFormatVersion)
		}
		if err := decode(0); err == nil || errors.Is(err, store.ErrFormatVersion) {
			t.Errorf("%s of version 0 = %v, want it refused as damage", name, err)
		}
	}
}

// fuzzDecoder feeds a decoder. What it accepts it must give back byte for byte: it reads all that is written. Every
// input is tried with its own checksum and with the right one.
func fuzzDecoder[T any](f *testing.F, seed []byte, decode func([]byte) (T, error), encode func(T) []byte) {
	size := len(seed)
	f.Add(seed)
	f.Add(seed[:size/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		inputs := [][]byte{b}
		if len(b) == size {
			right := resealed(b, 1)
			copy(right, seed[:4])
			inputs = append(inputs, right)
		}
		for _, b := range inputs {
			v, err := decode(b)
			if err == nil && !bytes.Equal(encode(v)[:size], b[:size]) {
				t.Fatalf("%+v is encoded as %x, decoded from %x", v, encode(v)[:size], b[:size])
			}
		}
	})
}

func FuzzKey(f *testing.F)  { fuzzDecoder(f, encodeKey(someKey), decodeKey, encodeKey) }
func FuzzMark(f *testing.F) { fuzzDecoder(f, encodeMark(someMark)[:markSize], decodeMark, encodeMark) }
func FuzzHeader(f *testing.F) {
	fuzzDecoder(f, encodeHeader(someHeader)[:headerSize], decodeHeader, encodeHeader)
}

func FuzzFormat(f *testing.F) {
	f.Add(encodeFormat(someID))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := decodeFormat(b); err == nil && !bytes.Equal(encodeFormat(id), b) {
			t.Fatalf("%x is encoded as %q, decoded from %q", id, encodeFormat(id), b)
		}
	})
}

func FuzzFrameHeader(f *testing.F) {
	b := make([]byte, store.FrameHeaderSize)
	h := store.FrameHeader{Size: 64, Payload: 10, Pos: 4096, Synced: 8, Prev: 1, Epoch: 2, Heads: 3, Records: 4}
	store.PutFrameHeader(b, h, 99)
	f.Add(b, uint32(99))
	f.Fuzz(func(t *testing.T, b []byte, salt uint32) {
		for range 2 {
			h, err := store.ParseFrameHeader(b, salt)
			if err == nil {
				again := make([]byte, store.FrameHeaderSize)
				store.PutFrameHeader(again, h, salt)
				if h.Size > store.MaxFrameSize || !bytes.Equal(again, b[:store.FrameHeaderSize]) {
					t.Fatalf("%+v is encoded as %x, decoded from %x", h, again, b)
				}
			}
			if len(b) < store.FrameHeaderSize {
				return
			}
			b = bytes.Clone(b)
			binary.LittleEndian.PutUint32(b, store.FrameMagic)
			binary.LittleEndian.PutUint32(b[4:], crc32.Update(salt, store.Castagnoli, b[8:store.FrameHeaderSize]))
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add(bytes.Join(testPayload(20, 1).Parts, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, rest, err := store.NextRecord(b)
		if err != nil {
			return
		}
		if r.Size()+len(rest) != len(b) {
			t.Fatalf("record of %d bytes and a rest of %d, from %d", r.Size(), len(rest), len(b))
		}
		if r.Verify() == nil {
			again := store.AppendRecordHead(nil, r.Type, r.Head, len(r.Body), store.BodySum(r.Body))
			if again = append(again, r.Body...); !bytes.Equal(again, b[:r.Size()]) {
				t.Fatalf("record is encoded as %x, decoded from %x", again, b[:r.Size()])
			}
		}
		_ = store.CheckHeads(store.FrameHeader{}, b, true)
	})
}

// FuzzSegment puts bytes behind the last frame, and over it, and opens the log.
func FuzzSegment(f *testing.F) {
	f.Add([]byte{}, uint16(0), false)
	f.Add(bytes.Repeat([]byte("SPOL\xff\xff\xff\xff"), 100), uint16(60), true)
	f.Fuzz(func(t *testing.T, b []byte, at uint16, clean bool) {
		files := newMemFS()
		o := Options{SegmentSize: 8192, files: files}
		l := openTest(t, "/spool", o)
		h := newHistory()
		if err := errors.Join(h.append(l, 100), h.append(l, 50), h.finish(l)); err != nil {
			t.Fatal(err)
		}
		if !clean {
			if err := l.Mark(0, false); err != nil {
				t.Fatal(err)
			}
		}
		l.Close()
		node := files.entries["/spool/log/0000000000000001.seg"]
		n := copy(node.data[min(pageSize+int(at), len(node.data)):], b)
		untouched := n == 0 || pageSize+int64(at) >= offset(0, h.synced)
		l, err := Open("/spool", o)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) || untouched && !clean {
				t.Fatalf("Open = %v", err)
			}
			return
		}
		defer l.Close()
		if l.End() < h.synced {
			t.Fatalf("End %d, want at least %d", l.End(), h.synced)
		}
		if err := l.Replay(0, func(store.Position, []byte) error { return nil }); err != nil && (untouched || !errors.Is(err, store.ErrCorrupt)) {
			t.Fatalf("Replay = %v", err)
		}
	})
}

// FuzzStage puts bytes into the stage of a log that was killed, some of them as a frame header that verifies, and opens the
// log.
func FuzzStage(f *testing.F) {
	header := make([]byte, store.FrameHeaderSize)
	store.PutFrameHeader(header, store.FrameHeader{Size: 64, Payload: 16, Pos: 336, Prev: 1, Epoch: 1, Records: 1}, 0)
	f.Add(header, uint16(336/8), true)
	f.Add(bytes.Repeat([]byte("SPOL\xff\xff\xff\xff"), 100), uint16(60), false)
	f.Add(bytes.Repeat([]byte{0}, 100), uint16(8190), true)
	f.Fuzz(func(t *testing.T, b []byte, at uint16, sealed bool) {
		files := newMemFS()
		o := Options{SegmentSize: 8192, files: files}
		l := openTest(t, "/spool", o)
		h := newHistory()
		if err := errors.Join(h.append(l, 100), l.Sync(l.End()), h.append(l, 50)); err != nil {
			t.Fatal(err)
		}
		synced, salt := l.Synced(), l.segs.last().salt
		files = files.killed()
		closeDead(l)
		stage := files.entries["/spool/"+stageName].data
		from := int(at%(stageSize/store.FrameAlign)) * store.FrameAlign
		if part := stage[from:][:min(len(b), stageSize-from)]; copy(part, b) >= store.FrameHeaderSize && sealed {
			binary.LittleEndian.PutUint32(part, store.FrameMagic)
			binary.LittleEndian.PutUint32(part[4:], crc32.Update(salt, store.Castagnoli, part[8:store.FrameHeaderSize]))
		}
		o.files = files
		l, err := Open("/spool", o)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) {
				t.Fatalf("Open = %v", err)
			}
			return
		}
		defer l.Close()
		if l.End() < synced {
			t.Fatalf("End %d, want at least %d", l.End(), synced)
		}
		if err := l.Replay(0, func(store.Position, []byte) error { return nil }); err != nil {
			t.Fatalf("Replay = %v", err)
		}
	})
}
