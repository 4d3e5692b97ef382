package spool_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

func TestCase23Receipts(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q, other := s.create("q", spool.Meta{}), s.create("other", spool.Meta{})
		q.sendDelete("before")
		id := q.send("m")
		d := q.receive("m")
		other.refused(d.Receipt, spool.WrongQueue)
		strange := inMemory(t)
		stranger := strange.create("q", spool.Meta{})
		stranger.send("m")
		q.refused(stranger.receive("m").Receipt, spool.Malformed)
		for _, garbage := range []string{"", "x", id, "q", d.Receipt[1:], d.Receipt[:len(d.Receipt)-1], d.Receipt + "A",
			"A" + d.Receipt, d.Receipt + d.Receipt, d.Receipt + "\n", d.Receipt + "=", " " + d.Receipt, "\x00\xff",
			strings.Repeat("A", len(d.Receipt)), strings.Repeat("A", 1<<20), strings.ToUpper(d.Receipt) + "a", "日本"} {
			q.refused(garbage, spool.Malformed)
			other.refused(garbage, spool.Malformed)
		}
		const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=."
		for i := range d.Receipt {
			for _, c := range []byte(letters) {
				if forged := d.Receipt[:i] + string(c) + d.Receipt[i+1:]; forged != d.Receipt {
					wantReason(t, "Delete with character "+fmt.Sprint(i)+" changed", q.Delete(bg, forged), spool.Malformed)
				}
			}
		}
		q.counts(0, 1, 0, 0)
		q.delete(d)
		q.refused(d.Receipt, spool.Deleted)
		wantReason(t, "Delete again", d.Delete(bg), spool.Deleted)
		wantReason(t, "Extend", d.Extend(bg, sec), spool.Deleted)
		wantReason(t, "Release", d.Release(bg, 0), spool.Deleted)
		other.refused(d.Receipt, spool.WrongQueue)
	})
}

func TestRuleZeroDelivery(t *testing.T) {
	d := new(spool.Delivery)
	wantReason(t, "Delete of a zero Delivery", d.Delete(bg), spool.Malformed)
	wantReason(t, "Extend of a zero Delivery", d.Extend(bg, sec), spool.Malformed)
	wantReason(t, "Release of a zero Delivery", d.Release(bg, 0), spool.Malformed)
}

// The first that is true of Malformed, WrongQueue, Deleted, Stale, Gone, Expired counts.
func TestRuleReasons(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		keeps := s.create("keeps", spool.Meta{Rewind: time.Hour, Retention: 2 * time.Hour, VisibilityTimeout: 10 * sec})
		drops := s.create("drops", spool.Meta{Retention: 2 * time.Hour, VisibilityTimeout: 10 * sec})
		for _, q := range []*caseQueue{keeps, drops} {
			q.send("m")
			first := q.receive("m")
			time.Sleep(10 * sec)
			q.refused(first.Receipt, spool.Expired)
			second := q.receive("m")
			q.refused(first.Receipt, spool.Stale)
			time.Sleep(10 * sec)
			q.refused(first.Receipt, spool.Stale)
			q.refused(second.Receipt, spool.Expired)
			third := q.receive("m")
			q.delete(third)
			q.refused(third.Receipt, spool.Deleted)
			if q == keeps {
				q.refused(first.Receipt, spool.Stale)
				q.refused(second.Receipt, spool.Stale)
			} else { // gone, and what became of earlier leases need not be remembered
				q.refused(first.Receipt, spool.Stale, spool.Gone)
			}

			q.send("purged")
			purged := q.receive("purged")
			if err := q.Purge(bg); err != nil {
				t.Fatal(err)
			}
			q.refused(purged.Receipt, spool.Gone)
			q.refused(third.Receipt, spool.Deleted) // among the latest 4,096 deletions

			q.send("expires")
			expires := q.receive("expires", spool.Visibility(3*time.Hour))
			time.Sleep(2 * time.Hour)
			q.refused(expires.Receipt, spool.Gone)
			q.refused(purged.Receipt, spool.Gone)
			q.refused(third.Receipt, spool.Deleted)
		}
	})
}

// A receipt that has deleted its message says so before anything else that became true of it: rewound, received again,
// deleted again by another one, expired, purged.
func TestRuleDeletedFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Rewind: time.Hour, Retention: 2 * time.Hour, VisibilityTimeout: 10 * sec})
		for _, ends := range []func(){
			func() { time.Sleep(2 * time.Hour) },
			func() {
				if err := q.Purge(bg); err != nil {
					t.Fatal(err)
				}
			},
		} {
			start := time.Now()
			q.send("m")
			before := q.receive("m")
			time.Sleep(10 * sec)
			first := q.receive("m")
			q.delete(first)
			same := func() {
				t.Helper()
				q.refused(first.Receipt, spool.Deleted)
				q.refused(before.Receipt, spool.Stale)
			}
			same()
			q.rewind(start, 1)
			same()
			lapsed := q.receive("m")
			same()
			time.Sleep(10 * sec)
			same()
			q.refused(lapsed.Receipt, spool.Expired)
			second := q.receive("m")
			q.delete(second)
			same()
			q.refused(lapsed.Receipt, spool.Stale)
			q.rewind(start, 1)
			third := q.receive("m", spool.Visibility(3*time.Hour))
			same()
			q.refused(second.Receipt, spool.Deleted)
			ends()
			same()
			q.refused(second.Receipt, spool.Deleted)
			q.refused(third.Receipt, spool.Gone)
		}
	})
}

// Deleted is remembered while the message is rewindable, and for the latest 4,096 deletions of the spool at least.
func TestRuleDeletionsRemembered(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		keeps, drops := s.create("keeps", spool.Meta{Rewind: time.Hour}), s.create("drops", spool.Meta{})
		_, kept := keeps.sendDelete("kept")
		_, dropped := drops.sendDelete("dropped")
		for n := 0; n < 4095; {
			batch := make([]spool.Message, min(819, 4095-n))
			for i := range batch {
				batch[i].Body = []byte("m")
			}
			if _, err := drops.SendBatch(bg, batch); err != nil {
				t.Fatal(err)
			}
			ds, err := drops.ReceiveBatch(bg, len(batch))
			if err != nil {
				t.Fatal(err)
			}
			var receipts []string
			for _, d := range ds {
				receipts = append(receipts, d.Receipt)
			}
			if err := drops.DeleteBatch(bg, receipts); err != nil {
				t.Fatal(err)
			}
			n += len(receipts)
		}
		drops.refused(dropped, spool.Deleted)
		for range 5 {
			drops.sendDelete("more")
		}
		keeps.refused(kept, spool.Deleted)
		drops.refused(dropped, spool.Deleted, spool.Gone)
		keeps.rewind(keeps.attributes().CreatedAt, 1)
		keeps.refused(kept, spool.Deleted, spool.Stale)
	})
}

func TestCase25DeleteBatch(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q, other := s.create("q", spool.Meta{}), s.create("other", spool.Meta{})
		for _, n := range []int{0, spool.MaxBatch + 1} {
			wantArgument(t, fmt.Sprintf("DeleteBatch of %d", n), q.DeleteBatch(bg, make([]string, n)))
		}
		other.send("x")
		strange := other.receive("x").Receipt
		var r []string
		for _, body := range []string{"a", "b", "c"} {
			q.send(body)
			r = append(r, q.receive(body).Receipt)
		}
		want := func(err error, code int, failed ...spool.ItemError) {
			t.Helper()
			var b *spool.BatchError
			if !errors.As(err, &b) || !errors.Is(err, spool.ErrBatchPartial) || spool.CodeOf(err) != code || len(b.Failed) != len(failed) {
				t.Fatalf("DeleteBatch = %v (code %d), want %d failures and code %d", err, spool.CodeOf(err), len(failed), code)
			}
			for i, f := range b.Failed {
				if f.Index != failed[i].Index || f.Receipt != failed[i].Receipt {
					t.Errorf("Failed[%d] = %+v, want %+v", i, f, failed[i])
				}
				wantReason(t, fmt.Sprintf("Failed[%d].Err", i), f.Err, failed[i].Err.(*spool.ReceiptError).Reason)
			}
		}
		item := func(i int, receipt string, reason spool.Reason) spool.ItemError {
			return spool.ItemError{Index: i, Receipt: receipt, Err: &spool.ReceiptError{Reason: reason}}
		}
		want(q.DeleteBatch(bg, []string{"junk", r[0], strange, r[0], r[1]}), 6010,
			item(0, "junk", spool.Malformed), item(2, strange, spool.WrongQueue), item(3, r[0], spool.Deleted))
		q.counts(0, 1, 0, 0)
		want(q.DeleteBatch(bg, []string{r[0], r[1]}), 6020, item(0, r[0], spool.Deleted), item(1, r[1], spool.Deleted))
		want(q.DeleteBatch(bg, []string{""}), 6020, item(0, "", spool.Malformed))
		want(q.DeleteBatch(bg, []string{r[1], r[2]}), 6010, item(0, r[1], spool.Deleted))
		q.counts(0, 0, 0, 0)
		other.counts(0, 1, 0, 0)
		if a := q.attributes(); a.Deleted != 3 {
			t.Errorf("Deleted = %d, want 3", a.Deleted)
		}
		q.send("d")
		if err := q.DeleteBatch(bg, []string{q.receive("d").Receipt}); err != nil {
			t.Errorf("DeleteBatch = %v", err)
		}
	})
}
