package spool

import (
	"encoding/binary"
	"fmt"

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
//	first: position u64, EnqueuedAt u64; then the codes of places.data
func encodePlaces(e *encoder, p *places) {
	e.u64(uint64(p.anchors[0].before.pos))
	e.at(p.anchors[0].before.at)
	*e = append(*e, p.data...)
}

// decodePlaces reads the places of n messages.
func decodePlaces(d *decoder, p *places, n int) error {
	if n < 1 || n > blockSize {
		return errShelf
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
		p.bytes += int64(p.last.size)
	}
	if at != len(p.data) {
		return errShelf
	}
	return nil
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
	if b.active.next(b.places.n) >= 0 || b.deleted.next(b.places.n) >= 0 {
		return fmt.Errorf("%w: block %d has bits beyond its %d messages", errShelf, b.number, b.places.n)
	}
	return nil
}
