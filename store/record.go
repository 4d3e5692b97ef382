package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Format: a record is one change of state. It is not aligned.
//
//	0  u32  CRC-32C of body, then bytes 4..11 of the envelope, then head
//	4  u8   type
//	5  u24  size of the head
//	8  u32  size of the body
//	12      head: fields of the type
//	..      body: bytes of a message (with its attributes), or nothing
const (
	RecordOverhead = 12
	MaxHead        = 1<<24 - 1
	MaxBody        = 17 << 20 // Bound: 16 MiB of body, 64 KiB of attributes, and their lengths
)

// A Record is a decoded record. Its slices are parts of what it was decoded from.
type Record struct {
	Type byte
	Head []byte
	Body []byte

	raw []byte // the whole record
}

// Size is the size of the whole record in bytes.
func (r Record) Size() int { return RecordOverhead + len(r.Head) + len(r.Body) }

// RecordSize is the size of a record with the given head and body.
func RecordSize(head, body int) int { return RecordOverhead + head + body }

// BodySum begins a record's checksum: it covers the body and is computed by the caller outside all locks.
func BodySum(parts ...[]byte) uint32 {
	var sum uint32
	for _, p := range parts {
		sum = crc32.Update(sum, Castagnoli, p)
	}
	return sum
}

// AppendRecordHead appends envelope and head of a record to dst. bodySum is BodySum of its body, which the caller
// appends behind it.
func AppendRecordHead(dst []byte, typ byte, head []byte, bodyLen int, bodySum uint32) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0, typ, byte(len(head)), byte(len(head)>>8), byte(len(head)>>16), 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(dst[at+8:], uint32(bodyLen))
	dst = append(dst, head...)
	binary.LittleEndian.PutUint32(dst[at:], crc32.Update(bodySum, Castagnoli, dst[at+4:]))
	return dst
}

// RecordLen returns the size of the record whose envelope begins b, or an error when the envelope cannot be one.
func RecordLen(b []byte) (int, error) {
	if len(b) < RecordOverhead {
		return 0, fmt.Errorf("record envelope of %d bytes, want %d", len(b), RecordOverhead)
	}
	head := int(b[5]) | int(b[6])<<8 | int(b[7])<<16
	body := binary.LittleEndian.Uint32(b[8:])
	if body > MaxBody {
		return 0, fmt.Errorf("record body of %d bytes, limit %d", body, MaxBody)
	}
	return RecordOverhead + head + int(body), nil
}

// NextRecord splits the first record off b. Its checksum is not verified.
func NextRecord(b []byte) (r Record, rest []byte, err error) {
	n, err := RecordLen(b)
	if err != nil {
		return Record{}, nil, err
	}
	if n > len(b) {
		return Record{}, nil, fmt.Errorf("record of %d bytes in %d", n, len(b))
	}
	head := int(b[5]) | int(b[6])<<8 | int(b[7])<<16
	return Record{
		Type: b[4],
		Head: b[RecordOverhead : RecordOverhead+head : RecordOverhead+head],
		Body: b[RecordOverhead+head : n : n],
		raw:  b[:n:n],
	}, b[n:], nil
}

// Verify compares the record with its checksum.
func (r Record) Verify() error {
	want := binary.LittleEndian.Uint32(r.raw)
	sum := crc32.Update(0, Castagnoli, r.Body)
	sum = crc32.Update(sum, Castagnoli, r.raw[4:RecordOverhead+len(r.Head)])
	if sum != want {
		return fmt.Errorf("record checksum %#x, want %#x", sum, want)
	}
	return nil
}
