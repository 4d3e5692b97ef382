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
