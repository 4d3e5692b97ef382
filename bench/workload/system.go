// Package workload runs loads on message stores, measures them and checks that everything that went in came out: a run in
// which a message was lost, doubled or changed has no figure. It knows no store; what is measured is handed to it as a
// System. Package bench measures spool and its limits with it, the module bench/peers other systems.
package workload

import (
	"context"
	"fmt"
	"time"
)

// A Level is what the answer of a send or a delete means.
type Level uint8

const (
	Memory  Level = iota // nothing is on disk
	Written              // it survives the death of the process
	Fsync                // it survives power loss
)

func (l Level) String() string { return [...]string{"memory", "written", "fsync"}[l] }

// A System is something that can be measured.
type System struct {
	Name   string
	Config string // how it is set up, in one line
	Level  Level
	Batch  int  // messages that one send, receive or delete can take; 1: there are no batches
	Queues bool // has queues besides number 0
	Fresh  bool // the space of what was deleted is not used again: loads leave out their Dead

	// Bound is for systems that take long: storing messages that are only to be there ends after it (what is to be drained,
	// after twice that), a drain when it has measured for so long, and what goes through when it has taken so long to run
	// dry, each with as many messages as there are by then. 0: as many as the load says.
	Bound time.Duration

	// Open opens what is stored in dir, which exists, and creates it if there is nothing.
	Open opener
	// Quick opens the same without the promise of the level, for what is not measured: to store the backlog of a Drain,
	// and to read back what a Send has sent or a Drain has left. nil: that is done with Open.
	Quick opener
}

type opener = func(dir string) (Store, error)

func (s System) quick() opener {
	if s.Quick != nil {
		return s.Quick
	}
	return s.Open
}

// A Store is an open System. Its methods may be called from several goroutines.
type Store interface {
	Producer(queue int) (Producer, error)
	Consumer(queue int) (Consumer, error)
	Close() error
}

// A Producer sends. It is used by one goroutine at a time.
type Producer interface {
	// Send returns when the bodies are stored at the system's level. It keeps none of the slices.
	Send(ctx context.Context, bodies [][]byte) error
	Close() error
}

// A Consumer receives and acknowledges. It is used by one goroutine at a time.
type Consumer interface {
	// Receive waits until there is a message, then fills into as far as it can at once.
	Receive(ctx context.Context, into []Message) (int, error)
	// Delete acknowledges messages of this consumer's last Receive, and returns when that is stored at the system's level.
	Delete(ctx context.Context, ms []Message) error
	Close() error
}

// A Message is one that was received.
type Message struct {
	Body   []byte
	SentAt time.Time // when the store took it, if it says so; otherwise zero
	ID     uint64    // for the consumer: what Delete needs
	Handle any       // the same
}

// What a Store, a Producer or a Consumer may have besides.
type (
	// A Syncer counts what it has synced since it was opened.
	Syncer interface{ Syncs() int64 }
	// A Waiting tells how many receivers are blocked.
	Waiting interface{ Waiting() (int, error) }
	// A Delayer is a Producer that sends messages for later, one delay for each body.
	Delayer interface {
		SendDelayed(ctx context.Context, bodies [][]byte, delays []time.Duration) error
	}
	// A Trier is a Producer that can send to a blocked receiver or not at all.
	Trier interface{ Try(body []byte) bool }
	// An Outside is a Store whose memory is that of another process.
	Outside interface{ PID() int }
)

// A Load says what is done to a System.
type Load struct {
	Producers, Consumers int
	Batch                int // messages a call
	Size                 int // bytes a body
	Queues               int // that the producers share; 0 is 1

	Dead    int // messages sent and deleted before anything else, so that there is space to use again
	Backlog int // messages stored before the consumers start; Drain closes the store and opens it in between
	AtLeast int // messages to be drained, those of the warm-up counted

	Warm, Measure time.Duration // how long before measuring, and measuring at least
}

// A Result is what one run has shown.
type Result struct {
	Messages int64         // acknowledged in the time that was measured
	Took     time.Duration // that time: from the end of the warm-up to the last acknowledgement
	Calls    Latencies     // of the calls that were acknowledged in that time
	Syncs    int64         // fsyncs of the whole run by the store's own count; -1: it has none
	Flushes  int64         // cache flushes of the device in the whole run, whoever asked for them; -1: not known
	Backlog  int64         // stored before the consumers started
	Drained  int64         // of a Drain: deleted by its consumers, in the warm-up too
}

// Rate is the number of messages a second.
func (r Result) Rate() float64 { return float64(r.Messages) / r.Took.Seconds() }

func (l Load) queues() int { return max(1, l.Queues) }

// check refuses what the system cannot do.
func (l Load) check(sys System) error {
	if l.Batch > max(1, sys.Batch) {
		return fmt.Errorf("%w: batches of %d messages, at most %d", ErrCannot, l.Batch, max(1, sys.Batch))
	}
	if l.queues() > 1 && !sys.Queues {
		return fmt.Errorf("%w: more than one queue", ErrCannot)
	}
	return nil
}
