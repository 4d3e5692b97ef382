package spool

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/spoolmq/spool/rewind"
)

// Format: the records of the log (their envelope is drawn in store/record.go). A record holds outcomes: replay needs no
// setting of a queue and no clock. uv is an unsigned varint, zz a zigzag varint, u64 eight bytes little endian; instants
// are u64 ns since the Unix epoch; q is a queue's number, seq a message's place in its queue.
//
//	SEND        q uv, seq uv, at u64, epoch uv, generation uv, delay uv (due − at, 0 = none), attrs uv (bytes)
//	            body: attributes, then the message
//	RECEIVE     q uv, at u64, due u64, n uv, n × (seq zz and nonce zz to the one before, receives uv)
//	DELETE      q uv, at u64, n uv, n × (seq zz to the one before, kept u8)
//	VISIBILITY  q uv, at u64, seq uv, change u8, due u64
//	REWIND      q uv, at u64, generation uv, instant u64, restored uv
//	QUEUE       q uv, change u8, at u64, settings, floors, event
//	DEADLETTER  source q uv, source seq uv, then as SEND with the target's q, seq, at, epoch, generation and attrs, origin
//	SNAPSHOT    q uv, at u64, settings, floors, counters, history
//	IDS         the highest q ever given uv
//	COPY        q uv, seq uv, at u64, epoch uv, generation uv, attrs uv, kind u8, receives uv, rewinds uv, fields u8,
//	            then those that are there: due u64 (bit 0), first u64 (1), base u64 (2), nonce u64 (3), origin (4)
//	            body: as SEND
//
//	settings    name, meta            floors    purged uv, expired u64
//	counters    next uv, last at u64, sent uv, received uv, deleted uv, created u64, modified u64
//	history     generation uv, n uv, n × event
//	event       generation uv, instant u64, at u64, position uv, drop u8
//	origin      queue name, id, enqueued at u64, receives uv, reason
//	attributes  n uv, n × (key, value)
//	text        size uv, bytes
const (
	recordSend       = 1
	recordReceive    = 2
	recordDelete     = 3
	recordVisibility = 4
	recordRewind     = 5
	recordQueue      = 6
	recordDeadLetter = 7
	recordSnapshot   = 8
	recordIDs        = 9
	recordCopy       = 10
)

// What a VISIBILITY record did.
const (
	visibilityExtended = 1 // the lease ends at due
	visibilityReleased = 2 // active at once, or delayed until due
	visibilityMoving   = 3 // released, and on its way to the dead-letter queue: the lease ended at due
	visibilityUnread   = 4 // the body could not be read: passed over until due, the receive does not count
)

// What a QUEUE record did.
const (
	queueCreated = 1
	queueSet     = 2
	queuePurged  = 3
	queueDropped = 4
)

// errRecord is what a decoder says of bytes that no encoder wrote.
var errRecord = errors.New("record head does not decode")

// An encoder appends fields.
type encoder []byte

func (e *encoder) uv(v uint64)   { *e = binary.AppendUvarint(*e, v) }
func (e *encoder) zz(v int64)    { *e = binary.AppendVarint(*e, v) }
func (e *encoder) u8(v byte)     { *e = append(*e, v) }
func (e *encoder) u64(v uint64)  { *e = binary.LittleEndian.AppendUint64(*e, v) }
func (e *encoder) at(v int64)    { e.u64(uint64(v)) }
func (e *encoder) text(s string) { e.uv(uint64(len(s))); *e = append(*e, s...) }
func (e *encoder) flag(b bool) {
	if b {
		e.u8(1)
	} else {
		e.u8(0)
	}
}

// A decoder takes fields off its bytes. After the first that is not there every field is zero and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uv() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) zz() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) u8() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) at() int64    { return int64(d.u64()) }
func (d *decoder) text() string { return string(d.take(d.uv())) }
func (d *decoder) flag() bool   { return d.u8() != 0 }

// count takes the number of items that follow, each of at least size bytes. Bound: a hostile count cannot ask for more
// memory than its record has bytes.
func (d *decoder) count(size int) int {
	n := d.uv()
	if n > uint64(len(d.b)/size) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}

// done says whether all fields were there and nothing is left.
func (d *decoder) done() error {
	if d.bad || len(d.b) > 0 {
		return errRecord
	}
	return nil
}

// sendRecord is a SEND, and the target's half of a DEADLETTER.
type sendRecord struct {
	queue      uint32
	seq        uint64
	at         int64
	epoch      uint32
	generation uint64
	delay      int64
	attrs      int // bytes of attributes at the body's start
}

func (r *sendRecord) encode(e *encoder) {
	e.uv(uint64(r.queue))
	e.uv(r.seq)
	e.at(r.at)
	e.uv(uint64(r.epoch))
	e.uv(r.generation)
	e.uv(uint64(r.delay))
	e.uv(uint64(r.attrs))
}

func (r *sendRecord) decode(d *decoder) {
	*r = sendRecord{queue: uint32(d.uv()), seq: d.uv(), at: d.at(), epoch: uint32(d.uv()), generation: d.uv(),
		delay: int64(d.uv()), attrs: int(d.uv())}
}

// deadLetterRecord is a move: one record for both queues.
type deadLetterRecord struct {
	source    uint32
	sourceSeq uint64
	to        sendRecord
	origin    originRecord
}

type originRecord struct {
	queue, id  string
	enqueuedAt int64
	receives   uint32
	reason     string
}

func (r *deadLetterRecord) encode(e *encoder) {
	e.uv(uint64(r.source))
	e.uv(r.sourceSeq)
	r.to.encode(e)
	r.origin.encode(e)
}

func (r *deadLetterRecord) decode(d *decoder) {
	r.source, r.sourceSeq = uint32(d.uv()), d.uv()
	r.to.decode(d)
	r.origin.decode(d)
}

func (r *originRecord) encode(e *encoder) {
	e.text(r.queue)
	e.text(r.id)
	e.at(r.enqueuedAt)
	e.uv(uint64(r.receives))
	e.text(r.reason)
}

func (r *originRecord) decode(d *decoder) {
	*r = originRecord{queue: d.text(), id: d.text(), enqueuedAt: d.at(), receives: uint32(d.uv()), reason: d.text()}
}

// copyRecord is a COPY: all of a message, recorded anew so that what was recorded before can go. at and epoch are those
// of its SEND, generation is what its state is up to date with. kind is active (1), inactive (2), delayed (3) or
// rewindable (4).
type copyRecord struct {
	queue      uint32
	seq        uint64
	at         int64
	epoch      uint32
	generation uint64
	attrs      int
	state      entry
	origin     *originRecord
}

func (r *copyRecord) encode(e *encoder) {
	e.uv(uint64(r.queue))
	e.uv(r.seq)
	e.at(r.at)
	e.uv(uint64(r.epoch))
	e.uv(r.generation)
	e.uv(uint64(r.attrs))
	x := &r.state
	e.u8(byte(x.kind))
	e.uv(uint64(x.receives))
	e.uv(uint64(x.rewinds))
	values, fields := [...]int64{x.due, x.first, x.base, int64(x.nonce)}, byte(0)
	for i, v := range values {
		if v != 0 {
			fields |= 1 << i
		}
	}
	if r.origin != nil {
		fields |= 1 << len(values)
	}
	e.u8(fields)
	for _, v := range values {
		if v != 0 {
			e.at(v)
		}
	}
	if r.origin != nil {
		r.origin.encode(e)
	}
}

func (r *copyRecord) decode(d *decoder) {
	*r = copyRecord{queue: uint32(d.uv()), seq: d.uv(), at: d.at(), epoch: uint32(d.uv()), generation: d.uv(), attrs: int(d.uv())}
	r.state = entry{off: uint16(r.seq & blockMask), kind: kind(d.u8()), receives: uint32(d.uv()), rewinds: uint32(d.uv())}
	var values [4]int64
	fields := d.u8()
	for i := range values {
		if fields&(1<<i) != 0 {
			values[i] = d.at()
		}
	}
	r.state.due, r.state.first, r.state.base, r.state.nonce = values[0], values[1], values[2], uint64(values[3])
	if fields&(1<<len(values)) != 0 {
		r.origin = &originRecord{}
		r.origin.decode(d)
	}
	if k := r.state.kind; k < active || k > rewindable || fields>>(len(values)+1) != 0 {
		d.bad = true
	}
}

// receiveRecord is a RECEIVE of one message or a batch.
type receiveRecord struct {
	queue uint32
	at    int64
	due   int64
	items []received
}

type received struct {
	seq      uint64
	nonce    uint64
	receives uint32
}

func (r *receiveRecord) encode(e *encoder) {
	e.uv(uint64(r.queue))
	e.at(r.at)
	e.at(r.due)
	e.uv(uint64(len(r.items)))
	last := received{}
	for _, m := range r.items {
		e.zz(int64(m.seq - last.seq))
		e.zz(int64(m.nonce - last.nonce))
		e.uv(uint64(m.receives))
		last = m
	}
}

func (r *receiveRecord) decode(d *decoder) {
	r.queue, r.at, r.due = uint32(d.uv()), d.at(), d.at()
	n := d.count(3)
	r.items = r.items[:0]
	last := received{}
	for range n {
		last = received{last.seq + uint64(d.zz()), last.nonce + uint64(d.zz()), uint32(d.uv())}
		r.items = append(r.items, last)
	}
}

// deleteRecord is a DELETE of one message or several.
type deleteRecord struct {
	queue uint32
	at    int64
	items []erased
}

type erased struct {
	seq  uint64
	kept bool // rewindable
}

func (r *deleteRecord) encode(e *encoder) {
	e.uv(uint64(r.queue))
	e.at(r.at)
	e.uv(uint64(len(r.items)))
	last := uint64(0)
	for _, m := range r.items {
		e.zz(int64(m.seq - last))
		e.flag(m.kept)
		last = m.seq
	}
}

func (r *deleteRecord) decode(d *decoder) {
	r.queue, r.at = uint32(d.uv()), d.at()
	n := d.count(2)
	r.items = r.items[:0]
	last := uint64(0)
	for range n {
		last += uint64(d.zz())
		r.items = append(r.items, erased{last, d.flag()})
	}
}

// visibilityRecord is a VISIBILITY.
type visibilityRecord struct {
	queue  uint32
	at     int64
	seq    uint64
	change byte
	due    int64
}

func (r *visibilityRecord) encode(e *encoder) {
	e.uv(uint64(r.queue))
	e.at(r.at)
	e.uv(r.seq)
	e.u8(r.change)
	e.at(r.due)
}

func (r *visibilityRecord) decode(d *decoder) {
	*r = visibilityRecord{queue: uint32(d.uv()), at: d.at(), seq: d.uv(), change: d.u8(), due: d.at()}
}

// rewindRecord is a REWIND.
type rewindRecord struct {
	queue      uint32
	at         int64
	generation uint64
	instant    int64
	restored   int64
}

func (r *rewindRecord) encode(e *encoder) {
	e.uv(uint64(r.queue))
	e.at(r.at)
	e.uv(r.generation)
	e.at(r.instant)
	e.uv(uint64(r.restored))
}

func (r *rewindRecord) decode(d *decoder) {
	*r = rewindRecord{queue: uint32(d.uv()), at: d.at(), generation: d.uv(), instant: d.at(), restored: int64(d.uv())}
}

// floors say what is gone for good: they only rise.
type floors struct {
	purged  uint64 // messages with a lower sequence
	expired int64  // messages enqueued at this instant or before
}

func (f *floors) encode(e *encoder) { e.uv(f.purged); e.at(f.expired) }
func (f *floors) decode(d *decoder) { *f = floors{d.uv(), d.at()} }

// queueRecord is a QUEUE.
type queueRecord struct {
	queue  uint32
	change byte
	at     int64
	name   string
	meta   Meta
	floors floors
	drop   *rewind.Event // what a change of Meta.Rewind ended, or nil
}

func (r *queueRecord) encode(e *encoder) {
	e.uv(uint64(r.queue))
	e.u8(r.change)
	e.at(r.at)
	e.text(r.name)
	encodeMeta(e, r.meta)
	r.floors.encode(e)
	e.flag(r.drop != nil)
	if r.drop != nil {
		encodeEvent(e, *r.drop)
	}
}

func (r *queueRecord) decode(d *decoder) {
	*r = queueRecord{queue: uint32(d.uv()), change: d.u8(), at: d.at(), name: d.text(), meta: decodeMeta(d)}
	r.floors.decode(d)
	if d.flag() {
		ev := decodeEvent(d)
		r.drop = &ev
	}
}

// snapshotRecord is a SNAPSHOT, and the queue's record in the index: all of a queue but its messages.
type snapshotRecord struct {
	queue      uint32
	at         int64
	name       string
	meta       Meta
	floors     floors
	next       uint64
	lastAt     int64
	sent       int64
	received   int64
	deleted    int64
	created    int64
	modified   int64
	generation uint64
	events     []rewind.Event
}

func (r *snapshotRecord) encode(e *encoder) {
	e.uv(uint64(r.queue))
	e.at(r.at)
	e.text(r.name)
	encodeMeta(e, r.meta)
	r.floors.encode(e)
	e.uv(r.next)
	e.at(r.lastAt)
	e.uv(uint64(r.sent))
	e.uv(uint64(r.received))
	e.uv(uint64(r.deleted))
	e.at(r.created)
	e.at(r.modified)
	e.uv(r.generation)
	e.uv(uint64(len(r.events)))
	for _, ev := range r.events {
		encodeEvent(e, ev)
	}
}

func (r *snapshotRecord) decode(d *decoder) {
	*r = snapshotRecord{queue: uint32(d.uv()), at: d.at(), name: d.text(), meta: decodeMeta(d)}
	r.floors.decode(d)
	r.next, r.lastAt = d.uv(), d.at()
	r.sent, r.received, r.deleted = int64(d.uv()), int64(d.uv()), int64(d.uv())
	r.created, r.modified, r.generation = d.at(), d.at(), d.uv()
	for range d.count(19) {
		r.events = append(r.events, decodeEvent(d))
	}
}

func encodeEvent(e *encoder, ev rewind.Event) {
	e.uv(ev.Generation)
	e.at(ev.Instant)
	e.at(ev.At)
	e.uv(ev.Pos)
	e.flag(ev.Drop)
}

func decodeEvent(d *decoder) rewind.Event {
	return rewind.Event{Generation: d.uv(), Instant: d.at(), At: d.at(), Pos: d.uv(), Drop: d.flag()}
}

func encodeMeta(e *encoder, m Meta) {
	e.uv(uint64(m.VisibilityTimeout))
	e.uv(uint64(m.PollingWait))
	e.uv(uint64(m.MaxMessageSize))
	e.uv(uint64(m.Retention))
	e.uv(uint64(m.Rewind))
	e.uv(uint64(m.MaxMessages))
	e.uv(uint64(m.Delay))
	e.flag(m.DeadLetter != nil)
	if dl := m.DeadLetter; dl != nil {
		e.text(dl.Queue)
		e.uv(uint64(dl.MaxReceives))
		e.uv(uint64(dl.MaxAge))
	}
}

func decodeMeta(d *decoder) Meta {
	m := Meta{VisibilityTimeout: time.Duration(d.uv()), PollingWait: time.Duration(d.uv()), MaxMessageSize: int(d.uv()),
		Retention: time.Duration(d.uv()), Rewind: time.Duration(d.uv()), MaxMessages: int64(d.uv()), Delay: time.Duration(d.uv())}
	if d.flag() {
		m.DeadLetter = &DeadLetter{Queue: d.text(), MaxReceives: int(d.uv()), MaxAge: time.Duration(d.uv())}
	}
	return m
}

// encodeAttributes appends a message's attributes in no particular order.
func encodeAttributes(e *encoder, attrs map[string]string) {
	e.uv(uint64(len(attrs)))
	for k, v := range attrs {
		e.text(k)
		e.text(v)
	}
}

func decodeAttributes(d *decoder) map[string]string {
	n := d.count(2)
	if n == 0 {
		return nil
	}
	attrs := make(map[string]string, n)
	for range n {
		k := d.text()
		attrs[k] = d.text()
	}
	return attrs
}
