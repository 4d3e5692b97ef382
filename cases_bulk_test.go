package spool_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

var casesSeed = flag.Uint64("spool.cases.seed", 0, "seed of the random cases; 0 takes the time")

// seededCases returns the generator of a random test and logs how to have it again.
func seededCases(t *testing.T) *rand.Rand {
	seed := *casesSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-spool.cases.seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// Random operations on thousands of messages at a time, so that blocks fill, empty and are cut in the middle by every
// frontier there is, compared with a model after each step.
func TestCase39Bulk(t *testing.T) {
	rng := seededCases(t)
	for range unraced(6, 2) {
		seed := rng.Uint64()
		inBubble(t, func(t *testing.T, s *caseSpool) {
			b := newBulk(s, rand.New(rand.NewPCG(seed, 2)))
			for step := range 120 {
				what := b.step()
				if b.compare(); t.Failed() {
					t.Fatalf("step %d of %d: %s", step, seed, what)
				}
			}
		})
	}
}

// A bulkMessage is what the model knows of one message.
type bulkMessage struct {
	id                string
	enqueued, due     time.Time
	base              time.Time // its age counts from here; zero before it could be received
	state             int
	receives, rewinds int
	receipt           string
}

const (
	bulkActive = iota
	bulkInactive
	bulkDelayed
	bulkRewindable
	bulkGone
)

type bulk struct {
	*caseQueue
	dead     *caseQueue
	rng      *rand.Rand
	meta     spool.Meta
	messages []*bulkMessage // in order; those that are gone are taken out
	held     []bulkHeld
	moved    int64
	sent     int64
	received int64
	deleted  int64
}

type bulkHeld struct {
	m *bulkMessage
	d *spool.Delivery
}

func newBulk(s *caseSpool, rng *rand.Rand) *bulk {
	b := &bulk{rng: rng, meta: spool.Meta{Retention: 60 * sec, Rewind: 40 * sec}}
	b.caseQueue, b.dead = deadPair(s, 3, 0, b.meta)
	b.meta.DeadLetter = &spool.DeadLetter{MaxReceives: 3}
	return b
}

// settle lets happen what is due.
func (b *bulk) settle() {
	now, kept := time.Now(), b.messages[:0]
	for _, m := range b.messages {
		b.happen(m, now)
		if m.state != bulkGone {
			kept = append(kept, m)
		}
	}
	clear(b.messages[len(kept):])
	b.messages = kept
}

// happen brings one message to its state at now; nothing that happens to it depends on another.
func (b *bulk) happen(m *bulkMessage, now time.Time) {
	over := func(t time.Time) bool { return !now.Before(t) }
	end := m.enqueued.Add(b.meta.Retention)
	if m.state == bulkRewindable && over(m.enqueued.Add(b.meta.Rewind)) {
		m.state = bulkGone
	}
	if m.state == bulkInactive && over(m.due) && m.due.Before(end) {
		m.state = bulkActive
		if m.receives >= 3 || b.aged(m, m.due) {
			m.state, b.moved = bulkGone, b.moved+1
		}
	}
	if m.state == bulkDelayed && m.base.IsZero() && over(m.due) {
		m.base = m.due
	}
	if (m.state == bulkActive || m.state == bulkDelayed) && b.aged(m, now) && b.aged(m, end.Add(-1)) {
		m.state, b.moved = bulkGone, b.moved+1
	}
	if m.state == bulkDelayed && over(m.due) {
		m.state = bulkActive
	}
	if m.state != bulkGone && over(end) {
		m.state = bulkGone
	}
}

// aged reports whether a message is over MaxAge at an instant.
func (b *bulk) aged(m *bulkMessage, at time.Time) bool {
	age := b.meta.DeadLetter.MaxAge
	return age > 0 && !m.base.IsZero() && !at.Before(m.base.Add(age))
}

func (b *bulk) count() (n [5]int64) {
	for _, m := range b.messages {
		n[m.state]++
	}
	return n
}

func (b *bulk) compare() {
	b.tb.Helper()
	b.settle()
	n := b.count()
	b.counts(n[bulkActive], n[bulkInactive], n[bulkDelayed], n[bulkRewindable])
	if a := b.attributes(); a.Sent != b.sent || a.Received != b.received || a.Deleted != b.deleted {
		b.tb.Errorf("Sent, Received, Deleted = %d, %d, %d, want %d, %d, %d", a.Sent, a.Received, a.Deleted, b.sent, b.received, b.deleted)
	}
	b.checkAttributes(b.attributes())
	b.dead.counts(b.moved, 0, 0, 0)
}

// step does one thing at random and says what.
func (b *bulk) step() string {
	b.tb.Helper()
	switch p := b.rng.IntN(100); {
	case p < 22:
		return b.sendSome(1 + b.rng.IntN(spool.MaxBatch))
	case p < 44:
		return b.receiveSome(1+b.rng.IntN(spool.MaxBatch), time.Duration(1+b.rng.IntN(20))*sec)
	case p < 60:
		return b.deleteSome()
	case p < 68:
		return b.releaseSome()
	case p < 82:
		d := time.Duration(b.rng.IntN(12)) * 500 * msec
		time.Sleep(d)
		return fmt.Sprint("sleep ", d)
	case p < 90:
		return b.rewindSome()
	case p < 97:
		return b.setSome()
	}
	for _, m := range b.messages {
		m.state = bulkGone
	}
	b.messages = nil
	if err := b.Purge(bg); err != nil {
		b.tb.Errorf("Purge = %v", err)
	}
	return "purge"
}

func (b *bulk) sendSome(n int) string {
	now, batch := time.Now(), make([]spool.Message, n)
	var sent []*bulkMessage
	delays := b.rng.IntN(3) == 0
	for i := range batch {
		m := &bulkMessage{enqueued: now, base: now}
		if batch[i].Body = []byte("m"); delays && b.rng.IntN(2) == 0 {
			batch[i].Delay = time.Duration(1+b.rng.IntN(15)) * sec
			m.state, m.due, m.base = bulkDelayed, now.Add(batch[i].Delay), time.Time{}
		}
		sent = append(sent, m)
	}
	ids, err := b.SendBatch(bg, batch)
	if err != nil {
		b.tb.Fatalf("SendBatch = %v", err)
	}
	for i, m := range sent {
		m.id = ids[i]
	}
	b.messages, b.sent = append(b.messages, sent...), b.sent+int64(n)
	return fmt.Sprintf("send %d, delays %v", n, delays)
}

func (b *bulk) receiveSome(n int, visibility time.Duration) string {
	b.settle()
	var want []*bulkMessage
	for _, m := range b.messages {
		if m.state == bulkActive && len(want) < n {
			want = append(want, m)
		}
	}
	ds, err := b.ReceiveBatch(bg, n, spool.Visibility(visibility))
	if len(ds) != len(want) || (err != nil) != (len(want) == 0) {
		b.tb.Fatalf("ReceiveBatch(%d) = %d messages, %v, want %d", n, len(ds), err, len(want))
	}
	for i, d := range ds {
		m := want[i]
		m.state, m.due, m.receipt = bulkInactive, time.Now().Add(visibility), d.Receipt
		m.receives++
		if d.ID != m.id || d.Receives != m.receives || d.Rewinds != m.rewinds || !d.EnqueuedAt.Equal(m.enqueued) || !d.VisibleAt.Equal(m.due) {
			b.tb.Fatalf("ReceiveBatch[%d] = %+v, want %+v", i, d, *m)
		}
		b.held = append(b.held, bulkHeld{m, d})
	}
	b.received += int64(len(ds))
	return fmt.Sprintf("receive %d of %d for %v", len(ds), n, visibility)
}

// good reports whether a receipt works now. settle has been called.
func (h bulkHeld) good() bool { return h.m.state == bulkInactive && h.m.receipt == h.d.Receipt }

// take takes some deliveries out of those that were ever received, old ones among them.
func (b *bulk) take() (some []bulkHeld) {
	b.settle()
	kept := b.held[:0]
	skip := b.rng.IntN(4)
	for i, h := range b.held {
		if len(some) < spool.MaxBatch && (skip == 0 || i%(skip+1) == 0) {
			some = append(some, h)
		} else {
			kept = append(kept, h)
		}
	}
	b.held = kept
	return some
}

func (b *bulk) deleteSome() string {
	some, good := b.take(), 0
	var receipts []string
	want := map[int]bool{} // indices that fail
	for i, h := range some {
		receipts = append(receipts, h.d.Receipt)
		if !h.good() {
			want[i] = true
			continue
		}
		good++
		if h.m.state = bulkRewindable; b.meta.Rewind == 0 {
			h.m.state = bulkGone
		}
	}
	if len(some) == 0 {
		return "delete nothing"
	}
	err := b.DeleteBatch(bg, receipts)
	var failed []spool.ItemError
	if e := (*spool.BatchError)(nil); errors.As(err, &e) {
		failed = e.Failed
	} else if err != nil {
		b.tb.Errorf("DeleteBatch = %v", err)
	}
	for _, f := range failed {
		if !want[f.Index] {
			b.tb.Fatalf("DeleteBatch: index %d failed: %v", f.Index, f.Err)
		}
	}
	if len(failed) != len(want) {
		b.tb.Errorf("DeleteBatch: %d failures, want %d", len(failed), len(want))
	}
	b.deleted += int64(good)
	return fmt.Sprintf("delete %d of %d", good, len(some))
}

func (b *bulk) releaseSome() string {
	n := 0
	for _, h := range b.take() {
		after, good := time.Duration(b.rng.IntN(3))*sec, h.good()
		err := h.d.Release(bg, after)
		if (err == nil) != good {
			b.tb.Fatalf("Release of %s = %v, want success %v", h.d.ID, err, good)
		}
		if !good {
			continue
		}
		n++
		switch h.m.state = bulkActive; {
		case h.m.receives >= 3 || b.aged(h.m, time.Now()):
			h.m.state, b.moved = bulkGone, b.moved+1
		case after > 0:
			h.m.state, h.m.due = bulkDelayed, time.Now().Add(after)
		}
	}
	return fmt.Sprintf("release %d", n)
}

func (b *bulk) rewindSome() string {
	b.settle()
	if b.meta.Rewind == 0 {
		return "no rewind"
	}
	to, n := time.Now().Add(-time.Duration(b.rng.Int64N(int64(b.meta.Rewind/msec)))*msec), int64(0)
	if len(b.messages) > 0 && b.rng.IntN(2) == 0 { // exactly where some message is
		if at := b.messages[b.rng.IntN(len(b.messages))].enqueued; !at.Before(time.Now().Add(-b.meta.Rewind)) {
			to = at.Add(time.Duration(b.rng.IntN(2)))
		}
	}
	to = minInstant(to, time.Now())
	for _, m := range b.messages {
		if m.state == bulkRewindable && !m.enqueued.Before(to) {
			n++
			m.state, m.receives, m.receipt, m.base = bulkActive, 0, "", time.Now()
			m.rewinds++
		}
	}
	b.rewind(to, n)
	return fmt.Sprintf("rewind %d", n)
}

func minInstant(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (b *bulk) setSome() string {
	b.settle()
	if b.meta.Retention = time.Duration(20+b.rng.IntN(60)) * sec; b.rng.IntN(2) == 0 {
		b.meta.Retention = 60 * sec
	}
	b.meta.Rewind = time.Duration(b.rng.Int64N(int64(b.meta.Retention/sec)+1)) * sec
	dead := &spool.DeadLetter{Queue: "dead", MaxReceives: 3}
	if b.rng.IntN(3) > 0 {
		dead.MaxAge = time.Duration(1+b.rng.IntN(int(b.meta.Retention/sec)-1)) * sec
	}
	b.meta.DeadLetter = dead
	b.set(func(m *spool.Meta) { m.Retention, m.Rewind, m.DeadLetter = b.meta.Retention, b.meta.Rewind, dead })
	for _, m := range b.messages {
		if !time.Now().Before(m.enqueued.Add(b.meta.Retention)) {
			m.state = bulkGone // at once, whatever its age
		}
	}
	b.settle()
	return fmt.Sprintf("retention %v, rewind %v, age %v", b.meta.Retention, b.meta.Rewind, dead.MaxAge)
}
