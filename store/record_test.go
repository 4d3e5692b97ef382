package store

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// record encodes a whole record.
func record(typ byte, head, body string) []byte {
	b := AppendRecordHead(nil, typ, []byte(head), len(body), BodySum([]byte(body)))
	return append(b, body...)
}

func TestRecordGolden(t *testing.T) {
	golden(t, "record", record(5, "a head", "and a body"))
	golden(t, "record-empty", record(1, "", ""))
	golden(t, "record-long-head", record(255, strings.Repeat("h", 300), "b"))
}

func TestRecordRoundTrip(t *testing.T) {
	prefix := []byte("what was there before")
	for _, head := range []int{0, 1, 255, 256, 65535, 65536, MaxHead} {
		for _, body := range []int{0, 1, 4096, MaxBody} {
			if head == MaxHead && body == MaxBody {
				continue
			}
			h, b := strings.Repeat("h", head), strings.Repeat("b", body)
			raw := AppendRecordHead(append([]byte(nil), prefix...), 7, []byte(h), len(b), BodySum([]byte(b[:body/3]), []byte(b[body/3:])))
			if !bytes.HasPrefix(raw, prefix) {
				t.Fatal("AppendRecordHead changed what was there")
			}
			raw = append(append(raw, b...), "behind"...)[len(prefix):]
			if n, err := RecordLen(raw); err != nil || n != RecordSize(head, body) {
				t.Fatalf("RecordLen = %d, %v, want %d", n, err, RecordSize(head, body))
			}
			r, rest, err := NextRecord(raw)
			if err != nil || r.Type != 7 || string(r.Head) != h || string(r.Body) != b || string(rest) != "behind" || r.Size() != RecordSize(head, body) {
				t.Fatalf("NextRecord of %d and %d bytes = type %d, %d and %d bytes, rest %q, %v", head, body, r.Type, len(r.Head), len(r.Body), rest, err)
			}
			if err := r.Verify(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestRecordEveryBit: no bit of a record can change unnoticed.
func TestRecordEveryBit(t *testing.T) {
	b := append(record(5, "a head", "and a body"), make([]byte, 64)...) // a longer record would still be there
	for i := range 8 * (len(b) - 64) {
		b[i/8] ^= 1 << (i % 8)
		if r, _, err := NextRecord(b); err == nil && r.Verify() == nil {
			t.Errorf("bit %d changed: the record verifies", i)
		}
		b[i/8] ^= 1 << (i % 8)
	}
}

// TestRecordSlicesEnd: whoever appends to a part of a record does not write into the next one.
func TestRecordSlicesEnd(t *testing.T) {
	b := append(record(5, "a head", "and a body"), "behind"...)
	want := bytes.Clone(b)
	r, _, err := NextRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(r.Head, "xxxx"...)
	_ = append(r.Body, "xxxx"...)
	if !bytes.Equal(b, want) {
		t.Errorf("appended to head and body: %q, want %q", b, want)
	}
}

// TestRecordLengthsAreBounded: an envelope may say anything; nothing is allocated for it.
func TestRecordLengthsAreBounded(t *testing.T) {
	b := record(5, "a head", "and a body")
	binary.LittleEndian.PutUint32(b[8:], MaxBody+1)
	if n, err := RecordLen(b); err == nil {
		t.Errorf("RecordLen of a body of %d bytes = %d", MaxBody+1, n)
	}
	binary.LittleEndian.PutUint32(b[8:], MaxBody)
	if _, _, err := NextRecord(b); err == nil {
		t.Error("NextRecord of a record that is not there = nil")
	}
	binary.LittleEndian.PutUint32(b[8:], 10)
	if n := testing.AllocsPerRun(100, func() { _, _, _ = NextRecord(b) }); n != 0 {
		t.Errorf("NextRecord allocates %v times, want 0", n)
	}
}

func FuzzNextRecord(f *testing.F) {
	f.Add(record(5, "a head", "and a body"))
	f.Add(append(record(1, "", ""), record(2, "x", "")...))
	f.Add(bytes.Repeat([]byte{0xff}, 20))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, rest, err := NextRecord(b)
		n, lenErr := RecordLen(b)
		if err != nil {
			if lenErr == nil && n <= len(b) {
				t.Errorf("RecordLen = %d of %d bytes, NextRecord = %v", n, len(b), err)
			}
			return
		}
		if n != r.Size() || n+len(rest) != len(b) || cap(r.Head) != len(r.Head) || cap(r.Body) != len(r.Body) {
			t.Fatalf("record of %d bytes, rest of %d, in %d", r.Size(), len(rest), len(b))
		}
		again := AppendRecordHead(nil, r.Type, r.Head, len(r.Body), BodySum(r.Body))
		again = append(again, r.Body...)
		if same := bytes.Equal(again, b[:n]); same != (r.Verify() == nil) {
			t.Errorf("Verify = %v, encoded again it is the same: %t", r.Verify(), same)
		}
	})
}
