package main

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/spoolmq/spool"
)

// codeOf is the code that an SDK tells of an error.
func codeOf(err error) string {
	if e := smithy.APIError(nil); errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

// statusOf is the status that an SDK saw.
func statusOf(err error) int {
	if e := (interface{ HTTPStatusCode() int })(nil); errors.As(err, &e) {
		return e.HTTPStatusCode()
	}
	return 0
}

func is[E error](err error) bool { return errors.As(err, new(E)) }

func TestErrorsByType(t *testing.T) {
	s := newSite(t, nil, nil)
	ctx := t.Context()
	jobs := s.create("jobs", nil)
	nope := aws.String(s.url + "/000000000000/nope")
	x := aws.String("x")
	send := func(ids ...string) error {
		entries := []types.SendMessageBatchRequestEntry{} // the client refuses nil itself
		for _, id := range ids {
			entries = append(entries, types.SendMessageBatchRequestEntry{Id: &id, MessageBody: x})
		}
		_, err := s.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: jobs, Entries: entries})
		return err
	}
	big := strings.Repeat("x", 600<<10)
	for _, tt := range []struct {
		name   string
		err    error
		is     func(error) bool
		code   string
		status int
	}{
		{"a queue that is not there", errOf(s.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: nope})), is[*types.QueueDoesNotExist], "AWS.SimpleQueueService.NonExistentQueue", 400},
		{"a name that is not there", errOf(s.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: x})), is[*types.QueueDoesNotExist], "AWS.SimpleQueueService.NonExistentQueue", 400},
		{"a URL that is none", errOf(s.PurgeQueue(ctx, &sqs.PurgeQueueInput{QueueUrl: aws.String("http://[")})), is[*types.InvalidAddress], "InvalidAddress", 404},
		{"other attributes", errOf(s.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("jobs"), Attributes: map[string]string{"DelaySeconds": "9"}})), is[*types.QueueNameExists], "QueueAlreadyExists", 400},
		{"a name that is none", errOf(s.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("a b"), Attributes: map[string]string{"DelaySeconds": "9"}})), nil, "InvalidParameterValue", 400},
		{"a FIFO queue", errOf(s.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("a.fifo")})), is[*types.UnsupportedOperation], "AWS.SimpleQueueService.UnsupportedOperation", 400},
		{"tags", errOf(s.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: x, Tags: map[string]string{"a": "b"}})), is[*types.UnsupportedOperation], "AWS.SimpleQueueService.UnsupportedOperation", 400},
		{"tags of a queue", errOf(s.ListQueueTags(ctx, &sqs.ListQueueTagsInput{QueueUrl: jobs})), is[*types.UnsupportedOperation], "AWS.SimpleQueueService.UnsupportedOperation", 400},
		{"an empty batch", send(), is[*types.EmptyBatchRequest], "AWS.SimpleQueueService.EmptyBatchRequest", 400},
		{"eleven entries", send("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"), is[*types.TooManyEntriesInBatchRequest], "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", 400},
		{"an Id twice", send("1", "2", "1"), is[*types.BatchEntryIdsNotDistinct], "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", 400},
		{"an Id with a space", send("1 2"), is[*types.InvalidBatchEntryId], "AWS.SimpleQueueService.InvalidBatchEntryId", 400},
		{"a long Id", send(strings.Repeat("i", 81)), is[*types.InvalidBatchEntryId], "AWS.SimpleQueueService.InvalidBatchEntryId", 400},
		{"a batch of 1.2 MB", errOf(s.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: jobs, Entries: []types.SendMessageBatchRequestEntry{{Id: aws.String("a"), MessageBody: &big}, {Id: aws.String("b"), MessageBody: &big}}})), is[*types.BatchRequestTooLong], "AWS.SimpleQueueService.BatchRequestTooLong", 400},
		{"a NUL", errOf(s.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: jobs, MessageBody: aws.String("a\x00")})), is[*types.InvalidMessageContents], "InvalidMessageContents", 400},
		{"a body of 1 MiB and a byte", errOf(s.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: jobs, MessageBody: aws.String(strings.Repeat("x", 1<<20+1))})), nil, "InvalidParameterValue", 400},
		{"deduplication", errOf(s.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: jobs, MessageBody: x, MessageDeduplicationId: x})), nil, "InvalidParameterValue", 400},
		{"a delay of 901 s", errOf(s.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: jobs, MessageBody: x, DelaySeconds: 901})), nil, "InvalidParameterValue", 400},
		{"11 messages", errOf(s.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: jobs, MaxNumberOfMessages: 11})), nil, "InvalidParameterValue", 400},
		{"a wait of 21 s", errOf(s.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: jobs, WaitTimeSeconds: 21})), nil, "InvalidParameterValue", 400},
		{"a wait of -1 s", errOf(s.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: jobs, WaitTimeSeconds: -1})), nil, "InvalidParameterValue", 400},
		{"a visibility of 43201 s", errOf(s.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: jobs, VisibilityTimeout: 43201})), nil, "InvalidParameterValue", 400},
		{"an attribute of messages", errOf(s.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: jobs, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"No"}})), is[*types.InvalidAttributeName], "InvalidAttributeName", 400},
		{"an attribute of queues", errOf(s.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: jobs, AttributeNames: []types.QueueAttributeName{"No"}})), is[*types.InvalidAttributeName], "InvalidAttributeName", 400},
		{"a receipt that is none", errOf(s.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: jobs, ReceiptHandle: x})), is[*types.ReceiptHandleIsInvalid], "ReceiptHandleIsInvalid", 404},
		{"a lease on nothing", errOf(s.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: jobs, ReceiptHandle: x})), is[*types.ReceiptHandleIsInvalid], "ReceiptHandleIsInvalid", 404},
	} {
		if tt.is != nil && !tt.is(tt.err) || codeOf(tt.err) != tt.code || statusOf(tt.err) != tt.status {
			t.Errorf("%s: %v (%d), want %s (%d) and its type", tt.name, tt.err, statusOf(tt.err), tt.code, tt.status)
		}
	}
	if n := s.attributes(jobs, "All")["ApproximateNumberOfMessages"]; n != "0" {
		t.Errorf("%s messages are there after nothing but errors", n)
	}
}

func errOf[T any](_ T, err error) error { return err }

func TestBadMessageAttributes(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", nil)
	eleven := map[string]types.MessageAttributeValue{}
	for i := range 11 {
		eleven[string(rune('a'+i))] = textValue("String", "x")
	}
	for name, attrs := range map[string]map[string]types.MessageAttributeValue{
		"eleven":          eleven,
		"no type":         {"a": textValue("", "x")},
		"another type":    {"a": textValue("Bool", "true")},
		"an empty value":  {"a": textValue("String", "")},
		"no number":       {"a": textValue("Number", "0x10")},
		"bytes in String": {"a": {DataType: aws.String("String"), BinaryValue: []byte("x")}},
		"text in Binary":  {"a": textValue("Binary", "x")},
		"a list":          {"a": {DataType: aws.String("String"), StringValue: aws.String("x"), StringListValues: []string{"x"}}},
		"AWS's name":      {"AWS.x": textValue("String", "x")},
		"a colon":         {"a:type": textValue("String", "x")},
		"two dots":        {"a..b": textValue("String", "x")},
		"a dot at last":   {"a.": textValue("String", "x")},
		"a long name":     {strings.Repeat("a", 257): textValue("String", "x")},
		"more than spool": {"a": textValue("String", strings.Repeat("x", 65<<10))},
	} {
		_, err := s.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: jobs, MessageBody: aws.String("x"), MessageAttributes: attrs})
		if codeOf(err) != "InvalidParameterValue" || statusOf(err) != 400 {
			t.Errorf("%s: %v, want InvalidParameterValue", name, err)
		}
	}
	_, err := s.SendMessage(t.Context(), &sqs.SendMessageInput{
		QueueUrl: jobs, MessageBody: aws.String("x"),
		MessageSystemAttributes: map[string]types.MessageSystemAttributeValue{"Other": {DataType: aws.String("String"), StringValue: aws.String("x")}},
	})
	if codeOf(err) != "InvalidParameterValue" {
		t.Errorf("a system attribute of one's own: %v, want InvalidParameterValue", err)
	}
}

// Every error of spool has a status: what is worth another attempt has one of those that make SDKs try again.
func TestTranslate(t *testing.T) {
	for _, tt := range []struct {
		err    error
		shape  string
		status int
	}{
		{spool.ErrQueueNotFound, "QueueDoesNotExist", 400},
		{spool.ErrQueueFull, "OverLimit", 403},
		{spool.ErrMessageTooLarge, "InvalidParameterValue", 400},
		{spool.ErrClosed, "ServiceUnavailable", 503},
		{spool.ErrNoSpace, "ServiceUnavailable", 503},
		{spool.ErrStoreFailed, "InternalError", 500},
		{spool.ErrCorrupt, "InternalError", 500},
		{errors.New("disk /secret/path is on fire"), "InternalError", 500},
	} {
		r, _ := http.NewRequest(http.MethodPost, "/", nil)
		h := http.Header{}
		status, text := failure(h, r, tt.err)
		var body struct {
			Type    string `json:"__type"`
			Message string `json:"message"`
		}
		check(t, json.Unmarshal(text, &body))
		if status != tt.status || body.Type != "com.amazonaws.sqs#"+tt.shape || body.Message == "" || strings.Contains(body.Message, "secret") {
			t.Errorf("%v is answered with %d %s", tt.err, status, text)
		}
		if len(h) != 0 {
			t.Errorf("headers are %v for a client that did not ask", h)
		}
		r.Header.Set("X-Amzn-Query-Mode", "true")
		failure(h, r, tt.err)
		want := "Sender"
		if status >= 500 {
			want = "Receiver"
		}
		if got := h.Get("X-Amzn-Query-Error"); !strings.HasSuffix(got, ";"+want) {
			t.Errorf("the old code of %v is %q, want it the fault of the %s", tt.err, got, want)
		}
	}
}

// isNetwork tells whether a call ended because the server did.
func isNetwork(err error) bool {
	return is[*net.OpError](err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
