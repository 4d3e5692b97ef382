package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spoolmq/spool"
)

const (
	batchSize   = 256              // messages sent, and received, in one call
	batchBytes  = 1 << 20          // a longer batch is sent in parts
	pollingWait = 20 * time.Second // how long a worker waits for a message before it asks again
	lookEvery   = 50 * time.Millisecond

	lineAttribute = "line" // holds the number of the line, from 1
)

// The releases of the workers' code, in the order in which they are in use.
const (
	firstRelease = 1
	wrongRelease = 2 // writes wrong results
	fixedRelease = 3
)

// work is one run: a producer, the workers, and somebody who looks at how it goes.
type work struct {
	q       *spool.Queue
	text    *source
	journal *journal
	show    *progress

	// inUse is held for reading while a batch is handled, and for writing while the release in use is changed: a batch
	// of the wrong release that is still in hand would be deleted after the rewind, and never come back.
	inUse sync.RWMutex
	begun atomic.Int64 // messages of which the handling began, those of earlier runs included

	mu      sync.Mutex
	waits   []time.Duration // guarded by mu; from send to first receive, of the messages first received in this run
	noticed time.Time       // when the first message was handled wrongly in this run
}

// wrongFrom is the number of handled messages at which the workers begin to go wrong, and noticedAt the one at which
// that is noticed. There is at least one message between them.
func (w *work) wrongFrom() int { return w.text.lines / 3 }
func (w *work) noticedAt() int { return max(w.wrongFrom()+1, 2*w.text.lines/3) }

// run returns nil when every line was sent, handled wrongly or not, and where wrongly, handled again.
func (w *work) run(ctx context.Context, workers int) error {
	if w.text.lines == 0 {
		return nil
	}
	defer w.show.end()
	a, err := w.q.Attributes(ctx)
	if err != nil {
		return err
	}
	w.begun.Store(int64(w.journal.handled()))
	if !w.journal.rewindTo.IsZero() && !w.journal.rewound {
		// An earlier run died in the middle of it. Rewinding once more is harmless: nobody has received since.
		if err := w.rewind(ctx); err != nil {
			return err
		}
	}

	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	start := func(f func(context.Context) error) {
		group.Go(func() {
			if err := f(running); err != nil && running.Err() == nil {
				cancel(err)
			}
		})
	}
	// The producer is the only one and sends the lines in order, a batch all or nothing. So the number of messages that
	// were ever sent is the number of the last line that was: the queue itself remembers where to go on.
	start(func(ctx context.Context) error { return w.produce(ctx, int(a.Sent)) })
	for range workers {
		start(w.consume)
	}
	err = w.watch(running)
	cancel(err)
	group.Wait()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return context.Cause(running)
}

// produce sends the lines after the first sent ones.
func (w *work) produce(ctx context.Context, sent int) error {
	r, err := w.text.open()
	if err != nil {
		return err
	}
	defer r.Close()
	var batch []spool.Message
	var size int
	send := func() error {
		if len(batch) == 0 {
			return nil
		}
		var err error
		if len(batch) == 1 {
			_, err = w.q.Send(ctx, batch[0]) // has room for a message as long as a whole batch
		} else {
			_, err = w.q.SendBatch(ctx, batch)
		}
		batch, size = batch[:0], 0
		step("sent")
		return err
	}
	number := 0
	for line, err := range lines(r) {
		if err != nil {
			return err
		}
		if number++; number <= sent {
			continue
		}
		if len(batch) == batchSize || size+len(line) > batchBytes {
			if err := send(); err != nil {
				return fmt.Errorf("sending the lines before %d: %w", number, err)
			}
		}
		batch = append(batch, spool.Message{
			Body:       body(line),
			Attributes: map[string]string{lineAttribute: strconv.Itoa(number)},
		})
		size += len(line)
	}
	return send()
}

// body is a copy of line, or a newline for an empty one: a message has at least one byte, and no line has a newline.
func body(line []byte) []byte {
	if len(line) == 0 {
		return []byte("\n")
	}
	return bytes.Clone(line)
}

// consume is a worker. It ends with ctx, after the batch it has in hand.
func (w *work) consume(ctx context.Context) error {
	for {
		ds, err := w.q.ReceiveBatch(ctx, batchSize, spool.Wait(pollingWait))
		switch {
		case errors.Is(err, spool.ErrNoMessage):
			continue
		case err != nil:
			return err
		}
		// What was received is finished, whatever becomes of ctx: otherwise it would come again after its lease.
		if err := w.handle(context.WithoutCancel(ctx), ds); err != nil {
			return err
		}
	}
}

// handle writes the results of a batch down, and only then deletes its messages. A crash in between means that they are
// handled again, which changes nothing.
func (w *work) handle(ctx context.Context, ds []*spool.Delivery) error {
	received := time.Now()
	w.inUse.RLock()
	defer w.inUse.RUnlock()
	entries := make([]entry, 0, len(ds))
	receipts := make([]string, 0, len(ds))
	for _, d := range ds {
		w.measure(d, received)
		number, err := strconv.Atoi(d.Attributes[lineAttribute])
		if err != nil {
			return fmt.Errorf("message %s: attribute %s: %w", d.ID, lineAttribute, err)
		}
		if after := retryDelay(number, d); after > 0 {
			if err := d.Release(ctx, after); err != nil && !errors.Is(err, spool.ErrInvalidReceipt) {
				return err
			}
			continue
		}
		entries = append(entries, w.result(number, d))
		receipts = append(receipts, d.Receipt)
	}
	if len(receipts) == 0 {
		return nil
	}
	if err := w.journal.record(entries); err != nil {
		return err
	}
	step("recorded")
	if err := deleteAll(ctx, w.q, receipts); err != nil {
		return err
	}
	step("deleted")
	return nil
}

// retryDelay plays a service that is sometimes away: every fiftieth line fails twice before it can be handled. The
// message is given back, and comes again after a delay that doubles.
func retryDelay(number int, d *spool.Delivery) time.Duration {
	if number%50 != 1 || d.Receives > 2 || d.Rewinds > 0 {
		return 0
	}
	return 100 * time.Millisecond << (d.Receives - 1)
}

// result is what the release that is in use makes of a message.
func (w *work) result(number int, d *spool.Delivery) entry {
	line := d.Body
	if bytes.Equal(line, []byte("\n")) {
		line = nil
	}
	e := entry{id: d.ID, release: firstRelease, enqueued: d.EnqueuedAt, row: rowOf(number, line)}
	begun := w.begun.Add(1)
	switch {
	case !w.journal.rewindTo.IsZero():
		e.release = fixedRelease
	case begun > int64(w.wrongFrom()):
		e.release = wrongRelease
		e.row = rowOf(number, append(line, '!'))
		w.notice()
	}
	return e
}

// deleteAll deletes what can still be deleted. A message whose lease is over comes again, and is handled to the same
// result: that is no failure.
func deleteAll(ctx context.Context, q *spool.Queue, receipts []string) error {
	err := q.DeleteBatch(ctx, receipts)
	var partial *spool.BatchError
	if !errors.As(err, &partial) {
		return err
	}
	for _, f := range partial.Failed {
		if !errors.Is(f.Err, spool.ErrInvalidReceipt) {
			return f.Err
		}
	}
	return nil
}

// watch shows how it goes, has the queue rewound when too much went wrong, and returns nil when nothing is left to do.
func (w *work) watch(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		a, err := w.q.Attributes(ctx)
		if err != nil {
			return err
		}
		w.show.update(a, w.journal)
		switch {
		case !w.journal.rewound && w.journal.handled() >= w.noticedAt():
			if err := w.fix(ctx); err != nil {
				return err
			}
		case a.Sent == int64(w.text.lines) && a.Active+a.Inactive+a.Delayed == 0:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// fix puts the fixed release into use and rewinds the queue to the moment the first wrongly handled message was sent.
// The moment at which things went wrong would be too late: what was handled wrongly then had been sent before.
func (w *work) fix(ctx context.Context) error {
	w.inUse.Lock() // waits for the batches in hand
	defer w.inUse.Unlock()
	to := w.journal.firstWrong(wrongRelease)
	expected, err := w.q.RewindPreview(ctx, to)
	if err != nil {
		return err
	}
	if noticed := w.noticedTime(); !noticed.IsZero() {
		w.show.note("results are wrong since %s; the first wrong one is of a line sent %v before that: rewinding to there",
			noticed.Format("15:04:05.000"), noticed.Sub(to).Round(time.Millisecond))
	}
	if err := w.journal.recordFixed(to, expected); err != nil {
		return err
	}
	step("fixed")
	return w.rewind(ctx)
}

// rewind does what the journal says is to be done.
func (w *work) rewind(ctx context.Context) error {
	if _, err := w.q.Rewind(ctx, w.journal.rewindTo); err != nil {
		return fmt.Errorf("rewinding: %w", err)
	}
	step("rewound")
	w.show.note("rewound %d messages", w.journal.expected)
	return w.journal.recordRewound()
}

// measure keeps how long a message took to its first receive. Not up to FirstReceivedAt: to a worker that waits, a
// message is given in the same instant in which it is sent, and what takes time is to store that.
func (w *work) measure(d *spool.Delivery, at time.Time) {
	if d.Receives > 1 || d.Rewinds > 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waits = append(w.waits, max(at.Sub(d.EnqueuedAt), 0))
}

func (w *work) notice() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.noticed.IsZero() {
		w.noticed = time.Now()
	}
}

func (w *work) noticedTime() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.noticed
}
