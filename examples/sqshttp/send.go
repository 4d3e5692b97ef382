package main

import (
	"errors"
	"slices"
	"time"

	"github.com/spoolmq/spool"
)

const (
	traceHeader  = "AWSTraceHeader"
	messageGroup = "MessageGroupId"

	maxGroup = 128 // characters
)

// An outgoing is a message as a sender gives it, alone or in a batch.
type outgoing struct {
	MessageBody             string
	DelaySeconds            *int
	MessageAttributes       map[string]propertyValue
	MessageSystemAttributes map[string]propertyValue
	MessageGroupId          string
	MessageDeduplicationId  string
}

// sent is what a sender is told of a message that is stored.
type sent struct {
	MessageId                    string
	MD5OfMessageBody             string
	MD5OfMessageAttributes       string `json:",omitempty"`
	MD5OfMessageSystemAttributes string `json:",omitempty"`
}

// check returns the message as spool takes it, and what the sender is told when it is stored.
func (o *outgoing) check(meta spool.Meta) (m spool.Message, told sent, err error) {
	if o.MessageBody == "" {
		return m, told, refuse("MissingParameter", "MessageBody is missing")
	}
	if !validText(o.MessageBody) {
		return m, told, badText("MessageBody")
	}
	if o.MessageDeduplicationId != "" {
		return m, told, refuse("InvalidParameterValue", "MessageDeduplicationId is for FIFO queues, which are not served")
	}
	if m.Delay, err = o.delay(); err != nil {
		return m, told, err
	}
	ps, err := parseProperties(o.MessageAttributes)
	if err != nil {
		return m, told, err
	}
	own, err := o.systemProperties()
	if err != nil {
		return m, told, err
	}
	if size := o.size(); size > meta.MaxMessageSize {
		return m, told, refuse("InvalidParameterValue", "the message has %d bytes with its attributes, limit %d", size, meta.MaxMessageSize)
	}
	m.Body, m.Attributes = []byte(o.MessageBody), store(ps, own)
	trace := slices.DeleteFunc(own, func(p property) bool { return p.name != traceHeader })
	told = sent{"", md5Of(m.Body), md5OfProperties(ps), md5OfProperties(trace)}
	return m, told, nil
}

// delay is 0, the queue's own, when the sender names none.
func (o *outgoing) delay() (time.Duration, error) {
	switch {
	case o.DelaySeconds == nil:
		return 0, nil
	case *o.DelaySeconds < 0 || *o.DelaySeconds > maxDelaySeconds:
		return 0, refuse("InvalidParameterValue", "DelaySeconds is %d, want 0 to %d", *o.DelaySeconds, maxDelaySeconds)
	case *o.DelaySeconds == 0:
		return spool.NoDelay, nil
	}
	return time.Duration(*o.DelaySeconds) * time.Second, nil
}

// systemProperties are the two system attributes that a sender can set on a standard queue.
func (o *outgoing) systemProperties() (own []property, err error) {
	for name, v := range o.MessageSystemAttributes {
		if name != traceHeader || v.DataType != typeString {
			return nil, refuse("InvalidParameterValue", "the only system attribute is %s, a String", traceHeader)
		}
		p, err := v.property(name)
		if err != nil {
			return nil, err
		}
		own = append(own, p)
	}
	if o.MessageGroupId != "" {
		if len(o.MessageGroupId) > maxGroup || !validText(o.MessageGroupId) {
			return nil, refuse("InvalidParameterValue", "MessageGroupId is not 1 to %d characters of text", maxGroup)
		}
		own = append(own, property{messageGroup, typeString, o.MessageGroupId})
	}
	return own, nil
}

// size is what counts against MaximumMessageSize: the body, and names, types and values of attributes.
func (o *outgoing) size() int {
	n := len(o.MessageBody)
	for name, v := range o.MessageAttributes {
		n += len(name) + len(v.DataType) + len(v.BinaryValue)
		if v.StringValue != nil {
			n += len(*v.StringValue)
		}
	}
	return n
}

// validText tells whether SQS takes it: no control characters but tab, line feed and carriage return, no U+FFFE, U+FFFF.
func validText(text string) bool {
	for _, r := range text {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == '\uFFFE' || r == '\uFFFF' {
			return false
		}
	}
	return true
}

func badText(what string) error {
	return refuse("InvalidMessageContents", "%s has a character that SQS does not take", what)
}

type sendMessageIn struct {
	queueRef
	outgoing
}

func (c *call) sendMessage(in *sendMessageIn) (*sent, error) {
	q, err := c.queue(in.queueRef)
	if err != nil {
		return nil, err
	}
	m, told, err := in.check(q.Meta())
	if err != nil {
		return nil, err
	}
	told.MessageId, err = q.Send(c.ctx, m)
	return &told, err
}

type sendEntry struct {
	batchID
	outgoing
}

type sendMessageBatchIn struct {
	queueRef
	Entries []sendEntry
}

type sentEntry struct {
	batchID
	sent
}

// sendMessageBatch checks each message by itself and stores what is good with one SendBatch. When spool refuses one of
// those, and with it all, each is sent by itself: a message's failure is its own.
func (c *call) sendMessageBatch(in *sendMessageBatchIn) (*batchOut[sentEntry], error) {
	if err := checkBatch(in.Entries); err != nil {
		return nil, err
	}
	q, err := c.queue(in.queueRef)
	if err != nil {
		return nil, err
	}
	total := 0
	out := new(batchOut[sentEntry])
	var ms []spool.Message
	var told []sentEntry
	meta := q.Meta()
	for i := range in.Entries {
		e := &in.Entries[i]
		if total += e.size(); total > maxMessageBytes {
			return nil, refuse("BatchRequestTooLong", "the messages have more than %d bytes together", maxMessageBytes)
		}
		m, t, err := e.check(meta)
		if err != nil {
			out.fail(e.Id, err)
			continue
		}
		ms, told = append(ms, m), append(told, sentEntry{e.batchID, t})
	}
	return out, c.sendAll(q, ms, told, out)
}

// sendAll sends ms and puts into out what became of each.
func (c *call) sendAll(q *spool.Queue, ms []spool.Message, told []sentEntry, out *batchOut[sentEntry]) error {
	if len(ms) == 0 {
		return nil
	}
	ids, err := q.SendBatch(c.ctx, ms)
	if err != nil && !refusedOne(err) {
		return err
	}
	for i, m := range ms {
		if err != nil { // all were refused, and nothing is stored
			id, err := q.Send(c.ctx, m)
			if err != nil {
				out.fail(told[i].Id, err)
				continue
			}
			told[i].MessageId = id
		} else {
			told[i].MessageId = ids[i]
		}
		out.Successful = append(out.Successful, told[i])
	}
	return nil
}

// refusedOne tells whether a batch was refused for what may be true of one message only.
func refusedOne(err error) bool {
	return errors.Is(err, spool.ErrInvalidArgument) || errors.Is(err, spool.ErrMessageTooLarge) || errors.Is(err, spool.ErrQueueFull)
}
