package spool

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spoolmq/spool/store"
)

// Every failure of this package answers errors.Is with one of these, and [CodeOf] with CMQ's number. The only other
// errors a call returns are those of its context, as they are.
var (
	ErrNoMessage         = errors.New("spool: no message")                            // 7000 nothing to receive within the wait
	ErrQueueNotFound     = errors.New("spool: queue not found")                       // 4440
	ErrQueueExists       = errors.New("spool: queue exists")                          // 4460 names are unique ignoring case
	ErrInvalidArgument   = errors.New("spool: invalid argument")                      // 4000 *ArgumentError
	ErrMessageTooLarge   = errors.New("spool: message too large")                     // 4400 Meta.MaxMessageSize
	ErrQueueFull         = errors.New("spool: queue full")                            // 4410 Meta.MaxMessages
	ErrBatchTooLarge     = errors.New("spool: batch too large")                       // 4470 MaxBatchBytes
	ErrInvalidReceipt    = errors.New("spool: invalid receipt")                       // 4430 *ReceiptError
	ErrBatchPartial      = errors.New("spool: batch failed in part")                  // 6010, 6020 *BatchError
	ErrRewindDisabled    = errors.New("spool: rewind disabled")                       // 6050 Meta.Rewind is 0
	ErrInvalidRewindTime = errors.New("spool: invalid rewind time")                   // 4000 *RewindRangeError
	ErrClosed            = errors.New("spool: closed")                                // used after Close
	ErrLocked            = errors.New("spool: directory is open already")             // the text has its pid
	ErrCorrupt           = store.ErrCorrupt                                           // *CorruptError: what is stored is not what was written; nothing was deleted
	ErrFormatVersion     = errors.New("spool: written by a newer version")            // nothing was changed
	ErrNoSpace           = errors.New("spool: no space left on device")               // nothing of the call was stored
	ErrStoreFailed       = errors.New("spool: store failed, outcome of call unknown") // an I/O error; every call is refused until the spool is opened again
)

var codes = []struct { // the first that matches counts
	err  error
	code int
}{
	{ErrInvalidArgument, 4000}, // before ErrQueueNotFound: a missing dead-letter queue answers both
	{ErrInvalidRewindTime, 4000},
	{ErrNoMessage, 7000},
	{ErrQueueNotFound, 4440},
	{ErrQueueExists, 4460},
	{ErrMessageTooLarge, 4400},
	{ErrQueueFull, 4410},
	{ErrBatchTooLarge, 4470},
	{ErrInvalidReceipt, 4430},
	{ErrRewindDisabled, 6050},
	{ErrBatchPartial, codeBatchPartial},
}

const (
	codeBatchPartial = 6010
	codeBatchFailed  = 6020
	codeOther        = 6000
)

// CodeOf returns CMQ's code for an error of this package, looking through wrapping: 0 for nil, 6000 for an error that
// CMQ has no number for, those of contexts and of other packages included.
func CodeOf(err error) int {
	if err == nil {
		return 0
	}
	if b := (*BatchError)(nil); errors.As(err, &b) {
		return b.code()
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return codeOther
}

// An ArgumentError says which argument was refused. It answers errors.Is with ErrInvalidArgument, and with
// ErrQueueNotFound as well when the queue that a DeadLetter names does not exist.
type ArgumentError struct {
	Name  string // the argument, or the path of its field: "Meta.Delay"
	Value any    // what was given; never a body or an attribute of a message
	Limit string // what is allowed

	cause error
}

func badArgument(name string, value any, limit string) error {
	return &ArgumentError{Name: name, Value: value, Limit: limit}
}

func (e *ArgumentError) Error() string {
	return fmt.Sprintf("%v: %s is %s, want %s", ErrInvalidArgument, e.Name, valueText(e.Value), e.Limit)
}

func (e *ArgumentError) Is(target error) bool { return target == ErrInvalidArgument }

func (e *ArgumentError) Unwrap() error { return e.cause }

// valueText is a value as an error's text shows it. Bound: what a caller hands in may be megabytes.
func valueText(v any) string {
	const most = 128
	text, quoted := v.(string)
	if !quoted {
		text = fmt.Sprint(v)
	}
	dots := ""
	if len(text) > most {
		cut := most
		for cut > most-utf8.UTFMax && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text, dots = text[:cut], fmt.Sprintf("… (%d bytes)", len(text))
	}
	if quoted {
		text = fmt.Sprintf("%q", text)
	}
	return text + dots
}

// A Reason says why a receipt was refused.
type Reason string

// The reasons, in their order of precedence: the first that is true counts.
const (
	Malformed  Reason = "Malformed"  // not a receipt of this spool
	WrongQueue Reason = "WrongQueue" // of another queue, an earlier one of the same name included
	Deleted    Reason = "Deleted"    // the message was deleted by this receipt
	Stale      Reason = "Stale"      // the message was received again, or rewound, since
	Gone       Reason = "Gone"       // the message is here no longer: retention over, purged, dead-lettered, or deleted and forgotten
	Expired    Reason = "Expired"    // the lease is over and nobody has received the message again
)

// A ReceiptError says why a receipt was refused. It answers errors.Is with ErrInvalidReceipt.
type ReceiptError struct{ Reason Reason }

func (e *ReceiptError) Error() string { return fmt.Sprintf("%v: %s", ErrInvalidReceipt, e.Reason) }

func (e *ReceiptError) Is(target error) bool { return target == ErrInvalidReceipt }

// A BatchError names the items of a batch that failed, lowest index first; all others succeeded. It answers errors.Is
// with ErrBatchPartial. [CodeOf] is 6010 when some succeeded and 6020 when none did.
type BatchError struct {
	Failed []ItemError

	total int // items of the call
}

// An ItemError is the failure of one item of a batch.
type ItemError struct {
	Index   int    // place in the slice that was given
	Receipt string // as it was given
	Err     error
}

func (e *BatchError) Error() string {
	if len(e.Failed) == 0 {
		return ErrBatchPartial.Error()
	}
	first := e.Failed[0]
	return fmt.Sprintf("%v: %d of %d, first at index %d: %v", ErrBatchPartial, len(e.Failed), e.total, first.Index, first.Err)
}

func (e *BatchError) Is(target error) bool { return target == ErrBatchPartial }

func (e *BatchError) code() int {
	if e.total > 0 && len(e.Failed) >= e.total {
		return codeBatchFailed
	}
	return codeBatchPartial
}

// A RewindRangeError has the range that a rewind was allowed at the time of the call, both ends included. It answers
// errors.Is with ErrInvalidRewindTime.
type RewindRangeError struct{ Earliest, Latest time.Time }

func (e *RewindRangeError) Error() string {
	return fmt.Sprintf("%v: allowed from %s to %s", ErrInvalidRewindTime,
		e.Earliest.Format(time.RFC3339Nano), e.Latest.Format(time.RFC3339Nano))
}

func (e *RewindRangeError) Is(target error) bool { return target == ErrInvalidRewindTime }

// A CorruptError says that what is stored is not what was written, and where. It answers errors.Is with ErrCorrupt.
type CorruptError = store.CorruptError

// A storageError is a failure of the store in this package's words. What the failure was below stays in the text only:
// no other package's error can be reached through it, but for *CorruptError.
type storageError struct {
	sentinel error
	text     string
	corrupt  *CorruptError // nil for all others
}

func (e *storageError) Error() string { return e.text }

func (e *storageError) Is(target error) bool { return target == e.sentinel }

func (e *storageError) Unwrap() error {
	if e.corrupt == nil {
		return nil
	}
	return e.corrupt
}

// storeError translates an error of the store, the index or the file system. What it does not know is an I/O error:
// ErrStoreFailed. Errors of contexts and errors that are translated already pass as they are.
func storeError(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), isOurs(err):
		return err
	case errors.Is(err, store.ErrNotStore):
		return badArgument("dir", err.Error(), "an empty directory, or a spool")
	}
	if c := (*CorruptError)(nil); errors.As(err, &c) {
		return &storageError{ErrCorrupt, prefixed(err), c}
	}
	for _, t := range [...]struct{ from, to error }{
		{store.ErrCorrupt, ErrCorrupt},
		{store.ErrLocked, ErrLocked},
		{store.ErrFormatVersion, ErrFormatVersion},
		{store.ErrNoSpace, ErrNoSpace},
		{store.ErrClosed, ErrClosed},
	} {
		if errors.Is(err, t.from) {
			return &storageError{t.to, prefixed(err), nil}
		}
	}
	return &storageError{ErrStoreFailed, ErrStoreFailed.Error() + ": " + err.Error(), nil}
}

func prefixed(err error) string { return "spool: " + strings.TrimPrefix(err.Error(), "spool: ") }

// isOurs reports whether err needs no translation: it begins with an error that this file makes.
func isOurs(err error) bool {
	switch err.(type) {
	case *storageError, *ArgumentError, *ReceiptError, *BatchError, *RewindRangeError:
		return true
	}
	for _, ours := range [...]error{ErrNoMessage, ErrQueueNotFound, ErrQueueExists, ErrMessageTooLarge, ErrQueueFull,
		ErrBatchTooLarge, ErrRewindDisabled, ErrClosed, ErrLocked, ErrFormatVersion, ErrNoSpace, ErrStoreFailed} {
		if errors.Is(err, ours) {
			return true
		}
	}
	return false
}
