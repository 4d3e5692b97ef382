package spool_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
)

// The files cases_*_test.go hold the promises of a spool, one test for each numbered case and one for each rule, through
// the public API only. Where time matters they run inside a synctest bubble on OpenMemory, where an instant is exact:
// between two sleeps no time passes.

var bg = context.Background()

const (
	msec = time.Millisecond
	sec  = time.Second

	// wakeLate is how much later than its instant a blocked call may return: a wake-up is rounded up to a tick.
	wakeLate = msec
)

// A caseSpool is a spool that fails its test. At cleanup it checks what must hold of every queue, and closes.
type caseSpool struct {
	*spool.Spool
	tb     testing.TB
	frozen bool // in a bubble: no time passes by itself
}

// A caseQueue is a queue that fails its test: its own methods expect success or what their name says.
type caseQueue struct {
	*spool.Queue
	tb testing.TB
}

func inMemory(tb testing.TB, opts ...spool.Option) *caseSpool {
	tb.Helper()
	s, err := spool.OpenMemory(opts...)
	if err != nil {
		tb.Fatalf("OpenMemory = %v", err)
	}
	return newCaseSpool(tb, s)
}

func onDisk(tb testing.TB, dir string, opts ...spool.Option) *caseSpool {
	tb.Helper()
	s, err := spool.Open(dir, opts...)
	if err != nil {
		tb.Fatalf("Open = %v", err)
	}
	return newCaseSpool(tb, s)
}

func newCaseSpool(tb testing.TB, s *spool.Spool) *caseSpool {
	c := &caseSpool{Spool: s, tb: tb}
	tb.Cleanup(func() {
		if !tb.Failed() {
			c.check()
		}
		c.close()
	})
	return c
}

// inBubble runs f on an empty spool in memory under virtual time.
func inBubble(t *testing.T, f func(t *testing.T, s *caseSpool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := inMemory(t)
		s.frozen = true
		f(t, s)
	})
}

// onEach runs f on an empty spool of every kind, for what does not depend on time.
func onEach(t *testing.T, f func(t *testing.T, s *caseSpool)) {
	t.Run("memory", func(t *testing.T) { f(t, inMemory(t)) })
	t.Run("written", func(t *testing.T) { f(t, onDisk(t, t.TempDir(), spool.WithDurability(spool.Written))) })
	t.Run("fsync", func(t *testing.T) { f(t, onDisk(t, t.TempDir(), spool.WithDurability(spool.Fsync))) })
	t.Run("durable receives", func(t *testing.T) { f(t, onDisk(t, t.TempDir(), spool.WithDurableReceives())) })
}

// onDisks runs f in a new directory at each durability. reopen closes what was opened last and opens it again.
func onDisks(t *testing.T, f func(t *testing.T, reopen func() *caseSpool)) {
	for name, durability := range map[string]spool.Durability{"written": spool.Written, "fsync": spool.Fsync} {
		t.Run(name, func(t *testing.T) {
			dir, s := t.TempDir(), (*caseSpool)(nil)
			f(t, func() *caseSpool {
				t.Helper()
				if s != nil {
					s.close()
				}
				s = onDisk(t, dir, spool.WithDurability(durability))
				return s
			})
		})
	}
}

func (s *caseSpool) close() {
	s.tb.Helper()
	if err := s.Close(); err != nil {
		s.tb.Errorf("Close = %v", err)
	}
}

func (s *caseSpool) create(name string, meta spool.Meta) *caseQueue {
	s.tb.Helper()
	q, err := s.CreateQueue(bg, name, meta)
	if err != nil {
		s.tb.Fatalf("CreateQueue(%s) = %v", name, err)
	}
	return &caseQueue{q, s.tb}
}

func (s *caseSpool) get(name string) *caseQueue {
	s.tb.Helper()
	q, err := s.Queue(name)
	if err != nil {
		s.tb.Fatalf("Queue(%s) = %v", name, err)
	}
	return &caseQueue{q, s.tb}
}

func (q *caseQueue) attributes() spool.Attributes {
	q.tb.Helper()
	a, err := q.Attributes(bg)
	if err != nil {
		q.tb.Fatalf("%s: Attributes = %v", q.Name(), err)
	}
	return a
}

// counts expects the four counters.
func (q *caseQueue) counts(active, inactive, delayed, rewindable int64) {
	q.tb.Helper()
	a := q.attributes()
	got, want := [4]int64{a.Active, a.Inactive, a.Delayed, a.Rewindable}, [4]int64{active, inactive, delayed, rewindable}
	if got != want {
		q.tb.Errorf("%s: Active, Inactive, Delayed, Rewindable = %v, want %v", q.Name(), got, want)
	}
}

func (q *caseQueue) set(change func(*spool.Meta)) {
	q.tb.Helper()
	if err := q.SetMeta(bg, change); err != nil {
		q.tb.Fatalf("%s: SetMeta = %v", q.Name(), err)
	}
}

var opaque = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// send sends one message, with a delay of its own if one is given.
func (q *caseQueue) send(body string, delay ...time.Duration) (id string) {
	q.tb.Helper()
	m := spool.Message{Body: []byte(body)}
	if len(delay) > 0 {
		m.Delay = delay[0]
	}
	id, err := q.Send(bg, m)
	if err != nil {
		q.tb.Fatalf("%s: Send(%.20q) = %v", q.Name(), body, err)
	}
	if len(id) > 64 || !opaque.MatchString(id) {
		q.tb.Errorf("%s: Send = %q, want an id of at most 64 of [A-Za-z0-9_-]", q.Name(), id)
	}
	return id
}

// receive receives the message with this body, which must be there.
func (q *caseQueue) receive(body string, opts ...spool.ReceiveOption) *spool.Delivery {
	q.tb.Helper()
	d, err := q.Receive(bg, append([]spool.ReceiveOption{spool.Wait(0)}, opts...)...)
	if err != nil {
		q.tb.Fatalf("%s: Receive = %v, want %.20q", q.Name(), err, body)
	}
	if string(d.Body) != body {
		q.tb.Fatalf("%s: Receive = %.20q, want %.20q", q.Name(), d.Body, body)
	}
	if len(d.Receipt) > 128 || !opaque.MatchString(d.Receipt) {
		q.tb.Errorf("%s: Receipt = %q, want at most 128 of [A-Za-z0-9_-]", q.Name(), d.Receipt)
	}
	if d.Receives < 1 || d.FirstReceivedAt.Before(d.EnqueuedAt) || !d.VisibleAt.After(d.FirstReceivedAt) {
		q.tb.Errorf("%s: impossible delivery: %+v", q.Name(), d)
	}
	return d
}

// none expects that nothing is Active.
func (q *caseQueue) none() {
	q.tb.Helper()
	if d, err := q.Receive(bg, spool.Wait(0)); !errors.Is(err, spool.ErrNoMessage) {
		q.tb.Errorf("%s: Receive = %s, %v, want ErrNoMessage", q.Name(), bodyOf(d), err)
	}
}

// sendDelete sends a message and deletes it.
func (q *caseQueue) sendDelete(body string) (id, receipt string) {
	q.tb.Helper()
	id = q.send(body)
	d := q.receive(body)
	q.delete(d)
	return id, d.Receipt
}

func (q *caseQueue) delete(d *spool.Delivery) {
	q.tb.Helper()
	if err := d.Delete(bg); err != nil {
		q.tb.Fatalf("%s: Delete(%.20q) = %v", q.Name(), d.Body, err)
	}
}

// rewind expects how many messages come back.
func (q *caseQueue) rewind(to time.Time, want int64) {
	q.tb.Helper()
	if n, err := q.RewindPreview(bg, to); n != want || err != nil {
		q.tb.Errorf("%s: RewindPreview = %d, %v, want %d", q.Name(), n, err, want)
	}
	if n, err := q.Rewind(bg, to); n != want || err != nil {
		q.tb.Errorf("%s: Rewind = %d, %v, want %d", q.Name(), n, err, want)
	}
}

// refused expects that a receipt is refused with one of the reasons.
func (q *caseQueue) refused(receipt string, reasons ...spool.Reason) {
	q.tb.Helper()
	wantReason(q.tb, "Delete", q.Delete(bg, receipt), reasons...)
	wantReason(q.tb, "ChangeVisibility", q.ChangeVisibility(bg, receipt, sec), reasons...)
}

func wantReason(tb testing.TB, what string, err error, reasons ...spool.Reason) {
	tb.Helper()
	var r *spool.ReceiptError
	if errors.As(err, &r) && errors.Is(err, spool.ErrInvalidReceipt) && spool.CodeOf(err) == 4430 {
		for _, reason := range reasons {
			if r.Reason == reason {
				return
			}
		}
	}
	tb.Errorf("%s = %v, want ErrInvalidReceipt: %v", what, err, reasons)
}

func wantErr(tb testing.TB, what string, err, want error) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Errorf("%s = %v, want %v", what, err, want)
	}
}

// wantArgument expects an *ArgumentError with all its fields.
func wantArgument(tb testing.TB, what string, err error) {
	tb.Helper()
	var a *spool.ArgumentError
	if !errors.As(err, &a) || !errors.Is(err, spool.ErrInvalidArgument) || a.Name == "" || a.Limit == "" || spool.CodeOf(err) != 4000 {
		tb.Errorf("%s = %v, want an ArgumentError with name and limit", what, err)
	}
}

func wantAt(tb testing.TB, what string, got, want time.Time) {
	tb.Helper()
	if !got.Equal(want) {
		tb.Errorf("%s = %v, want %v (off by %v)", what, got, want, got.Sub(want))
	}
}

// wantSoon expects an instant not before want and hardly later.
func wantSoon(tb testing.TB, what string, got, want time.Time) {
	tb.Helper()
	if got.Before(want) || got.After(want.Add(wakeLate)) {
		tb.Errorf("%s = %v, want %v (off by %v)", what, got, want, got.Sub(want))
	}
}

// unraced is how much to do: much, or less when the race detector makes it ten times as slow.
func unraced(much, less int) int {
	if raceEnabled {
		return less
	}
	return much
}

func bodyOf(d *spool.Delivery) string {
	if d == nil {
		return "nothing"
	}
	return fmt.Sprintf("%.40q", d.Body)
}

func bodiesOf(ds []*spool.Delivery) (bodies []string) {
	for _, d := range ds {
		bodies = append(bodies, string(d.Body))
	}
	return bodies
}

// An answer is what a call in another goroutine returned, and when.
type answer struct {
	ds  []*spool.Delivery
	err error
	at  time.Time
}

func (a answer) String() string { return fmt.Sprintf("%q, %v", bodiesOf(a.ds), a.err) }

// waiting starts a receive of at most max messages and returns, inside a bubble, when it is blocked or over.
func (q *caseQueue) waiting(ctx context.Context, max int, opts ...spool.ReceiveOption) <-chan answer {
	answers := make(chan answer, 1)
	go func() {
		var a answer
		if max == 1 {
			var d *spool.Delivery
			if d, a.err = q.Receive(ctx, opts...); d != nil {
				a.ds = append(a.ds, d)
			}
		} else {
			a.ds, a.err = q.ReceiveBatch(ctx, max, opts...)
		}
		a.at = time.Now()
		answers <- a
	}()
	synctest.Wait()
	return answers
}

// stillWaiting expects that a call has not returned.
func stillWaiting(tb testing.TB, answers <-chan answer) {
	tb.Helper()
	synctest.Wait()
	select {
	case a := <-answers:
		tb.Errorf("a waiting call returned %v, want it to wait", a)
	default:
	}
}

// answered returns what a call has returned; it does not let time pass.
func answered(tb testing.TB, answers <-chan answer) answer {
	tb.Helper()
	synctest.Wait()
	select {
	case a := <-answers:
		return a
	default:
		tb.Fatal("a call still waits, want it to have returned")
		return answer{}
	}
}
