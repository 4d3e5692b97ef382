package spool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/spoolmq/spool/store"
)

// Delete ends a message's life as its consumer wishes: it is gone, or rewindable when Meta.Rewind is set. receipt is that
// of the latest delivery, before its VisibleAt; any other answers ErrInvalidReceipt (*ReceiptError with the Reason).
// A nil error means that the deletion is stored at the spool's durability.
func (q *Queue) Delete(ctx context.Context, receipt string) error {
	if err := q.enter(ctx); err != nil {
		return err
	}
	defer q.spool.leave()
	var failed [1]error
	if err := q.deleteAll([]string{receipt}, failed[:]); err != nil {
		return err
	}
	return failed[0]
}

// DeleteBatch deletes by 1 to MaxBatch receipts. When some are refused the others are deleted all the same, and the
// error is a *BatchError that names the refused ones.
func (q *Queue) DeleteBatch(ctx context.Context, receipts []string) error {
	if err := q.enter(ctx); err != nil {
		return err
	}
	defer q.spool.leave()
	if len(receipts) < 1 || len(receipts) > MaxBatch {
		return badArgument("receipts", len(receipts), fmt.Sprintf("1 to %d of them", MaxBatch))
	}
	failed := make([]error, len(receipts))
	if err := q.deleteAll(receipts, failed); err != nil {
		return err
	}
	var items []ItemError
	for i, err := range failed {
		if err != nil {
			items = append(items, ItemError{i, receipts[i], err})
		}
	}
	if len(items) > 0 {
		return &BatchError{Failed: items, total: len(receipts)}
	}
	return nil
}

// deleteAll deletes by receipts, and tells of each that is refused why. They share one record, unless the blocks that have to
// be read for them are more than a portion.
//
//	step                                   dies here: after the next Open
//	1 take room, under mu: check, DELETE   inactive
//	  into the open frame, gone from view
//	2 the frame is written                 inactive, or deleted; nobody had an answer
//	3 the frame is synced (Fsync), answer  deleted
func (q *Queue) deleteAll(receipts []string, failed []error) error {
	var one [1]claim // most deletes need no more
	claims := q.spool.sealer.claims(one[:0], receipts)
	var last store.Position
	for todo, want := len(claims), deleteWants[:]; todo > 0; {
		pos, left, err := q.deleteSome(claims, failed, todo, want[0])
		if err != nil {
			return err
		}
		if left == todo && len(want) > 1 {
			want = want[1:]
		}
		last, todo = max(last, pos), left
	}
	if last == 0 {
		return nil
	}
	return q.spool.failure(q.spool.commit.Wait(last, q.spool.level))
}

// wholeBatch has the blocks of a whole batch read together, as long as they make no more than a portion.
const wholeBatch = math.MaxInt

// deleteWants is how many blocks a batch wants at once, each time that nothing could be done with what was read: it may have
// been put out again as fast. One block is always there.
var deleteWants = [...]int{wholeBatch, wholeBatch, pageStep, pageStep / 4, 1}

// deleteSome deletes by the last todo of the receipts, but for some whose blocks have to be read first, want of them at once:
// from the first of those on they are left, or, of a whole batch, all of them. It returns the position of the record, 0 if
// there is none.
func (q *Queue) deleteSome(claims []claim, failed []error, todo, want int) (pos store.Position, left int, err error) {
	c := q.spool.commit
	need := int64(store.RecordSize(32+12*todo, 0))
	now, err := q.admit(need, store.Reserve)
	if err != nil {
		return 0, 0, err
	}
	if want == wholeBatch && !q.summonClaims(claims[len(claims)-todo:]) {
		q.unlock(now)
		c.Forgo(need)
		return 0, todo, nil
	}
	r := deleteRecord{queue: q.id, at: now, items: q.erasing[:0]}
	for i := len(claims) - todo; i < len(claims); i++ {
		b, off, d, err := q.holder(claims[i])
		if err == errAway {
			left = len(claims) - i
			for i++; i < len(claims) && len(q.st.wanted) < min(want, pageStep); i++ {
				_, _, _, _ = q.holder(claims[i]) // wants its block too
			}
			break
		}
		if err != nil {
			failed[i] = err
			continue
		}
		r.items = append(r.items, erased{d.seq, q.erase(b, off, now)})
		q.spool.recent.add(d)
	}
	q.erasing = r.items
	if len(r.items) == 0 {
		q.unlock(now)
		c.Forgo(need)
		return 0, left, nil
	}
	q.st.erased += int64(len(r.items))
	q.scratch = q.scratch[:0]
	r.encode(&q.scratch)
	c.Begin()
	pos = c.Add(recordDelete, q.scratch, 0)
	c.End(need)
	if left > 0 {
		c.Nudge()
	}
	q.unlock(now)
	return pos, left, nil
}

// summonClaims wants the blocks of messages that receipts name, as long as those that are away make no more than a portion. It
// answers false when they are on their way. Caller holds mu.
func (q *Queue) summonClaims(claims []claim) (all bool) {
	if q.st.out == 0 {
		return true
	}
	all = true
	room := q.st.portion
	for _, c := range claims {
		if !c.ours || c.queue != q.id {
			continue
		}
		b := q.st.block(c.seq >> blockBits)
		if b == nil {
			continue
		}
		if b.body == nil && !b.wanted {
			if room -= b.heft(); room < 0 {
				return true
			}
		}
		all = q.st.here(b) && all
	}
	return all
}

// erase deletes a leased message and tells whether it stays rewindable. Caller holds mu.
func (q *Queue) erase(b *block, off int, now int64) (kept bool) {
	window := int64(q.st.meta.Rewind)
	if window > 0 && q.st.cursor.get(&b.places, off).at > now-window {
		q.st.keep(b, off)
		return true
	}
	q.st.remove(b, off)
	return false
}

// holder finds the message that a receipt holds, or says why it holds none; errAway when its block has to be read first.
// Caller holds mu and has settled.
func (q *Queue) holder(c claim) (*block, int, delivery, error) {
	d := c.delivery
	if !c.ours {
		return nil, 0, d, &ReceiptError{Malformed}
	}
	if d.queue != q.id {
		return nil, 0, d, &ReceiptError{WrongQueue}
	}
	b, off := q.st.locate(d.seq)
	if b == nil {
		return nil, 0, d, &ReceiptError{q.spool.recent.reason(d)}
	}
	if b.body == nil {
		return nil, 0, d, errAway
	}
	if reason := q.standing(b, off, d); reason != "" {
		return nil, 0, d, &ReceiptError{reason}
	}
	return b, off, d, nil
}

// standing says why a receipt does not hold a message, or "" when it does. Nonces rise with every delivery and rewind. Of a
// message that was received again or rewound since only the spool's memory may still know that this receipt has deleted it.
func (q *Queue) standing(b *block, off int, d delivery) Reason {
	k, e := b.kind(off), b.entry(off)
	switch {
	case k == gone || k == hidden || k == pending:
		return q.spool.recent.reason(d)
	case e != nil && e.nonce&^voided > d.nonce:
		if q.spool.recent.reason(d) == Deleted {
			return Deleted
		}
		return Stale
	case e == nil || e.nonce != d.nonce:
		return Expired // the receive itself was undone by a power loss, or the lease is voided
	case k == rewindable:
		return Deleted
	case k == moving:
		return Gone
	case k == inactive:
		return ""
	}
	return Expired
}

// ChangeVisibility makes the lease that a receipt holds end d from now, d in [0, 365 days]; the receipt stays valid until
// then. 0 gives the message back at once, as Release(0) does. It is stored like a receive: it survives the death of the
// process, and power loss only with WithDurableReceives.
func (q *Queue) ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error {
	if d == 0 {
		_, err := q.giveBack(ctx, receipt, 0)
		return err
	}
	_, err := q.extend(ctx, receipt, d)
	return err
}

// Delete deletes the message, as [Queue.Delete] does.
func (m *Delivery) Delete(ctx context.Context) error {
	if m.queue == nil {
		return malformed(ctx)
	}
	return m.queue.Delete(ctx, m.Receipt)
}

// Extend makes the lease end d from now, as [Queue.ChangeVisibility] does, and sets VisibleAt.
func (m *Delivery) Extend(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return m.Release(ctx, 0)
	}
	return m.change(ctx, func(q *Queue) (int64, error) { return q.extend(ctx, m.Receipt, d) })
}

// Release gives the message back: active at once, or delayed for after, in [0, 365 days]. The receipt is Expired from
// then on. It sets VisibleAt. A release ends a lease, so dead-letter rules are looked at.
func (m *Delivery) Release(ctx context.Context, after time.Duration) error {
	return m.change(ctx, func(q *Queue) (int64, error) { return q.giveBack(ctx, m.Receipt, after) })
}

func (m *Delivery) change(ctx context.Context, f func(*Queue) (int64, error)) error {
	if m.queue == nil {
		return malformed(ctx)
	}
	due, err := f(m.queue)
	if err != nil {
		return err
	}
	m.queue.spool.stamps.Lock()
	m.VisibleAt = instantTime(due)
	m.queue.spool.stamps.Unlock()
	return nil
}

// malformed is the answer to what is asked of a zero Delivery.
func malformed(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return &ReceiptError{Malformed}
}

// extend moves the end of a lease to d from now and returns it.
func (q *Queue) extend(ctx context.Context, receipt string, d time.Duration) (due int64, err error) {
	return q.relet(ctx, "visibility", receipt, d, func(b *block, off int, now, due int64) (byte, int64) {
		q.st.extend(b, b.entry(off), due)
		return visibilityExtended, due
	})
}

// giveBack ends a lease now and returns when the message is visible again.
func (q *Queue) giveBack(ctx context.Context, receipt string, d time.Duration) (due int64, err error) {
	return q.relet(ctx, "release", receipt, d, func(b *block, off int, now, due int64) (byte, int64) {
		q.st.giveBack(b, off, now, due)
		if b.kind(off) == moving {
			return visibilityMoving, now
		}
		return visibilityReleased, due
	})
}

// relet changes the lease that a receipt holds, for d from now. change is called under mu and returns what to record.
func (q *Queue) relet(ctx context.Context, name, receipt string, d time.Duration, change func(b *block, off int, now, due int64) (byte, int64)) (due int64, err error) {
	if err := q.enter(ctx); err != nil {
		return 0, err
	}
	defer q.spool.leave()
	if d < 0 || d > maxVisibility {
		return 0, badArgument(name, d, fmt.Sprintf("0s to %v", maxVisibility))
	}
	c := q.spool.sealer.claim(receipt)
	err = q.visibility(func(now int64) (uint64, byte, int64, error) {
		b, off, x, err := q.holder(c)
		if err != nil {
			return 0, 0, 0, err
		}
		due = after(now, int64(d))
		what, at := change(b, off, now, due)
		return x.seq, what, at, nil
	})
	return due, err
}

var (
	errNothing = errors.New("nothing to do")       // ends a change of visibility
	errAway    = errors.New("a block is not here") // it is wanted; the caller begins anew
)

// visibility makes and records one change of a lease. change is called under mu, everything due taken into account; it
// returns what to record. Dead letters that the change brings about have been moved when it returns.
//
//	step                                   dies here: after the next Open
//	1 take room, under mu: check, change,  as before
//	  VISIBILITY into the open frame
//	2 the frame is written, answer (with   changed
//	  durable receives when it is synced)
func (q *Queue) visibility(change func(now int64) (seq uint64, what byte, due int64, err error)) error {
	c := q.spool.commit
	need := int64(store.RecordSize(64, 0))
	now, err := q.admit(need, store.Reserve)
	if err != nil {
		return err
	}
	r := visibilityRecord{queue: q.id, at: now}
	if r.seq, r.change, r.due, err = change(now); err != nil {
		q.unlock(now)
		c.Forgo(need)
		if err == errAway {
			return q.visibility(change)
		}
		if err == errNothing {
			return nil
		}
		return err
	}
	q.scratch = q.scratch[:0]
	r.encode(&q.scratch)
	c.Begin()
	pos := c.Add(recordVisibility, q.scratch, 0)
	c.End(need)
	if len(q.st.moves) > 0 {
		c.Nudge()
		q.makeMoves()
		q.settleMoves()
	}
	q.unlock(now)
	return q.spool.failure(c.Wait(pos, q.spool.receiveLevel))
}
