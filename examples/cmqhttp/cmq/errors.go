package cmq

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spoolmq/spool"
)

// codeInternal is the code of what is not the client's fault.
const codeInternal = 6000

// An apiError is an answer in CMQ's numbers. As an error it is one that is no success.
type apiError struct {
	code, module int // both 0 is success
	text         string
	members      reply // beside code, message and requestId; nil for most errors
}

func (e *apiError) Error() string { return e.message() }

// message is CMQ's: the module's number stands in front of the text.
func (e *apiError) message() string {
	if e.code == 0 {
		return ""
	}
	return fmt.Sprintf("(%d)%s", e.module, e.text)
}

func fail(code, module int, format string, args ...any) error {
	return &apiError{code: code, module: module, text: fmt.Sprintf(format, args...)}
}

// answers are CMQ's for the errors of a spool; the first that matches counts. An ErrInvalidArgument is in argumentError.
var answers = []struct {
	err          error
	code, module int
	text         string
}{
	{spool.ErrInvalidRewindTime, 4000, 10680, "invalid rewind time, it must be between now - rewindSeconds and now"},
	{spool.ErrNoMessage, 7000, 10200, "no message"},
	{spool.ErrQueueNotFound, 4440, 10100, "queue is not existed, or deleted"},
	{spool.ErrQueueExists, 4460, 4460, "queue is already existed, case insensitive"},
	{spool.ErrMessageTooLarge, 4400, 10230, "message exceeds maxMsgSize"},
	{spool.ErrQueueFull, 4410, 10240, "maxMsgHeapNum messages are in the queue"},
	{spool.ErrBatchTooLarge, 4470, 10300, "total message size is too large"},
	{spool.ErrRewindDisabled, 6050, 10670, "your queue cannot be rewinded: rewindSeconds is 0"},
	{spool.ErrNoSpace, codeInternal, 10050, "no space is left on the server's disk"},
}

// translate returns the answer for an error of an action. What CMQ has no number for is an internal error: the client
// learns nothing of its text, which may name files; the log does.
func translate(err error) *apiError {
	if e := (*apiError)(nil); errors.As(err, &e) {
		return e
	}
	if e := (*spool.ReceiptError)(nil); errors.As(err, &e) {
		if e.Reason == spool.Malformed {
			return &apiError{code: 4000, module: 10470, text: "receiptHandle error: it is not of this server"}
		}
		return &apiError{code: 4430, module: 10260, text: "receipt handle is invalid: " + string(e.Reason)}
	}
	if e := (*spool.ArgumentError)(nil); errors.As(err, &e) {
		return argumentError(e)
	}
	for _, a := range answers {
		if errors.Is(err, a.err) {
			return &apiError{code: a.code, module: a.module, text: a.text}
		}
	}
	return &apiError{code: codeInternal, module: 10050, text: "internal error"}
}

// argumentError is for what only a spool can tell: how the settings of a queue go together with each other and with
// those of other queues. Ranges are checked before.
func argumentError(e *spool.ArgumentError) *apiError {
	switch {
	case e.Name == "name":
		return &apiError{code: 4000, module: 10020, text: "queue name format error, want " + e.Limit}
	case e.Name == "queue":
		return &apiError{code: 4000, module: 10750, text: "the queue is the dead letter queue of another one"}
	case e.Name == "Meta.Rewind":
		return &apiError{code: 4000, module: 10700, text: "rewindSeconds cannot be greater than msgRetentionSeconds"}
	case e.Name == "Meta.DeadLetter.Queue" && errors.Is(e, spool.ErrQueueNotFound):
		return &apiError{code: 4000, module: 10730, text: "the dead letter queue is not existed"}
	case strings.HasPrefix(e.Name, "Meta.DeadLetter"):
		return &apiError{code: 4000, module: 10740, text: "deadLetterPolicy is refused, want " + shown(e.Limit)}
	case strings.HasSuffix(e.Name, "Delay"):
		return &apiError{code: 4000, module: 10692, text: "delaySeconds is out of range: it must be less than msgRetentionSeconds"}
	}
	return &apiError{code: 4000, module: 10350, text: shown(e.Name) + " is out of range, want " + shown(e.Limit)}
}
