package main

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/spoolmq/spool"
)

const maxReceived = 10 // messages in one reply

type receiveMessageIn struct {
	queueRef
	MaxNumberOfMessages         *int
	WaitTimeSeconds             *int
	VisibilityTimeout           *int
	MessageSystemAttributeNames []string
	AttributeNames              []string // the older name of MessageSystemAttributeNames
	MessageAttributeNames       []string
}

type receivedMessage struct {
	MessageId              string
	ReceiptHandle          string
	Body                   string
	MD5OfBody              string
	Attributes             map[string]string        `json:",omitempty"`
	MessageAttributes      map[string]propertyValue `json:",omitempty"`
	MD5OfMessageAttributes string                   `json:",omitempty"`
}

type receiveMessageOut struct {
	Messages []receivedMessage `json:",omitempty"`
}

func (c *call) receiveMessage(in *receiveMessageIn) (*receiveMessageOut, error) {
	q, err := c.queue(in.queueRef)
	if err != nil {
		return nil, err
	}
	most, opts, err := in.options()
	if err != nil {
		return nil, err
	}
	system, err := wantedSystem(slices.Concat(in.MessageSystemAttributeNames, in.AttributeNames))
	if err != nil {
		return nil, err
	}
	ds, err := c.poll(q, most, opts)
	if err != nil {
		return nil, err
	}
	c.lost = func() { release(ds) }
	out := new(receiveMessageOut)
	wanted := wantedProperties(in.MessageAttributeNames)
	for _, d := range ds {
		out.Messages = append(out.Messages, c.received(d, system, wanted))
	}
	return out, nil
}

// options are the numbers of a receive. What is absent is the queue's own; 0 is not.
func (in *receiveMessageIn) options() (most int, opts []spool.ReceiveOption, err error) {
	most = 1
	if in.MaxNumberOfMessages != nil {
		if most = *in.MaxNumberOfMessages; most < 1 || most > maxReceived {
			return 0, nil, refuse("InvalidParameterValue", "MaxNumberOfMessages is %d, want 1 to %d", most, maxReceived)
		}
	}
	if w := in.WaitTimeSeconds; w != nil {
		if *w < 0 || *w > maxWaitSeconds {
			return 0, nil, refuse("InvalidParameterValue", "WaitTimeSeconds is %d, want 0 to %d", *w, maxWaitSeconds)
		}
		opts = append(opts, spool.Wait(time.Duration(*w)*time.Second))
	}
	if v := in.VisibilityTimeout; v != nil {
		d, err := visibility(v)
		if err != nil {
			return 0, nil, err
		}
		opts = append(opts, spool.Visibility(lease(d)))
	}
	return most, opts, nil
}

// poll receives; nothing there is no error. The wait ends with the client, and with Drain. A client that went away while
// it was given something has not got it: its leases end.
func (c *call) poll(q *spool.Queue, most int, opts []spool.ReceiveOption) ([]*spool.Delivery, error) {
	if c.draining.Err() != nil {
		return nil, nil
	}
	ctx, stop := context.WithCancel(c.ctx)
	defer stop()
	defer context.AfterFunc(c.draining, stop)()
	c.log.DebugContext(ctx, "poll", "queue", q.Name())
	ds, err := q.ReceiveBatch(ctx, most, opts...)
	gone := c.ctx.Err()
	switch {
	case errors.Is(err, spool.ErrNoMessage):
		return nil, nil
	case errors.Is(err, context.Canceled) && gone == nil: // Drain
		return nil, nil
	case err == nil && gone != nil:
		release(ds)
		return nil, gone
	}
	return ds, err
}

// release gives back what the client did not get. It runs after the client's context has ended. An error means that the
// leases go on: the messages come again when they end.
func release(ds []*spool.Delivery) {
	for _, d := range ds {
		_ = d.Release(context.Background(), 0)
	}
}

// received is a delivery as clients see it. A body that is not UTF-8, which no client of SQS can have sent, is written in
// base64.
func (c *call) received(d *spool.Delivery, system, wanted func(string) bool) receivedMessage {
	m := receivedMessage{MessageId: d.ID, ReceiptHandle: d.Receipt, Body: string(d.Body)}
	if !utf8.Valid(d.Body) {
		m.Body = base64.StdEncoding.EncodeToString(d.Body)
	}
	m.MD5OfBody = md5Of([]byte(m.Body))
	for _, a := range systemAttributes {
		if !system(a.name) {
			continue
		}
		if value := a.get(c, d); value != "" {
			if m.Attributes == nil {
				m.Attributes = map[string]string{}
			}
			m.Attributes[a.name] = value
		}
	}
	ps := load(d.Attributes, wanted)
	m.MD5OfMessageAttributes = md5OfProperties(ps)
	for _, p := range ps {
		if m.MessageAttributes == nil {
			m.MessageAttributes = map[string]propertyValue{}
		}
		m.MessageAttributes[p.name] = p.wire()
	}
	return m
}

// systemAttributes are what a receive tells of a message when it is asked to. "" = the message has none.
var systemAttributes = []struct {
	name string
	get  func(c *call, d *spool.Delivery) string
}{
	{"SenderId", func(*call, *spool.Delivery) string { return account }},
	{"SentTimestamp", func(_ *call, d *spool.Delivery) string { return millis(d.EnqueuedAt) }},
	{"ApproximateReceiveCount", func(_ *call, d *spool.Delivery) string { return strconv.Itoa(d.Receives) }},
	{"ApproximateFirstReceiveTimestamp", func(_ *call, d *spool.Delivery) string { return millis(d.FirstReceivedAt) }},
	{"DeadLetterQueueSourceArn", func(c *call, d *spool.Delivery) string {
		if d.DeadLetter == nil {
			return ""
		}
		return c.arnOf(d.DeadLetter.Queue)
	}},
	{"RewindCount", func(_ *call, d *spool.Delivery) string { // ours
		if d.Rewinds == 0 {
			return ""
		}
		return strconv.Itoa(d.Rewinds)
	}},
	{traceHeader, stored(traceHeader)},
	{messageGroup, stored(messageGroup)},
	{"MessageDeduplicationId", func(*call, *spool.Delivery) string { return "" }}, // of FIFO queues
	{"SequenceNumber", func(*call, *spool.Delivery) string { return "" }},         // of FIFO queues
}

func millis(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// stored gives out a system attribute that the sender has set.
func stored(name string) func(*call, *spool.Delivery) string {
	return func(_ *call, d *spool.Delivery) string {
		value := d.Attributes[ownMark+name]
		if !utf8.ValidString(value) {
			return ""
		}
		return value
	}
}

func wantedSystem(names []string) (func(string) bool, error) {
	for _, name := range names {
		known := slices.ContainsFunc(systemAttributes, func(a struct {
			name string
			get  func(*call, *spool.Delivery) string
		}) bool {
			return a.name == name
		})
		if name != allAttributes && !known {
			return nil, refuse("InvalidAttributeName", "the attribute %q is not known", clip(name))
		}
	}
	all := slices.Contains(names, allAttributes)
	return func(name string) bool { return all || slices.Contains(names, name) }, nil
}
