package timer

import (
	"fmt"
	"math"
	"math/bits"
)

// check reports the first broken invariant of the wheel.
func (w *Wheel) check() error {
	if w.pending == nil {
		return nil
	}
	seen := make(map[Handle]bool)
	if err := w.checkSlots(seen); err != nil {
		return err
	}
	for _, head := range []Handle{w.draining, w.late} {
		err := w.checkList(head, seen, func(h Handle, at int64) error {
			if at < w.floor {
				return fmt.Errorf("timer %d of %d below floor %d", h, at, w.floor)
			}
			if head == w.late && key(at) > w.now {
				return fmt.Errorf("late timer %d of %d after now %d", h, at, instant(w.now))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(seen) != w.used {
		return fmt.Errorf("%d timers in lists, %d used", len(seen), w.used)
	}
	if err := w.checkNext(seen); err != nil {
		return err
	}
	return w.checkArena(seen)
}

func (w *Wheel) checkSlots(seen map[Handle]bool) error {
	for l := range uint(levels) {
		if got, want := w.filled>>l&1 != 0, w.occupied[l] != 0; got != want {
			return fmt.Errorf("level %d: filled %v, occupied %b", l, got, w.occupied[l])
		}
		if w.level[l] == nil {
			if w.occupied[l] != 0 {
				return fmt.Errorf("level %d occupied without memory", l)
			}
			continue
		}
		for s := range uint(slots) {
			head := w.level[l][s]
			if got := w.occupied[l]>>s&1 != 0; got != (head != 0) {
				return fmt.Errorf("slot %d/%d: occupied %v, head %d", l, s, got, head)
			}
			err := w.checkList(head, seen, func(h Handle, at int64) error {
				k := key(at)
				if k <= w.now {
					return fmt.Errorf("slot %d/%d: timer %d is not after now", l, s, h)
				}
				if gl, gs := w.slotOf(k); gl != l || gs != s {
					return fmt.Errorf("slot %d/%d: timer %d belongs to %d/%d", l, s, h, gl, gs)
				}
				if b := w.begin(l, s); k < b || k-b >= 1<<(l*digitBits) {
					return fmt.Errorf("slot %d/%d begins at %x, holds %x", l, s, b, k)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *Wheel) checkList(head Handle, seen map[Handle]bool, f func(Handle, int64) error) error {
	prev := Handle(0)
	for h := head; h != 0; h = w.timer(h).next {
		t := w.find(h)
		switch {
		case t == nil:
			return fmt.Errorf("timer %d is in a list and not pending", h)
		case seen[h]:
			return fmt.Errorf("timer %d is in two lists", h)
		case t.prev != prev:
			return fmt.Errorf("timer %d has prev %d, want %d", h, t.prev, prev)
		}
		seen[h] = true
		if err := f(h, *w.at(h)); err != nil {
			return err
		}
		prev = h
	}
	return nil
}

func (w *Wheel) checkNext(seen map[Handle]bool) error {
	if w.soonest == 0 {
		return nil
	}
	least := int64(math.MaxInt64)
	for h := range seen {
		least = min(least, *w.at(h))
	}
	if !seen[w.soonest] || *w.at(w.soonest) != least || w.next != least {
		return fmt.Errorf("next is known as timer %d of %d, pending %v, earliest is %d", w.soonest, w.next, seen[w.soonest], least)
	}
	return nil
}

func (a *arena) checkArena(seen map[Handle]bool) error {
	used, empty := make([]int, len(a.chunks)), 0
	for h := range seen {
		used[h>>chunkBits]++
	}
	inRoom, inVacant := make(map[uint32]bool), make(map[uint32]bool)
	prev := uint32(0)
	for i := a.room; i != 0; i = a.chunks[i-1].next {
		if a.chunks[i-1].prev != prev || inRoom[i] {
			return fmt.Errorf("chunk %d: room list broken", i-1)
		}
		inRoom[i], prev = true, i
	}
	for i := a.vacant; i != 0; i = a.chunks[i-1].next {
		inVacant[i] = true
	}
	for i := range a.chunks {
		c := &a.chunks[i]
		id := uint32(i + 1)
		if int(c.used) != used[i] {
			return fmt.Errorf("chunk %d: %d pending, says %d", i, used[i], c.used)
		}
		if vacant := c.timers == nil; vacant != inVacant[id] || vacant && inRoom[id] {
			return fmt.Errorf("chunk %d: memory %v, in vacant %v, in room %v", i, !vacant, inVacant[id], inRoom[id])
		}
		if c.timers == nil {
			continue
		}
		if c.used == 0 {
			empty++
		}
		free := 0
		for f := c.free; f != 0; f = c.timers[f-1].next {
			if free++; c.timers[f-1].prev != freeMark {
				return fmt.Errorf("chunk %d: timer %d in the free list is not free", i, f-1)
			}
		}
		spare := 0
		if i == 0 {
			spare = 1
		}
		if free+used[i]+spare != len(c.timers) {
			return fmt.Errorf("chunk %d: %d free and %d pending of %d", i, free, used[i], len(c.timers))
		}
		if full := c.free == 0; full == inRoom[id] {
			return fmt.Errorf("chunk %d: full %v, in room %v", i, full, inRoom[id])
		}
		if n := len(c.timers); bits.OnesCount(uint(n)) != 1 || n > chunkLen || len(c.instants) != n {
			return fmt.Errorf("chunk %d: %d timers, %d instants", i, n, len(c.instants))
		}
	}
	if empty != a.empty || empty > 1 {
		return fmt.Errorf("%d empty chunks, says %d, at most 1", empty, a.empty)
	}
	return nil
}
