package seglog

import (
	"encoding/binary"
	"fmt"

	"github.com/spoolmq/spool/store"
)

const pageSize = 4096

// Format: a segment file begins with a page that holds, little endian, zero behind its end:
//
//	 0  u32  magic
//	 4  u32  CRC-32C of bytes 8..71
//	 8  u32  version
//	12  u32  epoch of the writer
//	16       spool id
//	32  u64  size of the file
//	40  u64  base: position of the first frame
//	48  u64  base of the segment before it, its own in the very first
//	56  u32  salt, with which the checksums of its frame headers begin; random at each use of the file
//	60  u32  kind: 1 prepared, holds nothing; 2 in use
//	64  u64  use: rises with every segment that is begun; of two with one base the lower was given up without a frame
//
// Invariant: a file with a name of a segment has a valid header, whatever power loss it went through: it gets a name
// when a header of kind 1 is on stable storage, and a header lies within one sector. So a header that cannot be read is
// damage, never the trace of a crash.
const (
	headerSize     = 72
	headerMagic    = 0x47535053 // "SPSG"
	kindPrepared   = 1
	kindUsed       = 2
	overhead       = 2 * pageSize // of a file over its capacity: the header, and the page that an unaligned base spills into
	maxSegmentSize = 1 << 40      // Bound: what a decoder accepts
)

// A header is what the first page of a segment says.
type header struct {
	epoch uint32
	id    [16]byte
	size  int64
	base  store.Position
	prev  store.Position
	salt  uint32
	kind  uint32
	use   uint64
}

func encodeHeader(h header) []byte {
	b := make([]byte, headerSize, pageSize)
	le := binary.LittleEndian
	le.PutUint32(b[12:], h.epoch)
	copy(b[16:], h.id[:])
	le.PutUint64(b[32:], uint64(h.size))
	le.PutUint64(b[40:], uint64(h.base))
	le.PutUint64(b[48:], uint64(h.prev))
	le.PutUint32(b[56:], h.salt)
	le.PutUint32(b[60:], h.kind)
	le.PutUint64(b[64:], h.use)
	seal(b, headerMagic)
	return b[:pageSize]
}

// decodeHeader is the inverse of encodeHeader. The error is store.ErrFormatVersion or says what is wrong.
func decodeHeader(b []byte) (header, error) {
	if len(b) < headerSize {
		return header{}, fmt.Errorf("segment header of %d bytes, want %d", len(b), headerSize)
	}
	b = b[:headerSize]
	if err := unseal(b, headerMagic); err != nil {
		return header{}, err
	}
	le := binary.LittleEndian
	h := header{
		epoch: le.Uint32(b[12:]), id: [16]byte(b[16:32]), size: int64(le.Uint64(b[32:])),
		base: store.Position(le.Uint64(b[40:])), prev: store.Position(le.Uint64(b[48:])),
		salt: le.Uint32(b[56:]), kind: le.Uint32(b[60:]), use: le.Uint64(b[64:]),
	}
	switch {
	case h.size < overhead+pageSize || h.size > maxSegmentSize || h.size%pageSize != 0:
		return header{}, fmt.Errorf("segment size %d, want whole pages from %d to %d", h.size, overhead+pageSize, int64(maxSegmentSize))
	case h.kind != kindPrepared && h.kind != kindUsed:
		return header{}, fmt.Errorf("segment kind %d", h.kind)
	case h.base%store.FrameAlign != 0 || h.prev > h.base:
		return header{}, fmt.Errorf("segment base %d behind %d", h.base, h.prev)
	}
	return h, nil
}

// offset is where position p stands in a segment with this base.
func offset(base, p store.Position) int64 {
	return pageSize + int64(base%pageSize) + int64(p-base)
}

// capacity is how many bytes of frames a file of this size holds, whatever its base.
func (h header) capacity() int64 { return h.size - overhead }

// limit is the position at which the segment is full.
func (h header) limit() store.Position { return h.base + store.Position(h.capacity()) }
