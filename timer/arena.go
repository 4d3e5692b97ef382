package timer

const (
	chunkBits = 10
	chunkLen  = 1 << chunkBits // timers in a chunk of full size: 24 KB
	firstLen  = 16             // timers in chunk 0; each next is twice as long, up to chunkLen
	freeMark  = ^Handle(0)     // prev of a timer that is not pending; no handle has this value
)

// A timer is one entry of the arena: 16 bytes without a pointer, so the garbage collector does not look into it. Its instant
// lies elsewhere, because Cancel hardly ever needs it: what Cancel needs of the timer and of its neighbours, wherever they
// are, is so in fewer cache lines and pages.
type timer struct {
	id   uint64
	next Handle // of its list; of a free timer: index+1 of the next free one in the chunk, 0 at the end
	prev Handle // of its list, 0 at the head; freeMark when free
}

// An arena owns the memory of timers. It grows chunk by chunk and never copies a timer, so a handle is a place. A chunk
// that becomes empty is given back unless it is the only empty one, which spares an owner at a boundary from allocating
// every time. The first chunks are small, for the many wheels with a handful of timers.
//
// Invariant: chunks with a free timer are linked from room; chunks without memory are linked from vacant; full ones are in
// neither list.
type arena struct {
	chunks []chunk
	room   uint32 // index+1 of a chunk, 0 for none
	vacant uint32 // index+1 of a chunk, 0 for none
	empty  int    // chunks with memory and no pending timer: 0 or 1
	used   int    // pending timers
}

// A chunk is a header of 64 bytes for up to chunkLen timers. Index i of chunk c is the handle c*chunkLen + i. Index 0 of
// chunk 0 is never used: handle 0 is none.
type chunk struct {
	timers     []timer // nil: vacant. Allocated in full length
	instants   []int64 // of each timer, as long; ns since the epoch
	free       Handle  // index+1 of the first free timer, 0 for none: then the chunk is full
	used       uint32  // pending timers
	next, prev uint32  // in the list room, or next alone in vacant: index+1
}

// timer returns the entry of a handle that is known to be pending.
func (a *arena) timer(h Handle) *timer { return &a.chunks[h>>chunkBits].timers[h%chunkLen] }

// at returns the place for the instant of a handle that is known to be pending.
func (a *arena) at(h Handle) *int64 { return &a.chunks[h>>chunkBits].instants[h%chunkLen] }

// find returns the entry of a handle that may be anything, and nil if it is not pending.
func (p *pending) find(h Handle) *timer {
	if p == nil || int(h>>chunkBits) >= len(p.chunks) {
		return nil
	}
	of := p.chunks[h>>chunkBits].timers
	if i := int(h % chunkLen); i < len(of) && of[i].prev != freeMark {
		return &of[i]
	}
	return nil
}

// alloc returns a timer that belongs to the caller until free.
func (a *arena) alloc() (Handle, *timer) {
	if a.room == 0 {
		a.grow()
	}
	i := a.room - 1
	c := &a.chunks[i]
	h := Handle(i)<<chunkBits | (c.free - 1)
	t := &c.timers[c.free-1]
	c.free = t.next
	if c.used == 0 {
		a.empty--
	}
	c.used++
	a.used++
	if c.free == 0 {
		a.leave(i)
	}
	return h, t
}

// free takes back a timer that is in no list.
func (a *arena) free(h Handle, t *timer) {
	c := &a.chunks[h>>chunkBits]
	t.prev = freeMark
	t.next = c.free
	c.free = h%chunkLen + 1
	c.used--
	a.used--
	if full := t.next == 0; full || c.used == 0 {
		a.turn(uint32(h>>chunkBits), full)
	}
}

// turn looks after a chunk that was full until now, or that has become empty, or both.
func (a *arena) turn(i uint32, full bool) {
	if full {
		a.enter(i)
	}
	switch {
	case a.chunks[i].used != 0:
	case a.used == 0:
		a.reset()
	case a.empty == 0:
		a.empty = 1
	default:
		a.release(i)
	}
}

// grow makes room: a vacant chunk gets memory, or a new one is added.
// Bound: what is kept for each chunk is the only thing ever copied, 64 bytes for 1,024 timers.
func (a *arena) grow() {
	i := a.vacant - 1
	if a.vacant == 0 {
		i = uint32(len(a.chunks))
		a.chunks = append(a.chunks, chunk{})
	}
	c := &a.chunks[i]
	a.vacant = c.next
	n := min(chunkLen, firstLen<<min(i, chunkBits))
	timers := make([]timer, n)
	for j := range timers {
		timers[j] = timer{next: Handle(j + 2), prev: freeMark}
	}
	timers[n-1].next = 0
	*c = chunk{timers: timers, instants: make([]int64, n), free: 1}
	if i == 0 {
		c.free = 2
	}
	a.empty++
	a.enter(i)
}

// release gives the memory of an empty chunk back.
func (a *arena) release(i uint32) {
	a.leave(i)
	a.chunks[i] = chunk{next: a.vacant}
	a.vacant = i + 1
}

// reset gives everything but chunk 0 back. No timer is pending.
func (a *arena) reset() {
	if len(a.chunks) == 1 {
		a.empty = 1
		return
	}
	*a = arena{}
}

// enter links chunk i into the list room.
func (a *arena) enter(i uint32) {
	c := &a.chunks[i]
	c.next, c.prev = a.room, 0
	if a.room != 0 {
		a.chunks[a.room-1].prev = i + 1
	}
	a.room = i + 1
}

// leave unlinks chunk i from the list room.
func (a *arena) leave(i uint32) {
	c := &a.chunks[i]
	if c.next != 0 {
		a.chunks[c.next-1].prev = c.prev
	}
	if c.prev != 0 {
		a.chunks[c.prev-1].next = c.next
	} else {
		a.room = c.next
	}
}
