package spool

import (
	"cmp"
	"hash/crc32"
	"log/slog"
	"maps"
	"math"
	"slices"

	"github.com/spoolmq/spool/store"
)

// finish adds what the queues lack, and makes everything durable.
func (m *mender) finish() error {
	if err := m.recall(); err != nil {
		return err
	}
	if err := m.christen(); err != nil {
		return err
	}
	if err := m.bindAll(); err != nil {
		return err
	}
	if err := m.out.write(recordIDs, &ids{m.lastID}); err != nil {
		return err
	}
	if err := m.out.flush(); err != nil {
		return err
	}
	log := m.out.log
	if err := log.Sync(log.End()); err != nil {
		return err
	}
	return log.Mark(max(m.high, m.survey.Info().HighWater), true)
}

// byID are the queues in the order of their ids.
func (m *mender) byID() []*patient {
	return slices.SortedFunc(maps.Values(m.queues), func(a, b *patient) int { return cmp.Compare(a.id, b.id) })
}

// recall takes the settings of queues whose own records are lost from the index, if that can be read.
func (m *mender) recall() error {
	var nameless []*patient
	for _, q := range m.byID() {
		if q.name == "" {
			nameless = append(nameless, q)
		}
	}
	if len(nameless) == 0 {
		return nil
	}
	disk := &still{info: m.survey.Info(), start: m.survey.Start(), end: math.MaxUint64}
	o := defaults
	o.logger = slog.New(slog.DiscardHandler)
	r := &replay{spool: newSpool(o, disk), queues: map[uint32]*Queue{}}
	if whole, err := m.openIndex(disk, r); !whole || err != nil {
		return nil
	}
	for _, q := range nameless {
		was := r.queues[q.id]
		if was == nil {
			continue
		}
		q.name, q.meta, q.floors, q.modified = was.name, *was.st.meta, was.st.floors, was.st.modified
		m.report.note("queue %s: its name and its settings are those of the index", q.name)
		if err := m.set(q); err != nil {
			return err
		}
	}
	return nil
}

// christen gives queues their names whose own records are lost. Of two with one name, which cannot have been, the later
// one keeps it.
func (m *mender) christen() error {
	taken := map[string]bool{}
	var nameless []*patient
	for _, q := range slices.Backward(m.byID()) {
		if q.name == "" || taken[fold(q.name)] {
			nameless = append(nameless, q)
			continue
		}
		taken[fold(q.name)] = true
	}
	for _, q := range slices.Backward(nameless) {
		name := q.hint
		for try := 0; checkQueueName(name) != nil || taken[fold(name)]; try++ {
			name = recoveredName(q.id, try)
		}
		m.report.note("queue %s: its name or its settings are lost; it has those of a new queue, but keeps messages for %v", name, maxRetention)
		if q.keeps {
			q.meta.Rewind = maxRetention
		}
		q.name, taken[fold(name)], q.meta.Retention = name, true, maxRetention
		if err := m.set(q); err != nil {
			return err
		}
	}
	return nil
}

// bindAll makes every dead-letter queue one that may be: it is there, and has none of its own.
func (m *mender) bindAll() error {
	named := map[string]*patient{}
	for _, q := range m.byID() {
		named[fold(q.name)] = q
	}
	for _, q := range m.byID() {
		dl := q.meta.DeadLetter
		if dl == nil {
			continue
		}
		t := named[fold(dl.Queue)]
		if t == nil {
			var err error
			if t, err = m.makeTarget(q, dl.Queue); err != nil {
				return err
			}
			named[fold(dl.Queue)] = t
		}
		if t.meta.DeadLetter == nil && t != q {
			continue
		}
		old := q // of two settings that exclude each other the earlier one was changed later on
		if t.modified < q.modified {
			old = t
		}
		m.report.note("queue %s has no dead-letter queue any more: the record that said so is lost", old.name)
		old.meta.DeadLetter = nil
		if err := m.set(old); err != nil {
			return err
		}
	}
	return nil
}

// makeTarget makes the dead-letter queue of a queue, of which nothing is left.
func (m *mender) makeTarget(q *patient, name string) (*patient, error) {
	if err := checkQueueName(name); err != nil {
		return nil, err
	}
	t := m.enter(m.lastID + 1)
	t.name, t.meta, t.floors.expired = name, Meta{}.withDefaults(), math.MinInt64
	m.report.note("queue %s, the dead-letter queue of %s, is lost; it was made again, empty", name, q.name)
	r := queueRecord{queue: t.id, change: queueCreated, at: m.high, name: name, meta: t.meta, floors: t.floors}
	return t, m.out.write(recordQueue, &r)
}

// set records the settings of a queue.
func (m *mender) set(q *patient) error {
	r := queueRecord{queue: q.id, change: queueSet, at: m.high, name: q.name, meta: q.meta, floors: q.floors}
	return m.out.write(recordQueue, &r)
}

// weighLosses names the messages that are lost: those whose body cannot be read, whose end is not recorded, and of which
// there is no other record. queues is what a replay of the new log gives.
func (m *mender) weighLosses(queues map[uint32]*Queue) {
	here := func(k messageKey) bool {
		q := queues[k.queue]
		if q == nil {
			return false
		}
		b, off := q.st.locate(k.seq)
		return b != nil && b.kind(off) != gone
	}
	for k, s := range m.lost {
		q := queues[k.queue]
		if q == nil || k.seq < q.st.floors.purged || s.at <= q.st.floors.expired || after(s.at, int64(q.st.meta.Retention)) <= m.high ||
			here(k) || s.source.queue != 0 && here(s.source) {
			continue
		}
		m.report.LostCount++
		m.report.Lost = append(m.report.Lost, LostMessage{q.name, messageID(k.queue, s.epoch, k.seq), s.file, s.offset})
	}
	slices.SortFunc(m.report.Lost, func(a, b LostMessage) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Offset, b.Offset))
	})
	m.report.Lost = m.report.Lost[:min(len(m.report.Lost), maxLost)]
	m.report.LostCount += m.more
}

// rebuilt is a record with a head of its own.
func rebuilt(typ byte, h interface{ encode(*encoder) }, body []byte) store.Record {
	var e encoder
	h.encode(&e)
	return store.Record{Type: typ, Head: e, Body: body}
}

func (r *ids) encode(e *encoder) { e.uv(uint64(r.last)) }

// scribeFrame is how many bytes of records a scribe puts into one frame, unless a single one is larger.
const scribeFrame = 1 << 20

// A scribe writes records into a log in frames.
type scribe struct {
	log     store.Log
	buf     []byte
	heads   uint32
	records uint32
}

func (s *scribe) write(typ byte, h interface{ encode(*encoder) }) error {
	return s.keep(rebuilt(typ, h, nil))
}

// keep adds a record. Its slices are not kept.
func (s *scribe) keep(r store.Record) error {
	if len(s.buf) > 0 && len(s.buf)+r.Size() > scribeFrame {
		if err := s.flush(); err != nil {
			return err
		}
	}
	at := len(s.buf)
	s.buf = store.AppendRecordHead(s.buf, r.Type, r.Head, len(r.Body), store.BodySum(r.Body))
	s.heads = crc32.Update(s.heads, store.Castagnoli, s.buf[at:])
	s.buf = append(s.buf, r.Body...)
	s.records++
	return nil
}

func (s *scribe) flush() error {
	if s.records == 0 {
		return nil
	}
	if need := int64(store.FrameSize(len(s.buf))); s.log.Room() < need {
		if err := s.log.Grow(need); err != nil {
			return err
		}
	}
	_, err := s.log.Append(store.Payload{Parts: [][]byte{s.buf}, Len: len(s.buf), Heads: s.heads, Records: s.records})
	s.buf, s.heads, s.records = s.buf[:0], 0, 0
	return err
}
