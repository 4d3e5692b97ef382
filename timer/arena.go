package timer

const (
	chunkBits = 10
	chunkLen  = 1 << chunkBits // timers in a chunk of full size: 24 KB
	firstLen  = 16             // timers in chunk 0; each next is twice as long, up to chunkLen
	freeMark  = ^Handle(0)     // prev of a timer that is not pending; no handle has this value
)

// A timer is one entry of the arena: 24 bytes without a pointer, so the garbage collector does not look into it.
type timer struct {
	at   int64 // ns since the epoch
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

// A chunk is a header of 40 bytes for up to chunkLen timers. Index i of chunk c is the handle c*chunkLen + i.
type chunk struct {
	timers     []timer // nil: vacant. Allocated in full length
	used       uint16  // pending timers
	fresh      uint16  // timers from here on have never been used
	free       Handle  // index+1 of the first free timer below fresh, 0 for none
	next, prev uint32  // in the list room, or next alone in vacant: index+1
}

// timer returns the entry of a handle that is known to be pending.
func (a *arena) timer(h Handle) *timer {
	return &a.chunks[h>>chunkBits].timers[h%chunkLen]
}

// find returns the entry of a handle that may be anything, and nil if it is not pending.
func (p *pending) find(h Handle) *timer {
	if p == nil || int(h>>chunkBits) >= len(p.chunks) {
		return nil
	}
	c := &p.chunks[h>>chunkBits]
	i := int(h % chunkLen)
	if h == 0 || i >= int(c.fresh) || c.timers[i].prev == freeMark {
		return nil
	}
	return &c.timers[i]
}

// alloc returns a timer that belongs to the caller until free.
func (a *arena) alloc() (Handle, *timer) {
	if a.room == 0 {
		a.grow()
	}
	i := a.room - 1
	c := &a.chunks[i]
	j := c.free - 1
	if c.free != 0 {
		c.free = c.timers[j].next
	} else {
		j = Handle(c.fresh)
		c.fresh++
	}
	if c.used == 0 {
		a.empty--
	}
	c.used++
	a.used++
	if c.full() {
		a.leave(i)
	}
	return Handle(i)<<chunkBits | j, &c.timers[j]
}

// full reports whether no timer is free. The first of chunk 0 is never used: handle 0 is none.
func (c *chunk) full() bool { return c.free == 0 && int(c.fresh) == len(c.timers) }

// free takes back a timer that is in no list.
func (a *arena) free(h Handle, t *timer) {
	i := uint32(h >> chunkBits)
	c := &a.chunks[i]
	if c.full() {
		a.enter(i)
	}
	t.prev = freeMark
	t.next, c.free = c.free, h%chunkLen+1
	c.used--
	a.used--
	switch {
	case c.used != 0:
	case a.used == 0:
		a.reset()
	case a.empty == 0:
		a.empty = 1
	default:
		a.release(i)
	}
}

// grow makes room: a vacant chunk gets memory, or a new one is added.
// Bound: the headers are the only thing ever copied, 40 bytes for 1,024 timers.
func (a *arena) grow() {
	i := a.vacant - 1
	if a.vacant == 0 {
		i = uint32(len(a.chunks))
		a.chunks = append(a.chunks, chunk{})
	}
	c := &a.chunks[i]
	a.vacant = c.next
	*c = chunk{timers: make([]timer, min(chunkLen, firstLen<<min(i, chunkBits)))}
	if i == 0 {
		c.fresh = 1
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
