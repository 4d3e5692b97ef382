package spool

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spoolmq/spool/store"
)

// Limits of a batch.
const (
	MaxBatch      = 1024     // messages of a SendBatch or ReceiveBatch, receipts of a DeleteBatch
	MaxBatchBytes = 16 << 20 // bytes of bodies and attributes in a batch
)

// NoDelay as a Message's Delay makes it active at once, whatever the queue's Delay is.
const NoDelay time.Duration = -1

// Limits of a message's attributes.
const (
	maxAttributes     = 64
	maxAttributeBytes = 64 << 10
)

// attributeFraming is the most that their encoding adds to the keys and values of a message, in bytes: one for the number of
// attributes, two for the length of each key and value, and one more for that of 16 KiB or more, which three can have where the
// others have the 128 that take two.
const attributeFraming = 1 + 2*2*maxAttributes + 3

// A Message is what a producer sends.
type Message struct {
	Body       []byte            // 1 to Meta.MaxMessageSize bytes, any bytes; not kept after the call
	Delay      time.Duration     // 0 = the queue's Delay, NoDelay = none, otherwise at least 1 ns and less than Retention
	Attributes map[string]string // optional headers, arbitrary bytes, keys not empty; at most 64, keys and values at most 64 KiB together
}

// A Queue is one queue of a spool. All methods may be called from any number of goroutines. They answer ErrClosed after
// the spool was closed and ErrQueueNotFound after the queue was deleted, for ever. A context that is done already means
// no effect and its error; from then on a call is not interrupted but while it waits for messages.
type Queue struct {
	spool *Spool
	id    uint32 // immutable; never used again
	name  string // immutable once the spool is open

	meta    atomic.Pointer[Meta]     // as in st.meta; what it points to is immutable
	feeders atomic.Pointer[[]*Queue] // queues whose dead letters come here; written under the spool's set lock
	dropped atomic.Bool              // written under mu
	origin  store.Position           // immutable; of the record that made it, 0 when it was there at Open
	moveAt  atomic.Int64             // a dead letter may be due here at this instant; never = no dead-letter rule
	alarm   alarm                    // guarded by the clock's mu

	paging sync.Mutex // held by who reads blocks from the index; taken before mu

	mu         sync.Mutex
	*desk                     // guarded by mu; nil while the queue is at rest
	st         *state         // guarded by mu
	target     *Queue         // guarded by mu; where dead letters go
	armed      int64          // guarded by mu; what the clock was told
	basis      store.Position // guarded by mu; position of the newest record that holds all of the queue but its messages
	saved      uint64         // guarded by mu; turn of its record in the index; 0 = none
	told       int64          // guarded by mu; what the pager knows that the queue takes, in bytes
	savedPages int            // guarded by mu; pages of its block list in the index
	included   store.Position // guarded by mu; replay: older records are in what was loaded
}

// A fresh is the message that a send has just appended, or the first of them, while its bytes are still at hand: a waiting
// receiver gets a copy of them and need not read the log.
type fresh struct {
	seq         uint64
	at          int64 // EnqueuedAt
	body, attrs []byte
}

// freshSize bounds the content that is copied for a receiver while mu is held, in bytes.
const freshSize = 4 << 10

// message returns a copy of the message, if it is this one.
func (f *fresh) message(seq uint64, epoch uint32) *stored {
	if f.body == nil || f.seq != seq {
		return nil
	}
	return &stored{body: slices.Clone(f.body), attrs: slices.Clone(f.attrs), at: f.at, epoch: epoch}
}

type leased struct {
	b   *block
	off int
}

func newQueue(s *Spool, name string, st *state) *Queue {
	q := &Queue{spool: s, id: st.id, name: name, st: st, armed: never}
	st.portion = s.pager.portion()
	q.meta.Store(st.meta)
	q.moveAt.Store(never)
	q.rise()
	return q
}

// Name is the queue's name.
func (q *Queue) Name() string { return q.name }

// Meta is what the queue is set to, every default filled in.
func (q *Queue) Meta() Meta { return q.meta.Load().clone() }

// enter begins a call: it answers what comes before all arguments. leave must follow when it returns nil.
func (q *Queue) enter(ctx context.Context) error {
	if err := q.spool.enter(ctx); err != nil {
		return err
	}
	if q.dropped.Load() {
		q.spool.leave()
		return ErrQueueNotFound
	}
	return nil
}

// lock takes mu with everything taken into account that is due now, here and where dead letters come from, and with nothing
// active that somebody waits for. It returns the instant of the observation.
func (q *Queue) lock() (now int64, err error) {
	if feeders := q.feeders.Load(); feeders != nil {
		for _, f := range *feeders { // once each: what falls due there later is of a later instant than the call
			if f.due() {
				f.hold()
				f.unlock(f.settle())
			}
		}
	}
	for {
		q.hold()
		now = q.settle()
		if len(q.st.wanted) > 0 || q.waitersServed(now) {
			break
		}
		q.unlock(now)
		q.serve()
		if err := q.spool.broken(); err != nil {
			return 0, err
		}
	}
	if len(q.st.wanted) > 0 {
		q.unlock(now)
		return 0, q.spool.broken()
	}
	if q.dropped.Load() {
		q.unlock(now)
		return 0, ErrQueueNotFound
	}
	return now, nil
}

// admit takes room in the log for n bytes, and then mu as lock does. A call that holds room must not wait for a
// dead-letter move, which needs room itself: when one is due, the room is given back until it has been made. When admit
// returns an error, neither mu nor room is held.
func (q *Queue) admit(n int64, purse store.Purse) (now int64, err error) {
	c := q.spool.commit
	for {
		_ = q.spool.pager.gate.pass(context.Background())
		if err := c.AdmitFrom(n, purse); err != nil {
			q.spool.worker.add(q) // an earlier look may have wanted blocks: until they are here the queue tells the clock nothing
			return 0, q.spool.failure(err)
		}
		now, calm := q.lockCalm()
		if calm && !q.dropped.Load() {
			return now, nil
		}
		c.Forgo(n)
		if calm {
			q.unlock(now)
			return 0, ErrQueueNotFound
		}
		if now, err = q.lock(); err != nil {
			return 0, err
		}
		// What was read from the index is here as long as mu is held: with room at hand the caller goes on with it.
		if c.TryAdmit(n, purse) {
			return now, nil
		}
		q.unlock(now)
	}
}

// lockCalm takes mu as lock does, unless that needs a dead-letter move, a block that is away or room in the log: then it
// answers false and does not hold mu.
func (q *Queue) lockCalm() (now int64, calm bool) {
	q.hold()
	now = q.spool.now()
	for more := true; more && q.behind(now); {
		if len(q.st.wanted) == 0 {
			more = q.st.advance(now)
		}
		if q.inMotion() || len(q.st.wanted) > 0 {
			q.unlock(now)
			return 0, false
		}
		if more {
			q.yield(now)
		}
	}
	now = q.st.observe(now)
	feeders := q.feeders.Load()
	if q.unseen() || feeders != nil && slices.ContainsFunc(*feeders, (*Queue).due) || !q.waitersServed(now) {
		q.unlock(now)
		return 0, false
	}
	return now, true
}

// due tells whether dead letters of the queue may be due, or under way, that are not visible yet where they go. No lock is held.
func (q *Queue) due() bool { return q.moveAt.Load() <= q.spool.now() }

// settle takes everything into account that is due, and returns the instant by which it is; or the latest one that somebody else
// has looked at meanwhile, for it lets others have mu between steps: then everything that is due by then. Dead letters that were
// due when it began are visible where they go when it returns. For later ones nobody waits: where there is always another one
// under way, that would be for ever. Caller holds mu.
func (q *Queue) settle() (now int64) {
	now = q.spool.now()
	if q.behind(now) || q.unseen() {
		q.settleHere(now)
		q.settleMoves()
		now = q.spool.now() // that may have taken its time, and leases begin now
		q.settleHere(now)
		q.resume()
	}
	return q.st.observe(now)
}

// settleHere is settle in memory alone.
func (q *Queue) settleHere(now int64) {
	for q.behind(now) && q.step(now) {
	}
}

// settleMoves waits until the dead letters that have gone from the queue are visible where they go. Caller holds mu; it is
// released meanwhile.
func (q *Queue) settleMoves() {
	if !q.unseen() {
		return
	}
	s, last := q.spool, q.recorded
	q.mu.Unlock()
	// A failure is the spool's: it has stopped, and whoever observes is told so by its own commit.
	_ = s.commit.Wait(last, s.level)
	s.step.at(stepMoveDone)
	q.hold()
}

// resume has the worker wait for dead letters that nobody waits for: somebody must write them. Caller holds mu.
func (q *Queue) resume() {
	if q.unseen() && q.spool.broken() == nil {
		q.spool.worker.add(q)
	}
}

// step is one step of what is due, of bounded size, after which others may have had mu. It answers false when there is nothing
// more, or a block cannot be read. Caller holds mu.
func (q *Queue) step(now int64) bool {
	if len(q.st.wanted) > 0 && !q.pageIn(true) {
		return false
	}
	more := q.st.advance(now)
	switch {
	case len(q.st.moves) > 0:
		q.makeMoves()
	case q.inMotion():
		q.moved.Wait()
		q.rise()
	case more || len(q.st.wanted) > 0:
		q.yield(now)
	default:
		return false
	}
	return true
}

// makeMoves makes the dead-letter moves that are due. Caller holds mu; it is released meanwhile.
func (q *Queue) makeMoves() {
	moves := q.st.moves
	q.st.moves = nil
	q.movers++
	q.mu.Unlock()
	q.spool.moveAll(q, moves)
	q.hold()
	q.movers--
	q.moved.Broadcast()
}

// inMotion tells whether dead letters are on their way that the queue still has. Caller holds mu.
func (q *Queue) inMotion() bool { return q.movers > 0 || q.st.count[moving] > 0 }

// unseen tells whether dead letters have gone from the queue that are not visible yet where they go. Caller holds mu.
func (q *Queue) unseen() bool {
	if q.recorded > 0 && q.spool.commit.Reached(q.recorded, q.spool.level) {
		q.recorded = 0
	}
	return q.recorded > 0
}

// behind tells whether what is due at an instant, or at the latest that somebody has looked at, has yet to be taken into account:
// whether there is something to settle. Caller holds mu.
func (q *Queue) behind(now int64) bool {
	return q.st.wake() <= q.st.observe(now) || q.inMotion() || len(q.st.wanted) > 0
}

// yield lets others have mu. Caller holds mu.
func (q *Queue) yield(now int64) {
	q.unlock(now)
	runtime.Gosched()
	q.hold()
}

// unlock gives waiting receivers what has become active, tells the clock what comes next, and releases mu.
func (q *Queue) unlock(now int64) { q.release(now, false) }

// release is unlock. A caller that leads waits until what has been handed over, if anything was, is stable, and gets its
// position: its receivers are woken then. They would wait as well, and wake twice.
func (q *Queue) release(now int64, leads bool) (handed store.Position) {
	now = q.st.observe(now)
	if q.owed() {
		handed = q.dispatch(now, leads)
	}
	q.fresh.body = nil
	at := q.st.wake()
	busy := q.inMotion() || len(q.st.wanted) > 0
	switch alarm := max(at, now); { // what is late already is no earlier than what falls due elsewhere
	case alarm < q.armed && (at > now || !busy):
		q.armed = alarm
		q.spool.clock.set(q, alarm)
	case at <= now && len(q.st.wanted) > 0:
		q.spool.worker.add(q) // whoever reads the blocks may have come for something else
	}
	if q.target != nil {
		if busy || q.unseen() {
			at = min(at, now) // there may be more when the moves have been made, or the blocks read
		}
		q.moveAt.Store(at)
	}
	q.tell()
	q.mu.Unlock()
	return handed
}

// tick is the clock's call: something fell due that nobody has looked at. It makes one step; queues that fell due meanwhile come
// before the next one. It does no I/O: moves and reads are the worker's.
func (q *Queue) tick() {
	q.hold()
	q.armed = never
	now := q.spool.now()
	if q.st.wake() <= now {
		q.st.advance(now)
	}
	if len(q.st.moves)+len(q.st.wanted) > 0 {
		q.spool.worker.add(q)
	}
	q.unlock(now)
	q.spool.keeper.dirty() // space may have become free
}

// dispatch hands what is active to receivers that wait, oldest to first, in one step of bounded size. What is more it leaves to the
// worker, and all where the log has no room at hand. It returns the position of the last hand-over. Caller holds mu.
func (q *Queue) dispatch(now int64, leads bool) (handed store.Position) {
	c := q.spool.commit
	if len(q.st.wanted) > 0 || q.st.wake() <= now && q.st.advance(now) {
		q.spool.worker.add(q) // what is due comes first, and is more than one step
		return 0
	}
	for given := 0; q.owed(); {
		need := receiveNeed(q.waiters.first.max)
		if given >= stepSize || !q.st.summon(0, 1, 1) || !c.TryAdmit(need, store.Reserve) {
			q.spool.worker.add(q)
			return handed
		}
		c.Begin()
		pos, n := q.hand(now, leads)
		c.End(need)
		q.armNewest()
		if pos == 0 {
			return handed
		}
		given += n
		handed = pos
	}
	return handed
}

// owed tells whether somebody waits for what is active. Caller holds mu.
func (q *Queue) owed() bool { return q.waiters.n > 0 && q.st.count[active]+q.st.count[hidden] > 0 }

// waitersServed gives what is active to those who wait, since it is theirs before it is anybody's who comes now. It answers false
// when that needs a block that is away, or more room in the log than is at hand. Caller holds mu and has settled.
func (q *Queue) waitersServed(now int64) bool {
	if q.owed() {
		q.dispatch(now, false)
	}
	return !q.owed()
}

// hand gives the first waiter what is active, or active but for its send's level: a receiver waits for that level too. It
// returns the position of the RECEIVE and how many messages it is of, 0 if there was nothing to give. Caller holds mu and has begun a
// commit with room for it.
func (q *Queue) hand(now int64, leads bool) (pos store.Position, n int) {
	w := q.waiters.first
	visibility := w.visibility
	if visibility == 0 {
		visibility = q.st.meta.VisibilityTimeout
	}
	w.grants, w.more = q.take(w.grants[:0], w.max, now, after(now, int64(visibility)), true)
	if n = len(w.grants); n == 0 {
		return 0, 0
	}
	pos = q.recordReceive(now, w.grants)
	if last := &w.grants[len(w.grants)-1]; last.message != nil {
		q.spool.commit.Seen(q, last.seq)
	}
	w.pos = pos
	q.waiters.remove(w)
	if leads {
		q.spool.commit.Wake(w.ready, q.spool.level)
	} else {
		w.ready <- struct{}{} // it leads the write of its RECEIVE itself
	}
	return pos, n
}

// take leases the oldest active messages until due, and appends them to grants until these are max, or MaxBatchBytes, but
// always one. more tells that it has stopped at a block that is away. Caller holds mu, has summoned them, and calls
// armNewest before it releases it.
func (q *Queue) take(grants []grant, max int, now, due int64, hiddenToo bool) (_ []grant, more bool) {
	total := contents(grants)
	if n := min(max-len(grants), int(q.st.count[active])); n > 1 {
		grants = slices.Grow(grants, n)
	}
	for len(grants) < max {
		b, off := q.st.oldest()
		if b == nil && hiddenToo {
			b, off = q.st.oldestHidden()
		}
		if b == nil {
			break
		}
		if b.body == nil {
			return grants, true
		}
		pl := q.st.cursor.get(&b.places, off)
		if total += content(pl.size); total > MaxBatchBytes && len(grants) > 0 {
			break
		}
		nonce := q.spool.nonce()
		e := q.st.lease(b, off, now, due, nonce)
		q.newest = append(q.newest, leased{b, off})
		seq := b.first() + uint64(off)
		grants = append(grants, grant{seq, nonce, pl.pos, pl.size, due, e.first, e.receives, e.rewinds, q.fresh.message(seq, q.spool.epoch)})
	}
	return grants, false
}

// contents is what messages count for MaxBatchBytes.
func contents(grants []grant) (n int) {
	for i := range grants {
		n += content(grants[i].size)
	}
	return n
}

// content is what a message counts for MaxBatchBytes in a receive: the least that its body and attributes may be. How many of
// the bytes in its record are framing only the record tells, and what a SendBatch takes must come back at once.
func content(size int) int { return max(1, size-attributeFraming) }

// armNewest puts the ends of new leases on the wheel: after their receivers were woken. Caller holds mu.
func (q *Queue) armNewest() {
	for _, l := range q.newest {
		q.st.arm(l.b, l.b.entry(l.off))
	}
	q.newest = q.newest[:0]
}

// recordReceive records grants. Caller holds mu and has begun a commit.
func (q *Queue) recordReceive(now int64, grants []grant) store.Position {
	r := &q.receive
	r.queue, r.at, r.due, r.items = q.id, now, grants[0].due, r.items[:0]
	for _, g := range grants {
		r.items = append(r.items, received{g.seq, g.nonce, g.receives})
	}
	q.scratch = q.scratch[:0]
	r.encode(&q.scratch)
	return q.spool.commit.Add(recordReceive, q.scratch, 0)
}

// receiveNeed is what a receive of n messages may append.
func receiveNeed(n int) int64 { return int64(store.RecordSize(40+24*n, 0)) }
