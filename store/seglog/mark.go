package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/spoolmq/spool/store"
)

// Format: MARK is two slots of a page each, written alternately in place. The valid one with the higher number counts.
// A slot is, little endian, zero behind its end:
//
//	 0  u32  magic
//	 4  u32  CRC-32C of bytes 8..79
//	 8  u32  version
//	12  u32  epoch
//	16       spool id
//	32  u64  number: one more than the other slot's when it was written
//	40  u64  log start, the base of a segment
//	48  u64  durable position: everything below was on stable storage before this slot was written
//	56  u32  CRC of the frame that ends at the durable position, 0 when there never was one
//	60  u32  flags: 1 closed cleanly, the log ends exactly at the durable position
//	64  u64  base of the segment in which the durable position lies (of two, the one that ends there)
//	72  i64  highest time seen, ns since the Unix epoch
const (
	markSize  = 80
	markMagic = 0x4b4d5053 // "SPMK"
	markClean = 1
	markFile  = 2 * pageSize
)

// A mark is what a slot says.
type mark struct {
	id        [16]byte
	epoch     uint32
	number    uint64
	start     store.Position
	durable   tail
	highWater int64
	clean     bool
}

// A tail is a place where the log ends, or ended.
type tail struct {
	pos  store.Position // end of a frame
	crc  uint32         // of that frame: the next one repeats it
	base store.Position // of the segment that the frame lies in
}

func encodeMark(m mark) []byte {
	b := make([]byte, markSize, pageSize)
	le := binary.LittleEndian
	le.PutUint32(b[12:], m.epoch)
	copy(b[16:], m.id[:])
	le.PutUint64(b[32:], m.number)
	le.PutUint64(b[40:], uint64(m.start))
	le.PutUint64(b[48:], uint64(m.durable.pos))
	le.PutUint32(b[56:], m.durable.crc)
	if m.clean {
		le.PutUint32(b[60:], markClean)
	}
	le.PutUint64(b[64:], uint64(m.durable.base))
	le.PutUint64(b[72:], uint64(m.highWater))
	seal(b, markMagic)
	return b[:pageSize]
}

// decodeMark is the inverse of encodeMark. The error is store.ErrFormatVersion or says what is wrong.
func decodeMark(b []byte) (mark, error) {
	if len(b) < markSize {
		return mark{}, fmt.Errorf("slot of %d bytes, want %d", len(b), markSize)
	}
	b = b[:markSize]
	if err := unseal(b, markMagic); err != nil {
		return mark{}, err
	}
	le := binary.LittleEndian
	if flags := le.Uint32(b[60:]); flags > markClean {
		return mark{}, fmt.Errorf("flags %#x, known %#x", flags, markClean)
	}
	m := mark{
		epoch:  le.Uint32(b[12:]),
		id:     [16]byte(b[16:32]),
		number: le.Uint64(b[32:]),
		start:  store.Position(le.Uint64(b[40:])),
		durable: tail{
			pos:  store.Position(le.Uint64(b[48:])),
			crc:  le.Uint32(b[56:]),
			base: store.Position(le.Uint64(b[64:])),
		},
		clean:     le.Uint32(b[60:]) == markClean,
		highWater: int64(le.Uint64(b[72:])),
	}
	if m.start > m.durable.base || m.durable.base > m.durable.pos {
		return mark{}, fmt.Errorf("start %d, durable segment %d, durable position %d do not rise", m.start, m.durable.base, m.durable.pos)
	}
	return m, nil
}

// A marker writes MARK. Its methods are called by one at a time.
type marker struct {
	file vfile
	path string
	last mark // as it stands in the newer slot
}

// openMarker reads both slots. The error is a *store.CorruptError when neither is valid.
func openMarker(v vfs, path string) (*marker, error) {
	f, err := v.OpenFile(path, os.O_RDWR)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &store.CorruptError{File: path, Reason: "missing"}
	}
	if err != nil {
		return nil, err
	}
	m := &marker{file: f, path: path}
	if err := m.read(); err != nil {
		f.Close()
		return nil, err
	}
	return m, nil
}

func (m *marker) read() error {
	valid := false
	var reason error
	for slot := range int64(2) {
		b := make([]byte, markSize)
		n, err := readUpTo(m.file, b, slot*pageSize)
		if err != nil {
			return err
		}
		got, err := decodeMark(b[:n])
		switch {
		case errors.Is(err, store.ErrFormatVersion):
			return fmt.Errorf("%s: %w", m.path, err)
		case err != nil:
			reason = errors.Join(reason, fmt.Errorf("slot %d: %w", slot, err))
		case !valid || got.number > m.last.number:
			m.last, valid = got, true
		}
	}
	if !valid {
		return &store.CorruptError{File: m.path, Reason: reason.Error()}
	}
	return nil
}

// write makes next the newer slot. When it returns nil the slot is on stable storage; when the process dies in between
// the other slot, untouched, still says what was true before.
func (m *marker) write(next mark) error {
	next.number = m.last.number + 1
	next.id = m.last.id
	next.highWater = max(next.highWater, m.last.highWater)
	if _, err := m.file.WriteAt(encodeMark(next), int64(next.number%2)*pageSize); err != nil {
		return err
	}
	if err := m.file.Sync(); err != nil {
		return err
	}
	m.last = next
	return nil
}

// again makes the newer slot durable as it stands. It writes it once more: a sync may have failed, and what the page cache
// holds since may be nowhere else.
func (m *marker) again() error {
	if _, err := m.file.WriteAt(encodeMark(m.last), int64(m.last.number%2)*pageSize); err != nil {
		return err
	}
	return m.file.Sync()
}
