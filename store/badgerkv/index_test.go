package badgerkv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memkv"
	"github.com/spoolmq/spool/store/storetest"
)

func TestIndex(t *testing.T) {
	deep := filepath.Join(strings.Repeat("long name/", 25), "with spaces, ümläute and 100 % more")
	for _, c := range []struct {
		test, dir string
		opts      Options
	}{
		{"plain", "idx", Options{}},
		{"deep", deep, Options{}},
		{"small files", "idx", smallFiles()},
	} {
		t.Run(c.test, func(t *testing.T) {
			storetest.TestIndex(t, storetest.IndexHarness{
				Open: func(t testing.TB) (store.Index, func() store.Index) {
					return openIn(t, filepath.Join(t.TempDir(), c.dir), c.opts)
				},
				MaxKey: MaxKey, MaxValue: MaxValue,
			})
		})
	}
}

// openIn opens an index and returns how to close and open it again.
func openIn(t testing.TB, dir string, o Options) (store.Index, func() store.Index) {
	ix := mustOpenWith(t, dir, o)
	return ix, func() store.Index {
		must(t, ix.Close())
		ix = mustOpenWith(t, dir, o)
		return ix
	}
}

// TestLimitsOfMemkv: what memkv takes, badgerkv takes, and the other way round.
func TestLimitsOfMemkv(t *testing.T) {
	if MaxKey != memkv.MaxKey || MaxValue != memkv.MaxValue {
		t.Errorf("limits are %d and %d, memkv has %d and %d", MaxKey, MaxValue, memkv.MaxKey, memkv.MaxValue)
	}
}

func TestLimitErrorsNameValueAndLimit(t *testing.T) {
	ix := mustOpen(t, t.TempDir())
	defer func() { must(t, ix.Close()) }()
	err := ix.Apply([]store.Change{{Key: []byte("a"), Value: make([]byte, MaxValue+1)}})
	for _, want := range []string{fmt.Sprint(MaxValue + 1), fmt.Sprint(MaxValue)} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Apply = %v, want %s in it", err, want)
		}
	}
}

// TestCompactions writes and removes enough for several levels, and compares after opening again.
func TestCompactions(t *testing.T) {
	dir := t.TempDir()
	ix := mustOpen(t, dir)
	const keys, rounds = 2000, 6
	value := bytes.Repeat([]byte("0123456789abcdef"), 128)
	for round := range rounds {
		var batch []store.Change
		for i := range keys {
			c := store.Change{Key: fmt.Appendf(nil, "%06d", i*7919%keys)}
			if (i+round)%3 != 0 {
				c.Value = append(fmt.Appendf(nil, "%d ", round), value...)
			}
			batch = append(batch, c)
		}
		must(t, ix.Apply(batch))
		must(t, ix.Sync())
	}
	compare := func(ix *Index) {
		t.Helper()
		got, err := ix.Scan(nil, nil, keys+1)
		must(t, err)
		if want := keys - (keys+1)/3; len(got) < want-1 || len(got) > want+1 {
			t.Errorf("%d keys left, want about %d", len(got), want)
		}
		for _, e := range got {
			if !bytes.HasPrefix(e.Value, fmt.Appendf(nil, "%d ", rounds-1)) {
				t.Fatalf("%q = %.20q, want the value of round %d", e.Key, e.Value, rounds-1)
			}
		}
	}
	compare(ix)
	must(t, ix.Close())
	ix = mustOpen(t, dir)
	compare(ix)
	must(t, ix.Close())
}

// TestBatchOfLongKeys: the keys of a batch count for how much Badger takes at a time.
func TestBatchOfLongKeys(t *testing.T) {
	ix := mustOpen(t, t.TempDir())
	defer func() { must(t, ix.Close()) }()
	var add, remove []store.Change
	for i := range 40 {
		key := append(make([]byte, MaxKey-1), byte(i))
		add = append(add, store.Change{Key: key, Value: []byte{1}})
		remove = append(remove, store.Change{Key: key})
	}
	must(t, ix.Apply(add))
	if got, err := ix.Scan(nil, nil, 100); err != nil || len(got) != len(add) {
		t.Errorf("Scan = %d entries, %v, want %d", len(got), err, len(add))
	}
	must(t, ix.Apply(remove))
}

// TestNewestChangesCompactedAway: a compaction that drops the removed keys of the newest transaction does not make it look
// lost.
func TestNewestChangesCompactedAway(t *testing.T) {
	dir, crashed := t.TempDir(), t.TempDir()
	ix := mustOpen(t, dir)
	batch := largeBatch(12 << 20)
	must(t, ix.Apply(batch))
	must(t, ix.Close())
	ix = mustOpen(t, dir)
	must(t, ix.Apply([]store.Change{{Key: batch[5].Key}}))
	must(t, ix.Close())
	ix = mustOpen(t, dir)
	must(t, ix.db.Flatten(1))
	must(t, copyDir(dir, crashed))
	must(t, ix.Close())
	ix = mustOpen(t, crashed)
	got, err := ix.Scan(nil, nil, len(batch))
	if err != nil || len(got) != len(batch)-1 {
		t.Errorf("Scan = %d entries, %v, want %d", len(got), err, len(batch)-1)
	}
	must(t, ix.Close())
}

func TestClosed(t *testing.T) {
	ix := mustOpen(t, t.TempDir())
	must(t, ix.Close())
	_, get := ix.Get([]byte("a"))
	_, scan := ix.Scan(nil, nil, 1)
	for call, err := range map[string]error{
		"Apply": ix.Apply(nil), "Sync": ix.Sync(), "Get": get, "Scan": scan, "Close": ix.Close(),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s after Close = %v, want %v", call, err, store.ErrClosed)
		}
	}
}

// TestFailedStaysFailed: an error that Badger logs ends the index, and its text is the answer.
func TestFailedStaysFailed(t *testing.T) {
	ix := mustOpen(t, t.TempDir())
	must(t, ix.Apply([]store.Change{set("a", "1")}))
	ix.health.Errorf("while flushing: %s\n", "disk on fire")
	ix.health.Errorf("second")
	_, get := ix.Get([]byte("a"))
	_, scan := ix.Scan(nil, nil, 1)
	for call, err := range map[string]error{
		"Apply": ix.Apply([]store.Change{set("a", "2")}), "Sync": ix.Sync(), "Get": get, "Scan": scan, "Close": ix.Close(),
	} {
		if err == nil || !strings.Contains(err.Error(), "disk on fire") {
			t.Errorf("%s = %v, want the first error", call, err)
		}
	}
}

// TestFailedInSync: what Badger logs while a sync is under way fails it, and the seal does not tell of it.
func TestFailedInSync(t *testing.T) {
	dir := t.TempDir()
	ix := mustOpen(t, dir)
	must(t, ix.Apply([]store.Change{set("a", "1")}))
	ix.health.Errorf("a flush has failed")
	if err := ix.flush(ix.db.MaxVersion()); err == nil {
		t.Error("flush = nil, want what Badger has logged")
	}
	if sealed, _, err := readSeal(dir); err != nil || sealed != 0 {
		t.Errorf("the seal tells of version %d, %v, want 0", sealed, err)
	}
	if err := ix.Close(); err == nil {
		t.Error("Close = nil, want what Badger has logged")
	}
}

// TestLogger: Badger's levels arrive as such, information as debug output.
func TestLogger(t *testing.T) {
	var out bytes.Buffer
	h := health{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))}
	h.Infof("information")
	h.Debugf("detail")
	h.Warningf("warned of %d\n", 7)
	h.Errorf("failed")
	want := []string{`level=WARN msg=badger text="warned of 7"`, `level=ERROR msg=badger text=failed`}
	for _, w := range want {
		if !strings.Contains(out.String(), w) {
			t.Errorf("log is %q, want %q in it", out.String(), w)
		}
	}
	if strings.Contains(out.String(), "information") || h.log.Enabled(context.Background(), slog.LevelDebug) {
		t.Errorf("log is %q, want no information in it", out.String())
	}
}

func TestModesAndSize(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no file modes and no cheap allocated sizes")
	}
	dir := filepath.Join(t.TempDir(), "idx")
	must(t, os.Mkdir(dir, 0o755))
	ix := mustOpen(t, dir)
	defer func() { must(t, ix.Close()) }()
	const emptyLimit = 1 << 20
	if got := ix.Size(); got <= 0 || got > emptyLimit {
		t.Errorf("Size() of an empty index = %d, want 1 to %d", got, emptyLimit)
	}
	must(t, history{valueSize: 100_000}.write(ix, 0, 40)) // 4 MB: two memtables
	must(t, ix.Sync())
	if got := ix.Size(); got < 4_000_000 || got > 16_000_000 {
		t.Errorf("Size() with 4 MB in it = %d", got)
	}
	fi, err := os.Stat(dir)
	must(t, err)
	if got := fi.Mode().Perm(); got != 0o700 {
		t.Errorf("directory has mode %o, want 700", got)
	}
	names, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range names {
		fi, err := e.Info()
		if err == nil && fi.Mode().Perm() != 0o600 && filepath.Ext(e.Name()) != ".sst" {
			t.Errorf("%s has mode %o, want 600", e.Name(), fi.Mode().Perm())
		}
	}
}
