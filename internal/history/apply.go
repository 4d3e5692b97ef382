package history

// lateMost is how long a dead letter waits for room at most.
const lateMost = 3600 * int64(1e9)

// A reach is the instants at which a call may have had its effect.
type reach struct {
	lo, hi      int64
	slack       int64
	late        bool
	fsync       bool
	leaseLevels bool // receives are durable
}

// apply returns the states that a message may be in after a call had its effect on it, with what the call returned; none
// when that was not possible. why tells the reason, if there is one to tell.
func (l *Log) apply(into []state, s state, t *track, o *Op, item int, r reach) (states []state, why string) {
	if o.Verb == Receive && item >= 0 {
		return l.deliver(into, s, t, o, &o.Got[item], r)
	}
	var evolved [8]state
	for _, s := range evolve(evolved[:0], s, max(r.lo, s.at-r.slack), r.hi, r.late) {
		next, ok, reason := l.effect(s, t, o, item, r)
		if !ok {
			why = reason
			continue
		}
		if next == s {
			into = append(into, s)
			continue
		}
		into = append(into, l.changed(s, next, o, r))
		switch {
		case o.Verb == Rewind && s.kind == rewindable && s.enqueued.lo < o.To: // it may be older than the edge
			into = append(into, s)
		case o.Verb == Purge && s.kind == moving: // it may have been on its way already
			into = append(into, s)
		case o.Verb == Release && next.dead && !s.dead:
			if r.late {
				waits := s
				waits.kind = moving
				into = append(into, l.changed(s, waits, o, r))
			}
			if s.released(o, r) {
				given := s
				given.release(o, r)
				into = append(into, l.changed(s, given, o, r))
			}
		}
	}
	return into, why
}

// changed gives a state that a call led to what a power loss would bring back.
func (l *Log) changed(before, s state, o *Op, r reach) state {
	durable := r.fsync && (o.outcome == OK || o.Verb == Send) // a message is seen only when its send is durable
	switch o.Verb {
	case Receive, Visibility, Release:
		durable = r.leaseLevels
	case Peek, Found:
		if r.fsync || !s.dead || before.id != "" {
			return s // no record
		}
	}
	if durable || !l.loses {
		s.undo = nil
	} else {
		l.settled(&before, r.lo)
		s.undo = &undo{before, o}
	}
	return s
}

// effect is what a call does to a message in a state. ok is false where the call could not have been answered so.
func (l *Log) effect(s state, t *track, o *Op, item int, r reach) (next state, ok bool, why string) {
	next = s
	here := s.sent && (o.Queue == t.queue) != s.dead
	switch o.Verb {
	case Send:
		return l.sent(s, t, o, item, r)
	case Receive: // its outcome is unknown: it may have taken the message
		if !here || s.kind != active {
			return next, false, ""
		}
		v := o.Visibility
		if v == 0 {
			v = s.settings().Visibility
		}
		next.lease(span{r.lo, r.hi}, span{r.lo + v, r.hi + v}, "", o)
		return next, true, ""
	case Delete, Visibility, Release:
		if !here || s.kind != inactive || s.receipt == "" || s.receipt != o.Receipt {
			return next, o.outcome == Refused, "its receipt is not the latest, or its lease is over"
		}
		if o.outcome == Refused {
			return next, false, "a good receipt was refused"
		}
		next.byReceipt(o, r)
	case Rewind:
		if here && s.kind == rewindable && s.enqueued.hi >= o.To {
			next.kind, next.receives, next.first = active, 0, span{}
			next.rewinds++
			next.base = span{r.lo, r.hi}
			if o.outcome == Unknown {
				next.mark(o, true)
			}
		}
	case Purge:
		if here && s.kind != gone {
			next.kind = gone
			if o.outcome == Unknown {
				next.mark(o, true)
			}
		}
	case SetMeta:
		next.revised = s.kind == moving
		if o.Queue == t.queue {
			next.src = o.Settings
		} else {
			next.dst = o.Settings
		}
	case Drop, Missing:
		if set := s.src; o.Verb == Missing && (here && s.kind != gone || t.body == "" && o.Queue == t.queue && set != nil) {
			return next, false, "its queue is missing"
		}
		if here {
			next.kind = gone
		}
		if o.Queue == t.queue {
			next.src = nil
		} else {
			next.dst = nil
		}
	case Found:
		set := s.src
		if o.Queue != t.queue {
			set = s.dst
		}
		switch {
		case t.body != "" && (s.kind == absent || s.kind == gone): // what came after it was lost as well
			set = o.Settings
		case set == nil || *set != *o.Settings:
			return next, false, "its queue is there with other settings"
		}
		if o.Queue == t.queue {
			next.src = set
		} else {
			next.dst = set
		}
		if s.dead && s.enqueued.hi == never { // whoever looked made it move
			next.enqueued.hi = max(r.hi, s.enqueued.lo)
			if r.late {
				next.enqueued.hi += lateMost
			}
		}
	case Peek:
		return s.peeked(t, &o.Got[item], r)
	}
	return next, true, ""
}

func (l *Log) sent(s state, t *track, o *Op, item int, r reach) (next state, ok bool, why string) {
	if s.kind != absent || s.src == nil {
		return s, false, "sent twice, or to a queue that is not there"
	}
	at := span{r.lo, r.hi}
	if t.enqueued != 0 {
		if !at.has(t.enqueued, r.slack) {
			return s, false, "EnqueuedAt lies outside of the send"
		}
		at = span{t.enqueued, t.enqueued}
	}
	s.sent, s.enqueued, s.kind, s.base, s.at = true, at, active, at, at.lo
	if t.id != "" {
		s.id = t.id
	}
	delay := o.Sent[item].Delay
	if delay == 0 {
		delay = s.src.Delay
	}
	if delay > 0 {
		s.kind, s.due, s.base = delayed, at.add(delay), span{}
	}
	if o.outcome == Unknown && len(o.Sent) > 1 {
		s.mark(o, true)
	}
	return s, true, ""
}

// lease makes the message inactive.
func (s *state) lease(at, due span, receipt string, o *Op) {
	s.kind, s.due, s.receipt, s.nonce = inactive, due, receipt, o.index+1
	s.receives++
	if s.dead {
		s.deadReceived++
	} else {
		s.received++
	}
	if s.first.lo == 0 {
		s.first = at
	}
}

func (s *state) byReceipt(o *Op, r reach) {
	at := span{r.lo, r.hi}
	if o.Visible != 0 {
		at = span{o.Visible - o.For, o.Visible - o.For}
	}
	switch o.Verb {
	case Delete:
		if s.dead {
			s.deadDeleted++
		} else {
			s.deleted++
		}
		s.kind = gone
		if s.settings().Rewind > 0 {
			s.kind = rewindable
		}
	case Visibility:
		s.due = at.add(o.For)
	case Release:
		dead := s.dead
		s.at = max(s.at, at.lo)
		s.due = at // in case the age is looked at
		if age, aged := s.age(s.settings()); aged && age.lo > s.at && age.lo <= at.hi {
			s.at = age.lo
		}
		if moved := lapse(*s); moved.dead != dead {
			moved.enqueued.hi = max(at.hi, moved.at)
			*s = moved
			return
		}
		s.release(o, r)
	}
}

// release gives the message back.
func (s *state) release(o *Op, r reach) {
	s.kind = active
	if o.For > 0 {
		s.kind, s.due = delayed, span{r.lo + o.For, r.hi + o.For}
	}
}

// released says that nobody can tell whether the age was over when the message was released.
func (s *state) released(o *Op, r reach) bool {
	set := s.settings()
	age, aged := s.age(set)
	return aged && !(set.MaxReceives > 0 && s.receives >= set.MaxReceives) && age.hi > r.lo
}

// peeked compares an active message with what a peek showed of it.
func (s state) peeked(t *track, d *Delivery, r reach) (next state, ok bool, why string) {
	if s.kind != active || s.dead != (d.Origin != nil) {
		return s, false, "it was not active when a peek showed it"
	}
	if why := s.differs(t, d, r.slack); why != "" {
		return s, false, why
	}
	if d.Receives != s.receives {
		return s, false, "the receive count is wrong"
	}
	s.learn(d)
	return s, true, ""
}

// differs says what is wrong with a message as it was shown.
func (s *state) differs(t *track, d *Delivery, slack int64) string {
	switch {
	case s.id != "" && s.id != d.ID:
		return "it has another ID"
	case !s.enqueued.has(d.Enqueued, slack):
		return "EnqueuedAt is wrong"
	case s.rewinds != d.Rewinds:
		return "the count of rewinds is wrong"
	case d.Origin == nil:
		return ""
	case d.Origin.ID != t.id && t.id != "" || d.Origin.Queue != t.source:
		return "the origin is wrong"
	case d.Origin.Receives != s.deaths:
		return "the receive count of the origin is wrong"
	}
	return ""
}

func (s *state) learn(d *Delivery) {
	s.id = d.ID
	s.enqueued = span{d.Enqueued, d.Enqueued}
	if s.dead && s.base.lo == 0 {
		s.base = s.enqueued
	}
}

// deliver is the effect of a receive that showed the message. The end of the lease tells when that was.
func (l *Log) deliver(into []state, s state, t *track, o *Op, d *Delivery, r reach) (states []state, why string) {
	set := s.src
	if d.Origin != nil {
		set = s.dst
	}
	if set == nil {
		return into, "its queue is not there"
	}
	v := o.Visibility
	if v == 0 {
		v = set.Visibility
	}
	at := d.Visible - v
	if !(span{r.lo, r.hi}).has(at, 0) {
		return into, "the lease does not begin within the receive"
	}
	why = "it was not active"
	var evolved [8]state
	for _, s := range evolve(evolved[:0], s, at, at, r.late) {
		if s.kind != active || s.dead != (d.Origin != nil) || !s.sent {
			continue
		}
		if reason := s.differs(t, d, r.slack); reason != "" {
			why = reason
			continue
		}
		if d.Receives != s.receives+1 {
			why = "the receive count is wrong"
			continue
		}
		if s.first.lo != 0 && !s.first.has(d.FirstReceived, r.slack) || s.first.lo == 0 && d.FirstReceived != at {
			why = "FirstReceivedAt is wrong"
			continue
		}
		next := s
		next.learn(d)
		next.first = span{d.FirstReceived, d.FirstReceived}
		next.lease(span{at, at}, span{d.Visible, d.Visible}, d.Receipt, o)
		into = append(into, l.changed(s, next, o, r))
	}
	return into, why
}
