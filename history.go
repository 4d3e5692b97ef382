package spool

import "runtime"

// maxEvents bounds a queue's history of rewinds and drops, give or take as many again while the index is behind: above
// it blocks with older deletions are brought up to date, so that the events they have missed can be forgotten.
const maxEvents = 1024

// shorten forgets events of a long history that no block needs, and has the keeper see to those that one does. It
// waits for that when the history is twice as long as it should be.
func (q *Queue) shorten() error {
	q.hold()
	if q.st.history.Len() >= maxEvents {
		q.catchUpHere()
	}
	long := q.st.history.Len()
	q.mu.Unlock()
	k := q.spool.keeper
	switch {
	case long < maxEvents:
		return nil
	case long < 2*maxEvents:
		k.late.Store(q)
		k.shelveSoon()
		return nil
	}
	k.work.Lock()
	defer k.work.Unlock()
	k.catchUp(q)
	return q.spool.broken()
}

// catchUpHere brings the blocks in memory up to date, some at a time, and forgets what no block needs any more. While a
// checkpoint is under way nothing is forgotten: what happens to a block after the position where its replay begins, and before
// the queue's record is written, is replayed with the history of that record. Caller holds mu; it is released in between, so the
// history may grow meanwhile and blocks may come, go and miss events again.
func (q *Queue) catchUpHere() {
	for next, more := uint64(0), true; more; {
		if q.spool.keeper.checkpointing.Load() {
			return
		}
		if next, more = q.st.catchUp(next); more {
			q.mu.Unlock()
			runtime.Gosched()
			q.hold()
		}
	}
	// No checkpoint was under way in this hold of mu. What happens to the queue behind it has events of its own.
	q.st.history.Trim(q.st.oldestGeneration())
}

// catchUp brings blocks in memory from one on up to date, as many as one hold of the lock is for. It tells where to go on, if
// there is more.
func (st *state) catchUp(from uint64) (next uint64, more bool) {
	todo := blocksAHold
	for range looksAHold {
		b := st.from(from)
		if b == nil {
			return from, false
		}
		if from = b.number + 1; b.body != nil && b.generation != st.history.Generation() {
			st.refresh(b)
			if todo--; todo == 0 {
				break
			}
		}
	}
	return from, true
}

// behind returns some blocks that have deletions of an older generation than one, here or in the index. Those that are
// away are wanted.
func (st *state) behind(generation uint64) (numbers []uint64) {
	st.each(func(*summary) bool { return false }, func(b *block) bool {
		if b.saved.count[rewindable] > 0 && b.saved.generation < generation {
			st.here(b)
			numbers = append(numbers, b.number)
		}
		return len(numbers) < blocksAHold
	})
	return numbers
}

// catchUp brings every block of a queue up to date with the history of this moment, some at a time, in the index too,
// and forgets the events. Caller holds work.
func (k *keeper) catchUp(q *Queue) {
	q.hold()
	defer q.mu.Unlock()
	generation := q.st.history.Generation()
	for numbers := q.st.behind(generation); len(numbers) > 0; numbers = q.st.behind(generation) {
		for len(q.st.wanted) > 0 {
			if !q.pageIn(false) {
				return
			}
		}
		q.mu.Unlock()
		err := k.shelf.prepare(k.spool.knownQueues)
		if err == nil {
			err = k.shelveBlocks(q, numbers)
		}
		if err == nil {
			err = k.shelf.flush()
		}
		if err != nil {
			k.checkpointFailed(err)
		} else {
			k.evict()
		}
		q.hold()
		if err != nil {
			return
		}
	}
	q.catchUpHere()
}
