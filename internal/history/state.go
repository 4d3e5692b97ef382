package history

import "fmt"

const never = int64(1) << 62

// A kind is where a message is in its life.
type kind uint8

const (
	absent kind = iota // not sent yet, or not sent at all
	delayed
	active
	inactive
	rewindable
	moving // to the dead-letter queue, and waits for room there
	gone
)

var kindNames = [...]string{"not sent", "delayed", "active", "inactive", "rewindable", "moving", "gone"}

func (k kind) String() string { return kindNames[k] }

// A span is an instant that lies between lo and hi, both included.
type span struct{ lo, hi int64 }

func (s span) add(d int64) span { return span{s.lo + d, s.hi + d} }

func (s span) has(at, slack int64) bool { return s.lo-slack <= at && at <= s.hi+slack }

// A state is one of those that a message may be in. It is comparable: what is pointed to is never changed.
type state struct {
	kind     kind
	dead     bool // in the dead-letter queue
	sent     bool
	revised  bool  // moving: settings have changed since, and the rules are looked at again when there is room
	at       int64 // the earliest instant that it can be
	due      span  // delayed, inactive: until then
	enqueued span
	first    span // of the first receive; lo 0: none
	base     span // MaxAge counts from here; lo 0: not yet
	receives int
	rewinds  int
	id       string
	receipt  string    // the latest one
	nonce    int32     // the op that leased it, + 1
	deaths   int       // receives before it moved
	src, dst *Settings // of its queue and of that for dead letters; nil: the queue is gone

	received, deleted         int32 // by calls, in its queue
	deadReceived, deadDeleted int32 // and in that for dead letters

	undo  *undo
	marks string // of calls with several effects: index of the op and whether it had its own here, markSize bytes each
}

// An undo is what a power loss may bring back.
type undo struct {
	before state
	op     *Op
}

// alike compares what differs most often.
func alike(a, b *state) bool {
	return a.due == b.due && a.enqueued == b.enqueued && a.kind == b.kind
}

// same tells whether two states differ in nothing but the bound of time and the marks.
func same(a, b *state) bool {
	for top := true; ; top = false {
		if !alike(a, b) {
			return false
		}
		x, y := *a, *b
		x.at, x.undo, y.at, y.undo = 0, nil, 0, nil
		if top {
			x.marks, y.marks = "", ""
		}
		switch {
		case x != y:
			return false
		case a.undo == b.undo:
			return true
		case a.undo == nil || b.undo == nil || a.undo.op != b.undo.op:
			return false
		}
		a, b = &a.undo.before, &b.undo.before
	}
}

// settings are those that count for the message now.
func (s *state) settings() *Settings {
	if s.dead {
		return s.dst
	}
	return s.src
}

func (s *state) String() string {
	where := ""
	if s.dead {
		where = " in the dead-letter queue"
	}
	text := fmt.Sprintf("%v%s, receives %d, rewinds %d", s.kind, where, s.receives, s.rewinds)
	if s.kind == delayed || s.kind == inactive {
		text += fmt.Sprintf(", until %s", spanText(s.due))
	}
	return text
}

// A change is something that happens to a message by itself.
type change struct {
	when  span
	after func(state) state
	aged  bool // it is a move by age
}

// next is the change that comes first, if one comes.
func (s *state) next() (c change, ok bool) {
	set := s.settings()
	if set == nil || s.kind == absent || s.kind == gone || s.kind == moving {
		return c, false
	}
	c = change{s.enqueued.add(set.Retention), expire, false}
	sooner := func(when span, after func(state) state, aged bool) {
		if when.lo < c.when.lo || when.lo == c.when.lo && when.hi < c.when.hi {
			c = change{when, after, aged}
		}
	}
	age, aged := s.age(set)
	switch s.kind {
	case delayed:
		sooner(s.due, surface, false)
		if aged {
			sooner(age, move, true)
		}
	case active:
		if aged {
			sooner(age, move, true)
		}
	case inactive:
		sooner(s.due, lapse, false)
	case rewindable:
		sooner(s.enqueued.add(set.Rewind), expire, false)
	}
	return c, true
}

// age is when the message is too old for its queue, if it can be.
func (s *state) age(set *Settings) (span, bool) {
	return s.base.add(set.MaxAge), set.MaxAge > 0 && !s.dead && s.base.lo != 0
}

func expire(s state) state {
	s.kind = gone
	return s
}

func surface(s state) state {
	s.kind = active
	if s.base.lo == 0 {
		s.base = s.due
	}
	return s
}

// lapse is the end of a lease.
func lapse(s state) state {
	set := s.settings()
	if age, aged := s.age(set); !s.dead && set.MaxReceives > 0 && s.receives >= set.MaxReceives || aged && age.lo <= s.at {
		return move(s)
	}
	s.kind = active
	return s
}

func move(s state) state {
	s.dead, s.kind, s.revised = true, active, false
	s.deaths = s.receives
	s.receives, s.rewinds, s.receipt, s.nonce = 0, 0, "", 0
	s.first, s.base = span{}, span{}
	s.id = ""
	s.enqueued = span{s.at, 0} // the upper end is known when somebody looks
	return s
}

// evolve returns the states that s may have become at some instant between lo and hi. late says that dead letters may
// wait for room.
func evolve(into []state, s state, lo, hi int64, late bool) []state {
	if s.dead && s.enqueued.hi == never { // moved again after a crash, nobody knows when
		s.enqueued.hi = max(hi, s.enqueued.lo)
		n := len(into)
		into = evolve(into, s, lo, hi, late)
		for i := range into[n:] {
			into[n+i].enqueued.hi = never
		}
		return into
	}
	for {
		c, ok := s.next()
		if !ok || c.when.lo > hi {
			break
		}
		if c.when.hi > lo { // it may not have come yet
			still := s
			still.at = max(s.at, lo)
			into = append(into, still)
		}
		if s.kind == delayed && c.aged && s.due.lo <= min(hi, c.when.hi) { // the delay may have ended before
			other := surface(s)
			other.at = max(s.at, s.due.lo)
			into = evolve(into, other, lo, hi, late)
		}
		was := s
		s.at = max(s.at, c.when.lo)
		if s.kind == inactive && s.undecided() {
			other := s
			other.kind = active
			into = evolve(into, other, lo, hi, late)
		}
		s = c.after(s)
		if s.dead && !was.dead {
			s.enqueued.hi = max(hi, s.at)
			if end := was.enqueued.lo + was.retention(); end < c.when.hi && end <= hi { // nobody knows which came first
				over := expire(was)
				over.at = max(s.at, lo)
				into = append(into, over)
			}
			if late {
				was.kind, was.at = moving, max(s.at, lo)
				into = append(into, was)
			}
		}
	}
	if s.kind == moving {
		m := move(s)
		m.enqueued.hi = max(hi, m.at)
		m.at = max(m.at, lo)
		into = append(into, m)
		if hi >= s.enqueued.lo+s.retention() {
			into = append(into, expire(s))
		}
		if back := s; s.revised && back.spared(lo) {
			into = append(into, back)
		}
	}
	s.at = max(s.at, lo)
	return append(into, s)
}

// spared makes a message active that has waited to move, if the rules of now would not move it.
func (s *state) spared(now int64) bool {
	set := s.settings()
	if set == nil || set.MaxReceives > 0 && s.receives >= set.MaxReceives {
		return false
	}
	s.kind, s.revised, s.at = active, false, max(now, s.at)
	age, aged := s.age(set)
	return !aged || age.hi > s.at
}

// undecided says that nobody can tell whether the age was over when the lease ended.
func (s *state) undecided() bool {
	set := s.settings()
	age, aged := s.age(set)
	return aged && !(set.MaxReceives > 0 && s.receives >= set.MaxReceives) && age.lo <= s.at && s.at < age.hi
}

func (s *state) retention() int64 {
	if set := s.settings(); set != nil {
		return set.Retention
	}
	return never
}

// common are the marks that both have.
func common(a, b string) string {
	if a == b {
		return a
	}
	both := ""
	for ; a != ""; a = a[markSize:] {
		for rest := b; rest != ""; rest = rest[markSize:] {
			if a[:markSize] == rest[:markSize] {
				both += a[:markSize]
				break
			}
		}
	}
	return both
}

const markSize = 5

// mark notes whether a call had its effect on the message.
func (s *state) mark(o *Op, had bool) {
	b := [markSize]byte{byte(o.index), byte(o.index >> 8), byte(o.index >> 16), byte(o.index >> 24), 0}
	if had {
		b[4] = 1
	}
	s.marks += string(b[:])
}
