package history

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// A tally is how often something must be true of the messages of a queue, and how often it may.
type tally struct {
	kinds  [4]count // active, inactive, delayed, rewindable
	stored count    // active, inactive or delayed
	sent   count
	taken  count
	erased count
	n      count // brought back by a rewind
}

type count struct {
	least, most int64
	sure        []*track // some of them, for reading
	unsure      []*track
}

func (c *count) add(t *track, least, most int64) {
	c.least += least
	c.most += most
	switch {
	case least > 0 && len(c.sure) < 3:
		c.sure = append(c.sure, t)
	case least != most && len(c.unsure) < 3:
		c.unsure = append(c.unsure, t)
	}
}

// An ending is what a message counts for when nothing can happen to it any more.
type ending struct {
	stamp uint64
	t     *track
	totals
}

type totals struct{ sent, taken, erased [2]int64 }

// totals counts what has been done with the message in a queue.
func (r *run) totals(q QueueID) (n totals) {
	for i := range r.configs {
		s := &r.configs[i].s
		v := [3]int64{b2i(s.sent), int64(s.received), int64(s.deleted)}
		if q != r.t.queue {
			v = [3]int64{0, int64(s.deadReceived), int64(s.deadDeleted)}
		}
		for j, span := range []*[2]int64{&n.sent, &n.taken, &n.erased} {
			if i == 0 {
				*span = [2]int64{v[j], v[j]}
			}
			span[0], span[1] = min(span[0], v[j]), max(span[1], v[j])
		}
	}
	return n
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func (ta *tally) total(t *track, n totals) {
	ta.sent.add(t, n.sent[0], n.sent[1])
	ta.taken.add(t, n.taken[0], n.taken[1])
	ta.erased.add(t, n.erased[0], n.erased[1])
}

// tally adds the message to what a call at rest must have counted.
func (r *run) tally(o *Op) {
	ta := r.c.tallies[o]
	if ta == nil {
		return
	}
	var must, may [gone + 1]bool
	must[active], must[inactive], must[delayed], must[rewindable] = true, true, true, true
	stored, some, n := true, false, 0
	var buf [8]state
	for i := range r.configs {
		evolved := evolve(buf[:0], r.configs[i].s, o.begin-r.l.o.Slack, o.end+r.l.o.Slack, r.l.o.LateMoves)
		n += len(evolved)
		for j := range evolved {
			s := &evolved[j]
			k := s.kind
			if here := s.sent && (o.Queue == r.t.queue) != s.dead; !here {
				k = gone
			}
			for other := range must {
				must[other] = must[other] && k == kind(other)
			}
			may[k] = true
			held := k == active || k == inactive || k == delayed || k == moving
			stored, some = stored && held, some || held
		}
	}
	for i, k := range []kind{active, inactive, delayed, rewindable} {
		most := may[k] || may[moving] && (k == active || k == inactive)
		ta.kinds[i].add(r.t, b2i(must[k]), b2i(most))
	}
	ta.stored.add(r.t, b2i(stored && n > 0), b2i(some))
	ta.total(r.t, r.totals(o.Queue))
}

// restored adds the message to what a rewind at rest must have brought back. It has not been applied yet.
func (r *run) restored(o *Op) {
	ta := r.c.tallies[o]
	if ta == nil {
		return
	}
	must, may := true, false
	for _, cfg := range r.configs {
		var buf [8]state
		for _, s := range evolve(buf[:0], cfg.s, o.begin-r.l.o.Slack, o.end+r.l.o.Slack, r.l.o.LateMoves) {
			here := s.sent && (o.Queue == r.t.queue) != s.dead && s.kind == rewindable
			must = must && here && s.enqueued.lo >= o.To
			may = may || here && s.enqueued.hi >= o.To
		}
	}
	ta.n.add(r.t, b2i(must), b2i(may))
}

// end notes what is known of the message in the end.
func (r *run) end() {
	for _, q := range []QueueID{r.t.queue, r.t.target} {
		if q != None {
			r.c.ended[q] = append(r.c.ended[q], ending{r.ended, r.t, r.totals(q)})
		}
	}
	r.fates()
}

// A vain is how many messages a receive may have counted that it had no body of any more: a purge took them away before
// they were read.
type vain struct {
	ret uint64
	n   int64
}

// vains finds the receives with room left that overlapped a purge of their queue.
func (c *checker) vains() map[QueueID][]vain {
	purges, list := map[QueueID][]*Op{}, map[QueueID][]vain{}
	for _, o := range c.ops {
		if o.Verb == Purge && !o.without() {
			purges[o.Queue] = append(purges[o.Queue], o)
		}
	}
	for _, o := range c.ops {
		n := int64(o.Max - len(o.Got))
		if o.Verb == Receive && o.outcome == OK && n > 0 &&
			slices.ContainsFunc(purges[o.Queue], func(p *Op) bool { return p.call < o.ret && o.call < p.ret }) {
			list[o.Queue] = append(list[o.Queue], vain{o.ret, n})
		}
	}
	return list
}

// compareTallies compares what was counted at rest with what had to be.
func (c *checker) compareTallies() {
	vains := c.vains()
	for _, o := range c.ops {
		ta := c.tallies[o]
		if ta == nil {
			continue
		}
		if o.Verb == Rewind {
			c.verdict.RewindCounts++
			c.within(o, "restored", o.N, &ta.n)
			continue
		}
		c.verdict.AtRest++
		for _, e := range c.ended[o.Queue] {
			if e.stamp < o.ret {
				ta.total(e.t, e.totals)
			}
		}
		for _, v := range vains[o.Queue] {
			if v.ret < o.call {
				ta.taken.most += v.n
			}
		}
		n := o.Counts
		c.within(o, "Active", n.Active, &ta.kinds[0])
		c.within(o, "Inactive", n.Inactive, &ta.kinds[1])
		c.within(o, "Delayed", n.Delayed, &ta.kinds[2])
		c.within(o, "Rewindable", n.Rewindable, &ta.kinds[3])
		c.within(o, "Active + Inactive + Delayed", n.Active+n.Inactive+n.Delayed, &ta.stored)
		c.within(o, "Sent", n.Sent, &ta.sent)
		c.within(o, "Received", n.Received, &ta.taken)
		c.within(o, "Deleted", n.Deleted, &ta.erased)
	}
}

func (c *checker) within(o *Op, what string, got int64, want *count) {
	c.verdict.Numbers++
	if want.least == want.most {
		c.verdict.Exact++
	}
	if want.least <= got && got <= want.most {
		return
	}
	limit := fmt.Sprint(want.least)
	if want.least != want.most {
		limit = fmt.Sprintf("%d to %d", want.least, want.most)
	}
	text := c.l.line(o)
	for _, t := range append(want.sure, want.unsure...) {
		text += c.l.excerpt(t, o, nil)
	}
	c.violated(fmt.Sprintf("queue %s: %s = %d, want %s", c.l.queues[o.Queue].name, what, got, limit), text)
}

// A fate is whether a call with several effects had them, by messages of which that is known for certain.
type fate struct{ had, hadNot *track }

// fates reads the marks that all states of the message agree on.
func (r *run) fates() {
	if len(r.configs) == 0 || r.configs[0].s.marks == "" {
		return
	}
	first := r.configs[0].s.marks
	for i := 0; i < len(first); i += markSize {
		mark, sure := first[i:i+markSize], true
		for _, cfg := range r.configs[1:] {
			found := false
			for j := 0; j < len(cfg.s.marks); j += markSize {
				found = found || cfg.s.marks[j:j+markSize] == mark
			}
			sure = sure && found
		}
		if !sure {
			continue
		}
		op := int32(binary.LittleEndian.Uint32([]byte(mark)))
		f := r.c.fates[op]
		if f == nil {
			f = &fate{}
			r.c.fates[op] = f
		}
		if mark[4] == 1 {
			f.had = r.t
		} else {
			f.hadNot = r.t
		}
	}
}

// compareFates checks that calls are all or nothing, and that what a crash left is a prefix.
func (c *checker) compareFates() {
	undone, kept := map[*Op]*Op{}, map[*Op]*Op{} // by crash: the earliest undone, the latest kept
	var crash *Op
	for i := len(c.ops) - 1; i >= 0; i-- {
		o := c.ops[i]
		if o.Verb == Crash {
			crash = o
		}
		f := c.fates[o.index]
		if f == nil {
			continue
		}
		if f.had != nil && f.hadNot != nil && (o.Verb == Send || o.Verb == Rewind || o.Verb == Purge) {
			c.violated(fmt.Sprintf("a %v was torn: it was made on %q and not on %q", o.Verb, f.had.body, f.hadNot.body),
				c.l.excerpt(f.had, o, nil)+c.l.excerpt(f.hadNot, o, nil))
		}
		if o.outcome != OK {
			continue
		}
		if u := undone[crash]; f.hadNot != nil && (u == nil || o.ret < u.ret) {
			undone[crash] = o
		}
		if k := kept[crash]; f.had != nil && (k == nil || o.call > k.call) {
			kept[crash] = o
		}
	}
	for crash, u := range undone {
		if k := kept[crash]; k != nil && u.ret < k.call {
			c.violated("what the crash left is no prefix: the first of these is lost, the second is not",
				c.l.line(u)+c.l.line(k)+c.l.line(crash))
		}
	}
}
