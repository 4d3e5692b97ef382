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
//	  (checkpoint:begun)
//	2 dirty blocks and queues, under new     last checkpoint; the new records are superfluous
//	  keys, a few at a hold of a lock
//	  (checkpoint:blocks, :queue, :listed)
//	3 all of it applied, sync the log, sync  as 2
//	  the index (checkpoint:flushed, :log,
//	  :index)
//	4 the checkpoint's record                one of the two
//	  (checkpoint:record)
//	  sync (checkpoint:recorded, :stands)    the new checkpoint
//	5 remove what it made superfluous        the new checkpoint; what is left is removed later
//	  (checkpoint:swept, :finished)
//
// Of the first checkpoint of an index see shelf.load.
//
// Without room for the index, or when it fails, it is left as it is: nothing is lost but time at the next Open.
func (k *keeper) checkpoint() {
	if k.shelf == nil || k.spool.broken() != nil {
		return
	}
	err := k.writeCheckpoint(time.Time{})
	if k.suspended = err != nil; !k.suspended {
		k.indexSize.Store(k.shelf.index.Size())
		k.spool.restIdle()
		return
	}
	k.spool.log.Warn("no checkpoint", "error", err)
	k.checkpointFailed(err)
}

// checkpointFailed goes on when the index could not be written: without room the last checkpoint stands, and anything
// else is the end of this index.
func (k *keeper) checkpointFailed(err error) {
	if !errors.Is(err, errSuspended) && !errors.Is(err, store.ErrNoSpace) {
		k.abandon(err)
	}
}

// errSuspended says that there is no room for a checkpoint: the last one stands, and so does the index.
var errSuspended = errors.New("checkpoints are suspended")

// abandon gives the index up; the next checkpoint makes it anew from memory. When memory does not have all, the next
// Open does, from the log.
func (k *keeper) abandon(err error) {
	s := k.spool
	queues := s.snapshotQueues()
	for _, q := range queues {
		away := false
		q.visit(func(st *state) { away = st.out > 0 })
		if away {
			s.indexFailed(err)
			return
		}
	}
	s.pager.await() // of a queue deleted since
	k.shelf.drop()
	k.at.Store(int64(s.disk.Start()))
	for _, q := range queues {
		q.hold()
		q.saved, q.st.left, q.st.touched = 0, nil, true
		q.st.each(func(*summary) bool { return false }, func(b *block) bool {
			b.saved, b.dirty = shelved{}, true
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
	if err := s.broken(); err != nil { // what memory has may not be what the log tells, and the index may be the reason
		return fmt.Errorf("%w: %w", errSuspended, err)
	}
	if err := sh.atHome(); err != nil {
		s.commit.Fail(err)
		return fmt.Errorf("%w: %w", errSuspended, err)
	}
	if sh.index == nil {
		if err := sh.fresh(); err != nil {
			return fmt.Errorf("%w: %w", errSuspended, err)
		}
	}
	if err := sh.prepare(s.knownQueues); err != nil {
		return err
	}
	sh.loose = false
	k.checkpointing.Store(true)
	defer k.checkpointing.Store(false)
	from := s.commit.Boundary()
	s.step.at(stepCheckpointBegun)
	s.set.Lock() // whoever holds it for reading makes a dead-letter move, whose record may lie below: now that is made in memory too
	lastID, idPos, queues, dropped := s.lastID, s.idPos, s.list(), s.shed
	s.set.Unlock()

	ids := make([]shelvedQueue, 0, len(queues))
	for _, q := range queues {
		if !deadline.IsZero() && time.Now().After(deadline) {
			return fmt.Errorf("%w: it took too long", errSuspended)
		}
		turn, err := k.shelveQueue(q, deadline)
		if err != nil {
			return err
		}
		if turn > 0 {
			ids = append(ids, shelvedQueue{q.id, turn})
		}
		s.step.at(stepCheckpointQueue)
	}
	if err := sh.putPages(ids); err != nil {
		return err
	}
	s.step.at(stepCheckpointListed)
	if err := k.settle(); err != nil {
		return err
	}
	if err := sh.putCheckpoint(from, lastID, idPos); err != nil {
		return err
	}
	k.at.Store(int64(from))
	s.step.at(stepCheckpointStands)
	for _, id := range dropped {
		if err := sh.discardQueue(id); err != nil {
			return err
		}
	}
	s.set.Lock()
	s.shed = s.shed[len(dropped):]
	clean := len(s.shed) == 0 && !sh.loose // a queue deleted meanwhile has left records
	s.set.Unlock()
	if err := sh.sweep(); err != nil || !clean {
		return err
	}
	s.step.at(stepCheckpointSwept)
	if err := sh.finish(); err != nil {
		return err
	}
	s.step.at(stepCheckpointFinished)
	return nil
}

// settle makes durable what the checkpoint's record is going to tell of, and the log as far as that reaches.
func (k *keeper) settle() error {
	s, sh := k.spool, k.shelf
	if err := sh.flush(); err != nil {
		return err
	}
	s.step.at(stepCheckpointFlushed)
	if err := s.commit.Sync(); err != nil {
		return err
	}
	s.step.at(stepCheckpointLog)
	if err := sh.index.Sync(); err != nil {
		return err
	}
	s.step.at(stepCheckpointIndex)
	return nil
}

// prepare makes the index ready for records: it has nothing of an earlier life that they might be taken for.
func (sh *shelf) prepare(known func() map[uint32]*Queue) error {
	if err := sh.tidy(known); err != nil {
		return err
	}
	return errors.Join(sh.flush(), sh.sweep())
}

type shelvedQueue struct {
	id   uint32
	turn uint64
}

// shelveQueue writes a queue's changes and returns the turn of its record, 0 for a queue that was deleted.
func (k *keeper) shelveQueue(q *Queue, deadline time.Time) (turn uint64, err error) {
	q.mu.Lock()
	if q.dropped.Load() || !q.st.touched && q.saved > 0 {
		defer q.mu.Unlock()
		if q.dropped.Load() {
			return 0, nil
		}
		return q.saved, nil
	}
	q.rise()
	q.st.touched, q.shelving = false, true
	defer func() { q.shelved(err) }()
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
		k.spool.step.at(stepCheckpointBlocks)
		dirty = dirty[n:]
		runtime.Gosched()
	}
	return k.shelveRest(q)
}

func (q *Queue) shelved(err error) {
	q.hold()
	q.shelving = false
	q.st.touched = q.st.touched || err != nil
	q.mu.Unlock()
}

// dirtyBlocks returns the numbers of the blocks that changed. Caller holds mu.
func (q *Queue) dirtyBlocks() (dirty []uint64) {
	q.st.each(func(*summary) bool { return false }, func(b *block) bool {
		if b.body != nil && b.dirty {
			dirty = append(dirty, b.number)
		}
		return true
	})
	return dirty
}

// holdStill takes a queue's lock, and returns the position that its blocks include: no dead letter of the queue is still
// there though its record lies below. Moves are made under the lock of the set, which keeps them out.
func (q *Queue) holdStill() store.Position {
	s := q.spool
	q.hold()
	if q.st.count[moving] > 0 {
		q.mu.Unlock()
		s.set.Lock()
		defer s.set.Unlock()
		q.hold()
	}
	return s.commit.Appended()
}

// shelveBlocks encodes blocks in one hold of the lock, and writes them without it.
func (k *keeper) shelveBlocks(q *Queue, numbers []uint64) error {
	var changes []store.Change
	s, sh := k.spool, k.shelf
	pos := q.holdStill()
	now, turn := s.now(), sh.next()
	for _, number := range numbers {
		b := q.st.block(number)
		if b == nil || b.body == nil || b.places.n == 0 {
			continue
		}
		q.st.refresh(b)
		was := b.saved
		changes = append(changes, q.encode(b, turn, pos, now)...)
		sh.supersede(q.id, number, was, b.saved, false)
	}
	q.mu.Unlock()
	return sh.putAll(changes)
}

// encode returns the records of a block in memory, which is up to date, and notes that the index has it with all records below
// pos. The places are among them when the index has not those.
func (q *Queue) encode(b *block, turn uint64, pos store.Position, now int64) (changes []store.Change) {
	e := make(encoder, 0, 300+10*len(b.entries))
	b.away.due = encodeState(&e, b, now)
	changes = append(changes, store.Change{Key: key(keyState, uint64(q.id), b.number, turn), Value: e})
	edition := b.places.edition()
	if edition != b.saved.places {
		e := make(encoder, 0, 100+len(b.places.data)+movedBytes*len(b.places.moved))
		encodePlaces(&e, &b.places)
		changes = append(changes, store.Change{Key: key(keyPlaces, uint64(q.id), b.number, uint64(edition)), Value: e})
	}
	b.saved = shelved{state: turn, places: edition, included: pos, generation: b.generation}
	for k, n := range [...]int32{active: b.count[active] + b.count[hidden], inactive: b.count[inactive] + b.count[moving],
		delayed: b.count[delayed] + b.count[pending], rewindable: b.count[rewindable]} {
		b.saved.count[k] = int16(n)
	}
	b.dirty = false
	return changes
}

// shelveRest writes what tells of a queue's blocks, and its own record, which tells of that.
func (k *keeper) shelveRest(q *Queue) (turn uint64, err error) {
	s, sh := k.spool, k.shelf
	q.hold()
	if q.dropped.Load() {
		defer q.mu.Unlock()
		return 0, nil
	}
	if q.saved > 0 {
		sh.discard(key(keyQueue, uint64(q.id), q.saved))
		for page := range q.savedPages {
			sh.discard(key(keyBlocks, uint64(q.id), uint64(page), q.saved))
		}
	}
	for _, b := range q.st.left {
		sh.discard(key(keyState, uint64(q.id), b.number, b.saved.state))
		sh.discard(key(keyPlaces, uint64(q.id), b.number, uint64(b.saved.places)))
	}
	q.st.left = nil
	var e encoder
	pos, m := s.commit.Appended(), q.snapshot(s.now())
	m.encode(&e)
	e.uv(uint64(pos))
	e.uv(uint64(q.basis))
	q.saved, q.savedPages = sh.next(), 0
	q.mu.Unlock()
	blocks := 0
	for next, more := uint64(0), true; more; {
		var (
			page encoder
			n    int
		)
		for n < pageBlocks && more {
			var added int
			added, next, more = q.stubs(&page, next, pageBlocks-n)
			n += added
		}
		if n == 0 {
			break
		}
		k := key(keyBlocks, uint64(q.id), uint64(q.savedPages), q.saved)
		q.savedPages++ // first: the record is to be removed also when put answers an error
		if err := sh.put(k, page); err != nil {
			return 0, err
		}
		blocks += n
	}
	q.hold()
	sh.loose = sh.loose || len(q.st.left) > 0
	q.mu.Unlock()
	e.uv(uint64(blocks))
	return q.saved, sh.put(key(keyQueue, uint64(q.id), q.saved), e)
}

// stubs writes what is known of up to max blocks from one on that are in the index, some in one hold of the lock.
func (q *Queue) stubs(e *encoder, from uint64, max int) (n int, next uint64, more bool) {
	q.hold()
	defer q.mu.Unlock()
	for range looksAHold / 4 {
		b := q.st.from(from)
		if b == nil {
			return n, 0, false
		}
		from = b.number + 1
		if b.saved.state == 0 {
			continue
		}
		encodeStub(e, b)
		if n++; n == max {
			break
		}
	}
	return n, from, true
}

// snapshot is all of a queue but its messages. Caller holds mu.
func (q *Queue) snapshot(now int64) *snapshotRecord {
	st := q.st
	return &snapshotRecord{queue: q.id, at: now, name: q.name, meta: *st.meta, floors: st.floors, next: st.next,
		lastAt: st.lastAt, sent: st.sent, received: st.received, deleted: st.erased,
		created: st.created, modified: st.modified, generation: st.history.Generation(), events: st.history.Events()}
}

func (sh *shelf) putPages(ids []shelvedQueue) error {
	for i := range sh.pages {
		sh.discard(key(keyList, uint64(i), sh.page))
	}
	sh.page, sh.pages = sh.next(), 0
	for len(ids) > 0 {
		n := min(len(ids), pageQueues)
		var e encoder
		e.uv(uint64(n))
		for _, q := range ids[:n] {
			e.uv(uint64(q.id))
			e.uv(q.turn)
		}
		k := key(keyList, uint64(sh.pages), sh.page)
		sh.pages++ // first: the record is to be removed also when put answers an error
		if err := sh.put(k, e); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// putCheckpoint makes what was written count. Commit point: the checkpoint's record.
func (sh *shelf) putCheckpoint(from store.Position, lastID uint32, idPos store.Position) error {
	id := sh.disk.Info().SpoolID
	e := encoder(id[:])
	e = binary.LittleEndian.AppendUint64(e, uint64(from))
	e.uv(uint64(lastID))
	e.uv(uint64(idPos))
	e.uv(sh.page)
	e.uv(uint64(sh.pages))
	if err := sh.put(key(keyCheckpoint), e); err != nil {
		return err
	}
	if err := sh.flush(); err != nil {
		return err
	}
	sh.step.at(stepCheckpointRecord)
	if err := sh.index.Sync(); err != nil {
		return err
	}
	sh.step.at(stepCheckpointRecorded)
	sh.at = from
	sh.old, sh.pending = append(sh.old, sh.pending...), nil
	return sh.believe()
}

// finish notes that the index holds nothing but what the checkpoint tells of.
func (sh *shelf) finish() error {
	if err := sh.index.Apply([]store.Change{{Key: key(keyDraft)}}); err != nil {
		return err
	}
	sh.draft = false
	return nil
}

// discardQueue removes every record of a queue that no checkpoint tells of any more.
func (sh *shelf) discardQueue(id uint32) error {
	first, below := uint64(id), uint64(id)+1
	for _, letter := range []byte{keyQueue, keyBlocks, keyState, keyPlaces} {
		err := sh.scan(key(letter, first), key(letter, below), strayPage, func(e store.Entry) error {
			sh.old = append(sh.old, e.Key)
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
