package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spoolmq/spool"
)

// An apiError is an error as SQS clients know it, by the name of its shape.
type apiError struct {
	shape string
	text  string
}

func (e *apiError) Error() string { return e.shape + ": " + e.text }

func refuse(shape, format string, args ...any) error {
	return &apiError{shape, fmt.Sprintf(format, args...)}
}

const oldPrefix = "AWS.SimpleQueueService."

// shapes has what differs from status 400 and a code of the query protocol that is the shape's name.
var shapes = map[string]struct {
	status int
	old    string // "" = the shape's name
}{
	"QueueDoesNotExist":            {400, oldPrefix + "NonExistentQueue"},
	"QueueNameExists":              {400, "QueueAlreadyExists"},
	"BatchEntryIdsNotDistinct":     {400, oldPrefix + "BatchEntryIdsNotDistinct"},
	"BatchRequestTooLong":          {400, oldPrefix + "BatchRequestTooLong"},
	"EmptyBatchRequest":            {400, oldPrefix + "EmptyBatchRequest"},
	"InvalidBatchEntryId":          {400, oldPrefix + "InvalidBatchEntryId"},
	"TooManyEntriesInBatchRequest": {400, oldPrefix + "TooManyEntriesInBatchRequest"},
	"MessageNotInflight":           {400, oldPrefix + "MessageNotInflight"},
	"UnsupportedOperation":         {400, oldPrefix + "UnsupportedOperation"},
	"ReceiptHandleIsInvalid":       {404, ""},
	"InvalidAddress":               {404, ""},
	"OverLimit":                    {403, ""},
	"InvalidSecurity":              {403, ""},
	"InvalidClientTokenId":         {403, ""},
	"SignatureDoesNotMatch":        {403, ""},
	"MethodNotAllowed":             {405, ""},
	"RequestTimeout":               {408, ""},
	"RequestEntityTooLarge":        {413, ""},
	internalError:                  {500, ""},
	unavailable:                    {503, ""},
}

const (
	internalError = "InternalError"
	unavailable   = "ServiceUnavailable"
)

func (e *apiError) status() int {
	if s, ok := shapes[e.shape]; ok {
		return s.status
	}
	return http.StatusBadRequest
}

func (e *apiError) old() string {
	if s := shapes[e.shape]; s.old != "" {
		return s.old
	}
	return e.shape
}

func (e *apiError) senderFault() bool { return e.status() < http.StatusInternalServerError }

// translate puts an error of spool into the words of SQS. 5xx is what is worth another attempt: SDKs make one by
// themselves.
func translate(err error) *apiError {
	if ours := (*apiError)(nil); errors.As(err, &ours) {
		return ours
	}
	for _, t := range [...]struct {
		err   error
		shape string
	}{
		{spool.ErrInvalidArgument, "InvalidParameterValue"}, // before ErrQueueNotFound: a missing dead-letter queue answers both
		{spool.ErrQueueNotFound, "QueueDoesNotExist"},
		{spool.ErrQueueExists, "QueueNameExists"},
		{spool.ErrMessageTooLarge, "InvalidParameterValue"},
		{spool.ErrBatchTooLarge, "BatchRequestTooLong"},
		{spool.ErrQueueFull, "OverLimit"},
		{spool.ErrInvalidReceipt, "ReceiptHandleIsInvalid"},
		{spool.ErrRewindDisabled, "UnsupportedOperation"},
		{spool.ErrInvalidRewindTime, "InvalidParameterValue"},
		{spool.ErrClosed, unavailable},
		{spool.ErrNoSpace, unavailable}, // nothing was stored, and space comes back
		{context.Canceled, unavailable}, // the client is gone; only the log has this
	} {
		if errors.Is(err, t.err) {
			return &apiError{t.shape, strings.TrimPrefix(err.Error(), "spool: ")}
		}
	}
	return &apiError{internalError, "the request failed inside the server"}
}

func shapeOf(err error) string { return translate(err).shape }

// failure is an error as a reply: the status, the body, and in h the code of the query protocol when it is asked for.
func failure(h http.Header, r *http.Request, err error) (status int, text []byte) {
	e := translate(err)
	fault := "Receiver"
	if e.senderFault() {
		fault = "Sender"
	}
	if r.Header.Get("X-Amzn-Query-Mode") == "true" {
		h.Set("X-Amzn-Query-Error", e.old()+";"+fault)
	}
	text, marshalErr := marshal(struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}{"com.amazonaws.sqs#" + e.shape, e.text})
	if marshalErr != nil {
		return http.StatusInternalServerError, nil
	}
	return e.status(), text
}
