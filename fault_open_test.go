package spool

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spoolmq/spool/rewind"
	"github.com/spoolmq/spool/store"
)

// faultImage is what the script of TestFaultPoints leaves before its last session, after a crash: an index with records
// that no checkpoint tells of, and a log that goes on behind it.
func faultImage(t *testing.T) *faultDisk {
	t.Helper()
	r := &faultRun{t: t, what: "image", disk: newFaultDisk(t, &fault{})}
	r.begun()
	for _, session := range []func(){r.begin, r.change, r.clean, r.stray} {
		r.open()
		session()
		r.disk.crash(t, r.end)
	}
	if t.Failed() {
		t.FailNow()
	}
	return r.disk
}

// clone returns a disk with the same contents.
func (d *faultDisk) clone(t testing.TB, f *fault) *faultDisk {
	t.Helper()
	c := &faultDisk{Log: d.Log.Crash(func(n int64) int64 { return n }), fault: f, dir: t.TempDir(), index: d.index.Clone()}
	if err := os.Mkdir(filepath.Join(c.dir, "index"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(d.dir, "index.ok")); err == nil {
		if err := os.WriteFile(filepath.Join(c.dir, "index.ok"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func faultOpen(d *faultDisk) (*Spool, error) {
	s, err := d.open(WithoutPaging, WithPaging(1<<40, 1<<40), WithSizes(16<<10, 1<<40))
	if err == nil {
		takeKeeper(s)
		s.keeper.shelf.most = 1 // each record is applied by itself
	}
	return s, err
}

func mustFaultOpen(t testing.TB, d *faultDisk) *Spool {
	t.Helper()
	s, err := faultOpen(d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// faultFinds is what an Open of a copy of the disk finds.
func faultFinds(t testing.TB, d *faultDisk) []string {
	t.Helper()
	s := mustFaultOpen(t, d.clone(t, &fault{}))
	defer func() {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	return dump(t, s)
}

// faultAgain opens a disk again: it has what is wanted, and what else look finds right.
func faultAgain(t testing.TB, how string, d *faultDisk, want []string, look func(*Spool)) {
	t.Helper()
	s := mustFaultOpen(t, d)
	sameDump(t, how+", opened again", want, dump(t, s))
	look(s)
	if err := s.Close(); err != nil {
		t.Errorf("%s: Close = %v", how, err)
	}
}

// bringAll has everything in memory: then the index can be given up.
func bringAll(t testing.TB, s *Spool) {
	t.Helper()
	for _, q := range s.Queues() {
		q.hold()
		q.st.each(func(*summary) bool { return false }, func(b *block) bool { q.st.here(b); return true })
		q.mu.Unlock()
		if !q.bring() {
			t.Fatal("a block is not there")
		}
	}
}

// TestFaultOpen has each call fail that an Open makes: it answers an error, or the index is not used and the log tells
// the same; and the next Open finds everything.
func TestFaultOpen(t *testing.T) {
	image := faultImage(t)
	s := mustFaultOpen(t, image.clone(t, &fault{}))
	if s.keeper.shelf.index == nil {
		t.Fatal("the image's index is not used")
	}
	want := dump(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, call := range []faultCall{faultMake, faultGet, faultReplay, faultShut} {
		points := 0
		for n := 1; ; n++ {
			how := fmt.Sprintf("%s %d", call, n)
			d := image.clone(t, &fault{call: call, n: n, err: syscall.EIO})
			s, err := faultOpen(d)
			met := d.met()
			d.hush(true)
			switch {
			case err == nil && met && call != faultShut && s.keeper.shelf.index != nil:
				t.Errorf("%s: the index that failed is used", how)
			case err != nil && (call != faultReplay || !errors.Is(err, ErrStoreFailed)):
				t.Errorf("%s: Open = %v", how, err)
			}
			if err != nil {
				d.crash(t, func() {})
				s = mustFaultOpen(t, d)
			}
			sameDump(t, how, want, dump(t, s))
			checkAll(t, s)
			cleanCheckpoint(s)
			if err := s.Close(); err != nil {
				t.Errorf("%s: Close = %v", how, err)
			}
			d.crash(t, func() {})
			faultAgain(t, how, d, want, func(*Spool) {})
			if t.Failed() || !met {
				break
			}
			points++
		}
		t.Logf("%s: %d places", call, points)
	}
}

// TestFaultCheckpoint has each call fail that a checkpoint makes which also removes what an earlier one has left: the
// spool goes on with all that was there, or stops when that is not all in memory; a crash then finds it, and the next
// checkpoint leaves no key behind.
func TestFaultCheckpoint(t *testing.T) {
	image := faultImage(t)
	for _, call := range []faultCall{faultApply, faultKeep, faultScan} {
		points := 0
		for n := 1; ; n++ {
			if testing.Short() && n > 20 && call == faultApply {
				n += n / 5
			}
			if !faultCheckpoint(t, fmt.Sprintf("%s %d", call, n), image.clone(t, &fault{call: call, n: n, err: syscall.EIO}), n%2 == 0) || t.Failed() {
				break
			}
			points++
		}
		t.Logf("%s: %d places", call, points)
	}
}

func faultCheckpoint(t *testing.T, how string, d *faultDisk, here bool) (met bool) {
	t.Helper()
	d.hush(true)
	s := mustFaultOpen(t, d)
	if s.keeper.shelf.index == nil {
		t.Fatalf("%s: the index is not used", how)
	}
	shelfDelete(t, s, "orders", 3)
	if err := s.DeleteQueue(t.Context(), "idle"); err != nil {
		t.Fatal(err)
	}
	want := dump(t, s)
	if here {
		bringAll(t, s)
	}
	d.hush(false)
	cleanCheckpoint(s)
	met = d.met()
	d.hush(true)
	switch err := s.broken(); {
	case err == nil:
		checkAll(t, s)
		sameDump(t, how, want, dump(t, s))
	case here || !errors.Is(err, ErrStoreFailed):
		t.Errorf("%s: the spool has stopped: %v", how, err)
	}
	d.crash(t, func() { s.Close() })

	s = mustFaultOpen(t, d)
	sameDump(t, how+", crashed", want, dump(t, s))
	cleanCheckpoint(s)
	shelfKeys(t, how, s)
	if err := s.Close(); err != nil {
		t.Errorf("%s: Close = %v", how, err)
	}
	return met
}

// TestShelfRefused: an index whose records are whole, but are not what a checkpoint writes, is not used.
func TestShelfRefused(t *testing.T) {
	image := faultImage(t)
	s := mustFaultOpen(t, image.clone(t, &fault{}))
	want := dump(t, s)
	orders := shelfQueue(t, s, "orders")
	id, turn, page := uint64(orders.id), orders.saved, s.keeper.shelf.page
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for how, change := range map[string]struct {
		key []byte
		to  func(d *decoder, e *encoder)
	}{
		"checkpoint behind the log's end": {key(keyCheckpoint), func(d *decoder, e *encoder) {
			*e = append(*e, d.take(16)...)
			d.u64()
			e.u64(1 << 60)
			*e = append(*e, d.b...)
		}},
		"more behind the queues": {key(keyList, 0, page), func(d *decoder, e *encoder) { *e = append(append(*e, d.b...), 0) }},
		"more behind the queue":  {key(keyQueue, id, turn), func(d *decoder, e *encoder) { *e = append(append(*e, d.b...), 0) }},
		"queue behind the log's end": {key(keyQueue, id, turn), func(d *decoder, e *encoder) {
			var m snapshotRecord
			m.decode(d)
			m.encode(e)
			d.uv()
			e.uv(1 << 60)
			*e = append(*e, d.b...)
		}},
		"block twice": {key(keyBlocks, id, 0, turn), func(d *decoder, e *encoder) {
			one := slices.Clone(d.b)
			decodeStub(d, &block{number: d.uv()})
			one = one[:len(one)-len(d.b)]
			*e = append(append(*e, one...), one...)
		}},
		"more behind the blocks": {key(keyBlocks, id, 0, turn), func(d *decoder, e *encoder) { *e = append(append(*e, d.b...), 0) }},
		"block of a later rewind": {key(keyBlocks, id, 0, turn), func(d *decoder, e *encoder) {
			b := &block{number: d.uv()}
			decodeStub(d, b)
			b.saved.generation = 1 << 40
			encodeStub(e, b)
			*e = append(*e, d.b...)
		}},
		"block whose state is not there": {key(keyBlocks, id, 0, turn), func(d *decoder, e *encoder) {
			e.uv(d.uv())
			d.flag()
			e.flag(true)
			d.uv()
			e.uv(1 << 40)
			*e = append(*e, d.b...)
		}},
	} {
		d := image.clone(t, &fault{})
		v, err := d.index.Get(change.key)
		if err != nil {
			t.Fatal(err)
		}
		r, err := unwrap(v)
		if err != nil {
			t.Fatal(err)
		}
		var e encoder
		change.to(r, &e)
		if err := d.index.Apply([]store.Change{{Key: change.key, Value: wrap(e)}}); err != nil {
			t.Fatal(err)
		}
		s := mustFaultOpen(t, d)
		if s.keeper.shelf.index != nil {
			t.Errorf("%s: the index is used", how)
		}
		sameDump(t, how, want, dump(t, s))
		if err := s.Close(); err != nil {
			t.Errorf("%s: Close = %v", how, err)
		}
	}
}

// TestStrayKey: a key that nobody has written ends the index at the next checkpoint, and the one after makes it anew.
func TestStrayKey(t *testing.T) {
	d := faultImage(t)
	if err := d.index.Apply([]store.Change{{Key: []byte{keyState, 0}, Value: []byte{1}}}); err != nil {
		t.Fatal(err)
	}
	s := mustFaultOpen(t, d)
	want := dump(t, s)
	bringAll(t, s)
	cleanCheckpoint(s)
	if s.keeper.shelf.index != nil {
		t.Error("the index is kept")
	}
	cleanCheckpoint(s)
	shelfKeys(t, "anew", s)
	sameDump(t, "anew", want, dump(t, s))
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestReplayRefused: records that no spool has written, whole as they are, are damage.
func TestReplayRefused(t *testing.T) {
	meta := Meta{}.withDefaults()
	for how, records := range map[string][]struct {
		typ  byte
		head func(e *encoder)
	}{
		"a head that is cut": {{recordDelete, func(e *encoder) { e.uv(1) }}},
		"a queue without a beginning": {{recordDelete, func(e *encoder) {
			(&deleteRecord{queue: 7, at: 1}).encode(e)
		}}},
		"a dead-letter queue that is not there": {{recordQueue, func(e *encoder) {
			m := meta
			m.DeadLetter = &DeadLetter{Queue: "nobody", MaxReceives: 1}
			(&queueRecord{queue: 1, change: queueCreated, at: 1, name: "q", meta: m}).encode(e)
		}}},
	} {
		d := newFaultDisk(t, &fault{})
		s := mustFaultOpen(t, d)
		need := int64(store.RecordSize(512, 0))
		if err := s.commit.Admit(need); err != nil {
			t.Fatal(err)
		}
		var pos store.Position
		s.commit.Begin()
		for _, r := range records {
			var e encoder
			r.head(&e)
			pos = s.commit.Add(r.typ, e, 0)
		}
		s.commit.End(need)
		if err := errors.Join(s.commit.Wait(pos, store.AtSynced), s.Close()); err != nil {
			t.Fatal(err)
		}
		d.crash(t, func() {})
		s, err := faultOpen(d)
		if c := (*CorruptError)(nil); !errors.Is(err, ErrCorrupt) || !errors.As(err, &c) || c.Reason == "" {
			t.Errorf("%s: Open = %v, want ErrCorrupt and a reason", how, err)
		}
		if err == nil {
			s.Close()
		}
	}
}

// blockMarker has the file that says that the index may be believed stand where it cannot be removed.
func blockMarker(t *testing.T, s *Spool) {
	t.Helper()
	s.keeper.shelf.marker = filepath.Join(t.TempDir(), "index.ok")
	if err := os.MkdirAll(filepath.Join(s.keeper.shelf.marker, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestIndexGivenUp: whatever stands in the way of giving an index up or of making one, the spool goes on without.
func TestIndexGivenUp(t *testing.T) {
	for how, spoil := range map[string]func(s *Spool){
		"the index cannot be closed": func(s *Spool) {
			d := s.disk.(*faultDisk)
			d.call, d.n, d.err = faultShut, 1, syscall.EIO
			s.keeper.shelf.drop()
		},
		"the marker cannot be removed": func(s *Spool) {
			blockMarker(t, s)
			s.keeper.shelf.drop()
		},
		"the directory cannot be removed": func(s *Spool) {
			s.keeper.shelf.drop()
			s.keeper.shelf.dir = "no\x00name"
		},
		"the marker cannot be made": func(s *Spool) {
			s.keeper.shelf.drop()
			s.keeper.shelf.marker = filepath.Join(t.TempDir(), "missing", "index.ok")
		},
		"it takes too long": func(s *Spool) {
			if err := s.keeper.writeCheckpoint(time.Now().Add(-time.Second)); !errors.Is(err, errSuspended) {
				t.Errorf("checkpoint at its deadline = %v", err)
			}
			q := shelfQueue(t, s, "orders")
			if _, err := s.keeper.shelveQueue(q, time.Now().Add(-time.Second)); !errors.Is(err, errSuspended) || !q.st.touched {
				t.Errorf("queue saved at the deadline = %v, touched %v", err, q.st.touched)
			}
		},
	} {
		d := faultImage(t)
		s := mustFaultOpen(t, d)
		shelfDelete(t, s, "orders", 2)
		want := dump(t, s)
		bringAll(t, s)
		spoil(s)
		cleanCheckpoint(s)
		if err := s.broken(); err != nil {
			t.Errorf("%s: the spool has stopped: %v", how, err)
		}
		sameDump(t, how, want, dump(t, s))
		checkAll(t, s)
		d.crash(t, func() { s.Close() })
		s = mustFaultOpen(t, d)
		sameDump(t, how+", crashed", want, dump(t, s))
		if err := s.Close(); err != nil {
			t.Errorf("%s: Close = %v", how, err)
		}
	}
}

// TestIndexFailedAndMarked: a spool that stops because of its index says so even when it cannot take back that the index
// may be believed.
func TestIndexFailedAndMarked(t *testing.T) {
	s := mustFaultOpen(t, faultImage(t))
	q := shelfQueue(t, s, "plain")
	blockMarker(t, s)
	s.indexFailed(store.ErrNotFound)
	if _, err := q.Send(t.Context(), Message{Body: []byte("x")}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Send = %v, want ErrCorrupt", err)
	}
	if err := s.Close(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Close = %v, want ErrCorrupt", err)
	}
}

// TestEvictLosesIndex: the checkpoint that eviction asks for, because it has made too many records superfluous, fails while
// everything is in memory: eviction ends, and nothing is lost.
func TestEvictLosesIndex(t *testing.T) {
	d := faultImage(t)
	s := mustFaultOpen(t, d)
	shelfDelete(t, s, "orders", 1)
	want := dump(t, s)
	bringAll(t, s)
	k, q := s.keeper, shelfQueue(t, s, "orders")
	if err := k.shelf.tidy(s.knownQueues); err != nil {
		t.Fatal(err)
	}
	for range evictSaves {
		k.shelf.discard(key(keyState, 1<<31, 1, 1))
	}
	s.pager.low = 0
	d.applied = func() { // whatever has been saved has changed since
		q.hold()
		defer q.mu.Unlock()
		q.st.each(func(*summary) bool { return false }, func(b *block) bool { b.dirty = true; return true })
	}
	s.step = func(name string) {
		if name == stepCleanEvicted {
			d.call, d.n, d.err = faultKeep, 1, syscall.EIO
		}
	}
	d.applied()
	k.evictQueue(q) // forgets which blocks were used
	if err := k.evictQueue(q); err != errSuspended || k.shelf.index != nil {
		t.Errorf("eviction without an index = %v", err)
	}
	d.hush(true)
	if err := s.broken(); err != nil {
		t.Fatalf("the spool has stopped: %v", err)
	}
	sameDump(t, "here", want, dump(t, s))
	d.crash(t, func() { s.Close() })
	s = mustFaultOpen(t, d)
	sameDump(t, "crashed", want, dump(t, s))
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A growing log calls a function when it is asked for room.
type growing struct {
	store.Log
	grow func()
}

func (g *growing) Room() int64 { g.grow(); return g.Log.Room() }

func (g *growing) ReserveRoom() int64 { g.grow(); return g.Log.ReserveRoom() }

// TestRetellOutgrown: a history that grows by more than was allowed for, while room is taken for its snapshot, is told by
// the next attempt.
func TestRetellOutgrown(t *testing.T) {
	d := newFaultDisk(t, &fault{})
	g := &growing{Log: d, grow: func() {}}
	s, err := OpenOn(g, d.dir, nil, WithoutPaging)
	if err != nil {
		t.Fatal(err)
	}
	takeKeeper(s)
	q, err := s.CreateQueue(t.Context(), "q", Meta{Rewind: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	grown := false
	g.grow = func() {
		if grown {
			return
		}
		grown = true
		for range maxEvents {
			q.st.history.Add(1, 1, 0, false)
		}
	}
	if err := s.retellQueue(q, s.disk.End()+1); err == nil || !strings.Contains(err.Error(), `"q" grows too fast`) {
		t.Errorf("retellQueue = %v, want that the history grows too fast", err)
	}
	if err := s.retellQueue(q, s.disk.End()+1); err != nil || q.basis == 0 {
		t.Errorf("the next retellQueue = %v", err)
	}
	if err := errors.Join(s.Sync(t.Context()), s.Close()); err != nil {
		t.Error(err)
	}
	d.crash(t, func() {})
	s = mustFaultOpen(t, d)
	if got := shelfQueue(t, s, "q").st.history.Events(); len(got) != maxEvents || (got[0] != rewind.Event{Generation: 1, Instant: 1, At: 1}) {
		t.Errorf("%d events after the next open, want %d", len(got), maxEvents)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestRetellFails: what cannot be told again is not dropped.
func TestRetellFails(t *testing.T) {
	s := mustFaultOpen(t, faultImage(t))
	start := s.disk.Start()
	s.commit.Fail(syscall.EIO)
	if err := s.keeper.retell(nil, s.disk.End()); !errors.Is(err, syscall.EIO) {
		t.Errorf("retell of queue ids = %v, want the fault", err)
	}
	if err := s.keeper.dropDead(); err != nil && !errors.Is(err, syscall.EIO) || s.disk.Start() != start {
		t.Errorf("dropDead = %v, the log starts at %d, want %d", err, s.disk.Start(), start)
	}
	if err := s.Close(); !errors.Is(err, ErrStoreFailed) {
		t.Errorf("Close = %v, want ErrStoreFailed", err)
	}
}

// TestCleanStops: cleaning ends with the spool, and an error ends it for a while and is logged once.
func TestCleanStops(t *testing.T) {
	d := faultImage(t)
	s := mustFaultOpen(t, d)
	want := dump(t, s)
	close(s.keeper.stop)
	if err := s.Clean(); err != errStopped {
		t.Errorf("Clean of a spool that closes = %v", err)
	}
	s.keeper.stop = make(chan struct{})
	sameDump(t, "stopped", want, dump(t, s))
	var text strings.Builder
	s.log = slog.New(slog.NewTextHandler(&text, nil))
	s.keeper.slack = -1 << 40 // anything is too much
	d.call, d.n, d.err = faultRead, 1, &store.CorruptError{File: "x", Reason: "for the test"}
	for range 2 {
		if more, again := s.keeper.cleanTurn(); more || !again {
			t.Errorf("cleanTurn = %v, %v, want false, true", more, again)
		}
		d.mu.Lock()
		d.seen = 0
		d.mu.Unlock()
	}
	if n := strings.Count(text.String(), "log not cleaned"); n != 1 {
		t.Errorf("%d complaints, want 1:\n%s", n, text.String())
	}
	d.hush(true)
	sameDump(t, "with a damaged message", want, dump(t, s))
	d.crash(t, func() { s.Close() })
	s = mustFaultOpen(t, d)
	sameDump(t, "crashed", want, dump(t, s))
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
