package badgerkv

import (
	"encoding/binary"
	"hash/crc32"
)

// Values of more than inlineLimit bytes lie beside Badger, in value files; Badger has a pointer under their keys.
//
// Format: a value file has the name "%08d.val" of its number, from 1; all integers are little endian:
//
//	offset  0  magic "spoolval"
//	        8  format version, uint32, 1
//	       12  number of the file, uint32
//	       16  records, one behind the other
//
//	record  0  CRC-32C of the rest of the record
//	        4  length of the key, uint32
//	        8  length of the value, uint32
//	       12  key as Badger has it, value
//
// A pointer stands in Badger for the value of a key, with the user meta byte 1; without that byte it is the value itself:
//
//	offset  0  number of the file, uint32
//	        4  offset of the record, uint32
//	        8  length of the record, uint32
//	       12  its CRC-32C, uint32
//
// An extent stands in Badger under "f" and the number of a file (uint32, big endian), and changes with the pointers, in
// the same transaction:
//
//	offset  0  where the records end, uint32; what is behind belongs to nobody
//	        4  bytes of the records to which pointers lead, uint32
const (
	inlineLimit = 256 // bytes; twice what a record and its pointer take beside a short key
	metaPointer = 1

	valueMagic      = "spoolval"
	valueFormat     = 1
	valueFormatA    = 8
	valueNumberA    = 12
	valueHeaderSize = 16

	recordKeyA       = 4
	recordValueA     = 8
	recordHeaderSize = 12
	longestRecord    = recordHeaderSize + len(userPrefix) + MaxKey + MaxValue

	pointerSize = 16
	extentSize  = 8
)

// A pointer tells where a value is.
type pointer struct{ file, at, size, sum uint32 }

func (p pointer) encode() []byte {
	b := make([]byte, 0, pointerSize)
	for _, v := range []uint32{p.file, p.at, p.size, p.sum} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

func decodePointer(b []byte) (p pointer, err error) {
	if len(b) != pointerSize {
		return p, corrupt("index", 0, "pointer of %d bytes, want %d", len(b), pointerSize)
	}
	for i, v := range []*uint32{&p.file, &p.at, &p.size, &p.sum} {
		*v = binary.LittleEndian.Uint32(b[4*i:])
	}
	if p.at < valueHeaderSize || p.size <= recordHeaderSize || p.size > uint32(longestRecord) {
		return p, corrupt(valueName(p.file), int64(p.at), "pointer to a record of %d bytes", p.size)
	}
	return p, nil
}

// An extent is what Badger knows of a value file.
type extent struct{ end, live int64 }

func (x extent) encode() []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, extentSize), uint32(x.end))
	return binary.LittleEndian.AppendUint32(b, uint32(x.live))
}

func decodeExtent(name string, b []byte) (x extent, err error) {
	if len(b) != extentSize {
		return x, corrupt(name, 0, "extent of %d bytes, want %d", len(b), extentSize)
	}
	x.end, x.live = int64(binary.LittleEndian.Uint32(b)), int64(binary.LittleEndian.Uint32(b[4:]))
	if x.end < valueHeaderSize || x.live > x.end-valueHeaderSize {
		return x, corrupt(name, x.end, "%d bytes in use", x.live)
	}
	return x, nil
}

const extentPrefix = "f" // of the keys of extents

func extentKey(number uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte(extentPrefix), number)
}

func encodeValueHeader(number uint32) []byte {
	b := append(make([]byte, 0, valueHeaderSize), valueMagic...)
	b = binary.LittleEndian.AppendUint32(b, valueFormat)
	return binary.LittleEndian.AppendUint32(b, number)
}

// recordSize is the length of a record in bytes.
func recordSize(key, value []byte) int64 { return int64(recordHeaderSize + len(key) + len(value)) }

// appendRecord appends a record and returns its checksum too.
func appendRecord(b, key, value []byte) (_ []byte, sum uint32) {
	start := len(b)
	b = append(b, make([]byte, recordKeyA)...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(key)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	b = append(append(b, key...), value...)
	sum = crc32.Checksum(b[start+recordKeyA:], castagnoli)
	binary.LittleEndian.PutUint32(b[start:], sum)
	return b, sum
}

// recordLengths reads the lengths in the header of a record. They are within the limits.
func recordLengths(b []byte) (key, value int, ok bool) {
	if len(b) < recordHeaderSize {
		return 0, 0, false
	}
	k, v := binary.LittleEndian.Uint32(b[recordKeyA:]), binary.LittleEndian.Uint32(b[recordValueA:])
	ok = k > 0 && k <= uint32(len(userPrefix)+MaxKey) && v > 0 && v <= MaxValue
	return int(k), int(v), ok
}

// openRecord returns the parts of a whole record; ok is whether it verifies.
func openRecord(b []byte) (key, value []byte, sum uint32, ok bool) {
	k, v, ok := recordLengths(b)
	if !ok || len(b) != recordHeaderSize+k+v {
		return nil, nil, 0, false
	}
	sum = binary.LittleEndian.Uint32(b)
	value = b[recordHeaderSize+k:]
	return b[recordHeaderSize : recordHeaderSize+k], value, sum, crc32.Checksum(b[recordKeyA:], castagnoli) == sum
}
