package main

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spoolmq/spool"
)

// Ranges of SQS; those of spool are wider.
const (
	maxVisibilitySeconds = 43200
	maxDelaySeconds      = 900
	maxWaitSeconds       = 20
	minRetentionSeconds  = 60
	maxRetentionSeconds  = 1209600
	minMessageBytes      = 1 << 10
	maxMessageBytes      = 1 << 20
	maxReceiveCount      = 1000
)

// allAttributes asks for every attribute there is.
const allAttributes = "All"

// A setting changes what a queue is set to.
type setting = func(*spool.Meta)

// A queueAttribute is one attribute of a queue, as text.
type queueAttribute struct {
	name string
	get  func(c *call, q *spool.Queue, a *spool.Attributes) string // "" = it has none
	set  func(value string) (setting, error)                       // nil = it can only be read
}

var queueAttributes = []queueAttribute{
	{
		"VisibilityTimeout",
		func(_ *call, _ *spool.Queue, a *spool.Attributes) string { return seconds(a.VisibilityTimeout) },
		durationIn(0, maxVisibilitySeconds, func(m *spool.Meta, d time.Duration) { m.VisibilityTimeout = lease(d) }),
	}, {
		"MaximumMessageSize",
		func(_ *call, _ *spool.Queue, a *spool.Attributes) string { return strconv.Itoa(a.MaxMessageSize) },
		numberIn(minMessageBytes, maxMessageBytes, func(m *spool.Meta, n int) { m.MaxMessageSize = n }),
	}, {
		"MessageRetentionPeriod",
		func(_ *call, _ *spool.Queue, a *spool.Attributes) string { return seconds(a.Retention) },
		durationIn(minRetentionSeconds, maxRetentionSeconds, func(m *spool.Meta, d time.Duration) { m.Retention = d }),
	}, {
		"DelaySeconds",
		func(_ *call, _ *spool.Queue, a *spool.Attributes) string { return seconds(a.Delay) },
		durationIn(0, maxDelaySeconds, func(m *spool.Meta, d time.Duration) { m.Delay = d }),
	}, {
		"ReceiveMessageWaitTimeSeconds",
		func(_ *call, _ *spool.Queue, a *spool.Attributes) string { return seconds(a.PollingWait) },
		durationIn(0, maxWaitSeconds, func(m *spool.Meta, d time.Duration) { m.PollingWait = d }),
	}, {
		"RewindPeriod", // ours
		func(_ *call, _ *spool.Queue, a *spool.Attributes) string { return seconds(a.Rewind) },
		durationIn(0, maxRetentionSeconds, func(m *spool.Meta, d time.Duration) { m.Rewind = d }),
	},
	{"RedrivePolicy", redrivePolicyText, parseRedrivePolicy},
	{"QueueArn", func(c *call, q *spool.Queue, _ *spool.Attributes) string { return c.arnOf(q.Name()) }, nil},
	{"CreatedTimestamp", func(_ *call, _ *spool.Queue, a *spool.Attributes) string { return unix(a.CreatedAt) }, nil},
	{"LastModifiedTimestamp", func(_ *call, _ *spool.Queue, a *spool.Attributes) string { return unix(a.ModifiedAt) }, nil},
	{"ApproximateNumberOfMessages", counter(func(a *spool.Attributes) int64 { return a.Active }), nil},
	{"ApproximateNumberOfMessagesNotVisible", counter(func(a *spool.Attributes) int64 { return a.Inactive }), nil},
	{"ApproximateNumberOfMessagesDelayed", counter(func(a *spool.Attributes) int64 { return a.Delayed }), nil},
	{"ApproximateNumberOfMessagesRewindable", counter(func(a *spool.Attributes) int64 { return a.Rewindable }), nil}, // ours
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

func unix(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

func counter(of func(*spool.Attributes) int64) func(*call, *spool.Queue, *spool.Attributes) string {
	return func(_ *call, _ *spool.Queue, a *spool.Attributes) string { return strconv.FormatInt(of(a), 10) }
}

// lease is a visibility timeout as spool takes it. SQS has 0, a lease that is over at once; the least of spool is as good.
func lease(d time.Duration) time.Duration { return max(d, 1) }

func numberIn(least, most int, set func(*spool.Meta, int)) func(string) (setting, error) {
	return func(value string) (setting, error) {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return nil, refuse("InvalidAttributeValue", "the value is %q, want %d to %d", clip(value), least, most)
		}
		return func(m *spool.Meta) { set(m, n) }, nil
	}
}

func durationIn(least, most int, set func(*spool.Meta, time.Duration)) func(string) (setting, error) {
	return numberIn(least, most, func(m *spool.Meta, n int) { set(m, time.Duration(n)*time.Second) })
}

// redrivePolicy is JSON in the text of an attribute.
type redrivePolicy struct {
	DeadLetterTargetArn string      `json:"deadLetterTargetArn"`
	MaxReceiveCount     json.Number `json:"maxReceiveCount,omitempty"`
}

func redrivePolicyText(c *call, _ *spool.Queue, a *spool.Attributes) string {
	if a.DeadLetter == nil {
		return ""
	}
	p := redrivePolicy{DeadLetterTargetArn: c.arnOf(a.DeadLetter.Queue)}
	if n := a.DeadLetter.MaxReceives; n > 0 { // 0: moved by age only, which a program that embeds spool may have set
		p.MaxReceiveCount = json.Number(strconv.Itoa(n))
	}
	text, _ := json.Marshal(p) // of two strings
	return string(text)
}

// parseRedrivePolicy reads what redrivePolicyText writes; the count may be a string too. "" removes the policy. A limit
// by age, which SQS does not know, stays.
func parseRedrivePolicy(value string) (setting, error) {
	if value == "" {
		return func(m *spool.Meta) { m.DeadLetter = nil }, nil
	}
	var p redrivePolicy
	if err := json.Unmarshal([]byte(value), &p); err != nil {
		return nil, refuse("InvalidAttributeValue", "RedrivePolicy is not JSON with deadLetterTargetArn and maxReceiveCount")
	}
	name, ok := nameOfARN(p.DeadLetterTargetArn)
	if !ok {
		return nil, refuse("InvalidAttributeValue", "deadLetterTargetArn is not the ARN of a queue")
	}
	n, err := strconv.Atoi(p.MaxReceiveCount.String())
	if err != nil || n < 1 || n > maxReceiveCount {
		return nil, refuse("InvalidAttributeValue", "maxReceiveCount is %q, want 1 to %d", clip(p.MaxReceiveCount.String()), maxReceiveCount)
	}
	return func(m *spool.Meta) {
		d := spool.DeadLetter{Queue: name, MaxReceives: n}
		if m.DeadLetter != nil {
			d.MaxAge = m.DeadLetter.MaxAge
		}
		m.DeadLetter = &d
	}, nil
}

func attributeNamed(name string) (queueAttribute, error) {
	i := slices.IndexFunc(queueAttributes, func(a queueAttribute) bool { return a.name == name })
	if i < 0 {
		return queueAttribute{}, refuse("InvalidAttributeName", "the attribute %q is not known", clip(name))
	}
	return queueAttributes[i], nil
}

// parseAttributes makes one change of all attributes.
func parseAttributes(values map[string]string) (setting, error) {
	var all []setting // Bound: one for each attribute that is known
	for name, value := range values {
		a, err := attributeNamed(name)
		if err != nil {
			return nil, err
		}
		if a.set == nil {
			return nil, refuse("InvalidAttributeName", "the attribute %s can only be read", name)
		}
		one, err := a.set(value)
		if bad := (*apiError)(nil); errors.As(err, &bad) {
			return nil, refuse(bad.shape, "%s: %s", name, bad.text)
		}
		all = append(all, one)
	}
	return func(m *spool.Meta) {
		for _, one := range all {
			one(m)
		}
	}, nil
}

// attributeError is what spool does not take, and one attribute cannot tell: a retention that is shorter than the
// delay, a dead-letter queue that is not there.
func attributeError(err error) error {
	if bad := (*spool.ArgumentError)(nil); errors.As(err, &bad) && strings.HasPrefix(bad.Name, "Meta") {
		return refuse("InvalidAttributeValue", "%v", err)
	}
	return err
}

type getQueueAttributesIn struct {
	queueRef
	AttributeNames []string
}

type getQueueAttributesOut struct {
	Attributes map[string]string `json:",omitempty"`
}

func (c *call) getQueueAttributes(in *getQueueAttributesIn) (*getQueueAttributesOut, error) {
	q, err := c.queue(in.queueRef)
	if err != nil {
		return nil, err
	}
	var asked []queueAttribute // Bound: the request's size
	for _, name := range in.AttributeNames {
		if name == allAttributes {
			asked = append(asked, queueAttributes...)
			continue
		}
		a, err := attributeNamed(name)
		if err != nil {
			return nil, err
		}
		asked = append(asked, a)
	}
	has, err := q.Attributes(c.ctx)
	if err != nil {
		return nil, err
	}
	out := &getQueueAttributesOut{map[string]string{}}
	for _, a := range asked {
		if value := a.get(c, q, &has); value != "" {
			out.Attributes[a.name] = value
		}
	}
	return out, nil
}

type setQueueAttributesIn struct {
	queueRef
	Attributes map[string]string
}

func (c *call) setQueueAttributes(in *setQueueAttributesIn) (*empty, error) {
	q, err := c.queue(in.queueRef)
	if err != nil {
		return nil, err
	}
	change, err := parseAttributes(in.Attributes)
	if err != nil {
		return nil, err
	}
	return &empty{}, attributeError(q.SetMeta(c.ctx, change))
}
