package spool

import (
	"math/rand/v2"
	"testing"

	"github.com/spoolmq/spool/store"
)

// TestPlacesMoved moves messages of a block about, and has them learned of in any order.
func TestPlacesMoved(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		p := places{low: 1 << 62}
		want := map[int]place{}
		n := 1 + rng.IntN(blockSize)
		for range 600 {
			off := rng.IntN(n)
			pl, ok := want[off]
			if !ok {
				pl = place{size: 1 + rng.IntN(3000), at: int64(off * 1000)}
			}
			pl.pos = store.Position(rng.IntN(1 << 30))
			want[off] = pl
			if off >= p.n {
				p.add(off, pl)
			} else {
				p.move(off, pl)
			}
		}
		var e encoder
		encodePlaces(&e, &p)
		back := places{low: 1 << 62}
		if err := decodePlaces(&decoder{b: e}, &back, uint64(p.edition())); err != nil {
			t.Fatal(err)
		}
		for _, p := range []*places{&p, &back} {
			var c cursor
			low, first, last, bytes := store.Position(1<<62), int64(1<<62), int64(0), int64(0)
			for off := range p.n {
				pl := c.get(p, off)
				if w := want[off]; w.size > 0 && pl != w || w.size == 0 && pl.size != 0 {
					t.Fatalf("place %d is %+v, want %+v", off, pl, w)
				}
				if pl.size > 0 {
					low, first, last, bytes = min(low, pl.pos), min(first, pl.at), max(last, pl.at), bytes+int64(pl.size)
				}
			}
			if f, l := p.span(); f > first || l != last || p.low > low || p.held != len(want) || p.bytes != bytes {
				t.Fatalf("span %d to %d, low %d, %d messages with %d bytes; want %d to %d, %d, %d with %d",
					f, l, p.low, p.held, p.bytes, first, last, low, len(want), bytes)
			}
		}
	}
}

// TestEntries makes and frees entries in any order: each is found, and no other one.
func TestEntries(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		b, want, n := &block{body: newBody()}, map[int]bool{}, 1+rng.IntN(64)
		for range 100 {
			off := rng.IntN(n)
			if e := b.entry(off); e == nil {
				b.put(off).kind = inactive
				want[off] = true
			} else if rng.IntN(2) == 0 {
				b.drop(e)
				delete(want, off)
			}
			for off := range n {
				if e := b.entry(off); (e != nil) != want[off] || e != nil && int(e.off) != off {
					t.Fatalf("entry %d is %+v, want one: %t", off, e, want[off])
				}
			}
		}
	}
}

// TestUnsettledStays: a block of which a message is about to change is not put out of memory, though the index has it as
// it is: a send, or a move, may come between the look at a block and its being saved.
func TestUnsettledStays(t *testing.T) {
	st := newState(1, Meta{}.withDefaults(), 1)
	st.add(place{pos: 1, size: 1, at: 1}, 0)
	b := st.block(0)
	b.dirty, b.saved = false, shelved{state: 1, places: b.places.edition()}
	if b.evictable() {
		t.Error("a block with a hidden message may be put out of memory")
	}
	st.reveal(0, 1)
	b.dirty = false
	if !b.evictable() {
		t.Error("a block that the index has as it is may not be put out of memory")
	}
}

// TestLookUpAfterPacking: when so many messages of a block have moved that it is coded anew, a look-up does not go on where
// the one before it ended in the old code.
func TestLookUpAfterPacking(t *testing.T) {
	st := newState(1, Meta{}.withDefaults(), 1)
	want := make([]place, 200)
	for i := range want {
		want[i] = place{pos: store.Position(1000 * i), size: 1 + i%7, at: int64(i)}
		st.add(want[i], 0)
	}
	b := st.block(0)
	for i := range maxMoved + 1 {
		want[i].pos = store.Position(1<<30 + 1<<20*(i%3))
		st.cursor.get(&b.places, 100)
		st.relocate(b, i, want[i])
		for off := 101; off < 110; off++ {
			if got := st.cursor.get(&b.places, off); got != want[off] {
				t.Fatalf("place of message %d after %d have moved = %+v, want %+v", off, i+1, got, want[off])
			}
		}
	}
	if len(b.places.moved) > 0 {
		t.Fatalf("%d messages have places beside the code, want it to be coded anew", len(b.places.moved))
	}
}
