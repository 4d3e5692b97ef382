package badgerkv

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/spoolmq/spool/store"
)

// A frozen index has what the index had when it was closed, and nothing of it is written.
func TestFrozen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "index")
	rng := rand.New(rand.NewPCG(3, 4))
	want := map[string]string{}
	for range 3 {
		ix, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			var batch []store.Change
			for range 40 {
				c := store.Change{Key: fmt.Appendf(nil, "key %d", rng.IntN(500))}
				if delete(want, string(c.Key)); rng.IntN(4) > 0 {
					c.Value = bytes.Repeat([]byte{byte(rng.IntN(255) + 1)}, 1+rng.IntN(900))
					want[string(c.Key)] = string(c.Value)
				}
				batch = append(batch, c)
			}
			if err := errors.Join(ix.Apply(batch), ix.Sync()); err != nil {
				t.Fatal(err)
			}
		}
		if err := ix.Close(); err != nil {
			t.Fatal(err)
		}
	}
	before := frozenFiles(t, dir)
	f, err := Freeze(dir)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := f.Scan(nil, nil, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		got[string(e.Key)] = string(e.Value)
	}
	if !maps.Equal(got, want) {
		t.Errorf("%d entries, want %d, or others", len(got), len(want))
	}
	for i := range 500 {
		k := fmt.Sprintf("key %d", i)
		v, err := f.Get([]byte(k))
		if string(v) != want[k] || errors.Is(err, store.ErrNotFound) != (want[k] == "") {
			t.Errorf("Get(%q) = %d bytes, %v, want %d bytes", k, len(v), err, len(want[k]))
		}
	}
	if some, err := f.Scan([]byte("key 2"), []byte("key 3"), 7); err != nil || len(some) != 7 || some[0].Key[4] != '2' {
		t.Errorf("Scan of a part = %d entries, %v", len(some), err)
	}
	if after := frozenFiles(t, dir); !maps.Equal(before, after) {
		t.Error("a file has changed")
	}
}

// What is damaged is told.
func TestFrozenDamaged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "index")
	ix, err := Open(dir, Options{})
	if err == nil {
		err = errors.Join(ix.Apply([]store.Change{{Key: []byte("a"), Value: bytes.Repeat([]byte("b"), 1000)}}), ix.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	values, err := filepath.Glob(filepath.Join(dir, "*"+valueExt))
	if err != nil || len(values) != 1 {
		t.Fatal(values, err)
	}
	b, err := os.ReadFile(values[0])
	if err != nil {
		t.Fatal(err)
	}
	b[100] ^= 1
	if err := os.WriteFile(values[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Freeze(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get([]byte("a")); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Get of a damaged value = %v", err)
	}
	if err := os.Remove(filepath.Join(dir, sealName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Freeze(dir); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Freeze without a seal = %v", err)
	}
}

// Of a transaction that a crash has torn nothing counts, as for Open.
func TestFrozenTorn(t *testing.T) {
	dir, killed := t.TempDir(), t.TempDir()
	ix := mustOpen(t, dir)
	must(t, ix.Apply([]store.Change{set("a", "whole")}))
	must(t, ix.Apply([]store.Change{set("a", "torn"), set("b", "torn")}))
	must(t, copyDir(dir, killed))
	must(t, ix.Close())
	s, err := takeSurvey(killed)
	must(t, err)
	log := s.logs[len(s.logs)-1]
	lr, file, err := openLog(log, nil)
	must(t, err)
	end := int64(0) // where the last transaction is completed
	lr.each = func(e entry) {
		if e.meta&logEnd != 0 {
			end = lr.at
		}
	}
	must(t, errors.Join(lr.readAll(file, log.size), file.Close(), os.Truncate(log.path, end)))
	f, err := Freeze(killed)
	must(t, err)
	if got, err := f.Scan(nil, nil, 10); err != nil || len(got) != 1 || string(got[0].Value) != "whole" {
		t.Errorf("Scan = %q, %v, want what the whole transaction has", got, err)
	}
}

func frozenFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range names {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}
