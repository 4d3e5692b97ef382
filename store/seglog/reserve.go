package seglog

import (
	"errors"

	"github.com/spoolmq/spool/store"
)

const (
	minReserve   = 1 << 20  // Bound: of the reserve, when that much can be had at all
	maxReserve   = 16 << 20 // Bound: of the reserve
	smallPiece   = 256 << 10
	largePiece   = 1 << 20
	keptFraction = 4 // one part of the reserve in keptFraction is for those alone who make room
)

// The reserve is space that is allocated while there is some, for the time when there is none: files in pieces, prepared
// as segments. It grows with the log to maxReserve, and takes at most one part in freeShare of what was free at Open.
// What is drawn from it becomes a segment like any other; it is filled again as soon as there is space.

// ReserveRoom returns how many bytes of frames fit with certainty for those who may draw on the reserve.
func (l *Log) ReserveRoom() int64 { return l.reserveRoom.Load() }

// Draw makes ReserveRoom at least n, from the reserve when the file system has nothing left. It answers store.ErrNoSpace
// when the part of the reserve that may be drawn on, three quarters or all of it, does not cover n either.
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
		return full
	}
	return shortage(l.install(piece))
}

// takePiece takes the smallest piece that holds n bytes, unless that leaves less than the part that is kept. Caller holds
// space.mu.
func (l *Log) takePiece(n int64, all bool) *segment {
	l.segs.mu.Lock()
	defer l.segs.mu.Unlock()
	best, total := -1, int64(0)
	for i, s := range l.segs.reserve {
		total += s.size
		if s.capacity() >= n && (best < 0 || s.size < l.segs.reserve[best].size) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	s := l.segs.reserve[best]
	if !all && total-s.size < l.space.reserved/keptFraction {
		return nil
	}
	l.segs.reserve = append(l.segs.reserve[:best:best], l.segs.reserve[best+1:]...)
	s.reserved = true
	return s
}

// putBack returns a prepared piece that was not used. Caller holds segs.mu.
func (s *segments) putBack(piece *segment) {
	piece.reserved = false
	s.reserve = append(s.reserve, piece)
}

// reserveTarget is how large the reserve is to be now.
func (l *Log) reserveTarget() int64 {
	return min(max(minReserve, int64(l.End()-l.Start())), l.reserveMost)
}

// reserveSize is how large the reserve is.
func (l *Log) reserveSize() (size int64) {
	l.segs.mu.Lock()
	defer l.segs.mu.Unlock()
	for _, s := range l.segs.reserve {
		size += s.size
	}
	return size
}

// fillReserve takes space for what the reserve lacks, as far as there is some. Caller holds space.mu.
func (l *Log) fillReserve() {
	for l.usable() == nil {
		have := l.reserveSize()
		l.space.reserved = max(l.space.reserved, have)
		if have >= l.reserveTarget() {
			return
		}
		size := int64(largePiece)
		if have < largePiece {
			size = smallPiece
		}
		piece, err := l.create(size-overhead, false)
		if err != nil {
			if !noSpace(err) && l.usable() == nil {
				l.o.Logger.Warn("filling the reserve", "dir", l.dir, "err", err)
			}
			return
		}
		l.segs.mu.Lock()
		l.segs.reserve = append(l.segs.reserve, piece)
		l.segs.mu.Unlock()
	}
}

// sizeReserve decides, in Open, how large the reserve may become. Logs of tiny segments, which tests make, have none.
func (l *Log) sizeReserve() {
	if l.o.SegmentSize > 0 {
		return
	}
	l.reserveMost = maxReserve
	if free, err := l.files.Free(l.dir); err == nil {
		l.reserveMost = min(maxReserve, max(minReserve, free/freeShare))
	}
}

// pieces tells whether a file found in Open may be one of the reserve.
func (l *Log) piece(s *segment) bool {
	return l.o.SegmentSize == 0 && (s.size == smallPiece || s.size == largePiece)
}
