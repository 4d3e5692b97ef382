package badgerkv

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/spoolmq/spool/store"
)

// What is in value files and stands for them in Badger. It never changes.
const (
	headerGolden  = "73706f6f6c76616c" + "01000000" + "04030201"
	recordGolden  = "d6a629ad" + "04000000" + "05000000" + "6b6b6579" + "76616c7565"
	pointerGolden = "04030201" + "08070605" + "15000000" + "d6a629ad"
	extentGolden  = "08070605" + "04030201"
)

func TestRecordGolden(t *testing.T) {
	record, sum := appendRecord(nil, []byte("kkey"), []byte("value"))
	p := pointer{file: 0x01020304, at: 0x05060708, size: uint32(len(record)), sum: sum}
	x := extent{end: 0x05060708, live: 0x01020304}
	for _, c := range []struct {
		what   string
		got    []byte
		golden string
	}{
		{"header", encodeValueHeader(0x01020304), headerGolden},
		{"record", record, recordGolden},
		{"pointer", p.encode(), pointerGolden},
		{"extent", x.encode(), extentGolden},
	} {
		if got := hex.EncodeToString(c.got); got != c.golden {
			t.Errorf("%s is %s, want %s", c.what, got, c.golden)
		}
	}
	if got, err := decodePointer(p.encode()); err != nil || got != p {
		t.Errorf("decodePointer = %+v, %v, want %+v", got, err, p)
	}
	if got, err := decodeExtent("x", x.encode()); err != nil || got != x {
		t.Errorf("decodeExtent = %+v, %v, want %+v", got, err, x)
	}
	key, value, _, ok := openRecord(record)
	if !ok || string(key) != "kkey" || string(value) != "value" {
		t.Errorf("openRecord = %q, %q, %v", key, value, ok)
	}
}

func TestRecordDamage(t *testing.T) {
	record, _ := appendRecord(nil, []byte("kkey"), []byte("value"))
	for i := range record {
		for bit := range 8 {
			record[i] ^= 1 << bit
			if key, value, _, ok := openRecord(record); ok {
				t.Errorf("byte %d, bit %d: openRecord = %q, %q", i, bit, key, value)
			}
			record[i] ^= 1 << bit
		}
	}
	for n := range len(record) {
		if key, value, _, ok := openRecord(record[:n]); ok {
			t.Errorf("%d bytes: openRecord = %q, %q", n, key, value)
		}
	}
}

// TestDecodeRefuses: what no encoder writes, and what would make a reader allocate anything.
func TestDecodeRefuses(t *testing.T) {
	for _, p := range []pointer{
		{file: 1, at: valueHeaderSize - 1, size: 100},
		{file: 1, at: valueHeaderSize, size: recordHeaderSize},
		{file: 1, at: valueHeaderSize, size: uint32(longestRecord) + 1},
	} {
		if _, err := decodePointer(p.encode()); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("decodePointer(%+v) = %v, want %v", p, err, store.ErrCorrupt)
		}
	}
	for _, x := range []extent{{end: valueHeaderSize - 1}, {end: 100, live: 100}, {live: 1}} {
		if _, err := decodeExtent("x", x.encode()); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("decodeExtent(%+v) = %v, want %v", x, err, store.ErrCorrupt)
		}
	}
	for n := range pointerSize {
		if _, err := decodePointer(make([]byte, n)); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("decodePointer of %d bytes: %v, want %v", n, err, store.ErrCorrupt)
		}
		if _, err := decodeExtent("x", make([]byte, n)); n != extentSize && !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("decodeExtent of %d bytes: %v, want %v", n, err, store.ErrCorrupt)
		}
	}
}

// FuzzRecord: what verifies is what is encoded again.
func FuzzRecord(f *testing.F) {
	record, _ := appendRecord(nil, []byte("kkey"), []byte("value"))
	f.Add(record)
	f.Fuzz(func(t *testing.T, b []byte) {
		key, value, sum, ok := openRecord(b)
		if !ok {
			return
		}
		if again, s := appendRecord(nil, key, value); s != sum || !bytes.Equal(again, b) {
			t.Errorf("%x is read as %q, %q, which is written as %x", b, key, value, again)
		}
	})
}
