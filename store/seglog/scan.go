package seglog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/spoolmq/spool/store"
)

const scanSize = 512 << 10 // read at a time

// A scanner reads the frames of segments through one buffer, which grows for a larger frame: Bound: MaxFrameSize, and
// never before the header that asks for it has verified and the segment has room for it.
type scanner struct {
	files vfs
	seg   *segment
	file  vfile
	buf   []byte // bytes of the file from at on
	at    int64
}

// enter makes seg the segment that is read. Caller has pinned it.
func (s *scanner) enter(seg *segment) error {
	f, err := seg.open(s.files)
	if err != nil {
		return err
	}
	s.seg, s.file, s.buf = seg, f, s.buf[:0]
	return nil
}

// A badFrame says why what stands somewhere is no frame. Reads that fail are other errors.
type badFrame struct{ reason string }

func (e *badFrame) Error() string { return e.reason }

// frame returns the frame at pos, which ends at or below to. The payload is valid until the next call. The error is a
// *badFrame when there is no frame that verifies; bodies are not looked at.
func (s *scanner) frame(pos, to store.Position) (store.FrameHeader, []byte, error) {
	if to < pos+store.FrameHeaderSize {
		return store.FrameHeader{}, nil, &badFrame{fmt.Sprintf("%d bytes are left for a frame", to-pos)}
	}
	b, err := s.bytes(pos, store.FrameHeaderSize)
	if err != nil {
		return store.FrameHeader{}, nil, err
	}
	h, err := store.ParseFrameHeader(b, s.seg.salt)
	switch {
	case err != nil:
		return h, nil, &badFrame{err.Error()}
	case h.Pos != pos:
		return h, nil, &badFrame{fmt.Sprintf("frame says it is at position %d, want %d", h.Pos, pos)}
	case h.Synced > pos:
		return h, nil, &badFrame{fmt.Sprintf("frame at %d says that %d is synced", pos, h.Synced)}
	case store.Position(h.Size) > to-pos:
		return h, nil, &badFrame{fmt.Sprintf("frame of %d bytes, %d are left", h.Size, to-pos)}
	}
	b, err = s.bytes(pos, int(h.Size))
	if err != nil {
		return h, nil, err
	}
	return h, b[store.FrameHeaderSize:][:h.Payload], nil
}

// bytes returns n bytes at pos. They are valid until the next call.
func (s *scanner) bytes(pos store.Position, n int) ([]byte, error) {
	from := offset(s.seg.base, pos)
	if from < s.at || from+int64(n) > s.at+int64(len(s.buf)) {
		if err := s.fill(from, n); err != nil {
			return nil, err
		}
	}
	if from+int64(n) > s.at+int64(len(s.buf)) {
		return nil, &badFrame{fmt.Sprintf("file ends at %d, want %d more bytes", s.at+int64(len(s.buf)), from+int64(n)-s.at-int64(len(s.buf)))}
	}
	return s.buf[from-s.at:][:n], nil
}

// fill reads at least n bytes from offset from on, if the file has them, and the rest of a buffer.
func (s *scanner) fill(from int64, n int) error {
	if cap(s.buf) < n || cap(s.buf) < scanSize {
		s.buf = make([]byte, 0, max(n, scanSize))
	}
	s.buf = s.buf[:min(int64(cap(s.buf)), max(s.seg.size-from, 0))]
	got, err := s.file.ReadAt(s.buf, from)
	s.at, s.buf = from, s.buf[:got]
	if err != nil && err != io.EOF {
		return fmt.Errorf("read %s at %d: %w", s.seg.path, from, err)
	}
	return nil
}

// An order is what a frame must continue: the frame before it.
type order struct {
	any   bool   // nothing is known of the frame before
	crc   uint32 // of the frame before
	epoch uint32 // of the frame before, or lower
}

// next verifies that h continues what came before it, and makes it what the next one has to continue.
func (o *order) next(h store.FrameHeader) error {
	if !o.any && h.Prev != o.crc {
		return &badFrame{fmt.Sprintf("frame follows one with checksum %#x, want %#x", h.Prev, o.crc)}
	}
	if h.Epoch < o.epoch {
		return &badFrame{fmt.Sprintf("frame of epoch %d behind one of %d", h.Epoch, o.epoch)}
	}
	*o = order{crc: h.CRC, epoch: h.Epoch}
	return nil
}

// A trace is what the frame headers in a part of a segment tell, whether the frames before them are whole or not.
type trace struct {
	synced store.Position // the highest synced position
	end    store.Position // the furthest end of a frame, within the segment
}

// search looks for frame headers from position from to the end of the segment, at every place where one can be.
func (s *scanner) search(from store.Position) (trace, error) {
	found := trace{end: from}
	var magic [4]byte
	binary.LittleEndian.PutUint32(magic[:], store.FrameMagic)
	limit := s.seg.limit()
	for from+store.FrameHeaderSize <= limit {
		if err := s.fill(offset(s.seg.base, from), store.FrameHeaderSize); err != nil {
			return found, err
		}
		b := s.buf[:min(uint64(len(s.buf)), uint64(limit-from))]
		i := 0
		for i+store.FrameHeaderSize <= len(b) {
			hit := bytes.Index(b[i:], magic[:])
			if hit < 0 {
				break
			}
			if i += hit; i%store.FrameAlign != 0 {
				i++
				continue
			}
			if i+store.FrameHeaderSize > len(b) {
				break
			}
			pos := from + store.Position(i)
			if h, err := store.ParseFrameHeader(b[i:], s.seg.salt); err == nil && h.Pos == pos && h.Synced <= pos {
				found.synced = max(found.synced, h.Synced)
				found.end = max(found.end, min(pos+store.Position(h.Size), limit))
			}
			i += store.FrameAlign
		}
		if len(b) < len(s.buf) || len(b) < scanSize {
			break // the end of the segment, or of the file
		}
		from += store.Position(len(b)-store.FrameHeaderSize) &^ (store.FrameAlign - 1)
	}
	return found, nil
}
