package spool

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spoolmq/spool/store"
)

// stored is a message as the log has it. Its slices are its own.
type stored struct {
	body   []byte
	attrs  []byte
	at     int64
	epoch  uint32
	origin *originRecord // of a dead letter
}

// sum is what a record with this body begins its checksum with.
func (m *stored) sum() uint32 { return store.BodySum(m.attrs, m.body) }

// clone returns the message with slices of its own. content is attrs and body, side by side.
func (m stored) clone(content []byte) stored {
	content = slices.Clone(content)
	m.attrs, m.body = content[:len(m.attrs):len(m.attrs)], content[len(m.attrs):]
	return m
}

// open reads the message whose record lies at pos, size bytes of content.
func (q *Queue) open(pos store.Position, seq uint64, size int) (m stored, err error) {
	raw, err := q.spool.disk.ReadRecord(pos, nil)
	if err != nil {
		return m, q.spool.readFailure(err)
	}
	r, _, err := store.NextRecord(raw)
	if err != nil {
		return m, storeError(&store.CorruptError{File: "log", Offset: int64(pos), Reason: err.Error()})
	}
	return q.parse(r, pos, seq, size)
}

// parse takes the message out of the record that was read at pos, and verifies that it is the one meant. Its slices are parts
// of the record.
func (q *Queue) parse(r store.Record, pos store.Position, seq uint64, size int) (m stored, err error) {
	var to sendRecord
	d := decoder{b: r.Head}
	switch r.Type {
	case recordSend:
		to.decode(&d)
	case recordDeadLetter:
		var x deadLetterRecord
		x.decode(&d)
		to, m.origin = x.to, &x.origin
	case recordCopy:
		var x copyRecord
		x.decode(&d)
		to = sendRecord{queue: x.queue, seq: x.seq, at: x.at, epoch: x.epoch, attrs: x.attrs}
		m.origin = x.origin
	}
	if d.done() != nil || to.queue != q.id || to.seq != seq || len(r.Body) != size || to.attrs < 0 || to.attrs > size {
		return m, storeError(&store.CorruptError{File: "log", Offset: int64(pos),
			Reason: fmt.Sprintf("record of queue %d, message %d with %d bytes; want queue %d, message %d with %d", to.queue, to.seq, len(r.Body), q.id, seq, size)})
	}
	m.attrs, m.body = r.Body[:to.attrs:to.attrs], r.Body[to.attrs:]
	m.at, m.epoch = to.at, to.epoch
	return m, nil
}

// deliver fills in what a delivery says without a lease.
func (m *stored) deliver(d *Delivery) {
	d.Body, d.EnqueuedAt = m.body, instantTime(m.at)
	if len(m.attrs) > 0 {
		d.Attributes = decodeAttributes(&decoder{b: m.attrs})
	}
	if o := m.origin; o != nil {
		d.DeadLetter = &Origin{o.queue, o.id, instantTime(o.enqueuedAt), int(o.receives), o.reason}
	}
}

// find is open for a message that may have moved since its place was looked up. It answers ErrGone when it is no longer
// here. Caller does not hold mu.
func (q *Queue) find(pos store.Position, seq uint64, size int) (stored, error) {
	for {
		m, err := q.open(pos, seq, size)
		if !errors.Is(err, store.ErrGone) {
			return m, err
		}
		now, ok := q.whereabouts(seq)
		if !ok || now == pos {
			return m, err
		}
		pos = now
	}
}

// whereabouts is the position of a message's record.
func (q *Queue) whereabouts(seq uint64) (store.Position, bool) {
	q.hold()
	defer q.mu.Unlock()
	b, off := q.st.locate(seq)
	for b != nil && b.body == nil {
		if !q.pageIn(true) {
			return 0, false
		}
		b, off = q.st.locate(seq)
	}
	if b == nil || b.kind(off) == gone {
		return 0, false
	}
	return q.st.cursor.get(&b.places, off).pos, true
}

// readFailure translates an error of a read: what is not damage to one record stops the spool.
func (s *Spool) readFailure(err error) error {
	switch {
	case errors.Is(err, store.ErrGone):
		return err
	case errors.Is(err, store.ErrCorrupt):
		return storeError(err)
	}
	s.commit.Fail(err)
	return s.failure(err)
}
