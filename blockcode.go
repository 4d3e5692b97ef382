package spool

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/spoolmq/spool/store"
)

// Format: the state of a block in the index.
//
//	generation uv, active 128 bytes, deleted 128 bytes, n uv, n × entry
//	entry   off uv, kind u8, receives uv, rewinds uv, nonce u64, fields u8 (bit 0: due, 1: first, 2: base), then those that are there (u64)
//
// Hidden messages are active or delayed here and moving ones leased until the instant at which the block was saved: a
// checkpoint counts only when the log before it is synced, and a move that was not recorded is due again.

func encodeState(e *encoder, b *block, now int64) {
	e.uv(b.generation)
	for i, w := range b.active {
		e.u64(w | b.hidden[i])
	}
	for _, w := range b.deleted {
		e.u64(w)
	}
	e.uv(uint64(len(b.entries) - int(b.dead)))
	for i := range b.entries {
		if x := &b.entries[i]; x.kind != gone {
			encodeEntry(e, x, now)
		}
	}
}

func encodeEntry(e *encoder, x *entry, now int64) {
	k, due := x.kind, x.due
	switch k {
	case pending:
		k = delayed
	case moving:
		k, due = inactive, now
	case hidden:
		k = active
	}
	fields := byte(0)
	for i, v := range [...]int64{due, x.first, x.base} {
		if v != 0 {
			fields |= 1 << i
		}
	}
	e.uv(uint64(x.off))
	e.u8(byte(k))
	e.uv(uint64(x.receives))
	e.uv(uint64(x.rewinds))
	e.u64(x.nonce)
	e.u8(fields)
	for _, v := range [...]int64{due, x.first, x.base} {
		if v != 0 {
			e.at(v)
		}
	}
}

func decodeState(d *decoder, b *block) error {
	b.generation = d.uv()
	for i := range b.active {
		b.active[i] = d.u64()
	}
	for i := range b.deleted {
		b.deleted[i] = d.u64()
	}
	n := d.count(12)
	if n > blockSize {
		return errShelf
	}
	if n > 0 {
		b.entries = make([]entry, 0, n)
	}
	for range n {
		b.entries = append(b.entries, decodeEntry(d))
	}
	if d.done() != nil {
		return errShelf
	}
	return nil
}

func decodeEntry(d *decoder) (x entry) {
	x.off, x.kind = uint16(d.uv()), kind(d.u8())
	x.receives, x.rewinds, x.nonce = uint32(d.uv()), uint32(d.uv()), d.u64()
	fields := d.u8()
	for i, v := range [...]*int64{&x.due, &x.first, &x.base} {
		if fields&(1<<i) != 0 {
			*v = d.at()
		}
	}
	return x
}

// Format: the places of a block in the index.
//
//	moved n uv, n × (off uv, position u64, size uv, EnqueuedAt u64)
//	first: position u64, EnqueuedAt u64; then the codes of places.data
//
// Their edition, which the key has, tells how many are coded (the low 11 bits) and how often one was moved (the others).
func encodePlaces(e *encoder, p *places) {
	e.uv(uint64(len(p.moved)))
	for _, m := range p.moved {
		e.uv(uint64(m.off))
		e.u64(uint64(m.place.pos))
		e.uv(uint64(m.place.size))
		e.at(m.place.at)
	}
	e.u64(uint64(p.anchors[0].before.pos))
	e.at(p.anchors[0].before.at)
	*e = append(*e, p.data...)
}

// decodePlaces reads the places of an edition.
func decodePlaces(d *decoder, p *places, edition uint64) error {
	n := int(edition & (1<<editionBits - 1))
	if n < 1 || n > blockSize || edition>>editionBits > math.MaxInt32 {
		return errShelf
	}
	p.moves = int(edition >> editionBits)
	side, err := decodeMoved(d, n)
	if err != nil {
		return err
	}
	p.last.pos = store.Position(d.u64())
	p.last.at = d.at()
	p.data = append([]byte(nil), d.b...)
	at := 0
	for p.n = 0; p.n < n; p.n++ {
		if p.n%anchorEvery == 0 {
			p.anchors = append(p.anchors, anchor{p.last, uint32(at)})
		}
		size, i := binary.Uvarint(p.data[at:])
		gap, j := binary.Varint(p.data[min(at+max(i, 0), len(p.data)):])
		rise, k := binary.Uvarint(p.data[min(at+max(i, 0)+max(j, 0), len(p.data)):])
		if d.bad || i <= 0 || j <= 0 || k <= 0 {
			return errShelf
		}
		at += i + j + k
		p.last.next(size, gap, rise)
		p.count(p.last)
	}
	if at != len(p.data) {
		return errShelf
	}
	var c cursor
	for _, m := range side {
		if c.get(p, int(m.off)).size == 0 {
			p.count(m.place)
		}
		p.low = min(p.low, m.place.pos)
	}
	p.moved = side
	return nil
}

func decodeMoved(d *decoder, n int) (side []moved, err error) {
	last := -1
	for range d.count(18) {
		m := moved{place: place{}}
		off := d.uv()
		m.place = place{store.Position(d.u64()), int(d.uv()), d.at()}
		if d.bad || off >= uint64(n) || int(off) <= last || m.place.size < 1 {
			return nil, errShelf
		}
		m.off, last = uint16(off), int(off)
		side = append(side, m)
	}
	if d.bad || len(side) > maxMoved {
		return nil, errShelf
	}
	return side, nil
}

// fits checks what was read of a block against itself.
func (b *block) fits() error {
	last := -1
	for i := range b.entries {
		e := &b.entries[i]
		off, bit := int(e.off), b.active.has(int(e.off)&blockMask) || b.deleted.has(int(e.off)&blockMask)
		ok := off > last && off < b.places.n
		switch e.kind {
		case active:
			ok = ok && b.active.has(off)
		case rewindable:
			ok = ok && b.deleted.has(off)
		case inactive, delayed:
			ok = ok && !bit
		default:
			ok = false
		}
		if !ok {
			return fmt.Errorf("%w: block %d, entry %d", errShelf, b.number, off)
		}
		last = off
	}
	kept := 0
	for i := range b.entries {
		if b.entries[i].kind == rewindable {
			kept++
		}
	}
	for i, w := range b.deleted {
		kept -= bits.OnesCount64(w)
		if w&b.active[i] != 0 {
			return fmt.Errorf("%w: block %d has messages that are active and deleted", errShelf, b.number)
		}
	}
	if kept != 0 {
		return fmt.Errorf("%w: block %d has deletions without entries", errShelf, b.number)
	}
	if b.active.next(b.places.n) >= 0 || b.deleted.next(b.places.n) >= 0 {
		return fmt.Errorf("%w: block %d has bits beyond its %d messages", errShelf, b.number, b.places.n)
	}
	return nil
}
