package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/spoolmq/spool"
)

func TestCreateQueue(t *testing.T) {
	s := newSite(t, nil, nil)
	set := map[string]string{"VisibilityTimeout": "60", "DelaySeconds": "0"}
	url := s.create("jobs", set)
	if want := s.url + "/000000000000/jobs"; *url != want {
		t.Errorf("the URL is %s, want %s", *url, want)
	}
	for _, same := range []map[string]string{nil, set, {"MessageRetentionPeriod": "345600"}} {
		if again := s.create("jobs", same); *again != *url {
			t.Errorf("created again with %v: %s, want %s", same, *again, *url)
		}
	}
	for name, other := range map[string]map[string]string{"jobs": {"VisibilityTimeout": "61"}, "Jobs": nil} {
		_, err := s.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: other})
		if e := (*types.QueueNameExists)(nil); !errors.As(err, &e) {
			t.Errorf("creating %s with %v: %v, want QueueNameExists", name, other, err)
		}
	}
	found, err := s.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String("jobs")})
	check(t, err)
	if *found.QueueUrl != *url {
		t.Errorf("GetQueueUrl = %s, want %s", *found.QueueUrl, *url)
	}
	_, err = s.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: url})
	check(t, err)
	_, err = s.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String("jobs")})
	if e := (*types.QueueDoesNotExist)(nil); !errors.As(err, &e) {
		t.Errorf("after DeleteQueue: %v, want QueueDoesNotExist", err)
	}
}

func TestListQueues(t *testing.T) {
	s := newSite(t, nil, nil)
	var want []string
	for i := range 25 {
		want = append(want, *s.create(fmt.Sprintf("a%02d", i), nil))
	}
	other := *s.create("b", nil)

	out, err := s.ListQueues(t.Context(), &sqs.ListQueuesInput{})
	check(t, err)
	if !slices.Equal(out.QueueUrls, append(slices.Clone(want), other)) || out.NextToken != nil {
		t.Errorf("ListQueues = %v, %v", out.QueueUrls, out.NextToken)
	}
	var got []string
	pages := 0
	p := sqs.NewListQueuesPaginator(s, &sqs.ListQueuesInput{QueueNamePrefix: aws.String("a"), MaxResults: aws.Int32(10)})
	for p.HasMorePages() {
		page, err := p.NextPage(t.Context())
		check(t, err)
		got = append(got, page.QueueUrls...)
		if pages++; pages == 1 { // the last one of a page is gone when the next is asked for
			_, err = s.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: aws.String(page.QueueUrls[9])})
			check(t, err)
		}
	}
	if !slices.Equal(got, want) || pages != 3 {
		t.Errorf("%d pages = %v, want 3 with %v", pages, got, want)
	}
	for _, in := range []*sqs.ListQueuesInput{{MaxResults: aws.Int32(0)}, {MaxResults: aws.Int32(1001)}, {NextToken: aws.String("?")}} {
		if _, err := s.ListQueues(t.Context(), in); codeOf(err) != "InvalidParameterValue" {
			t.Errorf("ListQueues(%v, %v) = %v", in.MaxResults, in.NextToken, err)
		}
	}
}

func TestQueueAttributes(t *testing.T) {
	s := newSite(t, nil, nil)
	before := time.Now().Unix()
	jobs := s.create("jobs", nil)
	want := map[string]string{
		"VisibilityTimeout": "30", "MaximumMessageSize": "1048576", "MessageRetentionPeriod": "345600", "DelaySeconds": "0",
		"ReceiveMessageWaitTimeSeconds": "0", "RewindPeriod": "0", "QueueArn": "arn:aws:sqs:eu-west-1:000000000000:jobs",
		"ApproximateNumberOfMessages": "0", "ApproximateNumberOfMessagesNotVisible": "0", "ApproximateNumberOfMessagesDelayed": "0",
		"ApproximateNumberOfMessagesRewindable": "0",
	}
	got := s.attributes(jobs, "All")
	for _, stamp := range []string{"CreatedTimestamp", "LastModifiedTimestamp"} {
		var at int64
		if _, err := fmt.Sscan(got[stamp], &at); err != nil || at < before || at > time.Now().Unix() {
			t.Errorf("%s = %q", stamp, got[stamp])
		}
		delete(got, stamp)
	}
	if !maps.Equal(got, want) {
		t.Errorf("attributes are %v, want %v", got, want)
	}
	if got := s.attributes(jobs); len(got) != 0 {
		t.Errorf("asked for none: %v", got)
	}

	set := map[string]string{
		"VisibilityTimeout": "0", "MaximumMessageSize": "1024", "MessageRetentionPeriod": "1209600", "DelaySeconds": "900",
		"ReceiveMessageWaitTimeSeconds": "20", "RewindPeriod": "1209600",
	}
	_, err := s.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: jobs, Attributes: set})
	check(t, err)
	var names []types.QueueAttributeName
	for name := range set {
		names = append(names, types.QueueAttributeName(name))
	}
	if got := s.attributes(jobs, names...); !maps.Equal(got, set) {
		t.Errorf("set to %v, attributes are %v", set, got)
	}

	for _, bad := range []map[string]string{
		{"VisibilityTimeout": "-1"}, {"VisibilityTimeout": "43201"}, {"VisibilityTimeout": "x"}, {"MaximumMessageSize": "1023"},
		{"MaximumMessageSize": "1048577"}, {"MessageRetentionPeriod": "59"}, {"MessageRetentionPeriod": "1209601"},
		{"DelaySeconds": "901"}, {"ReceiveMessageWaitTimeSeconds": "21"}, {"RedrivePolicy": "x"}, {"RedrivePolicy": `{}`},
		{"RewindPeriod": "1209601"}, {"MessageRetentionPeriod": "60"}, // less than the delay
		{"DelaySeconds": "1", "VisibilityTimeout": ""},
	} {
		_, err := s.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: jobs, Attributes: bad})
		if e := (*types.InvalidAttributeValue)(nil); !errors.As(err, &e) {
			t.Errorf("set to %v: %v, want InvalidAttributeValue", bad, err)
		}
	}
	for _, bad := range []string{"Nothing", "QueueArn", "FifoQueue"} {
		_, err := s.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: jobs, Attributes: map[string]string{bad: "1"}})
		if e := (*types.InvalidAttributeName)(nil); !errors.As(err, &e) {
			t.Errorf("set %s: %v, want InvalidAttributeName", bad, err)
		}
	}
	if got := s.attributes(jobs, names...); !maps.Equal(got, set) {
		t.Errorf("after refusals attributes are %v, want %v", got, set)
	}
}

func TestRedrive(t *testing.T) {
	s := newSite(t, nil, nil)
	dead := s.create("dead", nil)
	arn := s.attributes(dead, "QueueArn")["QueueArn"]
	policy := func(n string) string { return `{"deadLetterTargetArn":"` + arn + `","maxReceiveCount":` + n + `}` }
	jobs := s.create("jobs", map[string]string{"RedrivePolicy": policy(`"2"`)})
	if got := s.attributes(jobs, "RedrivePolicy")["RedrivePolicy"]; got != policy("2") {
		t.Errorf("RedrivePolicy = %s, want %s", got, policy("2"))
	}
	sources, err := s.ListDeadLetterSourceQueues(t.Context(), &sqs.ListDeadLetterSourceQueuesInput{QueueUrl: dead})
	check(t, err)
	if !slices.Equal(sources.QueueUrls, []string{*jobs}) {
		t.Errorf("sources are %v, want %s", sources.QueueUrls, *jobs)
	}

	s.send(jobs, "poison")
	for range 2 {
		m := s.receiveOne(jobs)
		_, err := s.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{QueueUrl: jobs, ReceiptHandle: m.ReceiptHandle})
		check(t, err)
	}
	m := s.receiveOne(dead)
	if *m.Body != "poison" || m.Attributes["DeadLetterQueueSourceArn"] != strings.Replace(arn, "dead", "jobs", 1) {
		t.Errorf("dead letter %q with %v", *m.Body, m.Attributes)
	}

	for _, bad := range []string{policy("0"), policy("1001"), policy(`"x"`), strings.Replace(policy("2"), ":dead", ":none", 1), strings.Replace(policy("2"), ":dead", ":jobs", 1), strings.Replace(policy("2"), "arn:", "", 1)} {
		_, err := s.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: jobs, Attributes: map[string]string{"RedrivePolicy": bad}})
		if e := (*types.InvalidAttributeValue)(nil); !errors.As(err, &e) {
			t.Errorf("RedrivePolicy %s: %v, want InvalidAttributeValue", bad, err)
		}
	}
	_, err = s.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: dead})
	if e := (*types.UnsupportedOperation)(nil); !errors.As(err, &e) {
		t.Errorf("deleting a dead-letter queue: %v, want UnsupportedOperation", err)
	}

	// A limit by age, which SQS does not have, outlives a change of the count and goes with the policy.
	q, err := s.spool.Queue("jobs")
	check(t, err)
	check(t, q.SetMeta(t.Context(), func(m *spool.Meta) { m.DeadLetter.MaxAge = time.Hour }))
	for text, want := range map[string]string{policy("3"): "&{dead 3 1h0m0s}", "": "<nil>"} {
		if text == "" {
			continue
		}
		setRedrive(t, s, jobs, text)
		if got := fmt.Sprint(q.Meta().DeadLetter); got != want {
			t.Errorf("DeadLetter = %s, want %s", got, want)
		}
	}
	setRedrive(t, s, jobs, "")
	if got := s.attributes(jobs, "All")["RedrivePolicy"]; got != "" || q.Meta().DeadLetter != nil {
		t.Errorf("RedrivePolicy = %s after it was removed", got)
	}
}

func setRedrive(t *testing.T, s *site, queue *string, text string) {
	t.Helper()
	_, err := s.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: queue, Attributes: map[string]string{"RedrivePolicy": text}})
	check(t, err)
}

func TestPurge(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", map[string]string{"RewindPeriod": "60"})
	for range 3 {
		s.send(jobs, "x")
	}
	out, err := s.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: jobs, MaxNumberOfMessages: 2})
	check(t, err)
	s.delete(jobs, out.Messages[0])
	_, err = s.PurgeQueue(t.Context(), &sqs.PurgeQueueInput{QueueUrl: jobs})
	check(t, err)
	for name, n := range s.attributes(jobs, "All") {
		if strings.HasPrefix(name, "Approximate") && n != "0" {
			t.Errorf("%s = %s after a purge", name, n)
		}
	}
	s.delete(jobs, out.Messages[1]) // it is here no longer, as it should be
}

func TestRewind(t *testing.T) {
	s := newSite(t, func(o *siteOptions) { o.keys = keyring{goodKey.AccessKeyID: goodKey.SecretAccessKey} }, nil)
	jobs := s.create("jobs", map[string]string{"RewindPeriod": "3600"})
	var sent []string // instants, as SQS tells them
	for _, body := range []string{"a", "b", "c"} {
		s.send(jobs, body)
		m := s.receiveOne(jobs)
		sent = append(sent, m.Attributes["SentTimestamp"])
		s.delete(jobs, m)
		tick(sent[len(sent)-1])
	}
	if n := s.attributes(jobs, "All")["ApproximateNumberOfMessagesRewindable"]; n != "3" {
		t.Errorf("%s messages are rewindable, want 3", n)
	}
	n, err := rewindQueue(t.Context(), s.url, goodKey, *jobs, fromMillis(sent[1]))
	if err != nil || n != 2 {
		t.Fatalf("RewindQueue to the second message = %d, %v, want 2", n, err)
	}
	ms := s.receive(jobs)
	if len(ms) != 2 || *ms[0].Body != "b" || *ms[1].Body != "c" {
		t.Fatalf("after the rewind %d messages came, want b and c", len(ms))
	}
	if a := ms[0].Attributes; a["RewindCount"] != "1" || a["ApproximateReceiveCount"] != "1" || a["SentTimestamp"] != sent[1] {
		t.Errorf("a rewound message has %v", a)
	}

	for _, at := range []time.Time{time.Now().Add(time.Hour), time.Now().Add(-2 * time.Hour)} {
		if _, err := rewindQueue(t.Context(), s.url, goodKey, *jobs, at); err == nil || !strings.Contains(err.Error(), "InvalidParameterValue") {
			t.Errorf("RewindQueue to %v = %v, want InvalidParameterValue", at, err)
		}
	}
	plain := s.create("plain", nil)
	if _, err := rewindQueue(t.Context(), s.url, goodKey, *plain, time.Now()); err == nil || !strings.Contains(err.Error(), "UnsupportedOperation") {
		t.Errorf("RewindQueue without RewindPeriod = %v, want UnsupportedOperation", err)
	}
	if _, err := rewindQueue(t.Context(), s.url, wrongKey, *jobs, time.Now()); err == nil || !strings.Contains(err.Error(), "SignatureDoesNotMatch") {
		t.Errorf("RewindQueue with a wrong secret = %v, want SignatureDoesNotMatch", err)
	}
}

// tick returns in a later millisecond.
func tick(ms string) {
	for fmt.Sprint(time.Now().UnixMilli()) == ms {
	}
}

func fromMillis(text string) time.Time {
	var ms int64
	_, _ = fmt.Sscan(text, &ms)
	return time.UnixMilli(ms)
}

func TestParseTimestamp(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1700000000": 1700000000e9, "1700000000.123456789": 1700000000_123456789, "-1.5": -1.5e9, "1700000000.1234567899": 1700000000_123456789,
	} {
		if got, err := parseTimestamp(json.Number(text)); err != nil || got.UnixNano() != want {
			t.Errorf("parseTimestamp(%s) = %d, %v, want %d", text, got.UnixNano(), err, want)
		}
	}
	for _, text := range []string{"", "x", "1e9", "1/2", "99999999999999999999", "1.2.3", "Inf", "0x10", strings.Repeat("1", 33)} {
		if got, err := parseTimestamp(json.Number(text)); err == nil {
			t.Errorf("parseTimestamp(%q) = %v, want an error", text, got)
		}
	}
}
