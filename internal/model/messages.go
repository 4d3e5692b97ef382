package model

import (
	"slices"
	"time"
)

// This file is what is done with the messages of a queue.

// A Send is one message to be sent. Delay 0 is the queue's, negative none.
type Send struct {
	Body       string
	Delay      time.Duration
	Attributes map[string]string
}

// CanSend is the set of failures that a batch may answer with; none means it is stored.
func (q *Queue) CanSend(batch []Send) []string {
	var fails []string
	for _, x := range batch {
		switch {
		case len(x.Body) == 0, x.Delay < -1, x.Delay >= q.Meta.Retention:
			fails = append(fails, ErrInvalidArgument)
		case len(x.Body) > q.Meta.MaxSize:
			fails = append(fails, ErrMessageTooLarge)
		}
	}
	if len(fails) == 0 && q.Count(Active)+q.Count(Inactive)+q.Count(Delayed)+int64(len(batch)) > q.Meta.MaxMessages {
		fails = append(fails, ErrQueueFull)
	}
	return fails
}

// Send stores a batch.
func (q *Queue) Send(batch []Send, ids []string, now Span) {
	for i, x := range batch {
		m := &Message{ID: ids[i], Body: x.Body, Attributes: x.Attributes, Enq: now, State: Active, Base: now.Lo}
		delay := x.Delay
		if delay == 0 {
			delay = q.Meta.Delay
		}
		if delay > 0 {
			m.State, m.Due, m.Base = Delayed, now.Add(delay), time.Time{}
		}
		q.Messages = append(q.Messages, m)
		q.Sent++
	}
}

// ActiveMessages are those that can be received, the oldest first.
func (q *Queue) ActiveMessages() []*Message {
	var active []*Message
	for _, m := range q.Messages {
		if m.State == Active {
			active = append(active, m)
		}
	}
	return active
}

// Receive takes up to n messages for the visibility (0: the queue's).
func (q *Queue) Receive(n int, visibility time.Duration, now Span) []*Receipt {
	if visibility == 0 {
		visibility = q.Meta.Visibility
	}
	var got []*Receipt
	for _, m := range q.ActiveMessages()[:min(n, int(q.Count(Active)))] {
		m.State, m.Due = Inactive, now.Add(visibility)
		m.Receives++
		m.nonce++
		if m.First.Lo.IsZero() {
			m.First = now
		}
		q.Received++
		got = append(got, &Receipt{q, m, m.nonce})
	}
	return got
}

// Check is the set of reasons that a call with this receipt may fail with; none means it is good. A nil receipt is a
// malformed one.
func (q *Queue) Check(r *Receipt) (reasons []string) {
	if r == nil {
		return []string{"Malformed"}
	}
	if r.q != q {
		return []string{"WrongQueue"}
	}
	m := r.m
	if n, ok := m.deletions[r.nonce]; ok {
		reasons = append(reasons, "Deleted") // it comes before "rewound since", which may be true as well
		if m.State == Rewindable && m.nonce == r.nonce || n > q.s.forgotten && q.s.deletions-n < 4096 {
			return reasons
		}
		if m.rewoundAt >= r.nonce { // it may be forgotten that this receipt deleted the message, and even that there was one
			reasons = append(reasons, "Stale")
		}
		if m.State == Gone {
			reasons = append(reasons, "Gone")
		}
		return reasons
	}
	switch {
	case r.nonce != m.nonce && m.State == Gone:
		return []string{"Stale", "Gone"} // nothing promises to remember who received a message that is gone
	case r.nonce != m.nonce:
		return []string{"Stale"}
	case m.State == Gone:
		return []string{"Gone"}
	case m.State != Inactive:
		return []string{"Expired"}
	}
	return nil
}

// Delete deletes by a good receipt.
func (q *Queue) Delete(r *Receipt) {
	m := r.m
	q.Deleted++
	q.s.deletions++
	if m.deletions == nil {
		m.deletions = map[int]int{}
	}
	m.deletions[r.nonce] = q.s.deletions
	m.State = Rewindable
	if q.Meta.Rewind == 0 || !q.s.clock.Before(m.Enq.Lo.Add(q.Meta.Rewind)) {
		m.State = Gone
		q.Messages = slices.DeleteFunc(q.Messages, func(o *Message) bool { return o == m })
	}
}

// Extend restarts the lease of a good receipt.
func (q *Queue) Extend(r *Receipt, d time.Duration, now Span) { r.m.Due = now.Add(d) }

// Release ends the lease of a good receipt.
func (q *Queue) Release(r *Receipt, after time.Duration, now Span) {
	due := Span{}
	if after > 0 {
		due = now.Add(after)
	}
	q.leaseEnds(r.m, now.Lo, now, due)
	q.s.Advance(q.s.clock)
}

// CanRewind says how a rewind is answered.
func (q *Queue) CanRewind(to, now time.Time) string {
	switch {
	case q.Meta.Rewind == 0:
		return ErrRewindDisabled
	case to.Before(now.Add(-q.Meta.Rewind)) || to.After(now):
		return ErrInvalidRewindTime
	}
	return OK
}

// Rewinds are the messages that a rewind brings back.
func (q *Queue) Rewinds(to time.Time) []*Message {
	var back []*Message
	for _, m := range q.Messages {
		if m.State == Rewindable && !m.Enq.Lo.Before(to) {
			back = append(back, m)
		}
	}
	return back
}

// Rewind brings them back.
func (q *Queue) Rewind(to, now time.Time) int64 {
	back := q.Rewinds(to)
	for _, m := range back {
		m.State, m.Receives, m.First, m.Base = Active, 0, Span{}, now
		m.Rewinds++
		m.rewoundAt = m.nonce
	}
	return int64(len(back))
}

// Purge empties all four sets.
func (q *Queue) Purge() {
	for _, m := range q.Messages {
		m.State = Gone
	}
	q.Messages = nil
}
