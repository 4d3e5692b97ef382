package store

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the encoders make into testdata/golden")

// golden compares bytes with those in testdata/golden, which are frozen: a difference is a change of the format.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	text := []byte(strings.TrimRight(hex.Dump(got), "\n") + "\n")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n"))) {
		t.Errorf("%s is\n%swant\n%s", name, text, want)
	}
}

var exampleHeader = FrameHeader{Size: 88, Payload: 37, Pos: 0x1122334455667788, Synced: 0x1122334455667700, Prev: 0xa1b2c3d4,
	Epoch: 7, Heads: 0x0badcafe, Records: 2}

func TestFrameGolden(t *testing.T) {
	b := make([]byte, FrameHeaderSize)
	PutFrameHeader(b, exampleHeader, 0x5a175a17)
	golden(t, "frame-header", b)
}

func TestFrameRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 7, 8, 37, 4048, 4049, 4 << 20, MaxFrameSize - FrameHeaderSize} {
		for _, salt := range []uint32{0, 1, 0xffffffff} {
			h := exampleHeader
			h.Payload, h.Size = uint32(n), uint32(FrameSize(n))
			if FrameSize(n)%FrameAlign != 0 || FrameSize(n) < FrameHeaderSize+n || FrameSize(n) >= FrameHeaderSize+n+FrameAlign {
				t.Fatalf("FrameSize(%d) = %d", n, FrameSize(n))
			}
			b := make([]byte, FrameHeaderSize)
			h.CRC = PutFrameHeader(b, h, salt)
			got, err := ParseFrameHeader(b, salt)
			if err != nil || got != h {
				t.Errorf("ParseFrameHeader = %+v, %v, want %+v", got, err, h)
			}
			if _, err := ParseFrameHeader(b, salt+1); err == nil {
				t.Errorf("a header of salt %d verifies with salt %d", salt, salt+1)
			}
		}
	}
}

// TestFrameEveryBit: no bit of a header can change unnoticed.
func TestFrameEveryBit(t *testing.T) {
	b := make([]byte, FrameHeaderSize)
	PutFrameHeader(b, exampleHeader, 3)
	for i := range 8 * len(b) {
		b[i/8] ^= 1 << (i % 8)
		if h, err := ParseFrameHeader(b, 3); err == nil {
			t.Errorf("bit %d changed: ParseFrameHeader = %+v", i, h)
		}
		b[i/8] ^= 1 << (i % 8)
	}
	for n := range len(b) {
		if _, err := ParseFrameHeader(b[:n], 3); err == nil {
			t.Errorf("ParseFrameHeader of %d bytes = nil", n)
		}
	}
}

// TestFrameSizesAreBounded: a header whose checksum is right may still say anything.
func TestFrameSizesAreBounded(t *testing.T) {
	for _, c := range []struct{ size, payload uint32 }{
		{0, 0}, {40, 0}, {48, 1}, {56, 0}, {56, 9}, {88, 41}, {MaxFrameSize + 8, MaxFrameSize + 8 - 48},
		{0xfffffff8, 0xfffffff8 - 48}, {47, 0xffffffff}, {0xffffffff, 0xffffffff},
	} {
		h := exampleHeader
		h.Size, h.Payload = c.size, c.payload
		b := make([]byte, FrameHeaderSize)
		PutFrameHeader(b, h, 0)
		if _, err := ParseFrameHeader(b, 0); err == nil {
			t.Errorf("a frame of %d bytes with a payload of %d is accepted", c.size, c.payload)
		}
	}
}

// payloadOf joins records as a frame does.
func payloadOf(records ...[]byte) (payload []byte, h FrameHeader) {
	for _, r := range records {
		head := int(r[5]) | int(r[6])<<8 | int(r[7])<<16
		h.Heads = crc32.Update(h.Heads, Castagnoli, r[:RecordOverhead+head])
		h.Records++
		payload = append(payload, r...)
	}
	return payload, h
}

func TestCheckHeads(t *testing.T) {
	one, two := record(3, "head", "body"), record(9, "", strings.Repeat("x", 5000))
	payload, h := payloadOf(one, two, record(1, "", ""))
	if err := CheckHeads(h, payload, true); err != nil {
		t.Fatal(err)
	}
	for i := range payload {
		payload[i] ^= 0x10
		if err := CheckHeads(h, payload, true); err == nil {
			t.Errorf("byte %d changed: CheckHeads with bodies = nil", i)
		}
		body := i >= len(one)-4 && i < len(one) || i >= len(one)+RecordOverhead && i < len(one)+len(two)
		if err := CheckHeads(h, payload, false); (err == nil) != body {
			t.Errorf("byte %d changed, part of a body %t: CheckHeads without bodies = %v", i, body, err)
		}
		payload[i] ^= 0x10
	}
	for n := range payload {
		if err := CheckHeads(h, payload[:n], false); err == nil {
			t.Errorf("CheckHeads of the first %d bytes = nil", n)
		}
	}
	h.Records++
	if err := CheckHeads(h, payload, true); err == nil {
		t.Error("CheckHeads with a record too few = nil")
	}
}

func FuzzParseFrameHeader(f *testing.F) {
	b := make([]byte, FrameHeaderSize)
	PutFrameHeader(b, exampleHeader, 3)
	f.Add(b, uint32(3))
	f.Add(b, uint32(4))
	f.Add([]byte{}, uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, salt uint32) {
		h, err := ParseFrameHeader(b, salt)
		if err != nil && len(b) >= FrameHeaderSize { // made to verify, so that what comes behind the checksum is seen
			b = append([]byte(nil), b...)
			copy(b, "SPOL")
			crc := crc32.Update(salt, Castagnoli, b[8:FrameHeaderSize])
			b[4], b[5], b[6], b[7] = byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24)
			h, err = ParseFrameHeader(b, salt)
		}
		if err != nil {
			return
		}
		if h.Size > MaxFrameSize || FrameSize(int(h.Payload)) != int(h.Size) {
			t.Errorf("size %d with payload %d", h.Size, h.Payload)
		}
		again := make([]byte, FrameHeaderSize)
		if crc := PutFrameHeader(again, h, salt); crc != h.CRC || !bytes.Equal(again, b[:FrameHeaderSize]) {
			t.Errorf("encoded again it is %x, was %x", again, b[:FrameHeaderSize])
		}
	})
}

func FuzzCheckHeads(f *testing.F) {
	payload, h := payloadOf(record(3, "head", "body"), record(1, "", ""))
	f.Add(payload, h.Heads, h.Records)
	f.Add([]byte{}, uint32(0), uint32(0))
	f.Add(bytes.Repeat([]byte{0xff}, 40), uint32(1), uint32(1))
	f.Fuzz(func(t *testing.T, payload []byte, heads, records uint32) {
		h := FrameHeader{Heads: heads, Records: records}
		short, whole := CheckHeads(h, payload, false), CheckHeads(h, payload, true)
		if short != nil && whole == nil {
			t.Errorf("with bodies nil, without %v", short)
		}
		n := 0
		for rest := payload; len(rest) > 0; n++ {
			r, next, err := NextRecord(rest)
			if err != nil {
				if short == nil {
					t.Errorf("CheckHeads = nil, NextRecord = %v", err)
				}
				return
			}
			if r.Size() != len(rest)-len(next) || r.Size() < RecordOverhead {
				t.Fatalf("record of %d bytes takes %d", r.Size(), len(rest)-len(next))
			}
			rest = next
		}
		if short == nil && n != int(records) {
			t.Errorf("%d records, the header says %d", n, records)
		}
	})
}

func ExampleFrameSize() {
	fmt.Println(FrameSize(0), FrameSize(1), FrameSize(8), FrameSize(9))
	// Output: 48 56 56 64
}
