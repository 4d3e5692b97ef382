package spool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/badgerkv"
	"github.com/spoolmq/spool/store/memkv"
)

// A hooked index calls a function before and after each Apply and Sync; the function may make the call fail.
type hooked struct {
	store.Index
	hook func(op string, before bool) error
}

func (h *hooked) Apply(batch []store.Change) error {
	return h.around("Apply", func() error { return h.Index.Apply(batch) })
}

func (h *hooked) Sync() error { return h.around("Sync", h.Index.Sync) }

func (h *hooked) around(op string, f func() error) error {
	if err := h.hook(op, true); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return h.hook(op, false)
}

func shelfOpen(t testing.TB, dir string) *Spool {
	t.Helper()
	s, err := Open(dir, WithSizes(16<<10, 1<<40), WithDurability(Written), WithoutPaging)
	if err != nil {
		t.Fatal(err)
	}
	takeKeeper(s)
	return s
}

// shelfStart makes a spool with a bit of everything, and its first checkpoint.
func shelfStart(t testing.TB, dir string) *Spool {
	t.Helper()
	s := shelfOpen(t, dir)
	ctx := context.Background()
	for _, name := range []string{"dead", "orders", "idle", "doomed", "purged"} {
		m := Meta{Rewind: time.Hour}
		if name == "orders" {
			m.DeadLetter = &DeadLetter{Queue: "dead", MaxReceives: 2}
		}
		if _, err := s.CreateQueue(ctx, name, m); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"orders", "doomed", "purged"} {
		shelfSend(t, s, name, 1500)
	}
	shelfDelete(t, s, "orders", 1200)
	shelfSend(t, s, "idle", 2)
	if _, err := shelfQueue(t, s, "idle").Receive(ctx, Visibility(10*time.Hour)); err != nil {
		t.Fatal(err)
	}
	s.keeper.checkpoint()
	return s
}

// shelfGoOn changes all that a checkpoint tells of.
func shelfGoOn(t testing.TB, s *Spool) {
	t.Helper()
	ctx := context.Background()
	orders := shelfQueue(t, s, "orders")
	shelfSend(t, s, "orders", 700)
	shelfDelete(t, s, "orders", 100)
	if _, err := orders.Rewind(ctx, shelfNow(t, orders)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d, err := orders.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Release(ctx, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := orders.ReceiveBatch(ctx, 50, Visibility(10*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := shelfQueue(t, s, "purged").Purge(ctx); err != nil {
		t.Fatal(err)
	}
	shelfSend(t, s, "purged", 10)
	if err := s.DeleteQueue(ctx, "doomed"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateQueue(ctx, "late", Meta{}); err != nil {
		t.Fatal(err)
	}
	shelfSend(t, s, "late", 3)
	idle := shelfQueue(t, s, "idle") // one lease is extended, nothing else changes there
	idle.hold()
	b := idle.st.block(0)
	bring(t, idle, b)
	e := b.entry(0)
	_, receipt := s.sealer.seal(delivery{idle.id, 0, e.nonce}, s.epoch)
	idle.mu.Unlock()
	if err := idle.ChangeVisibility(ctx, receipt, 5*time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := orders.SetMeta(ctx, func(m *Meta) { m.Rewind = 2 * time.Hour }); err != nil {
		t.Fatal(err)
	}
}

func shelfQueue(t testing.TB, s *Spool, name string) *Queue {
	t.Helper()
	q, err := s.Queue(name)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// shelfNow is the spool's time, which may lag behind the wall clock.
func shelfNow(t testing.TB, q *Queue) time.Time {
	t.Helper()
	_, now, err := q.RewindRange()
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// shelfEvents lengthens a queue's history by n drops that end nothing.
func shelfEvents(t testing.TB, q *Queue, n int) {
	t.Helper()
	for range n {
		if err := q.SetMeta(t.Context(), func(m *Meta) { m.Rewind ^= 1 }); err != nil {
			t.Fatal(err)
		}
	}
}

func shelfSend(t testing.TB, s *Spool, name string, n int) {
	t.Helper()
	for n > 0 {
		batch := make([]Message, min(n, 500))
		for i := range batch {
			batch[i].Body = fmt.Appendf(nil, "message %d of %s", i, name)
		}
		if _, err := shelfQueue(t, s, name).SendBatch(context.Background(), batch); err != nil {
			t.Fatal(err)
		}
		n -= len(batch)
	}
}

func shelfDelete(t testing.TB, s *Spool, name string, n int) {
	t.Helper()
	for n > 0 {
		got, err := shelfQueue(t, s, name).ReceiveBatch(context.Background(), min(n, 400))
		if err != nil {
			t.Fatal(err)
		}
		var receipts []string
		for _, d := range got {
			receipts = append(receipts, d.Receipt)
		}
		if err := shelfQueue(t, s, name).DeleteBatch(context.Background(), receipts); err != nil {
			t.Fatal(err)
		}
		n -= len(got)
	}
}

func sameDump(t testing.TB, how string, want, got []string) {
	t.Helper()
	lines := map[string]bool{}
	for _, l := range want {
		lines[l] = true
	}
	for _, l := range got {
		if !lines[l] {
			t.Errorf("%s: found\n  %s", how, l)
			break
		}
		delete(lines, l)
	}
	for _, l := range want {
		if lines[l] {
			t.Errorf("%s: lost\n  %s", how, l)
			break
		}
	}
}

// shelfKeys compares the keys of the index with those that the last checkpoint tells of.
func shelfKeys(t testing.TB, how string, s *Spool) {
	t.Helper()
	sh := s.keeper.shelf
	want := map[string]bool{string(key(keyCheckpoint)): true}
	for page := range sh.pages {
		want[string(key(keyList, uint64(page), uint64(sh.page)))] = true
	}
	for _, q := range s.Queues() {
		q.hold()
		want[string(key(keyQueue, uint64(q.id), q.saved))] = true
		for page := range q.savedPages {
			want[string(key(keyBlocks, uint64(q.id), uint64(page), q.saved))] = true
		}
		q.st.each(func(*summary) bool { return false }, func(b *block) bool {
			if b.saved.state > 0 {
				want[string(key(keyState, uint64(q.id), b.number, b.saved.state))] = true
				want[string(key(keyPlaces, uint64(q.id), b.number, uint64(b.saved.places)))] = true
			}
			return true
		})
		q.mu.Unlock()
	}
	for _, e := range shelfEntries(t, sh.index) {
		if !want[string(e.Key)] {
			t.Errorf("%s: the index has the superfluous key %q %x", how, e.Key[0], e.Key[1:])
		}
		delete(want, string(e.Key))
	}
	for k := range want {
		t.Errorf("%s: the index lacks the key %q %x", how, k[0], k[1:])
	}
}

func shelfEntries(t testing.TB, ix store.Index) []store.Entry {
	t.Helper()
	entries, err := ix.Scan(nil, nil, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// shelfLook opens a directory, compares what is there, makes a checkpoint, looks for superfluous keys, and opens it once
// more. It tells whether the index was used.
func shelfLook(t testing.TB, how, dir string, want []string) (used bool) {
	t.Helper()
	s := shelfOpen(t, dir)
	used = s.keeper.shelf.index != nil
	checkAll(t, s)
	sameDump(t, how, want, dump(t, s))
	s.keeper.checkpoint()
	if s.keeper.shelf.index == nil {
		t.Errorf("%s: no checkpoint", how)
	} else {
		shelfKeys(t, how, s)
	}
	if err := s.Close(); err != nil {
		t.Errorf("%s: Close = %v", how, err)
	}
	s = shelfOpen(t, dir)
	if s.keeper.shelf.index == nil {
		t.Errorf("%s: the checkpoint is not used", how)
	}
	checkAll(t, s)
	sameDump(t, how+", opened again", want, dump(t, s))
	if err := s.Close(); err != nil {
		t.Errorf("%s: Close = %v", how, err)
	}
	return used
}

// TestCheckpointDiesAnywhere: whatever a checkpoint had written when it died, the next Open finds the same spool, and
// the next checkpoint leaves no key behind.
func TestCheckpointDiesAnywhere(t *testing.T) {
	dir := t.TempDir()
	s := shelfStart(t, dir)
	shelfGoOn(t, s)
	if err := errors.Join(s.Sync(t.Context()), s.keeper.mark(false)); err != nil {
		t.Fatal(err)
	}
	want := dump(t, s)
	type image struct{ how, dir string }
	var images []image
	h := &hooked{Index: s.keeper.shelf.index, hook: func(op string, before bool) error {
		how := fmt.Sprintf("died at call %d, %s, before %t", len(images)/2, op, before)
		images = append(images, image{how, t.TempDir()})
		copyTree(t, dir, images[len(images)-1].dir)
		return nil
	}}
	s.keeper.shelf.index = h
	s.keeper.checkpoint()
	s.keeper.shelf.index = h.Index
	shelfKeys(t, "here", s)
	sameDump(t, "here", want, dump(t, s))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(images) < 10 {
		t.Errorf("a checkpoint made %d calls, want at least 5", len(images)/2)
	}
	used := 0
	for i, x := range images {
		if testing.Short() && i%3 != 1 {
			continue
		}
		if shelfLook(t, x.how, x.dir, want) {
			used++
		}
	}
	t.Logf("%d of %d used their index", used, len(images))
	if used == 0 {
		t.Error("no image used its index")
	}
}

// TestCheckpointFails: a checkpoint that fails leaves a spool as it was, and the next one does what it should have done.
func TestCheckpointFails(t *testing.T) {
	for n := range 12 {
		if testing.Short() && n%3 != 0 {
			continue
		}
		dir := t.TempDir()
		s := shelfStart(t, dir)
		shelfGoOn(t, s)
		want := dump(t, s)
		failure, calls := errors.New("broken for the test"), 0
		if n%2 == 1 {
			failure = fmt.Errorf("for the test: %w", store.ErrNoSpace)
		}
		h := &hooked{Index: s.keeper.shelf.index}
		h.hook = func(string, bool) error {
			if calls++; calls == n+1 {
				return failure
			}
			return nil
		}
		s.keeper.shelf.index = h
		s.keeper.checkpoint()
		how := fmt.Sprintf("call %d failed with %q", n, failure)
		if calls <= n {
			t.Logf("a checkpoint made %d calls", calls)
		}
		checkAll(t, s)
		sameDump(t, how, want, dump(t, s))
		if s.keeper.shelf.index == h {
			s.keeper.shelf.index = h.Index
		}
		s.keeper.reclaim()

		// A crash now.
		if err := errors.Join(s.Sync(t.Context()), s.keeper.mark(false)); err != nil {
			t.Fatal(err)
		}
		image := t.TempDir()
		copyTree(t, dir, image)
		shelfLook(t, how+", crashed", image, want)

		shelfSend(t, s, "orders", 20)
		shelfDelete(t, s, "orders", 5)
		want = dump(t, s)
		s.keeper.checkpoint()
		s.keeper.reclaim()
		s.keeper.checkpoint()
		shelfKeys(t, how+", next checkpoint", s)
		if err := s.Close(); err != nil {
			t.Errorf("%s: Close = %v", how, err)
		}
		if !shelfLook(t, how+", closed", dir, want) {
			t.Errorf("%s: the next checkpoint is not used", how)
		}
	}
}

// TestCheckpointFailsWithinAQueue: when the room for a checkpoint ends among the records of a queue, which are applied one by
// one here, the next checkpoint stores what that queue has become, though nothing has changed since.
func TestCheckpointFailsWithinAQueue(t *testing.T) {
	for n, stands := 0, false; !stands; n++ {
		if testing.Short() && n%4 != 0 {
			continue
		}
		dir := t.TempDir()
		s := shelfStart(t, dir)
		shelfGoOn(t, s)
		want := dump(t, s)
		h, calls := &hooked{Index: s.keeper.shelf.index}, 0
		h.hook = func(op string, before bool) error {
			if op == "Apply" && before {
				calls++
			}
			if op == "Apply" && before && calls == n+1 {
				return fmt.Errorf("for the test: %w", store.ErrNoSpace)
			}
			return nil
		}
		s.keeper.shelf.index, s.keeper.shelf.most = h, 1
		s.keeper.checkpoint()
		how := fmt.Sprintf("no room for call %d of Apply", n)
		stands = !s.keeper.suspended
		s.keeper.shelf.index = h.Index
		s.keeper.checkpoint()
		shelfKeys(t, how, s)
		if err := s.Close(); err != nil {
			t.Errorf("%s: Close = %v", how, err)
		}
		if !shelfLook(t, how, dir, want) {
			t.Errorf("%s: the next checkpoint is not used", how)
		}
	}
}

// A watchedIndex calls checkpoint before a checkpoint's record is applied.
type watchedIndex struct {
	*memkv.Sim
	checkpoint func()
}

func (ix *watchedIndex) Apply(batch []store.Change) error {
	if slices.ContainsFunc(batch, func(c store.Change) bool { return c.Key[0] == keyCheckpoint }) {
		ix.checkpoint()
	}
	return ix.Sim.Apply(batch)
}

// TestCheckpointIsStable: the log is synced before a checkpoint tells of it, so are the records below a checkpoint before
// it tells of them, and so is the checkpoint before it is believed and what it replaces is removed.
func TestCheckpointIsStable(t *testing.T) {
	ix := &watchedIndex{Sim: memkv.NewSim()}
	s, err := OpenMemory(WithoutPaging, func(o *options) { o.index = func() (store.Index, error) { return ix, nil } })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.CreateQueue(t.Context(), "q", Meta{}); err != nil {
		t.Fatal(err)
	}
	checkpoints := 0
	ix.checkpoint = func() {
		checkpoints++
		if synced, end := s.disk.Synced(), s.disk.End(); synced < end {
			t.Errorf("a checkpoint is written when the log is synced to %d of %d", synced, end)
		}
		if n := ix.Unsynced(); n > 0 {
			t.Errorf("a checkpoint is written beside %d records that are not synced", n)
		}
	}
	for round := range 3 {
		shelfSend(t, s, "q", 1500)
		s.keeper.work.Lock()
		err := s.keeper.writeCheckpoint(time.Time{})
		s.keeper.work.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		kept := ix.Crash(0)
		for _, e := range shelfEntries(t, ix) {
			if v, err := kept.Get(e.Key); err != nil || !bytes.Equal(v, e.Value) {
				t.Errorf("round %d: a power loss after the checkpoint takes the record %q %x: %v", round, e.Key[0], e.Key[1:], err)
			}
		}
	}
	if checkpoints != 3 {
		t.Errorf("%d checkpoints, want 3", checkpoints)
	}
}

// TestIndexDamage: an index in which any record is missing, older, damaged or cut short is not believed; records too many
// do no harm and are removed.
func TestIndexDamage(t *testing.T) {
	base := t.TempDir()
	s := shelfStart(t, base)
	before := map[byte]store.Entry{} // of the first checkpoint
	for _, e := range shelfEntries(t, s.keeper.shelf.index) {
		before[e.Key[0]] = e
	}
	shelfGoOn(t, s)
	s.keeper.checkpoint()
	shelfSend(t, s, "orders", 40) // to be replayed
	shelfDelete(t, s, "orders", 10)
	want := dump(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	last := func(ix store.Index, letter byte) store.Entry {
		entries, err := ix.Scan([]byte{letter}, []byte{letter + 1}, 1<<20)
		if err != nil || len(entries) == 0 {
			t.Fatalf("%d keys of kind %q, %v", len(entries), letter, err)
		}
		return entries[len(entries)-1]
	}
	damages := map[string]func(ix store.Index, e store.Entry) []store.Change{
		"missing": func(_ store.Index, e store.Entry) []store.Change { return []store.Change{{Key: e.Key}} },
		"flipped": func(_ store.Index, e store.Entry) []store.Change {
			e.Value[len(e.Value)/2] ^= 4
			return []store.Change{{Key: e.Key, Value: e.Value}}
		},
		"cut short": func(_ store.Index, e store.Entry) []store.Change {
			return []store.Change{{Key: e.Key, Value: wrap(e.Value[1 : len(e.Value)-5])}}
		},
		"too long": func(_ store.Index, e store.Entry) []store.Change {
			return []store.Change{{Key: e.Key, Value: wrap(append(e.Value[1:len(e.Value)-4], 0))}}
		},
		"of a newer version": func(_ store.Index, e store.Entry) []store.Change {
			e.Value[0]++
			return []store.Change{{Key: e.Key, Value: e.Value}}
		},
		"older": func(_ store.Index, e store.Entry) []store.Change {
			old := before[e.Key[0]]
			if bytes.Equal(old.Key, e.Key) {
				return []store.Change{{Key: e.Key, Value: old.Value}}
			}
			return []store.Change{{Key: e.Key}, {Key: old.Key, Value: old.Value}}
		},
	}
	n := 0
	for name, damage := range damages {
		for _, letter := range []byte{keyCheckpoint, keyList, keyQueue, keyBlocks, keyState, keyPlaces} {
			if n++; testing.Short() && n%5 != 0 {
				continue
			}
			how := fmt.Sprintf("record of kind %q %s", letter, name)
			dir := filepath.Join(t.TempDir(), "copy")
			shelfChange(t, base, dir, func(ix store.Index) []store.Change { return damage(ix, last(ix, letter)) })
			innerLose(t, dir, []Option{WithoutPaging})
			s := shelfOpen(t, dir)
			if (letter == keyState || letter == keyPlaces) && s.keeper.shelf.index != nil {
				shelfMeet(t, how, s)
				s = shelfOpen(t, dir)
			}
			if s.keeper.shelf.index != nil {
				t.Errorf("%s: the index is believed", how)
			}
			if _, err := os.Stat(filepath.Join(dir, "index.ok")); err == nil {
				t.Errorf("%s: the marker is still there", how)
			}
			checkAll(t, s)
			sameDump(t, how, want, dump(t, s))
			if err := s.Close(); err != nil {
				t.Errorf("%s: Close = %v", how, err)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}

	dir := filepath.Join(t.TempDir(), "more")
	shelfChange(t, base, dir, func(ix store.Index) (more []store.Change) {
		more = append(more, store.Change{Key: key(keyDraft), Value: wrap(nil)})
		for _, e := range before {
			if e.Key[0] != keyCheckpoint {
				more = append(more, store.Change(e))
			}
		}
		for _, letter := range []byte{keyQueue, keyBlocks, keyState, keyPlaces} {
			e := last(ix, letter)
			for _, queue := range []uint32{0, 2, 4, 1000, 1<<32 - 2} { // there, gone, never there
				k := bytes.Clone(e.Key)
				binary.BigEndian.PutUint32(k[1:], queue)
				k[len(k)-1] ^= 1
				more = append(more, store.Change{Key: k, Value: e.Value})
			}
		}
		return more
	})
	if !shelfLook(t, "records too many", dir, want) {
		t.Error("records too many: the index is not used")
	}
}

// shelfMeet reads all blocks of a spool whose index has a damaged one: the spool must stop there, and say why.
func shelfMeet(t testing.TB, how string, s *Spool) {
	t.Helper()
	met := false
	for _, q := range s.Queues() {
		q.hold()
		var numbers []uint64
		q.st.each(func(*summary) bool { return false }, func(b *block) bool {
			numbers = append(numbers, b.number)
			return true
		})
		for _, number := range numbers {
			if b := q.st.block(number); b != nil && !q.st.here(b) {
				met = !q.pageIn(true) || met
			}
		}
		q.mu.Unlock()
		if _, err := q.Attributes(t.Context()); (err != nil) != met || err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: Attributes = %v, damage met: %t", how, err, met)
		}
	}
	if !met {
		t.Errorf("%s: nobody has noticed", how)
	}
	if err := s.Close(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%s: Close = %v, want ErrCorrupt", how, err)
	}
}

// shelfChange copies a spool that is closed and changes its index.
func shelfChange(t testing.TB, from, to string, change func(store.Index) []store.Change) {
	t.Helper()
	copyTree(t, from, to)
	ix, err := badgerkv.Open(filepath.Join(to, "index"), badgerkv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(ix.Apply(change(ix)), ix.Sync(), ix.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestIndexOfAnotherSpool: an index does not say anything about a log that it was not made of.
func TestIndexOfAnotherSpool(t *testing.T) {
	one, other := t.TempDir(), t.TempDir()
	for i, dir := range []string{one, other} {
		s := shelfStart(t, dir)
		shelfSend(t, s, "orders", 100*(1-i)) // the log of the one is longer
		s.keeper.checkpoint()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := shelfOpen(t, one)
	want := dump(t, s)
	if err := errors.Join(s.Close(), os.RemoveAll(filepath.Join(one, "index"))); err != nil {
		t.Fatal(err)
	}
	copyTree(t, filepath.Join(other, "index"), filepath.Join(one, "index"))
	if shelfLook(t, "index of another spool", one, want) {
		t.Error("the index of another spool is used")
	}
}

// TestFailedOpenLetsGo: an Open that finds the log damaged behind a good index leaves nothing open (goleak tells), and
// answers the same again.
func TestFailedOpenLetsGo(t *testing.T) {
	dir := t.TempDir()
	s := shelfStart(t, dir)
	c := s.commit
	if err := c.Admit(100); err != nil {
		t.Fatal(err)
	}
	c.Begin()
	pos := c.Add(200, []byte("a type that nobody knows"), 0)
	c.End(100)
	if err := errors.Join(c.Wait(pos, store.AtWritten), s.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := Open(dir); !errors.Is(err, ErrCorrupt) {
			t.Errorf("Open = %v, want ErrCorrupt", err)
		}
		if _, err := os.Stat(filepath.Join(dir, "index.ok")); err != nil {
			t.Errorf("the index is given up: %v", err)
		}
	}
}

// TestReplayedSettingsReachTheIndex: what only the log told at one Open is in the next checkpoint.
func TestReplayedSettingsReachTheIndex(t *testing.T) {
	dir := t.TempDir()
	s := shelfStart(t, dir)
	if err := shelfQueue(t, s, "idle").SetMeta(t.Context(), func(m *Meta) { m.VisibilityTimeout = time.Minute }); err != nil {
		t.Fatal(err)
	}
	want := dump(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		shelfLook(t, "settings", dir, want)
	}
}

// TestHalfDeadBlock: as many messages of a block are deleted behind a checkpoint as are sent, and the others stay.
func TestHalfDeadBlock(t *testing.T) {
	dir := t.TempDir()
	s := shelfOpen(t, dir)
	if _, err := s.CreateQueue(t.Context(), "q", Meta{}); err != nil {
		t.Fatal(err)
	}
	shelfSend(t, s, "q", 500)
	s.keeper.checkpoint()
	shelfSend(t, s, "q", 1000)
	shelfDelete(t, s, "q", 524)
	want := dump(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !shelfLook(t, "half a block", dir, want) {
		t.Error("the index is not used")
	}
}

// shelfDeleted makes the queue q with part of a block of messages, of which two are deleted and can be rewound.
func shelfDeleted(t *testing.T, s *Spool) *Queue {
	t.Helper()
	q, err := s.CreateQueue(t.Context(), "q", Meta{Rewind: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	shelfSend(t, s, "q", 900)
	shelfDelete(t, s, "q", 2)
	return q
}

// TestManyRewinds: a history that was cut short in memory does not cut short what replay needs, and a snapshot of a long
// one finds its room.
func TestManyRewinds(t *testing.T) {
	dir := t.TempDir()
	s := shelfOpen(t, dir)
	q := shelfDeleted(t, s)
	if n, err := q.Rewind(t.Context(), shelfNow(t, q).Add(-time.Minute)); err != nil || n != 2 {
		t.Fatalf("Rewind = %d, %v, want 2", n, err)
	}
	for i := range maxEvents + 200 {
		shelfEvents(t, q, 1)
		if i == maxEvents-30 {
			s.keeper.checkpoint()
		}
		if n := q.st.history.Len(); n > maxEvents+1 {
			t.Fatalf("%d events in the history, want at most %d", n, maxEvents)
		}
	}
	if err := s.keeper.retell([]*Queue{q}, s.disk.End()); err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // drops count as well
		if err := q.SetMeta(t.Context(), func(m *Meta) { m.Rewind = time.Duration(i%2+1) * time.Hour }); err != nil {
			t.Fatal(err)
		}
	}
	checkAll(t, s)
	want := dump(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir()
	copyTree(t, dir, copied)
	if err := errors.Join(os.RemoveAll(filepath.Join(copied, "index")), os.RemoveAll(filepath.Join(copied, "index.ok"))); err != nil {
		t.Fatal(err)
	}
	shelfLook(t, "with index", dir, want)
	shelfLook(t, "without index", copied, want)
}

// TestHistoryOfABlockAway: what a block that is out of memory has missed of a long history is not forgotten before it has come back.
func TestHistoryOfABlockAway(t *testing.T) {
	s := shelfOpen(t, t.TempDir())
	defer s.Close()
	q, err := s.CreateQueue(t.Context(), "q", Meta{Rewind: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	shelfSend(t, s, "q", blockSize+10)
	shelfDelete(t, s, "q", 5)
	s.keeper.checkpoint()
	q.hold()
	b := q.st.block(0)
	if !b.evictable() {
		t.Error("the block that was just saved cannot be put out of memory")
	}
	q.st.evict(b)
	q.mu.Unlock()
	if n, err := q.Rewind(t.Context(), shelfNow(t, q).Add(-time.Minute)); err != nil || n != 5 {
		t.Fatalf("Rewind = %d, %v, want 5", n, err)
	}
	shelfEvents(t, q, maxEvents)
	if ds, err := q.Peek(t.Context(), 1); err != nil || string(ds[0].Body) != "message 0 of q" {
		t.Errorf("Peek = %q, %v, want the first of what was brought back", ds[0].Body, err)
	}
	checkAll(t, s)
}

// TestSnapshotOfAShortHistory: a block that the checkpoint has as it was before a rewind gets the rewind from its record, though a
// SNAPSHOT behind that knows it no more.
func TestSnapshotOfAShortHistory(t *testing.T) {
	dir, image := t.TempDir(), t.TempDir()
	s := shelfOpen(t, dir)
	q := shelfDeleted(t, s)
	s.keeper.checkpoint()
	if n, err := q.Rewind(t.Context(), shelfNow(t, q).Add(-time.Minute)); err != nil || n != 2 {
		t.Fatalf("Rewind = %d, %v, want 2", n, err)
	}
	s.keeper.work.Lock()
	s.keeper.catchUp(q)
	s.keeper.work.Unlock()
	if n := q.st.history.Len(); n != 0 {
		t.Errorf("%d events in the history, want none", n)
	}
	err := s.keeper.retell([]*Queue{q}, s.disk.End())
	if err := errors.Join(err, s.Sync(t.Context()), s.keeper.mark(false)); err != nil {
		t.Fatal(err)
	}
	want := dump(t, s)
	copyTree(t, dir, image)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !shelfLook(t, "crashed", image, want) {
		t.Error("the index is not used")
	}
}

// TestChangesInMidCheckpoint: a checkpoint saves the blocks of a queue one after the other while it is used. What
// happens after some blocks are saved, and before others and the queue itself are, is taken from the log where the index
// does not have it, and only there.
func TestChangesInMidCheckpoint(t *testing.T) {
	type held struct{ early, late []*Delivery } // of blocks that are saved before and behind the changes
	for name, change := range map[string]func(t *testing.T, s *Spool, q *Queue, h held) error{
		"delete and rewind": func(t *testing.T, s *Spool, q *Queue, h held) error {
			err := errors.Join(h.early[0].Delete(t.Context()), h.late[0].Delete(t.Context()))
			n, rewound := q.Rewind(t.Context(), h.early[0].EnqueuedAt)
			if n != 2 {
				t.Errorf("Rewind = %d, want 2", n)
			}
			return errors.Join(err, rewound, h.early[1].Delete(t.Context()), h.late[1].Delete(t.Context()))
		},
		"delete and drop": func(t *testing.T, s *Spool, q *Queue, h held) error {
			err := errors.Join(h.early[0].Delete(t.Context()), h.late[0].Delete(t.Context()),
				q.SetMeta(t.Context(), func(m *Meta) { m.Rewind = 0 }),
				h.early[1].Delete(t.Context()), h.late[1].Delete(t.Context()),
				q.SetMeta(t.Context(), func(m *Meta) { m.Rewind = time.Hour }),
				h.early[2].Delete(t.Context()), h.late[2].Delete(t.Context()))
			if n, err := q.Rewind(t.Context(), h.early[0].EnqueuedAt); n != 2 || err != nil {
				t.Errorf("Rewind = %d, %v, want 2", n, err)
			}
			return err
		},
		"purge": func(t *testing.T, s *Spool, q *Queue, h held) error {
			err := q.Purge(t.Context())
			shelfSend(t, s, "bulk", 3)
			return err
		},
		"leases": func(t *testing.T, s *Spool, q *Queue, h held) error {
			err := errors.Join(h.early[0].Release(t.Context(), 0), h.late[0].Release(t.Context(), 0),
				h.early[1].Release(t.Context(), time.Hour), h.late[1].Extend(t.Context(), time.Hour))
			_, again := q.Receive(t.Context())
			return errors.Join(err, again)
		},
		"sends": func(t *testing.T, s *Spool, q *Queue, h held) error {
			shelfSend(t, s, "bulk", 2000)
			return h.late[5].Delete(t.Context())
		},
		"drop the queue": func(t *testing.T, s *Spool, q *Queue, h held) error {
			_, err := s.CreateQueue(t.Context(), "new", Meta{})
			return errors.Join(err, s.DeleteQueue(t.Context(), "bulk"))
		},
		"history forgotten": func(t *testing.T, s *Spool, q *Queue, h held) error {
			err := errors.Join(h.early[0].Delete(t.Context()), h.late[0].Delete(t.Context()))
			_, rewound := q.Rewind(t.Context(), h.early[0].EnqueuedAt)
			shelfEvents(t, q, maxEvents+49)
			return errors.Join(err, rewound)
		},
	} {
		if testing.Short() && name != "delete and drop" && name != "history forgotten" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := shelfOpen(t, dir)
			q, err := s.CreateQueue(t.Context(), "bulk", Meta{Rewind: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			var h held
			for n := range 60 {
				shelfSend(t, s, "bulk", MaxBatch)
				got, err := q.ReceiveBatch(t.Context(), MaxBatch, Visibility(10*time.Hour))
				if err != nil || len(got) != MaxBatch {
					t.Fatal(len(got), err)
				}
				if n == 0 {
					h.early = got
				}
				h.late = got
			}
			s.keeper.checkpoint()
			for _, d := range append(h.early[100:110], h.late[100:110]...) { // blocks that have changed are saved
				if err := d.Extend(t.Context(), 11*time.Hour); err != nil {
					t.Fatal(err)
				}
			}
			q.hold()
			q.st.each(func(*summary) bool { return false }, func(b *block) bool {
				b.dirty = true
				return true
			})
			q.mu.Unlock()
			ix := &hooked{Index: s.keeper.shelf.index}
			changed := false
			ix.hook = func(op string, before bool) error {
				q.hold()
				early, late := q.st.block(0), q.st.block(59)
				between := early != nil && late != nil && !early.dirty && late.dirty
				q.mu.Unlock()
				if between && !changed {
					changed = true
					if err := change(t, s, q, h); err != nil {
						t.Error(err)
					}
				}
				return nil
			}
			s.keeper.shelf.index = ix
			s.keeper.checkpoint()
			s.keeper.shelf.index = ix.Index
			if !changed {
				t.Fatal("nothing was changed in the middle")
			}
			checkAll(t, s)
			if err := errors.Join(s.Sync(t.Context()), s.keeper.mark(false)); err != nil {
				t.Fatal(err)
			}
			want := dump(t, s)
			image, plain := t.TempDir(), t.TempDir()
			copyTree(t, dir, image)
			copyTree(t, dir, plain)
			if err := errors.Join(s.Close(), os.RemoveAll(filepath.Join(plain, "index")), os.RemoveAll(filepath.Join(plain, "index.ok"))); err != nil {
				t.Fatal(err)
			}
			if !shelfLook(t, "crashed", image, want) {
				t.Error("the index is not used")
			}
			shelfLook(t, "without index", plain, want)
		})
	}
}

// TestDroppedInFirstCheckpoint: a queue that is deleted while it is saved for the first time leaves nothing in the index
// when the next checkpoint stands.
func TestDroppedInFirstCheckpoint(t *testing.T) {
	s := shelfOpen(t, t.TempDir())
	defer s.Close()
	if _, err := s.CreateQueue(t.Context(), "stays", Meta{}); err != nil {
		t.Fatal(err)
	}
	s.keeper.checkpoint()
	q, err := s.CreateQueue(t.Context(), "bulk", Meta{})
	if err != nil {
		t.Fatal(err)
	}
	for range 60 {
		shelfSend(t, s, "bulk", MaxBatch)
		if got, err := q.ReceiveBatch(t.Context(), MaxBatch, Visibility(10*time.Hour)); err != nil || len(got) != MaxBatch {
			t.Fatal(len(got), err)
		}
	}
	ix := &hooked{Index: s.keeper.shelf.index}
	dropped := false
	ix.hook = func(string, bool) error {
		q.hold()
		between := q.shelving
		q.mu.Unlock()
		if !between || dropped {
			return nil
		}
		dropped = true
		return s.DeleteQueue(t.Context(), "bulk")
	}
	s.keeper.shelf.index = ix
	s.keeper.checkpoint()
	s.keeper.shelf.index = ix.Index
	if !dropped {
		t.Fatal("the queue was not deleted in the middle")
	}
	s.keeper.checkpoint()
	shelfKeys(t, "after the next checkpoint", s)
}

// TestGoneLeavesTheIndex: the next checkpoint removes what the index has of messages that are gone, one by one or all at once.
func TestGoneLeavesTheIndex(t *testing.T) {
	s := shelfOpen(t, t.TempDir())
	defer s.Close()
	q, err := s.CreateQueue(t.Context(), "q", Meta{})
	if err != nil {
		t.Fatal(err)
	}
	shelfSend(t, s, "q", 2*blockSize+10)
	s.keeper.checkpoint()
	shelfDelete(t, s, "q", blockSize+10)
	s.keeper.checkpoint()
	shelfKeys(t, "after deletions", s)
	if err := q.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.restIdle() // not before what it has left there is removed
	s.keeper.checkpoint()
	shelfKeys(t, "after a purge", s)
}

// TestStatsOfTheIndex: what the index takes is a part of what the spool takes on disk.
func TestStatsOfTheIndex(t *testing.T) {
	s := shelfStart(t, t.TempDir())
	defer s.Close()
	for log, again := s.disk.Size().Allocated, true; again; { // a segment may be prepared meanwhile
		st, now := s.Stats(), s.disk.Size().Allocated
		if again = now != log; !again && (st.IndexBytes == 0 || st.DiskBytes != log+st.IndexBytes) {
			t.Errorf("DiskBytes = %d with %d of the log and IndexBytes = %d, want the sum", st.DiskBytes, log, st.IndexBytes)
		}
		log = now
	}
}

// TestLapseBeforeTheRule: a lease that was over before a dead-letter rule was set is not judged by it after an Open.
func TestLapseBeforeTheRule(t *testing.T) {
	for _, indexed := range []bool{false, true} {
		dir := t.TempDir()
		s := shelfOpen(t, dir)
		if _, err := s.CreateQueue(t.Context(), "dead", Meta{}); err != nil {
			t.Fatal(err)
		}
		q, err := s.CreateQueue(t.Context(), "q", Meta{})
		if err != nil {
			t.Fatal(err)
		}
		shelfSend(t, s, "q", 3)
		if _, err := q.ReceiveBatch(t.Context(), 2, Visibility(2*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if indexed {
			s.keeper.checkpoint() // leased
		}
		quiesce(t, s)
		if err := q.SetMeta(t.Context(), func(m *Meta) { m.DeadLetter = &DeadLetter{Queue: "dead", MaxReceives: 1} }); err != nil {
			t.Fatal(err)
		}
		want := dump(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if used := shelfLook(t, "lapsed", dir, want); used != indexed {
			t.Errorf("index used: %t, want %t", used, indexed)
		}
	}
}

// TestQueueIDsAreNotUsedAgain: not even when every record of the queue that had the highest one is gone.
func TestQueueIDsAreNotUsedAgain(t *testing.T) {
	dir := t.TempDir()
	s := shelfOpen(t, dir)
	for _, name := range []string{"q", "gone"} {
		if _, err := s.CreateQueue(t.Context(), name, Meta{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteQueue(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		shelfSend(t, s, "q", 1000)
		shelfDelete(t, s, "q", 1000)
		s.keeper.checkpoint()
		s.keeper.reclaim()
		if at := s.keeper.at.Load(); int64(s.disk.Start()) > at {
			t.Errorf("the log begins at %d, the checkpoint is at %d", s.disk.Start(), at)
		}
	}
	if s.disk.Start() == 0 {
		t.Error("nothing was given back")
	}
	shelfSend(t, s, "q", 1500) // no checkpoint knows of these
	shelfDelete(t, s, "q", 1500)
	s.keeper.reclaim()
	if at := s.keeper.at.Load(); int64(s.disk.Start()) > at {
		t.Errorf("the log begins at %d, the checkpoint is at %d", s.disk.Start(), at)
	}
	if err := errors.Join(s.Close(), os.RemoveAll(filepath.Join(dir, "index")), os.RemoveAll(filepath.Join(dir, "index.ok"))); err != nil {
		t.Fatal(err)
	}
	s = shelfOpen(t, dir)
	q, err := s.CreateQueue(t.Context(), "new", Meta{})
	if err != nil || q.id != 3 {
		t.Errorf("a new queue has the id %d, %v, want 3", q.id, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestQueueIDsOfAnEmptySpool: the highest id is not forgotten when no queue is left that the log could tell of.
func TestQueueIDsOfAnEmptySpool(t *testing.T) {
	dir := t.TempDir()
	s := shelfOpen(t, dir)
	const n = 400
	for i := range n {
		if _, err := s.CreateQueue(t.Context(), fmt.Sprintf("q%d", i), Meta{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n { // the highest id ends first: its records go first, too
		if err := s.DeleteQueue(t.Context(), fmt.Sprintf("q%d", n-1-i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.keeper.checkpoint()
	s.keeper.reclaim()
	if s.disk.Start() == 0 {
		t.Fatal("nothing was given back")
	}
	if err := errors.Join(s.Close(), os.RemoveAll(filepath.Join(dir, "index")), os.RemoveAll(filepath.Join(dir, "index.ok"))); err != nil {
		t.Fatal(err)
	}
	s = shelfOpen(t, dir)
	q, err := s.CreateQueue(t.Context(), "new", Meta{})
	if err != nil || q.id != n+1 {
		t.Errorf("a new queue has the id %d, %v, want %d", q.id, err, n+1)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestShelfAway: the marker in a directory that has taken the place of the spool's is somebody else's.
func TestShelfAway(t *testing.T) {
	dir := t.TempDir()
	sh := newShelf(dir, nil, slog.New(slog.DiscardHandler))
	if err := os.WriteFile(sh.marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sh.home = func() error { return errors.New("replaced") }
	if err := sh.distrust(); err == nil {
		t.Error("distrust = nil in another's directory")
	}
	if _, err := os.Stat(sh.marker); err != nil {
		t.Error(err)
	}
}

// TestIndexAheadOfTheLog: an index that tells of more than the log has, which was put back to an earlier state, is not used.
func TestIndexAheadOfTheLog(t *testing.T) {
	d := newFaultDisk(t, &fault{})
	s, err := d.open(WithoutPaging)
	if err != nil {
		t.Fatal(err)
	}
	takeKeeper(s)
	q, err := s.CreateQueue(t.Context(), "q", Meta{})
	if err == nil {
		_, err = q.Send(t.Context(), Message{Body: []byte("a")})
	}
	if err != nil {
		t.Fatal(err)
	}
	earlier := d.Log.Crash(func(int64) int64 { return 0 })
	if err := s.DeleteQueue(t.Context(), "q"); err != nil {
		t.Fatal(err)
	}
	s.keeper.checkpoint()
	d.crash(t, func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	d.Log = earlier
	s, err = d.open(WithoutPaging)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if a, err := shelfQueue(t, s, "q").Attributes(t.Context()); err != nil || a.Active != 1 {
		t.Errorf("%d active, %v, want 1", a.Active, err)
	}
}

// TestClockOfTheIndex: time does not go back when only the index tells how late it was.
func TestClockOfTheIndex(t *testing.T) {
	d := newFaultDisk(t, &fault{})
	s, err := d.open(WithoutPaging)
	if err != nil {
		t.Fatal(err)
	}
	takeKeeper(s)
	s.base += int64(time.Hour) // the wall clock is put right before the next open
	if _, err := s.CreateQueue(t.Context(), "q", Meta{}); err != nil {
		t.Fatal(err)
	}
	s.keeper.checkpoint()
	now := s.now()
	d.crash(t, func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	s, err = d.open(WithoutPaging)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if after := s.now(); after < now-int64(time.Minute) {
		t.Errorf("the time is %v, and was %v", time.Unix(0, after), time.Unix(0, now))
	}
}
