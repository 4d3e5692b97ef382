package history

import (
	"fmt"
	"slices"
)

// A config is one state that the message may be in, and which of the calls under way have had their effect in it.
type config struct {
	s    state
	done uint64 // by slot
}

// A run follows one message through the history.
type run struct {
	c        *checker
	l        *Log
	t        *track
	configs  []config // its own: their memory is written over
	pending  []event  // calls under way, by slot; op nil: free
	under    int      // slots in use
	settings bool     // it follows a queue's settings, not a message
	quiet    func(stamp uint64)
	wrong    bool
	ended    uint64
}

func (c *checker) newRun(t *track, configs []config) *run {
	return &run{c: c, l: c.l, t: t, configs: configs}
}

// over makes everything happen that begins or returns after a stamp.
func (r *run) over(from uint64, own []event) {
	queue := r.after(r.t.queue, from)
	var target []event
	if r.t.target != None {
		target = r.after(r.t.target, from)
	}
	var justNow *Op // a call that named the message
	for !r.wrong {
		e, ok := earliest(&own, &queue, &target)
		if !ok {
			return
		}
		r.ended = e.stamp
		switch {
		case e.op.Verb == Crash:
			if len(target) > 0 && target[0].op == e.op {
				target = target[1:] // it is in both lists
			}
			r.crash(e.op)
		case !e.ret:
			r.begin(e)
		case e.item < 0 && (e.op.Verb == Receive || e.op.Verb == Peek || e.op.Verb == Look):
			if e.op != justNow && !r.settings {
				r.unnamed(e.op)
			}
		default:
			r.returned(e)
			justNow = e.op
		}
		if r.under == 0 && r.quiet != nil {
			r.quiet(e.stamp)
		}
		if len(own) == 0 && r.under == 0 && !r.settings && r.finished(e.op) {
			return
		}
	}
}

// after are the calls of a queue from a stamp on.
func (r *run) after(q QueueID, from uint64) []event {
	list := r.c.levels[q]
	i, _ := slices.BinarySearchFunc(list, from+1, func(e event, at uint64) int {
		switch {
		case e.stamp < at:
			return -1
		case e.stamp > at:
			return 1
		}
		return 0
	})
	return list[i:]
}

// earliest takes the first event of three lists; the first list wins a tie.
func earliest(lists ...*[]event) (first event, ok bool) {
	var from *[]event
	for _, list := range lists {
		if len(*list) > 0 && (from == nil || (*list)[0].stamp < (*from)[0].stamp) {
			from = list
		}
	}
	if from == nil {
		return first, false
	}
	first = (*from)[0]
	*from = (*from)[1:]
	return first, true
}

// finished tells whether nothing can happen to the message any more.
func (r *run) finished(o *Op) bool {
	for i := range r.configs {
		s := &r.configs[i].s
		if s.kind != gone && s.kind != absent {
			return false
		}
		if r.l.settled(s, max(o.begin, o.end)); s.undo != nil {
			return false
		}
	}
	return true
}

// settled forgets what no power loss can undo any more.
func (l *Log) settled(s *state, now int64) {
	if u := s.undo; u != nil && u.op.outcome == OK && u.op.end < now-l.o.Lag {
		s.undo = nil
	}
}

// begin notes a call that may have its effect from now on.
func (r *run) begin(e event) {
	slot := slices.IndexFunc(r.pending, func(p event) bool { return p.op == nil })
	if slot < 0 {
		if len(r.pending) == 64 {
			r.fail(e.op, "more than 64 calls at once on one message")
			return
		}
		r.pending = append(r.pending, event{})
		slot = len(r.pending) - 1
	}
	r.pending[slot] = e
	r.under++
}

// reach is the instants at which a call may have its effect, seen from the instant now.
func (r *run) reach(o *Op, now int64) reach {
	hi := now
	if o.outcome == OK || o.outcome == Refused {
		hi = min(hi, o.end)
	}
	lo := o.begin
	return reach{lo: lo - r.l.o.Slack, hi: max(lo, hi) + r.l.o.Slack, slack: r.l.o.Slack, late: r.l.o.LateMoves,
		fsync: r.l.o.Fsync, leaseLevels: r.l.o.DurableReceives}
}

// returned keeps what agrees with the return of a call: its effect has been made by now.
func (r *run) returned(e event) {
	slot := slices.IndexFunc(r.pending, func(p event) bool { return p.op == e.op && p.item == e.item })
	if slot < 0 {
		return // it began before the message's time
	}
	if e.op.Verb == Rewind && !r.settings {
		r.restored(e.op)
	}
	before, now := r.configs, e.op.end
	bit := uint64(1) << slot
	kept := r.c.spare[:0]
	todo := append(r.c.todo[:0], r.configs...)
	why := ""
	var buf [8]state
	for i := 0; i < len(todo); i++ {
		cfg := todo[i]
		if cfg.done&bit != 0 {
			kept = add(kept, &cfg.s, cfg.done&^bit)
			continue
		}
		next, reason := r.l.apply(buf[:0], cfg.s, r.t, e.op, e.item, r.reach(e.op, now))
		if reason != "" {
			why = reason
		}
		for j := range next {
			kept = add(kept, &next[j], cfg.done)
		}
		for p, other := range r.pending {
			if p == slot || other.op == nil || cfg.done&(1<<p) != 0 {
				continue
			}
			next, _ := r.l.apply(buf[:0], cfg.s, r.t, other.op, other.item, r.reach(other.op, now))
			for j := range next {
				todo = add(todo, &next[j], cfg.done|1<<p)
			}
		}
		if len(todo) > mostConfigs {
			r.fail(e.op, "too many states to follow")
			return
		}
	}
	r.pending[slot] = event{}
	r.under--
	r.configs, r.c.spare, r.c.todo = kept, before, todo
	for i := range r.configs {
		r.l.settled(&r.configs[i].s, now)
	}
	if len(kept) == 0 {
		r.configs, r.c.spare = before, kept
		r.fail(e.op, why)
	}
}

// add adds a config unless it is there, or one that differs in nothing but the bound of time and what it is known by.
func add(list []config, s *state, done uint64) []config {
	for i := range list {
		if have := &list[i]; have.done == done && alike(&have.s, s) && same(&have.s, s) {
			have.s.at = min(have.s.at, s.at)
			have.s.marks = common(have.s.marks, s.marks)
			return list
		}
	}
	return append(list, config{*s, done})
}

// crash settles the calls under way: each had its effect, or not. After a power loss what was not durable may be undone,
// newest first.
func (r *run) crash(o *Op) {
	todo := slices.Clone(r.configs)
	for i := 0; i < len(todo) && r.under > 0; i++ {
		for p, other := range r.pending {
			if other.op == nil || todo[i].done&(1<<p) != 0 {
				continue
			}
			var buf [8]state
			next, _ := r.l.apply(buf[:0], todo[i].s, r.t, other.op, other.item, r.reach(other.op, o.begin))
			for j := range next {
				todo = add(todo, &next[j], todo[i].done|1<<p)
			}
		}
		if len(todo) > mostConfigs {
			r.fail(o, "too many states to follow")
			return
		}
	}
	var kept []config
	for _, cfg := range todo {
		chain := r.undone(cfg.s, o)
		for n := range len(chain) + 1 {
			s := cfg.s
			if n > 0 {
				s = chain[n-1].before
			}
			for p, other := range r.pending {
				if other.op != nil && cfg.done&(1<<p) == 0 {
					r.without(&s, other)
				}
			}
			for k := len(chain) - 1; k >= 0; k-- {
				if chain[k].op.Verb != Peek {
					s.mark(chain[k].op, k >= n)
				}
			}
			s.undo = nil
			if s.dead && s.id == "" || s.kind == moving {
				s.enqueued.hi = max(s.enqueued.hi, s.enqueued.lo)
				if s.dead {
					s.enqueued.hi = never
				}
			}
			kept = add(kept, &s, 0)
		}
	}
	r.configs = kept
	clear(r.pending)
	r.under = 0
}

// undone are the changes that the crash may have undone, newest first.
func (r *run) undone(s state, o *Op) (chain []*undo) {
	if !o.Power {
		return nil
	}
	for u := s.undo; u != nil; u = u.before.undo {
		if u.op.outcome == OK && (u.op.ret < o.frontier.stamp || u.op.end < o.frontier.time) {
			break
		}
		chain = append(chain, u)
	}
	return chain
}

// without notes that a call with several effects did not have its own on this message.
func (r *run) without(s *state, e event) {
	here := s.sent && (e.op.Queue == r.t.queue) != s.dead
	switch e.op.Verb {
	case Send:
		if len(e.op.Sent) > 1 {
			s.mark(e.op, false)
		}
	case Rewind:
		if here && s.kind == rewindable && s.enqueued.lo >= e.op.To {
			s.mark(e.op, false)
		}
	case Purge:
		if here && s.kind != gone && s.kind != moving {
			s.mark(e.op, false)
		}
	}
}

// unnamed is the return of a call that would have named the message, had it been there to see.
func (r *run) unnamed(o *Op) {
	if o.Verb == Look {
		r.tally(o)
		return
	}
	narrows := o.Verb == Peek && len(o.Got) < o.Max // it rules out states; a receive may have come at another moment
	kept := r.configs[:0]                           // none of them is written over before it has been looked at
	definite, last := true, never
	lo, hi := o.begin-r.l.o.Slack, o.end+r.l.o.Slack
	if o.Verb == Receive && o.Wait > 0 {
		decided := hi - r.l.o.grace()
		if len(o.Got) == 0 {
			decided = min(decided, o.begin+o.Wait-r.l.o.Slack) // the wait was over then, however long the call took to return
		}
		lo = max(lo, decided)
	}
	if len(o.Got) == o.Max { // it left what is younger
		last = o.Got[len(o.Got)-1].Enqueued
	}
	var buf [8]state
	for i := range r.configs {
		s := &r.configs[i].s
		other := false
		if set := r.settingsOf(o.Queue, s); o.Verb == Receive && len(o.Got) > 0 && set != nil {
			v := o.Visibility
			if v == 0 {
				v = set.Visibility
			}
			left := s.enqueued.hi
			if (o.Queue == r.t.queue) == s.dead {
				left = 0 // it is not there yet
			}
			lo = o.passed(left) - v
			hi = lo
		}
		evolved := evolve(buf[:0], *s, lo, hi, r.l.o.LateMoves)
		for j := range evolved {
			was, s := s.dead, &evolved[j]
			here := s.sent && (o.Queue == r.t.queue) != s.dead
			// Who waits gets what has come, and not what is about to be moved.
			comes := o.Wait > 0 && s.dead && !was && s.enqueued.lo > max(o.begin, lo-r.l.o.Move)
			other = other || !here || comes || s.kind != active || s.enqueued.hi >= last
		}
		if other {
			definite = false
			if narrows {
				kept = append(kept, r.configs[i])
			}
		}
	}
	switch {
	case !definite && narrows:
		r.configs = kept
	case !definite:
	case o.Verb == Peek:
		r.fail(o, "it was active, and a peek passed it over")
	default:
		r.fail(o, "it was active all the time, and a receive passed it over")
	}
}

// settingsOf are those of a queue that the message has to do with.
func (r *run) settingsOf(q QueueID, s *state) *Settings {
	if q == r.t.queue {
		return s.src
	}
	return s.dst
}

// passed is the latest end of the leases that a receive has given of messages younger than one that it left; of all of
// them when it left others only because there was none. It may have taken them one after the other.
func (o *Op) passed(enqueued int64) (end int64) {
	for i := range o.Got {
		if g := &o.Got[i]; len(o.Got) < o.Max || g.Enqueued > enqueued {
			end = max(end, g.Visible)
		}
	}
	return end
}

func (o *Options) grace() int64 {
	return o.Lag / 50
}

// fail tells that the message was treated wrongly.
func (r *run) fail(o *Op, why string) {
	r.wrong = true
	if r.settings {
		r.c.violated(fmt.Sprintf("queue %s: %s", r.t.source, why), r.l.line(o))
		return
	}
	r.c.violated(fmt.Sprintf("message %q: %v: %s", r.t.body, o.Verb, why), r.l.excerpt(r.t, o, r.configs))
}
