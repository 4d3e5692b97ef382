package spool

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	repairCount = flag.Int("spool.repair.count", 0, "damages of TestRepairDamage (0: 240)")
	repairSeed  = flag.Uint64("spool.repair.seed", 0, "seed of TestRepairDamage; 0 draws one")
	repairOnly  = flag.Int("spool.repair.only", -1, "make only this damage of the seed")
)

// A repairOriginal is a spool on disk with what is in it.
type repairOriginal struct {
	name     string
	dir      string
	log      map[string][]byte // files of the log, by path below dir
	messages map[string][]byte // bodies of messages that are not deleted, by queue id and sequence
	lines    []string          // all that the spool tells
	receipts []string          // of leases in queue "plain"
}

// repairBuild makes a spool with messages in every state, in three lives, with bodies that occur nowhere else. The
// options are those of its log. A spool that is not closed is left as a kill would leave it.
func repairBuild(t *testing.T, name string, closed, index bool, opts ...Option) *repairOriginal {
	t.Helper()
	o := &repairOriginal{name: name, dir: filepath.Join(t.TempDir(), "spool")}
	work := filepath.Join(t.TempDir(), "spool")
	opts = append([]Option{WithoutPaging, WithDurability(Written), WithSizes(24<<10, 1<<40)}, opts...)
	rng := rand.New(rand.NewPCG(1, 2))
	ctx := context.Background()
	for life := range 3 {
		s, err := Open(work, opts...)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"dead", "orders", "plain", "doomed"} {
			m := Meta{Rewind: 24 * time.Hour, VisibilityTimeout: time.Hour, Delay: 0}
			if name == "orders" {
				m.DeadLetter = &DeadLetter{Queue: "dead", MaxReceives: 2}
			}
			if _, err := s.OpenQueue(ctx, name, m); err != nil {
				t.Fatal(err)
			}
		}
		repairFill(t, s, life, rng, &o.receipts)
		if life == 1 {
			for range 8 {
				if err := s.Clean(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if life == 2 && !closed {
			quiesce(t, s)
			if err := s.Sync(ctx); err != nil {
				t.Fatal(err)
			}
			s.keeper.work.Lock() // everything is known to be durable: no end is an honest one
			err := s.disk.Mark(s.now(), false)
			s.keeper.work.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(o.dir, os.DirFS(work)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if closed {
		if err := os.CopyFS(o.dir, os.DirFS(work)); err != nil {
			t.Fatal(err)
		}
	}
	if !index {
		if err := errors.Join(os.RemoveAll(filepath.Join(o.dir, "index")), os.RemoveAll(filepath.Join(o.dir, "index.ok"))); err != nil {
			t.Fatal(err)
		}
	}
	o.log = repairFiles(t, filepath.Join(o.dir, "log"))
	look := filepath.Join(t.TempDir(), "look")
	if err := os.CopyFS(look, os.DirFS(o.dir)); err != nil {
		t.Fatal(err)
	}
	o.lines, o.messages = repairLook(t, look)
	return o
}

func repairFill(t *testing.T, s *Spool, life int, rng *rand.Rand, receipts *[]string) {
	t.Helper()
	ctx := context.Background()
	n := 0
	body := func(size int) Message {
		n++
		b := fmt.Appendf(nil, "<life %d message %d> ", life, n)
		for len(b) < size {
			b = append(b, byte(rng.Uint32()))
		}
		return Message{Body: b, Attributes: map[string]string{"life": fmt.Sprint(life)}}
	}
	for _, name := range []string{"orders", "plain", "doomed"} {
		q := shelfQueue(t, s, name)
		for i := range 30 {
			m := body(40 + rng.IntN(900))
			if i%10 == 3 {
				m.Delay = 5 * time.Hour
			}
			if i == 7 {
				m.Body = body(9000).Body
			}
			if _, err := q.Send(ctx, m); err != nil {
				t.Fatal(err)
			}
		}
		batch := make([]Message, 25)
		for i := range batch {
			batch[i] = body(40 + rng.IntN(200))
		}
		if _, err := q.SendBatch(ctx, batch); err != nil {
			t.Fatal(err)
		}
		got, err := q.ReceiveBatch(ctx, 30)
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range got {
			switch i % 5 {
			case 0, 1:
				err = d.Delete(ctx)
			case 2:
				err = d.Release(ctx, 0)
			case 3:
				err = d.Extend(ctx, 3*time.Hour)
			case 4:
				if name == "plain" {
					*receipts = append(*receipts, d.Receipt)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := q.Rewind(ctx, got[len(got)/2].EnqueuedAt); err != nil {
			t.Fatal(err)
		}
	}
	q := shelfQueue(t, s, "orders")
	if err := q.SetMeta(ctx, func(m *Meta) { m.Rewind -= time.Hour }); err != nil {
		t.Fatal(err)
	}
	if life == 1 {
		if err := s.DeleteQueue(ctx, "doomed"); err != nil {
			t.Fatal(err)
		}
	}
}

// repairFiles reads every file below a directory.
func repairFiles(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err == nil {
			files[name], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func repairSum(t testing.TB, dir string) string {
	t.Helper()
	h := sha256.New()
	files := repairFiles(t, dir)
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(h, "%s %d\n", name, len(files[name]))
		h.Write(files[name])
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// repairLook opens a spool and returns all it tells, and the bodies of all messages in it by queue id and sequence. It
// receives what can be received, and closes it.
func repairLook(t testing.TB, dir string) (lines []string, bodies map[string][]byte) {
	t.Helper()
	s, err := Open(dir, WithoutPaging, WithDurability(Written))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	takeKeeper(s)
	checkAll(t, s)
	lines = dump(t, s)
	bodies = map[string][]byte{}
	for _, q := range s.Queues() {
		q.hold()
		q.st.each(func(*summary) bool { return false }, func(b *block) bool {
			now := settled(q.st, b)
			for off, p := range placesOf(b) {
				if now.kind(off) == gone {
					continue
				}
				m, err := q.open(p.pos, b.first()+uint64(off), p.size)
				if err != nil {
					t.Errorf("%s, message at %d: %v", q.name, p.pos, err)
					continue
				}
				bodies[fmt.Sprintf("%d/%d", q.id, b.first()+uint64(off))] = bytes.Clone(m.body)
			}
			return true
		})
		q.mu.Unlock()
	}
	for _, q := range s.Queues() {
		for err := error(nil); err == nil; {
			if _, err = q.ReceiveBatch(context.Background(), MaxBatch, Wait(0)); err != nil && !errors.Is(err, ErrNoMessage) {
				t.Errorf("%s: draining: %v", q.Name(), err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	return lines, bodies
}

// whole returns the bodies of which every trace in the log that the original had is still there, with 80 bytes before
// it: the head of its record.
func (o *repairOriginal) whole(now map[string][]byte) (keys []string) {
	for key, body := range o.messages {
		ok := true
		for name, was := range o.log {
			for at := 0; ok; at += len(body) {
				i := bytes.Index(was[at:], body)
				if i < 0 {
					break
				}
				at += i
				trace := was[max(0, at-80) : at+len(body)]
				ok = bytes.Contains(now[name], trace)
			}
		}
		if ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// repairHurt damages one file of a copy and says what it did.
func repairHurt(t *testing.T, rng *rand.Rand, dir string) (file, what string) {
	files := repairFiles(t, dir)
	var names []string
	for name := range files {
		if name != "LOCK" && (strings.HasPrefix(name, "log") || rng.IntN(3) > 0) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	file = names[rng.IntN(len(names))]
	data := files[file]
	path := filepath.Join(dir, file)
	if len(data) == 0 || rng.IntN(12) == 0 {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return file, "deleted"
	}
	at := rng.IntN(len(data))
	for try := 0; data[at] == 0 && try < 50; try++ {
		at = rng.IntN(len(data))
	}
	block := []int{64, 512, 4096, 65536}[rng.IntN(4)]
	n := min(block, len(data)-at)
	switch rng.IntN(7) {
	case 0, 1:
		data[at] ^= 1 << rng.IntN(8)
		what = fmt.Sprintf("a bit of byte %d flipped", at)
	case 2:
		for i := range min(n, 64) {
			data[at+i] = byte(rng.Uint32())
		}
		what = fmt.Sprintf("%d bytes at %d made random", min(n, 64), at)
	case 3:
		at -= at % block
		n = min(block, len(data)-at)
		clear(data[at : at+n])
		what = fmt.Sprintf("%d bytes at %d zeroed", n, at)
	case 4:
		at -= at % block
		n = min(block, len(data)-at)
		data = slices.Concat(data[:at], data[at+n:])
		what = fmt.Sprintf("%d bytes at %d cut out", n, at)
	case 5:
		data = data[:at]
		what = fmt.Sprintf("cut at %d", at)
	case 6:
		n = min(4096, len(data))
		clear(data[:n])
		what = "first page zeroed"
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, what
}

// A spool is damaged somewhere. Verify finds it, unless it makes no difference. Repair brings everything through that is
// whole: judged by the bytes of the files, not by what the library reads in them.
func TestRepairDamage(t *testing.T) {
	count := *repairCount
	if count == 0 {
		count = 240
		if testing.Short() {
			count = 40
		}
	}
	seed := *repairSeed
	if seed == 0 {
		seed = rand.Uint64() >> 16
	}
	t.Logf("-spool.repair.seed=%d", seed)
	originals := []*repairOriginal{
		repairBuild(t, "closed", true, false),
		repairBuild(t, "killed", false, false),
		repairBuild(t, "large segments", true, false, WithSizes(0, 1<<40)),
		repairBuild(t, "with index", true, true),
	}
	tally := map[string]int{}
	for i := range count {
		if *repairOnly >= 0 && i != *repairOnly {
			continue
		}
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		pick := rng.IntN(10)
		o := originals[min(pick, 9)/3]
		dir := filepath.Join(repairTemp(t), "spool")
		if err := os.CopyFS(dir, os.DirFS(o.dir)); err != nil {
			t.Fatal(err)
		}
		file, what := repairHurt(t, rng, dir)
		how := fmt.Sprintf("damage %d of spool %q, %s: %s", i, o.name, file, what)
		ok := t.Run("", func(t *testing.T) { tally[repairJudge(t, o, dir, file)]++ })
		if !ok {
			t.Logf("^ %s", how)
		}
	}
	t.Logf("%v", tally)
}

// repairTemp is a directory whose fsync costs nothing, if there is one.
func repairTemp(t *testing.T) string {
	if info, err := os.Stat("/dev/shm"); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "spool-repair-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func repairJudge(t *testing.T, o *repairOriginal, dir, file string) (verdict string) {
	ctx := context.Background()
	before := repairSum(t, dir)
	found, err := Verify(ctx, dir)
	if err != nil {
		t.Fatalf("Verify: %v", err)
	}
	to := filepath.Join(filepath.Dir(dir), "repaired")
	report, err := Repair(ctx, dir, to)
	if err != nil {
		t.Fatalf("Repair: %v", err)
	}
	if after := repairSum(t, dir); after != before {
		t.Error("the original has changed")
	}
	lines, got := repairLook(t, to)
	missing := 0
	for _, key := range o.whole(repairFiles(t, filepath.Join(dir, "log"))) {
		if !bytes.Equal(got[key], o.messages[key]) {
			if missing++; missing == 1 {
				t.Errorf("message %s is whole and was not recovered: %+v", key, report)
			}
		}
	}
	if missing > 0 {
		t.Errorf("%d messages are whole and were not recovered", missing)
	}
	if !strings.HasPrefix(file, "log") {
		sameDump(t, "log undamaged", o.lines, lines)
	}
	if again, err := Verify(ctx, to); err != nil || !again.OK() {
		t.Errorf("Verify of what was repaired: %+v, %v", again, err)
	}
	if !found.OK() {
		return "found"
	}
	copied := filepath.Join(filepath.Dir(dir), "copied")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	lines, _ = repairLook(t, copied)
	sameDump(t, "Verify found nothing", o.lines, lines)
	return "no difference"
}
