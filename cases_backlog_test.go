package spool_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

// numbered is a body of the given size that begins with n and differs from all others.
func numbered(n, size int) []byte {
	return bytes.Repeat(binary.BigEndian.AppendUint32(nil, uint32(n)), size/4)
}

// A backlog that does not fit in the memory budget is received in order, deleted, rewound and found again.
func TestRuleBacklogBeyondMemory(t *testing.T) {
	const size = 1024
	n := unraced(20_000, 4_000)
	dir := t.TempDir()
	open := func() (*caseSpool, *caseQueue) {
		t.Helper()
		s := onDisk(t, dir, spool.WithDurability(spool.Written), spool.WithMemoryBudget(8<<20))
		q, err := s.OpenQueue(bg, "q", spool.Meta{Rewind: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return s, &caseQueue{q, t}
	}
	s, q := open()
	start := q.attributes().CreatedAt
	for i := 0; i < n; {
		batch := make([]spool.Message, 100)
		for j := range batch {
			batch[j].Body = numbered(i, size)
			i++
		}
		if _, err := q.SendBatch(bg, batch); err != nil {
			t.Fatal(err)
		}
	}
	drain := func(from, to, rewinds int) {
		t.Helper()
		for i := from; i < to; {
			ds, err := q.ReceiveBatch(bg, min(500, to-i), spool.Wait(0), spool.Visibility(time.Hour))
			if err != nil {
				t.Fatalf("ReceiveBatch = %v after %d", err, i)
			}
			var receipts []string
			for _, d := range ds {
				if !bytes.Equal(d.Body, numbered(i, size)) || d.Receives != 1 || d.Rewinds != rewinds {
					t.Fatalf("Receive = message %x of %d bytes, Receives %d, Rewinds %d, want %x of %d, 1 and %d",
						d.Body[:4], len(d.Body), d.Receives, d.Rewinds, i, size, rewinds)
				}
				receipts = append(receipts, d.Receipt)
				i++
			}
			if err := q.DeleteBatch(bg, receipts); err != nil {
				t.Fatal(err)
			}
		}
	}
	drain(0, n/2, 0)
	q.counts(int64(n/2), 0, 0, int64(n/2))
	s.close()
	s, q = open()
	q.counts(int64(n/2), 0, 0, int64(n/2))
	drain(n/2, n, 0)
	q.rewind(start, int64(n))
	q.counts(int64(n), 0, 0, 0)
	s.close()
	_, q = open()
	q.counts(int64(n), 0, 0, 0)
	drain(0, n, 1)
	q.counts(0, 0, 0, int64(n))
}

// The largest messages and batches are stored whole, and read back after reopening.
func TestRuleLargeOnDisk(t *testing.T) {
	onDisks(t, func(t *testing.T, reopen func() *caseSpool) {
		q := reopen().create("q", spool.Meta{MaxMessageSize: 16 << 20, Rewind: time.Hour})
		start := q.attributes().CreatedAt
		if _, err := q.Send(bg, spool.Message{Body: numbered(1, 16<<20), Attributes: map[string]string{"k": string(numbered(2, 60_000))}}); err != nil {
			t.Fatal(err)
		}
		q.send("small")
		if _, err := q.SendBatch(bg, []spool.Message{{Body: numbered(3, 4)}, {Body: numbered(4, 16<<20-8)}, {Body: numbered(5, 4)}}); err != nil {
			t.Fatal(err)
		}
		for rewinds := range 2 {
			q = reopen().get("q")
			q.counts(5, 0, 0, 0)
			var receipts []string
			for _, want := range [][]byte{numbered(1, 16<<20), []byte("small"), numbered(3, 4), numbered(4, 16<<20-8), numbered(5, 4)} {
				d, err := q.Receive(bg)
				if err != nil || !bytes.Equal(d.Body, want) || d.Rewinds != rewinds {
					t.Fatalf("Receive = %s of %d bytes, %v, want %d bytes, rewound %d times", bodyOf(d), len(d.Body), err, len(want), rewinds)
				}
				receipts = append(receipts, d.Receipt)
			}
			if err := q.DeleteBatch(bg, receipts); err != nil {
				t.Fatal(err)
			}
			q.rewind(start, 5)
		}
	})
}

// On the clock of the machine: what a call waits for comes when it is due, and not before.
func TestRuleRealClock(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		const short = 5 * msec
		q, dead := deadPair(s, 4, 0, spool.Meta{Rewind: time.Hour})
		receive := func(q *caseQueue, from time.Time) *spool.Delivery {
			t.Helper()
			d, err := q.Receive(bg, spool.Wait(20*sec), spool.Visibility(short))
			if err != nil {
				t.Fatalf("Receive = %v", err)
			}
			if waited := time.Since(from); waited < short || waited > 10*sec {
				t.Errorf("Receive after %v, want %v and little more", waited, short)
			}
			return d
		}
		start := time.Now()
		q.send("m", short)
		first := receive(q, start)
		leased := first.VisibleAt.Add(-short)
		second := receive(q, leased)
		released := time.Now()
		if err := second.Release(bg, short); errors.Is(err, spool.ErrInvalidReceipt) {
			released = second.VisibleAt.Add(-short) // a slow machine: the lease was over
		} else if err != nil {
			t.Fatal(err)
		}
		third := receive(q, released)
		fourth := receive(q, third.VisibleAt.Add(-short))
		d := receive(dead, fourth.VisibleAt.Add(-short))
		if d.DeadLetter == nil || d.DeadLetter.ID != first.ID || d.DeadLetter.Receives != 4 || d.EnqueuedAt.Before(fourth.VisibleAt) {
			t.Errorf("Receive = %+v, want m after four receives, moved when the last lease ended", d)
		}
		q.counts(0, 0, 0, 0)
		answers := make(chan error, 1)
		at := time.Now()
		go func() {
			_, err := q.Receive(bg, spool.Wait(20*sec))
			answers <- err
		}()
		q.send("n", spool.NoDelay)
		if err := <-answers; err != nil || time.Since(at) > 10*sec {
			t.Errorf("a blocked Receive = %v after %v, want n at once", err, time.Since(at))
		}
	})
}
