package spool

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool/rewind"
)

// check verifies every invariant that the comments of block.go and state.go state, and tells which do not hold. It changes
// nothing: blocks that are behind the history stay so.
func check(q *Queue) (errs []string) {
	q.hold()
	defer q.mu.Unlock()
	c := &checker{name: q.name, q: q, st: q.st, now: q.spool.now()}
	c.state()
	if q.meta.Load().Retention != q.st.meta.Retention || q.meta.Load().Rewind != q.st.meta.Rewind {
		c.errorf("settings in q.meta differ from those in the state")
	}
	if len(q.newest) != 0 {
		c.errorf("%d leases are not on the wheel", len(q.newest))
	}
	return c.errs
}

// checkSpool checks every queue of a spool.
func checkSpool(s *Spool) (errs []string) {
	for _, q := range s.snapshotQueues() {
		errs = append(errs, check(q)...)
	}
	return errs
}

// checkAll fails the test where an invariant does not hold.
func checkAll(t testing.TB, s *Spool) {
	t.Helper()
	if errs := checkSpool(s); len(errs) > 0 {
		t.Fatal(strings.Join(errs, "\n"))
	}
}

// A checker looks at one state.
type checker struct {
	name   string
	q      *Queue
	st     *state
	now    int64
	errs   []string
	timers int
	blocks int
}

func (c *checker) errorf(format string, args ...any) {
	if len(c.errs) < 3 {
		c.errs = append(c.errs, "queue "+c.name+": "+fmt.Sprintf(format, args...))
	}
}

// whole returns a block as it is when its body is in memory, without bringing it there.
func whole(q *Queue, b *block) (*block, error) {
	if b.body != nil {
		return b, nil
	}
	in, err := q.spool.keeper.shelf.fetch(q.id, b.number, b.saved)
	if err != nil {
		return nil, err
	}
	c := *b
	c.body, c.generation = in, b.saved.generation
	in.places.low = b.away.low
	return &c, nil
}

// residents checks the list of blocks in memory, and what they are said to take.
func (c *checker) residents() {
	st, here := c.st, map[*block]bool{}
	bytes, away := int64(0), 0
	st.each(func(*summary) bool { return false }, func(b *block) bool {
		if b.body == nil {
			away++
			return true
		}
		here[b] = true
		bytes += int64(b.weight)
		return true
	})
	if bytes != st.bytes || away != st.out || len(here) != st.inside {
		c.errorf("%d bytes in memory in %d blocks, and %d away, said to be %d, %d and %d", bytes, len(here), away, st.bytes, st.inside, st.out)
	}
	for b := st.hand; b != nil; {
		if !here[b] {
			c.errorf("block %d is listed as in memory, twice or wrongly", b.number)
			return
		}
		delete(here, b)
		if b.behind.before != b {
			c.errorf("block %d: the one behind it does not know it", b.number)
		}
		if b = b.behind; b == st.hand {
			break
		}
	}
	if len(here) > 0 {
		c.errorf("%d blocks in memory are not listed", len(here))
	}
}

// away checks what is known of a block whose body is not in memory against the body.
func (c *checker) away(b, w *block) {
	if want := w.stub(); b.away.first != want.first || b.away.last != want.last || b.away.bytes != want.bytes || b.away.held != want.held {
		c.errorf("block %d: away %+v, want %+v", b.number, b.away, want)
	}
	due := int64(never)
	for i := range w.entries {
		if e := &w.entries[i]; e.kind == inactive || e.kind == delayed {
			due = min(due, e.due)
		}
	}
	if b.away.due != due {
		c.errorf("block %d: something is due at %d, said to be at %d", b.number, due, b.away.due)
	}
	if armed := b.away.timer != 0; armed != (due != never) && !b.wanted {
		c.errorf("block %d: timer %d, due %d", b.number, b.away.timer, due)
	} else if armed {
		c.timers++
		if at := c.st.wheel.At(b.away.timer); at != due {
			c.errorf("block %d: timer at %d, due %d", b.number, at, due)
		}
	}
	if b.unsettled() {
		c.errorf("block %d is away, with counts %v", b.number, b.count)
	}
}

func (c *checker) state() {
	st := c.st
	c.residents()
	if len(st.dir) > 0 && st.dir[0] == nil {
		c.errorf("dir begins with nothing")
	}
	var sum [kinds]int64
	var pendingLetters int64
	for i, s := range st.dir {
		if s == nil {
			continue
		}
		if s.number != st.base+uint64(i) {
			c.errorf("summary %d stands at %d + %d", s.number, st.base, i)
		}
		pendingLetters += c.summary(s)
		for k := active; k < kinds; k++ {
			sum[k] += int64(s.count[k])
		}
	}
	if sum != st.count {
		c.errorf("count = %v, the summaries say %v", st.count, sum)
	}
	if pendingLetters != st.arriving {
		c.errorf("arriving = %d, %d entries are", st.arriving, pendingLetters)
	}
	if n := st.wheel.Len(); n != c.timers {
		c.errorf("%d timers on the wheel, %d messages have one", n, c.timers)
	}
	if n := st.index.Len(); n != c.blocks {
		c.errorf("%d blocks in the rewind index, %d have messages", n, c.blocks)
	}
}

func (c *checker) summary(s *summary) (letters int64) {
	var sum [kinds]int32
	for j, b := range s.blocks {
		has := s.active.has(j)
		if b == nil {
			if has {
				c.errorf("summary %d says that block %d, which is not there, has active messages", s.number, j)
			}
			continue
		}
		if b.number != s.number<<summaryBits+uint64(j) || b.owner != s {
			c.errorf("block %d stands at %d of summary %d", b.number, j, s.number)
		}
		if has != (b.count[active] > 0) {
			c.errorf("summary %d, block %d: active = %t, it has %d", s.number, j, has, b.count[active])
		}
		letters += c.block(b)
		for k := active; k < kinds; k++ {
			sum[k] += b.count[k]
		}
	}
	if sum != s.count {
		c.errorf("summary %d: count = %v, the blocks say %v", s.number, s.count, sum)
	}
	return letters
}

// settled returns a copy of a block's bits and entries that is up to date with the history. The rule stands here a second
// time, message by message.
func settled(st *state, b *block) (c block) {
	c = *b
	in := *b.body
	c.body = &in
	c.entries = append([]entry(nil), b.entries...)
	defer func() {
		if b.count[rewindable] == 0 { // what is left has faded
			(&state{}).fade(&c)
		}
	}()
	if len(st.history.Since(b.generation, math.MaxUint64)) == 0 {
		return c
	}
	list := placesOf(b)
	for i := range c.entries {
		e := &c.entries[i]
		if e.kind != rewindable {
			continue
		}
		off := int(e.off)
		for _, ev := range st.history.Events() {
			at := list[off].at
			if ev.Generation <= b.generation {
				continue
			}
			if ev.Drop && at <= ev.Instant {
				c.deleted.clear(off)
				*e = entry{off: e.off}
				break
			}
			if !ev.Drop && at >= ev.Instant {
				c.deleted.clear(off)
				c.active.set(off)
				*e = entry{off: e.off, kind: active, rewinds: e.rewinds + 1, base: ev.At, nonce: e.nonce + 1}
				break
			}
		}
	}
	return c
}

// placesOf decodes all places of a block from the first anchor on.
func placesOf(b *block) []place {
	list := make([]place, b.places.n)
	var cur cursor
	for off := range list {
		list[off] = cur.get(&b.places, off)
	}
	return list
}

func (c *checker) block(b *block) (letters int64) {
	st := c.st
	stub := b
	b, err := whole(c.q, stub)
	if err != nil {
		c.errorf("block %d: %v", stub.number, err)
		return 0
	}
	if stub.body == nil {
		c.away(stub, b)
	}
	at := func(format string, args ...any) {
		c.errorf("block %d: %s", b.number, fmt.Sprintf(format, args...))
	}
	n := b.places.n
	if b.total() == 0 && b.number != st.next>>blockBits {
		at("empty, and still here; next is %d", st.next)
	}
	if n == 0 {
		if b.total() != 0 {
			at("%d messages without a place", b.total())
		}
		return 0
	}
	c.blocks++
	c.places(b)
	if b.generation > st.history.Generation() {
		at("generation %d, the queue's is %d", b.generation, st.history.Generation())
	}
	if oldest := st.history.Generation() - uint64(st.history.Len()); b.generation < oldest && b.deleted != (bitmap{}) {
		at("deletions of generation %d, the history begins behind %d", b.generation, oldest)
	}
	if off := max(b.active.next(n), b.deleted.next(n), b.hidden.next(n)); off >= 0 {
		at("a bit at %d of %d messages", off, n)
	}
	if st.veiled > b.first() {
		if off := b.hidden.next(0); off >= 0 && b.first()+uint64(off) < st.veiled {
			at("message %d is hidden below veiled %d", off, st.veiled)
		}
	}
	letters = c.entries(b)
	c.messages(b)
	return letters
}

func (c *checker) places(b *block) {
	st := c.st
	list := placesOf(b)
	var bytes int64
	var before place // of the message before
	for off, p := range list {
		if p.size == 0 {
			continue
		}
		bytes += int64(p.size)
		if before.size > 0 && (p.at < before.at || p.pos <= before.pos && b.places.moves == 0) {
			c.errorf("block %d: place %d is %v behind %v", b.number, off, p, before)
		}
		if b.kind(off) != gone && p.pos < b.places.low {
			c.errorf("block %d: place %d is %v, the lowest is said to be %d", b.number, off, p, b.places.low)
		}
		before = p
	}
	if last := list[len(list)-1]; bytes != b.places.bytes || b.places.last.at != last.at || b.places.last != last && b.places.moves == 0 {
		c.errorf("block %d: places hold %d bytes and end with %v, they say %d and %v", b.number, bytes, list[len(list)-1], b.places.bytes, b.places.last)
	}
	var cur cursor // from the back, so that every look-up begins at an anchor
	for off := len(list) - 1; off >= 0; off -= 7 {
		if got := cur.get(&b.places, off); got != list[off] {
			c.errorf("block %d: place %d = %v, want %v", b.number, off, got, list[off])
		}
	}
	if b.first()+uint64(b.places.n) > st.next || b.places.last.at > st.lastAt {
		c.errorf("block %d: %d messages up to %d, the queue's next is %d, its last instant %d", b.number, b.places.n, b.places.last.at, st.next, st.lastAt)
	}
	first, _ := b.places.span()
	switch r := b.rewind; {
	case r == nil:
		c.errorf("block %d: not in the rewind index", b.number)
	case r.Number != b.number || r.First != first:
		c.errorf("block %d: rewind index has block %d from %d, want from %d", b.number, r.Number, r.First, first)
	case r.Deleted != int(b.count[rewindable]):
		c.errorf("block %d: rewind index says %d deleted, want %d", b.number, r.Deleted, b.count[rewindable])
	default:
		found := false
		st.index.Ascend(r, func(x *rewind.Block) bool { found = x == r; return false })
		if !found {
			c.errorf("block %d: its rewind block is not in the index", b.number)
		}
	}
}

// entries checks a block's entries as they stand.
func (c *checker) entries(b *block) (letters int64) {
	dead, last := int32(0), -1
	for i := range b.entries {
		e := &b.entries[i]
		off := int(e.off)
		at := func(format string, args ...any) {
			c.errorf("block %d, message %d, kind %d: %s", b.number, off, e.kind, fmt.Sprintf(format, args...))
		}
		if off <= last || off >= b.places.n {
			at("entry behind that of %d, of %d messages", last, b.places.n)
		}
		last = off
		bits := [...]bool{b.active.has(off), b.deleted.has(off), b.hidden.has(off)}
		want := [...]bool{e.kind == active, e.kind == rewindable, false}
		switch e.kind {
		case gone:
			dead++
			continue // the bits are those of a message without an entry
		case active, rewindable, inactive, delayed, pending, moving:
		default:
			at("no such entry")
		}
		if bits != want {
			at("bits active, deleted, hidden = %v", bits)
		}
		if armed := (e.kind == inactive || e.kind == delayed) && b.before != nil; armed != (e.timer != 0) {
			at("timer %d", e.timer)
		} else if armed {
			c.timers++
			if due := c.st.wheel.At(e.timer); due != e.due {
				at("timer at %d, due %d", due, e.due)
			}
		}
		if e.kind == pending && e.due == 0 {
			letters++
		}
		if (e.kind == active || e.kind == rewindable) && e.due != 0 {
			at("due %d", e.due)
		}
		if e.kind == inactive && e.nonce != 0 && e.nonce&voided == 0 && e.first == 0 { // voided or without a nonce it waits for a dead-letter move
			at("leased with nonce %d and without a first receive", e.nonce)
		}
	}
	if dead != b.dead {
		c.errorf("block %d: dead = %d, %d entries are", b.number, b.dead, dead)
	}
	for off := b.deleted.next(0); off >= 0; off = b.deleted.next(off + 1) {
		if b.entry(off) == nil {
			c.errorf("block %d, message %d: rewindable without an entry: no rewind would find it", b.number, off)
		}
	}
	return letters
}

// messages checks counts and the bounds of what falls due, on the block as it is when it is brought up to date.
func (c *checker) messages(b *block) {
	st := c.st
	now := settled(st, b)
	list := placesOf(b)
	var count [kinds]int32
	for off := range b.places.n {
		if k := now.kind(off); k != gone {
			count[k]++
		}
	}
	if count != b.count {
		c.errorf("block %d: count = %v, its messages are %v", b.number, b.count, count)
	}
	for off := range b.places.n {
		k, e := now.kind(off), now.entry(off)
		if n := boolInt(now.active.has(off)) + boolInt(now.deleted.has(off)) + boolInt(now.hidden.has(off)); n > 1 {
			c.errorf("block %d, message %d: %d bits", b.number, off, n)
		}
		if k == gone {
			continue
		}
		at := list[off].at
		seq := b.first() + uint64(off)
		if seq < st.floors.purged {
			c.errorf("message %d is here, below %d all is purged", seq, st.floors.purged)
		}
		c.bounds(b, seq, k, e, at)
	}
}

// bounds checks that expireAt, fadeAt and ageAt are early enough for a message. What has passed is looked at by the next
// advance, so it is early enough.
func (c *checker) bounds(b *block, seq uint64, k kind, e *entry, at int64) {
	st := c.st
	late := func(bound, due int64) bool { return bound > max(due, c.now) }
	ends := after(at, int64(st.meta.Retention))
	if at <= st.floors.expired {
		ends = c.now
	}
	if (k == active || k == inactive || k == delayed) && late(st.expireAt, ends) {
		c.errorf("message %d of kind %d, sent at %d, ends at %d, expireAt = %d", seq, k, at, ends, st.expireAt)
	}
	if fades := after(at, int64(st.meta.Rewind)); k == rewindable && late(st.fadeAt, fades) {
		c.errorf("message %d fades at %d, fadeAt = %d", seq, fades, st.fadeAt)
	}
	if k != active && k != delayed {
		return
	}
	base := at
	if e != nil && e.base != 0 {
		base = e.base
	}
	dl := st.meta.DeadLetter
	if at <= st.floors.expired || dl != nil && dl.MaxAge > 0 && ends <= after(base, int64(dl.MaxAge)) {
		return // its life ends before its age does, or ended under earlier settings
	}
	if b.ageMin > base {
		c.errorf("message %d has the age base %d, ageMin of its block is %d", seq, base, b.ageMin)
	}
	if dl != nil && dl.MaxAge > 0 && late(st.ageAt, after(base, int64(dl.MaxAge))) {
		c.errorf("message %d moves at %d, ageAt = %d", seq, after(base, int64(dl.MaxAge)), st.ageAt)
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestDropBehindFreeEntries: a drop ends the only deletion of a block whose other entries are free already.
func TestDropBehindFreeEntries(t *testing.T) {
	s, q := innerSpool(t, Meta{})
	ctx := t.Context()
	sendN(t, q, 3)
	got, err := q.ReceiveBatch(ctx, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []func() error{
		func() error { return got[1].Delete(ctx) },
		func() error { return q.SetMeta(ctx, func(m *Meta) { m.Rewind = time.Hour }) },
		func() error { return got[0].Delete(ctx) },
		func() error { return q.SetMeta(ctx, func(m *Meta) { m.Rewind = 0 }) },
		func() error { _, err := q.Receive(ctx); return err },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
		checkAll(t, s)
	}
}

// TestAgeOfArrivals: dead letters that have arrived have an age as well, should their queue get a rule of its own.
func TestAgeOfArrivals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, q := innerSpool(t, Meta{})
		ctx := t.Context()
		if _, err := s.CreateQueue(ctx, "dead", Meta{}); err != nil {
			t.Fatal(err)
		}
		dead, err := s.Queue("dead")
		if err != nil {
			t.Fatal(err)
		}
		last, err := s.CreateQueue(ctx, "last", Meta{})
		if err != nil {
			t.Fatal(err)
		}
		if err := q.SetMeta(ctx, func(m *Meta) { m.DeadLetter = &DeadLetter{Queue: "dead", MaxReceives: 1} }); err != nil {
			t.Fatal(err)
		}
		sendN(t, q, 1)
		got, err := q.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := got.Release(ctx, 0); err != nil {
			t.Fatal(err)
		}
		checkAll(t, s)
		if err := q.SetMeta(ctx, func(m *Meta) { m.DeadLetter = nil }); err != nil {
			t.Fatal(err)
		}
		if err := dead.SetMeta(ctx, func(m *Meta) { m.DeadLetter = &DeadLetter{Queue: "last", MaxAge: time.Minute} }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		checkAll(t, s)
		if a, err := last.Attributes(ctx); err != nil || a.Active != 1 {
			t.Fatalf("Active = %d, %v, want 1", a.Active, err)
		}
	})
}

// TestRewoundLifeEnds: a message that comes back when nothing else lives still ends in time.
func TestRewoundLifeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, q := innerSpool(t, Meta{Retention: 2 * time.Hour, Rewind: time.Hour})
		ctx := t.Context()
		sendN(t, q, 1)
		got, err := q.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []func() error{
			func() error { return got.Delete(ctx) },
			func() error { return q.SetMeta(ctx, func(m *Meta) { m.VisibilityTimeout = time.Minute }) },
			func() error { _, err := q.Attributes(ctx); return err },
			func() error { time.Sleep(10 * time.Minute); return nil }, // its life runs from the send, not from the rewind
			func() error { _, err := q.Rewind(ctx, got.EnqueuedAt); return err },
		} {
			if err := f(); err != nil {
				t.Fatal(err)
			}
			checkAll(t, s)
		}
		time.Sleep(2*time.Hour - 10*time.Minute)
		if a, err := q.Attributes(ctx); err != nil || a.Active != 0 {
			t.Errorf("Active = %d, %v after Retention, want 0", a.Active, err)
		}
	})
}

// innerSpool is a spool in memory with one queue.
func innerSpool(t testing.TB, m Meta) (*Spool, *Queue) {
	t.Helper()
	s, err := OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	q, err := s.CreateQueue(context.Background(), "q", m)
	if err != nil {
		t.Fatal(err)
	}
	return s, q
}

func sendN(t testing.TB, q *Queue, n int) {
	t.Helper()
	for range n {
		if _, err := q.Send(context.Background(), Message{Body: []byte("message")}); err != nil {
			t.Fatal(err)
		}
	}
}
