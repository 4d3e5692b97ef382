package spool

import (
	"fmt"
	"time"
)

// The least and most of what a queue can be set to, and what a zero field of [Meta] means.
const (
	defaultVisibility     = 30 * time.Second
	defaultMaxMessageSize = 64 << 10
	defaultRetention      = 4 * day
	defaultMaxMessages    = 100_000_000

	maxVisibility     = 365 * day
	maxPollingWait    = 24 * time.Hour
	maxMaxMessageSize = 16 << 20
	minRetention      = time.Second
	maxRetention      = 3650 * day
	maxMaxMessages    = 1_000_000_000
	maxMaxReceives    = 1000
	maxQueueName      = 64 // characters

	day = 24 * time.Hour
)

// Meta is what a queue is set to. The zero value of a field means its default, so Meta{} is a useful queue. Fields
// outside their range are refused with an [*ArgumentError] that names the field.
//
// Meta marshals to JSON with CMQ's names; durations are seconds, fractions kept, and every Meta comes back exactly.
// Unmarshalling leaves alone what the text does not name, so it can serve as the change of [Queue.SetMeta];
// deadLetterPolicy is replaced as a whole, and null removes it.
type Meta struct {
	// VisibilityTimeout is how long a receive hides a message from other receives, and how long its receipt works.
	// Default 30 s; (0, 365 d]. It may be longer than Retention: then a message is delivered at most once.
	VisibilityTimeout time.Duration

	// PollingWait is how long a receive without [Wait] waits for a message. Default 0; [0, 24 h].
	PollingWait time.Duration

	// MaxMessageSize is the largest body in bytes; attributes are not counted. Default 64 KiB; [1, 16 MiB].
	MaxMessageSize int

	// Retention is how long a message lives, counted from its send, in every state. Default 4 d; [1 s, 3650 d].
	Retention time.Duration

	// Rewind is how long a deleted message can be brought back by [Queue.Rewind], counted from its send, not from its
	// deletion. Default 0, which keeps no deleted message; [0, Retention].
	Rewind time.Duration

	// MaxMessages is the number of messages that are Active, Inactive or Delayed at which sends are refused.
	// Default 100 million; [1, 1e9].
	MaxMessages int64

	// Delay hides a message that names no delay of its own for this long after its send. Default 0; [0, Retention).
	Delay time.Duration

	// DeadLetter says when a message is moved to another queue. Default nil, which is never.
	DeadLetter *DeadLetter
}

// DeadLetter says when a message is given up and moved to another queue. At least one of the two limits is set; where
// both are due, MaxReceives is the reason that the message carries.
type DeadLetter struct {
	// Queue is the target: an existing queue, not the same one, and without a DeadLetter of its own. While it is a
	// target it cannot be deleted and cannot get a DeadLetter.
	Queue string

	// MaxReceives moves a message when its lease has ended undeleted for the MaxReceives-th time (CMQ's policy 0).
	// [1, 1000]; 0 means not by count.
	MaxReceives int

	// MaxAge moves a message that was not deleted this long after it could first be received (CMQ's policy 1).
	// (0, Retention); 0 means not by age.
	MaxAge time.Duration
}

// Attributes is what a queue is set to and what it holds, as one consistent snapshot.
//
// It marshals to one JSON object with CMQ's names; times are Unix seconds, rounded down, 0 for none.
type Attributes struct {
	Meta

	// Active, Inactive, Delayed and Rewindable are the numbers of messages in each state. They are exact and disjoint;
	// the sum of the first three is what is not deleted.
	Active, Inactive, Delayed, Rewindable int64

	Oldest  time.Time // when the oldest undeleted message was sent; zero if there is none
	NextDue time.Time // when the next delay or lease ends, leaving Retention aside; zero if there is none

	// Sent, Received and Deleted count since the queue was created, across restarts. Sent leaves out arrivals of dead
	// letters, Deleted leaves out purge, expiry and moves. Received counts the leases given, also that of a message which a
	// Purge took away before its Receive had read it.
	Sent, Received, Deleted int64

	CreatedAt, ModifiedAt time.Time // ModifiedAt moves when SetMeta succeeds
}

// withDefaults returns m with the default in every zero field. The DeadLetter is shared with m.
func (m Meta) withDefaults() Meta {
	setDefault(&m.VisibilityTimeout, defaultVisibility)
	setDefault(&m.MaxMessageSize, defaultMaxMessageSize)
	setDefault(&m.Retention, defaultRetention)
	setDefault(&m.MaxMessages, defaultMaxMessages)
	return m
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// clone returns m with a DeadLetter of its own.
func (m Meta) clone() Meta {
	if m.DeadLetter != nil {
		d := *m.DeadLetter
		m.DeadLetter = &d
	}
	return m
}

// validate checks every range, on a Meta that has its defaults. Whether the DeadLetter's queue exists and may be a
// target is for the caller to see.
func (m Meta) validate() error {
	switch {
	case m.VisibilityTimeout <= 0 || m.VisibilityTimeout > maxVisibility:
		return badArgument("Meta.VisibilityTimeout", m.VisibilityTimeout, "(0, 365 d]")
	case m.PollingWait < 0 || m.PollingWait > maxPollingWait:
		return badArgument("Meta.PollingWait", m.PollingWait, "[0, 24 h]")
	case m.MaxMessageSize < 1 || m.MaxMessageSize > maxMaxMessageSize:
		return badArgument("Meta.MaxMessageSize", m.MaxMessageSize, fmt.Sprintf("[1, %d] bytes", maxMaxMessageSize))
	case m.Retention < minRetention || m.Retention > maxRetention:
		return badArgument("Meta.Retention", m.Retention, "[1 s, 3650 d]")
	case m.Rewind < 0 || m.Rewind > m.Retention:
		return badArgument("Meta.Rewind", m.Rewind, fmt.Sprintf("[0, Retention = %v]", m.Retention))
	case m.MaxMessages < 1 || m.MaxMessages > maxMaxMessages:
		return badArgument("Meta.MaxMessages", m.MaxMessages, fmt.Sprintf("[1, %d]", maxMaxMessages))
	case m.Delay < 0 || m.Delay >= m.Retention:
		return badArgument("Meta.Delay", m.Delay, fmt.Sprintf("[0, Retention = %v)", m.Retention))
	case m.DeadLetter != nil:
		return m.DeadLetter.validate(m.Retention)
	}
	return nil
}

func (d *DeadLetter) validate(retention time.Duration) error {
	switch {
	case !validQueueName(d.Queue): // no queue has that name
		return &ArgumentError{Name: "Meta.DeadLetter.Queue", Value: d.Queue, Limit: "an existing queue: " + queueNameLimit, cause: ErrQueueNotFound}
	case d.MaxReceives < 0 || d.MaxReceives > maxMaxReceives:
		return badArgument("Meta.DeadLetter.MaxReceives", d.MaxReceives, fmt.Sprintf("[0, %d]", maxMaxReceives))
	case d.MaxAge < 0 || d.MaxAge >= retention:
		return badArgument("Meta.DeadLetter.MaxAge", d.MaxAge, fmt.Sprintf("[0, Retention = %v)", retention))
	case d.MaxReceives == 0 && d.MaxAge == 0:
		return badArgument("Meta.DeadLetter", "without a limit", "MaxReceives, MaxAge or both")
	}
	return nil
}

const queueNameLimit = "a letter and up to 63 letters, digits, '_' and '-'"

// checkQueueName returns nil for [A-Za-z][A-Za-z0-9_-]{0,63}.
func checkQueueName(name string) error {
	if !validQueueName(name) {
		return badArgument("name", name, queueNameLimit)
	}
	return nil
}

func validQueueName(name string) bool {
	if len(name) == 0 || len(name) > maxQueueName || !isLetter(name[0]) {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !isLetter(c) && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
