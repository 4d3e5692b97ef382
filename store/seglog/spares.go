package seglog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	maxSpares   = 3               // Bound: dropped files kept beside the prepared one while segments fill quickly
	quietSpares = 1               // Bound: and when they do not
	quietAfter  = 5 * time.Second // without a new segment
	smallSpare  = 4               // a standard file of less than one part in smallSpare of the present size is not used ahead of need
)

// Dropped files are used again, because a sync of blocks that hold data already takes half the time of one of blocks that
// do not, and an unlink of 32 MB keeps a disk busy for 10 ms. A log that is filled and dropped at 200 MB a second gives
// its segments back in twos and threes, whenever a checkpoint lets them go: with one spare, two of three were unlinked.

func bySize(a, b *segment) int { return cmp.Compare(a.size, b.size) }

// giveUp makes a spare of a file that holds nothing, and removes the smallest when that is one too many. One that could not be
// removed before is removed. Caller holds space.mu.
func (l *Log) giveUp(s *segment) error {
	if s.isOver() || !l.standard(s) {
		return l.remove(s)
	}
	if l.fillReserve(); l.lacking() {
		return l.remove(s) // whoever makes room comes before whoever takes it
	}
	if surplus := l.surplus(s); surplus == s {
		return l.remove(s)
	} else if surplus != nil {
		if err := l.removeAll(surplus); err != nil {
			return err
		}
	}
	l.step(stepDropRecycle)
	f, err := s.open(l.files)
	if err != nil {
		return fmt.Errorf("recycle %s: %w", s.path, err) // not closed for good: without a descriptor it is tried again
	}
	l.syncs.Add(1)
	err = f.Sync() // pages under write-back would hold up the writes to come
	if err = errors.Join(err, s.close()); err != nil {
		return fmt.Errorf("recycle %s: %w", s.path, err)
	}
	spare := &segment{header: s.header, number: s.number, path: s.path}
	l.segs.mu.Lock()
	l.segs.spares = append(l.segs.spares, spare)
	many := len(l.segs.spares) > quietSpares
	l.segs.mu.Unlock()
	if many {
		l.space.wake() // not for ever
	}
	return nil
}

// surplus returns what has to go, and takes it from the spares, before s can become one: s itself, a smaller spare, or nil.
func (l *Log) surplus(s *segment) *segment {
	l.segs.mu.Lock()
	defer l.segs.mu.Unlock()
	if len(l.segs.spares) < maxSpares {
		return nil
	}
	least := slices.MinFunc(append([]*segment{s}, l.segs.spares...), bySize)
	l.segs.spares = slices.DeleteFunc(l.segs.spares, func(o *segment) bool { return o == least })
	return least
}

// takeSpare returns the largest spare if it holds n bytes, or nil.
func (l *Log) takeSpare(n int64) *segment {
	l.segs.mu.Lock()
	defer l.segs.mu.Unlock()
	if len(l.segs.spares) == 0 {
		return nil
	}
	s := slices.MaxFunc(l.segs.spares, bySize)
	if s.capacity() < n {
		return nil
	}
	l.segs.spares = slices.DeleteFunc(l.segs.spares, func(o *segment) bool { return o == s })
	return s
}

// thinSpares leaves quietSpares of them, the largest, when no segment has been begun for some time. It returns when to
// look again, 0 for not at all.
func (l *Log) thinSpares() (again time.Duration, err error) {
	l.space.mu.Lock()
	defer l.space.mu.Unlock()
	if l.usable() != nil {
		return 0, nil
	}
	quiet := time.Since(l.space.opened) - time.Duration(l.space.began.Load())
	l.segs.mu.Lock()
	slices.SortFunc(l.segs.spares, func(a, b *segment) int { return bySize(b, a) })
	var gone []*segment
	if n := len(l.segs.spares); n > quietSpares {
		if again = quietAfter - quiet; again <= 0 {
			again, gone = 0, slices.Clone(l.segs.spares[quietSpares:])
			l.segs.spares = l.segs.spares[:quietSpares]
		}
	}
	l.segs.mu.Unlock()
	return again, l.removeAll(gone...)
}

// dropSpares removes the spares, because their space is needed, and tells whether there were any. Caller holds space.mu.
func (l *Log) dropSpares() (bool, error) {
	l.segs.mu.Lock()
	spares := l.segs.spares
	l.segs.spares = nil
	l.segs.mu.Unlock()
	return len(spares) > 0, l.removeAll(spares...)
}
