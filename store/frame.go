package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Format: a frame is one group commit. It begins at a multiple of FrameAlign. All integers are little endian.
//
//	 0  u32  magic
//	 4  u32  CRC-32C (Castagnoli) of bytes 8..47, begun with the salt of the segment
//	 8  u32  size of the frame: header, payload, zero padding to FrameAlign
//	12  u32  size of the payload
//	16  u64  position of the frame
//	24  u64  position below which everything was known to be synced when the frame was built
//	32  u32  CRC (bytes 4..7) of the frame before this one, 0 at the very first
//	36  u32  epoch of the writer
//	40  u32  CRC-32C of the envelopes and heads of all records, in order, bodies left out
//	44  u32  number of records
//	48       payload: records, see Record
//
// Bodies are covered by the checksum in each record's envelope, which the heads checksum covers in turn: every byte is
// summed once, bodies by their callers and outside all locks.
const (
	FrameAlign      = 8
	FrameHeaderSize = 48
	FrameMagic      = 0x4c4f5053 // "SPOL"
	MaxFrameSize    = 64 << 20   // Bound: what a decoder accepts; the largest call is a batch of 16 MiB and its heads
)

// Castagnoli is the polynomial of every checksum here: processors compute it.
var Castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Payload is what a frame carries: records, in pieces.
type Payload struct {
	Parts   [][]byte // concatenated they are the records
	Len     int      // bytes in all parts
	Heads   uint32   // CRC-32C of all envelopes and heads in order
	Records uint32   // number of records
}

// A FrameHeader is the decoded header of a frame.
type FrameHeader struct {
	CRC     uint32
	Size    uint32
	Payload uint32
	Pos     Position
	Synced  Position
	Prev    uint32
	Epoch   uint32
	Heads   uint32
	Records uint32
}

// FrameSize is the size of a frame with n bytes of payload.
func FrameSize(n int) int {
	return (FrameHeaderSize + n + FrameAlign - 1) &^ (FrameAlign - 1)
}

// PutFrameHeader encodes h into dst[:FrameHeaderSize] and returns its CRC, which it computes; h.CRC is not looked at.
func PutFrameHeader(dst []byte, h FrameHeader, salt uint32) uint32 {
	le := binary.LittleEndian
	le.PutUint32(dst[0:], FrameMagic)
	le.PutUint32(dst[8:], h.Size)
	le.PutUint32(dst[12:], h.Payload)
	le.PutUint64(dst[16:], uint64(h.Pos))
	le.PutUint64(dst[24:], uint64(h.Synced))
	le.PutUint32(dst[32:], h.Prev)
	le.PutUint32(dst[36:], h.Epoch)
	le.PutUint32(dst[40:], h.Heads)
	le.PutUint32(dst[44:], h.Records)
	crc := crc32.Update(salt, Castagnoli, dst[8:FrameHeaderSize])
	le.PutUint32(dst[4:], crc)
	return crc
}

// ParseFrameHeader decodes and verifies a header. Sizes are within bounds when it returns nil.
func ParseFrameHeader(b []byte, salt uint32) (FrameHeader, error) {
	le := binary.LittleEndian
	if len(b) < FrameHeaderSize {
		return FrameHeader{}, fmt.Errorf("frame header of %d bytes, want %d", len(b), FrameHeaderSize)
	}
	if m := le.Uint32(b); m != FrameMagic {
		return FrameHeader{}, fmt.Errorf("frame magic %#x, want %#x", m, uint32(FrameMagic))
	}
	h := FrameHeader{
		CRC: le.Uint32(b[4:]), Size: le.Uint32(b[8:]), Payload: le.Uint32(b[12:]),
		Pos: Position(le.Uint64(b[16:])), Synced: Position(le.Uint64(b[24:])), Prev: le.Uint32(b[32:]),
		Epoch: le.Uint32(b[36:]), Heads: le.Uint32(b[40:]), Records: le.Uint32(b[44:]),
	}
	if crc := crc32.Update(salt, Castagnoli, b[8:FrameHeaderSize]); crc != h.CRC {
		return FrameHeader{}, fmt.Errorf("frame header checksum %#x, want %#x", crc, h.CRC)
	}
	if h.Size > MaxFrameSize || h.Payload > h.Size || FrameSize(int(h.Payload)) != int(h.Size) {
		return FrameHeader{}, fmt.Errorf("frame size %d with payload %d, limit %d", h.Size, h.Payload, MaxFrameSize)
	}
	return h, nil
}

// CheckHeads verifies the envelopes and heads of a frame's payload against its header. With bodies it verifies every
// body as well.
func CheckHeads(h FrameHeader, payload []byte, bodies bool) error {
	var sum, n uint32
	for rest := payload; len(rest) > 0; n++ {
		r, next, err := NextRecord(rest)
		if err != nil {
			return err
		}
		sum = crc32.Update(sum, Castagnoli, rest[:RecordOverhead+len(r.Head)])
		if bodies {
			if err := r.Verify(); err != nil {
				return err
			}
		}
		rest = next
	}
	if sum != h.Heads || n != h.Records {
		return fmt.Errorf("%d records with checksum %#x, want %d with %#x", n, sum, h.Records, h.Heads)
	}
	return nil
}
