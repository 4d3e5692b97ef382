package memlog

import (
	"encoding/binary"
	"fmt"

	"github.com/spoolmq/spool/store"
)

// ReadRecord appends the record at pos to dst.
func (l *Log) ReadRecord(pos store.Position, dst []byte) ([]byte, error) {
	if l.closed.Load() {
		return dst, store.ErrClosed
	}
	end := l.End() // before the list: the segment of what lies below is in it
	if pos >= end {
		return dst, corrupt(pos, fmt.Sprintf("position %d, the log ends at %d", pos, end))
	}
	list := *l.list.Load()
	i := find(list, pos)
	if i < 0 || pos < l.Start() {
		return dst, fmt.Errorf("position %d, the log starts at %d: %w", pos, l.Start(), store.ErrGone)
	}
	b := list[i].below(end)[pos-list[i].base:]
	r, _, err := store.NextRecord(b)
	if err == nil {
		err = r.Verify()
	}
	if err != nil {
		return dst, corrupt(pos, err.Error())
	}
	return append(dst, b[:r.Size()]...), nil
}

// ReadSpan appends the bytes from one position up to another to dst, at most those of one segment.
func (l *Log) ReadSpan(from, to store.Position, dst []byte) ([]byte, error) {
	if l.closed.Load() {
		return dst, store.ErrClosed
	}
	end := l.End() // before the list: the segment of what lies below is in it
	list := *l.list.Load()
	i := find(list, from)
	if i < 0 || from < l.Start() {
		return dst, fmt.Errorf("position %d, the log starts at %d: %w", from, l.Start(), store.ErrGone)
	}
	if i+1 < len(list) {
		end = list[i+1].base
	}
	if to = min(to, end); from >= to {
		return dst, nil
	}
	return append(dst, list[i].below(to)[from-list[i].base:]...), nil
}

// below returns the bytes of the segment that are written once the log ends at end. (What is behind them may be being
// written.)
func (s *segment) below(end store.Position) []byte {
	return s.buf[:min(end-s.base, store.Position(len(s.buf)))]
}

// Replay calls f for every frame from the one at from to the end that the log has when Replay is called.
func (l *Log) Replay(from store.Position, f func(pos store.Position, payload []byte) error) error {
	if l.closed.Load() {
		return store.ErrClosed
	}
	end := l.End()
	if from > end {
		return corrupt(from, fmt.Sprintf("position %d, the log ends at %d", from, end))
	}
	for pos := from; pos < end; {
		list := *l.list.Load()
		i := find(list, pos)
		if i < 0 {
			return fmt.Errorf("replay from %d, the log starts at %d: %w", pos, l.Start(), store.ErrGone)
		}
		size, payload, ok := frame(list[i].below(end)[pos-list[i].base:])
		if !ok {
			return corrupt(pos, "not the position of a frame")
		}
		if err := f(pos, payload); err != nil {
			return err
		}
		pos += store.Position(size)
	}
	return nil
}

// frame returns the size and the payload of the frame that begins b. It is not ok when there is none: positions that
// callers keep may be wrong.
func frame(b []byte) (size int, payload []byte, ok bool) {
	if len(b) < store.FrameHeaderSize {
		return 0, nil, false
	}
	total := binary.LittleEndian.Uint32(b[8:])
	n := binary.LittleEndian.Uint32(b[12:])
	if n > store.MaxFrameSize || store.FrameSize(int(n)) != int(total) || int(total) > len(b) {
		return 0, nil, false
	}
	return int(total), b[store.FrameHeaderSize:][:n], true
}

func corrupt(p store.Position, reason string) error {
	return &store.CorruptError{File: "memory", Offset: int64(p), Reason: reason}
}
