package seglog

import (
	"errors"
	"slices"

	"github.com/spoolmq/spool/store"
)

const (
	minReserve = 1 << 20  // Bound: of each part of the reserve, when that much can be had at all
	maxShared  = 16 << 20 // Bound: of the part for changes that store less in the end
	maxOwn     = 36 << 20 // Bound: of the part for who makes room alone: what is live in a segment of the largest size, copied
	smallPiece = 256 << 10
	largePiece = 1 << 20
)

// The reserve is space that is allocated while there is some, for the time when there is none: files in pieces, prepared
// as segments. It grows with the log to its bounds; each part takes at most one part in freeShare of what was free at Open
// and what the log had. What is drawn from it becomes a segment like any other; it is filled again as soon as there is space,
// first the part of who makes room: a log is emptied from the front, so what is live in its first segment, all of it, has to
// find a place behind the log before any space comes back.

// ReserveRoom returns how many bytes of frames fit with certainty for those who may draw on the reserve.
func (l *Log) ReserveRoom() int64 { return l.reserveRoom.Load() }

// Draw makes ReserveRoom at least n, from the reserve when the file system has nothing left. It answers store.ErrNoSpace
// when the part of the reserve that may be drawn on, the shared one or all of it, does not cover n either.
func (l *Log) Draw(n int64, all bool) error {
	l.space.waiting.Add(1)
	l.space.mu.Lock()
	l.space.waiting.Add(-1)
	defer l.space.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if l.ReserveRoom() >= n {
		return nil
	}
	full := shortage(l.grow(n))
	if !errors.Is(full, store.ErrNoSpace) {
		return full
	}
	piece := l.takePiece(n, all)
	if piece == nil {
		var err error
		if piece, err = l.fuse(n, all); err != nil {
			return shortage(err)
		}
	}
	if piece == nil {
		return full
	}
	return shortage(l.install(piece))
}

// Left returns how many bytes of frames can be appended on a full disk by who makes room, about, without a part in what
// others may draw.
func (l *Log) Left() int64 {
	l.segs.mu.Lock()
	defer l.segs.mu.Unlock()
	return l.segs.room(true) + l.segs.reserveSize() - l.segs.shared
}

// takePiece takes the smallest piece that holds n bytes and may be taken. Caller holds space.mu.
func (l *Log) takePiece(n int64, all bool) *segment {
	l.segs.mu.Lock()
	defer l.segs.mu.Unlock()
	best := -1
	for i, s := range l.segs.reserve {
		if s.capacity() >= n && (best < 0 || s.size < l.segs.reserve[best].size) {
			best = i
		}
	}
	if best < 0 || !all && l.segs.shared < l.segs.reserve[best].size {
		return nil
	}
	s := l.segs.reserve[best]
	l.segs.reserve = append(l.segs.reserve[:best:best], l.segs.reserve[best+1:]...)
	s.reserved = true
	l.segs.drawn(s, all)
	return s
}

// drawn takes note of a piece that has left the reserve. Caller holds mu.
func (s *segments) drawn(piece *segment, all bool) {
	if piece.shared = !all; piece.shared {
		s.shared -= piece.size
	}
	s.shared = min(s.shared, s.reserveSize())
}

// fuse makes a piece for n bytes of several smaller ones. They are removed before, so it fails when somebody else is faster.
// It returns nil when they do not suffice. Caller holds space.mu.
func (l *Log) fuse(n int64, all bool) (*segment, error) {
	size := wholePages(n) + overhead
	l.segs.mu.Lock()
	slices.SortFunc(l.segs.reserve, bySize)
	first, sum := len(l.segs.reserve), int64(0)
	for ; first > 0 && sum < size; first-- {
		sum += l.segs.reserve[first-1].size
	}
	if sum < size || !all && l.segs.shared < sum {
		l.segs.mu.Unlock()
		return nil, nil
	}
	parts := slices.Clone(l.segs.reserve[first:])
	l.segs.reserve = l.segs.reserve[:first:first]
	fused := &segment{header: header{size: sum}}
	l.segs.drawn(fused, all)
	l.segs.mu.Unlock()
	if err := l.removeAll(parts...); err != nil {
		return nil, err
	}
	piece, err := l.create(size-overhead, false)
	if err != nil && noSpace(err) {
		l.fillReserve()
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	piece.reserved, piece.shared = true, fused.shared
	return piece, nil
}

// putBack returns a prepared piece that was not used. Caller holds segs.mu.
func (s *segments) putBack(piece *segment) {
	if piece.shared {
		s.shared += piece.size
	}
	piece.reserved, piece.shared = false, false
	s.reserve = append(s.reserve, piece)
}

// reserveTarget is how large the reserve is to be now, and how much of it is shared: three quarters of its part, as the
// rest is for the last records of who makes room.
func (l *Log) reserveTarget() (all, shared int64) {
	span := max(minReserve, int64(l.End()-l.Start()))
	common := min(span, l.reserveMost, maxShared)
	return common + min(span, l.reserveMost), common * 3 / 4
}

// reserveSize is how large the reserve is. Caller holds mu.
func (s *segments) reserveSize() (size int64) {
	for _, piece := range s.reserve {
		size += piece.size
	}
	return size
}

// reserved is how large the reserve is.
func (l *Log) reserved() int64 {
	l.segs.mu.Lock()
	defer l.segs.mu.Unlock()
	return l.segs.reserveSize()
}

// lacking tells whether the reserve is smaller than it is to be.
func (l *Log) lacking() bool {
	want, _ := l.reserveTarget()
	return l.reserved() < want
}

// fillReserve takes space for what the reserve lacks, as far as there is some. Caller holds space.mu.
func (l *Log) fillReserve() { l.fillReserveWhile(func() bool { return true }) }

// fillReserveAside is fillReserve that goes on later when a call waits for space.
func (l *Log) fillReserveAside() {
	l.fillReserveWhile(func() bool {
		wanted := l.space.waiting.Load() > 0
		if wanted {
			l.space.wake()
		}
		return !wanted
	})
}

func (l *Log) fillReserveWhile(more func() bool) {
	tight := false
	for l.reserveMost > 0 && l.usable() == nil && l.lacking() && more() {
		size := int64(largePiece)
		if tight || l.reserved() < largePiece {
			size = smallPiece
		}
		piece, err := l.create(size-overhead, false)
		switch {
		case err == nil:
			l.enlarge(piece)
		case noSpace(err) && size > smallPiece:
			tight = true
		default:
			if !noSpace(err) && l.usable() == nil {
				l.o.Logger.Warn("filling the reserve", "dir", l.dir, "err", err)
			}
			return
		}
	}
}

// enlarge adds pieces to the reserve. What it has more than who makes room is to have alone is shared.
func (l *Log) enlarge(pieces ...*segment) {
	all, shared := l.reserveTarget()
	l.segs.mu.Lock()
	defer l.segs.mu.Unlock()
	l.segs.reserve = append(l.segs.reserve, pieces...)
	l.segs.shared = max(l.segs.shared, min(l.segs.reserveSize()-(all-shared), shared))
}

// sizeReserve decides, in Open, how large the parts of the reserve may become, of a log whose files have so many bytes. Logs
// of tiny segments, which tests make, have none.
func (l *Log) sizeReserve(had int64) {
	if l.o.SegmentSize > 0 {
		return
	}
	l.reserveMost = maxOwn
	if free, err := l.files.Free(l.dir); err == nil {
		l.reserveMost = min(maxOwn, max(minReserve, (free+had)/freeShare))
	}
}

// pieces tells whether a file found in Open may be one of the reserve.
func (l *Log) piece(s *segment) bool {
	return l.o.SegmentSize == 0 && (s.size == smallPiece || s.size == largePiece)
}
