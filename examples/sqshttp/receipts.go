package main

import (
	"errors"
	"time"

	"github.com/spoolmq/spool"
)

// A receiptEntry is one use of a receipt, alone or in a batch.
type receiptEntry struct {
	batchID
	ReceiptHandle     string
	VisibilityTimeout *int // of ChangeMessageVisibility only
}

type receiptIn struct {
	queueRef
	receiptEntry
}

type receiptBatchIn struct {
	queueRef
	Entries []receiptEntry
}

func (c *call) deleteMessage(in *receiptIn) (*empty, error) {
	q, err := c.queue(in.queueRef)
	if err != nil {
		return nil, err
	}
	if in.ReceiptHandle == "" {
		return nil, refuse("MissingParameter", "ReceiptHandle is missing")
	}
	return &empty{}, deleted(q.Delete(c.ctx, in.ReceiptHandle))
}

// deleted is the outcome of a deletion. What is here no longer is deleted: an SDK that lost the answer asks again. A late
// receipt of a message that is still here is refused, where SQS may say that all is well.
func deleted(err error) error {
	switch reasonOf(err) {
	case spool.Deleted, spool.Gone:
		return nil
	}
	return err
}

func reasonOf(err error) spool.Reason {
	if r := (*spool.ReceiptError)(nil); errors.As(err, &r) {
		return r.Reason
	}
	return ""
}

func (c *call) deleteMessageBatch(in *receiptBatchIn) (*batchOut[batchID], error) {
	if err := checkBatch(in.Entries); err != nil {
		return nil, err
	}
	q, err := c.queue(in.queueRef)
	if err != nil {
		return nil, err
	}
	receipts := make([]string, len(in.Entries))
	for i, e := range in.Entries {
		receipts[i] = e.ReceiptHandle
	}
	failed := make([]error, len(receipts))
	err = q.DeleteBatch(c.ctx, receipts)
	if partly := (*spool.BatchError)(nil); errors.As(err, &partly) {
		for _, f := range partly.Failed {
			failed[f.Index] = deleted(f.Err)
		}
	} else if err != nil {
		return nil, err
	}
	return outcomes(in.Entries, failed), nil
}

// outcomes sorts entries by whether they failed.
func outcomes(entries []receiptEntry, failed []error) *batchOut[batchID] {
	out := new(batchOut[batchID])
	for i, e := range entries {
		if failed[i] != nil {
			out.fail(e.Id, failed[i])
			continue
		}
		out.Successful = append(out.Successful, e.batchID)
	}
	return out
}

func (c *call) changeMessageVisibility(in *receiptIn) (*empty, error) {
	q, err := c.queue(in.queueRef)
	if err != nil {
		return nil, err
	}
	return &empty{}, c.relet(q, in.receiptEntry)
}

func (c *call) changeMessageVisibilityBatch(in *receiptBatchIn) (*batchOut[batchID], error) {
	if err := checkBatch(in.Entries); err != nil {
		return nil, err
	}
	q, err := c.queue(in.queueRef)
	if err != nil {
		return nil, err
	}
	failed := make([]error, len(in.Entries))
	for i, e := range in.Entries {
		failed[i] = c.relet(q, e)
	}
	return outcomes(in.Entries, failed), nil
}

// relet makes a lease end VisibilityTimeout from now.
func (c *call) relet(q *spool.Queue, e receiptEntry) error {
	if e.ReceiptHandle == "" || e.VisibilityTimeout == nil {
		return refuse("MissingParameter", "ReceiptHandle or VisibilityTimeout is missing")
	}
	d, err := visibility(e.VisibilityTimeout)
	if err != nil {
		return err
	}
	err = q.ChangeVisibility(c.ctx, e.ReceiptHandle, d)
	switch reason := reasonOf(err); reason {
	case spool.Deleted, spool.Stale, spool.Gone, spool.Expired:
		return refuse("MessageNotInflight", "the receipt does not hold the message any more: %s", reason)
	}
	return err
}

func visibility(seconds *int) (time.Duration, error) {
	if *seconds < 0 || *seconds > maxVisibilitySeconds {
		return 0, refuse("InvalidParameterValue", "VisibilityTimeout is %d, want 0 to %d", *seconds, maxVisibilitySeconds)
	}
	return time.Duration(*seconds) * time.Second, nil
}
