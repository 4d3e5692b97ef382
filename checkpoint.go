package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/spoolmq/spool/store"
)

// blocksAHold is how many blocks are encoded in one hold of a queue's lock.
const blocksAHold = 8

// checkpoint writes what changed since the last one to the index, off every path that a call waits for.
//
//	step                                     dies here: the next Open
//	1 note where replay will begin           last checkpoint, more replay
//	2 dirty blocks and queues, under new     last checkpoint; the new records are superfluous
//	  keys, a few at a hold of a lock
//	3 sync the log, sync the index           as 2
//	4 the checkpoint's record, sync          the new checkpoint
//	5 remove what it made superfluous        the new checkpoint; what is left is removed later
//
// Without room for the index, or when it fails, it is left as it is: nothing is lost but time at the next Open.
func (k *keeper) checkpoint() {
	if k.shelf == nil {
		return
	}
	err := k.writeCheckpoint(time.Time{})
	if err == nil {
		k.indexSize.Store(k.shelf.index.Size())
		return
	}
	k.spool.log.Warn("no checkpoint", "error", err)
	if !errors.Is(err, errSuspended) {
		k.abandon()
	}
}

// errSuspended says that there is no room for a checkpoint: the last one stands, and so does the index.
var errSuspended = errors.New("checkpoints are suspended")

// abandon gives the index up; the next checkpoint makes it anew from memory.
func (k *keeper) abandon() {
	s := k.spool
	k.shelf.drop()
	k.at.Store(int64(s.disk.Start()))
	for _, q := range s.snapshotQueues() {
		q.mu.Lock()
		q.saved, q.st.left, q.st.touched = 0, nil, true
		q.st.each(func(*summary) bool { return false }, func(b *block) bool {
			b.saved, b.savedPlaces, b.dirty = 0, 0, true
			return true
		})
		q.mu.Unlock()
	}
}

// snapshotQueues returns all queues of this instant, in no order.
func (s *Spool) snapshotQueues() []*Queue {
	s.set.RLock()
	defer s.set.RUnlock()
	return s.list()
}

// writeCheckpoint is given up at the deadline, unless that is zero.
func (k *keeper) writeCheckpoint(deadline time.Time) error {
	s, sh := k.spool, k.shelf
	if sh.index == nil {
		if err := sh.fresh(); err != nil {
			return fmt.Errorf("%w: %w", errSuspended, err)
		}
	}
	if err := sh.index.Apply(nil); errors.Is(err, store.ErrNoSpace) {
		return fmt.Errorf("%w: %w", errSuspended, err)
	}
	if err := sh.sweep(); err != nil {
		return err
	}
	from := s.commit.Boundary()
	s.set.RLock()
	lastID, idPos, queues, dropped := s.lastID, s.idPos, s.list(), s.shed
	s.set.RUnlock()

	ids := make([]shelvedQueue, 0, len(queues))
	for _, q := range queues {
		if !deadline.IsZero() && time.Now().After(deadline) {
			return fmt.Errorf("%w: it took too long", errSuspended)
		}
		pos, err := k.shelveQueue(q, deadline)
		if err != nil {
			return err
		}
		if pos > 0 {
			ids = append(ids, shelvedQueue{q.id, pos})
		}
	}
	pages, err := sh.putPages(ids, from)
	if err != nil {
		return err
	}
	if err := errors.Join(sh.flush(), s.commit.Sync(), sh.index.Sync()); err != nil {
		return err
	}
	if err := sh.putCheckpoint(from, lastID, idPos, pages); err != nil {
		return err
	}
	k.at.Store(int64(from))
	for _, id := range dropped {
		if err := sh.discardQueue(id); err != nil {
			return err
		}
	}
	s.set.Lock()
	s.shed = s.shed[len(dropped):]
	s.set.Unlock()
	return sh.sweep()
}

type shelvedQueue struct {
	id  uint32
	pos store.Position
}

// shelveQueue writes a queue's changes and returns what the key of its record ends with, 0 for a queue that was deleted.
func (k *keeper) shelveQueue(q *Queue, deadline time.Time) (pos store.Position, err error) {
	q.mu.Lock()
	if q.dropped.Load() || !q.st.touched && q.saved > 0 {
		defer q.mu.Unlock()
		if q.dropped.Load() {
			return 0, nil
		}
		return q.saved, nil
	}
	q.st.touched, q.shelving = false, true
	defer q.shelved()
	dirty := q.dirtyBlocks()
	q.mu.Unlock()
	for len(dirty) > 0 {
		if !deadline.IsZero() && time.Now().After(deadline) {
			return 0, fmt.Errorf("%w: it took too long", errSuspended)
		}
		n := min(len(dirty), blocksAHold)
		if err := k.shelveBlocks(q, dirty[:n]); err != nil {
			return 0, err
		}
		dirty = dirty[n:]
		runtime.Gosched()
	}
	return k.shelveRest(q)
}

func (q *Queue) shelved() {
	q.mu.Lock()
	q.shelving = false
	q.mu.Unlock()
}

// dirtyBlocks returns the numbers of the blocks that changed. Caller holds mu.
func (q *Queue) dirtyBlocks() (dirty []uint64) {
	q.st.each(func(*summary) bool { return false }, func(b *block) bool {
		if b.dirty || b.generation != q.st.history.Generation() {
			dirty = append(dirty, b.number)
		}
		return true
	})
	return dirty
}

// shelveBlocks encodes blocks in one hold of the lock, and writes them without it.
func (k *keeper) shelveBlocks(q *Queue, numbers []uint64) error {
	var changes []store.Change
	s, sh := k.spool, k.shelf
	q.mu.Lock()
	pos, now := s.commit.Appended(), s.now()
	for _, number := range numbers {
		b := q.st.block(number)
		if b == nil || b.places.n == 0 {
			continue
		}
		q.st.refresh(b)
		if b.savedPlaces > 0 && b.saved != pos {
			sh.discard(key(keyState, uint64(q.id), number, uint64(b.saved)))
		}
		var e encoder
		encodeState(&e, b, now)
		changes = append(changes, store.Change{Key: key(keyState, uint64(q.id), number, uint64(pos)), Value: e})
		edition := b.places.edition()
		if edition != b.savedPlaces {
			if b.savedPlaces > 0 {
				sh.discard(key(keyPlaces, uint64(q.id), number, uint64(b.savedPlaces)))
			}
			var e encoder
			encodePlaces(&e, &b.places)
			changes = append(changes, store.Change{Key: key(keyPlaces, uint64(q.id), number, uint64(edition)), Value: e})
		}
		b.saved, b.savedPlaces, b.dirty = pos, edition, false
	}
	q.mu.Unlock()
	for _, c := range changes {
		if err := sh.put(c.Key, c.Value); err != nil {
			return err
		}
	}
	return nil
}

// shelveRest writes a queue's own record, which tells of its blocks.
func (k *keeper) shelveRest(q *Queue) (store.Position, error) {
	s, sh := k.spool, k.shelf
	q.mu.Lock()
	if q.dropped.Load() {
		defer q.mu.Unlock()
		return 0, nil
	}
	pos := s.commit.Appended()
	if q.saved > 0 && q.saved != pos {
		sh.discard(key(keyQueue, uint64(q.id), uint64(q.saved)))
		for page := range q.savedPages {
			sh.discard(key(keyBlocks, uint64(q.id), uint64(page), uint64(q.saved)))
		}
	}
	for _, b := range q.st.left {
		sh.discard(key(keyState, uint64(q.id), b.number, uint64(b.state)))
		sh.discard(key(keyPlaces, uint64(q.id), b.number, uint64(b.places)))
	}
	q.st.left = nil
	var e encoder
	m := q.snapshot(s.now())
	m.encode(&e)
	e.uv(uint64(q.basis))
	list := q.shelvedBlocks()
	q.saved, q.savedPages = pos, (len(list)+pageBlocks-1)/pageBlocks
	q.mu.Unlock()
	e.uv(uint64(len(list)))
	for page := 0; page*pageBlocks < len(list); page++ {
		var e encoder
		for _, b := range list[page*pageBlocks : min(len(list), (page+1)*pageBlocks)] {
			e.uv(b.number)
			e.uv(uint64(b.state))
			e.uv(uint64(b.places))
		}
		if err := sh.put(key(keyBlocks, uint64(q.id), uint64(page), uint64(pos)), e); err != nil {
			return 0, err
		}
	}
	return pos, sh.put(key(keyQueue, uint64(q.id), uint64(pos)), e)
}

// shelvedBlocks returns the blocks that are in the index. Caller holds mu.
func (q *Queue) shelvedBlocks() (list []shelved) {
	q.st.each(func(*summary) bool { return false }, func(b *block) bool {
		if b.savedPlaces > 0 {
			list = append(list, shelved{b.number, b.saved, b.savedPlaces})
		}
		return true
	})
	return list
}

// snapshot is all of a queue but its messages. Caller holds mu.
func (q *Queue) snapshot(now int64) *snapshotRecord {
	st := q.st
	return &snapshotRecord{queue: q.id, at: now, name: q.name, meta: st.meta, floors: st.floors, next: st.next,
		lastAt: st.lastAt, sent: st.sent, received: st.received, deleted: st.erased,
		created: st.created, modified: st.modified, generation: st.history.Generation(), events: st.history.Events()}
}

func (sh *shelf) putPages(ids []shelvedQueue, from store.Position) (pages int, err error) {
	for i := 0; i < sh.pages && sh.page != from; i++ {
		sh.discard(key(keyList, uint64(i), uint64(sh.page)))
	}
	for ; len(ids) > 0; pages++ {
		n := min(len(ids), pageQueues)
		var e encoder
		e.uv(uint64(n))
		for _, q := range ids[:n] {
			e.uv(uint64(q.id))
			e.uv(uint64(q.pos))
		}
		if err := sh.put(key(keyList, uint64(pages), uint64(from)), e); err != nil {
			return 0, err
		}
		ids = ids[n:]
	}
	sh.pages, sh.page = pages, from
	return pages, nil
}

// putCheckpoint makes what was written count. Commit point: the checkpoint's record.
func (sh *shelf) putCheckpoint(from store.Position, lastID uint32, idPos store.Position, pages int) error {
	id := sh.disk.Info().SpoolID
	e := encoder(id[:])
	e = binary.LittleEndian.AppendUint64(e, uint64(from))
	e.uv(uint64(lastID))
	e.uv(uint64(idPos))
	e.uv(uint64(pages))
	if err := sh.put(key(keyCheckpoint), e); err != nil {
		return err
	}
	if err := errors.Join(sh.flush(), sh.index.Sync()); err != nil {
		return err
	}
	sh.at = from
	return sh.believe()
}

// discardQueue removes every block record of a queue that is no more.
func (sh *shelf) discardQueue(id uint32) error {
	return sh.discardRange(uint64(id), uint64(id)+1)
}

// discardRange removes every record of the queues from id first up to below.
func (sh *shelf) discardRange(first, below uint64) error {
	for _, letter := range []byte{keyQueue, keyBlocks, keyState, keyPlaces} {
		err := sh.scan(key(letter, first), key(letter, below), func(e store.Entry) error {
			sh.discard(e.Key)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sweep removes what is superfluous.
func (sh *shelf) sweep() error {
	for len(sh.old) > 0 {
		n := min(len(sh.old), 4096)
		batch := make([]store.Change, n)
		for i, k := range sh.old[:n] {
			batch[i].Key = k
		}
		if err := sh.index.Apply(batch); err != nil {
			return err
		}
		sh.old = sh.old[n:]
	}
	sh.old = nil
	return nil
}

func (sh *shelf) close() error {
	if sh == nil || sh.index == nil {
		return nil
	}
	err := sh.index.Close()
	sh.index = nil
	return err
}
