package spool

import (
	"context"
	"fmt"

	"github.com/spoolmq/spool/rewind"
	"github.com/spoolmq/spool/store"
)

// maxConflicts bounds how often SetMeta begins anew because the settings have changed meanwhile. Of 64 callers who do nothing
// but set one queue's settings, in memory, one loses some dozen times in a row, or a thousand times when the functions let
// others run; a change that makes the conflict itself loses always.
const maxConflicts = 4096

// SetMeta changes the queue's settings in one atomic, validated step: change gets a copy of what is set, and what it
// leaves alone stays; a field set to zero means its default. It may be called again when somebody else's change came
// between, and must not keep its argument. Nothing is changed when an error is returned.
//
// change must not call SetMeta of its own queue: that comes between each time, so the outer call is refused with
// ErrInvalidArgument after 4,096 times, and what the inner ones have set stays. No lock is held while change runs.
//
// VisibilityTimeout, PollingWait and Delay count from the next call on; a receive that waits keeps its wait and takes
// the visibility at hand-over. Retention and Rewind count at once, for messages already there: lowering one drops
// messages, raising it brings none back. MaxMessages below what is there is allowed: sends are refused until it drains.
func (q *Queue) SetMeta(ctx context.Context, change func(*Meta)) error {
	if err := q.enter(ctx); err != nil {
		return err
	}
	defer q.spool.leave()
	if change == nil {
		return badArgument("change", "nil", "a function")
	}
	if err := q.shorten(); err != nil {
		return err
	}
	for conflicts := 0; conflicts < maxConflicts; {
		seen := q.meta.Load()
		meta := seen.clone()
		change(&meta)
		next := meta.withDefaults().clone() // whatever change has kept is not what is set
		if err := next.validate(); err != nil {
			return err
		}
		if done, err := q.setMeta(seen, next); done || err != nil {
			return err
		}
		if q.meta.Load() != seen {
			conflicts++
		}
	}
	return badArgument("change", fmt.Sprintf("a function under which the settings changed %d times", maxConflicts), "one that does not call SetMeta itself")
}

// setMeta replaces the settings that were seen. It answers false when they are others by now.
//
//	step                                   dies here: after the next Open
//	1 under the set's lock and mu: check,  the old settings
//	  floors, QUEUE into the open frame
//	2 the frame is written                 old or new; nobody had an answer
//	3 the frame is synced (Fsync), answer  the new settings
func (q *Queue) setMeta(seen *Meta, meta Meta) (done bool, err error) {
	s, c := q.spool, q.spool.commit
	need := settingNeed
	now, err := q.admit(need, store.Ordinary)
	if err != nil {
		return false, err
	}
	q.unlock(now)
	pos, done, err := q.replace(seen, meta, need)
	if !done {
		c.Forgo(need)
		return false, err
	}
	return true, s.failure(c.Wait(pos, s.level))
}

// replace is setMeta's step 1. It answers false, and has changed nothing, when the settings that were seen are others by
// now, or something fell due meanwhile.
func (q *Queue) replace(seen *Meta, meta Meta, need int64) (pos store.Position, done bool, err error) {
	s, c := q.spool, q.spool.commit
	s.set.Lock()
	defer s.set.Unlock()
	target, err := s.resolve(q, meta.DeadLetter)
	if err != nil {
		return 0, false, err
	}
	q.hold()
	now := s.now()
	defer q.unlock(now)
	if q.dropped.Load() || q.meta.Load() != seen || q.behind(now) {
		return 0, false, nil
	}
	if meta.Rewind != q.st.meta.Rewind && !q.st.settledEdge(q.st.narrowed(meta, now)+1) {
		return 0, false, nil
	}
	drop := q.apply(meta, now)
	c.Begin()
	pos = q.recordQueue(queueSet, now, drop)
	c.End(need)
	if drop != nil {
		q.st.history.Add(drop.Instant, drop.At, uint64(pos), true)
	}
	s.bind(q, target)
	return pos, true, nil
}

// apply makes settings count, floors first: what the old ones ended stays ended. It returns the drop that the history is
// to get, or nil. Caller holds mu and has settled.
func (q *Queue) apply(meta Meta, now int64) (drop *rewind.Event) {
	st, old := q.st, q.st.meta
	st.floors.expired = max(st.floors.expired, now-int64(old.Retention), now-int64(meta.Retention))
	if meta.Rewind != old.Rewind {
		upTo := st.narrowed(meta, now)
		st.narrow(upTo)
		drop = &rewind.Event{Generation: st.history.Generation() + 1, Instant: upTo, At: now, Drop: true}
	}
	st.adopt(meta, now)
	q.meta.Store(st.meta)
	return drop
}

// narrowed is the instant up to which a change of Rewind ends what is rewindable.
func (st *state) narrowed(meta Meta, now int64) int64 {
	return now - int64(min(meta.Rewind, st.meta.Rewind))
}

// adopt replaces the settings. What they decide is looked at anew by the next advance.
func (st *state) adopt(meta Meta, now int64) {
	st.meta, st.modified = &meta, now
	st.expireAt, st.fadeAt, st.ageAt = now, now, now
}

// settingNeed is what a QUEUE record may append.
var settingNeed = int64(store.RecordSize(512, 0))

// snapshotNeed is what a SNAPSHOT of a queue with so many events in its history may append.
func snapshotNeed(events int) int64 { return int64(store.RecordSize(1024+40*events, 0)) }

// recordQueue records what the queue is set to now. Caller holds mu and has begun a commit.
func (q *Queue) recordQueue(change byte, now int64, drop *rewind.Event) store.Position {
	r := queueRecord{queue: q.id, change: change, at: now, name: q.name, meta: *q.st.meta, floors: q.st.floors, drop: drop}
	q.st.touched = true
	q.scratch = q.scratch[:0]
	r.encode(&q.scratch)
	return q.spool.commit.Add(recordQueue, q.scratch, 0)
}

// resolve finds the queue that a dead-letter rule names, and checks that the binding is allowed. q is nil for a queue
// that is yet to be made under the given name. Caller holds the set's lock.
func (s *Spool) resolve(q *Queue, dl *DeadLetter) (*Queue, error) {
	if dl == nil {
		return nil, nil
	}
	target := s.byName[fold(dl.Queue)]
	switch {
	case target == nil || target.name != dl.Queue:
		return nil, &ArgumentError{Name: "Meta.DeadLetter.Queue", Value: dl.Queue, Limit: "an existing queue", cause: ErrQueueNotFound}
	case target == q:
		return nil, badArgument("Meta.DeadLetter.Queue", dl.Queue, "another queue than the one itself")
	case target.meta.Load().DeadLetter != nil:
		return nil, badArgument("Meta.DeadLetter.Queue", dl.Queue, "a queue without a DeadLetter of its own")
	case q != nil && q.feeders.Load() != nil:
		return nil, badArgument("Meta.DeadLetter", dl.Queue, fmt.Sprintf("none, since the queue is the dead-letter queue of %q", (*q.feeders.Load())[0].name))
	}
	return target, nil
}

// bind makes target the queue that q's dead letters go to; nil for none. Caller holds the set's lock and q's mu.
func (s *Spool) bind(q, target *Queue) {
	if q.target == target {
		return
	}
	if q.target != nil {
		q.target.setFeeders(q, false)
		q.moveAt.Store(never)
	}
	if target != nil {
		target.setFeeders(q, true)
	}
	q.target = target
}

// setFeeders adds a source of dead letters or takes one away. Caller holds the set's lock.
func (q *Queue) setFeeders(f *Queue, add bool) {
	var list []*Queue
	if old := q.feeders.Load(); old != nil {
		for _, x := range *old {
			if x != f {
				list = append(list, x)
			}
		}
	}
	if add {
		list = append(list, f)
	}
	if len(list) == 0 {
		q.feeders.Store(nil)
		return
	}
	q.feeders.Store(&list)
}
