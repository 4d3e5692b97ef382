package spool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spoolmq/spool"
)

// A clean reopening: all sets, deadlines, counts, ids and receipts are as before.
func TestCase42CleanReopening(t *testing.T) {
	onDisks(t, func(t *testing.T, reopen func() *caseSpool) {
		s := reopen()
		s.create("dead", spool.Meta{})
		meta := spool.Meta{VisibilityTimeout: time.Hour, PollingWait: 1, MaxMessageSize: 1000, Retention: 50 * time.Hour,
			Rewind: 40 * time.Hour, MaxMessages: 99, Delay: 7, DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 5, MaxAge: 30 * time.Hour}}
		q := s.create("q", meta)
		s.create("Empty-1", spool.Meta{})
		ids := map[string]string{}
		for _, body := range []string{"rewindable", "inactive", "extended", "released", "active"} {
			id, err := q.Send(bg, spool.Message{Body: []byte(body), Delay: spool.NoDelay, Attributes: map[string]string{body: "\xff"}})
			if err != nil {
				t.Fatal(err)
			}
			ids[body] = id
		}
		ids["delayed"] = q.send("delayed", time.Hour)
		rewindable, inactive, extended, released := q.receive("rewindable"), q.receive("inactive"), q.receive("extended"), q.receive("released")
		q.delete(rewindable)
		if err := errors.Join(extended.Extend(bg, 2*time.Hour), released.Release(bg, 0)); err != nil {
			t.Fatal(err)
		}
		again := q.receive("released")
		if err := again.Release(bg, 0); err != nil {
			t.Fatal(err)
		}
		before := q.attributes()
		peeked, err := q.Peek(bg, 10)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			s = reopen()
			q = s.get("q")
			after := q.attributes()
			if !reflect.DeepEqual(after.Meta, meta) {
				t.Errorf("Meta = %+v, want %+v", after.Meta, meta)
			}
			before.Meta, after.Meta = spool.Meta{}, spool.Meta{}
			for _, at := range []*time.Time{&before.Oldest, &before.NextDue, &before.CreatedAt, &before.ModifiedAt,
				&after.Oldest, &after.NextDue, &after.CreatedAt, &after.ModifiedAt} {
				*at = at.Round(0).UTC()
			}
			if after != before {
				t.Errorf("Attributes = %+v, want %+v", after, before)
			}
			now, err := q.Peek(bg, 10)
			if err != nil || len(now) != len(peeked) {
				t.Fatalf("Peek = %q, %v, want %q", bodiesOf(now), err, bodiesOf(peeked))
			}
			for i, d := range now {
				was := peeked[i]
				if d.ID != was.ID || string(d.Body) != string(was.Body) || !d.EnqueuedAt.Equal(was.EnqueuedAt) || d.Receives != was.Receives ||
					!d.FirstReceivedAt.Equal(was.FirstReceivedAt) || !reflect.DeepEqual(d.Attributes, was.Attributes) {
					t.Errorf("Peek[%d] = %+v, want %+v", i, d, was)
				}
			}
		}
		q.refused(rewindable.Receipt, spool.Deleted)
		q.refused(released.Receipt, spool.Stale)
		q.refused(again.Receipt, spool.Expired)
		third := q.receive("released")
		if third.Receives != 3 || third.ID != ids["released"] {
			t.Errorf("Receive = %+v, want %s for the third time", third, ids["released"])
		}
		q.receive("active")
		q.none()
		for _, d := range []*spool.Delivery{inactive, extended, third} {
			if err := q.Delete(bg, d.Receipt); err != nil {
				t.Errorf("Delete of %s with its receipt from before = %v", d.Body, err)
			}
		}
		q.rewind(before.CreatedAt, 4)
		if d := q.receive("rewindable"); d.ID != ids["rewindable"] || d.Attributes["rewindable"] != "\xff" || d.Rewinds != 1 {
			t.Errorf("Receive = %+v, want %s rewound once", d, ids["rewindable"])
		}
		if id := q.send("new", spool.NoDelay); id == ids["rewindable"] || id == ids["delayed"] {
			t.Errorf("Send = %s, the id of an older message", id)
		}
		if names := s.Queues(); len(names) != 3 || names[0].Name() != "Empty-1" {
			t.Errorf("Queues = %d of them, want 3", len(names))
		}
	})
}

func TestCase42DeletionsAreForgotten(t *testing.T) {
	onDisks(t, func(t *testing.T, reopen func() *caseSpool) {
		q := reopen().create("q", spool.Meta{})
		_, receipt := q.sendDelete("m")
		q.refused(receipt, spool.Deleted)
		q = reopen().get("q")
		q.counts(0, 0, 0, 0)
		q.refused(receipt, spool.Gone)
		if a := q.attributes(); a.Sent != 1 || a.Received != 1 || a.Deleted != 1 {
			t.Errorf("Attributes = %+v, want Sent, Received and Deleted 1", a)
		}
	})
}

func TestCase43Locked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "open")
	s := onDisk(t, dir)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("Stat = %v, %v, want 0700", info.Mode(), err)
	}
	_, err := spool.Open(dir)
	if wantErr(t, "second Open", err, spool.ErrLocked); err != nil && !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("second Open = %v, want the pid %d in it", err, os.Getpid())
	}
	s.create("q", spool.Meta{}).send("m")
	s.close()
	onDisk(t, dir).get("q").receive("m")
}

func TestCase45Close(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, open := range []func() (*spool.Spool, error){
		func() (*spool.Spool, error) { return spool.OpenMemory() },
		func() (*spool.Spool, error) { return spool.Open(t.TempDir()) },
	} {
		s, err := open()
		if err != nil {
			t.Fatal(err)
		}
		q, err := s.CreateQueue(bg, "q", spool.Meta{})
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		started := make(chan struct{}, 20)
		for i := range 20 {
			all.Go(func() {
				started <- struct{}{}
				var err error
				if i%2 == 0 {
					_, err = q.Receive(bg, spool.Wait(time.Hour))
				} else {
					_, err = q.ReceiveBatch(bg, 3, spool.Wait(time.Hour))
				}
				wantErr(t, "a blocked receive", err, spool.ErrClosed)
			})
		}
		for range cap(started) {
			<-started
		}
		var closes sync.WaitGroup
		for range 3 {
			closes.Go(func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close = %v", err)
				}
			})
		}
		closes.Wait()
		all.Wait()
		if err := s.Close(); err != nil {
			t.Errorf("Close again = %v", err)
		}
		_, _, err = q.RewindRange()
		wantErr(t, "RewindRange after Close", err, spool.ErrClosed)
		if q.Name() != "q" {
			t.Errorf("Name = %q, want q", q.Name())
		}
		_, _ = q.Meta(), s.Stats()
		_ = s.Queues()
	}
}

// A call that panics, for a context that is nil or in a function of the caller's, is over: Close does not wait for it.
func TestRuleCloseAfterPanics(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		panics := func(call func()) {
			t.Helper()
			defer func() {
				if recover() == nil {
					t.Errorf("no panic")
				}
			}()
			call()
		}
		var none context.Context
		panics(func() { _, _ = q.Send(none, spool.Message{Body: []byte("m")}) })
		panics(func() { _ = s.Sync(none) })
		panics(func() { _ = q.SetMeta(bg, func(*spool.Meta) { panic("the caller's") }) })
		q.counts(0, 0, 0, 0)
		s.close()
	})
}

// A message is never stranded by Close: it was handed over, or it is Active afterwards.
func TestRuleCloseStrandsNothing(t *testing.T) {
	dir := t.TempDir()
	s := onDisk(t, dir, spool.WithDurability(spool.Written))
	q := s.create("q", spool.Meta{VisibilityTimeout: time.Hour})
	var sent, received atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for {
				if _, err := q.Send(bg, spool.Message{Body: []byte("m")}); err != nil {
					wantErr(t, "Send", err, spool.ErrClosed)
					return
				}
				sent.Add(1)
			}
		})
		all.Go(func() {
			for {
				if _, err := q.Receive(bg, spool.Wait(time.Hour)); err != nil {
					wantErr(t, "Receive", err, spool.ErrClosed)
					return
				}
				received.Add(1)
			}
		})
	}
	for received.Load() < 500 {
		q.attributes()
	}
	s.close()
	all.Wait()
	q = onDisk(t, dir).get("q")
	a := q.attributes()
	if a.Inactive != received.Load() || a.Active+a.Inactive != sent.Load() || a.Sent != sent.Load() || a.Received != received.Load() {
		t.Errorf("Attributes = %+v, want %d sent, %d of them Inactive", a, sent.Load(), received.Load())
	}
}

// A day of waits passes in a bubble in milliseconds.
func TestCase45Bubble(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{VisibilityTimeout: time.Minute})
		start := time.Now()
		for i := range 24 {
			q.send(fmt.Sprint(i), time.Duration(i+1)*time.Hour)
		}
		for range 24 {
			d, err := q.Receive(bg, spool.Wait(2*time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			q.delete(d)
		}
		wantSoon(t, "the last", time.Now(), start.Add(24*time.Hour))
	})
}

func TestCase47ForeignDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := spool.Open(dir)
	if wantArgument(t, "Open of a directory that is no spool", err); s != nil {
		t.Errorf("Open = a spool beside an error")
	}
	entries, _ := os.ReadDir(dir)
	if text, _ := os.ReadFile(file); len(entries) != 1 || string(text) != "mine" {
		t.Errorf("the directory has %v, want it untouched", entries)
	}
	if _, err := spool.Open(file); spool.CodeOf(err) != 4000 && !errors.Is(err, spool.ErrStoreFailed) {
		t.Errorf("Open of a file = %v, want one of our errors", err)
	}
	found := t.TempDir()
	if err := os.Mkdir(filepath.Join(found, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	onDisk(t, found).create("q", spool.Meta{})
	full := t.TempDir()
	if err := os.MkdirAll(filepath.Join(full, "lost+found", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = spool.Open(full)
	wantArgument(t, "Open beside a lost+found that is not empty", err)
}

func TestCase47BadOptions(t *testing.T) {
	for name, opt := range map[string]spool.Option{
		"durability":          spool.WithDurability(2),
		"less than 8 MiB":     spool.WithMemoryBudget(8<<20 - 1),
		"no memory":           spool.WithMemoryBudget(0),
		"a negative budget":   spool.WithMemoryBudget(-1),
		"more than 1 TiB":     spool.WithMemoryBudget(1<<40 + 1),
		"no such durability ": spool.WithDurability(255),
	} {
		s, err := spool.Open(t.TempDir(), opt)
		if wantArgument(t, "Open with "+name, err); s != nil {
			t.Errorf("Open = a spool beside an error")
		}
		_, err = spool.OpenMemory(opt)
		wantArgument(t, "OpenMemory with "+name, err)
	}
	for _, bytes := range []int64{8 << 20, 1 << 40} {
		inMemory(t, spool.WithMemoryBudget(bytes)).create("q", spool.Meta{}).send("m")
	}
}

// What was there at the last Sync, or was acknowledged at all, is there after a clean close.
func TestRuleSync(t *testing.T) {
	onDisks(t, func(t *testing.T, reopen func() *caseSpool) {
		s := reopen()
		q := s.create("q", spool.Meta{})
		for range 100 {
			q.send("m")
			if err := s.Sync(bg); err != nil {
				t.Fatal(err)
			}
		}
		q = reopen().get("q")
		q.counts(100, 0, 0, 0)
		id := q.send("n")
		ids := map[string]bool{id: true}
		for d, err := range q.Deliveries(bg, spool.Wait(0)) {
			if err != nil {
				t.Fatal(err)
			}
			if d.ID == id && string(d.Body) != "n" {
				t.Errorf("id %s was given twice", id)
			}
			ids[d.ID] = true
		}
		if len(ids) != 101 {
			t.Errorf("%d ids, want 101", len(ids))
		}
	})
}

// A path that no directory can have, or that leads nowhere, is the caller's to put right: nothing has been done, and the
// error names it.
func TestRuleImpossiblePaths(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{
		"no path":           "",
		"a NUL":             at("a\x00b"),
		"a long name":       at(strings.Repeat("n", 300)),
		"a long parent":     filepath.Join(at(strings.Repeat("n", 300)), "x"),
		"a long path":       at(strings.Repeat("n/", 5000)),
		"a file":            at("file"),
		"a file as parent":  filepath.Join(at("file"), "x"),
		"a file far above":  filepath.Join(at("file"), "x", "y"),
		"a device":          os.DevNull,
		"a file and a link": at("link"),
	}
	if err := errors.Join(os.Symlink("loop", at("loop")), os.Symlink("file", at("link"))); err == nil {
		paths["a loop"], paths["a loop as parent"] = at("loop"), filepath.Join(at("loop"), "x")
	}
	onDisk(t, at("spool")).close()
	for name, path := range paths {
		s, err := spool.Open(path)
		if wantArgument(t, "Open of "+name, err); s != nil {
			t.Errorf("Open of %s = a spool beside an error", name)
		}
		shown := path[:min(len(path), len(dir)+2)]
		if a := (*spool.ArgumentError)(nil); errors.As(err, &a) && !strings.Contains(fmt.Sprint(a.Value), shown) {
			t.Errorf("Open of %s = %.300v, want it to name the path", name, err)
		}
		_, err = spool.Verify(bg, path)
		wantArgument(t, "Verify of "+name, err)
		_, err = spool.Repair(bg, path, at("new"))
		wantArgument(t, "Repair of "+name, err)
		_, err = spool.Repair(bg, at("spool"), path)
		wantArgument(t, "Repair to "+name, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains([]string{"file", "link", "loop", "spool"}, e.Name()) {
			t.Errorf("%s has been made", e.Name())
		}
	}
}
