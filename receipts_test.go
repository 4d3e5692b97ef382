package spool_test

import (
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

var (
	receiptsSeed  = flag.Uint64("spool.receipts.seed", 0, "seed of TestReceipts; 0 draws one")
	receiptsSteps = flag.Int("spool.receipts.steps", 0, "steps of TestReceipts (0: 4000)")
)

// drawn is what a test at random runs with: the flags, or where they are 0 a seed of its own and 4000 steps, few with -short.
func drawn(seed uint64, steps, few int) (uint64, int) {
	if seed == 0 {
		seed = rand.Uint64() >> 16
	}
	switch {
	case steps == 0 && testing.Short():
		steps = few
	case steps == 0:
		steps = 4000
	}
	return seed, steps
}

// TestReceipts uses receipts as nobody should: forged, cut, used again, after the delete, after the lease, after another
// receive, after a reopen, on another queue, on a queue made again under the same name, from another spool. The answer is
// the documented one, and nothing changes.
func TestReceipts(t *testing.T) {
	seed, steps := drawn(*receiptsSeed, *receiptsSteps, 4000)
	t.Logf("-spool.receipts.seed=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 9))
	dir := t.TempDir()
	open := func() *spool.Spool {
		s, err := spool.Open(dir, spool.WithDurability(spool.Written), spool.WithSizes(64<<10, 64<<10))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	w := newWallet(t, open(), rng.IntN)
	for i := range steps {
		if i%500 == 499 {
			if err := w.s.Close(); err != nil {
				t.Fatal(err)
			}
			w.reopened(open())
		}
		if w.step(); t.Failed() {
			t.Fatalf("after %d steps of seed %d", i+1, seed)
		}
	}
	w.close()
	t.Logf("%d receipts, %d refusals: %v", len(w.receipts), w.refusals, w.reasons)
	for _, r := range []spool.Reason{spool.Malformed, spool.WrongQueue, spool.Stale, spool.Expired, spool.Deleted, spool.Gone} {
		if w.reasons[r] == 0 && steps >= 4000 {
			t.Errorf("no receipt was refused as %s", r)
		}
	}
}

// FuzzReceipts is TestReceipts with the choices of the fuzzer, in memory.
func FuzzReceipts(f *testing.F) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 9))
		data := make([]byte, 300)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := spool.OpenMemory()
		if err != nil {
			t.Fatal(err)
		}
		data = data[:min(len(data), 2000)]
		w := newWallet(t, s, func(n int) int {
			if len(data) == 0 {
				return 0
			}
			b := int(data[0])
			data = data[1:]
			if n > 256 && len(data) > 0 {
				b, data = b<<8|int(data[0]), data[1:]
			}
			return b % n
		})
		for len(data) > 0 {
			w.step()
		}
		w.close()
	})
}

// A wallet knows what has become of each receipt.
type wallet struct {
	t        *testing.T
	s        *spool.Spool
	stranger *spool.Spool
	draw     func(n int) int
	queues   []*walletQueue
	receipts []*walletReceipt
	deleted  int // by receipts
	refusals int
	reasons  map[spool.Reason]int
}

type walletQueue struct {
	q     *spool.Queue
	name  string
	meta  spool.Meta
	epoch int // rises when it is made again
}

type walletReceipt struct {
	text    string
	message string // ID; empty for what is no receipt of this spool
	queue   *walletQueue
	epoch   int
	live    bool
	may     []spool.Reason // when it is not
	deleted int            // the number of its deletion since the spool was opened; 0 = it has not deleted
}

func newWallet(t *testing.T, s *spool.Spool, draw func(n int) int) *wallet {
	w := &wallet{t: t, s: s, draw: draw, reasons: map[spool.Reason]int{}}
	var err error
	if w.stranger, err = spool.OpenMemory(); err != nil {
		t.Fatal(err)
	}
	long := 24 * time.Hour
	for i, name := range []string{"keeps", "drops"} {
		q := &walletQueue{name: name, meta: spool.Meta{VisibilityTimeout: long, Retention: 3 * long}}
		if i == 0 {
			q.meta.Rewind = long
		}
		w.queues = append(w.queues, q)
		w.make(q)
	}
	strange, err := w.stranger.CreateQueue(bg, "keeps", w.queues[0].meta)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := strange.Send(bg, spool.Message{Body: []byte("m")}); err != nil {
		t.Fatal(err)
	}
	d, err := strange.Receive(bg)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{d.Receipt, "", "../keeps", "\x00", strings.Repeat("A", 54), strings.Repeat("x", 1<<16)} {
		w.receipts = append(w.receipts, &walletReceipt{text: text, may: []spool.Reason{spool.Malformed}})
	}
	return w
}

func (w *wallet) make(q *walletQueue) {
	var err error
	if q.q, err = w.s.CreateQueue(bg, q.name, q.meta); err != nil {
		w.t.Fatal(err)
	}
	q.epoch++
}

func (w *wallet) close() {
	if err := errors.Join(w.s.Close(), w.stranger.Close()); err != nil {
		w.t.Error(err)
	}
}

func (w *wallet) reopened(s *spool.Spool) {
	w.s = s
	for _, q := range w.queues {
		var err error
		if q.q, err = s.Queue(q.name); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, r := range w.receipts { // which deletions there were may be forgotten
		r.deleted = 0
		if slices.Contains(r.may, spool.Deleted) {
			r.may = []spool.Reason{spool.Deleted, spool.Stale, spool.Gone}
		}
	}
}

// become says of the receipts of messages that are live, or of all but the deleted ones, what they will be refused with.
func (w *wallet) become(q *walletQueue, message string, all bool, may ...spool.Reason) {
	for _, r := range w.receipts {
		if r.queue == q && r.epoch == q.epoch && (message == "" || r.message == message) && (all || r.live) {
			r.live, r.may = false, may
		}
	}
}

func (w *wallet) step() {
	q := w.queues[w.draw(len(w.queues))]
	switch w.draw(12) {
	case 0, 1, 2:
		if _, err := q.q.Send(bg, spool.Message{Body: []byte("m")}); err != nil {
			w.t.Error(err)
		}
	case 3, 4, 5:
		d, err := q.q.Receive(bg)
		if err != nil {
			if !errors.Is(err, spool.ErrNoMessage) {
				w.t.Error(err)
			}
			return
		}
		for _, r := range w.receipts {
			if r.text == d.Receipt {
				w.t.Errorf("receipt %q is given out twice", d.Receipt)
			}
			if r.message == d.ID && !slices.Contains(r.may, spool.Deleted) {
				r.may = []spool.Reason{spool.Stale}
			}
		}
		w.receipts = append(w.receipts, &walletReceipt{text: d.Receipt, message: d.ID, queue: q, epoch: q.epoch, live: true})
	case 6:
		if w.draw(8) == 0 {
			w.end(q)
		} else {
			w.release(q)
		}
	case 7:
		w.batch(q)
	default:
		w.use(q)
	}
}

// release ends the lease of a message.
func (w *wallet) release(q *walletQueue) {
	for _, r := range slices.Backward(w.receipts) {
		if r.live && r.queue == q && r.epoch == q.epoch {
			if err := q.q.ChangeVisibility(bg, r.text, 0); err != nil {
				w.t.Error(err)
			}
			r.live, r.may = false, []spool.Reason{spool.Expired}
			return
		}
	}
}

// end purges, rewinds, or makes a queue anew.
func (w *wallet) end(q *walletQueue) {
	var err error
	switch w.draw(3) {
	case 0:
		err = q.q.Purge(bg)
		w.become(q, "", true, spool.Gone, spool.Stale, spool.Deleted)
	case 1:
		if q.meta.Rewind == 0 {
			return
		}
		from, _, e := q.q.RewindRange()
		if err = e; err == nil {
			_, err = q.q.Rewind(bg, from.Add(time.Minute))
		}
		for _, r := range w.receipts {
			if r.queue == q && r.epoch == q.epoch && slices.Contains(r.may, spool.Deleted) {
				r.may = []spool.Reason{spool.Deleted, spool.Stale, spool.Gone}
			}
		}
	case 2:
		if err = w.s.DeleteQueue(bg, q.name); err == nil {
			w.make(q)
		}
	}
	if err != nil {
		w.t.Error(err)
	}
}

// pick is a receipt, perhaps changed, and what it should be refused with on a queue; nil: it works.
func (w *wallet) pick(q *walletQueue) (r *walletReceipt, text string, want []spool.Reason) {
	r = w.receipts[len(w.receipts)-1-w.draw(min(len(w.receipts), 12))]
	text = r.text
	switch how := w.draw(8); {
	case how == 0 && len(text) > 0:
		text = text[:w.draw(len(text))]
	case how == 1 && len(text) > 0:
		at := w.draw(len(text))
		text = text[:at] + string(byte(w.draw(256))) + text[at+1:]
	case how == 2:
		if raw, err := base64.RawURLEncoding.DecodeString(text); err == nil && len(raw) > 0 {
			raw[w.draw(len(raw))] ^= 1 << w.draw(8)
			text = base64.RawURLEncoding.EncodeToString(raw)
		}
	case how == 3:
		text += string(byte(w.draw(256)))
	}
	r, want = w.expected(q, text)
	return r, text, want
}

// expected is whose receipt a text is, nil for nobody's, and what it should be refused with on a queue; nil: it works.
func (w *wallet) expected(q *walletQueue, text string) (r *walletReceipt, want []spool.Reason) {
	i := slices.IndexFunc(w.receipts, func(r *walletReceipt) bool { return r.text == text })
	if i < 0 {
		return nil, []spool.Reason{spool.Malformed}
	}
	switch r = w.receipts[i]; {
	case r.message == "":
		return r, r.may
	case r.queue != q || r.epoch != q.epoch:
		return r, []spool.Reason{spool.WrongQueue}
	case r.live:
		return r, nil
	case r.deleted > 0 && w.deleted-r.deleted < 4096: // whatever became of the message since
		return r, []spool.Reason{spool.Deleted}
	}
	return r, r.may
}

// refused compares an error with what it should be, and tells whether it is a refusal.
func (w *wallet) refused(what, text string, err error, want []spool.Reason) bool {
	w.t.Helper()
	var e *spool.ReceiptError
	switch {
	case err == nil && want == nil:
		return false
	case err == nil:
		w.t.Errorf("%s of %.80q succeeded, want %v", what, text, want)
	case !errors.Is(err, spool.ErrInvalidReceipt) || !errors.As(err, &e) || spool.CodeOf(err) != 4430:
		w.t.Errorf("%s of %.80q = %v (code %d), want ErrInvalidReceipt", what, text, err, spool.CodeOf(err))
	case !slices.Contains(want, e.Reason):
		w.t.Errorf("%s of %.80q = %v, want %v", what, text, err, want)
	default:
		w.refusals++
		w.reasons[e.Reason]++
	}
	return true
}

// counters are all numbers of the spool.
func (w *wallet) counters() string {
	var all strings.Builder
	for _, q := range w.queues {
		a, err := q.q.Attributes(bg)
		if err != nil {
			w.t.Error(err)
		}
		fmt.Fprintln(&all, a.Active, a.Inactive, a.Delayed, a.Rewindable, a.Sent, a.Received, a.Deleted, a.NextDue)
	}
	return all.String()
}

// use uses a receipt on a queue, which may be another one.
func (w *wallet) use(q *walletQueue) {
	r, text, want := w.pick(q)
	before := w.counters()
	var what string
	var err error
	switch w.draw(4) {
	case 0, 1:
		what, err = "Delete", q.q.Delete(bg, text)
		if err == nil && want == nil {
			w.delete(r)
		}
	case 2:
		what, err = "ChangeVisibility", q.q.ChangeVisibility(bg, text, 36*time.Hour)
	case 3:
		what, err = "ChangeVisibility to 0", q.q.ChangeVisibility(bg, text, 0)
		if err == nil && want == nil {
			r.live, r.may = false, []spool.Reason{spool.Expired}
		}
	}
	if w.refused(what, text, err, want) {
		if after := w.counters(); after != before {
			w.t.Errorf("a refused %s has changed\n%sto\n%s", what, before, after)
		}
	}
}

// delete notes a delete. What earlier receipts of the message are refused with need not be remembered.
func (w *wallet) delete(r *walletReceipt) {
	for _, x := range w.receipts {
		if x.message == r.message && x != r {
			x.may = []spool.Reason{spool.Stale, spool.Gone, spool.Deleted}
			x.live = false
		}
	}
	w.deleted++
	r.live, r.may, r.deleted = false, []spool.Reason{spool.Deleted}, w.deleted
}

// batch deletes by several receipts at a time, some of them twice.
func (w *wallet) batch(q *walletQueue) {
	var texts []string
	var wants [][]spool.Reason
	for range 1 + w.draw(6) {
		r, text, want := w.pick(q)
		if n := w.draw(4); n == 0 && len(texts) > 0 {
			text = texts[w.draw(len(texts))]
			r, want = w.expected(q, text)
		}
		texts, wants = append(texts, text), append(wants, want)
		if want == nil {
			w.delete(r)
		}
	}
	err := q.q.DeleteBatch(bg, texts)
	failed := map[int]error{}
	if b := (*spool.BatchError)(nil); errors.As(err, &b) {
		for _, f := range b.Failed {
			if f.Receipt != texts[f.Index] {
				w.t.Errorf("DeleteBatch names %q at %d, want %q", f.Receipt, f.Index, texts[f.Index])
			}
			failed[f.Index] = f.Err
		}
		want := 6010
		if len(failed) == len(texts) {
			want = 6020
		}
		if !errors.Is(err, spool.ErrBatchPartial) || spool.CodeOf(err) != want {
			w.t.Errorf("DeleteBatch = %v (code %d), want code %d", err, spool.CodeOf(err), want)
		}
	} else if err != nil {
		w.t.Errorf("DeleteBatch = %v", err)
	}
	for i, want := range wants {
		w.refused("DeleteBatch", texts[i], failed[i], want)
	}
}
