// Package model is a plain, slow, obviously right spool: a slice of messages per queue and every rule of the
// specification spelled out once. Tests run the same operations against it and against the library and compare.
//
// It owns no goroutine, no lock and no clock: time comes in through [Spool.Advance]. It knows nothing of the library:
// it was written from the specification alone and shares no line with it. Where the specification leaves several
// answers open, the model returns all of them ([Reasons], [Span], [Origin]) and learns which one was given.
package model

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A State of a message. Every stored message is in exactly one.
type State int

const (
	Delayed State = iota
	Active
	Inactive
	Rewindable
	Gone
)

func (s State) String() string {
	return [...]string{"delayed", "active", "inactive", "rewindable", "gone"}[s]
}

// A Span is an instant that is known to lie between Lo and Hi, both included. Under virtual time both are the same.
type Span struct{ Lo, Hi time.Time }

// At is the span of an instant that is known exactly.
func At(t time.Time) Span { return Span{t, t} }

// Add moves a span by d.
func (s Span) Add(d time.Duration) Span { return Span{s.Lo.Add(d), s.Hi.Add(d)} }

// Learn says whether t can be the instant, and makes the span exact if so.
func (s *Span) Learn(t time.Time) bool {
	if t.Before(s.Lo) || t.After(s.Hi) {
		return false
	}
	s.Lo, s.Hi = t, t
	return true
}

func (s Span) String() string {
	if s.Lo.Equal(s.Hi) {
		return s.Lo.Format("02T15:04:05.000000000")
	}
	return s.Lo.Format("02T15:04:05.000000000") + ".." + s.Hi.Format("02T15:04:05.000000000")
}

// Meta is what a queue is set to; zero fields mean defaults.
type Meta struct {
	Visibility  time.Duration
	PollingWait time.Duration
	MaxSize     int
	Retention   time.Duration
	Rewind      time.Duration
	MaxMessages int64
	Delay       time.Duration
	DeadLetter  *DeadLetter
}

// DeadLetter is a queue's rule for messages that nobody consumes.
type DeadLetter struct {
	Queue       string
	MaxReceives int
	MaxAge      time.Duration
}

// A Message with everything that is true of it.
type Message struct {
	ID         string // of a dead-letter copy: "" until it has been seen
	Body       string
	Attributes map[string]string
	Enq        Span
	State      State
	Due        Span // Delayed: the delay ends; Inactive: the lease ends
	First      Span // zero before the first receive
	Receives   int
	Rewinds    int
	Base       time.Time // MaxAge counts from here; zero until the message could first be received
	Origin     *Origin

	nonce     int         // deliveries ever made; the latest receipt has this number
	deletions map[int]int // nonce of the receipt that deleted it → number of the deletion in the spool
	rewoundAt int         // nonce at the latest rewind
}

// Origin is where a dead-letter copy came from.
type Origin struct {
	Queue    string
	ID       string
	Enq      *Span // shared with the message it was
	Receives int
	Reasons  []string // any of these
}

// A Receipt of one delivery.
type Receipt struct {
	q     *Queue
	m     *Message
	nonce int
}

// Message is what the receipt was given for.
func (r *Receipt) Message() *Message { return r.m }

// A Queue is its messages in order and a few counts.
type Queue struct {
	Name                    string
	Meta                    Meta // defaults filled in
	Messages                []*Message
	Sent, Received, Deleted int64
	Created, Modified       Span
	Dropped                 bool // deleted
	s                       *Spool
}

// A Spool is a set of queues.
type Spool struct {
	Queues []*Queue
	Slack  time.Duration // how late a background move may be when nobody looked

	clock     time.Time // everything due up to here has happened
	closed    bool
	deletions int // ever
	forgotten int // deletions before the latest restart
	arrivals  []*Message
}

// New is an empty spool.
func New(now time.Time) *Spool { return &Spool{clock: now, Slack: 2 * time.Millisecond} }

// Failures, named as the library's sentinels are.
const (
	OK                   = ""
	ErrNoMessage         = "ErrNoMessage"
	ErrQueueNotFound     = "ErrQueueNotFound"
	ErrQueueExists       = "ErrQueueExists"
	ErrInvalidArgument   = "ErrInvalidArgument"
	ErrMessageTooLarge   = "ErrMessageTooLarge"
	ErrQueueFull         = "ErrQueueFull"
	ErrBatchTooLarge     = "ErrBatchTooLarge"
	ErrRewindDisabled    = "ErrRewindDisabled"
	ErrInvalidRewindTime = "ErrInvalidRewindTime"
)

// ---- time ----

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

// ---- queues ----

// Queue finds a queue by its exact name.
func (s *Spool) Queue(name string) *Queue {
	for _, q := range s.Queues {
		if q.Name == name {
			return q
		}
	}
	return nil
}

// Taken says whether a queue has the name, in whatever case.
func (s *Spool) Taken(name string) bool {
	return slices.ContainsFunc(s.Queues, func(q *Queue) bool { return strings.EqualFold(q.Name, name) })
}

// Create makes a queue.
func (s *Spool) Create(name string, meta Meta, now Span) (*Queue, string) {
	if !validName(name) {
		return nil, ErrInvalidArgument
	}
	meta = withDefaults(meta)
	if fail := s.valid(name, meta); fail != OK {
		return nil, fail
	}
	if s.Taken(name) {
		return nil, ErrQueueExists
	}
	q := &Queue{Name: name, Meta: meta, Created: now, Modified: now, s: s}
	s.Queues = append(s.Queues, q)
	return q, OK
}

// Drop deletes a queue.
func (s *Spool) Drop(name string) string {
	q := s.Queue(name)
	if q == nil {
		return ErrQueueNotFound
	}
	for _, o := range s.Queues {
		if o.Meta.DeadLetter != nil && o.Meta.DeadLetter.Queue == name {
			return ErrInvalidArgument
		}
	}
	q.Dropped = true
	for _, m := range q.Messages {
		m.State = Gone
	}
	s.Queues = slices.DeleteFunc(s.Queues, func(o *Queue) bool { return o == q })
	return OK
}

// SetMeta changes a queue. Dead-letter moves that follow from it are in Arrivals.
func (q *Queue) SetMeta(meta Meta, now Span) string {
	meta = withDefaults(meta)
	if fail := q.s.valid(q.Name, meta); fail != OK {
		return fail
	}
	q.Meta, q.Modified = meta, now
	q.s.Advance(q.s.clock)
	return OK
}

func withDefaults(m Meta) Meta {
	if m.Visibility == 0 {
		m.Visibility = 30 * time.Second
	}
	if m.MaxSize == 0 {
		m.MaxSize = 64 << 10
	}
	if m.Retention == 0 {
		m.Retention = 4 * day
	}
	if m.MaxMessages == 0 {
		m.MaxMessages = 100_000_000
	}
	return m
}

const day = 24 * time.Hour

func (s *Spool) valid(name string, m Meta) string {
	ok := m.Visibility > 0 && m.Visibility <= 365*day &&
		m.PollingWait >= 0 && m.PollingWait <= day &&
		m.MaxSize >= 1 && m.MaxSize <= 16<<20 &&
		m.Retention >= time.Second && m.Retention <= 3650*day &&
		m.Rewind >= 0 && m.Rewind <= m.Retention &&
		m.MaxMessages >= 1 && m.MaxMessages <= 1_000_000_000 &&
		m.Delay >= 0 && m.Delay < m.Retention
	if dl := m.DeadLetter; ok && dl != nil {
		target := s.Queue(dl.Queue)
		ok = dl.Queue != name && target != nil && target.Meta.DeadLetter == nil &&
			dl.MaxReceives >= 0 && dl.MaxReceives <= 1000 && dl.MaxAge >= 0 && dl.MaxAge < m.Retention &&
			(dl.MaxReceives > 0 || dl.MaxAge > 0)
		for _, o := range s.Queues { // no nesting: a target has no rule of its own
			ok = ok && (o.Meta.DeadLetter == nil || o.Meta.DeadLetter.Queue != name)
		}
	}
	if !ok {
		return ErrInvalidArgument
	}
	return OK
}

func validName(name string) bool {
	for i, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || !('0' <= c && c <= '9' || c == '_' || c == '-')) {
			return false
		}
	}
	return 1 <= len(name) && len(name) <= 64
}

// ---- messages ----

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

// ---- what a queue holds ----

// Count counts the messages in a state.
func (q *Queue) Count(st State) (n int64) {
	for _, m := range q.Messages {
		if m.State == st {
			n++
		}
	}
	return n
}

// Oldest is when the oldest undeleted message was sent.
func (q *Queue) Oldest() *Span {
	for _, m := range q.Messages {
		if m.State != Rewindable && m.State != Gone {
			return &m.Enq
		}
	}
	return nil
}

// NextDue is when the next delay or lease ends.
func (q *Queue) NextDue() *Span {
	var next *Span
	for _, m := range q.Messages {
		if (m.State == Delayed || m.State == Inactive) && (next == nil || m.Due.Lo.Before(next.Lo)) {
			next = &m.Due
		}
	}
	return next
}

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
