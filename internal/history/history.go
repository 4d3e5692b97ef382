// Package history judges what a spool did, from nothing but the calls that were made and what they answered.
//
// It owns the record of calls ([Log]) and the rules ([Log.Check]), which are written from the specification alone: it
// imports nothing of the library and shares no line with it. It runs no clock: whoever records says what time it is.
//
// A call is recorded twice, when it begins and when it returns, by any number of goroutines. Between the two its effect
// was made at some instant. So every message is judged by itself, with the calls that may have touched it: the checker
// follows all states in which the message may be, makes each call have its effect at each instant at which that was
// possible, and keeps the states that agree with what the call returned. A message of which no state is left has been
// treated wrongly. Calls whose outcome is unknown, because the process died or the store failed under them, may have had
// their effect or not, as a whole. A crash may besides bring back what was not yet durable, newest first.
//
// Over all messages it adds up what observations at rest must have counted: calls that no other call overlapped.
package history

import (
	"fmt"
	"hash/fnv"
	"iter"
	"sync"
)

// A Verb is what a call does.
type Verb uint8

const (
	Create     Verb = iota // Queue, Settings
	Send                   // Queue, Sent; IDs
	Receive                // Queue, Max, Visibility, Wait; Got
	Delete                 // Queue, Receipt
	Visibility             // Queue, Receipt, For; VisibleAt
	Release                // Queue, Receipt, For
	Rewind                 // Queue, To; N
	Purge                  // Queue
	SetMeta                // Queue, Settings
	Drop                   // Queue
	Peek                   // Queue, Max; Got
	Look                   // Queue; Counts
	Found                  // Queue, Settings: what was there after a crash, when somebody looked at it
	Missing                // Queue: it was not there after a crash
	Sync                   // everything acknowledged is durable
	Crash                  // Power: the machine died; otherwise the process. Calls under way have an unknown outcome.
	verbs
)

var verbNames = [verbs]string{"create", "send", "receive", "delete", "visibility", "release", "rewind", "purge", "setmeta",
	"drop", "peek", "look", "found", "missing", "sync", "crash"}

func (v Verb) String() string { return verbNames[v] }

// An Outcome is how a call ended.
type Outcome uint8

const (
	Pending Outcome = iota // it has not returned
	OK                     // it had its effect
	Refused                // it had none; of a call with a receipt: because of the receipt
	Barred                 // it had none, for a reason of no message: the spool is closed, there is no room
	Unknown                // it had its effect or none
)

// Settings are those of a queue that the rules need, in ns.
type Settings struct {
	Visibility, Retention, Rewind, Delay int64
	MaxReceives                          int   // 0: dead letters not by count
	MaxAge                               int64 // 0: nor by age
}

// Sent is one message of a send. Bodies tell messages apart: no body may be sent twice in a history.
type Sent struct {
	Body  string // or its Digest
	Delay int64  // ns; 0: the queue's, -1: none
}

// A Delivery is one message as a receive or a peek showed it. Instants are ns since the epoch, 0 for none.
type Delivery struct {
	ID, Body, Receipt                string
	Enqueued, FirstReceived, Visible int64
	Receives, Rewinds                int
	Origin                           *Origin
}

// Origin is where a dead letter came from.
type Origin struct {
	Queue, ID string
	Enqueued  int64
	Receives  int
}

// Counts are a queue's.
type Counts struct{ Active, Inactive, Delayed, Rewindable, Sent, Received, Deleted int64 }

// A QueueID names a queue of a history. A queue that is created again under its old name is another one.
type QueueID int

// None is no queue.
const None QueueID = -1

// An Op is one call. Whoever records sets the arguments before [Log.Call] and the results before [Log.Return], and
// leaves it alone afterwards.
type Op struct {
	Verb  Verb
	Queue QueueID
	Actor int // who called; for reading only

	Sent       []Sent
	Max        int
	Visibility int64 // 0: the queue's
	Wait       int64
	Receipt    string
	For        int64
	To         int64
	Settings   *Settings
	Power      bool

	IDs     []string
	Got     []Delivery
	Visible int64 // the end of the lease, if the call told it
	N       int64
	Counts  Counts
	Error   string // for reading only

	outcome    Outcome
	index      int32
	call, ret  uint64 // stamps; ret is that of the crash for a call that died
	begin, end int64
	solo       bool // no other call on its queue, on its dead-letter queue or on those that feed it overlapped it
	frontier   frontier
	works      int64 // of a crash
}

// without says that the call had no effect.
func (o *Op) without() bool { return o.outcome == Refused || o.outcome == Barred }

// Options of a history.
type Options struct {
	Limit           int   // most calls; 0 means a million
	Fsync           bool  // acknowledged changes survive power loss at once, otherwise within Lag
	DurableReceives bool  // acknowledged receives and changes of visibility survive it at once, with or without Fsync
	Lag             int64 // ns: how old a change may be that a power loss undoes; 0 means a second
	Slack           int64 // ns: how far the spool's clock may be from that of the history
	LateMoves       bool  // dead letters may wait for room, up to an hour
	Move            int64 // ns: how long dead letters may be under way while the next ones wait; 0 means a fiftieth of Lag
}

// A Log is the record of a history. Its methods may be called by any number of goroutines.
type Log struct {
	o Options

	mu     sync.Mutex
	stamp  uint64 // guarded by mu; of the latest event
	ops    []*Op  // guarded by mu; by call. Bound: o.Limit
	lost   int    // guarded by mu; calls beyond the limit
	queues []queue
	loses  bool // guarded by mu; there was a power loss, which may have undone something
}

type queue struct {
	name   string
	target QueueID
}

// New is an empty history.
func New(o Options) *Log {
	if o.Limit == 0 {
		o.Limit = 1_000_000
	}
	if o.Lag == 0 {
		o.Lag = 1_000_000_000
	}
	if o.Move == 0 {
		o.Move = o.grace()
	}
	return &Log{o: o}
}

// Queue declares a queue before it is created. target is the one that its dead letters go to, if it ever has any: it
// cannot change.
func (l *Log) Queue(name string, target QueueID) QueueID {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queues = append(l.queues, queue{name, target})
	return QueueID(len(l.queues) - 1)
}

// Call records that a call begins at an instant.
func (l *Log) Call(o *Op, now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ops) >= l.o.Limit {
		l.lost++
		return
	}
	l.stamp++
	o.call, o.begin, o.index = l.stamp, now, int32(len(l.ops))
	l.ops = append(l.ops, o)
}

// Return records how a call ended, and answers true. It answers false for what returns after the crash that it died in:
// that stays unknown, and nobody may make use of what it returned.
func (l *Log) Return(o *Op, outcome Outcome, now int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.outcome != Pending || o.call == 0 {
		return false
	}
	l.stamp++
	o.ret, o.end, o.outcome = l.stamp, now, outcome
	return true
}

// Crashed records a crash: it happens to every call that is under way, at one instant. works is the latest instant at
// which the store was known to work: what was written since may not have been made durable in the background.
func (l *Log) Crashed(power bool, now, works int64) {
	c := &Op{Verb: Crash, Queue: None, Power: power, works: works}
	l.Call(c, now)
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.ops) - 1; i >= 0; i-- {
		if o := l.ops[i]; o.outcome == Pending {
			o.outcome, o.ret, o.end = Unknown, c.call, now
		} else if o.Verb == Crash {
			break // whatever was under way then is settled
		}
	}
	c.outcome = OK
}

// Digest is what stands for a body in a history: the body itself when it is short.
func Digest(body []byte) string {
	if len(body) <= 32 {
		return string(body)
	}
	h := fnv.New64a()
	h.Write(body)
	return fmt.Sprintf("%q+%d#%x", body[:16], len(body)-16, h.Sum64())
}

// Hash is that of everything that was called and answered, at which instant. Two histories have the same one only if
// they are the same. Calls at one instant may have been recorded in either order.
func (l *Log) Hash() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sum uint64
	for _, o := range l.ops {
		h := fnv.New64a()
		fmt.Fprintln(h, o.begin, o.end, o.outcome)
		if o.outcome != OK {
			sum += h.Sum64()
			continue
		}
		fmt.Fprintln(h, l.text(o))
		for _, d := range o.Got {
			fmt.Fprintln(h, d.ID, d.Body, d.Receipt, d.Enqueued, d.FirstReceived, d.Visible, d.Receives, d.Rewinds)
		}
		fmt.Fprintln(h, o.IDs)
		sum += h.Sum64()
	}
	return sum
}

// Len is how many calls were recorded.
func (l *Log) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ops)
}

// Lines is the whole history to read, a line for each call, in the order of their begins.
func (l *Log) Lines() iter.Seq[string] {
	return func(yield func(string) bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, o := range l.ops {
			if !yield(l.line(o)) {
				return
			}
		}
	}
}
