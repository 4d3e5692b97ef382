package seglog

import (
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/spoolmq/spool/store"
)

// readGuess is how much is read when the size of a record is not known yet. Most records are smaller.
const readGuess = pageSize

var guesses = sync.Pool{New: func() any { return new([readGuess]byte) }}

// ReadRecord appends the record at pos to dst: from the ring, from a window that reads ahead, or from the file.
func (l *Log) ReadRecord(pos store.Position, dst []byte) ([]byte, error) {
	at := len(dst)
	if out, ok := l.ring.record(pos, dst); ok && pos >= l.Start() && !l.closed.Load() {
		return l.verified(out, at, pos)
	}
	switch {
	case l.closed.Load():
		return dst, store.ErrClosed
	case pos < l.Start():
		return dst, fmt.Errorf("position %d, the log starts at %d: %w", pos, l.Start(), store.ErrGone)
	case pos >= l.End():
		return dst, l.errBeyond(pos)
	}
	seg, to := l.segs.pin(pos)
	if seg == nil {
		return dst, fmt.Errorf("position %d, the log starts at %d: %w", pos, l.Start(), store.ErrGone)
	}
	defer l.unpin(seg)
	to, err := l.inFile(pos, to)
	if err != nil {
		return dst, err
	}
	out, err := l.readFrom(seg, to, pos, dst)
	if err != nil {
		return dst, closedOr(err)
	}
	return l.verified(out, at, pos)
}

// ReadSpan appends the bytes from one position up to another to dst: from the ring, or from one segment's file.
func (l *Log) ReadSpan(from, to store.Position, dst []byte) ([]byte, error) {
	to = min(to, l.End())
	switch {
	case l.closed.Load():
		return dst, store.ErrClosed
	case from < l.Start():
		return dst, fmt.Errorf("position %d, the log starts at %d: %w", from, l.Start(), store.ErrGone)
	case from >= to:
		return dst, nil
	}
	if out, ok := l.ring.span(from, to, dst); ok {
		return out, nil
	}
	seg, end := l.segs.pin(from)
	if seg == nil {
		return dst, fmt.Errorf("position %d, the log starts at %d: %w", from, l.Start(), store.ErrGone)
	}
	defer l.unpin(seg)
	if end, err := l.inFile(from, end); err != nil {
		return dst, err
	} else {
		to = min(to, end)
	}
	f, err := l.openToRead(seg)
	if err != nil {
		return dst, closedOr(err)
	}
	at := len(dst)
	out := extend(dst, int(to-from))
	n, err := readUpTo(f, out[at:], offset(seg.base, from))
	if err != nil {
		return dst, closedOr(fmt.Errorf("read %s at %d: %w", seg.path, offset(seg.base, from), err))
	}
	return out[:at+n], nil
}

// readFrom appends the record at pos to dst, from a segment whose frames end at to. Caller has pinned it.
func (l *Log) readFrom(seg *segment, to, pos store.Position, dst []byte) ([]byte, error) {
	f, err := l.openToRead(seg)
	if err != nil {
		return nil, err
	}
	if out, ok := l.ahead.record(seg, f, to, pos, dst); ok {
		return out, nil
	}
	guess := guesses.Get().(*[readGuess]byte)
	defer guesses.Put(guess)
	head, err := readUpTo(f, guess[:min(readGuess, to-pos)], offset(seg.base, pos))
	if err != nil {
		return nil, fmt.Errorf("read %s at %d: %w", seg.path, offset(seg.base, pos), err)
	}
	n, err := store.RecordLen(guess[:head])
	if err != nil {
		return nil, seg.corrupt(pos, err.Error())
	}
	if store.Position(n) > to-pos {
		return nil, seg.corrupt(pos, fmt.Sprintf("record of %d bytes, %d are left", n, to-pos))
	}
	at := len(dst)
	dst = extend(dst, n)
	if copied := copy(dst[at:], guess[:head]); copied < n {
		got, err := readUpTo(f, dst[at+copied:], offset(seg.base, pos)+int64(copied))
		if err != nil {
			return nil, fmt.Errorf("read %s at %d: %w", seg.path, offset(seg.base, pos), err)
		}
		if copied+got < n {
			return nil, seg.corrupt(pos, fmt.Sprintf("record of %d bytes, the file has %d of it", n, copied+got))
		}
	}
	l.ahead.note(pos, pos+store.Position(n))
	return dst, nil
}

// openToRead opens the file of a segment that the caller has pinned. When descriptors are short it takes that of a file that
// nobody uses: a log that has been read or written has some.
func (l *Log) openToRead(seg *segment) (vfile, error) {
	f, err := seg.open(l.files)
	for err != nil && noDescriptors(err) && l.closeIdle() {
		f, err = seg.open(l.files)
	}
	return f, err
}

// closeIdle closes the file that was not used for the longest time, and tells whether there was one. It holds nothing that is
// not synced: until then a segment is pinned.
func (l *Log) closeIdle() bool {
	l.segs.mu.Lock()
	if len(l.segs.idle) == 0 {
		l.segs.mu.Unlock()
		return false
	}
	f := l.segs.idle[0].detach()
	l.segs.idle = slices.Delete(l.segs.idle, 0, 1)
	l.segs.mu.Unlock()
	if f != nil {
		if err := f.Close(); err != nil {
			l.o.Logger.Warn("closing a segment", "err", err)
		}
	}
	return true
}

// verified compares the record in out[at:] with its checksum.
func (l *Log) verified(out []byte, at int, pos store.Position) ([]byte, error) {
	r, _, err := store.NextRecord(out[at:])
	if err == nil {
		err = r.Verify()
	}
	if err == nil {
		return out, nil
	}
	if seg, _ := l.segs.pin(pos); seg != nil {
		defer l.unpin(seg)
		return out[:at], seg.corrupt(pos, err.Error())
	}
	return out[:at], fmt.Errorf("position %d, the log starts at %d: %w", pos, l.Start(), store.ErrGone)
}

// readUpTo fills b from the file as far as the file goes.
func readUpTo(f io.ReaderAt, b []byte, at int64) (int, error) {
	n, err := f.ReadAt(b, at)
	if err == io.EOF {
		err = nil
	}
	return n, err
}
