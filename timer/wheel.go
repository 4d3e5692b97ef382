package timer

import "math/bits"

const (
	digitBits = 6              // of an instant, per level
	slots     = 1 << digitBits // a level
	levels    = 11             // ceil(64 / digitBits): every int64 has its place, there is no overflow list
	short     = 8              // Wake looks through lists up to this long, and is exact for them
)

// A Handle names a pending timer. 0 is none. It is valid from Schedule until the timer is cancelled or handed out by
// Advance; after that another timer may get the same one.
type Handle uint32

// A Wheel holds timers. The zero Wheel is ready for use and is empty; its present is the beginning of time until the
// first Advance. It takes 16 bytes while it has never held a timer, and again after Trim. A pending timer takes 24 bytes.
//
// A Wheel is not safe for concurrent use: its owner's lock guards it. No method blocks. A Wheel must not be copied once
// it has been used.
type Wheel struct {
	now uint64 // key of the present: everything up to here has been taken out of the slots. Never decreases
	*pending
}

// pending is the part of a wheel that exists only once there has been a timer.
//
// Invariant: each timer is in exactly one list. A timer whose key is at most now is in draining or late. A timer whose key
// is greater is in the slot that slotOf tells, or in draining. So no list has to be stored with a timer: it follows from
// its instant, and only the heads of draining and late must be told apart by looking.
//
// Invariant: bit s of occupied[l] is set if and only if level[l][s] is not 0; bit l of filled if and only if occupied[l]
// is not 0.
type pending struct {
	arena
	level    [levels]*[slots]Handle // heads of lists; nil until first used
	occupied [levels]uint64
	filled   uint16
	draining Handle // head of the slot that is being emptied
	late     Handle // head of the timers that were already due when they were scheduled
	floor    int64  // no instant in draining or late is earlier; without meaning when both are empty
	soonest  Handle // a timer for the earliest instant of all; 0 when none is known
	next     int64  // its instant; without meaning when none is known
}

// Schedule adds a timer for the instant at (ns since the epoch). Any instant is allowed; one that has passed is handed out
// by the next Advance. The id is given back with it and means nothing to the wheel; several timers may have the same one.
//
// Bound: handles are enough for 4 billion timers, which take 96 GB.
func (w *Wheel) Schedule(at int64, id uint64) Handle {
	if w.pending == nil {
		w.pending = new(pending)
	}
	h, t := w.alloc()
	t.id = id
	*w.at(h) = at
	if w.soonest != 0 && at < w.next {
		w.soonest, w.next = h, at
	}
	w.place(h, t, at)
	return h
}

// Cancel removes the timer h, which must have been scheduled with this id, and reports whether it did. It refuses a
// handle that is not pending, or that by now names a timer of another id, so a mistake of the owner cannot take away
// somebody else's timer.
func (w *Wheel) Cancel(h Handle, id uint64) bool {
	t := w.find(h)
	if t == nil || t.id != id {
		return false
	}
	p, next, prev := w.pending, t.next, t.prev
	if next != 0 {
		p.timer(next).prev = prev
	}
	if prev != 0 {
		p.timer(prev).next = next
	} else {
		w.behead(h, next)
	}
	p.forget(h, t)
	return true
}

// At returns the instant of the pending timer h, and 0 if h is not pending.
func (w *Wheel) At(h Handle) int64 {
	if w.find(h) != nil {
		return *w.at(h)
	}
	return 0
}

// Len returns the number of pending timers.
func (w *Wheel) Len() int {
	if w.pending == nil {
		return 0
	}
	return w.used
}

// Trim gives the memory of an empty wheel back and keeps its present; with timers pending it does nothing. A wheel that
// becomes empty keeps at most about 4 KB, because the next timer of a busy owner is near; an owner that goes idle calls Trim.
func (w *Wheel) Trim() {
	if w.Len() == 0 {
		w.pending = nil
	}
}

// Advance makes now the present and hands out, through due, exactly the timers whose instants are at most now. A now before
// the present counts as the present: time does not go back. The handle of a timer handed out is invalid already when due
// is called.
//
// Bound: it hands out or moves at most limit timers (at least 1) and returns true when more is left to do for this now:
// call it again, with the same now or a later one. Any other call may come in between.
//
// Order: slots come in the order of time, timers of one slot in any order; a slot is wide when Advance has not been
// called for long. Timers that were due when they were scheduled come last.
//
// due may call Schedule, Cancel, At, Next, Wake and Len; it must not call Advance or Trim. What it schedules for now or
// earlier is handed out too, after everything else that is due.
func (w *Wheel) Advance(now int64, limit int, due func(id uint64, at int64)) (more bool) {
	end := max(key(now), w.now)
	if w.pending == nil {
		w.now = end
		return false
	}
	for n := max(limit, 1); w.draining != 0 || w.drain(end); n-- {
		if n == 0 {
			return true
		}
		w.step(end, due)
	}
	w.now = end
	return false
}

// drain makes the next list that has to be looked at for the present end the draining one, which must be empty. It returns
// false when there is none: then nothing up to end is left in the slots.
func (w *Wheel) drain(end uint64) bool {
	if l, s, ok := w.first(); ok && w.begin(l, s) <= end {
		begin := w.begin(l, s)
		w.lower(instant(begin))
		w.draining = w.level[l][s]
		w.setHead(l, s, 0)
		// The present moves into the slot, so that what is left of it lies on lower levels. Up to its last nanosecond
		// is enough: later slots have to stay in the future.
		w.now = min(end, begin|(1<<(l*digitBits)-1))
		return true
	}
	w.draining, w.late = w.late, 0
	return w.draining != 0
}

// step takes one timer from the draining list and hands it out or sorts it into a slot.
func (w *Wheel) step(end uint64, due func(id uint64, at int64)) {
	h := w.draining
	t := w.timer(h)
	w.draining = t.next
	if t.next != 0 {
		w.timer(t.next).prev = 0
	}
	id, at := t.id, *w.at(h)
	if key(at) > end {
		w.place(h, t, at)
		return
	}
	w.forget(h, t)
	due(id, at)
}

// Next returns the earliest instant of all pending timers, and false when there is none. The answer is kept until that
// timer goes. Finding it anew costs one look at each timer of the first slot, so an owner that cancels the earliest timer
// and calls Next in turns pays for that; Wake is always cheap. In the middle of an Advance it also looks at what is draining.
func (w *Wheel) Next() (at int64, ok bool) {
	if w.Len() == 0 {
		return 0, false
	}
	if w.soonest == 0 {
		w.soonest, w.next = w.earliest()
	}
	return w.next, true
}

// Wake returns when Advance must be called next, and false when nothing is pending: no timer is due before. It is the
// earliest instant itself, or the begin of the slot that holds it if more than a few timers share that: then Advance
// sorts the slot ahead of need. In the middle of an Advance, and when a timer was scheduled for the past, it is an instant
// that has passed.
//
// Bound: calling Advance at every Wake hands out every timer at its instant. Each such call hands out at least one timer or
// moves more than 8 of them to a lower one of the 11 levels, so that is less than 2.2 calls a timer. Wake itself looks at no
// more than 8 timers.
func (w *Wheel) Wake() (at int64, ok bool) {
	if w.Len() == 0 {
		return 0, false
	}
	if w.draining != 0 || w.late != 0 {
		return w.floor, true
	}
	l, s, _ := w.first()
	if h, at := w.least(w.level[l][s], short); h != 0 {
		return at, true
	}
	return instant(w.begin(l, s)), true
}

// A key orders instants as unsigned numbers, whose digits the levels are made of.
func key(at int64) uint64 { return uint64(at) ^ 1<<63 }

func instant(key uint64) int64 { return int64(key ^ 1<<63) }

// slotOf returns the level and slot of a key greater than now.
func (w *Wheel) slotOf(key uint64) (l, s uint) {
	l = uint(bits.Len64(key^w.now)-1) / digitBits
	return l, uint(key>>(l*digitBits)) % slots
}

// begin returns the first key of an occupied slot. All its timers agree with now in the digits above.
func (w *Wheel) begin(l, s uint) uint64 {
	return w.now&^(1<<((l+1)*digitBits)-1) | uint64(s)<<(l*digitBits)
}

// place puts a timer for the instant at, which is in no list, where it belongs.
func (w *Wheel) place(h Handle, t *timer, at int64) {
	k := key(at)
	if k <= w.now {
		w.lower(at)
		w.push(w.late, h, t)
		w.late = h
		return
	}
	l, s := w.slotOf(k)
	if w.level[l] == nil {
		w.level[l] = new([slots]Handle)
	}
	w.push(w.level[l][s], h, t)
	w.setHead(l, s, h)
}

// behead makes next the head of the list whose head is the timer h.
func (w *Wheel) behead(h, next Handle) {
	switch h {
	case w.draining:
		w.draining = next
	case w.late:
		w.late = next
	default:
		l, s := w.slotOf(key(*w.at(h)))
		w.setHead(l, s, next)
	}
}

// push links a timer in front of head.
func (p *pending) push(head, h Handle, t *timer) {
	t.next, t.prev = head, 0
	if head != 0 {
		p.timer(head).prev = h
	}
}

func (p *pending) setHead(l, s uint, h Handle) {
	p.level[l][s] = h
	if h != 0 {
		p.occupied[l] |= 1 << s
		p.filled |= 1 << l
		return
	}
	p.occupied[l] &^= 1 << s
	if p.occupied[l] == 0 {
		p.filled &^= 1 << l
	}
}

// first returns the slot of the earliest timers of all that are in slots.
func (p *pending) first() (l, s uint, ok bool) {
	if p.filled == 0 {
		return 0, 0, false
	}
	l = uint(bits.TrailingZeros16(p.filled))
	return l, uint(bits.TrailingZeros64(p.occupied[l])), true
}

// lower tells floor of an instant that enters draining or late.
func (p *pending) lower(at int64) {
	if p.draining == 0 && p.late == 0 || at < p.floor {
		p.floor = at
	}
}

// forget frees a timer that is in no list any more.
func (p *pending) forget(h Handle, t *timer) {
	if h == p.soonest {
		p.soonest = 0
	}
	p.free(h, t)
}

// earliest finds a timer for the earliest instant, and the instant. At least one timer is pending.
func (p *pending) earliest() (best Handle, at int64) {
	heads := [...]Handle{p.draining, p.late, 0}
	if l, s, ok := p.first(); ok {
		heads[2] = p.level[l][s]
	}
	for _, head := range heads {
		if h, least := p.least(head, p.used); h != 0 && (best == 0 || least < at) {
			best, at = h, least
		}
	}
	return best, at
}

// least finds a timer for the earliest instant of a list, and the instant. It finds none if the list is empty or longer
// than limit.
func (p *pending) least(h Handle, limit int) (best Handle, at int64) {
	for ; h != 0; limit-- {
		if limit == 0 {
			return 0, 0
		}
		if t := *p.at(h); best == 0 || t < at {
			best, at = h, t
		}
		h = p.timer(h).next
	}
	return best, at
}
