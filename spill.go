package spool

import (
	"errors"
	"maps"
	"slices"

	"github.com/spoolmq/spool/store"
)

// This file keeps a replay within what the pager allows: blocks that do not fit are put out to the index while the log is
// read, be there a checkpoint or none.
//
// A block that is spilled is saved beside what the last checkpoint has of it, and nothing but this replay knows of that. So
// a crash leaves the checkpoint, and records that no checkpoint tells of; or an index without a marker, which nobody believes.
// Without room for the index nothing is spilled, and memory grows with what is live. An index that fails is made anew, once.

// tell tells the pager what a queue takes by now, and answers whether something should be put out of memory.
func (r *replay) tell(q *Queue) (crowded bool) {
	if r.shelf == nil || r.full {
		return false
	}
	q.tell()
	return r.crowded()
}

// crowded answers whether more is in memory than may be, and can be put out.
func (r *replay) crowded() bool {
	return r.shelf != nil && !r.full && r.spool.pager.used.Load() > r.spool.pager.most
}

// spill puts blocks out of memory when there are too many, those first that no record has met lately. What lies below pos has
// been replayed, and nothing else.
func (r *replay) spill(pos store.Position) {
	if !r.crowded() {
		return
	}
	low := min(r.spool.pager.low, r.spool.pager.most)
	// The first pass forgets which blocks were met, the second finds them.
	for range 2 {
		for _, id := range slices.Sorted(maps.Keys(r.queues)) {
			q := r.queues[id]
			for todo := q.st.inside; todo > 0; {
				var list []*block
				list, todo = q.st.idle(todo)
				if len(list) > 0 && !r.stow(q, list, pos) || r.spool.pager.used.Load() <= low {
					return
				}
			}
		}
	}
}

// idle looks at some of the next todo blocks in memory, and returns those that were not met since it last did, and how many
// are left to be looked at.
func (st *state) idle(todo int) (list []*block, left int) {
	for ; todo > 0 && len(list) < pageStep; todo-- {
		b := st.hand
		st.hand = b.behind
		if !b.used && b.places.n > 0 {
			list = append(list, b)
		}
		b.used = false
	}
	return list, todo
}

// stow puts blocks of a queue out of memory, and saves those before that the index has not as they are. Every record below
// pos is in them. It answers false when that is impossible: then they stay, and so does everything from now on, or the
// replay ends.
func (r *replay) stow(q *Queue, list []*block, pos store.Position) bool {
	err := r.prepare()
	if err == nil {
		err = r.save(q, list, pos)
	}
	switch {
	case err == nil:
		for _, b := range list {
			q.st.evict(b)
		}
		q.tell()
		r.spool.step.at(stepReplaySpilled)
	case errors.Is(err, errSuspended) || errors.Is(err, store.ErrNoSpace):
		r.spool.log.Warn("more in memory than the budget allows", "error", err)
		r.full = true
	default:
		r.bad = err
	}
	return err == nil
}

// prepare makes the index ready for blocks.
func (r *replay) prepare() error {
	sh := r.shelf
	if sh.index == nil {
		if err := sh.fresh(); err != nil {
			return errors.Join(errSuspended, err)
		}
	}
	return sh.prepare(func() map[uint32]*Queue {
		known := maps.Clone(r.queues)
		for _, id := range r.shed {
			known[id] = nil
		}
		return known
	})
}

// save writes blocks to the index that it has not as they are. Now and then it syncs the index, which does not give back what
// has been superseded before.
func (r *replay) save(q *Queue, list []*block, pos store.Position) error {
	sh, st := r.shelf, q.st
	turn := sh.next()
	for _, b := range list {
		st.refreshTo(b, uint64(pos))
		st.measure(b) // what the checkpoint told of it may be older than its body, or younger
		if b.evictable() {
			continue
		}
		was := b.saved
		changes := q.encode(b, turn, pos, 0)
		b.saved.spilled = was.spilled || was.places != b.saved.places
		sh.supersede(q.id, b.number, was, b.saved, true)
		if err := sh.putAll(changes); err != nil {
			return err
		}
	}
	r.saved += len(list)
	if err := sh.flush(); err != nil || r.saved < evictSaves {
		return err
	}
	r.saved = 0
	return errors.Join(sh.sweep(), sh.index.Sync())
}
