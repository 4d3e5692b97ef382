package spool

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/spoolmq/spool/store"
)

// Format: what is known of a block without its body.
//
//	block uv, now u8 (1: its body is needed at once), turn of its state uv, edition of its places uv,
//	position that they include uv, generation uv, messages active uv, inactive uv, delayed uv, rewindable uv,
//	EnqueuedAt of the first u64 and of the last u64, lowest position uv, bytes uv, held uv, age base u64, due u64
func encodeStub(e *encoder, b *block) {
	at, s := b.stub(), &b.saved
	e.uv(b.number)
	e.flag(b.body != nil && (b.dirty || b.unsettled()))
	e.uv(s.state)
	e.uv(uint64(s.places))
	e.uv(uint64(s.included))
	e.uv(s.generation)
	for _, n := range s.count[active:] {
		e.uv(uint64(n))
	}
	e.at(at.first)
	e.at(at.last)
	e.uv(uint64(at.low))
	e.uv(uint64(at.bytes))
	e.uv(uint64(at.held))
	e.at(b.ageMin)
	e.at(at.due)
}

// stub is what would be known of the block if it were away now.
func (b *block) stub() away {
	if b.body == nil {
		return b.away
	}
	p := &b.places
	first, last := p.span()
	return away{first: first, last: last, low: p.low, bytes: p.bytes, held: int32(p.held), due: b.away.due}
}

// decodeStub is encodeStub's inverse, but for the block's number.
func decodeStub(d *decoder, b *block) (now bool) {
	now = d.flag()
	s := &b.saved
	s.state, s.places, s.included, s.generation = d.uv(), int(d.uv()), store.Position(d.uv()), d.uv()
	for k := active; k <= rewindable; k++ {
		n := d.uv()
		if n > blockSize {
			d.bad = true
			return false
		}
		s.count[k], b.count[k] = int16(n), int32(n)
	}
	b.away = away{first: d.at(), last: d.at(), low: store.Position(d.uv()), bytes: int64(d.uv()), held: int32(d.uv())}
	b.ageMin, b.away.due = d.at(), d.at()
	return now
}

// Format: the state of a block in the index. Numbers of an entry are differences to those of the entry before it.
//
//	shape u8 (bit 0: active is there, 1: deleted), active 128 bytes, deleted 128 bytes, n uv, n × entry
//	entry   off uv (the difference less 1), tag u8: bits 0–2 kind, 3 nonce, 4 due, 5 first, 6 base, 7 counts; those that
//	        are there: nonce zz, due zz, first zz, base zz (the difference to due, when that is there), receives uv,
//	        rewinds uv
//
// Without bit 7 a message with a nonce has been received once, one without never, and neither was rewound. Hidden messages are
// active or delayed here and moving ones leased until the instant at which the block was saved: a checkpoint counts only when
// the log before it is synced, and a move that was not recorded is due again.
const (
	tagKind  = 7
	tagNonce = 1 << 3
	tagDue   = 1 << 4
	tagFirst = 1 << 5
	tagBase  = 1 << 6
	tagCount = 1 << 7
)

// encodeState writes a block's state and returns the earliest end of a lease or delay in it.
func encodeState(e *encoder, b *block, now int64) (due int64) {
	seen := b.active
	for i, w := range b.hidden {
		seen[i] |= w
	}
	shape := byte(0)
	for i, m := range []*bitmap{&seen, &b.deleted} {
		if *m != (bitmap{}) {
			shape |= 1 << i
		}
	}
	e.u8(shape)
	for i, m := range []*bitmap{&seen, &b.deleted} {
		for _, w := range m {
			if shape&(1<<i) != 0 {
				e.u64(w)
			}
		}
	}
	due = never
	e.uv(uint64(len(b.entries) - int(b.dead)))
	before := entry{}
	for i := range b.entries {
		if b.entries[i].kind == gone {
			continue
		}
		x := b.entries[i]
		switch x.kind {
		case pending:
			x.kind = delayed
		case moving:
			x.kind, x.due = inactive, now
		case hidden:
			x.kind = active
		}
		if x.kind == inactive || x.kind == delayed {
			due = min(due, x.due)
		}
		encodeEntry(e, &x, &before)
	}
	return due
}

// encodeEntry writes an entry behind another one, which it then becomes but for the numbers that it does not have.
func encodeEntry(e *encoder, x, before *entry) {
	tag, usual := byte(x.kind), uint32(0)
	for i, v := range [...]int64{int64(x.nonce), x.due, x.first, x.base} {
		if v != 0 {
			tag |= tagNonce << i
		}
	}
	if x.nonce != 0 {
		usual = 1
	}
	if x.receives != usual || x.rewinds != 0 {
		tag |= tagCount
	}
	e.uv(uint64(x.off) - uint64(before.off))
	e.u8(tag)
	before.off = x.off + 1
	if x.nonce != 0 {
		e.zz(int64(x.nonce - before.nonce))
		before.nonce = x.nonce
	}
	if x.due != 0 {
		e.zz(x.due - before.due)
		before.due, before.base = x.due, x.due
	}
	if x.first != 0 {
		e.zz(x.first - before.first)
		before.first = x.first
	}
	if x.base != 0 {
		e.zz(x.base - before.base)
		before.base = x.base
	}
	if tag&tagCount != 0 {
		e.uv(uint64(x.receives))
		e.uv(uint64(x.rewinds))
	}
}

// decodeState reads a block's state.
func decodeState(d *decoder, b *body) error {
	shape := d.u8()
	for i, m := range []*bitmap{&b.active, &b.deleted} {
		for w := range m {
			if shape&(1<<i) != 0 {
				m[w] = d.u64()
			}
		}
	}
	n := d.count(2)
	if n > blockSize {
		return errShelf
	}
	b.entries = makeEntries(n)
	before := entry{}
	for range n {
		b.entries = append(b.entries, decodeEntry(d, &before))
	}
	if d.done() != nil {
		return errShelf
	}
	return nil
}

func decodeEntry(d *decoder, before *entry) (x entry) {
	off, tag := d.uv(), d.u8()
	if off > blockMask {
		d.bad = true
	}
	x.off, x.kind = before.off+uint16(off), kind(tag&tagKind)
	before.off = x.off + 1
	if tag&tagNonce != 0 {
		before.nonce += uint64(d.zz())
		x.nonce, x.receives = before.nonce, 1
	}
	if tag&tagDue != 0 {
		before.due += d.zz()
		x.due, before.base = before.due, before.due
	}
	if tag&tagFirst != 0 {
		before.first += d.zz()
		x.first = before.first
	}
	if tag&tagBase != 0 {
		before.base += d.zz()
		x.base = before.base
	}
	if tag&tagCount != 0 {
		x.receives, x.rewinds = uint32(d.uv()), uint32(d.uv())
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
			p.gap = 0
		}
		k := p.decode(p.data[at:])
		if d.bad || k == 0 {
			return errShelf
		}
		at += k
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

// fits checks what was read of a block against itself and against what is known of it.
func (b *body) fits(at shelved) error {
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
			return fmt.Errorf("%w: entry %d", errShelf, off)
		}
		last = off
	}
	for i, w := range b.deleted {
		if w&b.active[i] != 0 {
			return fmt.Errorf("%w: messages are active and deleted", errShelf)
		}
	}
	count, kept := b.counted()
	if kept != count[rewindable] {
		return fmt.Errorf("%w: deletions without entries", errShelf)
	}
	if count != at.count {
		return fmt.Errorf("%w: active, inactive, delayed and rewindable are %v, want %v", errShelf, count[active:], at.count[active:])
	}
	if b.active.next(b.places.n) >= 0 || b.deleted.next(b.places.n) >= 0 {
		return fmt.Errorf("%w: bits beyond the %d messages", errShelf, b.places.n)
	}
	return nil
}

// counted counts the messages of a body that was read, and the entries of rewindable ones.
func (b *body) counted() (count [rewindable + 1]int16, kept int16) {
	for i, w := range b.deleted {
		count[active] += int16(bits.OnesCount64(b.active[i]))
		count[rewindable] += int16(bits.OnesCount64(w))
	}
	for i := range b.entries {
		switch k := b.entries[i].kind; k {
		case rewindable:
			kept++
		case inactive, delayed:
			count[k]++
		}
	}
	return count, kept
}
