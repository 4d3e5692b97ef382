package spool_test

import (
	"errors"
	"time"

	"github.com/spoolmq/spool"
)

// check compares what each queue says of itself with what can be got out of it. It receives all there is.
func (s *caseSpool) check() {
	for _, queue := range s.Queues() {
		q := &caseQueue{queue, s.tb}
		before, err := q.Attributes(bg)
		if errors.Is(err, spool.ErrClosed) {
			return
		}
		if err != nil {
			s.tb.Errorf("%s: Attributes = %v", q.Name(), err)
			return
		}
		if s.frozen {
			q.checkAttributes(before)
		}
		peeked, err := q.Peek(bg, 10)
		if want := min(10, before.Active); s.frozen && (err != nil || int64(len(peeked)) != want) {
			s.tb.Errorf("%s: Peek(10) = %d messages, %v, want %d", q.Name(), len(peeked), err, want)
		}
		got, ids := int64(0), map[string]bool{}
		var last time.Time
		for {
			ds, err := q.ReceiveBatch(bg, spool.MaxBatch, spool.Wait(0), spool.Visibility(24*time.Hour))
			if errors.Is(err, spool.ErrNoMessage) {
				break
			}
			if err != nil {
				s.tb.Errorf("%s: ReceiveBatch = %v", q.Name(), err)
				return
			}
			for i, d := range ds {
				if ids[d.ID] {
					s.tb.Errorf("%s: %s received twice", q.Name(), d.ID)
				}
				if s.frozen && int(got)+i < len(peeked) && peeked[int(got)+i].ID != d.ID {
					s.tb.Errorf("%s: Peek = %s at %d, Receive = %s", q.Name(), peeked[int(got)+i].ID, int(got)+i, d.ID)
				}
				if s.frozen && d.EnqueuedAt.Before(last) {
					s.tb.Errorf("%s: %s of %v received after one of %v", q.Name(), d.ID, d.EnqueuedAt, last)
				}
				ids[d.ID], last = true, d.EnqueuedAt
			}
			got += int64(len(ds))
		}
		if !s.frozen {
			continue
		}
		if got != before.Active {
			s.tb.Errorf("%s: Active = %d, but %d could be received", q.Name(), before.Active, got)
		}
		q.counts(0, before.Inactive+before.Active, before.Delayed, before.Rewindable)
	}
}

func (q *caseQueue) checkAttributes(a spool.Attributes) {
	q.tb.Helper()
	now := time.Now()
	if min(a.Active, a.Inactive, a.Delayed, a.Rewindable, a.Sent, a.Received, a.Deleted) < 0 {
		q.tb.Errorf("%s: a counter below zero: %+v", q.Name(), a)
	}
	if undeleted := a.Active + a.Inactive + a.Delayed; a.Oldest.IsZero() != (undeleted == 0) {
		q.tb.Errorf("%s: Oldest = %v of %d undeleted", q.Name(), a.Oldest, undeleted)
	}
	if a.NextDue.IsZero() != (a.Inactive+a.Delayed == 0) || !a.NextDue.IsZero() && !a.NextDue.After(now) {
		q.tb.Errorf("%s: NextDue = %v at %v of %d Inactive and %d Delayed", q.Name(), a.NextDue, now, a.Inactive, a.Delayed)
	}
	if a.Rewind == 0 && a.Rewindable != 0 {
		q.tb.Errorf("%s: %d Rewindable without a window", q.Name(), a.Rewindable)
	}
	if a.Oldest.After(now) || a.CreatedAt.After(a.ModifiedAt) || a.ModifiedAt.After(now) || a.Deleted > a.Received {
		q.tb.Errorf("%s: impossible at %v: %+v", q.Name(), now, a)
	}
}
