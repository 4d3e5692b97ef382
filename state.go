package spool

import (
	"math"

	"github.com/spoolmq/spool/rewind"
	"github.com/spoolmq/spool/timer"
)

// never is the instant that does not come.
const never = math.MaxInt64

// stepSize bounds what one step does to messages before others may have the queue's lock.
const stepSize = 1024

// state is the pure state machine of one queue: no lock, no clock, no I/O. Time comes in as an argument, always from one
// clock that never goes back; what must be recorded is recorded by the caller in the same hold of the queue's lock.
//
//	hidden ──reveal──► active ◄──due── delayed ◄──reveal── pending
//	                   │    ▲              ▲
//	                 lease  └──lapse──┐    │ release(after)
//	                   ▼              │    │
//	                inactive ─────────┴────┘
//	                   │ remove(keep)                  lapse, age ──► moving ──► gone (in the dead-letter queue)
//	                   ▼
//	               rewindable ──rewind──► active
//
// Invariant: count is the sum of the counts of dir, whose counts are the sums of their blocks'.
// Invariant: expireAt, fadeAt and ageAt are not later than the first instant at which something of their sort is due.
// Bound: everything here grows with the messages that are not gone; blocks and summaries leave when they are empty.
type state struct {
	id       uint32
	meta     *Meta // what it points to is immutable
	floors   floors
	next     uint64 // next sequence
	lastAt   int64  // EnqueuedAt of the newest message
	sent     int64
	received int64
	erased   int64 // deletes
	created  int64
	modified int64
	history  rewind.History

	seen      int64 // the latest instant of an observation: nothing happens before it
	portion   int64 // Bound: bytes of blocks that are read to be used together
	replaying bool  // counts are not kept: finish counts
	touched   bool  // something changed since the last checkpoint
	*stock          // nil while the queue is at rest
}

// A stock is what a queue holds, and what it needs to find it.
type stock struct {
	dir    []*summary // consecutive, from number base on; nil where nothing is left
	base   uint64
	count  [kinds]int64
	wheel  timer.Wheel // ends of leases and delays, by sequence
	index  rewind.Index
	cursor cursor

	expireAt int64      // a message ends by Retention
	fadeAt   int64      // a rewindable message ends by Meta.Rewind
	ageAt    int64      // a message has waited MaxAge
	veiled   uint64     // no message below is hidden
	left     []leftover // blocks in the index that are empty by now. Bound: taken by each checkpoint
	hand     *block     // the block in memory that the pager looks at next; nil = there is none
	wanted   []*block   // blocks that are away and that somebody needs
	inside   int        // blocks in memory
	out      int        // blocks that are away
	bytes    int64      // of bodies
	moves    []move     // messages that have become moving; the caller takes and makes them. Bound: stepSize
	arriving int64      // pending messages that are dead letters of other queues
	noRoom   int64      // ns; until then a message may stay because there was no room for it in the dead-letter queue
}

func newStock() *stock { return &stock{expireAt: never, fadeAt: never, ageAt: never} }

// A move is a message that is to go to the dead-letter queue, and the instant at which that fell due.
type move struct {
	at  int64
	seq uint64
}

func newState(id uint32, meta Meta, now int64) *state {
	return &state{id: id, meta: &meta, created: now, modified: now, lastAt: math.MinInt64,
		floors: floors{expired: math.MinInt64}, portion: math.MaxInt64, stock: newStock()}
}

// shift makes a message another kind: bits and counts. Entries are the caller's.
func (st *state) shift(b *block, off int, from, to kind) {
	switch from {
	case active:
		b.active.clear(off)
	case rewindable:
		b.deleted.clear(off)
	case hidden:
		b.hidden.clear(off)
	}
	switch to {
	case active:
		b.active.set(off)
	case rewindable:
		b.deleted.set(off)
	case hidden:
		b.hidden.set(off)
	}
	st.tally(b, from, -1)
	st.tally(b, to, 1)
}

// tally adds n messages of a kind to the counts of a block and of all above it.
func (st *state) tally(b *block, k kind, n int32) {
	if st.touched = true; b.body != nil {
		b.dirty = true
	}
	if k == gone {
		return
	}
	b.count[k] += n
	b.owner.count[k] += n
	st.count[k] += int64(n)
	switch k {
	case active:
		if b.count[active] > 0 {
			b.owner.active.set(int(b.number & summaryMask))
		} else {
			b.owner.active.clear(int(b.number & summaryMask))
		}
	case rewindable:
		b.rewind.Deleted = int(b.count[rewindable])
	}
}

// add appends a message that was sent. It is hidden until reveal; a delay makes it pending.
func (st *state) add(pl place, delay int64) {
	b, off := st.append(pl)
	st.hide(b, off, pl, delay)
	st.sent++
}

// append takes the next sequence for a message at its place.
func (st *state) append(pl place) (*block, int) {
	seq := st.next
	st.next++
	st.lastAt = pl.at
	b := st.block(seq >> blockBits)
	if b == nil {
		st.retire(seq >> blockBits)
		b = st.ensure(seq)
	}
	st.refresh(b)
	off := int(seq & blockMask)
	st.insert(b, off, pl)
	return b, off
}

// insert gives a message of a block its place, or another one. Messages come in the order of their sequence, unless
// replay learns of one by a COPY.
func (st *state) insert(b *block, off int, pl place) {
	switch {
	case b.rewind == nil:
		b.rewind = st.index.Insert(b.number, pl.at)
	case pl.at < b.rewind.First:
		deleted := b.rewind.Deleted
		st.index.Remove(b.rewind)
		b.rewind = st.index.Insert(b.number, pl.at)
		b.rewind.Deleted = deleted
	}
	if off >= b.places.n {
		if b.places.add(off, pl); b.places.n%anchorEvery == 0 {
			st.weigh(b)
		}
	} else {
		st.relocate(b, off, pl)
	}
}

// relocate gives a message of a block another place.
func (st *state) relocate(b *block, off int, pl place) {
	b.dirty, st.touched = true, true
	if b.places.move(off, pl) && st.cursor.of == &b.places {
		st.cursor = cursor{}
	}
	st.weigh(b)
}

func (st *state) hide(b *block, off int, pl place, delay int64) {
	if delay == 0 {
		st.shift(b, off, gone, hidden)
		return
	}
	e := st.put(b, off)
	e.kind, e.due, e.base = pending, pl.at+delay, pl.at+delay
	st.shift(b, off, gone, pending)
}

// arrive appends a dead letter of another queue: it is pending until reveal, and then active.
func (st *state) arrive(pl place) {
	b, off := st.append(pl)
	st.put(b, off).kind = pending
	st.shift(b, off, gone, pending)
	st.arriving++
}

// shown is how many messages have been sent and seen.
func (st *state) shown() int64 {
	return st.sent - (st.count[hidden] + st.count[pending] - st.arriving)
}

// reveal makes messages visible whose sends have reached their level. A purge may have come between, or a receiver.
func (st *state) reveal(first uint64, n int) {
	for seq := first; seq < first+uint64(n); seq++ {
		b := st.block(seq >> blockBits)
		if b == nil || !b.unsettled() { // handed over already, and perhaps away
			continue
		}
		st.refresh(b)
		off := int(seq & blockMask)
		if b.hidden.has(off) {
			st.shift(b, off, hidden, active)
			st.noteExpiry(b)
			st.noteAge(b, st.ageBase(b, off, nil))
		} else if e := b.entry(off); e != nil && e.kind == pending && e.due == 0 {
			st.arriving--
			st.shift(b, off, pending, active)
			b.drop(e)
			st.noteExpiry(b)
			st.noteAge(b, st.ageBase(b, off, nil))
		} else if e != nil && e.kind == pending {
			st.shift(b, off, pending, delayed)
			e.kind = delayed
			st.arm(b, e)
			st.noteAge(b, e.base)
		}
	}
}

// lease hands a message out until due. It was active or hidden.
func (st *state) lease(b *block, off int, now, due int64, nonce uint64) *entry {
	st.shift(b, off, b.kind(off), inactive)
	e := st.put(b, off)
	e.kind, e.due, e.nonce = inactive, due, nonce
	e.receives++
	if e.first == 0 {
		e.first = now
	}
	st.received++
	return e
}

// arm puts the end of a lease or delay on the wheel. It stands apart from lease so that a receiver can be woken first.
func (st *state) arm(b *block, e *entry) {
	e.timer = st.wheel.Schedule(e.due, b.first()+uint64(e.off))
	st.noteExpiry(b)
}

// extend moves the end of a lease.
func (st *state) extend(b *block, e *entry, due int64) {
	st.disarm(b, e)
	e.due = due
	b.dirty, st.touched = true, true
	e.timer = st.wheel.Schedule(due, b.first()+uint64(e.off))
}

func (st *state) disarm(b *block, e *entry) {
	if e.timer != 0 {
		st.wheel.Cancel(e.timer, b.first()+uint64(e.off))
		e.timer = 0
	}
}

// unread takes back a receive whose message could not be read. The lease stays: the message is passed over until then.
func (st *state) unread(b *block, e *entry, due int64) {
	st.received--
	e.receives--
	if e.receives == 0 {
		e.first = 0
	}
	st.extend(b, e, due)
}

// giveBack ends a lease now. The message is active, or delayed until due when that is later, or moves.
func (st *state) giveBack(b *block, off int, now, due int64) {
	e := b.entry(off)
	st.disarm(b, e)
	if due <= now {
		st.lapse(b, off, now)
		return
	}
	if st.over(b, off, e, now) {
		return
	}
	st.shift(b, off, inactive, delayed)
	e.kind, e.due = delayed, due
	e.timer = st.wheel.Schedule(due, b.first()+uint64(off))
	st.noteAge(b, st.ageBase(b, off, e))
}

// lapse ends a lease at the instant end. The message is active, gone, or moves.
func (st *state) lapse(b *block, off int, end int64) {
	e := b.entry(off)
	if st.over(b, off, e, end) {
		return
	}
	st.shift(b, off, inactive, active)
	e.kind, e.due = active, 0
	st.noteAge(b, st.ageBase(b, off, e))
}

// over looks at what a lease's end may bring beside a return: the end of the message's life at that instant or before,
// or a dead-letter rule.
func (st *state) over(b *block, off int, e *entry, end int64) bool {
	at := st.cursor.get(&b.places, off).at
	if at <= max(end-int64(st.meta.Retention), st.floors.expired) {
		st.remove(b, off)
		return true
	}
	why := st.moveRule(b, off, e, end)
	if why != 0 {
		st.move(b, off, e, why, end)
	}
	return why != 0
}

// moveRule tells which dead-letter rule moves a message whose lease ends at the instant end, 0 = none.
func (st *state) moveRule(b *block, off int, e *entry, end int64) (why int64) {
	dl := st.meta.DeadLetter
	switch {
	case dl == nil:
		return 0
	case dl.MaxReceives > 0 && e.receives >= uint32(dl.MaxReceives):
		return byReceives
	case dl.MaxAge > 0 && st.ageBase(b, off, e) <= end-int64(dl.MaxAge):
		return byAge
	}
	return 0
}

// ageRule tells which dead-letter rule moves a message that has come of age outside a lease: MaxReceives may have been
// lowered to what it has had already, which moves nothing by itself, and counts where both limits are due.
func (st *state) ageRule(e *entry) (why int64) {
	if n := st.meta.DeadLetter.MaxReceives; n > 0 && e.receives >= uint32(n) {
		return byReceives
	}
	return byAge
}

// Why a message moves: what the entry of a moving one has in due.
const (
	byReceives = 1
	byAge      = 2
)

// move marks a message as on its way to the dead-letter queue since the instant at.
func (st *state) move(b *block, off int, e *entry, why, at int64) {
	st.disarm(b, e)
	st.shift(b, off, b.kind(off), moving)
	e.kind, e.due = moving, why
	st.moves = append(st.moves, move{at, b.first() + uint64(off)})
}

// stay undoes a move that could not be made: the message is passed over until due. Its lease is over: no receipt of it
// works, the latest one included.
func (st *state) stay(seq uint64, due int64) {
	b, off := st.locate(seq)
	if b == nil || b.kind(off) != moving {
		return
	}
	e := b.entry(off)
	st.shift(b, off, moving, inactive)
	e.kind, e.due = inactive, due
	if e.nonce > 0 {
		e.nonce |= voided
	}
	st.arm(b, e)
}

// remove makes a message gone.
func (st *state) remove(b *block, off int) {
	k := b.kind(off)
	if e := b.entry(off); e != nil {
		st.disarm(b, e)
		b.drop(e)
	}
	st.shift(b, off, k, gone)
	st.prune(b)
}

// keep makes a leased message rewindable.
func (st *state) keep(b *block, off int) {
	e := b.entry(off)
	st.disarm(b, e)
	e.kind, e.due = rewindable, 0
	st.shift(b, off, inactive, rewindable)
	at := st.cursor.get(&b.places, off).at
	st.fadeAt = min(st.fadeAt, after(at, int64(st.meta.Rewind)))
}

// purge makes everything gone that was sent before.
func (st *state) purge() {
	st.floors.purged = st.next
	st.clear()
}

func (st *state) clear() {
	st.each(func(*summary) bool { return false }, func(b *block) bool {
		st.leave(b)
		return true
	})
	st.touched = true
	left := st.left
	st.stock = newStock()
	st.left = left
	st.history.Trim(st.history.Generation())
}

// after adds a duration to an instant; what lies beyond the end of time is never.
func after(at, d int64) int64 {
	if at > never-d {
		return never
	}
	return at + d
}

// ageBase is the instant from which a message's age counts for dead letters.
func (st *state) ageBase(b *block, off int, e *entry) int64 {
	if e != nil && e.base != 0 {
		return e.base
	}
	at := st.cursor.get(&b.places, off).at
	return at
}

func (st *state) noteAge(b *block, base int64) {
	b.ageMin = min(b.ageMin, base)
	if dl := st.meta.DeadLetter; dl != nil && dl.MaxAge > 0 {
		st.ageAt = min(st.ageAt, after(base, int64(dl.MaxAge)))
	}
}

// noteExpiry notes that messages of a block may end. It goes by the first one that was sent: expirePass finds out.
func (st *state) noteExpiry(b *block) {
	first, _ := b.span()
	st.expireAt = min(st.expireAt, after(first, int64(st.meta.Retention)))
}

// observe notes the instant of an observation and returns it, or the latest one where that is later: who read the clock
// first may have had the lock second.
func (st *state) observe(now int64) int64 {
	st.seen = max(st.seen, now)
	return st.seen
}

// wake is an instant at which advance must be called at the latest, unless blocks are wanted: then it is now.
func (st *state) wake() int64 {
	at := min(st.expireAt, st.fadeAt, st.ageAt)
	if w, ok := st.wheel.Wake(); ok {
		at = min(at, w)
	}
	return at
}
