package seglog

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// settle puts the pieces in the order of what they hold, and leaves one of those that begin at the same position.
func (s *Survey) settle() error {
	low := map[uint32]*piece{} // by salt, which no two uses of a file share: a guessed piece may be a copy of another one
	for _, p := range s.pieces {
		if l := low[p.salt]; l == nil || p.base < l.base {
			low[p.salt] = p
		}
	}
	for _, p := range s.pieces {
		p.reach(low[p.salt].base)
	}
	slices.SortStableFunc(s.pieces, func(a, b *piece) int { return cmp.Or(cmp.Compare(a.base, b.base), cmp.Compare(b.use, a.use)) })
	var kept []*piece
	for _, p := range s.pieces {
		last := len(kept) - 1
		if last < 0 || kept[last].base != p.base {
			kept = append(kept, p)
			continue
		}
		best, err := s.better(kept[last], p)
		if err != nil {
			return err
		}
		kept[last] = best
	}
	s.pieces = kept
	return nil
}

// better returns that of two pieces with one base which holds more, and tells of the other one. b is not of a later use
// than a. Of two uses the earlier one was given up without a frame, and of a file without a header it is not certain that
// it is of this spool.
func (s *Survey) better(a, b *piece) (*piece, error) {
	if !a.guessed && !b.guessed && a.use > b.use {
		return a, nil
	}
	inA, err := s.whole(a)
	if err != nil {
		return nil, err
	}
	inB, err := s.whole(b)
	if err != nil {
		return nil, err
	}
	alike := a.guessed == b.guessed || a.salt == b.salt
	if inB > inA && (alike || inA == 0) {
		a, b, inA, inB = b, a, inB, inA
	}
	if alike || inB > 0 {
		s.fault(b.path, b.from, max(0, b.length-b.from),
			fmt.Sprintf("begins at position %d like %s, and is not used: %d whole records, want %d", b.base, a.path, inB, inA))
	}
	return a, nil
}

// whole counts the records of a piece that verify, in frames that do.
func (s *Survey) whole(p *piece) (n int64, err error) {
	r := &reading{Survey: s, before: order{any: true}, Reader: Reader{
		Record: func(f Find) error {
			if f.Framed && !f.Rotten {
				n++
			}
			return nil
		},
		Frame:     func() {},
		Fault:     func(Fault) {},
		Plausible: func(byte, []byte) bool { return false },
		Message:   func(byte) bool { return false },
		Progress:  func(int64) error { return nil },
	}}
	own := *p
	own.segment = &segment{header: p.header, number: p.number, path: p.path} // it is closed for good behind a reading
	end := p.limit()
	if p.guessed {
		end = math.MaxUint64
	}
	return n, r.segment(&own, end, false)
}
