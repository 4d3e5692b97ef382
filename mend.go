package spool

import (
	"fmt"
	"math"
	"time"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/seglog"
)

const (
	// staleAfter is how much older than what stands before it a record may be that was found outside of a frame. Files
	// are used again, and what was in them before reads like records too.
	staleAfter = int64(time.Second)

	maxFillers = 1 << 16 // Bound: rewinds of one queue that were lost between two records
	maxSuspect = 1 << 20 // Bound: messages of which a body cannot be read and that are followed to their end
)

// A mender writes what is left of a log into a new one: the same records, in the same order, so that messages, their
// states and receipts stay what they were. It adds what replay must not miss: a beginning for each queue, its
// generations without a gap, and in the end names, dead-letter queues and the highest id.
type mender struct {
	*checkup
	out    scribe
	queues map[uint32]*patient
	gone   map[uint32]bool // queues that ended
	high   int64           // the latest instant in a record
	lastID uint32
	epoch  uint32 // the highest in a record
	lost   map[messageKey]suspect
	more   int64 // suspects that are not followed
}

// A patient is what the mender knows of a queue.
type patient struct {
	id         uint32
	name       string // empty until a record tells it
	hint       string // what other queues' records call it
	meta       Meta
	modified   int64 // of meta
	generation uint64
	settled    bool // generation is known, not only a lower bound
	keeps      bool // some of its deleted messages are rewindable
	next       uint64
	floors     floors
}

type messageKey struct {
	queue uint32
	seq   uint64
}

// A suspect is a message of which a body cannot be read.
type suspect struct {
	epoch  uint32
	at     int64
	file   string
	offset int64
	source messageKey // of a dead letter
}

func newMender(c *checkup, out store.Log) *mender {
	return &mender{checkup: c, out: scribe{log: out}, queues: map[uint32]*patient{}, gone: map[uint32]bool{},
		lost: map[messageKey]suspect{}, high: math.MinInt64}
}

// record takes a record over, or says why not.
func (m *mender) record(f seglog.Find) error {
	h := tell(f.Type, f.Head)
	if h == nil {
		m.report.damage(f.File, f.Offset, int64(f.Size()), fmt.Sprintf("record of type %d whose head does not decode", f.Type))
		return nil
	}
	if at, timed := instantOf(h); timed {
		if !f.Framed && at < m.high-staleAfter {
			return nil // a trace of what was in the file before
		}
		m.high = max(m.high, at)
	}
	switch h := h.(type) {
	case *sendRecord:
		return m.message(f, h, messageKey{})
	case *copyRecord:
		if q := m.queues[h.queue]; q != nil && h.state.kind == rewindable {
			q.keeps = true
		}
		return m.message(f, &sendRecord{queue: h.queue, seq: h.seq, at: h.at, epoch: h.epoch, generation: h.generation}, messageKey{})
	case *deadLetterRecord:
		return m.letter(f, h)
	case *receiveRecord:
		return m.change(f, h.queue, h.at)
	case *visibilityRecord:
		return m.change(f, h.queue, h.at)
	case *deleteRecord:
		return m.erased(f, h)
	case *rewindRecord:
		return m.rewound(f, h)
	case *queueRecord:
		return m.queue(f, h)
	case *snapshotRecord:
		return m.snapshot(h)
	case *ids:
		m.lastID = max(m.lastID, h.last)
		return m.out.keep(f.Record)
	}
	return nil
}

// instantOf is when a record was made. A COPY does not tell.
func instantOf(h head) (at int64, ok bool) {
	switch h := h.(type) {
	case *sendRecord:
		return h.at, true
	case *deadLetterRecord:
		return h.to.at, true
	case *receiveRecord:
		return h.at, true
	case *visibilityRecord:
		return h.at, true
	case *deleteRecord:
		return h.at, true
	case *rewindRecord:
		return h.at, true
	case *queueRecord:
		return h.at, true
	case *snapshotRecord:
		return h.at, true
	}
	return 0, false
}

// meet returns a queue, with a beginning made for one that no record has begun. It is nil for one that has ended.
func (m *mender) meet(id uint32, at int64, generation, next uint64) (*patient, error) {
	if m.gone[id] {
		return nil, nil
	}
	if q := m.queues[id]; q != nil {
		return q, nil
	}
	q := m.enter(id)
	q.meta, q.generation, q.next, q.floors.expired = Meta{}.withDefaults(), generation, next, math.MinInt64
	return q, m.begin(q, at)
}

// begin records what is known of a queue.
func (m *mender) begin(q *patient, at int64) error {
	r := snapshotRecord{queue: q.id, at: at, name: recoveredName(q.id, 0), meta: q.meta, floors: q.floors, next: q.next, lastAt: at,
		created: at, modified: at, generation: q.generation}
	return m.out.write(recordSnapshot, &r)
}

func (m *mender) enter(id uint32) *patient {
	q := &patient{id: id, modified: math.MinInt64}
	m.queues[id] = q
	m.lastID = max(m.lastID, id)
	return q
}

func recoveredName(id uint32, try int) string {
	if try == 0 {
		return fmt.Sprintf("recovered-%d", id)
	}
	return fmt.Sprintf("recovered-%d-%d", id, try)
}

// reach brings a queue to a generation: rewinds that were lost are made up for by some that bring nothing back.
func (m *mender) reach(q *patient, generation uint64, at int64) (ok bool, err error) {
	if generation <= q.generation {
		return true, nil
	}
	if generation-q.generation > maxFillers {
		if q.settled {
			return false, nil
		}
		q.generation = generation
		return true, m.begin(q, at)
	}
	if q.settled {
		m.report.note("queue %s: %d rewinds or changes of its rewind window are lost; what they brought back may be rewindable again",
			q.called(), generation-q.generation)
	}
	for q.generation < generation {
		q.generation++
		r := rewindRecord{queue: q.id, at: at, generation: q.generation, instant: math.MaxInt64}
		if err := m.out.write(recordRewind, &r); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (q *patient) called() string {
	switch {
	case q.name != "":
		return q.name
	case q.hint != "":
		return q.hint
	}
	return recoveredName(q.id, 0)
}

// message takes a SEND, a COPY or a dead letter over, if its body is whole.
func (m *mender) message(f seglog.Find, s *sendRecord, source messageKey) error {
	key := messageKey{s.queue, s.seq}
	q, err := m.meet(s.queue, s.at, s.generation, s.seq)
	if q == nil || err != nil {
		return err
	}
	near := nearby(q.next, s.seq)
	if near {
		near, err = m.reach(q, s.generation, max(m.high, s.at))
	}
	if err != nil {
		return err
	}
	if !near {
		m.report.damage(f.File, f.Offset, int64(f.Size()), "a message far from all others of its queue")
		return nil
	}
	m.epoch, q.settled = max(m.epoch, s.epoch), true
	q.next = max(q.next, s.seq+1)
	if f.Rotten {
		if len(m.lost) < maxSuspect {
			m.lost[key] = suspect{s.epoch, s.at, f.File, f.Offset, source}
		} else {
			m.more++
		}
		return nil
	}
	delete(m.lost, key)
	return m.out.keep(f.Record)
}

// letter takes a dead letter over. Its source knows it still when its body is not whole, or was told of again.
func (m *mender) letter(f seglog.Find, r *deadLetterRecord) error {
	source := messageKey{r.source, r.sourceSeq}
	q, err := m.meet(r.source, r.to.at, 0, r.sourceSeq)
	if err != nil {
		return err
	}
	if m.epoch = max(m.epoch, r.to.epoch); q == nil { // replay must not meet a queue that has ended
		c := copyRecord{queue: r.to.queue, seq: r.to.seq, at: r.to.at, epoch: r.to.epoch, generation: r.to.generation, attrs: r.to.attrs,
			state: entry{off: uint16(r.to.seq & blockMask), kind: active}, origin: &r.origin}
		f.Record = rebuilt(recordCopy, &c, f.Body)
		return m.message(f, &r.to, source)
	}
	q.hint = r.origin.queue
	if !f.Rotten {
		delete(m.lost, source)
	}
	if t, err := m.meet(r.to.queue, r.to.at, r.to.generation, r.to.seq); err != nil {
		return err
	} else if t != nil && t.name == "" && q.meta.DeadLetter != nil {
		t.hint = q.meta.DeadLetter.Queue
	}
	return m.message(f, &r.to, source)
}

// change takes over what only changes messages.
func (m *mender) change(f seglog.Find, id uint32, at int64) error {
	q, err := m.meet(id, at, 0, 0)
	if q == nil || err != nil {
		return err
	}
	return m.out.keep(f.Record)
}

func (m *mender) erased(f seglog.Find, r *deleteRecord) error {
	q, err := m.meet(r.queue, r.at, 0, 0)
	if q == nil || err != nil {
		return err
	}
	for _, x := range r.items {
		if q.keeps = q.keeps || x.kept; !x.kept {
			delete(m.lost, messageKey{r.queue, x.seq})
		}
	}
	return m.out.keep(f.Record)
}

func (m *mender) rewound(f seglog.Find, r *rewindRecord) error {
	q, err := m.meet(r.queue, r.at, r.generation-min(r.generation, 1), 0)
	if q == nil || err != nil {
		return err
	}
	return m.event(f, q, r.generation, r.at)
}

// event takes a record over that adds to the history of a queue.
func (m *mender) event(f seglog.Find, q *patient, generation uint64, at int64) error {
	ok := generation > q.generation
	if ok {
		var err error
		if ok, err = m.reach(q, generation-1, at); err != nil {
			return err
		}
	}
	if !ok {
		m.report.damage(f.File, f.Offset, int64(f.Size()), fmt.Sprintf("rewind %d of queue %s, whose last one was %d", generation, q.called(), q.generation))
		return nil
	}
	q.generation, q.settled = generation, true
	return m.out.keep(f.Record)
}

// queue takes a QUEUE over.
func (m *mender) queue(f seglog.Find, r *queueRecord) error {
	m.lastID = max(m.lastID, r.queue)
	if m.gone[r.queue] {
		return nil
	}
	if r.change == queueDropped {
		return m.end(f, r.queue)
	}
	if err := m.named(r.queue, r.name, r.at); err != nil {
		return err
	}
	q := m.queues[r.queue]
	if q == nil && r.change == queueCreated {
		q = m.enter(r.queue)
		q.settled = true
	} else if q == nil {
		var err error
		generation := uint64(0)
		if r.drop != nil {
			generation = r.drop.Generation - min(r.drop.Generation, 1)
		}
		if q, err = m.meet(r.queue, r.at, generation, 0); err != nil {
			return err
		}
	}
	q.name, q.meta, q.modified, q.floors = r.name, r.meta, r.at, r.floors
	if r.drop != nil {
		return m.event(f, q, r.drop.Generation, r.at)
	}
	return m.out.keep(f.Record)
}

// end takes the end of a queue over.
func (m *mender) end(f seglog.Find, id uint32) error {
	delete(m.queues, id)
	m.gone[id] = true
	return m.out.keep(f.Record)
}

// named makes room for a name: of two queues that had it the one with the lower id has ended, and the record is lost.
func (m *mender) named(id uint32, name string, at int64) error {
	for _, q := range m.queues {
		if q.id >= id || q.name == "" || fold(q.name) != fold(name) {
			continue
		}
		m.report.note("queue %s was deleted and made again; the record of the deletion is lost", name)
		m.gone[q.id] = true
		delete(m.queues, q.id)
		r := queueRecord{queue: q.id, change: queueDropped, at: at, name: q.name, meta: q.meta, floors: q.floors}
		if err := m.out.write(recordQueue, &r); err != nil {
			return err
		}
	}
	return nil
}

// snapshot takes a SNAPSHOT over. The events in it tell positions in the old log. All of them lie before it, and that is
// all that a position is asked for: the lowest one tells the same.
func (m *mender) snapshot(r *snapshotRecord) error {
	m.lastID = max(m.lastID, r.queue)
	if m.gone[r.queue] {
		return nil
	}
	if err := m.named(r.queue, r.name, r.at); err != nil {
		return err
	}
	q := m.queues[r.queue]
	if q == nil {
		q = m.enter(r.queue)
	}
	q.name, q.meta, q.modified, q.floors = r.name, r.meta, r.at, r.floors
	q.settled = true
	q.generation, q.next = max(q.generation, r.generation), max(q.next, r.next)
	for i := range r.events {
		r.events[i].Pos = 0
	}
	return m.out.write(recordSnapshot, r)
}
