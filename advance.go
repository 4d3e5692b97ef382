package spool

import (
	"math"

	"github.com/spoolmq/spool/rewind"
)

// advance takes into account what fell due up to now, or up to the latest instant that somebody has looked at, in one step of
// bounded size, and tells whether there is more to do: then the caller makes st.moves, reads st.wanted, may let others have the
// lock, and calls again. The order is that of what decides: leases that ended may become moves, then ages, then the ends of lives.
func (st *state) advance(now int64) (more bool) {
	now = st.observe(now)
	if st.wheel.Advance(now, stepSize, st.due) || len(st.moves) >= stepSize || len(st.wanted) > 0 {
		return true
	}
	if st.ageAt <= now && st.agePass(now) || len(st.moves) > 0 {
		return true
	}
	if st.expireAt <= now {
		st.expirePass(now)
		return true
	}
	if st.fadeAt <= now {
		st.fadePass(now)
		return true
	}
	return false
}

// due is the end of a lease or a delay, or the earliest one in a block that is away.
func (st *state) due(seq uint64, at int64) {
	if seq&awayBit != 0 {
		b := st.block(seq &^ awayBit)
		b.away.timer = 0
		st.here(b)
		return
	}
	b, off := st.locate(seq)
	if b == nil {
		return
	}
	e := b.entry(off)
	if e == nil || e.due != at {
		return
	}
	e.timer = 0
	switch e.kind {
	case inactive:
		st.lapse(b, off, at)
	case delayed:
		st.shift(b, off, delayed, active)
		e.kind, e.due = active, 0
		st.noteAge(b, st.ageBase(b, off, e))
	}
}

// agePass moves messages that have waited MaxAge and are not leased, as many as a step may.
func (st *state) agePass(now int64) (more bool) {
	dl := st.meta.DeadLetter
	if dl == nil || dl.MaxAge == 0 {
		st.ageAt = never
		return false
	}
	limit := now - int64(dl.MaxAge) // ages that began here or earlier are due
	st.ageAt = never
	st.each(func(s *summary) bool { return s.total() == 0 }, func(b *block) bool {
		if b.ageMin <= limit && !more {
			if st.here(b) {
				st.ageBlock(b, limit, int64(dl.MaxAge))
			}
			more = len(st.moves) >= stepSize || len(st.wanted) >= pageStep
		}
		st.ageAt = min(st.ageAt, after(b.ageMin, int64(dl.MaxAge)))
		return true
	})
	return more || len(st.wanted) > 0
}

// ageBlock moves the messages of one block whose age began at limit or earlier. What ends its life before the move
// would have been due is left to expirePass.
func (st *state) ageBlock(b *block, limit, maxAge int64) {
	st.refresh(b)
	b.ageMin = math.MaxInt64
	for off := b.next(0); off >= 0; off = b.next(off + 1) {
		k := b.kind(off)
		if k != active && k != delayed {
			continue
		}
		e := b.entry(off)
		base := st.ageBase(b, off, e)
		if base > limit || len(st.moves) >= stepSize {
			b.ageMin = min(b.ageMin, base)
			continue
		}
		at := st.cursor.get(&b.places, off).at
		if at <= st.floors.expired || after(at, int64(st.meta.Retention)) <= after(base, maxAge) {
			continue
		}
		if e == nil {
			e = st.put(b, off)
		}
		st.move(b, off, e, st.ageRule(e), after(base, maxAge))
	}
}

// expirePass ends the messages whose life is over, one block's worth, and sets expireAt.
func (st *state) expirePass(now int64) {
	limit := max(now-int64(st.meta.Retention), st.floors.expired)
	b := st.firstAlive()
	if b == nil {
		st.expireAt = never
		return
	}
	first, last := b.span()
	switch {
	case last <= limit && !b.unsettled():
		st.empty(b)
		return
	case b.body == nil && first > limit:
		st.expireAt = after(first, int64(st.meta.Retention))
		return
	case !st.here(b):
		return
	}
	st.refresh(b)
	for off := b.next(0); off >= 0; off = b.next(off + 1) {
		if k := b.kind(off); k != active && k != inactive && k != delayed {
			continue
		}
		at := st.cursor.get(&b.places, off).at
		if at > limit {
			st.expireAt = after(at, int64(st.meta.Retention))
			return
		}
		st.remove(b, off)
	}
}

// firstAlive returns the first block with messages that may expire.
func (st *state) firstAlive() (first *block) {
	st.each(func(s *summary) bool { return s.alive() == s.count[moving] }, func(b *block) bool {
		if b.alive() == b.count[moving] {
			return true
		}
		first = b
		return false
	})
	return first
}

// empty makes all messages of a block gone.
func (st *state) empty(b *block) {
	if b.body != nil {
		for i := range b.entries {
			if e := &b.entries[i]; e.kind != gone {
				st.disarm(b, e)
			}
		}
		b.entries, b.dead = nil, 0
		b.active, b.deleted, b.hidden = bitmap{}, bitmap{}, bitmap{}
	}
	for k := active; k < kinds; k++ {
		st.tally(b, k, -b.count[k])
	}
	st.prune(b)
}

// fadePass ends the rewindable messages that have passed out of the window, one block's worth, and sets fadeAt.
func (st *state) fadePass(now int64) {
	limit := now - int64(st.meta.Rewind)
	var first *block
	st.each(func(s *summary) bool { return s.count[rewindable] == 0 }, func(b *block) bool {
		if b.count[rewindable] == 0 {
			return true
		}
		first = b
		return false
	})
	if first == nil {
		st.fadeAt = never
		return
	}
	begin, end := first.span()
	switch {
	case first.body == nil && end <= limit:
		st.tally(first, rewindable, -first.count[rewindable])
		st.prune(first)
		return
	case first.body == nil && begin > limit:
		st.fadeAt = after(begin, int64(st.meta.Rewind))
		return
	case !st.here(first):
		return
	}
	st.refresh(first)
	for off := first.deleted.next(0); off >= 0; off = first.deleted.next(off + 1) {
		at := st.cursor.get(&first.places, off).at
		if at > limit {
			st.fadeAt = after(at, int64(st.meta.Rewind))
			return
		}
		st.remove(first, off)
	}
}

// refresh brings a block's bits and entries up to date with the rewinds and drops since it was last looked at. Its
// counts are right already. It is in memory.
func (st *state) refresh(b *block) {
	if b.generation != st.history.Generation() {
		st.refreshTo(b, math.MaxUint64)
		b.generation = st.history.Generation() // what is forgotten by now concerned no deletion in it
	}
}

// refreshTo is refresh with the events whose records lie before a position: what replay has seen.
func (st *state) refreshTo(b *block, before uint64) {
	events := st.history.Since(b.generation, before)
	if len(events) == 0 {
		return
	}
	if b.deleted != (bitmap{}) {
		st.decide(b, before)
	}
	b.generation = events[len(events)-1].Generation
	b.dirty, st.touched = true, true
}

// decide makes the deletions of a block what the events before a position have made of them. They are asked once for the
// whole block: they may be a thousand, and so may the deletions.
func (st *state) decide(b *block, before uint64) {
	first, last := b.span()
	var room [4]rewind.Span
	spans := st.history.Spans(room[:0], b.generation, before, first, last)
	for i := 0; i < len(b.entries); i++ { // drop may end it early
		e := &b.entries[i]
		if e.kind != rewindable {
			continue
		}
		off := int(e.off)
		for len(spans) > 1 && spans[0].To < st.cursor.get(&b.places, off).at { // EnqueuedAt does not decrease
			spans = spans[1:]
		}
		if len(spans) == 0 {
			return
		}
		switch s := &spans[0]; s.Outcome {
		case rewind.Restored:
			b.deleted.clear(off)
			b.active.set(off)
			*e = entry{off: e.off, kind: active, rewinds: e.rewinds + 1, base: s.Event.At, nonce: e.nonce + 1}
		case rewind.Dropped:
			b.deleted.clear(off)
			b.drop(e)
		}
	}
}

// instant is where a rewind to an instant begins to bring messages back: nothing older than the window.
func (st *state) instant(to, now int64) int64 {
	return max(to, now-int64(st.meta.Rewind)+1)
}

// restorable counts the rewindable messages enqueued at an instant or later.
func (st *state) restorable(from int64) (n int64) {
	st.restore(from, func(_ *block, k int32) { n += int64(k) })
	return n
}

// rewind brings back every rewindable message enqueued at an instant or later, by the counts of their blocks; bits
// follow when a block is next looked at. The caller records the event and adds it to the history in the same step.
func (st *state) rewind(from, now int64) (n int64) {
	st.restore(from, func(b *block, k int32) {
		n += int64(k)
		st.tally(b, rewindable, -k)
		st.tally(b, active, k)
		st.noteAge(b, now)
	})
	if n > 0 {
		st.expireAt = min(st.expireAt, after(from, int64(st.meta.Retention)))
	}
	return n
}

// restore calls f with each block that has rewindable messages enqueued at an instant or later, and their number. Only
// the block in which the instant lies is looked into: caller has checked settledEdge.
func (st *state) restore(from int64, f func(*block, int32)) {
	st.index.Ascend(st.index.Find(from), func(r *rewind.Block) bool {
		b := st.block(r.Number)
		k := b.count[rewindable]
		if first, _ := b.span(); k > 0 && first < from {
			if b.body == nil {
				return true // it ends before that instant
			}
			st.refresh(b)
			k = st.countDeleted(b, func(at int64) bool { return at >= from })
		}
		if k > 0 {
			f(b, k)
		}
		return true
	})
}

// countDeleted counts the rewindable messages of a block whose EnqueuedAt is in a set. Caller has refreshed b.
func (st *state) countDeleted(b *block, in func(at int64) bool) (n int32) {
	for off := b.deleted.next(0); off >= 0; off = b.deleted.next(off + 1) {
		if in(st.cursor.get(&b.places, off).at) {
			n++
		}
	}
	return n
}

// narrow ends every rewindable message enqueued at an instant or earlier, by counts as rewind does. Caller has checked
// settledEdge of what lies behind the instant.
func (st *state) narrow(upTo int64) {
	var emptied []*block
	st.each(func(s *summary) bool { return s.count[rewindable] == 0 }, func(b *block) bool {
		k := b.count[rewindable]
		if first, last := b.span(); k > 0 && last > upTo {
			if first > upTo {
				return false
			}
			st.refresh(b)
			k = st.countDeleted(b, func(at int64) bool { return at <= upTo })
		}
		st.tally(b, rewindable, -k)
		if b.total() == 0 {
			emptied = append(emptied, b)
		}
		return true
	})
	for _, b := range emptied {
		st.prune(b)
	}
}
