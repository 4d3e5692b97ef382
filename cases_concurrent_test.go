package spool_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

// A batch becomes visible whole, and the counters are one snapshot.
func TestRuleSnapshots(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		const size = 10
		batches := 10
		if strings.HasSuffix(t.Name(), "/memory") {
			batches = 100
		}
		q := s.create("q", spool.Meta{Rewind: time.Hour})
		var senders, observers sync.WaitGroup
		var over atomic.Bool
		for range 4 {
			senders.Go(func() {
				batch := make([]spool.Message, size)
				for i := range batch {
					batch[i].Body = []byte("m")
				}
				for range batches {
					if _, err := q.SendBatch(bg, batch); err != nil {
						t.Errorf("SendBatch = %v", err)
						return
					}
					if d, err := q.Receive(bg); err != nil {
						t.Errorf("Receive = %v", err)
					} else if err := d.Delete(bg); err != nil {
						t.Errorf("Delete = %v", err)
					}
				}
			})
		}
		for range 2 {
			observers.Go(func() {
				for !over.Load() {
					a, err := q.Attributes(bg)
					if all := a.Active + a.Inactive + a.Delayed + a.Rewindable; err != nil || all%size != 0 || all != a.Sent ||
						a.Inactive+a.Rewindable != a.Received || a.Rewindable != a.Deleted {
						t.Errorf("Attributes = %+v, %v, want whole batches, and the sums of one instant", a, err)
						return
					}
				}
			})
		}
		senders.Wait()
		over.Store(true)
		observers.Wait()
		q.counts(int64(4*batches*(size-1)), 0, 0, int64(4*batches))
	})
}

// Rewinds at the same time bring each message back once, and count it once.
func TestRuleRewindsTogether(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		const n = 2000
		q := s.create("q", spool.Meta{Rewind: time.Hour})
		start := q.attributes().CreatedAt
		sendMany(q, n, 0)
		receiveMany(q, n, true)
		var all sync.WaitGroup
		var restored atomic.Int64
		for range 8 {
			all.Go(func() {
				got, err := q.Rewind(bg, start)
				if err != nil {
					t.Errorf("Rewind = %v", err)
				}
				restored.Add(got)
			})
		}
		all.Wait()
		if restored.Load() != n {
			t.Errorf("restored = %d, want %d", restored.Load(), n)
		}
		q.counts(n, 0, 0, 0)
	})
}

// A receipt deletes once, however many present it.
func TestRuleDeletesTogether(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		const n = 300
		q := s.create("q", spool.Meta{})
		sendMany(q, n, 0)
		ds, err := q.ReceiveBatch(bg, n)
		if err != nil || len(ds) != n {
			t.Fatalf("ReceiveBatch = %d, %v, want %d", len(ds), err, n)
		}
		var receipts []string
		for _, d := range ds {
			receipts = append(receipts, d.Receipt)
		}
		var all sync.WaitGroup
		var deleted atomic.Int64
		for i := range 6 {
			all.Go(func() {
				if i%2 == 0 {
					for _, r := range receipts {
						if err := q.Delete(bg, r); err == nil {
							deleted.Add(1)
						} else {
							wantReason(t, "Delete", err, spool.Deleted)
						}
					}
					return
				}
				err, failed := q.DeleteBatch(bg, receipts), 0
				if b := (*spool.BatchError)(nil); errors.As(err, &b) {
					failed = len(b.Failed)
					wantReason(t, "DeleteBatch", b.Failed[0].Err, spool.Deleted)
				} else if err != nil {
					t.Errorf("DeleteBatch = %v", err)
				}
				deleted.Add(int64(n - failed))
			})
		}
		all.Wait()
		if a := q.attributes(); deleted.Load() != n || a.Deleted != n {
			t.Errorf("%d deletions succeeded, Deleted = %d, want %d", deleted.Load(), a.Deleted, n)
		}
	})
}

// Several queues of one spool at the same time, with moves between them: nothing is lost and nothing doubled.
func TestRuleQueuesTogether(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		n := 40
		if strings.HasSuffix(t.Name(), "/memory") {
			n = 400
		}
		q, dead := deadPair(s, 2, 0, spool.Meta{})
		ctx, cancel := context.WithTimeout(bg, 20*sec)
		var all sync.WaitGroup
		defer all.Wait()
		defer cancel()
		for range 4 {
			all.Go(func() {
				for i := range n {
					q.send("m")
					if i%10 != 0 {
						continue
					}
					if _, err := dead.Attributes(bg); err != nil {
						t.Errorf("Attributes = %v", err)
					}
				}
			})
			all.Go(func() { // every delivery is released: two of them for each message
				for range 2 * n {
					d, err := q.Receive(ctx, spool.Wait(time.Minute))
					if err == nil {
						err = d.Release(bg, 0)
					}
					if err != nil {
						t.Errorf("Receive and Release = %v", err)
						return
					}
				}
			})
		}
		ids := map[string]bool{}
		for len(ids) < 4*n && !t.Failed() {
			d, err := dead.Receive(ctx, spool.Wait(time.Minute))
			if err != nil {
				t.Fatalf("Receive of the dead-letter queue = %v after %d", err, len(ids))
			}
			if d.DeadLetter == nil || ids[d.DeadLetter.ID] || d.DeadLetter.Receives != 2 {
				t.Fatalf("Receive = %+v, want a message that has not come before, received twice", d)
			}
			ids[d.DeadLetter.ID] = true
			dead.delete(d)
		}
		all.Wait()
		q.counts(0, 0, 0, 0)
		dead.counts(0, 0, 0, 0)
	})
}

// Rule: a lease of a nanosecond ends before the send of its message is written: a receiver that waits is given the message at the
// moment of the send. Whoever looks then is not told that the log is damaged, and a dead letter is moved at once.
func TestRuleLeaseEndsBeforeTheSend(t *testing.T) {
	s := onDisk(t, t.TempDir())
	dead := s.create("dead", spool.Meta{})
	q := s.create("q", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 1}})
	kept := s.create("kept", spool.Meta{})
	ctx, stop := context.WithCancel(bg)
	defer stop()
	looked := make(chan error, 2)
	for _, x := range []*caseQueue{q, kept} {
		go func() {
			for ctx.Err() == nil {
				if _, err := x.Peek(bg, 1); err != nil {
					looked <- err
					return
				}
			}
			looked <- nil
		}()
	}
	for i := range 40 {
		answers := make(chan error, 2)
		for _, x := range []*caseQueue{q, kept} {
			go func() {
				_, err := x.Receive(bg, spool.Wait(time.Minute), spool.Visibility(1))
				answers <- err
			}()
		}
		for s.Stats().Waiting < 2 {
			runtime.Gosched()
		}
		q.send("moved")
		kept.send("held")
		for range 2 {
			if err := <-answers; err != nil {
				t.Fatalf("Receive %d = %v", i, err)
			}
		}
		if _, err := dead.Receive(bg, spool.Wait(700*msec)); err != nil { // a move that was put off comes after a second
			t.Errorf("Receive %d of the dead-letter queue = %v", i, err)
			break
		}
		if err := kept.Purge(bg); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	for range 2 {
		if err := <-looked; err != nil {
			t.Errorf("Peek = %v", err)
		}
	}
}
