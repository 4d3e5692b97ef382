package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/spoolmq/spool/store"
)

// A Delivery is what a consumer receives: a message, leased to it until VisibleAt. Body belongs to the caller. The
// methods may be called from several goroutines; reading VisibleAt beside Extend or Release may not.
type Delivery struct {
	ID              string // the same at every delivery of the message; at most 64 characters of [A-Za-z0-9_-]
	Body            []byte
	Attributes      map[string]string // nil when there are none
	EnqueuedAt      time.Time         // when it was sent, not when a delay ended
	FirstReceivedAt time.Time         // the first receive since the send or the last rewind
	VisibleAt       time.Time         // this lease ends here
	Receives        int               // 1 at the first delivery; restarts after a rewind
	Rewinds         int               // how often a rewind brought it back
	Receipt         string            // names this delivery; at most 128 characters of [A-Za-z0-9_-]; valid until VisibleAt, also across a restart
	DeadLetter      *Origin           // where a message came from that a dead-letter rule moved here; nil for others

	queue *Queue
}

// An Origin says where a message came from that a dead-letter rule moved.
type Origin struct {
	Queue      string    // the queue it was sent to
	ID         string    // its ID there
	EnqueuedAt time.Time // when it was sent there
	Receives   int       // how often it was delivered there
	Reason     string    // "max-receives" or "max-age"
}

// Reasons of an Origin.
const (
	reasonMaxReceives = "max-receives"
	reasonMaxAge      = "max-age"
)

// A ReceiveOption changes one receive.
type ReceiveOption func(*receiveOptions)

type receiveOptions struct {
	wait          time.Duration
	waitSet       bool
	visibility    time.Duration
	visibilitySet bool
	until         int64 // a wait that has begun ends at this instant; 0 = none has
}

// Wait makes a receive wait up to d for a message instead of Meta.PollingWait; d in [0, 24 h], 0 = do not wait. With
// Deliveries it ends the loop when nothing came for d.
func Wait(d time.Duration) ReceiveOption {
	return func(o *receiveOptions) { o.wait, o.waitSet = d, true }
}

// Visibility makes the lease last d instead of Meta.VisibilityTimeout; d in (0, 365 days].
func Visibility(d time.Duration) ReceiveOption {
	return func(o *receiveOptions) { o.visibility, o.visibilitySet = d, true }
}

func readOptions(opts []ReceiveOption) (receiveOptions, error) {
	if len(opts) == 0 {
		return receiveOptions{}, nil // one that options are applied to is on the heap
	}
	return applyOptions(opts)
}

func applyOptions(opts []ReceiveOption) (o receiveOptions, err error) {
	for _, opt := range opts {
		if opt == nil {
			return o, badArgument("option", "nil", "Wait or Visibility")
		}
		opt(&o)
	}
	if o.waitSet && (o.wait < 0 || o.wait > maxPollingWait) {
		return o, badArgument("Wait", o.wait, fmt.Sprintf("0s to %v", maxPollingWait))
	}
	if o.visibilitySet && (o.visibility <= 0 || o.visibility > maxVisibility) {
		return o, badArgument("Visibility", o.visibility, fmt.Sprintf("1ns to %v", maxVisibility))
	}
	return o, nil
}

// Receive leases the oldest active message to the caller: it is invisible to others until the lease ends, or it is
// deleted. When there is none it waits, first come first served, and answers ErrNoMessage when the wait is over. A
// context that ends while it waits is answered with the context's error and takes no message.
//
// A message whose body cannot be read any more answers ErrCorrupt to one call; it is then passed over for that lease. One that
// is to go to the dead-letter queue stays, and once a minute a call that finds nothing else answers ErrCorrupt.
func (q *Queue) Receive(ctx context.Context, opts ...ReceiveOption) (*Delivery, error) {
	var one [1]*Delivery
	ds, err := q.receiveMany(ctx, one[:0], 1, opts)
	if err != nil {
		return nil, err
	}
	return ds[0], nil
}

// ReceiveBatch is Receive for up to max messages, max in [1, MaxBatch]. It returns as soon as there is one, with what is
// there, and never waits to fill; it stops at MaxBatchBytes but always takes one. What one SendBatch has stored always fits:
// since the lengths of attributes must not count, up to 260 bytes a message more may come.
//
// Messages that lie among many others, of which much is out of memory, are leased a few at a time while that is read, each
// from its own instant on. It stops then when the first of these leases ends.
func (q *Queue) ReceiveBatch(ctx context.Context, max int, opts ...ReceiveOption) ([]*Delivery, error) {
	return q.receiveMany(ctx, nil, max, opts)
}

// receiveMany appends what it receives to to.
func (q *Queue) receiveMany(ctx context.Context, to []*Delivery, max int, opts []ReceiveOption) ([]*Delivery, error) {
	if err := q.enter(ctx); err != nil {
		return nil, err
	}
	defer q.spool.leave()
	o, err := readOptions(opts)
	if err != nil {
		return nil, err
	}
	if err := checkMax(max); err != nil {
		return nil, err
	}
	for {
		var one [1]grant // most receives need no more
		grants, pos, err := q.acquire(ctx, one[:0], max, &o)
		if err == ErrNoMessage {
			err = cmp.Or(q.takeRotten(), err)
		}
		if err != nil {
			return nil, err
		}
		ds, err := q.deliver(to, grants, pos)
		if len(ds) > 0 || err != nil {
			return ds, err
		}
	}
}

// takeRotten returns what a dead-letter move has met and no call has answered.
func (q *Queue) takeRotten() error {
	q.hold()
	defer q.mu.Unlock()
	err := q.rotten
	q.rotten = nil
	return err
}

func checkMax(max int) error {
	if max < 1 || max > MaxBatch {
		return badArgument("max", max, fmt.Sprintf("1 to %d", MaxBatch))
	}
	return nil
}

// acquire leases up to max messages, waiting for the first if need be, appends them to grants, and returns the position of
// their last RECEIVE. What it finds due goes to those who wait already before it takes some itself.
//
// Messages that are spread over more blocks than memory has room for are leased in portions, which others may come between.
// What ends the call after the first (no room in the log, the end of the queue) is not its answer: what is leased is handed
// over. It goes on only while each of its leases does, so that no message comes twice.
//
//	step                                   dies here: after the next Open
//	1 take room, under mu: lease, count,   visible
//	  nonce; RECEIVE into the open frame
//	2 likewise for each further portion    those before: leased, or visible; nobody had an answer
//	3 the frames are written, and synced   leased, or visible; nobody had an answer
//	  with durable receives
//	4 bodies are read, answer              leased until its end
func (q *Queue) acquire(ctx context.Context, grants []grant, max int, o *receiveOptions) ([]grant, store.Position, error) {
	grants, pos, more, err := q.portion(ctx, grants, max, o)
	if !more {
		return grants, pos, err
	}
	for more {
		var last store.Position
		if grants, last, more, err = q.portion(ctx, grants, max, o); err == nil {
			pos = last
		}
	}
	// A message that has become active meanwhile may be older than those before.
	slices.SortFunc(grants, func(a, b grant) int { return cmp.Compare(a.seq, b.seq) })
	return grants, pos, nil
}

// portion leases as many messages as memory suffices for until grants are max, and appends them. more tells that others are
// left for which blocks have to be read first. It waits for the very first one only; then it answers ErrNoMessage.
func (q *Queue) portion(ctx context.Context, grants []grant, max int, o *receiveOptions) (_ []grant, _ store.Position, more bool, err error) {
	c := q.spool.commit
	had := len(grants)
	need := receiveNeed(max - had)
	now, err := q.admit(need, store.Reserve)
	if err == nil && !q.st.summon(0, max-had, pageStep) {
		now, err = q.gather(now, 0, max-had, func() (int64, error) { return q.admit(need, store.Reserve) }, func() { c.Forgo(need) })
	}
	if err != nil {
		return grants, 0, false, err
	}
	wait := q.st.meta.PollingWait
	if o.waitSet {
		wait = o.wait
	}
	if o.until > 0 { // what it was woken for was gone before it was read: it goes on with its wait
		wait = time.Duration(o.until - now)
	}
	visibility := q.st.meta.VisibilityTimeout
	if o.visibilitySet {
		visibility = o.visibility
	}
	if !lapsed(grants, now) {
		grants, more = q.take(grants, max, now, after(now, int64(visibility)), wait > 0)
	}
	if len(grants) > had {
		c.Begin()
		pos := q.recordReceive(now, grants[had:])
		c.End(need)
		if more {
			c.Nudge()
		}
		q.armNewest()
		q.unlock(now)
		return grants, pos, more, nil
	}
	if wait <= 0 || had > 0 {
		q.unlock(now)
		c.Forgo(need)
		return grants, 0, false, ErrNoMessage
	}
	if err := q.spool.refusal(); err != nil { // Close or a failure has been here and woken those who waited
		q.unlock(now)
		c.Forgo(need)
		return grants, 0, false, err
	}
	if o.until == 0 {
		o.until = after(now, int64(wait))
	}
	w := q.spool.newWaiter()
	w.max, w.visibility = max, o.visibility
	q.waiters.push(w)
	q.unlock(now)
	c.Forgo(need)
	return q.await(ctx, w, wait)
}

// lapsed tells whether the lease of one of them is over.
func lapsed(grants []grant, now int64) bool {
	return slices.ContainsFunc(grants, func(g grant) bool { return g.due <= now })
}

// gather has the blocks of up to max of the oldest active messages read, a portion of them, from a block on, and returns
// holding mu as lock does: fewer of them when they are put out again as fast, but one is always there. Caller holds mu by
// lock; release gives back what lock took beside it.
func (q *Queue) gather(now int64, from uint64, max int, lock func() (int64, error), release func()) (_ int64, err error) {
	for blocks := pageStep; err == nil && !q.st.summon(from, max, blocks); blocks = (blocks + 3) / 4 {
		q.unlock(now)
		release()
		now, err = lock()
	}
	if err != nil {
		q.spool.worker.add(q) // the queue tells the clock nothing while blocks are wanted
	}
	return now, err
}

// await waits until the waiter is given messages, or it leaves with nothing. Whoever wakes it has taken it off the
// list: a context or a timer that ends at the same moment comes too late, and the messages are the caller's.
func (q *Queue) await(ctx context.Context, w *waiter, wait time.Duration) (_ []grant, pos store.Position, more bool, err error) {
	defer q.spool.freeWaiter(w)
	if w.timer == nil {
		w.timer = time.NewTimer(wait)
	} else {
		w.timer.Reset(wait)
	}
	err = ErrNoMessage // the timer may run on: nobody looks at it until it is set again
	select {
	case <-w.ready:
		return w.grants, w.pos, w.more, w.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-w.timer.C:
	}
	if err == ErrNoMessage {
		// What falls due at this very instant is still in time.
		for here := false; !here; {
			now, gone := q.lock()
			if gone != nil {
				break
			}
			here = q.waiters.n == 0 || q.st.summon(0, 1, 1)
			q.unlock(now)
		}
	}
	q.hold()
	left := w.listed
	if left {
		q.waiters.remove(w)
	}
	q.mu.Unlock()
	if left {
		return nil, 0, false, err
	}
	<-w.ready
	return w.grants, w.pos, w.more, w.err
}

// deliveriesTogether bounds how many deliveries of a batch share an allocation: whoever keeps one of them keeps the fields
// of the others, but not their bodies.
const deliveriesTogether = 16

// deliver waits until the receive has reached its level, and every message its send's, reads the bodies, and appends the
// deliveries to ds, which is empty.
func (q *Queue) deliver(ds []*Delivery, grants []grant, pos store.Position) ([]*Delivery, error) {
	s := q.spool
	if err := s.failure(s.commit.Wait(pos, s.receiveLevel)); err != nil {
		return nil, err
	}
	ds = slices.Grow(ds, len(grants))
	var near *span
	if len(grants) > 1 {
		near = newSpan()
		defer near.free()
	}
	var room []Delivery
	var bad error
	for i := range grants {
		g := &grants[i]
		if err := s.failure(s.commit.Wait(g.pos, s.level)); err != nil {
			return nil, err
		}
		m, err := q.fetch(near, grants[i:])
		if errors.Is(err, store.ErrGone) {
			continue // gone between the lease and the read
		}
		if err != nil {
			bad = err
			if !errors.Is(err, ErrCorrupt) {
				return nil, err
			}
			if err := q.passOver(g); err != nil {
				bad = err // it stays leased all the same
			}
			continue
		}
		if len(room) == 0 {
			room = make([]Delivery, min(len(grants)-i, deliveriesTogether))
		}
		d := &room[0]
		room = room[1:]
		m.deliver(d)
		q.fill(d, m.epoch, g)
		ds = append(ds, d)
	}
	if len(ds) == 0 {
		return nil, bad
	}
	return ds, nil
}

// fill adds what the lease says to what the log said.
func (q *Queue) fill(d *Delivery, epoch uint32, g *grant) {
	d.ID, d.Receipt = q.spool.sealer.seal(delivery{q.id, g.seq, g.nonce}, epoch)
	d.FirstReceivedAt, d.VisibleAt = instantTime(g.first), instantTime(g.due)
	d.Receives, d.Rewinds = int(g.receives), int(g.rewinds)
	d.queue = q
}

// passOver takes back the receive of a message that could not be read: it stays leased, to nobody, until the lease
// ends, and the receive does not count.
func (q *Queue) passOver(g *grant) error {
	return q.visibility(func(now int64) (uint64, byte, int64, error) {
		b, off := q.st.locate(g.seq)
		if b != nil && b.body == nil {
			return 0, 0, 0, errAway
		}
		if b == nil || b.kind(off) != inactive || b.entry(off).nonce != g.nonce {
			return 0, 0, 0, errNothing
		}
		q.st.unread(b, b.entry(off), g.due)
		return g.seq, visibilityUnread, g.due, nil
	})
}

// Deliveries receives one message for each turn of a loop:
//
//	for d, err := range q.Deliveries(ctx) { … }
//
// Nothing is received ahead of the loop's body. It goes on while the queue is idle, whatever Meta.PollingWait is, unless
// Wait(d) is given: then it ends when nothing came for d, so Wait(0) drains. When ctx ends it just ends; any other error
// is handed to the body once and ends it.
func (q *Queue) Deliveries(ctx context.Context, opts ...ReceiveOption) iter.Seq2[*Delivery, error] {
	return func(yield func(*Delivery, error) bool) {
		o, err := readOptions(opts)
		endless := err == nil && !o.waitSet
		use := opts
		if endless {
			use = append(append([]ReceiveOption(nil), opts...), Wait(maxPollingWait))
		}
		for {
			d, err := q.Receive(ctx, use...)
			switch {
			case err == nil:
				if !yield(d, nil) {
					return
				}
			case errors.Is(err, ErrNoMessage):
				if !endless {
					return
				}
			case ctx.Err() != nil && errors.Is(err, ctx.Err()):
				return
			default:
				yield(nil, err)
				return
			}
		}
	}
}

// instantTime is an instant as users see it; 0 is the zero time.
func instantTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}
