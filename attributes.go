package spool

import (
	"context"
	"errors"
	"time"

	"github.com/spoolmq/spool/store"
)

// Attributes is one consistent snapshot of what the queue is set to and holds, with everything due taken into account.
// The counters are exact.
func (q *Queue) Attributes(ctx context.Context) (Attributes, error) {
	if err := q.enter(ctx); err != nil {
		return Attributes{}, err
	}
	defer q.spool.leave()
	now, err := q.lock()
	var oldest time.Time
	for ; err == nil; now, err = q.lock() {
		b, off := q.st.oldestAlive()
		if b == nil {
			break
		}
		if b.body != nil {
			oldest = instantTime(q.st.cursor.get(&b.places, off).at)
			break
		}
		q.unlock(now)
	}
	if err != nil {
		return Attributes{}, err
	}
	st := q.st
	a := Attributes{
		Meta:       st.meta.clone(),
		Active:     st.count[active],
		Inactive:   st.count[inactive] + st.count[moving],
		Delayed:    st.count[delayed],
		Rewindable: st.count[rewindable],
		Sent:       st.shown(), Received: st.received, Deleted: st.erased,
		CreatedAt: instantTime(st.created), ModifiedAt: instantTime(st.modified),
		Oldest: oldest,
	}
	if at, ok := st.wheel.Next(); ok {
		a.NextDue = instantTime(at)
	}
	q.unlock(now)
	return a, nil
}

// Peek returns up to max of the oldest active messages, max in [1, MaxBatch], without changing anything: no lease, no
// count, an empty Receipt and a zero VisibleAt. When there are none it returns none and no error. It stops at MaxBatchBytes
// as ReceiveBatch does. Of messages that lie among many others, of which much is out of memory, each is as it was at some
// instant of the call. When a body cannot be read the others are returned together with ErrCorrupt.
func (q *Queue) Peek(ctx context.Context, max int) ([]*Delivery, error) {
	if err := q.enter(ctx); err != nil {
		return nil, err
	}
	defer q.spool.leave()
	if err := checkMax(max); err != nil {
		return nil, err
	}
	for {
		grants, err := q.lookAll(max)
		if err != nil {
			return nil, err
		}
		// What is gone before it is read may have hidden others from the look.
		if ds, err := q.read(grants); len(ds) > 0 || err != nil || len(grants) == 0 {
			return ds, err
		}
	}
}

// read returns what a look has found and is still there.
func (q *Queue) read(grants []grant) ([]*Delivery, error) {
	ds := make([]*Delivery, 0, len(grants))
	near := newSpan()
	defer near.free()
	var bad error
	for i := range grants {
		g := &grants[i]
		// A message that was handed over and lapsed may be active before its send has reached its level.
		if err := q.spool.failure(q.spool.commit.Wait(g.pos, q.spool.level)); err != nil {
			return nil, err
		}
		m, err := q.fetch(near, grants[i:])
		if errors.Is(err, store.ErrGone) {
			continue // deleted and dropped since we looked
		}
		if err != nil {
			bad = err
			continue
		}
		d := &Delivery{queue: q}
		m.deliver(d)
		d.ID = messageID(q.id, m.epoch, g.seq)
		d.FirstReceivedAt, d.Receives, d.Rewinds = instantTime(g.first), int(g.receives), int(g.rewinds)
		ds = append(ds, d)
	}
	return ds, bad
}

// lookAll returns the oldest active messages as grants without a lease. Where they are spread over more blocks than memory has
// room for it looks at a portion of them at a time, and lets others come between.
func (q *Queue) lookAll(max int) (grants []grant, err error) {
	for from, more := uint64(0), true; more; {
		now, err := q.lock()
		if n := max - len(grants); err == nil && !q.st.summon(from, n, pageStep) {
			now, err = q.gather(now, from, n, q.lock, func() {})
		}
		if err != nil {
			return nil, err
		}
		grants, from, more = q.look(grants, from, max)
		q.unlock(now)
	}
	return grants, nil
}

// look appends the oldest active messages from a block on to grants, until these are max, or MaxBatchBytes, but always one.
// more tells that it has stopped at a block that is away, and which. Caller holds mu and has summoned them.
func (q *Queue) look(grants []grant, from uint64, max int) (_ []grant, next uint64, more bool) {
	st, total := q.st, contents(grants)
	st.eachActive(from, func(b *block) bool {
		if len(grants) == max {
			return false
		}
		if b.body == nil {
			next, more = b.number, true
			return false
		}
		b.used = true
		st.refresh(b)
		for off := b.active.next(0); off >= 0; off = b.active.next(off + 1) {
			pl := st.cursor.get(&b.places, off)
			if total += content(pl.size); len(grants) == max || total > MaxBatchBytes && len(grants) > 0 {
				return false
			}
			g := grant{seq: b.first() + uint64(off), pos: pl.pos, size: pl.size}
			if e := b.entry(off); e != nil {
				g.first, g.receives, g.rewinds = e.first, e.receives, e.rewinds
			}
			grants = append(grants, g)
		}
		return true
	})
	return grants, next, more
}

// RewindRange is what Rewind accepts now: from now − Meta.Rewind to now, both included. It answers ErrRewindDisabled when
// Meta.Rewind is 0.
func (q *Queue) RewindRange() (earliest, latest time.Time, err error) {
	if err := q.enter(context.Background()); err != nil {
		return time.Time{}, time.Time{}, err
	}
	defer q.spool.leave()
	window := q.meta.Load().Rewind
	if window == 0 {
		return time.Time{}, time.Time{}, ErrRewindDisabled
	}
	now := q.spool.now()
	return instantTime(now - int64(window)), instantTime(now), nil
}

// Rewind makes every rewindable message that was enqueued at the instant to or later active again, in its place of
// production, and returns their exact number. to is compared with EnqueuedAt, not with the time of deletion. It is one
// durable step and one record, however many messages there are; where there are none nothing is recorded. Active, inactive
// and delayed messages are untouched.
//
// Errors: ErrRewindDisabled when Meta.Rewind is 0; ErrInvalidRewindTime (*RewindRangeError) when to is outside
// [now − Meta.Rewind, now]; nothing is changed then.
//
//	step                                   dies here: after the next Open
//	1 under mu: count, REWIND into the     rewindable
//	  open frame, active
//	2 the frame is written                 all or none; nobody had an answer
//	3 the frame is synced (Fsync), answer  active
func (q *Queue) Rewind(ctx context.Context, to time.Time) (restored int64, err error) {
	if err := q.enter(ctx); err != nil {
		return 0, err
	}
	defer q.spool.leave()
	c := q.spool.commit
	need := int64(store.RecordSize(64, 0))
	if err := q.shorten(); err != nil {
		return 0, err
	}
	var from int64
	now, err := q.admit(need, store.Reserve)
	for err == nil {
		if from, err = q.rewindStart(to, now); err == nil && q.st.settledEdge(from) {
			break
		}
		q.unlock(now)
		c.Forgo(need)
		if err == nil {
			now, err = q.admit(need, store.Reserve)
		}
	}
	if err != nil {
		return 0, err
	}
	st := q.st
	if restored = st.rewind(from, now); restored == 0 {
		// What left nothing to bring back, such as another rewind, is durable before this is answered. It lies in the log,
		// as the queue's own record does, so there is a position below.
		last := c.Appended() - 1
		q.unlock(now)
		c.Forgo(need)
		return 0, q.spool.failure(c.Wait(last, q.spool.level))
	}
	r := rewindRecord{queue: q.id, at: now, generation: st.history.Generation() + 1, instant: from, restored: restored}
	q.scratch = q.scratch[:0]
	r.encode(&q.scratch)
	c.Begin()
	pos := c.Add(recordRewind, q.scratch, 0)
	c.End(need)
	st.history.Add(from, now, uint64(pos), false)
	st.touched = true
	q.unlock(now)
	return restored, q.spool.failure(c.Wait(pos, q.spool.level))
}

// RewindPreview returns what Rewind would bring back, and changes nothing. Its errors are Rewind's.
func (q *Queue) RewindPreview(ctx context.Context, to time.Time) (restored int64, err error) {
	if err := q.enter(ctx); err != nil {
		return 0, err
	}
	defer q.spool.leave()
	for {
		now, err := q.lock()
		if err != nil {
			return 0, err
		}
		from, err := q.rewindStart(to, now)
		here := err == nil && q.st.settledEdge(from)
		if here {
			restored = q.st.restorable(from)
		}
		q.unlock(now)
		if here || err != nil {
			return restored, err
		}
	}
}

// rewindStart returns the instant from which a rewind to an instant brings messages back. Caller holds mu and has settled.
func (q *Queue) rewindStart(to time.Time, now int64) (from int64, err error) {
	window := q.st.meta.Rewind
	if window == 0 {
		return 0, ErrRewindDisabled
	}
	earliest, latest := instantTime(now-int64(window)), instantTime(now)
	if to.Before(earliest) || to.After(latest) {
		return 0, &RewindRangeError{earliest, latest}
	}
	return q.st.instant(to.UnixNano(), now), nil
}

// Purge makes everything in the queue gone: active, inactive, delayed and rewindable messages. Receivers that wait keep
// waiting.
func (q *Queue) Purge(ctx context.Context) error {
	if err := q.enter(ctx); err != nil {
		return err
	}
	defer q.spool.leave()
	c := q.spool.commit
	need := settingNeed
	now, err := q.admit(need, store.Cleaner) // it makes room
	if err != nil {
		return err
	}
	q.st.purge()
	c.Begin()
	pos := q.recordQueue(queuePurged, now, nil)
	c.End(need)
	q.unlock(now)
	return q.spool.failure(c.Wait(pos, q.spool.level))
}
