package spool

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spoolmq/spool/store"
)

var faultDense = flag.Int("spool.fault.dense", 0, "TestFaultPoints leaves out one call in so many of those before (0: 3, 1 with -short; a million: none)")

// TestFaultPoints runs a script of all that commits, checkpoints, cleans and recovers, and of which one call of the log or
// of the index fails: the n-th of its kind, for each kind and n. Every call says the truth; the spool stops or goes on as
// it should; and a crash later everything that was acknowledged is there.
func TestFaultPoints(t *testing.T) {
	dense := *faultDense
	if dense == 0 {
		dense = 3
		if testing.Short() {
			dense = 1
		}
	}
	for _, call := range faultCalls {
		for _, errno := range []error{syscall.EIO, store.ErrNoSpace} {
			if errno == store.ErrNoSpace && call != faultGrow && call != faultApply && call != faultMake {
				continue // who takes no space does not lack it
			}
			t.Run(fmt.Sprintf("%s/%v", call, errno), func(t *testing.T) {
				t.Parallel()
				points := 0
				for n := 1; ; n++ {
					if n > 3 {
						n += n / dense
					}
					f := &fault{call: call, n: n, err: errno}
					(&faultRun{t: t, what: fmt.Sprintf("%s %d: %v", call, n, errno), disk: newFaultDisk(t, f)}).run()
					if t.Failed() || !f.met() {
						break
					}
					points++
				}
				t.Logf("%d places", points)
				if points == 0 {
					t.Error("the script makes no such call")
				}
			})
		}
	}
}

// A faultRun is one run of the script. It knows what it was told of each message.
type faultRun struct {
	t     *testing.T
	what  string
	disk  *faultDisk
	s     *Spool
	fates map[string]*fate // by body
	made  map[string]bool  // queues; false: perhaps
	ended map[string]bool  // queues that are gone; false: perhaps
	n     int
}

// A fate is what is known of a message. Of a batch all or nothing is there.
type fate struct {
	queue   string
	batch   int
	sent    bool // false: perhaps
	deleted bool
	doubt   bool // whether it is deleted is not known
}

func (r *faultRun) begun() {
	r.fates, r.made, r.ended = map[string]*fate{}, map[string]bool{}, map[string]bool{}
}

func (r *faultRun) run() {
	r.begun()
	for i, session := range []func(){r.begin, r.change, r.clean, r.stray, r.close} {
		if r.open(); r.s == nil {
			return
		}
		session()
		if i%2 == 0 {
			r.end()
			r.disk.crash(r.t, func() {})
		} else {
			r.disk.crash(r.t, r.end)
		}
		if r.t.Failed() {
			return
		}
	}
	r.disk.hush(true)
	if r.open(); r.s == nil {
		return
	}
	r.judge()
	if err := r.s.Close(); err != nil {
		r.errorf("Close at the end = %v", err)
	}
}

func (r *faultRun) errorf(format string, args ...any) {
	r.t.Helper()
	r.t.Errorf("%s: %s", r.what, fmt.Sprintf(format, args...))
}

// open opens the spool. When the fault hits it there, the answer is an error, and the next open finds what was there.
func (r *faultRun) open() {
	for range 2 {
		s, err := r.disk.open(WithoutPaging, WithPaging(0, 1<<40), WithSizes(16<<10, 1<<40))
		if err == nil {
			takeKeeper(s)
			s.keeper.shelf.most = 1 << 10
			r.s = s
			r.check("after an open")
			return
		}
		r.s = nil
		if !r.disk.met() || !errors.Is(err, ErrStoreFailed) && !errors.Is(err, ErrCorrupt) {
			r.errorf("Open = %v", err)
			return
		}
		r.disk.crash(r.t, func() {})
	}
	r.errorf("Open failed twice")
}

func (r *faultRun) check(when string) {
	defer r.disk.hush(r.disk.hush(true))
	if errs := checkSpool(r.s); len(errs) > 0 {
		r.errorf("%s: %s", when, strings.Join(errs, "\n"))
	}
}

// end closes the spool.
func (r *faultRun) end() {
	stopped := r.s.broken()
	if stopped == nil {
		r.check("at the end")
	}
	switch err := r.s.Close(); {
	case stopped != nil && !errors.Is(err, ErrStoreFailed) && !errors.Is(err, ErrCorrupt):
		r.errorf("Close of a spool that has stopped = %v", err)
	case err != nil && !r.disk.met():
		r.errorf("Close = %v", err)
	}
}

// ok tells whether a call succeeded, and fails the test when its error is not a documented one.
func (r *faultRun) ok(err error) bool {
	r.t.Helper()
	switch {
	case err == nil:
		return true
	case !r.disk.met():
		r.errorf("%v, and nothing has failed", err)
	case errors.Is(err, ErrStoreFailed):
		if r.s.broken() == nil {
			r.errorf("%v, and the spool goes on", err)
		}
	case errors.Is(err, ErrNoSpace):
		if r.disk.err != store.ErrNoSpace {
			r.errorf("%v", err)
		}
	default:
		r.errorf("%v", err)
	}
	return false
}

func (r *faultRun) queue(name string) *Queue {
	q, err := r.s.Queue(name)
	if err != nil {
		return nil
	}
	return q
}

func (r *faultRun) create(name string, m Meta) {
	if _, err := r.s.OpenQueue(r.t.Context(), name, m); r.ok(err) {
		r.made[name] = true
	} else if !errors.Is(err, ErrNoSpace) {
		r.made[name] = r.made[name] || false
	}
}

func (r *faultRun) send(name string, n int) {
	q := r.queue(name)
	if q == nil {
		return
	}
	r.n++
	var ms []Message
	for i := range n {
		ms = append(ms, Message{Body: fmt.Appendf(nil, "%s %d %d", name, r.n, i)})
	}
	_, err := q.SendBatch(r.t.Context(), ms)
	if sent := r.ok(err); sent || !errors.Is(err, ErrNoSpace) {
		for _, m := range ms {
			r.fates[string(m.Body)] = &fate{queue: name, batch: r.n, sent: sent}
		}
	}
}

func (r *faultRun) receive(name string, n int) []*Delivery {
	q := r.queue(name)
	if q == nil {
		return nil
	}
	ds, err := q.ReceiveBatch(r.t.Context(), n)
	if errors.Is(err, ErrNoMessage) || !r.ok(err) {
		return nil
	}
	for _, d := range ds {
		f := r.fates[string(d.Body)]
		if f == nil || f.deleted && !f.doubt {
			r.errorf("received %q, %+v", d.Body, f)
		}
	}
	return ds
}

// delete deletes n messages.
func (r *faultRun) delete(name string, n int) {
	ds := r.receive(name, n)
	if len(ds) == 0 {
		return
	}
	var receipts []string
	for _, d := range ds {
		receipts = append(receipts, d.Receipt)
	}
	err := r.queue(name).DeleteBatch(r.t.Context(), receipts)
	deleted := r.ok(err)
	for _, d := range ds {
		f := r.fates[string(d.Body)]
		f.deleted, f.doubt = f.deleted || deleted, !deleted && !errors.Is(err, ErrNoSpace)
	}
}

// spend has n messages received as often as the dead-letter rule allows.
func (r *faultRun) spend(name string, n int) {
	for range 2 {
		for _, d := range r.receive(name, n) {
			r.ok(d.Release(r.t.Context(), 0))
		}
	}
}

func (r *faultRun) rewind(name string) {
	q := r.queue(name)
	if q == nil {
		return
	}
	from, _, err := q.RewindRange()
	if err != nil {
		r.ok(err)
		return
	}
	_, err = q.Rewind(r.t.Context(), from.Add(time.Minute))
	rewound := r.ok(err)
	for _, f := range r.fates {
		if f.queue != name || rewound && f.doubt {
			continue
		}
		if rewound {
			f.deleted = false
		} else if f.deleted && !errors.Is(err, ErrNoSpace) {
			f.doubt = true
		}
	}
}

func (r *faultRun) checkpoint() {
	k := r.s.keeper
	k.work.Lock()
	defer k.work.Unlock()
	k.checkpoint()
	k.reclaim()
}

func (r *faultRun) evict() {
	k := r.s.keeper
	k.work.Lock()
	defer k.work.Unlock()
	k.fruitless = time.Time{}
	k.evict()
}

func (r *faultRun) cleanSegments() {
	for range 3 {
		if err := r.s.Clean(); err != nil {
			r.ok(storeError(err))
			return
		}
	}
}

var faultMeta = Meta{VisibilityTimeout: 11 * time.Hour, Rewind: time.Hour}

func (r *faultRun) begin() {
	orders := faultMeta
	r.create("dead", faultMeta)
	orders.DeadLetter = &DeadLetter{Queue: "dead", MaxReceives: 2}
	if r.queue("dead") != nil {
		r.create("orders", orders)
	}
	for _, name := range []string{"doomed", "purged", "idle"} {
		r.create(name, faultMeta)
	}
	r.create("plain", Meta{VisibilityTimeout: 11 * time.Hour})
	for _, name := range []string{"orders", "doomed", "plain"} {
		r.send(name, 600)
		r.send(name, 600)
	}
	r.send("purged", 40)
	r.create("split", faultMeta)
	r.send("split", 10)
	r.send("split", 10)
	r.delete("split", 20)
	r.delete("orders", 700)
	r.delete("plain", 100)
	r.checkpoint()
	r.spend("orders", 10)
	r.evict()
	r.rewind("orders")
	r.delete("orders", 20)
	r.checkpoint()
}

func (r *faultRun) change() {
	ctx := r.t.Context()
	r.delete("orders", 30)
	r.send("orders", 50)
	r.spend("orders", 5)
	r.rewind("orders")
	if q := r.queue("orders"); q != nil {
		r.ok(q.SetMeta(ctx, func(m *Meta) { m.Rewind = 2 * time.Hour }))
	}
	if q := r.queue("purged"); q != nil {
		err := q.Purge(ctx)
		purged := r.ok(err)
		for _, f := range r.fates {
			if f.queue == "purged" {
				f.deleted, f.doubt = purged, !purged && !errors.Is(err, ErrNoSpace)
			}
		}
	}
	r.send("purged", 5)
	if r.queue("doomed") != nil {
		if err := r.s.DeleteQueue(ctx, "doomed"); r.ok(err) {
			r.ended["doomed"] = true
		} else if !errors.Is(err, ErrNoSpace) {
			r.ended["doomed"] = false
		}
	}
	r.evict()
	r.checkpoint()
	r.s.keeper.busy.Store(true)
	r.s.keeper.round(new(time.Time))
}

func (r *faultRun) clean() {
	r.send("plain", 10)
	r.delete("plain", 900)
	r.cleanSegments()
	r.send("orders", 10)
	r.evict()
	r.cleanSegments()
	r.checkpoint()
}

// split rewinds to an instant that divides the deleted messages of a block.
func (r *faultRun) split() {
	q := r.queue("split")
	if q == nil || r.s.broken() != nil {
		return
	}
	q.hold()
	b := q.st.block(0)
	for b != nil && b.body == nil {
		if q.st.here(b); !q.pageIn(true) {
			b = nil
		}
	}
	if b == nil || b.places.n < 20 {
		q.mu.Unlock()
		return
	}
	at := q.st.cursor.get(&b.places, 10).at
	q.mu.Unlock()
	_, err := q.Rewind(r.t.Context(), time.Unix(0, at))
	r.ok(err)
	for _, f := range r.fates {
		f.doubt = f.doubt || f.queue == "split"
	}
}

// stray leaves records in the index that no checkpoint tells of.
func (r *faultRun) stray() {
	r.split()
	r.delete("orders", 10)
	r.send("plain", 300)
	r.evict()
	r.ok(r.s.Sync(r.t.Context()))
}

func (r *faultRun) close() {
	r.evict()
	r.delete("plain", 50)
	r.checkpoint()
	r.delete("plain", 20)
	r.evict()
	r.cleanSegments()
}

// judge compares what is there with what was told.
func (r *faultRun) judge() {
	there, batches := faultLook(r.t, r.s), map[int][2]int{}
	for name, sure := range r.made {
		_, gone := r.ended[name]
		if r.queue(name) == nil && sure && !gone {
			r.errorf("queue %q is not there", name)
		}
	}
	for name, sure := range r.ended {
		if sure && r.queue(name) != nil {
			r.errorf("queue %q is there", name)
		}
	}
	for body, at := range there {
		if f := r.fates[body]; f == nil {
			r.errorf("%q is in %v and was never sent", body, at)
		} else if len(at) > 1 {
			r.errorf("%q is in %v", body, at)
		}
	}
	for body, f := range r.fates {
		at := there[body]
		_, ended := r.ended[f.queue]
		kept := f.queue != "plain" && f.queue != "purged" // what is deleted is rewindable
		in := at != nil && !slices.Contains(at, f.queue+" 4") && !slices.Contains(at, "dead 4")
		switch {
		case ended:
		case f.sent && at == nil && (kept || !f.deleted && !f.doubt):
			r.errorf("%q is not there, %+v", body, *f)
		case in && f.deleted && !f.doubt, !in && f.sent && !f.deleted && !f.doubt:
			r.errorf("%q is in %v, %+v", body, at, *f)
		}
		if n := batches[f.batch]; at != nil {
			batches[f.batch] = [2]int{n[0] + 1, n[1]}
		} else {
			batches[f.batch] = [2]int{n[0], n[1] + 1}
		}
	}
	for _, f := range r.fates {
		_, ended := r.ended[f.queue]
		if n := batches[f.batch]; !f.sent && !ended && n[0] > 0 && n[1] > 0 && f.queue == "orders" {
			r.errorf("of a batch to %q %d messages are there, %d are not", f.queue, n[0], n[1])
			break
		}
	}
}

// faultLook returns for each body where it is: queue and kind.
func faultLook(t *testing.T, s *Spool) map[string][]string {
	t.Helper()
	there := map[string][]string{}
	for _, q := range s.Queues() {
		if _, err := q.Attributes(context.Background()); err != nil {
			t.Errorf("Attributes = %v", err)
		}
		type found struct {
			seq  uint64
			kind kind
			place
		}
		var all []found
		q.hold()
		q.st.each(func(*summary) bool { return false }, func(b *block) bool {
			if !q.st.here(b) && !q.pageIn(false) {
				t.Error("a block is not there")
				return false
			}
			q.st.refresh(b)
			for off := b.next(0); off >= 0; off = b.next(off + 1) {
				all = append(all, found{b.first() + uint64(off), b.kind(off), q.st.cursor.get(&b.places, off)})
			}
			return true
		})
		q.mu.Unlock()
		for _, x := range all {
			m, err := q.open(x.pos, x.seq, x.size)
			if err != nil {
				t.Errorf("message %d of %q: %v", x.seq, q.name, err)
				continue
			}
			there[string(m.body)] = append(there[string(m.body)], fmt.Sprintf("%s %d", q.name, x.kind))
		}
	}
	return there
}
