package spool

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spoolmq/spool/store"
)

var cleanSeed = flag.Uint64("clean.seed", 0, "seed of TestCleanRandom; 0 = another one each time")

// cleanMeta has nothing fall due while a test runs.
var cleanMeta = Meta{VisibilityTimeout: 11 * time.Hour, Retention: 10 * 24 * time.Hour}

func cleanOpen(t *testing.T, dir string, opts ...Option) *Spool {
	t.Helper()
	s, err := Open(dir, append([]Option{WithSizes(4096, 16<<10), WithSlack(1 << 40), WithDurability(Written)}, opts...)...)
	if err != nil {
		t.Fatalf("Open(%s) = %v", dir, err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func cleanQueue(t *testing.T, s *Spool, name string, meta Meta) *Queue {
	t.Helper()
	q, err := s.OpenQueue(context.Background(), name, meta)
	if err != nil {
		t.Fatalf("OpenQueue(%s) = %v", name, err)
	}
	return q
}

// cleanBody is a body that tells which message it is of.
func cleanBody(i int) []byte { return []byte(strings.Repeat(fmt.Sprintf("body %d. ", i), 1+i%9)) }

func cleanSend(t *testing.T, q *Queue, from, n int) {
	t.Helper()
	for i := from; i < from+n; {
		var batch []Message
		for ; i < from+n && len(batch) < 16; i++ {
			batch = append(batch, Message{Body: cleanBody(i), Attributes: map[string]string{"i": fmt.Sprint(i)}})
		}
		if _, err := q.SendBatch(context.Background(), batch); err != nil {
			t.Fatalf("SendBatch = %v", err)
		}
	}
}

// cleanTake receives n messages.
func cleanTake(t *testing.T, q *Queue, n int) (ds []*Delivery) {
	t.Helper()
	for len(ds) < n {
		some, err := q.ReceiveBatch(context.Background(), min(n-len(ds), 16), Wait(0))
		if err != nil {
			t.Fatalf("ReceiveBatch after %d of %d = %v", len(ds), n, err)
		}
		ds = append(ds, some...)
	}
	return ds
}

func cleanDelete(t *testing.T, q *Queue, ds []*Delivery) {
	t.Helper()
	for len(ds) > 0 {
		n := min(len(ds), 16)
		var receipts []string
		for _, d := range ds[:n] {
			receipts = append(receipts, d.Receipt)
		}
		if err := q.DeleteBatch(context.Background(), receipts); err != nil {
			t.Fatalf("DeleteBatch = %v", err)
		}
		ds = ds[n:]
	}
}

// cleanAll cleans until everything that was in the log has been copied or dropped.
func cleanAll(t *testing.T, s *Spool) {
	t.Helper()
	for end := s.disk.Boundaries()[len(s.disk.Boundaries())-1]; s.disk.Start() < end; {
		start := s.disk.Start()
		if err := s.Clean(); err != nil {
			t.Fatalf("Clean = %v", err)
		}
		if s.disk.Start() == start {
			t.Fatalf("Clean has dropped nothing at %d, %v", start, s.disk.Boundaries())
		}
	}
}

// cleanCheckpoint makes a checkpoint, and so an index.
func cleanCheckpoint(s *Spool) {
	s.keeper.work.Lock()
	defer s.keeper.work.Unlock()
	s.keeper.checkpoint()
}

func cleanClose(t *testing.T, s *Spool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close = %v", err)
	}
}

// cleanDump is all that a user can see of a spool, and what decides what he will see.
func cleanDump(t *testing.T, s *Spool) string {
	t.Helper()
	var out strings.Builder
	for _, q := range s.Queues() {
		a, err := q.Attributes(context.Background())
		if err != nil {
			t.Fatalf("Attributes = %v", err)
		}
		if a.DeadLetter != nil {
			fmt.Fprintf(&out, "%+v ", *a.DeadLetter)
			a.DeadLetter = nil
		}
		fmt.Fprintf(&out, "%s %+v\n", q.Name(), a)
		q.hold()
		var messages []string
		var places []place
		q.st.each(func(*summary) bool { return false }, func(b *block) bool {
			bring(t, q, b)
			q.st.refresh(b)
			for off := b.next(0); off >= 0; off = b.next(off + 1) {
				e := entry{}
				if x := b.entry(off); x != nil {
					e = *x
				}
				messages = append(messages, fmt.Sprintf("%d kind %d due %d first %d base %d nonce %x receives %d rewinds %d",
					b.first()+uint64(off), b.kind(off), e.due, e.first, e.base, e.nonce, e.receives, e.rewinds))
				places = append(places, q.st.cursor.get(&b.places, off))
			}
			return true
		})
		q.mu.Unlock()
		for i, m := range messages {
			var seq uint64
			fmt.Sscan(m, &seq)
			stored, err := q.find(places[i].pos, seq, places[i].size)
			if err != nil {
				fmt.Fprintf(&out, " %s: %v\n", m, err)
				continue
			}
			var d Delivery
			stored.deliver(&d)
			sum := sha256.Sum256(d.Body)
			fmt.Fprintf(&out, " %s id %s at %d attrs %v origin %+v body %x\n", m, messageID(q.id, stored.epoch, seq),
				d.EnqueuedAt.UnixNano(), d.Attributes, d.DeadLetter, sum[:4])
		}
	}
	return out.String()
}

// cleanSame compares dumps line by line.
func cleanSame(t *testing.T, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("%s: %d lines, want %d; line %d\n got %s\nwant %s", what, len(g), len(w), i, g[i], w[i])
		}
	}
	t.Fatalf("%s: %d lines, want %d", what, len(g), len(w))
}

// cleanCopy copies a directory, as a crash of the process would leave it.
func cleanCopy(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil // a file that was just being removed
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func cleanNoIndex(t *testing.T, dir string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "index")), os.RemoveAll(filepath.Join(dir, "index.ok"))); err != nil {
		t.Fatal(err)
	}
}

// cleanCheck compares a dump with what a copy of the directory holds, with its index and without. It closes the spool
// when closing is set, and returns it opened again.
func cleanCheck(t *testing.T, s *Spool, dir string, closing bool) *Spool {
	t.Helper()
	want := cleanDump(t, s)
	if closing {
		cleanClose(t, s)
	}
	for _, index := range []bool{true, false} {
		to := cleanCopy(t, dir)
		if !index {
			cleanNoIndex(t, to)
		}
		c := cleanOpen(t, to)
		cleanSame(t, fmt.Sprintf("copy, closed %v, index %v", closing, index), cleanDump(t, c), want)
		cleanClose(t, c)
		os.RemoveAll(to)
	}
	if closing {
		s = cleanOpen(t, dir)
		cleanSame(t, "opened again", cleanDump(t, s), want)
	}
	return s
}

func TestCleanOldMessagePinsNothing(t *testing.T) {
	dir := t.TempDir()
	s := cleanOpen(t, dir)
	q := cleanQueue(t, s, "q", cleanMeta)
	cleanSend(t, q, 0, 1)
	old := cleanTake(t, q, 1)
	for i := range 40 {
		cleanSend(t, q, i*50, 50)
		cleanDelete(t, q, cleanTake(t, q, 50))
	}
	before := s.Stats()
	cleanAll(t, s)
	after := s.Stats()
	if after.LogBytes > before.LogBytes/10 || after.DiskBytes > before.DiskBytes/3 { // the disk's have the stage and the index in them
		t.Errorf("log %d, disk %d bytes after %d and %d", after.LogBytes, after.DiskBytes, before.LogBytes, before.DiskBytes)
	}
	s = cleanCheck(t, s, dir, true)
	if err := cleanQueue(t, s, "q", cleanMeta).Delete(context.Background(), old[0].Receipt); err != nil {
		t.Errorf("Delete by the receipt from before = %v", err)
	}
}

func TestCleanEveryNth(t *testing.T) {
	dir := t.TempDir()
	s := cleanOpen(t, dir)
	q := cleanQueue(t, s, "q", cleanMeta)
	const n, nth = 5000, 100
	cleanSend(t, q, 0, n)
	ds := cleanTake(t, q, n)
	var kept []*Delivery
	cleanDelete(t, q, slices.DeleteFunc(ds, func(d *Delivery) bool {
		keep := d.Attributes["i"][max(0, len(d.Attributes["i"])-2):] == "77"
		if keep {
			kept = append(kept, d)
		}
		return keep
	}))
	if len(kept) != n/nth {
		t.Fatalf("%d kept", len(kept))
	}
	for range 3 {
		cleanAll(t, s)
		cleanCheckpoint(s)
		s = cleanCheck(t, s, dir, false)
	}
	if st := s.Stats(); st.LogBytes > 64<<10 {
		t.Errorf("log of %d bytes for %d messages", st.LogBytes, len(kept))
	}
	s = cleanCheck(t, s, dir, true)
	cleanDelete(t, cleanQueue(t, s, "q", cleanMeta), kept)
	cleanCheck(t, s, dir, true)
}

// TestCleanBeforeACheckpointIsDue: cleaning makes the checkpoint that it needs, however little has been written since the
// last one.
func TestCleanBeforeACheckpointIsDue(t *testing.T) {
	dir := t.TempDir()
	s := cleanOpen(t, dir, WithSizes(4096, 1<<40))
	q := cleanQueue(t, s, "q", cleanMeta)
	cleanSend(t, q, 0, 100)
	cleanCheckpoint(s)
	cleanDelete(t, q, cleanTake(t, q, 90))
	cleanSend(t, q, 100, 100)
	cleanAll(t, s)
	cleanCheck(t, s, dir, true)
}

func TestCleanRewindable(t *testing.T) {
	for _, index := range []bool{true, false} {
		t.Run(fmt.Sprint("index=", index), func(t *testing.T) {
			dir := t.TempDir()
			meta := cleanMeta
			meta.Rewind = 5 * 24 * time.Hour
			s := cleanOpen(t, dir)
			q := cleanQueue(t, s, "q", meta)
			cleanSend(t, q, 0, 100)
			to := time.Now()
			cleanSend(t, q, 100, 2000)
			cleanDelete(t, q, cleanTake(t, q, 2100))
			reopen := func() {
				if !index {
					cleanClose(t, s)
					cleanNoIndex(t, dir)
					s = cleanOpen(t, dir)
				} else {
					s = cleanCheck(t, s, dir, true)
				}
				q = cleanQueue(t, s, "q", meta)
			}
			want := int64(2000)
			for round := range 3 {
				cleanAll(t, s)
				reopen()
				if n, err := q.RewindPreview(context.Background(), to); n != want || err != nil {
					t.Fatalf("round %d: RewindPreview = %d, %v, want %d", round, n, err, want)
				}
				if n, err := q.Rewind(context.Background(), to); n != want || err != nil {
					t.Fatalf("round %d: Rewind = %d, %v, want %d", round, n, err, want)
				}
				cleanAll(t, s)
				reopen()
				ds := cleanTake(t, q, 2000)
				for i, d := range ds {
					if d.Rewinds != round+1 || !bytes.Equal(d.Body, cleanBody(100+i)) {
						t.Fatalf("round %d: message %d is %q with %d rewinds", round, i, d.Body, d.Rewinds)
					}
				}
				cleanDelete(t, q, ds)
			}
			reopen()
			if a, err := q.Attributes(context.Background()); err != nil || a.Rewindable != 2100 {
				t.Fatalf("Attributes = %+v, %v", a, err)
			}
		})
	}
}

func TestCleanLeased(t *testing.T) {
	for _, index := range []bool{true, false} {
		t.Run(fmt.Sprint("index=", index), func(t *testing.T) {
			dir := t.TempDir()
			s := cleanOpen(t, dir)
			q := cleanQueue(t, s, "q", cleanMeta)
			cleanSend(t, q, 0, 300)
			ds := cleanTake(t, q, 300)
			for _, d := range ds[:100] {
				if err := d.Release(context.Background(), time.Hour); err != nil {
					t.Fatal(err)
				}
			}
			cleanCheckpoint(s)
			cleanAll(t, s)
			cleanAll(t, s)
			want := cleanDump(t, s)
			cleanClose(t, s)
			if !index {
				cleanNoIndex(t, dir)
			}
			s = cleanOpen(t, dir)
			cleanSame(t, "opened again", cleanDump(t, s), want)
			q = cleanQueue(t, s, "q", cleanMeta)
			cleanDelete(t, q, ds[100:])
			a, err := q.Attributes(context.Background())
			if err != nil || a.Delayed != 100 || a.Inactive != 0 {
				t.Errorf("Attributes = %+v, %v", a, err)
			}
			var refused *ReceiptError
			if err := q.Delete(context.Background(), ds[0].Receipt); !errors.As(err, &refused) || refused.Reason != Expired {
				t.Errorf("Delete by the receipt of a released message = %v", err)
			}
		})
	}
}

func TestCleanDeadLetters(t *testing.T) {
	dir := t.TempDir()
	s := cleanOpen(t, dir)
	cleanQueue(t, s, "dead", cleanMeta)
	meta := cleanMeta
	meta.DeadLetter = &DeadLetter{Queue: "dead", MaxReceives: 1}
	q := cleanQueue(t, s, "q", meta)
	cleanSend(t, q, 0, 200)
	for _, d := range cleanTake(t, q, 200) {
		if err := d.Release(context.Background(), 0); err != nil {
			t.Fatal(err)
		}
	}
	want := cleanDump(t, s)
	for range 2 {
		cleanAll(t, s)
		cleanSame(t, "cleaned", cleanDump(t, s), want)
		s = cleanCheck(t, s, dir, true)
	}
	for i, d := range cleanTake(t, cleanQueue(t, s, "dead", cleanMeta), 200) {
		if o := d.DeadLetter; o == nil || o.Queue != "q" || o.Receives != 1 || o.Reason != reasonMaxReceives || !bytes.Equal(d.Body, cleanBody(i)) {
			t.Fatalf("dead letter %d: %+v, origin %+v", i, d, o)
		}
	}
}

// TestCleanKill looks at the directory as it is at every step of cleaning.
func TestCleanKill(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	var copies []string
	seen := map[string]int{}
	armed := false
	s := cleanOpen(t, dir, WithPaging(0, 1<<40), WithSteps(func(name string) {
		mu.Lock()
		defer mu.Unlock()
		if seen[name]++; armed && seen[name]%3 == 1 {
			copies = append(copies, cleanCopy(t, dir))
		}
	}))
	takeKeeper(s) // no other checkpoint comes before those of the cleaner
	meta := cleanMeta
	meta.Rewind = 24 * time.Hour
	q, p := cleanQueue(t, s, "q", meta), cleanQueue(t, s, "p", cleanMeta)
	for i := range 6 {
		cleanSend(t, q, i*20, 20)
		cleanSend(t, p, i*20, 20)
	}
	cleanDelete(t, q, cleanTake(t, q, 40))
	cleanDelete(t, p, cleanTake(t, p, 80)[10:])
	if _, err := q.Rewind(context.Background(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	cleanDelete(t, q, cleanTake(t, q, 20))
	cleanCheckpoint(s)
	want := cleanDump(t, s)
	mu.Lock()
	armed = true
	clear(seen)
	mu.Unlock()
	cleanAll(t, s)
	cleanAll(t, s)
	mu.Lock()
	armed = false
	for _, name := range []string{"written", "evicted", "copied", "synced", "checkpointed", "retold", "dropped"} {
		if seen[name] == 0 {
			t.Errorf("step %q not met: %v", name, seen)
		}
	}
	mu.Unlock()
	cleanSame(t, "cleaned", cleanDump(t, s), want)
	for i, c := range copies {
		for _, index := range []bool{true, false} {
			if !index {
				cleanNoIndex(t, c)
			}
			o := cleanOpen(t, c)
			cleanSame(t, fmt.Sprintf("copy %d, index %v", i, index), cleanDump(t, o), want)
			if !index {
				cleanAll(t, o)
				cleanSame(t, fmt.Sprintf("copy %d, cleaned", i), cleanDump(t, o), want)
			}
			cleanClose(t, o)
		}
	}
	t.Logf("%d copies", len(copies))
}

// TestCleanRandom cleans all the time while everything else goes on.
func TestCleanRandom(t *testing.T) {
	seed := *cleanSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-clean.seed=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	s := cleanOpen(t, dir)
	names := []string{"dead", "plain", "rewind", "letters", "both"}
	metas := map[string]Meta{}
	open := func() {
		for _, name := range names {
			meta := cleanMeta
			if name == "rewind" || name == "both" {
				meta.Rewind = 24 * time.Hour
			}
			if name == "letters" || name == "both" {
				meta.DeadLetter = &DeadLetter{Queue: "dead", MaxReceives: 3}
			}
			metas[name] = meta
			cleanQueue(t, s, name, meta)
		}
	}
	open()
	ctx := context.Background()
	held := map[string][]string{}
	sent := 0
	steps := 1500
	if testing.Short() {
		steps = 400
	}
	for step := range steps {
		name := names[rng.IntN(len(names))]
		q := cleanQueue(t, s, name, metas[name])
		switch k := rng.IntN(100); {
		case k < 25:
			n := 1 + rng.IntN(40)
			cleanSend(t, q, sent, n)
			sent += n
		case k < 30:
			if _, err := q.Send(ctx, Message{Body: cleanBody(sent), Delay: time.Duration(1+rng.IntN(100)) * time.Hour}); err != nil {
				t.Fatal(err)
			}
			sent++
		case k < 55:
			ds, err := q.ReceiveBatch(ctx, 1+rng.IntN(40), Wait(0))
			if err != nil && !errors.Is(err, ErrNoMessage) {
				t.Fatal(err)
			}
			for _, d := range ds {
				held[name] = append(held[name], d.Receipt)
			}
		case k < 80:
			for range min(len(held[name]), 1+rng.IntN(40)) {
				i := rng.IntN(len(held[name]))
				receipt := held[name][i]
				held[name] = slices.Delete(held[name], i, i+1)
				var err error
				switch rng.IntN(12) {
				case 0:
					err = q.ChangeVisibility(ctx, receipt, 0)
				case 1:
					err = q.ChangeVisibility(ctx, receipt, time.Duration(1+rng.IntN(20))*time.Hour)
				default:
					err = q.Delete(ctx, receipt)
				}
				if err != nil {
					t.Fatalf("step %d, %s: %v", step, name, err)
				}
			}
		case k < 83:
			if metas[name].Rewind > 0 {
				if _, err := q.Rewind(ctx, time.Now().Add(-time.Duration(rng.IntN(2000))*time.Millisecond)); err != nil {
					t.Fatal(err)
				}
			}
		case k == 83:
			if err := q.Purge(ctx); err != nil {
				t.Fatal(err)
			}
			held[name] = nil
		case k == 84 && metas[name].Rewind > 0:
			meta := q.Meta()
			meta.Rewind = time.Duration(1+rng.IntN(3)) * 24 * time.Hour
			if rng.IntN(4) == 0 {
				meta.Rewind = time.Millisecond
			}
			if err := q.SetMeta(ctx, func(m *Meta) { m.Rewind = meta.Rewind }); err != nil {
				t.Fatal(err)
			}
			if meta.Rewind < time.Hour {
				for begun := time.Now(); time.Since(begun) < 2*time.Millisecond; {
					runtime.Gosched() // what is older than the window fades
				}
				if err := q.SetMeta(ctx, func(m *Meta) { m.Rewind = 24 * time.Hour }); err != nil {
					t.Fatal(err)
				}
			}
		case k == 85:
			cleanCheckpoint(s)
		case k == 86:
			s = cleanCheck(t, s, dir, rng.IntN(2) == 0)
		default:
			if err := s.Clean(); err != nil {
				t.Fatal(err)
			}
		}
	}
	s = cleanCheck(t, s, dir, false)
	s = cleanCheck(t, s, dir, true)
	st := s.Stats()
	t.Logf("%d messages sent, %d and %d rewindable left, log %d bytes, live %d", sent, st.Messages, st.Rewindable, st.LogBytes, st.LiveBytes)
}

// TestCleanDamaged has a body of a live message damaged: it pins its segment, and nothing else is lost.
func TestCleanDamaged(t *testing.T) {
	dir := t.TempDir()
	s := cleanOpen(t, dir, WithLogger(slog.New(slog.DiscardHandler)))
	q := cleanQueue(t, s, "q", cleanMeta)
	cleanSend(t, q, 0, 500)
	cleanClose(t, s)
	needle := cleanBody(3)
	found := false
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		data, _ := os.ReadFile(path)
		if i := bytes.Index(data, needle); i >= 0 && !found && !d.IsDir() {
			found = true
			data[i] ^= 1
			return os.WriteFile(path, data, 0o600)
		}
		return nil
	})
	if !found {
		t.Fatal("body not found")
	}
	s = cleanOpen(t, dir)
	start := s.disk.Start()
	if err := s.Clean(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Clean = %v, want ErrCorrupt", err)
	}
	if s.disk.Start() != start {
		t.Errorf("the segment with a message that cannot be read was dropped")
	}
	q = cleanQueue(t, s, "q", cleanMeta)
	ds, bad := []*Delivery(nil), 0
	for {
		d, err := q.Receive(context.Background(), Wait(0))
		if errors.Is(err, ErrNoMessage) {
			break
		}
		if errors.Is(err, ErrCorrupt) {
			bad++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		ds = append(ds, d)
	}
	if len(ds) != 499 || bad != 1 {
		t.Errorf("%d messages and %d damaged", len(ds), bad)
	}
	if err := q.Purge(context.Background()); err != nil {
		t.Fatal(err)
	}
	cleanAll(t, s)
}

// TestCleanByItself waits for the cleaner, and lets sends wait for it.
func TestCleanByItself(t *testing.T) {
	dir := t.TempDir()
	var steps [3]atomic.Int64
	s := cleanOpen(t, dir, WithSlack(32<<10), WithSteps(func(name string) {
		steps[slices.Index([]string{"checkpointed", "dropped"}, name)+1].Add(1)
	}))
	q := cleanQueue(t, s, "q", cleanMeta)
	cleanSend(t, q, 0, 10)
	for i := range 200 {
		cleanSend(t, q, i*50, 50)
		cleanDelete(t, q, cleanTake(t, q, 50))
	}
	for begun := time.Now(); s.Stats().LogBytes > 64<<10; runtime.Gosched() {
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("log of %d bytes after %d checkpoints and %d drops", s.Stats().LogBytes, steps[1].Load(), steps[2].Load())
		}
	}
	cleanCheck(t, s, dir, true)
}

// TestCleanSnapshots: what tells of queues is no garbage. A log that holds little else is tidy, however long the lists of
// rewinds are: the cleaner would write them again and again.
func TestCleanSnapshots(t *testing.T) {
	ctx := context.Background()
	s := cleanOpen(t, t.TempDir(), WithSlack(8<<10))
	meta := cleanMeta
	meta.Rewind = 24 * time.Hour
	for _, name := range []string{"a", "b", "c"} {
		q := cleanQueue(t, s, name, meta)
		cleanSend(t, q, 0, 2)
		cleanDelete(t, q, cleanTake(t, q, 1))
		shelfEvents(t, q, maxEvents-10)
	}
	for range 200 { // so that the lists lie in segments of their own
		if _, err := cleanQueue(t, s, "a", meta).Send(ctx, Message{Body: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	for turn, more := 0, true; more; turn++ {
		if more, _ = s.keeper.cleanTurn(); turn == 100 {
			t.Fatalf("still cleaning a log of %d bytes, %d of them live, after %d turns", s.disk.Size().Live, s.live(), turn)
		}
	}
	if bytes := s.disk.Size().Live; bytes > 350_000 {
		t.Errorf("%d bytes left", bytes)
	}
}

// TestCleanCopiesOneSegment: only what lies in the segment that is cleaned is copied, not all of its blocks.
func TestCleanCopiesOneSegment(t *testing.T) {
	s := cleanOpen(t, t.TempDir())
	q := cleanQueue(t, s, "q", cleanMeta)
	cleanSend(t, q, 0, 300)
	if err := s.Clean(); err != nil { // the first messages lie behind the others now
		t.Fatal(err)
	}
	end, n := s.disk.Boundaries()[1], int64(0)
	q.hold()
	b := q.st.block(0)
	bring(t, q, b)
	for off := b.next(0); off >= 0; off = b.next(off + 1) {
		if q.st.cursor.get(&b.places, off).pos < end {
			n++
		}
	}
	q.mu.Unlock()
	_, before := s.commit.Counts()
	if err := s.Clean(); err != nil {
		t.Fatal(err)
	}
	if _, after := s.commit.Counts(); after-before < n || after-before > n+2 || s.disk.Start() < end { // 2: of the queue and of the ids
		t.Errorf("%d records for a segment with %d messages; the log begins at %d, the segment ended at %d", after-before, n, s.disk.Start(), end)
	}
}

// TestReclaimWithoutRoomForAnIndex: when there is no room for a checkpoint the log goes on giving segments back. The index is
// older than the log then, and is not used by the next Open.
func TestReclaimWithoutRoomForAnIndex(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := shelfStart(t, dir)
	h := &hooked{Index: s.keeper.shelf.index, hook: func(op string, before bool) error {
		if op == "Apply" && before {
			return fmt.Errorf("for the test: %w", store.ErrNoSpace)
		}
		return nil
	}}
	s.keeper.shelf.index = h
	at := store.Position(s.keeper.at.Load())
	for _, name := range []string{"orders", "idle", "doomed", "purged"} {
		if err := shelfQueue(t, s, name).Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	shelfSend(t, s, "orders", 1000)
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.keeper.checkpoint()
	s.keeper.reclaim()
	if start := s.disk.Start(); start <= at {
		t.Errorf("the log begins at %d, the checkpoint is at %d", start, at)
	}
	want := dump(t, s)
	s.keeper.shelf.index = h.Index
	image := t.TempDir()
	copyTree(t, dir, image)
	if shelfLook(t, "crashed", image, want) {
		t.Error("the index is used")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
