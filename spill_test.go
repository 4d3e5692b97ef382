package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memkv"
)

// spillOpen opens a disk and keeps no more in memory meanwhile than the last block that a record has met.
func spillOpen(t testing.TB, how string, d *faultDisk) (s *Spool, spills int) {
	t.Helper()
	s, err := d.open(WithoutPaging, WithPaging(1<<40, 1<<40), WithSizes(16<<10, 1<<40), func(o *options) { o.paging.most = 1 },
		withStep(func(name string) {
			if name == stepReplaySpilled {
				spills++
			}
		}))
	if err != nil {
		t.Fatalf("%s: %v", how, err)
	}
	takeKeeper(s)
	return s, spills
}

// spillUsed fails when an Open has not used the index.
func spillUsed(t testing.TB, how string, s *Spool) {
	t.Helper()
	if s.keeper.shelf.index == nil {
		t.Errorf("%s: the next Open does not use the index", how)
	}
}

// TestSpill: a replay that puts blocks out to the index, with a checkpoint in it or without one, finds what one in memory does.
// The next checkpoint leaves nothing superfluous, and what it tells of is the same.
func TestSpill(t *testing.T) {
	image := faultImage(t)
	s := mustFaultOpen(t, image)
	if _, err := s.CreateQueue(t.Context(), "brief", Meta{}); err != nil {
		t.Fatal(err)
	}
	shelfSend(t, s, "brief", 2000)
	if err := errors.Join(s.DeleteQueue(t.Context(), "brief"), s.Sync(t.Context())); err != nil {
		t.Fatal(err)
	}
	image.crash(t, func() { s.Close() })
	s = mustFaultOpen(t, image.clone(t, &fault{}))
	want := dump(t, s)
	all := s.pager.used.Load()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"on a checkpoint", "without an index"} {
		d := image.clone(t, &fault{})
		if how == "without an index" {
			if err := os.Remove(filepath.Join(d.dir, "index.ok")); err != nil {
				t.Fatal(err)
			}
		}
		s, spills := spillOpen(t, how, d)
		if used := s.pager.used.Load(); spills < 10 || used > all/4 {
			t.Errorf("%s: %d bytes in memory after %d spills, %d without any", how, used, spills, all)
		}
		sameDump(t, how, want, dump(t, s))
		checkAll(t, s)
		cleanCheckpoint(s)
		shelfKeys(t, how, s)
		d.crash(t, func() { s.Close() })
		faultAgain(t, how, d, want, func(s *Spool) { spillUsed(t, how, s) })
	}
}

// TestSpillCrash: a crash after a replay that has spilled, of the process or of the machine, leaves the checkpoint as it was.
func TestSpillCrash(t *testing.T) {
	image := faultImage(t)
	want := faultFinds(t, image)
	d := image.clone(t, &fault{})
	for round := range 3 {
		how := fmt.Sprintf("crash %d", round)
		s, spills := spillOpen(t, how, d)
		if spills == 0 {
			t.Errorf("%s: nothing was spilled", how)
		}
		images := map[string]*faultDisk{how + " of the process": d.clone(t, &fault{})}
		d.crash(t, func() { s.commit.Fail(syscall.EIO); s.Close() })
		images[how+" of the machine"] = d.clone(t, &fault{})
		for how, image := range images {
			faultAgain(t, how, image, want, func(s *Spool) {
				spillUsed(t, how, s)
				cleanCheckpoint(s)
				shelfKeys(t, how, s)
			})
		}
	}
}

// TestSpillWithoutIndex: an index that fails again when it has been made anew is done without.
func TestSpillWithoutIndex(t *testing.T) {
	d := faultImage(t)
	want := faultFinds(t, d)
	made := 0
	s, err := OpenOn(d.Log.Crash(func(n int64) int64 { return n }), t.TempDir(), func() (store.Index, error) {
		made++
		puts := 0
		return &hooked{Index: memkv.New(), hook: func(op string, before bool) error {
			if puts++; op == "Apply" && before && puts > 40 {
				return syscall.EIO
			}
			return nil
		}}, nil
	}, WithoutPaging, WithPaging(1<<40, 1<<40), WithSizes(16<<10, 1<<40), func(o *options) { o.paging.most = 1 })
	if err != nil {
		t.Fatal(err)
	}
	takeKeeper(s)
	if made != 2 || s.keeper.shelf.index != nil {
		t.Errorf("the index was made %d times, want 2; it is %v in the end", made, s.keeper.shelf.index)
	}
	sameDump(t, "in memory", want, dump(t, s))
	checkAll(t, s)
	if err := s.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}

// TestSpillUnsaved: blocks that the index does not take stay in memory, be there no room for one, no index, or a failure in the
// middle of the records.
func TestSpillUnsaved(t *testing.T) {
	image := faultImage(t)
	for _, c := range []struct {
		how   string
		op    string // the call of the index that fails
		at    int    // which one; 0 = there is no index
		err   error
		again bool // the replay begins again
	}{
		{"no index", "", 0, syscall.EIO, false},
		{"no room", "Apply", 1, store.ErrNoSpace, false},
		{"a record fails", "Apply", 3, syscall.EIO, true},
		{"the sync fails", "Sync", 1, syscall.EIO, true},
	} {
		s := mustFaultOpen(t, image.clone(t, &fault{}))
		bringAll(t, s)
		sh, q := s.keeper.shelf, shelfQueue(t, s, "orders")
		if err := sh.prepare(s.knownQueues); err != nil { // what it removes takes an Apply too
			t.Fatal(err)
		}
		whole := sh.index
		if c.at > 0 {
			n := 0
			sh.index = &hooked{Index: whole, hook: func(op string, before bool) error {
				if op == c.op && before {
					if n++; n >= c.at {
						return c.err
					}
				}
				return nil
			}}
		} else {
			sh.index, sh.make = nil, func() (store.Index, error) { return nil, c.err }
		}
		r := &replay{spool: s, shelf: sh, queues: map[uint32]*Queue{q.id: q}, saved: evictSaves - 1}
		q.mu.Lock() // which a replay does without: nobody else has its queues yet
		b := q.st.block(0)
		b.dirty = true
		if r.stow(q, []*block{b}, s.disk.End()) || b.body == nil || r.full == c.again || (r.bad != nil) != c.again {
			t.Errorf("%s: block in memory %t, nothing is put out any more %t, %v; want the replay to begin again %t", c.how, b.body != nil, r.full, r.bad, c.again)
		}
		q.mu.Unlock()
		sh.index = whole
		s.commit.Fail(syscall.EIO)
		s.Close()
	}
}

// TestSpillFaults: whatever of the index fails in a replay that spills, Open succeeds and finds the same, at last without an
// index; and so does the next one.
func TestSpillFaults(t *testing.T) {
	image := faultImage(t)
	want := faultFinds(t, image)
	for _, call := range []faultCall{faultMake, faultGet, faultApply, faultScan} {
		for _, err := range []error{syscall.EIO, store.ErrNoSpace} {
			points := 0
			for n := 1; ; n++ {
				how := fmt.Sprintf("%s %d: %v", call, n, err)
				d := image.clone(t, &fault{call: call, n: n, err: err})
				d.apply = (n + 1) % 2 // 1: each change by itself
				s, _ := spillOpen(t, how, d)
				met := d.met()
				d.hush(true)
				sameDump(t, how, want, dump(t, s))
				checkAll(t, s)
				cleanCheckpoint(s)
				shelfKeys(t, how, s)
				d.crash(t, func() { s.Close() })
				faultAgain(t, how, d, want, func(*Spool) {})
				if t.Failed() || !met {
					break
				}
				points++
				if n += n / 4; testing.Short() {
					n += n / 2
				}
			}
			t.Logf("%s, %v: %d places", call, err, points)
		}
	}
}
