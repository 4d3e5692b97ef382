package main

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/spoolmq/spool"
)

func TestMessage(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", nil)
	body := "grüße <&> \u2028 \"quoted\" \t\r\n 😀"
	before := time.Now().UnixMilli()
	id := s.send(jobs, body)

	m := s.receiveOne(jobs)
	if *m.Body != body || *m.MessageId != id || *m.MD5OfBody != sumOf(body) {
		t.Errorf("received %q, %s, digest %s", *m.Body, *m.MessageId, *m.MD5OfBody)
	}
	sent, _ := strconv.ParseInt(m.Attributes["SentTimestamp"], 10, 64)
	first, _ := strconv.ParseInt(m.Attributes["ApproximateFirstReceiveTimestamp"], 10, 64)
	if now := time.Now().UnixMilli(); sent < before || first < sent || first > now {
		t.Errorf("sent at %d, first received at %d, want them in this order between %d and %d", sent, first, before, now)
	}
	if m.Attributes["ApproximateReceiveCount"] != "1" || m.Attributes["SenderId"] == "" {
		t.Errorf("system attributes are %v", m.Attributes)
	}
	s.delete(jobs, m)
	s.delete(jobs, m) // what an SDK does that lost the answer

	out, err := s.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: jobs})
	if err != nil || len(out.Messages) != 0 {
		t.Errorf("an empty queue answers %v, %v, want a success without messages", out, err)
	}
}

func sumOf(text string) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// digest is the digest of message attributes, written down anew from its description.
func digest(attrs map[string]types.MessageAttributeValue) string {
	h := md5.New()
	field := func(b []byte) {
		n := len(b)
		_, _ = h.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		_, _ = h.Write(b)
	}
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		field([]byte(name))
		field([]byte(*attrs[name].DataType))
		if v := attrs[name]; v.StringValue != nil {
			_, _ = io.WriteString(h, "\x01")
			field([]byte(*v.StringValue))
		} else {
			_, _ = io.WriteString(h, "\x02")
			field(v.BinaryValue)
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func textValue(dataType, value string) types.MessageAttributeValue {
	return types.MessageAttributeValue{DataType: &dataType, StringValue: &value}
}

func TestMessageAttributes(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", nil)
	attrs := map[string]types.MessageAttributeValue{
		"country":    textValue("String", "Österreich"),
		"order.id":   textValue("Number", "-12345678901234567890.5"),
		"order.size": textValue("Number.float", "1e3"),
		"order2":     textValue("String.url", "https://example.org/?a=b"),
		"blob":       {DataType: aws.String("Binary"), BinaryValue: []byte{0, 255, 128, ':', 1}},
		"png":        {DataType: aws.String("Binary.png"), BinaryValue: []byte("plain")},
	}
	trace := types.MessageSystemAttributeValue{DataType: aws.String("String"), StringValue: aws.String("Root=1-5759e988-bd862e3fe1be46a994272793")}
	sent, err := s.SendMessage(t.Context(), &sqs.SendMessageInput{
		QueueUrl: jobs, MessageBody: aws.String("x"), MessageAttributes: attrs, MessageGroupId: aws.String("tenant 7"),
		MessageSystemAttributes: map[string]types.MessageSystemAttributeValue{"AWSTraceHeader": trace},
	})
	check(t, err)
	if *sent.MD5OfMessageAttributes != digest(attrs) {
		t.Errorf("the send's digest is %s, want %s", *sent.MD5OfMessageAttributes, digest(attrs))
	}
	want := digest(map[string]types.MessageAttributeValue{"AWSTraceHeader": textValue("String", *trace.StringValue)})
	if *sent.MD5OfMessageSystemAttributes != want {
		t.Errorf("the send's digest of system attributes is %s, want %s", *sent.MD5OfMessageSystemAttributes, want)
	}

	for _, tt := range []struct {
		asked, want []string
	}{
		{nil, nil},
		{[]string{"nothing"}, nil},
		{[]string{"country", "nothing"}, []string{"country"}},
		{[]string{"order.*"}, []string{"order.id", "order.size", "order2"}},
		{[]string{"order.*", "png"}, []string{"order.id", "order.size", "order2", "png"}},
		{[]string{"All"}, slices.Sorted(maps.Keys(attrs))},
		{[]string{".*"}, slices.Sorted(maps.Keys(attrs))},
	} {
		// A lease of the least length: the next receive has the message again.
		visible(t, s, jobs)
		out, err := s.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: jobs, WaitTimeSeconds: 10, MessageAttributeNames: tt.asked,
			//lint:ignore SA1019 older programs ask so
			AttributeNames: []types.QueueAttributeName{"AWSTraceHeader", "MessageGroupId"},
		})
		check(t, err)
		m := out.Messages[0]
		subset := map[string]types.MessageAttributeValue{}
		for _, name := range tt.want {
			subset[name] = attrs[name]
		}
		if !slices.Equal(slices.Sorted(maps.Keys(m.MessageAttributes)), tt.want) {
			t.Errorf("asked for %v: got %v, want %v", tt.asked, slices.Sorted(maps.Keys(m.MessageAttributes)), tt.want)
		}
		for name, v := range m.MessageAttributes {
			w := attrs[name]
			if *v.DataType != *w.DataType || aws.ToString(v.StringValue) != aws.ToString(w.StringValue) || !bytes.Equal(v.BinaryValue, w.BinaryValue) {
				t.Errorf("%s = %s, %q, %q", name, *v.DataType, aws.ToString(v.StringValue), v.BinaryValue)
			}
		}
		if len(subset) > 0 && aws.ToString(m.MD5OfMessageAttributes) != digest(subset) || len(subset) == 0 && m.MD5OfMessageAttributes != nil {
			t.Errorf("asked for %v: the digest is %s, want %s", tt.asked, aws.ToString(m.MD5OfMessageAttributes), digest(subset))
		}
		own := map[string]string{"AWSTraceHeader": *trace.StringValue, "MessageGroupId": "tenant 7"}
		if !maps.Equal(m.Attributes, own) {
			t.Errorf("system attributes are %v, want %v", m.Attributes, own)
		}
	}
}

// visible ends all leases of a queue.
func visible(t *testing.T, s *site, queue *string) {
	t.Helper()
	_, err := s.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{
		QueueUrl: queue, Attributes: map[string]string{"VisibilityTimeout": "0"},
	})
	check(t, err)
}

// A program that embeds the spool reads what SQS clients send, and the other way round.
func TestEmbedded(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", nil)
	q, err := s.spool.Queue("jobs")
	check(t, err)
	_, err = s.SendMessage(t.Context(), &sqs.SendMessageInput{
		QueueUrl: jobs, MessageBody: aws.String("x"),
		MessageAttributes: map[string]types.MessageAttributeValue{"country": textValue("String", "PT"), "n": textValue("Number", "7")},
	})
	check(t, err)
	d, err := q.Receive(t.Context())
	check(t, err)
	if want := map[string]string{"country": "PT", "n": "7", "n:type": "Number"}; !maps.Equal(d.Attributes, want) {
		t.Errorf("the spool holds %v, want %v", d.Attributes, want)
	}
	check(t, d.Delete(t.Context()))

	_, err = q.Send(t.Context(), spool.Message{
		Body:       []byte{'a', 0xff},
		Attributes: map[string]string{"trace id": "1", "raw": "\xff\x00", "x:type": "alone", "raw:type": "Number", "bad\xffname": "v"},
	})
	check(t, err)
	m := s.receiveOne(jobs)
	if *m.Body != "Yf8=" || *m.MD5OfBody != sumOf("Yf8=") {
		t.Errorf("a body that is not UTF-8 came as %q", *m.Body)
	}
	got := map[string]string{}
	for name, v := range m.MessageAttributes {
		got[name] = *v.DataType + " " + aws.ToString(v.StringValue) + string(v.BinaryValue)
	}
	want := map[string]string{"trace id": "String 1", "raw": "Binary \xff\x00", "x:type": "String alone"}
	if !maps.Equal(got, want) {
		t.Errorf("attributes came as %q, want %q", got, want)
	}
}

func TestSendBatch(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", map[string]string{"MaximumMessageSize": "1024"})
	entry := func(id, body string) types.SendMessageBatchRequestEntry {
		return types.SendMessageBatchRequestEntry{Id: &id, MessageBody: &body}
	}
	late := entry("late", "later")
	late.DelaySeconds = 901
	odd := entry("odd", "x")
	odd.MessageAttributes = map[string]types.MessageAttributeValue{"n": textValue("Number", "seven")}
	wide := entry("wide", strings.Repeat("x", 1020))
	wide.MessageAttributes = map[string]types.MessageAttributeValue{"n": textValue("Number", "7")}
	full := entry("full", "y")
	full.MessageAttributes = map[string]types.MessageAttributeValue{"n": textValue("Number", "7")}
	out, err := s.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: jobs, Entries: []types.SendMessageBatchRequestEntry{
		entry("one", "first"), late, entry("empty", ""), odd, wide, entry("long", strings.Repeat("x", 1025)), entry("nul", "a\x00"), full, entry("two", "last"),
	}})
	check(t, err)
	var good []string
	for _, e := range out.Successful {
		good = append(good, *e.Id)
		if *e.MessageId == "" {
			t.Errorf("%s has no MessageId", *e.Id)
		}
	}
	if !slices.Equal(good, []string{"one", "full", "two"}) {
		t.Errorf("successful are %v", good)
	}
	if e := out.Successful[1]; *e.MD5OfMessageBody != sumOf("y") || *e.MD5OfMessageAttributes != digest(full.MessageAttributes) {
		t.Errorf("digests are %s and %s", *e.MD5OfMessageBody, *e.MD5OfMessageAttributes)
	}
	failed := map[string]string{}
	for _, e := range out.Failed {
		failed[*e.Id] = *e.Code
		if !e.SenderFault || *e.Message == "" {
			t.Errorf("%s failed with %q, sender's fault %v", *e.Id, *e.Message, e.SenderFault)
		}
	}
	want := map[string]string{
		"late": "InvalidParameterValue", "empty": "MissingParameter", "odd": "InvalidParameterValue",
		"wide": "InvalidParameterValue", "long": "InvalidParameterValue", "nul": "InvalidMessageContents",
	}
	if !maps.Equal(failed, want) {
		t.Errorf("failed are %v, want %v", failed, want)
	}
	if n := s.attributes(jobs, "ApproximateNumberOfMessages")["ApproximateNumberOfMessages"]; n != "3" {
		t.Errorf("%s messages are there, want 3", n)
	}
}

// What the queue has no room for fails by itself; the others are stored.
func TestSendBatchIntoFullQueue(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", nil)
	q, err := s.spool.Queue("jobs")
	check(t, err)
	check(t, q.SetMeta(t.Context(), func(m *spool.Meta) { m.MaxMessages = 2 }))
	var in sqs.SendMessageBatchInput
	in.QueueUrl = jobs
	for _, id := range []string{"a", "b", "c"} {
		in.Entries = append(in.Entries, types.SendMessageBatchRequestEntry{Id: aws.String(id), MessageBody: aws.String(id)})
	}
	out, err := s.SendMessageBatch(t.Context(), &in)
	check(t, err)
	if len(out.Successful) != 2 || len(out.Failed) != 1 || *out.Failed[0].Id != "c" || *out.Failed[0].Code != "OverLimit" {
		t.Errorf("a queue for 2 took %d of 3, and %v", len(out.Successful), out.Failed)
	}
	_, err = s.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: jobs, MessageBody: aws.String("d")})
	if e := (*types.OverLimit)(nil); !errors.As(err, &e) {
		t.Errorf("a full queue answers %v, want OverLimit", err)
	}
}

func TestDelay(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", map[string]string{"DelaySeconds": "900"})
	start := time.Now()
	_, err := s.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: jobs, MessageBody: aws.String("soon"), DelaySeconds: 1})
	check(t, err)
	s.send(jobs, "in a quarter of an hour")
	if n := s.attributes(jobs, "All")["ApproximateNumberOfMessagesDelayed"]; n != "2" {
		t.Errorf("%s messages are delayed, want 2", n)
	}
	if m := s.receiveOne(jobs); *m.Body != "soon" || time.Since(start) < time.Second {
		t.Errorf("received %q after %v, want the message with a delay of 1 s", *m.Body, time.Since(start))
	}
	// The Go client leaves out a delay of 0, others send it.
	status, text := s.post("SendMessage", fmt.Sprintf(`{"QueueUrl":%q,"MessageBody":"now","DelaySeconds":0}`, *jobs))
	if status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	if m := s.receiveOne(jobs); *m.Body != "now" {
		t.Errorf("received %q, want the message without a delay", *m.Body)
	}
}

func TestVisibility(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", map[string]string{"VisibilityTimeout": "3600"})
	s.send(jobs, "one")
	first := s.receiveOne(jobs)
	change := func(m types.Message, seconds int32) error {
		_, err := s.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{
			QueueUrl: jobs, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: seconds,
		})
		return err
	}
	check(t, change(first, 43200))
	if n := s.attributes(jobs, "All")["ApproximateNumberOfMessagesNotVisible"]; n != "1" {
		t.Errorf("%s messages are not visible, want 1", n)
	}
	check(t, change(first, 0))
	second := s.receiveOne(jobs)
	if second.Attributes["ApproximateReceiveCount"] != "2" || *second.MessageId != *first.MessageId {
		t.Errorf("the message came back as %s with %v", *second.MessageId, second.Attributes)
	}
	if e := (*types.MessageNotInflight)(nil); !errors.As(change(first, 10), &e) {
		t.Errorf("an old receipt changes visibility: %v, want MessageNotInflight", change(first, 10))
	}
	_, err := s.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: jobs, ReceiptHandle: first.ReceiptHandle})
	if e := (*types.ReceiptHandleIsInvalid)(nil); !errors.As(err, &e) {
		t.Errorf("an old receipt deletes: %v, want ReceiptHandleIsInvalid", err)
	}

	// A receive's own visibility; the least one is over when the answer is there.
	check(t, change(second, 0))
	status, text := s.post("ReceiveMessage", fmt.Sprintf(`{"QueueUrl":%q,"VisibilityTimeout":0}`, *jobs))
	if status != 200 || !strings.Contains(text, `"Body":"one"`) {
		t.Errorf("a receive with a visibility of 0 answers %d %s", status, text)
	}
	out, err := s.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: jobs, VisibilityTimeout: 1})
	check(t, err)
	start := time.Now()
	if len(out.Messages) != 1 {
		t.Fatalf("received %d messages, want the one whose lease is over", len(out.Messages))
	}
	if m := s.receiveOne(jobs); time.Since(start) > 8*time.Second || m.Attributes["ApproximateReceiveCount"] != "5" {
		t.Errorf("received %v %v after a lease of 1 s", m.Attributes, time.Since(start))
	}
}

func TestReceiptBatches(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", nil)
	for _, body := range []string{"a", "b", "c"} {
		s.send(jobs, body)
	}
	ms := s.receive(jobs)
	if len(ms) != 3 {
		t.Fatalf("received %d messages, want 3", len(ms))
	}
	changed, err := s.ChangeMessageVisibilityBatch(t.Context(), &sqs.ChangeMessageVisibilityBatchInput{
		QueueUrl: jobs, Entries: []types.ChangeMessageVisibilityBatchRequestEntry{
			{Id: aws.String("a"), ReceiptHandle: ms[0].ReceiptHandle, VisibilityTimeout: 100},
			{Id: aws.String("long"), ReceiptHandle: ms[1].ReceiptHandle, VisibilityTimeout: 43201},
			{Id: aws.String("bad"), ReceiptHandle: aws.String("no receipt"), VisibilityTimeout: 1},
			{Id: aws.String("c"), ReceiptHandle: ms[2].ReceiptHandle, VisibilityTimeout: 0},
		}})
	check(t, err)
	if ok, failed := ids(changed.Successful, changed.Failed); ok != "a c" || failed != "long=InvalidParameterValue bad=ReceiptHandleIsInvalid" {
		t.Errorf("changed %q, failed %q", ok, failed)
	}
	deleted, err := s.DeleteMessageBatch(t.Context(), &sqs.DeleteMessageBatchInput{
		QueueUrl: jobs, Entries: []types.DeleteMessageBatchRequestEntry{
			{Id: aws.String("a"), ReceiptHandle: ms[0].ReceiptHandle},
			{Id: aws.String("bad"), ReceiptHandle: aws.String("no receipt")},
			{Id: aws.String("late"), ReceiptHandle: ms[2].ReceiptHandle},
			{Id: aws.String("again"), ReceiptHandle: ms[0].ReceiptHandle},
			{Id: aws.String("b"), ReceiptHandle: ms[1].ReceiptHandle},
		}})
	check(t, err)
	var done []types.ChangeMessageVisibilityBatchResultEntry
	for _, e := range deleted.Successful {
		done = append(done, types.ChangeMessageVisibilityBatchResultEntry{Id: e.Id})
	}
	if ok, failed := ids(done, deleted.Failed); ok != "a again b" || failed != "bad=ReceiptHandleIsInvalid late=ReceiptHandleIsInvalid" {
		t.Errorf("deleted %q, failed %q", ok, failed)
	}
	if m := s.receiveOne(jobs); *m.Body != "c" {
		t.Errorf("%q is left, want c", *m.Body)
	}
}

func ids(good []types.ChangeMessageVisibilityBatchResultEntry, bad []types.BatchResultErrorEntry) (ok, failed string) {
	var a, b []string
	for _, e := range good {
		a = append(a, *e.Id)
	}
	for _, e := range bad {
		b = append(b, *e.Id+"="+*e.Code)
	}
	return strings.Join(a, " "), strings.Join(b, " ")
}
