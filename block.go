package spool

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/spoolmq/spool/rewind"
	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/timer"
)

const (
	blockBits   = 10
	blockSize   = 1 << blockBits // messages of a block: consecutive sequences, whatever frames they came in
	blockMask   = blockSize - 1
	summaryBits = 10
	summarySize = 1 << summaryBits // blocks of a summary
	summaryMask = summarySize - 1
)

// A bitmap has a bit for each message of a block, or for each block of a summary.
type bitmap [blockSize / 64]uint64

func (m *bitmap) has(i int) bool { return m[i>>6]&(1<<(i&63)) != 0 }
func (m *bitmap) set(i int)      { m[i>>6] |= 1 << (i & 63) }
func (m *bitmap) clear(i int)    { m[i>>6] &^= 1 << (i & 63) }

// next returns the first bit that is set at or after i, or -1.
func (m *bitmap) next(i int) int {
	if i >= blockSize {
		return -1
	}
	w := i >> 6
	word := m[w] &^ (1<<(i&63) - 1)
	for word == 0 {
		if w++; w == len(m) {
			return -1
		}
		word = m[w]
	}
	return w<<6 + bits.TrailingZeros64(word)
}

// A kind is the state of one message. A message without an entry is active, hidden or gone, by the block's bitmaps.
type kind uint8

const (
	gone       kind = iota // not here: deleted for good, expired, purged, moved; an entry of this kind is free
	active                 // can be received
	inactive               // leased
	delayed                // not before its due
	rewindable             // deleted and kept
	hidden                 // its send has not reached the spool's level
	pending                // hidden, and delayed when it is revealed
	moving                 // inactive; on its way to the dead-letter queue: nobody else touches it
	kinds
)

// An entry is what a message has beside its bits: most messages that wait have none. 48 bytes.
type entry struct {
	due      int64  // ns; the lease or the delay ends; of inactive, delayed and pending
	first    int64  // ns; first receive since the send or the last rewind; 0 = none
	base     int64  // ns; age for dead letters counts from here; 0 = from EnqueuedAt
	nonce    uint64 // of the latest delivery, and voided; after a rewind above all deliveries before it; 0 = none since the send
	receives uint32
	rewinds  uint32
	timer    timer.Handle // of inactive and delayed
	off      uint16
	kind     kind
}

// timed tells whether a lease or a delay ends.
func (e *entry) timed() bool { return e.kind == inactive || e.kind == delayed }

// voided is set in the nonce of a message whose latest lease is over though it is inactive again: its move to the
// dead-letter queue waits. The receipt of that lease works no more.
const voided = 1 << 63

// A block is 1,024 consecutive messages of one queue. What is always in memory of it is its stub: counts, and bounds of
// what falls due. Its body may be put out of memory while the index has it.
//
// Invariant: a message's kind is told by exactly one of: a bit in active, a bit in deleted, a bit in hidden, an entry of
// another kind; an active or rewindable message may have an entry of the same kind beside its bit.
// Invariant: generation ≤ the queue's; where it is less, the counts are right already, and bits and entries still show
// the deletions that later events brought back or ended: whoever looks at them calls state.refresh first.
// Invariant: a block without its body is as the index has it, but for what time and the history have ended or brought
// back by counts since, and has no message that is hidden, pending or moving.
type block struct {
	number     uint64
	owner      *summary
	count      [kinds]int32
	generation uint64 // of the queue's history, that bits and entries are up to date with
	ageMin     int64  // ns; lower bound of the age base of every message that is not leased; MaxInt64 = none
	rewind     *rewind.Block
	*body      // nil while it is not in memory
	away       away
	saved      shelved
	wanted     bool // it is in state.wanted
}

// A body is what of a block is not always in memory.
type body struct {
	active  bitmap
	deleted bitmap
	hidden  bitmap
	dead    int32   // entries of kind gone
	weight  int32   // bytes, as state.bytes counts them
	dirty   bool    // changed since it was saved
	used    bool    // since the pager last looked
	entries []entry // by off
	places  places

	before, behind *block // in state.resident
}

// away is what is known of a block whose body is not in memory.
type away struct {
	first, last int64          // EnqueuedAt of the first message and of the last one
	low         store.Position // no message that is here lies below
	bytes       int64          // contents of the messages that were sent
	held        int32          // their number
	due         int64          // ns; the earliest lease or delay ends
	timer       timer.Handle   // at due; 0 = none
}

// shelved is what the index has of a block.
type shelved struct {
	state      uint64                // turn of its state; 0 = it is not in the index
	places     int                   // edition of its places
	included   store.Position        // replay skips older records: they are in it
	generation uint64                // of the bits and entries there
	count      [rewindable + 1]int16 // of the bits and entries there
	spilled    bool                  // the replay of the last Open has saved the places
}

func (b *block) first() uint64 { return b.number << blockBits }

// span returns instants between which all messages were sent.
func (b *block) span() (first, last int64) {
	if b.body == nil {
		return b.away.first, b.away.last
	}
	return b.places.span()
}

// low is a position below which no message lies that is here.
func (b *block) low() store.Position {
	if b.body == nil {
		return b.away.low
	}
	return b.places.low
}

// unsettled tells whether messages are about to change whose change has been recorded already.
func (b *block) unsettled() bool { return b.count[hidden]+b.count[pending]+b.count[moving] > 0 }

// total is the number of messages of every kind that are here.
func (b *block) total() int32 {
	n := int32(0)
	for k := active; k < kinds; k++ {
		n += b.count[k]
	}
	return n
}

// find returns the index of the entry of off, or where it would stand.
func (b *block) find(off int) (int, bool) {
	es := b.entries
	n := len(es)
	if n == 0 || int(es[n-1].off) < off {
		return n, false
	}
	// Offsets differ and rise, so off lies no further behind the first entry, and before the last, than they count: where
	// there is no gap nothing is left to be searched.
	lo, hi := max(0, n-1-(int(es[n-1].off)-off)), min(n-1, off-int(es[0].off))
	for lo < hi {
		if mid := int(uint(lo+hi) / 2); int(es[mid].off) < off {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, int(es[lo].off) == off
}

// entry returns the entry of off, or nil. It is valid until the next call of put.
func (b *block) entry(off int) *entry {
	i, ok := b.find(off)
	if !ok || b.entries[i].kind == gone {
		return nil
	}
	return &b.entries[i]
}

// put returns the entry of off, made if need be.
func (b *block) put(off int) *entry {
	i, ok := b.find(off)
	if ok {
		e := &b.entries[i]
		if e.kind == gone {
			*e = entry{off: uint16(off)}
			b.dead--
		}
		return e
	}
	if b.dead > int32(len(b.entries))/2 {
		b.entries = slices.DeleteFunc(b.entries, func(e entry) bool { return e.kind == gone })
		b.dead = 0
		i, _ = b.find(off)
	}
	if len(b.entries) == cap(b.entries) {
		// Capacities double and end at exactly a block, so that a full one wastes nothing.
		grown := make([]entry, len(b.entries), min(max(4, 2*cap(b.entries)), blockSize))
		copy(grown, b.entries)
		b.entries = grown
	}
	b.entries = append(b.entries, entry{})
	copy(b.entries[i+1:], b.entries[i:])
	b.entries[i] = entry{off: uint16(off)}
	return &b.entries[i]
}

// drop frees the entry of a message. It stays in place until half of the entries are free: a consumer that deletes in
// order would otherwise move all of them each time.
func (b *block) drop(e *entry) {
	e.kind = gone
	if b.dead++; int(b.dead) == len(b.entries) {
		b.entries, b.dead = b.entries[:0], 0
	}
}

// kind tells what the message is. Caller has refreshed b.
func (b *block) kind(off int) kind {
	if b.active.has(off) {
		return active
	}
	if b.deleted.has(off) {
		return rewindable
	}
	if b.hidden.has(off) {
		return hidden
	}
	if e := b.entry(off); e != nil {
		return e.kind
	}
	return gone
}

// next returns the first message at or after off that is here, of whatever kind, or -1. Caller has refreshed b.
func (b *block) next(off int) int {
	best := blockSize
	for _, m := range []*bitmap{&b.active, &b.deleted, &b.hidden} {
		if i := m.next(off); i >= 0 && i < best {
			best = i
		}
	}
	for i, _ := b.find(off); i < len(b.entries) && int(b.entries[i].off) < best; i++ {
		if b.entries[i].kind != gone {
			best = int(b.entries[i].off)
		}
	}
	if best == blockSize {
		return -1
	}
	return best
}

// A summary is what is known of 1,024 consecutive blocks without looking at them.
type summary struct {
	number uint64
	blocks []*block // by number & summaryMask; nil where nothing is left
	active bitmap   // blocks with active messages
	count  [kinds]int32
}

// total is the number of messages of every kind that are here.
func (s *summary) total() int32 {
	n := int32(0)
	for k := active; k < kinds; k++ {
		n += s.count[k]
	}
	return n
}

// anchorEvery is the number of messages after which places begin anew with whole values: what one look-up decodes.
const anchorEvery = 64

// usualGap is what most often lies between the contents of two messages of one frame: envelope and head.
const usualGap = 40

// maxMoved is how many moved messages of a block have their places beside the code, before all are coded anew.
const maxMoved = 64

// places tell where the messages of a block lie, how large they are and when they were sent, delta-coded: one byte for a
// message like the one before it in its batch, two to five for others. What is coded stays as it is; a message that the
// cleaner moves, or that replay learns of after those behind it, stands in a side list that counts first.
//
// Invariant: EnqueuedAt does not decrease with the offset. A real message has content, so a size of 0 is a message that
// was left out.
type places struct {
	data    []byte // a code for each message, see trail
	anchors []anchor
	trail                  // behind the last message
	n       int            // messages coded, those left out included
	held    int            // messages not left out
	bytes   int64          // their contents
	moved   []moved        // by off, each below n; Bound: maxMoved
	moves   int            // how often a message has come to moved
	low     store.Position // no message that is here lies below; what is gone may have
}

// A moved message is not where the code says.
type moved struct {
	off   uint16
	place place
}

// edition tells the places of a block from what they were before and will be: it rises with every change.
func (p *places) edition() int { return p.n + p.moves<<editionBits }

// editionBits is the part of an edition that counts messages, which are at most blockSize.
const editionBits = blockBits + 1

// A place is where a message's record lies, the size of its content (attributes and body) and its EnqueuedAt in ns.
type place struct {
	pos  store.Position
	size int
	at   int64
}

// A trail is what the code of a message goes by: the one before it, and the gap between that and the one before that.
//
// Format: EnqueuedAt to the one before × 4 + flags uv; size uv, unless it is the same (flag 1); gap zz, unless it is the same
// (flag 2). Of every anchorEvery-th message the gap before is 0.
//
// Bound: 146 years between two messages of a block.
type trail struct {
	last place
	gap  int64
}

const (
	sameSize = 1 << iota
	sameGap
	trailFlags = iota // how many
)

// encode appends the code of the message at pl, which comes next.
func (t *trail) encode(data []byte, pl place) []byte {
	gap := int64(pl.pos-t.last.pos) - int64(t.last.size) - usualGap
	head := uint64(pl.at-t.last.at) << trailFlags
	if pl.size == t.last.size {
		head |= sameSize
	}
	if gap == t.gap {
		head |= sameGap
	}
	data = binary.AppendUvarint(data, head)
	if head&sameSize == 0 {
		data = binary.AppendUvarint(data, uint64(pl.size))
	}
	if head&sameGap == 0 {
		data = binary.AppendVarint(data, gap)
	}
	t.last, t.gap = pl, gap
	return data
}

// decode goes on by one message, and returns the length of its code, or 0 when there is none.
func (t *trail) decode(data []byte) (n int) {
	head, n := binary.Uvarint(data)
	if n <= 0 {
		return 0
	}
	size, gap := uint64(t.last.size), t.gap
	if head&sameSize == 0 {
		v, k := binary.Uvarint(data[n:])
		if k <= 0 {
			return 0
		}
		size, n = v, n+k
	}
	if head&sameGap == 0 {
		v, k := binary.Varint(data[n:])
		if k <= 0 {
			return 0
		}
		gap, n = v, n+k
	}
	t.last.pos += store.Position(gap + int64(t.last.size) + usualGap)
	t.last.size = int(size)
	t.last.at += int64(head >> trailFlags)
	t.gap = gap
	return n
}

// An anchor is the place before a message whose offset is a multiple of anchorEvery, and where its code begins.
type anchor struct {
	before place
	data   uint32
}

// add codes the next message. Offsets rise; those left out are coded as empty and standing where the one before does.
func (p *places) add(off int, pl place) {
	if p.n == 0 {
		p.last = place{pos: pl.pos, at: pl.at}
	}
	for p.n < off {
		p.code(place{pos: p.last.pos, at: p.last.at})
	}
	p.code(pl)
}

func (p *places) code(pl place) {
	if p.n%anchorEvery == 0 {
		p.anchors = append(p.anchors, anchor{p.last, uint32(len(p.data))})
		p.gap = 0
	}
	p.data = p.encode(p.data, pl)
	p.count(pl)
	if p.n++; p.n == blockSize {
		p.data, p.anchors = slices.Clip(slices.Clone(p.data)), slices.Clip(slices.Clone(p.anchors))
	}
}

// count takes a place into account that has become known.
func (p *places) count(pl place) {
	if pl.size > 0 {
		p.held++
		p.bytes += int64(pl.size)
		p.low = min(p.low, pl.pos)
	}
}

// move gives a message below n another place, or its first one. Cursors are void when it returns true.
func (p *places) move(off int, pl place) (packed bool) {
	p.moves++
	i, ok := p.find(off)
	if ok {
		p.moved[i].place = pl
		p.low = min(p.low, pl.pos)
		return false
	}
	var c cursor
	if c.get(p, off).size == 0 {
		p.count(pl)
	}
	p.low = min(p.low, pl.pos)
	p.moved = slices.Insert(p.moved, i, moved{uint16(off), pl})
	if len(p.moved) <= maxMoved {
		return false
	}
	p.pack()
	return true
}

// find returns the index in moved of a message, or where it would stand.
func (p *places) find(off int) (int, bool) {
	return slices.BinarySearchFunc(p.moved, off, func(m moved, off int) int { return int(m.off) - off })
}

// pack codes everything anew, so that nothing is beside the code.
func (p *places) pack() {
	packed := places{moves: p.moves, low: p.low}
	var c cursor
	for off := range p.n {
		if pl := c.get(p, off); pl.size > 0 {
			packed.add(off, pl)
		}
	}
	*p = packed
}

// span returns instants between which all messages were sent, the first one's at the latest and the last one's.
func (p *places) span() (first, last int64) {
	first = p.anchors[0].before.at
	if len(p.moved) > 0 {
		first = min(first, p.moved[0].place.at)
	}
	return first, p.last.at
}

// A cursor remembers where a look-up ended, so that readers in sequence decode one message a look-up.
type cursor struct {
	of   *places
	off  int // of the message that comes next
	data int
	trail
}

// get returns the place of a message that has been added.
func (c *cursor) get(p *places, off int) place {
	if len(p.moved) > 0 {
		if i, ok := p.find(off); ok {
			return p.moved[i].place
		}
	}
	if c.of != p || off < c.off || off-c.off >= anchorEvery {
		a := &p.anchors[off/anchorEvery]
		*c = cursor{p, off &^ (anchorEvery - 1), int(a.data), trail{last: a.before}}
	}
	for {
		if c.off%anchorEvery == 0 {
			c.gap = 0
		}
		c.data += c.decode(p.data[c.data:])
		if c.off++; c.off > off {
			return c.last
		}
	}
}

func newBlock(number uint64, owner *summary, generation uint64) *block {
	return &block{number: number, owner: owner, generation: generation, ageMin: math.MaxInt64, body: newBody()}
}

func newBody() *body { return &body{places: places{low: math.MaxUint64}} }
