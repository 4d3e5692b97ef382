package cmq

import (
	"context"
	"encoding/base64"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/spoolmq/spool"
)

const (
	maxWait  = 30    // seconds
	maxDelay = 3_600 // seconds

	// margin is by how much a receive ends before its wait is over: there are clients that hang up at that instant.
	margin = 10 * time.Millisecond
)

func (h *Handler) sendMessage(c *call) (reply, error) {
	q, err := h.queue(c)
	if err != nil {
		return nil, err
	}
	body, err := c.params.text("msgBody")
	if err != nil {
		return nil, err
	}
	ms, err := c.messages([]string{body})
	if err != nil {
		return nil, err
	}
	id, err := q.Send(c.ctx, ms[0])
	return reply{"msgId": id}, err
}

func (h *Handler) batchSendMessage(c *call) (reply, error) {
	q, err := h.queue(c)
	if err != nil {
		return nil, err
	}
	bodies, err := c.params.list("msgBody")
	if err != nil {
		return nil, err
	}
	ms, err := c.messages(bodies)
	if err != nil {
		return nil, err
	}
	ids, err := q.SendBatch(c.ctx, ms)
	list := make([]reply, len(ids))
	for i, id := range ids {
		list[i] = reply{"msgId": id}
	}
	return reply{"msgList": list}, err
}

// messages are those of a send. The SDKs send a delay of 0 when the program names none, and CMQ's queues have no delay
// of their own: 0 is no delay, and only its absence leaves it to the queue.
func (c *call) messages(bodies []string) ([]spool.Message, error) {
	var delay time.Duration
	if _, given := c.params["delaySeconds"]; given {
		n, _, err := c.params.number("delaySeconds", 0, maxDelay)
		if e := (*apiError)(nil); errors.As(err, &e) && e.module == 10350 {
			return nil, fail(4000, 10692, "%s", e.text)
		}
		if err != nil {
			return nil, err
		}
		if delay = seconds(n); n == 0 {
			delay = spool.NoDelay
		}
	}
	ms, total := make([]spool.Message, len(bodies)), 0
	for i, body := range bodies {
		if body == "" {
			return nil, fail(4000, 10120, "message body can't be empty")
		}
		if !utf8.ValidString(body) {
			return nil, fail(4000, 10360, "the message body is not UTF-8: encode what is binary, with base64 for example")
		}
		ms[i] = spool.Message{Body: []byte(body), Delay: delay}
		total += len(body)
	}
	if total > maxBatchBytes {
		return nil, fail(4470, 10300, "total message size is %d bytes, exceeds %d", total, maxBatchBytes)
	}
	return ms, nil
}

func (h *Handler) receiveMessage(c *call) (reply, error) {
	ds, err := h.receive(c, 1)
	if err != nil {
		return nil, err
	}
	return handedOver(ds[0]), nil
}

func (h *Handler) batchReceiveMessage(c *call) (reply, error) {
	n, given, err := c.params.number("numOfMsg", 1, maxBatch)
	if err != nil {
		return nil, err
	}
	if !given {
		return nil, fail(4000, 10390, "missing parameter numOfMsg")
	}
	ds, err := h.receive(c, int(n))
	if err != nil {
		return nil, err
	}
	list := make([]reply, len(ds))
	for i, d := range ds {
		list[i] = handedOver(d)
	}
	return reply{"msgInfoList": list}, nil
}

// receive leases up to max messages to the client and keeps them in c, so that they can be taken back. It stops waiting
// when the client goes away and when the handler drains.
func (h *Handler) receive(c *call, max int) ([]*spool.Delivery, error) {
	q, err := h.queue(c)
	if err != nil {
		return nil, err
	}
	wait, err := c.wait(q)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	defer context.AfterFunc(h.draining, cancel)()
	c.deliveries, err = q.ReceiveBatch(ctx, max, spool.Wait(wait))
	if errors.Is(err, context.Canceled) && c.ctx.Err() == nil {
		err = spool.ErrNoMessage
	}
	return c.deliveries, err
}

// wait is what is left of the time that the client, or else the queue, has set for a receive.
func (c *call) wait(q *spool.Queue) (time.Duration, error) {
	n, given, err := c.params.number("pollingWaitSeconds", 0, maxWait)
	if err != nil {
		return 0, err
	}
	wait := seconds(n)
	if !given {
		wait = min(q.Meta().PollingWait, maxWait*time.Second)
	}
	return max(0, wait-margin-time.Since(c.began)), nil
}

// handedOver is a message as a client gets it. One that is not text, which no client of this API has sent, is given as
// base64 and says so.
func handedOver(d *spool.Delivery) reply {
	r := reply{
		"msgId":            d.ID,
		"msgBody":          string(d.Body),
		"receiptHandle":    d.Receipt,
		"enqueueTime":      unix(d.EnqueuedAt),
		"firstDequeueTime": unix(d.FirstReceivedAt),
		"nextVisibleTime":  unix(d.VisibleAt),
		"dequeueCount":     d.Receives,
	}
	if !utf8.Valid(d.Body) {
		r["msgBody"], r["msgBodyEncoding"] = base64.StdEncoding.EncodeToString(d.Body), "base64"
	}
	return r
}

func (h *Handler) deleteMessage(c *call) (reply, error) {
	q, err := h.queue(c)
	if err != nil {
		return nil, err
	}
	receipt, err := c.params.text("receiptHandle")
	if err != nil {
		return nil, err
	}
	return nil, q.Delete(c.ctx, receipt)
}

func (h *Handler) batchDeleteMessage(c *call) (reply, error) {
	q, err := h.queue(c)
	if err != nil {
		return nil, err
	}
	receipts, err := c.params.list("receiptHandle")
	if err != nil {
		return nil, err
	}
	err = q.DeleteBatch(c.ctx, receipts)
	batch := (*spool.BatchError)(nil)
	if !errors.As(err, &batch) {
		return nil, err
	}
	list := make([]reply, len(batch.Failed))
	for i, item := range batch.Failed {
		a := translate(item.Err)
		list[i] = reply{"code": a.code, "message": a.message(), "receiptHandle": item.Receipt}
	}
	all := &apiError{code: spool.CodeOf(err), module: 10290, text: "batch delete failed", members: reply{"errorList": list}}
	if len(batch.Failed) < len(receipts) {
		all.module, all.text = 10150, "some messages were not deleted"
	}
	return nil, all
}
