package spool

import (
	"fmt"

	"github.com/spoolmq/spool/store"
)

// reclaim gives back the segments at the front of the log that nobody needs any more: every message in them is gone or
// has been copied by clean, whose steps come before these; the newest record that tells of each queue lies behind them,
// and so does the checkpoint, unless there is no room for one: then the log alone tells the next Open.
//
//	step                                     dies here: the next Open
//	1 SNAPSHOT of every queue whose newest   the old start
//	  record lies in what is to go; synced
//	clean:retold                             likewise, with two records that tell of each queue
//	2 the new start is durable               the new start; segments are freed (see seglog.Log.Drop)
//	3 segments are recycled or unlinked      the new start
//	clean:dropped                            likewise
func (k *keeper) reclaim() {
	if k.spool.broken() != nil {
		return
	}
	if err := k.dropDead(); err != nil {
		k.spool.log.Warn("no space given back", "error", err)
	}
}

func (k *keeper) dropDead() error {
	s := k.spool
	queues, limit := s.lowest()
	if k.shelf != nil && k.shelf.index != nil && !k.suspended {
		limit = min(limit, store.Position(k.at.Load()))
	} else {
		k.at.Store(int64(s.disk.End()))
	}
	cut := boundary(s.disk, limit)
	if cut <= s.disk.Start() {
		return nil
	}
	if err := k.retell(queues, cut); err != nil {
		return err
	}
	s.step.at(stepCleanRetold)
	k.marks.Lock()
	defer k.marks.Unlock()
	if err := s.disk.Drop(cut); err != nil {
		s.commit.Fail(err)
		return err
	}
	s.step.at(stepCleanDropped)
	return nil
}

// lowest returns all queues, and the position of the lowest record that a message of theirs needs, or how far the log is
// synced. A queue that is not among them was made later, and all that tells of it lies behind that.
func (s *Spool) lowest() (queues []*Queue, limit store.Position) {
	limit = s.disk.Synced()
	queues = s.snapshotQueues()
	for _, q := range queues {
		q.visit(func(st *state) { limit = st.lowest(limit) })
	}
	return queues, limit
}

// cuttable tells whether a checkpoint now would let a segment go.
func (k *keeper) cuttable() bool {
	s := k.spool
	if len(s.disk.Boundaries()) <= 1 {
		return false
	}
	_, limit := s.lowest()
	return boundary(s.disk, limit) > s.disk.Start()
}

// boundary returns the highest place at or below limit where the log can be cut.
func boundary(log store.Log, limit store.Position) (cut store.Position) {
	for _, b := range log.Boundaries() {
		if b <= limit {
			cut = b
		}
	}
	return cut
}

// retell records again what only records below cut tell: queues, and the highest queue id.
func (k *keeper) retell(queues []*Queue, cut store.Position) error {
	s := k.spool
	for _, q := range queues {
		if err := s.retellQueue(q, cut); err != nil {
			return err
		}
	}
	if err := s.retellIDs(cut); err != nil {
		return err
	}
	return s.commit.Sync()
}

func (s *Spool) retellQueue(q *Queue, cut store.Position) error {
	q.hold()
	need := snapshotNeed(q.st.history.Len() + maxEvents/16) // a few may come before we have the lock again
	q.mu.Unlock()
	if err := s.commit.AdmitFrom(need, store.Cleaner); err != nil {
		return err
	}
	q.hold()
	defer q.mu.Unlock()
	if q.basis >= cut || q.dropped.Load() {
		s.commit.Forgo(need)
		return nil
	}
	if snapshotNeed(q.st.history.Len()) > need {
		s.commit.Forgo(need)
		return fmt.Errorf("history of queue %q grows too fast for a snapshot", q.name)
	}
	q.scratch = q.scratch[:0]
	q.snapshot(s.now()).encode(&q.scratch)
	s.commit.Begin()
	q.basis = s.commit.Add(recordSnapshot, q.scratch, 0)
	s.commit.End(need)
	q.st.touched = true
	return nil
}

func (s *Spool) retellIDs(cut store.Position) error {
	need := int64(store.RecordSize(16, 0))
	if err := s.commit.AdmitFrom(need, store.Cleaner); err != nil {
		return err
	}
	s.set.Lock()
	defer s.set.Unlock()
	if s.idPos >= cut || s.lastID == 0 {
		s.commit.Forgo(need)
		return nil
	}
	var e encoder
	e.uv(uint64(s.lastID))
	s.commit.Begin()
	s.idPos = s.commit.Add(recordIDs, e, 0)
	s.commit.End(need)
	return nil
}
