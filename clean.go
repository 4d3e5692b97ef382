package spool

import (
	"errors"
	"runtime"
	"slices"
	"time"

	"github.com/spoolmq/spool/store"
)

// The space contract: 30 s after anything else has happened the disk holds at most 1.3 times what is live and 192 MB.
// Cleaning begins earlier, because prepared segments, spare ones and the index take their part.
const (
	spaceSlack = 64 << 20 // the log holds 1.2 times what is live and this much before it is cleaned; the contract has it three times
	shortSlack = 1 << 20  // the same on a full disk, the last segment left out: what is live in it would be copied for ever

	copyStep    = 16       // Bound: messages that are read, and then copied, at a time: a durable call waits for as long
	copyBytes   = 64 << 10 // Bound: their contents, unless a single one is larger; a receive waits for as long as they are written
	copiesAHold = 16       // messages recorded in one hold of a queue's lock
	looksAHold  = 1024     // blocks passed over in one hold of a queue's lock

	// reserveCopies is how much a segment may still hold that is live to be cleaned at the expense of all of the reserve, when
	// there is no other space. More than that, and than the part of it which is the cleaner's alone, might use the reserve up
	// before the segment is free, and leave nothing for deletes.
	reserveCopies = 256 << 10

	copyHead = 512 // Bound: bytes of a COPY's head

	queueTold = 128 // bytes of a SNAPSHOT's head, about
	eventTold = 24  // for each rewind or drop in it

	patience     = 10 * time.Second // of more garbage than the contract allows, before cleaning is not held up any more
	longestPause = 50 * time.Millisecond
	mostRest     = 150 // times as long as it works the cleaner rests, when the log has just become untidy
	leastRest    = 30  // the same when it is about to become crowded
	weighEvery   = 100 * time.Millisecond
	recleanAfter = time.Second           // when something could not be copied
	recleanRest  = 50 * time.Millisecond // at least, when there is reason to try again sooner
)

// errStopped ends cleaning because the spool closes.
var errStopped = errors.New("the spool closes")

// A pressure is how much of the log nobody needs.
type pressure uint8

const (
	tidy    pressure = iota
	untidy           // to be cleaned with long pauses while calls are under way: their p99 does not see it
	crowded          // more than the contract allows, or on a full disk: with short pauses, and with none when that does not help
	clogged          // more than twice the garbage that the contract allows: sends wait for the cleaner
)

// clean copies what is live out of the first segments of the log and drops them, until the log is tidy. It tells whether
// to try again later: something stands in the way, or the spool closes.
//
// Only the first segment is ever cleaned, so the log turns over like a ring, and a turn gathers all garbage there is.
//
//	step                                     dies here: the next Open
//	1 read live messages of the first        the old places
//	  segment, no lock, some at a time
//	2 under their queue's lock: COPY of      the old places, or the copies: both are whole
//	  those that are still there
//	3 the frame is written (clean:written);  likewise
//	  under the lock their places become the
//	  copies' (clean:copied when it is all)
//	4 synced (clean:synced)                  the copies
//	5 a checkpoint, unless one lies behind   likewise; an index that knows the old places is followed by the COPYs
//	  the segment (clean:checkpointed)
//	6 reclaim
//
// Hidden, pending and moving messages are about to change: the segment waits for them, and for a message that cannot be
// read, which may go when its life is over but not because its bytes are damaged.
func (k *keeper) clean() (again bool) {
	for more := true; more; {
		more, again = k.cleanTurn()
	}
	return again
}

// cleanTurn is one turn of clean. It tells whether another one may follow, and if not, whether to try again later.
func (k *keeper) cleanTurn() (more, again bool) {
	k.work.Lock()
	defer k.work.Unlock()
	s := k.spool
	k.weigh()
	s.gate.set(k.press == clogged && !k.stuck)
	if k.press == tidy {
		k.stuck = false
		return false, false
	}
	start := s.disk.Start()
	err := k.cleanSegment()
	k.stuck = s.disk.Start() == start
	if err == nil && !k.stuck {
		return true, false
	}
	s.gate.set(false) // the cleaner helps nobody now
	if err != nil && err != errStopped && k.warned != start+1 {
		k.warned = start + 1
		s.log.Warn("log not cleaned", "position", start, "error", err)
	}
	return false, true
}

// weigh finds out how fast to clean. Caller holds work.
func (k *keeper) weigh() {
	k.press, k.haste = k.pressure()
	k.weighed = time.Now()
	if k.press < crowded {
		k.crowd = k.weighed
	}
}

func (k *keeper) untidy() bool {
	p, _ := k.pressure()
	return p != tidy
}

// pressure weighs the log against what is live, and tells how far an untidy log is on its way to a crowded one, from 0 to 1.
func (k *keeper) pressure() (p pressure, haste float64) {
	s := k.spool
	bounds := s.disk.Boundaries()
	if len(bounds) < 2 {
		return tidy, 0
	}
	live := k.cost(s.live()) + s.told()
	begin, end := live/5+k.slack, live*3/10+2*k.slack
	extra := s.disk.Size().Live - live
	last := int64(s.disk.End() - bounds[len(bounds)-1])
	switch {
	case k.short.Load() && extra <= end && extra-last > live/5+min(k.slack, shortSlack):
		return crowded, 1
	case extra <= begin:
		return tidy, 0
	case extra <= end:
		return untidy, float64(extra-begin) / float64(end-begin)
	case extra <= 2*end:
		return crowded, 1
	}
	return clogged, 1
}

// cost corrects what the contract counts for live messages when copies take much more than that: a log that holds
// nothing else is as clean as it gets.
func (k *keeper) cost(live int64) int64 {
	return max(live, int64(float64(live)*float64(k.heavy.Load())/1100))
}

// live is what the space contract counts: content, and liveOverhead for each message.
func (s *Spool) live() (n int64) {
	for _, q := range s.snapshotQueues() {
		q.visit(func(st *state) { n += st.live() })
	}
	return n
}

// told estimates what SNAPSHOTs take in the log. The space contract does not know them, but to the cleaner they are live:
// it would write them again and again.
func (s *Spool) told() (n int64) {
	for _, q := range s.snapshotQueues() {
		q.visit(func(st *state) { n += int64(store.RecordSize(queueTold+len(q.name)+eventTold*st.history.Len(), 0)) })
	}
	return n
}

// below is what live messages occupy whose records lie below a position, at most.
func (s *Spool) below(end store.Position) (n int64) {
	for _, q := range s.snapshotQueues() {
		q.visit(func(st *state) { n += st.below(end) })
	}
	return n
}

func (st *state) below(end store.Position) (n int64) {
	st.each(func(s *summary) bool { return s.total() == 0 }, func(b *block) bool {
		if b.total() == 0 || b.low() >= end || st.sink(b) >= end {
			return true
		}
		if b.body == nil {
			n += b.live()
			return true
		}
		for off := b.next(0); off >= 0; off = b.next(off + 1) {
			if pl := st.cursor.get(&b.places, off); pl.pos < end {
				n += int64(pl.size) + liveOverhead
			}
		}
		return true
	})
	return n
}

// cleanSegment empties the first segment and drops it. Caller holds work.
func (k *keeper) cleanSegment() error {
	bounds := k.spool.disk.Boundaries()
	if len(bounds) < 2 {
		return nil
	}
	end := bounds[1]
	k.cut, k.draws = end, false
	for _, q := range k.spool.snapshotQueues() {
		if err := k.cleanQueue(q, end); err != nil {
			return err
		}
	}
	k.heavy.Store(k.weight.permille())
	k.spool.step.at(stepCleanCopied)
	if err := k.spool.commit.Sync(); err != nil {
		return err
	}
	k.spool.step.at(stepCleanSynced)
	if k.due() || k.shelf != nil && k.shelf.index != nil && store.Position(k.at.Load()) < end {
		k.checkpoint()
		k.spool.step.at(stepCleanCheckpointed)
	}
	return k.dropDead()
}

// cleanQueue copies the messages of a queue whose records lie below end. It goes on when one cannot be copied.
func (k *keeper) cleanQueue(q *Queue, end store.Position) (bad error) {
	more := false
	q.visit(func(*state) { more = true })
	for seq := uint64(0); more; {
		var list []straggler
		var err error
		if list, seq, more, err = q.stragglers(seq, end); err != nil {
			return err
		}
		began := time.Now()
		if err = k.copyAll(q, list); errors.Is(err, ErrCorrupt) {
			bad = err
		} else if err != nil {
			return err
		}
		k.evict()
		if len(list) > 0 && !k.pause(time.Since(began)) {
			return errStopped
		}
	}
	return bad
}

// pause lets others go on after some work. It answers false when the spool closes.
func (k *keeper) pause(worked time.Duration) bool {
	if time.Since(k.weighed) > weighEvery {
		k.weigh()
	}
	d := time.Duration(0)
	if calls := k.spool.life.calls.Load(); calls > 0 && calls < closing {
		switch {
		case k.press <= untidy:
			d = min(time.Duration(float64(worked)*(mostRest-(mostRest-leastRest)*k.haste)), longestPause)
		case k.press == crowded && time.Since(k.crowd) < patience:
			d = min(worked, longestPause)
		}
	}
	if d == 0 {
		runtime.Gosched()
		select {
		case <-k.stop:
			return false
		default:
			return true
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-k.stop:
		return false
	case <-timer.C:
		return true
	}
}

// A straggler is a live message that lies where the log is to be cut.
type straggler struct {
	seq    uint64
	place  place
	stored stored
	copied store.Position // of its COPY, 0 = none
}

// stragglers returns messages from a sequence on whose records lie below end, and where to go on.
func (q *Queue) stragglers(seq uint64, end store.Position) (list []straggler, next uint64, more bool, err error) {
	q.hold()
	defer q.mu.Unlock()
	for range pageStep { // then the caller puts out of memory what was in vain
		list, next, more = q.st.stragglers(seq, end)
		if len(q.st.wanted) == 0 || len(list) > 0 {
			return list, next, more, nil
		}
		if !q.pageIn(false) {
			return nil, 0, false, q.spool.broken()
		}
	}
	return nil, next, true, nil
}

// stragglers is the part of Queue.stragglers that a block in memory suffices for: it stops where one is away.
func (st *state) stragglers(seq uint64, end store.Position) (list []straggler, next uint64, more bool) {
	size := 0
	for range looksAHold {
		b := st.from(seq >> blockBits)
		if b == nil {
			return list, 0, false
		}
		seq = max(seq, b.first())
		if b.total() > 0 && b.low() < end && st.sink(b) < end {
			if !st.here(b) {
				return list, seq, true
			}
			for off := b.next(int(seq & blockMask)); off >= 0; off = b.next(off + 1) {
				pl := st.cursor.get(&b.places, off)
				if pl.pos >= end || !copied(b.kind(off)) {
					continue
				}
				if len(list) == copyStep || size > 0 && size+pl.size > copyBytes {
					return list, b.first() + uint64(off), true
				}
				size += pl.size
				list = append(list, straggler{seq: b.first() + uint64(off), place: pl})
			}
		}
		seq = (b.number + 1) << blockBits
	}
	return list, seq, true
}

// copied tells whether messages of a kind are copied.
func copied(k kind) bool { return k >= active && k <= rewindable }

// copyAll copies messages. One that cannot be read stays where it is, and is what the error tells of. No lock is held.
func (k *keeper) copyAll(q *Queue, list []straggler) (bad error) {
	for i := range list {
		m := &list[i]
		var err error
		if m.stored, err = q.open(m.place.pos, m.seq, m.place.size); errors.Is(err, ErrCorrupt) {
			bad = err
		} else if err != nil {
			return err
		}
	}
	var last store.Position
	for part := range slices.Chunk(list, copiesAHold) {
		pos, err := k.copySome(q, part)
		if err != nil {
			return err
		}
		last = max(last, pos)
	}
	if last == 0 {
		return bad
	}
	if err := k.spool.commit.Wait(last, store.AtWritten); err != nil {
		return k.spool.failure(err)
	}
	k.spool.step.at(stepCleanWritten)
	for part := range slices.Chunk(list, copiesAHold) {
		q.resettle(part)
	}
	return bad
}

// copySome records messages in one hold of the lock, those that are still where they were, and returns the position of
// the last COPY, 0 if there is none.
//
// Invariant: a checkpoint does not see the queue between this and resettle: it would tell of the old places as if it had
// seen the COPYs. Caller holds work.
func (k *keeper) copySome(q *Queue, list []straggler) (last store.Position, err error) {
	c := k.spool.commit
	need := int64(0)
	for i := range list {
		need += int64(store.RecordSize(copyHead, list[i].place.size))
	}
	if err = k.admit(need); err != nil {
		return 0, k.spool.failure(err)
	}
	sums := [copiesAHold]uint32{}
	for i := range list {
		sums[i] = list[i].stored.sum()
	}
	q.hold()
	defer q.mu.Unlock()
	c.Begin()
	for i := range list {
		m := &list[i]
		b, off := q.st.locate(m.seq)
		if m.stored.body == nil || b == nil || !copied(b.kind(off)) || q.st.cursor.get(&b.places, off).pos != m.place.pos {
			continue
		}
		r := copyRecord{queue: q.id, seq: m.seq, at: m.stored.at, epoch: m.stored.epoch, generation: b.generation,
			attrs: len(m.stored.attrs), state: entry{kind: b.kind(off)}, origin: m.stored.origin}
		if e := b.entry(off); e != nil {
			r.state = *e
		}
		q.scratch = q.scratch[:0]
		r.encode(&q.scratch)
		m.copied = c.Add(recordCopy, q.scratch, sums[i], m.stored.attrs, m.stored.body)
		k.weight.add(store.RecordSize(len(q.scratch), m.place.size), m.place.size)
		last = m.copied
	}
	c.End(need)
	return last, nil
}

// admit takes room for copies, from the reserve when there is no other and it has enough for all that is still to be copied
// of the segment.
func (k *keeper) admit(need int64) error {
	c := k.spool.commit
	if !k.draws {
		err := c.Admit(need)
		if !errors.Is(err, store.ErrNoSpace) {
			return err
		}
		rest := k.cost(k.spool.below(k.cut))
		if k.draws = rest <= max(reserveCopies, k.spool.disk.Left()*15/16); !k.draws {
			return err
		}
	}
	return c.AdmitFrom(need, store.Cleaner)
}

// resettle makes the COPYs the places of messages that are still here. A reader that has looked the old place up finds
// it until it is dropped, and then looks again.
func (q *Queue) resettle(list []straggler) {
	q.hold()
	defer q.mu.Unlock()
	for i := range list {
		m := &list[i]
		b, off := q.st.locate(m.seq)
		if m.copied == 0 || b == nil || b.kind(off) == gone {
			continue
		}
		q.st.relocate(b, off, place{m.copied, m.place.size, m.place.at})
		if i+1 == len(list) || list[i+1].seq>>blockBits != m.seq>>blockBits {
			q.st.sink(b) // it may be put out of memory before anybody else looks
		}
	}
}

// A weight is what copies have taken of late, and what the space contract counts for them.
type weight struct{ copied, counted int64 }

func (w *weight) add(record, content int) {
	w.copied += int64(record)
	w.counted += int64(content) + liveOverhead
}

// permille relates the two. What is longer ago counts less.
func (w *weight) permille() int64 {
	if w.counted > 1<<28 {
		w.copied, w.counted = w.copied/2, w.counted/2
	}
	return w.copied * 1000 / max(1, w.counted)
}
