package spool_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memkv"
	"github.com/spoolmq/spool/store/memlog"
)

// A heldLog is a log whose writes and syncs wait as long as they are held.
type heldLog struct {
	*memlog.Log
	writes, syncs hold
}

// A hold lets everybody pass, or nobody.
type hold struct{ shut atomic.Pointer[chan struct{}] }

func (h *hold) close() {
	ch := make(chan struct{})
	h.shut.Store(&ch)
}

func (h *hold) open() { close(*h.shut.Swap(nil)) }

func (h *hold) pass() {
	if ch := h.shut.Load(); ch != nil {
		<-*ch
	}
}

func (l *heldLog) Append(p store.Payload) (store.Position, error) {
	l.writes.pass()
	return l.Log.Append(p)
}

func (l *heldLog) Sync(upTo store.Position) error {
	l.syncs.pass()
	return l.Log.Sync(upTo)
}

// openHeld opens a spool on a log that can be held, inside a bubble.
func openHeld(t *testing.T, dir string, opts ...spool.Option) (*heldLog, *caseSpool) {
	t.Helper()
	log := &heldLog{Log: memlog.New(memlog.Options{})}
	return log, openOn(t, log, dir, opts...)
}

// openOn opens a spool on a log, with an index in memory, inside a bubble.
func openOn(t *testing.T, log store.Log, dir string, opts ...spool.Option) *caseSpool {
	t.Helper()
	s, err := spool.OpenOn(log, dir, func() (store.Index, error) { return memkv.New(), nil }, append(opts, spool.WithoutPaging)...)
	if err != nil {
		t.Fatal(err)
	}
	return newCaseSpool(t, s)
}

// TestFoundWhenStored: a queue that another call is just making is handed out when it is as durable as to whoever makes it.
func TestFoundWhenStored(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log, s := openHeld(t, dir)
		log.syncs.close()
		answers := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := s.OpenQueue(bg, "q", spool.Meta{})
				answers <- err
			}()
			synctest.Wait()
		}
		if len(answers) > 0 {
			t.Errorf("%d calls answered before the queue is durable", len(answers))
		}
		log.syncs.open()
		for range 2 {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestSendsUnderWay: a message counts in Stats from the moment at which it is recorded. When its life ends before its send is
// answered it is gone like any other.
func TestSendsUnderWay(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log, s := openHeld(t, dir)
		q := s.create("q", spool.Meta{Retention: 2 * sec})
		log.syncs.close()
		go q.send("x")
		go q.send("later", sec)
		go q.send("due", msec)
		synctest.Wait()
		if n := s.Stats().Messages; n != 3 {
			t.Errorf("Stats tells of %d messages, want 3", n)
		}
		time.Sleep(3 * sec)
		q.counts(0, 0, 0, 0)
		log.syncs.open()
		synctest.Wait()
		q.counts(0, 0, 0, 0)
		if n := s.Stats().Messages; n != 0 {
			t.Errorf("Stats tells of %d messages, want none", n)
		}
		for _, wrong := range spool.CheckInvariants(s.Spool) {
			t.Error(wrong)
		}
		q.send("next")
		q.receive("next")
	})
}

// TestAnsweredWhenStored: no verb is answered before its record is written, nor, if the spool's durability covers it or it
// is a durable receive, before that is synced; and then it is.
func TestAnsweredWhenStored(t *testing.T) {
	type fixture struct {
		s *caseSpool
		q *caseQueue
		d *spool.Delivery // leased; another message is active, and a third one rewindable
	}
	message := spool.Message{Body: []byte("x")}
	changes := map[string]func(f fixture) error{
		"Send":        func(f fixture) error { _, err := f.q.Send(bg, message); return err },
		"SendBatch":   func(f fixture) error { _, err := f.q.SendBatch(bg, []spool.Message{message, message}); return err },
		"Delete":      func(f fixture) error { return f.d.Delete(bg) },
		"DeleteBatch": func(f fixture) error { return f.q.DeleteBatch(bg, []string{f.d.Receipt}) },
		"Rewind":      func(f fixture) error { _, err := f.q.Rewind(bg, time.Now().Add(-time.Minute)); return err },
		"Purge":       func(f fixture) error { return f.q.Purge(bg) },
		"SetMeta":     func(f fixture) error { return f.q.SetMeta(bg, func(m *spool.Meta) { m.PollingWait = time.Second }) },
		"CreateQueue": func(f fixture) error { _, err := f.s.CreateQueue(bg, "new", spool.Meta{}); return err },
		"DeleteQueue": func(f fixture) error { return f.s.DeleteQueue(bg, "old") },
	}
	leases := map[string]func(f fixture) error{
		"Receive":          func(f fixture) error { _, err := f.q.Receive(bg); return err },
		"ReceiveBatch":     func(f fixture) error { _, err := f.q.ReceiveBatch(bg, 10); return err },
		"ChangeVisibility": func(f fixture) error { return f.q.ChangeVisibility(bg, f.d.Receipt, time.Minute) },
		"Extend":           func(f fixture) error { return f.d.Extend(bg, time.Minute) },
		"Release":          func(f fixture) error { return f.d.Release(bg, 0) },
	}
	dir := t.TempDir()
	try := func(name string, verb func(f fixture) error, synced bool, opts ...spool.Option) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, s := openHeld(t, dir, opts...)
				s.create("old", spool.Meta{})
				q := s.create("q", spool.Meta{Rewind: time.Hour})
				q.sendDelete("rewindable")
				q.send("leased")
				f := fixture{s, q, q.receive("leased")}
				q.send("active")
				if err := s.Sync(bg); err != nil {
					t.Fatal(err)
				}
				log.writes.close()
				log.syncs.close()
				var answered atomic.Bool
				go func() {
					if err := verb(f); err != nil {
						t.Error(err)
					}
					answered.Store(true)
				}()
				synctest.Wait()
				if answered.Load() {
					t.Error("answered before the record is written")
				}
				log.writes.open()
				synctest.Wait()
				if answered.Load() == synced {
					t.Errorf("with the record written and not synced: answered is %t, want %t", answered.Load(), !synced)
				}
				log.syncs.open()
				synctest.Wait()
				if !answered.Load() {
					t.Error("not answered after the sync")
				}
			})
		})
	}
	for name, verb := range changes {
		try(name+"/fsync", verb, true)
		try(name+"/written", verb, false, spool.WithDurability(spool.Written))
		try(name+"/written with durable receives", verb, false, spool.WithDurability(spool.Written), spool.WithDurableReceives())
	}
	for name, verb := range leases {
		try(name+"/fsync", verb, false)
		try(name+"/written", verb, false, spool.WithDurability(spool.Written))
		try(name+"/fsync and durable", verb, true, spool.WithDurableReceives())
		try(name+"/written and durable", verb, true, spool.WithDurability(spool.Written), spool.WithDurableReceives())
	}
}

// TestReceivedWhenDurable: a receiver gets no message whose send has not reached the spool's durability, whether it waited
// before the send or came after it.
func TestReceivedWhenDurable(t *testing.T) {
	for _, size := range []int{10, 60 << 10} { // one that is handed over as a copy, one that is read
		for _, early := range []bool{true, false} {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				log, s := openHeld(t, dir)
				q := s.create("q", spool.Meta{PollingWait: time.Minute})
				log.syncs.close()
				var first, second <-chan answer
				if early {
					first = q.waiting(bg, 1)
				}
				sent := make(chan error, 1)
				go func() {
					_, err := q.Send(bg, spool.Message{Body: make([]byte, size)})
					sent <- err
				}()
				synctest.Wait()
				if !early {
					first = q.waiting(bg, 1)
				}
				ctx, cancel := context.WithCancel(bg)
				second = q.waiting(ctx, 1)
				if len(first)+len(second)+len(sent) > 0 {
					t.Errorf("%d bytes, receiver first %t: %d receivers and %d senders are answered before the sync, want none",
						size, early, len(first)+len(second), len(sent))
				}
				lost, err := spool.OpenOn(log.Crash(func(int64) int64 { return 0 }), filepath.Join(dir, "none"), nil, spool.WithoutPaging)
				if err != nil {
					t.Fatal(err)
				}
				if n := lost.Stats().Messages; n != 0 {
					t.Errorf("a power loss before the sync leaves %d messages, want none", n)
				}
				if err := lost.Close(); err != nil {
					t.Error(err)
				}
				log.syncs.open()
				synctest.Wait()
				cancel()
				synctest.Wait()
				if len(first)+len(second) != 2 || len(sent) != 1 {
					t.Fatalf("after the sync %d receivers and %d senders are answered, want all", len(first)+len(second), len(sent))
				}
				if a := <-first; a.err != nil || len(a.ds) != 1 {
					t.Errorf("Receive = %v, want the message", a)
				}
				if err := <-sent; err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestPeekedWhenDurable: a receiver may be given a message, and lose it again, before the send has reached its level. Nobody else
// sees its body before.
func TestPeekedWhenDurable(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log, s := openHeld(t, dir)
		q := s.create("q", spool.Meta{})
		got := q.waiting(bg, 1, spool.Wait(time.Hour), spool.Visibility(sec))
		log.syncs.close()
		sent, peeked := make(chan error, 1), make(chan answer, 1)
		go func() {
			_, err := q.Send(bg, spool.Message{Body: []byte("m")})
			sent <- err
		}()
		synctest.Wait()
		time.Sleep(sec) // the lease is over
		q.counts(1, 0, 0, 0)
		go func() {
			ds, err := q.Peek(bg, 1)
			peeked <- answer{ds: ds, err: err}
		}()
		synctest.Wait()
		if len(sent)+len(got)+len(peeked) > 0 {
			t.Errorf("before the sync %d sends, %d receives and %d peeks have answers", len(sent), len(got), len(peeked))
		}
		log.syncs.open()
		if a := <-peeked; a.err != nil || len(a.ds) != 1 || string(a.ds[0].Body) != "m" {
			t.Errorf("Peek = %v, want m", a)
		}
		if err := errors.Join(<-sent, (<-got).err); err != nil {
			t.Error(err)
		}
	})
}

// TestHandedOverWhenDurable: with durable receives nobody who waits gets a message before its receive is synced, whatever
// the spool's durability is and wherever the message comes from; a power loss after that does not undo the receive.
func TestHandedOverWhenDurable(t *testing.T) {
	type fixture struct {
		q, source *caseQueue
		d         *spool.Delivery // leased for 10 s, the only message of q
	}
	send := func(q *caseQueue, delay time.Duration, bodies ...[]byte) error {
		var ms []spool.Message
		for _, body := range bodies {
			ms = append(ms, spool.Message{Body: body, Delay: delay})
		}
		_, err := q.SendBatch(bg, ms)
		return err
	}
	leased := map[string]bool{"end of a lease": true, "release": true}
	for name, cause := range map[string]func(f fixture) error{
		"send":           func(f fixture) error { return send(f.q, 0, []byte("m")) },
		"large send":     func(f fixture) error { return send(f.q, 0, make([]byte, 60<<10)) },
		"batch":          func(f fixture) error { return send(f.q, 0, []byte("m"), []byte("n")) },
		"end of a delay": func(f fixture) error { return send(f.q, 5*sec, []byte("m")) },
		"end of a lease": func(f fixture) error { return nil },
		"release":        func(f fixture) error { return f.d.Release(bg, 0) },
		"dead letter":    func(f fixture) error { _, err := f.source.Receive(bg, spool.Visibility(sec)); return err },
	} {
		for durability, kind := range map[spool.Durability]string{spool.Fsync: "fsync", spool.Written: "written"} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				dir := t.TempDir()
				synctest.Test(t, func(t *testing.T) {
					log, s := openHeld(t, dir, spool.WithDurability(durability), spool.WithDurableReceives())
					q := s.create("q", spool.Meta{VisibilityTimeout: time.Hour})
					f := fixture{q: q, source: s.create("source", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: "q", MaxReceives: 1}})}
					f.source.send("m")
					if leased[name] {
						q.send("m")
						f.d = q.receive("m", spool.Visibility(10*sec))
					}
					if err := s.Sync(bg); err != nil {
						t.Fatal(err)
					}
					log.syncs.close()
					got := q.waiting(bg, 1, spool.Wait(time.Hour))
					caused := make(chan error, 1)
					go func() { caused <- cause(f) }()
					time.Sleep(20 * sec)
					synctest.Wait()
					if len(got) > 0 {
						t.Fatal("the receiver is answered before the sync")
					}
					log.syncs.open()
					if a := answered(t, got); a.err != nil || len(a.ds) != 1 {
						t.Fatalf("Receive = %d messages, %v, want one", len(a.ds), a.err)
					}
					if err := <-caused; err != nil {
						t.Error(err)
					}
					lost, err := spool.OpenOn(log.Crash(func(int64) int64 { return 0 }), filepath.Join(dir, "none"), nil, spool.WithoutPaging)
					if err != nil {
						t.Fatal(err)
					}
					if q, err := lost.Queue("q"); err != nil {
						t.Error(err)
					} else if a, err := q.Attributes(bg); err != nil || a.Inactive != 1 {
						t.Errorf("after a power loss %d messages are inactive, %v; want the one that was received", a.Inactive, err)
					}
					if err := lost.Close(); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// TestUndoneReceive: a receive that a power loss undoes leaves its receipt Expired, also of a message that was rewound; one from
// before the rewind stays Stale.
func TestUndoneReceive(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log, s := openHeld(t, dir)
		q := s.create("q", spool.Meta{Rewind: time.Hour})
		begin := time.Now()
		q.send("sent")
		q.send("lapsed")
		q.send("rewound")
		ds := []*spool.Delivery{q.receive("sent", spool.Visibility(sec)), q.receive("lapsed", spool.Visibility(sec)), q.receive("rewound")}
		q.delete(ds[2])
		q.rewind(begin, 1)
		time.Sleep(sec)
		undone := []*spool.Delivery{q.receive("sent"), q.receive("lapsed"), q.receive("rewound")}
		lost, err := spool.OpenOn(log.Crash(func(int64) int64 { return 0 }), filepath.Join(dir, "none"), nil, spool.WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		q = newCaseSpool(t, lost).get("q")
		q.counts(3, 0, 0, 0)
		for _, d := range undone {
			q.refused(d.Receipt, spool.Expired)
		}
		q.refused(ds[2].Receipt, spool.Stale)
		for _, d := range undone {
			again := q.receive(string(d.Body))
			q.refused(d.Receipt, spool.Stale)
			q.delete(again)
		}
	})
}

// TestDurableReceivesInMemory: memory takes the option, which changes nothing there.
func TestDurableReceivesInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := inMemory(t, spool.WithDurableReceives()).create("q", spool.Meta{})
		got := q.waiting(bg, 1, spool.Wait(sec))
		q.send("m")
		a := answered(t, got)
		if a.err != nil || len(a.ds) != 1 {
			t.Fatalf("Receive = %v, want a message", a)
		}
		if err := a.ds[0].Release(bg, 0); err != nil {
			t.Error(err)
		}
		q.delete(q.receive("m"))
	})
}

// TestRoomBesideSends: sends under way count for MaxMessages, delayed ones included.
func TestRoomBesideSends(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log, s := openHeld(t, dir)
		q := s.create("q", spool.Meta{MaxMessages: 3})
		q.send("there")
		log.syncs.close()
		answers := make(chan error, 6)
		for i := range cap(answers) {
			go func() {
				_, err := q.Send(bg, spool.Message{Body: []byte("x"), Delay: time.Duration(i%2) * time.Hour})
				answers <- err
			}()
			synctest.Wait()
		}
		log.syncs.open()
		synctest.Wait()
		full := 0
		for range cap(answers) {
			if err := <-answers; errors.Is(err, spool.ErrQueueFull) {
				full++
			} else if err != nil {
				t.Error(err)
			}
		}
		if a := q.attributes(); full != 4 || a.Active+a.Delayed != 3 {
			t.Errorf("of 6 sends to a queue with room for 2 %d were refused, %d active and %d delayed; want 4, and 3 in all", full, a.Active, a.Delayed)
		}
	})
}

// A fullLog is a log that has nothing left but its reserve while it is full.
type fullLog struct {
	*memlog.Log
	full atomic.Bool
}

func (l *fullLog) Room() int64 {
	if l.full.Load() {
		return 0
	}
	return l.Log.Room()
}

func (l *fullLog) Grow(n int64) error {
	if l.full.Load() {
		return fmt.Errorf("grow by %d: %w", n, store.ErrNoSpace)
	}
	return l.Log.Grow(n)
}

// A meagreLog is a fullLog that tells how much the cleaner may have of the reserve.
type meagreLog struct {
	*fullLog
	left int64
}

func (l *meagreLog) Left() int64 { return l.left }

// TestCleanFull: on a full disk the cleaner begins with a segment only when the reserve has enough for all of it that is live.
func TestCleanFull(t *testing.T) {
	for _, left := range []int64{100 << 10, 1 << 30} {
		log := &meagreLog{fullLog: &fullLog{Log: memlog.New(memlog.Options{SegmentSize: 600 << 10})}, left: left}
		c := openOn(t, log, t.TempDir(), spool.WithSlack(1<<40), spool.WithDurability(spool.Written))
		q := c.create("q", spool.Meta{})
		for len(log.Boundaries()) < 2 {
			q.send(strings.Repeat("x", 50_000))
		}
		log.full.Store(true)
		end := log.End()
		err := c.Clean()
		if left < 600<<10 {
			if !errors.Is(err, spool.ErrNoSpace) || log.Start() != 0 || log.End() != end {
				t.Errorf("%d bytes left: Clean = %v, the log from %d to %d; want nothing done, to %d", left, err, log.Start(), log.End(), end)
			}
		} else if err != nil || log.Start() == 0 {
			t.Errorf("%d bytes left: Clean = %v, the log begins at %d", left, err, log.Start())
		}
		log.full.Store(false)
	}
}

// TestFullVerbs: on a full disk what stores more is refused, and has stored nothing; what stores less goes on; a dead-letter
// move waits, and all of it heals.
func TestFullVerbs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := &fullLog{Log: memlog.New(memlog.Options{})}
		c := openOn(t, log, dir)
		dead := c.create("dead", spool.Meta{})
		q := c.create("q", spool.Meta{Rewind: time.Hour, DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 1}})
		other := c.create("other", spool.Meta{})
		plain := c.create("plain", spool.Meta{Rewind: time.Hour})
		q.send("moves")
		if _, err := q.Receive(bg, spool.Visibility(sec)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			plain.send("x")
		}
		message := spool.Message{Body: []byte("x")}
		more := map[string]func() error{
			"Send":        func() error { _, err := other.Send(bg, message); return err },
			"SendBatch":   func() error { _, err := other.SendBatch(bg, []spool.Message{message, message}); return err },
			"CreateQueue": func() error { _, err := c.CreateQueue(bg, "new", spool.Meta{}); return err },
			"SetMeta":     func() error { return other.SetMeta(bg, func(m *spool.Meta) { m.PollingWait = sec }) },
		}
		log.full.Store(true)
		for name, f := range more {
			if err := f(); !errors.Is(err, spool.ErrNoSpace) {
				t.Errorf("%s on a full disk = %v, want ErrNoSpace", name, err)
			}
		}
		if q, err := c.OpenQueue(bg, "plain", spool.Meta{}); err != nil || q != plain.Queue {
			t.Errorf("OpenQueue of a queue that is there, on a full disk = %v, %v", q, err)
		}
		_, err := c.CreateQueue(bg, "plain", spool.Meta{})
		wantErr(t, "CreateQueue of a queue that is there, on a full disk", err, spool.ErrQueueExists)
		other.counts(0, 0, 0, 0)
		ds, err := plain.ReceiveBatch(bg, 3)
		if err != nil || len(ds) != 3 {
			t.Fatalf("ReceiveBatch on a full disk = %d, %v", len(ds), err)
		}
		for name, err := range map[string]error{"Extend": ds[0].Extend(bg, time.Hour), "Release": ds[1].Release(bg, 0), "Delete": ds[2].Delete(bg)} {
			if err != nil {
				t.Errorf("%s on a full disk = %v", name, err)
			}
		}
		plain.rewind(ds[2].EnqueuedAt, 1)
		plain.counts(2, 1, 0, 0)
		for name, err := range map[string]error{"Purge": plain.Purge(bg), "DeleteQueue": c.DeleteQueue(bg, "plain")} {
			if err != nil {
				t.Errorf("%s on a full disk = %v", name, err)
			}
		}
		time.Sleep(10 * sec)
		wantErr(t, "DeleteQueue while a dead letter waits for room", c.DeleteQueue(bg, "q"), spool.ErrNoSpace)
		q.counts(0, 1, 0, 0)
		dead.counts(0, 0, 0, 0)
		log.full.Store(false)
		for name, f := range more {
			if err := f(); err != nil {
				t.Errorf("%s when there is space again = %v", name, err)
			}
		}
		time.Sleep(2 * sec)
		if err := c.DeleteQueue(bg, "q"); err != nil {
			t.Errorf("DeleteQueue when no dead letter waits any more = %v", err)
		}
		dead.counts(1, 0, 0, 0)
	})
}

// A slowLog takes its time for each sync.
type slowLog struct {
	*memlog.Log
	took time.Duration
}

func (l *slowLog) Sync(upTo store.Position) error {
	time.Sleep(l.took)
	return l.Log.Sync(upTo)
}

// TestDeadLettersHoldNobodyUp: where dead letters fall due faster than the disk syncs, a call waits for those that were due when it
// began, and not until there are none.
func TestDeadLettersHoldNobodyUp(t *testing.T) {
	const gap, sync, letters = 3 * time.Millisecond, 5 * time.Millisecond, 1000
	for name, call := range map[string]func(s *caseSpool, q, dead *caseQueue) error{
		"Receive":    func(_ *caseSpool, q, _ *caseQueue) error { _, err := q.Receive(bg); return err },
		"Attributes": func(_ *caseSpool, q, _ *caseQueue) error { _, err := q.Attributes(bg); return err },
		"Extend": func(_ *caseSpool, q, _ *caseQueue) error {
			d, err := q.Receive(bg)
			if err == nil {
				err = d.Extend(bg, time.Hour)
			}
			return err
		},
		"SetMeta": func(_ *caseSpool, q, _ *caseQueue) error {
			return q.SetMeta(bg, func(m *spool.Meta) { m.PollingWait = time.Second })
		},
		"Purge":       func(_ *caseSpool, q, _ *caseQueue) error { return q.Purge(bg) },
		"DeleteQueue": func(s *caseSpool, _, _ *caseQueue) error { return s.DeleteQueue(bg, "q") },
		"Send there": func(_ *caseSpool, _, dead *caseQueue) error {
			_, err := dead.Send(bg, spool.Message{Body: []byte("y")})
			return err
		},
		"Receive there": func(_ *caseSpool, _, dead *caseQueue) error {
			_, err := dead.Receive(bg)
			return err
		},
		"Close": func(s *caseSpool, q, _ *caseQueue) error {
			go q.Receive(bg)
			synctest.Wait()
			return s.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := openOn(t, &slowLog{Log: memlog.New(memlog.Options{}), took: sync}, dir)
				q, dead := deadPair(s, 1, 0, spool.Meta{})
				ms := make([]spool.Message, letters+10)
				for i := range ms {
					ms[i].Body = []byte("x")
				}
				for part := range slices.Chunk(ms, spool.MaxBatch) {
					if _, err := q.SendBatch(bg, part); err != nil {
						t.Fatal(err)
					}
				}
				start := time.Now().Add(time.Second)
				for i := range letters {
					if _, err := q.Receive(bg, spool.Visibility(time.Until(start.Add(time.Duration(i)*gap)))); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Until(start.Add(letters / 10 * gap)))
				began := time.Now()
				if err := call(s, q, dead); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took > 10*sync {
					t.Errorf("it took %v, a sync takes %v", took, sync)
				}
			})
		})
	}
}

// TestDeadLetterBesideItsSync: a dead letter that was due before a call began is there for it, though its move is being synced.
func TestDeadLetterBesideItsSync(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openOn(t, &slowLog{Log: memlog.New(memlog.Options{}), took: 5 * time.Millisecond}, dir)
		q, dead := deadPair(s, 1, 0, spool.Meta{VisibilityTimeout: sec})
		q.send("x")
		q.receive("x")
		time.Sleep(sec + time.Millisecond)
		q.counts(0, 0, 0, 0)
		q.send("y")
		q.receive("y")
		time.Sleep(sec - time.Millisecond)
		q.send("z") // of another instant: it looks at the queue, and leaves
		time.Sleep(2 * time.Millisecond)
		dead.receive("x")
		dead.receive("y")
	})
}

// TestReleasedIntoDeadLetters: what a Release has sent to the dead letters can be received there when it returns.
func TestReleasedIntoDeadLetters(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := &slowLog{Log: memlog.New(memlog.Options{}), took: 5 * time.Millisecond}
		s := openOn(t, log, dir)
		q, _ := deadPair(s, 1, 0, spool.Meta{})
		q.send("x")
		d := q.receive("x")
		if err := d.Release(bg, 0); err != nil {
			t.Fatal(err)
		}
		if synced, end := log.Synced(), log.End(); synced < end {
			t.Errorf("the log is synced to %d, the dead letter ends at %d", synced, end)
		}
	})
}

// TestDeadLettersInTurn: the dead letters of one queue do not wait until all of another one's have been moved.
func TestDeadLettersInTurn(t *testing.T) {
	const sync, batches = 5 * time.Millisecond, 20
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openOn(t, &slowLog{Log: memlog.New(memlog.Options{}), took: sync}, dir)
		q, _ := deadPair(s, 1, 0, spool.Meta{})
		elsewhere := s.create("elsewhere", spool.Meta{})
		other := s.create("other", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: "elsewhere", MaxReceives: 1}})
		ms := make([]spool.Message, spool.MaxBatch)
		for i := range ms {
			ms[i].Body = []byte("x")
		}
		for range batches {
			if _, err := q.SendBatch(bg, ms); err != nil {
				t.Fatal(err)
			}
		}
		end := time.Now().Add(10 * sec)
		for range batches {
			if _, err := q.ReceiveBatch(bg, spool.MaxBatch, spool.Visibility(time.Until(end))); err != nil {
				t.Fatal(err)
			}
		}
		other.send("y")
		if _, err := other.Receive(bg, spool.Visibility(time.Until(end)+sync)); err != nil {
			t.Fatal(err)
		}
		if _, err := elsewhere.Receive(bg, spool.Wait(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if late := time.Since(end.Add(sync)); late > 5*sync {
			t.Errorf("it came %v late, a sync takes %v", late, sync)
		}
	})
}

// TestLeaseBeginsWhenGiven: a lease lasts from when it is given, however long the call has waited for dead letters before.
func TestLeaseBeginsWhenGiven(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openOn(t, &slowLog{Log: memlog.New(memlog.Options{}), took: 300 * time.Millisecond}, dir)
		q, _ := deadPair(s, 1, 0, spool.Meta{})
		q.send("x")
		q.receive("x")
		q.send("y")
		q.Oversleep() // nobody else looks at the queue
		time.Sleep(q.Meta().VisibilityTimeout)
		d, err := q.Receive(bg, spool.Visibility(sec))
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(d.VisibleAt); left != sec {
			t.Errorf("%v of the lease are left, want %v", left, sec)
		}
	})
}
