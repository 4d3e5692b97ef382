package model

import (
	"fmt"
	"slices"
	"time"
)

// This file is what happens by itself: delays, leases, retention and moves to dead letters.

// event is the next thing that happens to m by itself, if anything does.
func (q *Queue) event(m *Message) (at time.Time, ok bool) {
	end := m.Enq.Lo.Add(q.Meta.Retention)
	earlier := func(t time.Time) {
		if t.Before(end) {
			end = t
		}
	}
	switch m.State {
	case Gone:
		return end, false
	case Rewindable:
		if q.Meta.Rewind == 0 {
			return m.Enq.Lo, true
		}
		earlier(m.Enq.Lo.Add(q.Meta.Rewind))
	case Delayed, Inactive:
		earlier(m.Due.Lo)
	}
	if age, ok := q.ageDue(m); ok && m.State != Inactive && m.State != Rewindable {
		earlier(age)
	}
	return end, true
}

func (q *Queue) ageDue(m *Message) (time.Time, bool) {
	if dl := q.Meta.DeadLetter; dl != nil && dl.MaxAge > 0 && !m.Base.IsZero() {
		return m.Base.Add(dl.MaxAge), true
	}
	return time.Time{}, false
}

// Next is the next instant at which anything happens by itself.
func (s *Spool) Next() (at time.Time, ok bool) {
	_, _, at, ok = s.next()
	return at, ok
}

func (s *Spool) next() (*Queue, *Message, time.Time, bool) {
	var bq *Queue
	var bm *Message
	var best time.Time
	for _, q := range s.Queues {
		for _, m := range q.Messages {
			if at, ok := q.event(m); ok && (bm == nil || at.Before(best)) {
				bq, bm, best = q, m, at
			}
		}
	}
	return bq, bm, best, bm != nil
}

// Deadlines are the instants at which anything is going to happen, in order.
func (s *Spool) Deadlines() []time.Time {
	var all []time.Time
	for _, q := range s.Queues {
		for _, m := range q.Messages {
			if m.State == Gone {
				continue
			}
			at, _ := q.event(m)
			all = append(all, at, m.Enq.Lo.Add(q.Meta.Retention))
			if m.State == Delayed || m.State == Inactive {
				all = append(all, m.Due.Lo)
			}
			if age, ok := q.ageDue(m); ok {
				all = append(all, age)
			}
			if q.Meta.Rewind > 0 {
				all = append(all, m.Enq.Lo.Add(q.Meta.Rewind))
			}
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return slices.CompactFunc(all, time.Time.Equal)
}

// Advance lets everything happen that is due at now, in order of time.
func (s *Spool) Advance(now time.Time) { s.AdvanceUnseen(now, now) }

// AdvanceClosed is Advance over a time in which the spool was closed: what was due to move moves now.
func (s *Spool) AdvanceClosed(now time.Time) {
	s.closed = true
	s.AdvanceUnseen(now, now)
	s.closed = false
}

// AdvanceUnseen is Advance when nobody looks before the instant seen: until then a background move may be late.
func (s *Spool) AdvanceUnseen(now, seen time.Time) {
	if now.Before(s.clock) {
		now = s.clock
	}
	for {
		q, m, at, ok := s.next()
		if !ok || at.After(now) && !(m.State == Rewindable && q.Meta.Rewind == 0) {
			break
		}
		if at.Before(s.clock) {
			at = s.clock // fell due by a change of meta
		}
		moved := Span{at, minTime(at.Add(s.Slack), maxTime(at, seen))}
		if s.closed {
			moved = At(now)
		}
		q.happen(m, at, moved)
	}
	s.clock = now
	for _, q := range s.Queues {
		q.Messages = slices.DeleteFunc(q.Messages, func(m *Message) bool { return m.State == Gone })
	}
}

// happen is the one event of m at the instant at. A dead-letter move is made within moved.
func (q *Queue) happen(m *Message, at time.Time, moved Span) {
	over := func(t time.Time) bool { return !at.Before(t) }
	age, hasAge := q.ageDue(m)
	switch {
	case over(m.Enq.Lo.Add(q.Meta.Retention)): // retention wins every tie
		m.State = Gone
	case m.State == Rewindable:
		if q.Meta.Rewind == 0 || over(m.Enq.Lo.Add(q.Meta.Rewind)) {
			m.State = Gone
		}
	case m.State == Inactive:
		if over(m.Due.Lo) {
			q.leaseEnds(m, at, moved, Span{})
		}
	case hasAge && over(age):
		q.move(m, moved, "max-age")
	case m.State == Delayed && over(m.Due.Lo):
		m.State = Active
		if m.Base.IsZero() {
			m.Base = m.Due.Lo
		}
	}
}

// leaseEnds makes m Active, or Delayed until due, or moves it.
func (q *Queue) leaseEnds(m *Message, at time.Time, moved, due Span) {
	dl := q.Meta.DeadLetter
	age, hasAge := q.ageDue(m)
	switch {
	case dl != nil && dl.MaxReceives > 0 && m.Receives >= dl.MaxReceives:
		q.move(m, moved, "max-receives")
	case hasAge && !at.Before(age):
		q.move(m, moved, "max-age")
	case !due.Lo.IsZero():
		m.State, m.Due = Delayed, due
	default:
		m.State = Active
	}
}

// move makes the copy in the dead-letter queue.
func (q *Queue) move(m *Message, when Span, reason string) {
	dl := q.Meta.DeadLetter
	reasons := []string{reason}
	if reason == "max-age" && dl.MaxReceives > 0 && m.Receives >= dl.MaxReceives {
		reasons = []string{"max-receives"} // both limits are due, though no lease ended
	}
	m.State = Gone
	target := q.s.Queue(dl.Queue)
	if n := len(target.Messages); n > 0 && when.Lo.Before(target.Messages[n-1].Enq.Lo) {
		when.Lo = target.Messages[n-1].Enq.Lo // EnqueuedAt never decreases along a queue
		when.Hi = maxTime(when.Hi, when.Lo)
	}
	enq := m.Enq
	c := &Message{
		Body: m.Body, Attributes: m.Attributes, Enq: when, State: Active, Base: when.Lo,
		Origin: &Origin{Queue: q.Name, ID: m.ID, Enq: &enq, Receives: m.Receives, Reasons: reasons},
	}
	target.Messages = append(target.Messages, c)
	q.s.arrivals = append(q.s.arrivals, c)
}

// Arrivals are the dead-letter copies made since the last call. Their IDs are not known yet.
func (s *Spool) Arrivals() []*Message {
	a := s.arrivals
	s.arrivals = nil
	return a
}

// Arrived tells the ID and the instant of a copy, and its place: behind those that arrived before it.
func (q *Queue) Arrived(c *Message, id string, at time.Time) error {
	if !c.Enq.Learn(at) {
		return fmt.Errorf("dead-letter copy of %s in %s has EnqueuedAt %v, want %v", c.Origin.ID, q.Name, At(at), c.Enq)
	}
	c.ID, c.Base = id, at
	i := slices.Index(q.Messages, c)
	if i < 0 {
		return fmt.Errorf("dead-letter copy of %s is not in %s", c.Origin.ID, q.Name)
	}
	q.Messages = slices.Delete(q.Messages, i, i+1)
	last := 0 // place behind everything that has an ID
	for j, m := range q.Messages {
		if m.ID != "" {
			last = j + 1
		}
	}
	if last > 0 && q.Messages[last-1].Enq.Lo.After(at) {
		return fmt.Errorf("dead-letter copy %s arrived in %s at %v, before its predecessor %s at %v", id, q.Name, At(at), q.Messages[last-1].ID, q.Messages[last-1].Enq)
	}
	q.Messages = slices.Insert(q.Messages, last, c)
	return nil
}

// Restart forgets what a spool need not remember when it is closed and opened.
func (s *Spool) Restart() { s.forgotten = s.deletions }

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
