package spool

import (
	"fmt"
	"math"
	"time"

	"github.com/spoolmq/spool/rewind"
	"github.com/spoolmq/spool/store"
)

// recover brings the spool to the state that the log tells of: the index as far as it reaches, then the records behind
// it. shelf is nil for a spool without an index.
func (s *Spool) recover(shelf *shelf) error {
	s.keeper = newKeeper(shelf)
	if shelf != nil {
		shelf.step = s.step
	}
	r := &replay{spool: s, shelf: shelf, queues: map[uint32]*Queue{}}
	err := r.run(shelf.load(r))
	for again := false; r.bad != nil; again = true {
		from := shelf.refuse(r, r.bad)
		r.full = again // the index fails that was made anew: all of the log is in memory then, and nothing can be missing
		err = r.run(from)
	}
	if err == nil {
		s.step.at(stepIndexReplayed)
	}
	return err
}

// run replays the log from a position on.
func (r *replay) run(from store.Position) error {
	s := r.spool
	if err := s.disk.Replay(from, r.frame); err != nil {
		return err
	}
	wall := time.Now()
	s.opened, s.base = wall, max(wall.UnixNano(), s.disk.Info().HighWater, r.high)
	return r.finish()
}

// A replay applies the records of a log to queues, in the order of the log. Records hold outcomes, so it runs no timer
// and looks at no setting. What the index brought in knows the position it includes: older records are skipped for it.
type replay struct {
	spool  *Spool
	shelf  *shelf
	bad    error             // what the index has not, or not as it should
	full   bool              // the index takes nothing
	saved  int               // blocks that were put out since the index was synced
	queues map[uint32]*Queue // by id; one without a name has not been told of yet
	high   int64             // the highest instant seen
	lastID uint32
	idPos  store.Position
	shed   []uint32 // queues that ended, and that the index still has

	send    sendRecord // scratch
	letter  deadLetterRecord
	copy    copyRecord
	receive receiveRecord
	erase   deleteRecord
}

func (r *replay) frame(pos store.Position, payload []byte) error {
	at := pos + store.FrameHeaderSize
	for rest := payload; len(rest) > 0; {
		rec, next, err := store.NextRecord(rest)
		if err == nil {
			err = r.record(at, rec)
		}
		if err == nil {
			r.spill(at + 1)
		}
		if r.bad != nil {
			return r.bad
		}
		if err != nil {
			return &store.CorruptError{File: "log", Offset: int64(at), Reason: err.Error()}
		}
		at += store.Position(len(rest) - len(next))
		rest = next
	}
	return nil
}

func (r *replay) record(pos store.Position, rec store.Record) error {
	d := &decoder{b: rec.Head}
	switch rec.Type {
	case recordSend:
		r.send.decode(d)
		return r.message(d, r.send.queue, r.send.seq, func() { r.sent(pos, &r.send, len(rec.Body), true) })
	case recordReceive:
		r.receive.decode(d)
		return r.decoded(d, func() { r.received(pos, &r.receive) })
	case recordDelete:
		r.erase.decode(d)
		return r.decoded(d, func() { r.erased(pos, &r.erase) })
	case recordVisibility:
		var v visibilityRecord
		v.decode(d)
		return r.decoded(d, func() { r.visibility(pos, &v) })
	case recordRewind:
		var w rewindRecord
		w.decode(d)
		return r.decoded(d, func() { r.rewound(pos, &w) })
	case recordQueue:
		var q queueRecord
		q.decode(d)
		return r.decoded(d, func() { r.queue(pos, &q) })
	case recordDeadLetter:
		r.letter.decode(d)
		return r.message(d, r.letter.to.queue, r.letter.to.seq, func() { r.moved(pos, &r.letter, len(rec.Body)) })
	case recordSnapshot:
		var q snapshotRecord
		q.decode(d)
		return r.decoded(d, func() { r.snapshot(pos, &q) })
	case recordIDs:
		id := uint32(d.uv())
		return r.decoded(d, func() { r.saw(id, pos) })
	case recordCopy:
		r.copy.decode(d)
		return r.message(d, r.copy.queue, r.copy.seq, func() { r.copied(pos, &r.copy, len(rec.Body)) })
	}
	return fmt.Errorf("record of unknown type %d", rec.Type)
}

func (r *replay) decoded(d *decoder, apply func()) error {
	if err := d.done(); err != nil {
		return err
	}
	apply()
	return nil
}

// message is decoded for a record that brings a message.
func (r *replay) message(d *decoder, queue uint32, seq uint64, apply func()) error {
	if err := r.reach(queue, seq); err != nil {
		return err
	}
	return r.decoded(d, apply)
}

// reach returns an error when a message lies where none of its queue can: the directory of blocks grows with the distance.
func (r *replay) reach(queue uint32, seq uint64) error {
	if q := r.queues[queue]; q != nil && !nearby(q.st.next, seq) {
		return fmt.Errorf("message %d of queue %d, whose next one is %d", seq, queue, q.st.next)
	}
	return nil
}

// saw notes the highest queue id and where it is told.
func (r *replay) saw(id uint32, pos store.Position) {
	if id >= r.lastID {
		r.lastID, r.idPos = id, pos
	}
}

// find returns the state of a queue and whether the record is news to it. A queue that has not been told of yet is begun
// empty: its SNAPSHOT, or its end, must follow.
func (r *replay) find(id uint32, pos store.Position, at int64) (q *Queue, news bool) {
	r.high = max(r.high, at)
	q = r.queues[id]
	if q == nil {
		q = newQueue(r.spool, "", newState(id, Meta{}, at))
		q.st.replaying = true
		r.queues[id] = q
	}
	r.tell(q)
	if pos < q.included {
		return q, false
	}
	q.st.touched = true
	return q, true
}

// open returns a block that the record is news to, brought up to what was true before the record, or nil.
func (r *replay) open(q *Queue, seq uint64, pos store.Position) (*block, int) {
	b := q.st.block(seq >> blockBits)
	if b == nil || pos < b.saved.included || !r.here(q, b) {
		return nil, 0
	}
	q.st.refreshTo(b, uint64(pos))
	return b, int(seq & blockMask)
}

// here makes sure that a block is in memory. It answers false when the index does not have it: then the replay ends.
func (r *replay) here(q *Queue, b *block) bool {
	if b.body == nil && r.bad == nil {
		r.bad = r.shelf.bring(q, b)
	}
	if b.body == nil {
		return false
	}
	b.used = true
	return true
}

// all calls f for the blocks of a queue that a record is news to and that need it, once they are in memory and brought
// up to what was true before.
func (r *replay) all(q *Queue, pos store.Position, need func(*block) bool, f func(*block)) {
	q.st.each(func(*summary) bool { return false }, func(b *block) bool {
		if pos < b.saved.included || !need(b) {
			return true
		}
		if !r.here(q, b) {
			return false
		}
		q.st.refreshTo(b, uint64(pos))
		f(b)
		if r.tell(q) {
			r.stow(q, []*block{b}, pos+1)
		}
		return r.bad == nil
	})
}

func (r *replay) sent(pos store.Position, m *sendRecord, size int, count bool) {
	q, news := r.find(m.queue, pos, m.at)
	st := q.st
	if news {
		st.next, st.lastAt = max(st.next, m.seq+1), max(st.lastAt, m.at)
		if count {
			st.sent++
		}
	}
	if m.seq < st.floors.purged {
		return
	}
	off := int(m.seq & blockMask)
	if b := st.block(m.seq >> blockBits); b != nil && (pos < b.saved.included || !r.here(q, b) || off < b.places.n) {
		return
	}
	b := st.ensure(m.seq)
	b.used = true
	if b.places.n == 0 {
		b.generation = m.generation
	}
	st.refreshTo(b, uint64(pos))
	st.insert(b, off, place{pos, size, m.at})
	if m.delay > 0 {
		e := st.put(b, off)
		e.kind, e.due, e.base = delayed, m.at+m.delay, m.at+m.delay
		st.shift(b, off, gone, delayed)
	} else {
		st.shift(b, off, gone, active)
	}
}

// copied makes a message what a COPY says, whether it is known or what was recorded of it before is dropped. Messages
// whose records are dropped become known here, so they do not come in the order of their sequence.
func (r *replay) copied(pos store.Position, m *copyRecord, size int) {
	q, news := r.find(m.queue, pos, m.at)
	st := q.st
	if news {
		st.next, st.lastAt = max(st.next, m.seq+1), max(st.lastAt, m.at)
	}
	b := st.block(m.seq >> blockBits)
	if m.seq < st.floors.purged || b != nil && (pos < b.saved.included || !r.here(q, b)) {
		return
	}
	if b == nil {
		b = st.ensure(m.seq)
		b.generation = m.generation
	}
	st.refreshTo(b, uint64(pos))
	off := int(m.seq & blockMask)
	st.insert(b, off, place{pos, size, m.at})
	st.shift(b, off, b.kind(off), m.state.kind)
	if plain := (entry{off: m.state.off, kind: active}); m.state != plain {
		*st.put(b, off) = m.state
	} else if e := b.entry(off); e != nil {
		b.drop(e)
	}
}

func (r *replay) received(pos store.Position, m *receiveRecord) {
	q, news := r.find(m.queue, pos, m.at)
	if news {
		q.st.received += int64(len(m.items))
	}
	for _, x := range m.items {
		b, off := r.open(q, x.seq, pos)
		if b == nil || b.kind(off) == gone {
			continue
		}
		q.st.shift(b, off, b.kind(off), inactive)
		e := q.st.put(b, off)
		e.kind, e.due, e.nonce, e.receives = inactive, m.due, x.nonce, x.receives
		if e.first == 0 {
			e.first = m.at
		}
	}
}

func (r *replay) erased(pos store.Position, m *deleteRecord) {
	q, news := r.find(m.queue, pos, m.at)
	if news {
		q.st.erased += int64(len(m.items))
	}
	for _, x := range m.items {
		b, off := r.open(q, x.seq, pos)
		if b == nil || b.kind(off) == gone {
			continue
		}
		if !x.kept {
			q.st.remove(b, off)
			continue
		}
		q.st.shift(b, off, b.kind(off), rewindable)
		e := q.st.put(b, off)
		e.kind, e.due = rewindable, 0
	}
}

func (r *replay) visibility(pos store.Position, m *visibilityRecord) {
	q, news := r.find(m.queue, pos, m.at)
	if news && m.change == visibilityUnread {
		q.st.received--
	}
	b, off := r.open(q, m.seq, pos)
	if b == nil || b.kind(off) != inactive { // of a repaired spool the receive before it may be lost
		return
	}
	k, e := b.kind(off), q.st.put(b, off)
	to := inactive
	e.due = m.due
	switch m.change {
	case visibilityReleased:
		if to = delayed; m.due <= m.at {
			to, e.due = active, 0
		}
	case visibilityUnread:
		if e.receives--; e.receives == 0 {
			e.first = 0
		}
	}
	q.st.shift(b, off, k, to)
	e.kind = to
}

func (r *replay) rewound(pos store.Position, m *rewindRecord) {
	if q, news := r.find(m.queue, pos, m.at); news {
		q.st.event(rewind.Event{Generation: m.generation, Instant: m.instant, At: m.at, Pos: uint64(pos)})
	}
}

// event adds an event to the history under the generation it was recorded with.
func (st *state) event(ev rewind.Event) {
	if st.history.Generation()+1 != ev.Generation {
		// The queue was begun empty: what came before is not needed, since its blocks were sent later.
		_ = st.history.Restore(ev.Generation-1, nil) // no events are in no disorder
	}
	st.history.Add(ev.Instant, ev.At, ev.Pos, ev.Drop)
}

func (r *replay) queue(pos store.Position, m *queueRecord) {
	r.saw(m.queue, pos)
	q, news := r.find(m.queue, pos, m.at)
	if m.change == queueDropped {
		if q.saved > 0 || q.st.inIndex() {
			r.shed = append(r.shed, m.queue)
		}
		r.spool.pager.used.Add(-q.told)
		delete(r.queues, m.queue)
		return
	}
	if m.change == queueSet {
		r.lapseUpTo(q, pos, m.at, news)
	}
	if m.change == queuePurged {
		r.purgeUpTo(q, pos, m.floors.purged)
	}
	if !news {
		return
	}
	q.name = m.name
	meta := m.meta
	q.st.meta, q.st.floors = &meta, m.floors
	switch m.change {
	case queueCreated:
		q.st.created, q.st.modified = m.at, m.at
		q.basis = pos
	case queueSet:
		q.st.modified = m.at
		if m.drop != nil {
			m.drop.Pos = uint64(pos)
			q.st.event(*m.drop)
		}
	}
}

// lapseUpTo ends the leases that were over when settings changed: the rules that were looked at then were the old ones.
// What they moved has a record of its own; without one it waited for room then, and stays as it is. Where the change is no
// news the queue has come from the index with later rules, which say nothing of that: what waited then has lost its receipt.
// Rules whose record has gone with the front of the log are taken for none: the later ones would move what has not waited.
func (r *replay) lapseUpTo(q *Queue, pos store.Position, at int64, news bool) {
	over := func(b *block) bool { return b.body != nil || b.away.due <= at && b.count[inactive] > 0 }
	waits := func(b *block, e *entry) bool {
		if !news {
			return e.nonce&voided != 0
		}
		return q.st.moveRule(b, int(e.off), e, e.due) != 0
	}
	r.all(q, pos, over, func(b *block) {
		for i := range b.entries {
			e := &b.entries[i]
			if e.kind == inactive && e.due <= at && !waits(b, e) {
				q.st.shift(b, int(e.off), inactive, active)
				e.kind, e.due = active, 0
			}
		}
	})
}

// purgeUpTo makes the messages below a sequence gone.
func (r *replay) purgeUpTo(q *Queue, pos store.Position, below uint64) {
	q.st.each(func(*summary) bool { return false }, func(b *block) bool {
		if b.body == nil && b.first()+blockSize <= below && pos >= b.saved.included {
			q.st.empty(b)
			q.st.forget(b)
		}
		return true
	})
	r.all(q, pos, func(b *block) bool { return b.first() < below }, func(b *block) {
		for off := b.next(0); off >= 0 && b.first()+uint64(off) < below; off = b.next(off + 1) {
			q.st.remove(b, off)
		}
	})
}

func (r *replay) moved(pos store.Position, m *deadLetterRecord, size int) {
	q, _ := r.find(m.source, pos, m.to.at)
	if b, off := r.open(q, m.sourceSeq, pos); b != nil && b.kind(off) != gone {
		q.st.remove(b, off)
	}
	r.sent(pos, &m.to, size, false)
}

func (r *replay) snapshot(pos store.Position, m *snapshotRecord) {
	r.saw(m.queue, pos)
	if q, news := r.find(m.queue, pos, m.at); news {
		// The snapshot's history may be shorter than what blocks have yet to be brought up to date with.
		oldest := m.generation - uint64(len(m.events))
		missed := func(b *block) bool {
			return b.body != nil || b.count[rewindable] > 0 && b.saved.generation < oldest
		}
		r.all(q, pos, missed, func(*block) {})
		q.restore(m)
		q.basis = pos
	}
}

// restore makes a queue what a snapshot says, but for its messages.
func (q *Queue) restore(m *snapshotRecord) {
	q.name = m.name
	st := q.st
	meta := m.meta
	st.meta, st.floors, st.next, st.lastAt = &meta, m.floors, m.next, m.lastAt
	st.sent, st.received, st.erased = m.sent, m.received, m.deleted
	st.created, st.modified = m.created, m.modified
	// Events that are in it and in the history are the same ones; Restore refuses nothing that was encoded.
	_ = st.history.Restore(m.generation, m.events)
}

// finish makes what was replayed ready for use.
func (r *replay) finish() error {
	s := r.spool
	clear(s.byName)
	s.byID, s.lastID, s.idPos, s.shed = r.queues, r.lastID, r.idPos, r.shed
	for id, q := range s.byID {
		if q.name == "" {
			return &store.CorruptError{File: "log", Offset: int64(s.disk.Start()), Reason: fmt.Sprintf("queue %d has records but no beginning", id)}
		}
		s.byName[fold(q.name)] = q
		q.meta.Store(q.st.meta)
	}
	for _, q := range s.byID {
		if dl := q.st.meta.DeadLetter; dl != nil {
			target := s.byName[fold(dl.Queue)]
			if target == nil {
				return &store.CorruptError{File: "log", Offset: int64(s.disk.Start()), Reason: fmt.Sprintf("queue %q has the dead-letter queue %q, which is not there", q.name, dl.Queue)}
			}
			s.bind(q, target)
		}
		if r.finishQueue(q); r.bad != nil {
			return r.bad
		}
	}
	return nil
}

// finishQueue brings a queue's blocks up to date, counts, and puts deadlines on the wheel.
func (r *replay) finishQueue(q *Queue) {
	st := q.st
	st.count = [kinds]int64{}
	var blocks []*block
	for _, s := range st.dir {
		if s == nil {
			continue
		}
		s.count, s.active = [kinds]int32{}, bitmap{}
		for _, b := range s.blocks {
			if b != nil {
				blocks = append(blocks, b)
			}
		}
	}
	touched := st.touched
	for _, b := range blocks {
		if b.body == nil && (st.admit(b) || !r.here(q, b)) {
			continue
		}
		dirty := b.dirty
		st.refresh(b)
		dirty = dirty || b.dirty
		touched = touched || dirty
		if r.tell(q) && r.stow(q, []*block{b}, r.spool.disk.End()) && st.admit(b) {
			touched = true
			continue
		}
		st.measure(b)
		st.sum(b)
		st.armAll(b)
		b.dirty = dirty
	}
	st.touched, st.replaying = touched, false
	for _, b := range blocks {
		st.prune(b)
	}
	st.veiled = st.next
	if len(blocks) == 0 {
		return
	}
	st.expireAt, st.fadeAt, st.ageAt = math.MinInt64, math.MinInt64, math.MinInt64
}

// sum adds the counts of a block to those above it.
func (st *state) sum(b *block) {
	count := b.count
	b.count = [kinds]int32{}
	for k := active; k < kinds; k++ {
		st.tally(b, k, count[k])
	}
}

// admit counts a block that is away, and watches it. It answers false when its body is needed for that.
func (st *state) admit(b *block) bool {
	st.sum(b)
	if !st.recall(b) {
		for k := active; k < kinds; k++ {
			st.tally(b, k, -b.count[k])
		}
		return false
	}
	st.watch(b)
	return true
}

// measure counts the messages of a block in memory, of which none is about to change: replay keeps no counts.
func (st *state) measure(b *block) {
	count, _ := b.counted()
	b.count = [kinds]int32{}
	for k, n := range count {
		b.count[k] = int32(n)
	}
	b.ageMin = math.MaxInt64
	for off := b.next(0); off >= 0; off = b.next(off + 1) {
		if k := b.kind(off); k == active || k == delayed {
			b.ageMin = min(b.ageMin, st.ageBase(b, off, b.entry(off)))
		}
	}
}
