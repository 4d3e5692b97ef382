package seglog

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spoolmq/spool/store"
)

// Replay calls f for every frame from the one at from to the end that the log has when Replay is called.
func (l *Log) Replay(from store.Position, f func(pos store.Position, payload []byte) error) error {
	if l.closed.Load() {
		return store.ErrClosed
	}
	end := l.End()
	if from > end {
		return l.errBeyond(from)
	}
	if _, err := l.inFile(end, end); err != nil {
		return err
	}
	s := scanner{files: l.files}
	before := order{any: from > 0}
	for pos := from; pos < end; {
		seg, to := l.segs.pin(pos)
		if seg == nil {
			return fmt.Errorf("replay from %d, the log starts at %d: %w", pos, l.Start(), store.ErrGone)
		}
		next, err := l.replaySegment(&s, seg, pos, min(to, end), &before, f)
		l.unpin(seg)
		if err != nil {
			return err
		}
		pos = next
	}
	return nil
}

// replaySegment replays the frames of one segment from pos to to. Caller has pinned it.
func (l *Log) replaySegment(s *scanner, seg *segment, pos, to store.Position, before *order,
	f func(pos store.Position, payload []byte) error) (store.Position, error) {
	if err := s.enter(seg); err != nil {
		return pos, closedOr(err)
	}
	for pos < to {
		h, payload, err := s.frame(pos, to)
		if err == nil {
			err = before.next(h)
		}
		if err == nil {
			if e := store.CheckHeads(h, payload, false); e != nil {
				err = &badFrame{e.Error()}
			}
		}
		if bad := (*badFrame)(nil); errors.As(err, &bad) {
			return pos, seg.corrupt(pos, bad.reason)
		}
		if err != nil {
			return pos, closedOr(err)
		}
		if err := f(pos, payload); err != nil {
			return pos, err
		}
		pos += store.Position(h.Size)
	}
	return pos, nil
}

// closedOr turns the error of a file that Close has closed meanwhile into store.ErrClosed.
func closedOr(err error) error {
	if errors.Is(err, fs.ErrClosed) {
		return store.ErrClosed
	}
	return err
}
