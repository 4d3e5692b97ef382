package spool

import (
	"context"
	"fmt"
	"time"

	"github.com/spoolmq/spool/store"
)

// outgoing is a message that has been checked and whose bytes have been summed, outside all locks.
type outgoing struct {
	body  []byte
	attrs []byte
	sum   uint32
	asked time.Duration // Message.Delay
	delay int64         // ns; 0 = none
}

// Send stores one message and returns its ID. A nil error means that it is stored at the spool's durability and visible
// to Receive, or will be when its delay is over.
//
// Errors: ErrInvalidArgument for an empty body, a delay outside [1 ns, Retention), or attributes beyond their limits;
// ErrMessageTooLarge beyond Meta.MaxMessageSize; ErrQueueFull at Meta.MaxMessages; ErrNoSpace; ErrStoreFailed. With any
// but the last nothing is stored; with the last the outcome is unknown until the spool is opened again.
//
// ctx is looked at before the message is stored, never after. Send blocks for one commit: a write, and an fsync unless
// the spool is Written; and while most of the log is garbage that is being cleaned up.
func (q *Queue) Send(ctx context.Context, m Message) (id string, err error) {
	if err := q.enter(ctx); err != nil {
		return "", err
	}
	defer q.spool.leave()
	var out [1]outgoing
	if out[0], err = prepare(m); err != nil {
		return "", err
	}
	first := uint64(0)
	for done := false; !done && err == nil; {
		meta := q.meta.Load()
		if err = out[0].suit(meta); err == nil {
			first, done, err = q.send(ctx, meta, out[:])
		}
	}
	if err != nil {
		return "", err
	}
	return messageID(q.id, q.spool.epoch, first), nil
}

// SendBatch stores 1 to MaxBatch messages, all or none, also across a crash. IDs come in the order of the messages,
// whose sequence is consecutive. The errors are those of Send, and ErrBatchTooLarge when bodies and attributes are more
// than MaxBatchBytes together; whatever is wrong with one message refuses all.
func (q *Queue) SendBatch(ctx context.Context, ms []Message) (ids []string, err error) {
	if err := q.enter(ctx); err != nil {
		return nil, err
	}
	defer q.spool.leave()
	if len(ms) < 1 || len(ms) > MaxBatch {
		return nil, badArgument("messages", len(ms), fmt.Sprintf("1 to %d of them", MaxBatch))
	}
	out := make([]outgoing, len(ms))
	total := 0
	for i, m := range ms {
		if out[i], err = prepare(m); err != nil {
			return nil, inBatch(i, err)
		}
		total += len(m.Body) + attributeBytes(m.Attributes)
	}
	first := uint64(0)
	for done := false; !done && err == nil; {
		meta := q.meta.Load()
		for i := range out {
			if err := out[i].suit(meta); err != nil {
				return nil, inBatch(i, err)
			}
		}
		if total > MaxBatchBytes {
			return nil, fmt.Errorf("%w: %d bytes of bodies and attributes, limit %d", ErrBatchTooLarge, total, MaxBatchBytes)
		}
		first, done, err = q.send(ctx, meta, out)
	}
	if err != nil {
		return nil, err
	}
	return messageIDs(q.id, q.spool.epoch, first, len(ms)), nil
}

// inBatch tells which message of a batch an error is about.
func inBatch(i int, err error) error { return fmt.Errorf("message %d of the batch: %w", i, err) }

// prepare checks what no settings decide about a message.
func prepare(m Message) (outgoing, error) {
	if err := checkAttributes(m.Attributes); err != nil {
		return outgoing{}, err
	}
	out := outgoing{body: m.Body, asked: m.Delay}
	if len(m.Attributes) > 0 {
		encodeAttributes((*encoder)(&out.attrs), m.Attributes)
	}
	out.sum = store.BodySum(out.attrs, out.body)
	return out, nil
}

// suit checks a message against a queue's settings, and has the delay from them if it asks for none of its own.
func (out *outgoing) suit(meta *Meta) error {
	if len(out.body) == 0 {
		return badArgument("Message.Body", "empty", fmt.Sprintf("1 to %d bytes", meta.MaxMessageSize))
	}
	switch {
	case out.asked == 0:
		out.delay = int64(meta.Delay)
	case out.asked == NoDelay:
		out.delay = 0
	case out.asked < 0 || out.asked >= meta.Retention:
		return badArgument("Message.Delay", out.asked, fmt.Sprintf("NoDelay, or 1ns to less than Retention (%v)", meta.Retention))
	default:
		out.delay = int64(out.asked)
	}
	if len(out.body) > meta.MaxMessageSize {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrMessageTooLarge, len(out.body), meta.MaxMessageSize)
	}
	return nil
}

func checkAttributes(attrs map[string]string) error {
	if len(attrs) > maxAttributes {
		return badArgument("Message.Attributes", len(attrs), fmt.Sprintf("at most %d", maxAttributes))
	}
	if _, ok := attrs[""]; ok {
		return badArgument("Message.Attributes", "an empty key", "keys of at least 1 byte")
	}
	if n := attributeBytes(attrs); n > maxAttributeBytes {
		return badArgument("Message.Attributes", fmt.Sprintf("%d bytes", n), fmt.Sprintf("at most %d bytes of keys and values", maxAttributeBytes))
	}
	return nil
}

func attributeBytes(attrs map[string]string) (n int) {
	for k, v := range attrs {
		n += len(k) + len(v)
	}
	return n
}

// send stores messages that suit settings and returns the sequence of the first. It answers false, and has stored nothing,
// when the queue's settings are others by now.
//
//	step                                   dies here: after the next Open
//	1 wait for the cleaner if it is far    nothing was there
//	  behind; take room in the log
//	2 under mu: sequence, EnqueuedAt,      nothing was there
//	  SEND into the open frame, hidden
//	3 the frame is written                 there or not, all or none; nobody had an answer
//	4 the frame is synced (Fsync)          there
//	5 revealed, receivers woken, answer    there
func (q *Queue) send(ctx context.Context, meta *Meta, out []outgoing) (first uint64, done bool, err error) {
	if err := q.spool.pass(ctx); err != nil {
		return 0, false, err
	}
	c := q.spool.commit
	need := int64(0)
	for i := range out {
		need += sendNeed(&out[i])
	}
	now, err := q.admitSend(need, len(out))
	if err != nil {
		return 0, false, err
	}
	if err := q.room(len(out)); err != nil || q.meta.Load() != meta {
		q.unlock(now)
		c.Forgo(need)
		return 0, false, err
	}
	first = q.st.next
	at := max(now, q.st.lastAt)
	c.Begin()
	var pos store.Position
	for i := range out {
		pos = q.append(&out[i], at)
	}
	c.Hide(q, first, len(out))
	c.End(need)
	if m := &out[0]; q.waiters.n > 0 && len(m.body)+len(m.attrs) <= freshSize {
		q.fresh = fresh{first, at, m.body, m.attrs}
	}
	pos = max(pos, q.release(now, q.spool.level == store.AtSynced))
	return first, true, q.spool.failure(c.Wait(pos, q.spool.level))
}

// admitSend is admit for n messages. What fell due is left to those who look at it, unless it may make the room that they
// need, or moves messages here that come before them.
func (q *Queue) admitSend(need int64, n int) (now int64, err error) {
	c := q.spool.commit
	if q.feeders.Load() == nil {
		_ = q.spool.pager.gate.pass(context.Background())
		if err := c.AdmitFrom(need, store.Ordinary); err != nil {
			return 0, q.spool.failure(err)
		}
		q.hold()
		for here := true; here && !q.dropped.Load() && q.feeders.Load() == nil && q.room(n) == nil; here = q.pageIn(false) {
			if q.st.tail() {
				return q.st.observe(q.spool.now()), nil
			}
		}
		q.mu.Unlock()
		c.Forgo(need)
	}
	now, err = q.admit(need, store.Ordinary)
	for err == nil && !q.st.tail() {
		q.unlock(now)
		c.Forgo(need)
		now, err = q.admit(need, store.Ordinary)
	}
	return now, err
}

// pass waits while the log is clogged with garbage. Only sends wait: what consumers do makes the log cleaner.
func (s *Spool) pass(ctx context.Context) error {
	if s.gate.closed.Load() == nil {
		return nil
	}
	if err := s.gate.pass(ctx); err != nil {
		return err
	}
	return s.refusal()
}

// room tells whether n more messages may be stored. Caller holds mu.
func (q *Queue) room(n int) error {
	st := q.st
	have := st.count[active] + st.count[inactive] + st.count[delayed] + st.count[moving] + st.count[hidden] + st.count[pending]
	if have+int64(n) > st.meta.MaxMessages {
		return fmt.Errorf("%w: %d messages and %d more, limit %d", ErrQueueFull, have, n, st.meta.MaxMessages)
	}
	return nil
}

// append records one message and makes it a hidden part of the state. Caller holds mu and has begun a commit.
func (q *Queue) append(m *outgoing, at int64) store.Position {
	r := sendRecord{queue: q.id, seq: q.st.next, at: at, epoch: q.spool.epoch,
		generation: q.st.history.Generation(), delay: m.delay, attrs: len(m.attrs)}
	q.scratch = q.scratch[:0]
	r.encode(&q.scratch)
	pos := q.spool.commit.Add(recordSend, q.scratch, m.sum, m.attrs, m.body)
	q.st.add(place{pos, len(m.attrs) + len(m.body), at}, m.delay)
	return pos
}

// sendNeed is what a message may append.
func sendNeed(m *outgoing) int64 { return int64(store.RecordSize(64, len(m.attrs)+len(m.body))) }

// reveal is the committer's call: sends have reached their level.
func (s *Spool) reveal(hs []store.Hidden) {
	for len(hs) > 0 {
		q, n := hs[0].Owner.(*Queue), 1
		for n < len(hs) && hs[n].Owner == hs[0].Owner {
			n++
		}
		q.hold()
		now := s.now()
		for _, h := range hs[:n] {
			q.st.reveal(h.First, h.N)
		}
		q.unlock(now)
		hs = hs[n:]
	}
}
