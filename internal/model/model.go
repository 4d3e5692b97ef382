// Package model is a plain, slow, obviously right spool: a slice of messages per queue and every rule of the
// specification spelled out once. Tests run the same operations against it and against the library and compare.
//
// It owns no goroutine, no lock and no clock: time comes in through [Spool.Advance]. It knows nothing of the library:
// it was written from the specification alone and shares no line with it. Where the specification leaves several
// answers open, the model returns all of them ([Queue.CanSend], [Queue.Check], [Span]) and learns which one was given.
package model

import "time"

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
