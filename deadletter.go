package spool

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/spoolmq/spool/store"
)

// How long a message is passed over whose move could not be made.
const (
	retryMove    = time.Second // there is no room
	retryCorrupt = time.Minute // its body cannot be read, which seldom heals
)

// letter is a message on its way from its queue to the dead-letter queue.
type letter struct {
	seq    uint64
	body   []byte
	attrs  []byte
	origin originRecord
}

// moveAll makes dead-letter moves, in the order in which they fell due. Whoever needs to see them where they go waits until the
// last of them has reached the spool's level: see settle. The messages are marked as moving: nobody else touches them. No lock is held.
//
//	step                                     dies here: after the next Open
//	1 read the body, take room, no lock      in the source
//	  (move:read)
//	2 set lock for reading, over memory only
//	  a target's mu: DEADLETTER into the     in the source
//	    open frame, hidden (move:recorded)
//	  b source's mu: gone there (move:made)  in the source, or in the target when another call has written the frame;
//	                                         a checkpoint does not begin between a and b, nor see the source: see
//	                                         writeCheckpoint and holdStill
//	3 the frame is written                   in one of them: it is one record
//	4 synced (Fsync), revealed in the target in the target
//	  (move:done)
func (s *Spool) moveAll(q *Queue, moves []move) {
	slices.SortFunc(moves, func(a, b move) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.seq, b.seq)) })
	for _, m := range moves {
		s.moveOne(q, m.seq)
	}
}

// moveOne moves a message, or lets it stay, passed over for a while, when that cannot be done now.
func (s *Spool) moveOne(q *Queue, seq uint64) {
	l, err := q.letter(seq)
	ok := false
	for again := err == nil; again; {
		need := int64(store.RecordSize(512, len(l.attrs)+len(l.body)))
		if err = s.commit.Admit(need); err != nil {
			break
		}
		var t *Queue
		s.step.at(stepMoveRead)
		t, ok = s.handOver(q, l, need)
		again = !ok && t != nil && t.bring()
	}
	if !ok {
		again := int64(retryMove)
		switch {
		case s.broken() != nil: // a spool that has stopped tries nothing again
			again, err = never, nil
		case errors.Is(err, ErrCorrupt):
			again = int64(retryCorrupt)
		}
		q.hold()
		now := s.now()
		q.st.stay(seq, after(now, again))
		switch {
		case errors.Is(err, store.ErrNoSpace):
			q.st.noRoom = after(now, again)
		case errors.Is(err, ErrCorrupt):
			q.rotten = err
		}
		q.unlock(now)
		if err != nil && !errors.Is(err, store.ErrGone) {
			s.log.Warn("dead-letter move put off", "queue", q.name, "error", err)
		}
	}
}

// letter reads a moving message.
func (q *Queue) letter(seq uint64) (*letter, error) {
	q.hold()
	b, off := q.st.locate(seq)
	if b == nil || b.kind(off) != moving {
		q.mu.Unlock()
		return nil, store.ErrGone
	}
	e, pl := b.entry(off), q.st.cursor.get(&b.places, off)
	reason := reasonMaxReceives
	if e.due == byAge {
		reason = reasonMaxAge
	}
	receives := e.receives
	q.mu.Unlock()

	// A lease may end before the send of its message has reached its level.
	if err := q.spool.failure(q.spool.commit.Wait(pl.pos, q.spool.level)); err != nil {
		return nil, err
	}
	m, err := q.find(pl.pos, seq, pl.size)
	if err != nil {
		return nil, err
	}
	return &letter{seq, m.body, m.attrs, originRecord{q.name, messageID(q.id, m.epoch, seq), m.at, receives, reason}}, nil
}

// bring reads the blocks that a queue wants. It answers false when that is impossible.
func (q *Queue) bring() bool {
	q.hold()
	defer q.mu.Unlock()
	for len(q.st.wanted) > 0 {
		if !q.pageIn(true) {
			return false
		}
	}
	return true
}

// handOver records the move and makes it in memory: in the target, then in the source. Between the two the message is
// counted in the source and hidden in the target. Without an effect it returns the target, if there is one, because a
// block has to be read there first.
func (s *Spool) handOver(q *Queue, l *letter, need int64) (t *Queue, ok bool) {
	s.set.RLock()
	defer s.set.RUnlock()
	t = q.deadLetters()
	if t == nil {
		s.commit.Forgo(need)
		return nil, false
	}
	t.hold()
	now := s.now()
	if !t.st.tail() {
		t.mu.Unlock()
		s.commit.Forgo(need)
		return t, false
	}
	r := deadLetterRecord{source: q.id, sourceSeq: l.seq, origin: l.origin, to: sendRecord{queue: t.id, seq: t.st.next,
		at: max(now, t.st.lastAt), epoch: s.epoch, generation: t.st.history.Generation(), attrs: len(l.attrs)}}
	t.scratch = t.scratch[:0]
	r.encode(&t.scratch)
	s.commit.Begin()
	pos := s.commit.Add(recordDeadLetter, t.scratch, store.BodySum(l.attrs, l.body), l.attrs, l.body)
	s.commit.Hide(t, t.st.next, 1)
	s.commit.End(need)
	s.commit.Nudge() // another letter may come first
	t.st.arrive(place{pos, len(l.attrs) + len(l.body), r.to.at})
	t.unlock(now)
	s.step.at(stepMoveRecorded)

	q.hold()
	if b, off := q.st.locate(l.seq); b != nil && b.kind(off) == moving {
		q.st.remove(b, off)
	}
	q.recorded = pos
	q.unlock(now)
	s.step.at(stepMoveMade)
	return t, true
}

// deadLetters is the queue's target, or nil. The set's lock is held, so it stays.
func (q *Queue) deadLetters() *Queue {
	q.hold()
	defer q.mu.Unlock()
	return q.target
}
