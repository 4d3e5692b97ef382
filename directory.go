package spool

import (
	"math"

	"github.com/spoolmq/spool/store"
)

// This file finds the blocks and messages of a queue, and lets blocks go that have become empty.

// block returns a block by number, or nil when nothing of it is left.
func (st *state) block(number uint64) *block {
	i := number>>summaryBits - st.base
	if i >= uint64(len(st.dir)) || st.dir[i] == nil {
		return nil
	}
	s := st.dir[i]
	if j := int(number & summaryMask); j < len(s.blocks) {
		return s.blocks[j]
	}
	return nil
}

// locate returns the block of a message, brought up to date, and the message's offset in it. The block is nil when
// nothing of it is left. It may be away: then it is wanted, and the caller looks again later.
func (st *state) locate(seq uint64) (*block, int) {
	b := st.block(seq >> blockBits)
	if b != nil && st.here(b) {
		st.refresh(b)
	}
	return b, int(seq & blockMask)
}

// ensure returns the block of a message, made if need be.
func (st *state) ensure(seq uint64) *block {
	number := seq >> blockBits
	if b := st.block(number); b != nil {
		return b
	}
	b := newBlock(number, st.summary(number>>summaryBits), st.history.Generation())
	b.owner.hold(b)
	st.enlist(b)
	return b
}

// summary returns a summary by number, made if need be.
func (st *state) summary(want uint64) *summary {
	if len(st.dir) == 0 {
		st.base = want
	}
	for want < st.base {
		st.dir = append([]*summary{nil}, st.dir...)
		st.base--
	}
	for want >= st.base+uint64(len(st.dir)) {
		st.dir = append(st.dir, nil)
	}
	if st.dir[want-st.base] == nil {
		st.dir[want-st.base] = &summary{number: want}
	}
	return st.dir[want-st.base]
}

// hold gives a block its place.
func (s *summary) hold(b *block) {
	j := int(b.number & summaryMask)
	for len(s.blocks) <= j {
		s.blocks = append(s.blocks, nil)
	}
	s.blocks[j] = b
}

// each calls f for every block in order until it answers false. Summaries for which skip answers true are passed over.
func (st *state) each(skip func(*summary) bool, f func(*block) bool) {
	for _, s := range st.dir {
		if s == nil || skip(s) {
			continue
		}
		for _, b := range s.blocks {
			if b != nil && !f(b) {
				return
			}
		}
	}
}

// eachActive calls f for every block with active messages in order, from one on, until it answers false.
func (st *state) eachActive(from uint64, f func(*block) bool) {
	for _, s := range st.dir {
		if s == nil || s.count[active] == 0 || s.number < from>>summaryBits {
			continue
		}
		j := 0
		if s.number == from>>summaryBits {
			j = int(from & summaryMask)
		}
		for j = s.active.next(j); j >= 0; j = s.active.next(j + 1) {
			if !f(s.blocks[j]) {
				return
			}
		}
	}
}

// oldest returns the oldest active message, or its block alone when that is away.
func (st *state) oldest() (*block, int) {
	if st.count[active] == 0 {
		return nil, 0
	}
	for _, s := range st.dir {
		if s == nil || s.count[active] == 0 {
			continue
		}
		b := s.blocks[s.active.next(0)]
		if b.body == nil {
			return b, 0
		}
		b.used = true
		st.refresh(b)
		return b, b.active.next(0)
	}
	return nil, 0
}

// oldestHidden returns the oldest message that is active but for its send's level.
func (st *state) oldestHidden() (*block, int) {
	for seq := st.veiled; st.count[hidden] > 0 && seq < st.next; {
		b := st.block(seq >> blockBits)
		if b != nil && b.count[hidden] > 0 {
			if off := b.hidden.next(int(seq & blockMask)); off >= 0 {
				st.veiled = b.first() + uint64(off)
				return b, off
			}
		}
		seq = (seq>>blockBits + 1) << blockBits
	}
	return nil, 0
}

// alive tells whether a kind is an undeleted message that the counters show.
func alive(k kind) bool { return k == active || k == inactive || k == delayed || k == moving }

func (s *summary) alive() int32 {
	return s.count[active] + s.count[inactive] + s.count[delayed] + s.count[moving]
}

func (b *block) alive() int32 {
	return b.count[active] + b.count[inactive] + b.count[delayed] + b.count[moving]
}

// oldestAlive returns the oldest undeleted message that is not hidden. Its block may be away: then it is wanted.
func (st *state) oldestAlive() (b *block, off int) {
	st.each(func(s *summary) bool { return s.alive() == 0 }, func(c *block) bool {
		if c.alive() == 0 {
			return true
		}
		if b = c; !st.here(c) {
			return false
		}
		st.refresh(c)
		for off = c.next(0); off >= 0 && !alive(c.kind(off)); {
			off = c.next(off + 1)
		}
		return false
	})
	return b, off
}

// lowest returns the position of the lowest record that a message still needs, or limit when that is lower.
func (st *state) lowest(limit store.Position) store.Position {
	st.each(func(s *summary) bool { return s.total() == 0 }, func(b *block) bool {
		if b.total() > 0 && b.low() < limit {
			limit = min(limit, st.sink(b))
		}
		return true
	})
	return limit
}

// sink makes a block's lower bound of positions exact, if it is in memory, and returns it.
func (st *state) sink(b *block) store.Position {
	if b.body == nil {
		return b.away.low
	}
	st.refresh(b)
	low := store.Position(math.MaxUint64)
	for off := b.next(0); off >= 0; off = b.next(off + 1) {
		low = min(low, st.cursor.get(&b.places, off).pos)
	}
	b.places.low = low
	return low
}

// from returns the first block at or behind a number, or nil.
func (st *state) from(number uint64) *block {
	i, j := uint64(0), int(number&summaryMask)
	if want := number >> summaryBits; want >= st.base {
		i = min(want-st.base, uint64(len(st.dir)))
	} else {
		j = 0
	}
	for _, s := range st.dir[i:] {
		if s != nil && j < len(s.blocks) {
			for _, b := range s.blocks[j:] {
				if b != nil {
					return b
				}
			}
		}
		j = 0
	}
	return nil
}

// retire lets the last block go, which stays while it can still take messages, when a new one begins and it is empty.
func (st *state) retire(next uint64) {
	if next == 0 {
		return
	}
	if b := st.block(next - 1); b != nil && b.total() == 0 {
		st.forget(b)
	}
}

// prune lets an emptied block go, unless new messages still go there; they do not need one that is away.
func (st *state) prune(b *block) {
	if b.total() == 0 && (st.next>>blockBits != b.number || b.body == nil) && !st.replaying {
		st.forget(b)
	}
}

func (st *state) forget(b *block) {
	s := b.owner
	st.leave(b)
	s.blocks[b.number&summaryMask] = nil
	if b.rewind != nil {
		st.index.Remove(b.rewind)
	}
	if b.body != nil {
		st.delist(b)
	} else {
		st.unwatch(b)
		st.out--
	}
	last := st.next >> blockBits >> summaryBits
	if s.total() == 0 && s.number != last && s.empty() {
		st.dir[s.number-st.base] = nil
	}
	for len(st.dir) > 0 && st.dir[0] == nil {
		st.dir = st.dir[1:]
		st.base++
	}
}

// leave notes that a block's records in the index are superfluous: the next checkpoint looks at the queue for that alone.
func (st *state) leave(b *block) {
	if b.saved.state != 0 {
		st.left = append(st.left, leftover{b.number, b.saved})
		st.touched = true
	}
}

// inIndex tells whether the index has records of a block, though the queue's own may not be there.
func (st *state) inIndex() bool {
	if len(st.left) > 0 {
		return true
	}
	saved := false
	st.each(func(*summary) bool { return false }, func(b *block) bool {
		saved = b.saved.state > 0
		return !saved
	})
	return saved
}

// A leftover is what the index has of a block that is no more.
type leftover struct {
	number uint64
	saved  shelved
}

func (s *summary) empty() bool {
	for _, b := range s.blocks {
		if b != nil {
			return false
		}
	}
	return true
}
