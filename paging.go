package spool

import (
	"math"
	"sync"

	"github.com/spoolmq/spool/rewind"
)

// This file keeps the bodies of a queue's blocks: which are in memory, which are wanted there, and what is known of the
// others. It does no I/O: whoever meets a block that is away wants it and has no effect, and its caller reads the block
// without the queue's lock and begins anew.

// awayBit marks a timer as that of a block that is away.
const awayBit = 1 << 63

// Bytes that things take in memory, about.
const (
	bodyBytes   = 640
	entryBytes  = 48
	anchorBytes = 32
	movedBytes  = 32
	timerBytes  = 24
	placeBytes  = 6 // of a message, at most
)

// memory is what the bodies and timers of a queue take, in bytes.
func (st *state) memory() int64 { return st.bytes + int64(st.wheel.Len())*timerBytes }

// weigh notes what a body takes by now.
func (st *state) weigh(b *block) {
	w := bodyBytes + cap(b.entries)*entryBytes + cap(b.places.data) + cap(b.places.anchors)*anchorBytes + cap(b.places.moved)*movedBytes
	st.bytes += int64(w) - int64(b.weight)
	b.weight = int32(w)
}

// heft is what a block takes at most when it has been read, in bytes, as far as its counts tell.
func (b *block) heft() int64 {
	entries := int64(b.total())
	if entries > blockSize/2 {
		entries = blockSize
	}
	return bodyBytes + entries*entryBytes + int64(b.stub().held)*placeBytes + int64(b.count[inactive]+b.count[delayed])*timerBytes
}

// put returns the entry of a message, made if need be.
func (st *state) put(b *block, off int) *entry {
	room := cap(b.entries)
	e := b.put(off)
	if cap(b.entries) != room {
		st.weigh(b)
	}
	return e
}

// enlist adds a block to those in memory, as the last one that the pager will look at.
func (st *state) enlist(b *block) {
	st.weigh(b)
	st.inside++
	if st.hand == nil {
		b.before, b.behind = b, b
		st.hand = b
		return
	}
	b.before, b.behind = st.hand.before, st.hand
	b.before.behind, b.behind.before = b, b
}

// delist takes a block out of those in memory.
func (st *state) delist(b *block) {
	st.bytes -= int64(b.weight)
	st.inside--
	if st.cursor.of == &b.places {
		st.cursor = cursor{}
	}
	if st.hand == b {
		st.hand = b.behind
	}
	b.before.behind, b.behind.before = b.behind, b.before
	if st.hand == b {
		st.hand = nil
	}
	b.before, b.behind = nil, nil
}

// here tells whether a block is in memory. One that is not is wanted from now on.
func (st *state) here(b *block) bool {
	if b.body != nil {
		b.used = true
		return true
	}
	if !b.wanted {
		b.wanted = true
		st.wanted = append(st.wanted, b)
	}
	return false
}

// missing returns up to max of the wanted blocks that are away, as many as make a portion but always one, the latest wanted
// first, and what they take when they have been read. It forgets those that are not away or are no more.
func (st *state) missing(max int) (list []*block, bytes int64) {
	keep := st.wanted[:0]
	for _, b := range st.wanted {
		if b.body != nil || st.block(b.number) != b {
			b.wanted = false
			continue
		}
		keep = append(keep, b)
	}
	clear(st.wanted[len(keep):])
	if st.wanted = keep; len(keep) == 0 {
		st.wanted = nil
	}
	for i := len(keep) - 1; i >= 0 && len(list) < max; i-- {
		n := keep[i].heft()
		if len(list) > 0 && bytes+n > st.portion {
			break
		}
		list, bytes = append(list, keep[i]), bytes+n
	}
	return list, bytes
}

// evict puts a block's body out of memory. Caller has checked evictable.
func (st *state) evict(b *block) {
	p := &b.places
	first, last := p.span()
	b.away = away{first: first, last: last, low: p.low, bytes: p.bytes, held: int32(p.held), due: never}
	for i := range b.entries {
		e := &b.entries[i]
		if e.timer != 0 || st.replaying && e.timed() {
			b.away.due = min(b.away.due, e.due)
		}
		st.disarm(b, e)
	}
	st.delist(b)
	keepEntries(b.entries)
	b.body = nil
	st.out++
	if !st.replaying {
		st.watch(b)
	}
}

// fullEntries has arrays of entries of a whole block: blocks that come and go would leave most of the garbage otherwise.
var fullEntries sync.Pool // *[blockSize]entry

// makeEntries makes room for n entries.
func makeEntries(n int) []entry {
	if n == 0 {
		return nil
	}
	if n > blockSize/2 {
		if full, ok := fullEntries.Get().(*[blockSize]entry); ok {
			return full[:0]
		}
		return make([]entry, 0, blockSize)
	}
	return make([]entry, 0, n)
}

// keepEntries keeps an array that nobody uses any more.
func keepEntries(entries []entry) {
	if cap(entries) == blockSize {
		fullEntries.Put((*[blockSize]entry)(entries[:blockSize]))
	}
}

// watch puts the earliest end of a lease or delay in a block that is away on the wheel.
func (st *state) watch(b *block) {
	if b.away.due != never {
		b.away.timer = st.wheel.Schedule(b.away.due, awayBit|b.number)
	}
}

// unwatch takes it off.
func (st *state) unwatch(b *block) {
	if b.away.timer != 0 {
		st.wheel.Cancel(b.away.timer, awayBit|b.number)
		b.away.timer = 0
	}
}

// evictable tells whether a block may be put out of memory: the index has it as it is.
func (b *block) evictable() bool {
	return !b.dirty && b.saved.state != 0 && b.saved.places == b.places.edition() && !b.unsettled()
}

// install brings in the body of a block that was away, as the index has it.
func (st *state) install(b *block, in *body) {
	st.unwatch(b)
	b.body, b.wanted = in, false
	st.out--
	b.places.low = b.away.low
	b.generation = b.saved.generation
	b.used = true
	st.enlist(b)
	if st.replaying {
		return
	}
	st.refresh(b)
	if b.count[rewindable] == 0 {
		st.fade(b)
	}
	st.armAll(b)
}

// armAll puts the ends of all leases and delays of a block on the wheel.
func (st *state) armAll(b *block) {
	for i := range b.entries {
		if e := &b.entries[i]; e.timed() {
			e.timer = st.wheel.Schedule(e.due, b.first()+uint64(e.off))
		}
	}
}

// fade makes the deletions of a block gone that time has ended while it was away: its counts say so already. What a
// rewind has brought back is younger than the window, so refresh has not taken one for the other.
func (st *state) fade(b *block) {
	for off := b.deleted.next(0); off >= 0; off = b.deleted.next(off + 1) {
		b.deleted.clear(off)
		if e := b.entry(off); e != nil {
			b.drop(e)
		}
		b.dirty, st.touched = true, true
	}
}

// recall takes the events of the history into account that a block has missed which is away since the spool was opened,
// by its counts. It answers false when that needs its body.
func (st *state) recall(b *block) bool {
	if b.count[rewindable] == 0 {
		return true
	}
	spans := st.history.Spans(nil, b.saved.generation, math.MaxUint64, b.away.first, b.away.last)
	if len(spans) > 1 {
		return false
	}
	n := b.count[rewindable]
	switch s := spans[0]; s.Outcome {
	case rewind.Restored:
		st.tally(b, rewindable, -n)
		st.tally(b, active, n)
		st.noteAge(b, s.Event.At)
	case rewind.Dropped:
		st.tally(b, rewindable, -n)
	}
	return true
}

// summon wants the blocks of max active messages, the oldest first, from a block on: so many of them at most, and as many
// as make a portion, but always one. It answers false when some are away.
func (st *state) summon(from uint64, max, blocks int) (all bool) {
	if st.out == 0 {
		return true
	}
	all = true
	room := st.portion
	st.eachActive(from, func(b *block) bool {
		if n := b.heft(); n <= room || room == st.portion {
			room -= n
			all = st.here(b) && all
			max -= int(b.count[active])
			blocks--
			return max > 0 && blocks > 0
		}
		return false
	})
	return all
}

// tail tells whether the block that the next message goes to is in memory, or yet to be made.
func (st *state) tail() bool {
	b := st.block(st.next >> blockBits)
	return b == nil || st.here(b)
}

// edge returns the block that has messages both before an instant and at it or later, or nil. Only one can: instants
// rise with the sequence.
func (st *state) edge(at int64) *block {
	r := st.index.Find(at)
	if r == nil || r.First >= at {
		return nil
	}
	b := st.block(r.Number)
	if _, last := b.span(); last < at {
		return nil
	}
	return b
}

// settledEdge tells whether the block in which an instant divides the rewindable messages is in memory, if there is one.
func (st *state) settledEdge(at int64) bool {
	b := st.edge(at)
	return b == nil || b.count[rewindable] == 0 || st.here(b)
}

// oldestGeneration is the lowest generation that a block with deletions has, here or in the index: events up to it are
// not needed any more.
func (st *state) oldestGeneration() uint64 {
	oldest := st.history.Generation()
	st.each(func(*summary) bool { return false }, func(b *block) bool {
		if b.saved.count[rewindable] > 0 {
			oldest = min(oldest, b.saved.generation)
		}
		if b.body != nil && b.deleted != (bitmap{}) {
			oldest = min(oldest, b.generation)
		}
		return true
	})
	return oldest
}
