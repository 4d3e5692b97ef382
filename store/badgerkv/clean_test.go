package badgerkv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/spoolmq/spool/store"
)

// TestCleaning: however often values are replaced, the files take little more than what is in use, and nothing is lost.
func TestCleaning(t *testing.T) {
	const batches, perSync, valueSize = 6000, 50, 8000
	dir, o := t.TempDir(), smallFiles()
	h := rewrites{100, valueSize}
	ix := mustOpenWith(t, dir, o)
	defer func() { must(t, ix.Close()) }()
	for i := 0; i < batches; i += perSync {
		h.write(t, ix, i, i+perSync)
		must(t, ix.Sync())
		if i%(batches/10) == 0 {
			must(t, ix.Close())
			ix = mustOpenWith(t, dir, o)
		}
		if err := checkExtents(ix); err != nil {
			t.Fatalf("after %d batches: %v", i+perSync, err)
		}
		var live int64
		for _, f := range ix.values.files {
			live += f.live
		}
		size, files := valueBytes(t, dir)
		bound := live*3/2 + o.slack + 2*o.valueFile + perSync*valueSize
		if size > bound || int64(files) > 2*bound/o.valueFile+2 {
			t.Fatalf("after %d batches: %d bytes in %d files, %d in use, want at most %d", i+perSync, size, files, live, bound)
		}
	}
	if n, err := h.prefix(ix); err != nil || n != batches {
		t.Errorf("%d batches, %v, want %d", n, err, batches)
	}
}

// TestCleaningAfterRemovals: what is removed gives space back, though nothing is written any more.
func TestCleaningAfterRemovals(t *testing.T) {
	dir, o := t.TempDir(), smallFiles()
	ix := mustOpenWith(t, dir, o)
	defer func() { must(t, ix.Close()) }()
	const keys, size, stays = 200, 4000, 16
	key := func(i int) []byte { return fmt.Appendf(nil, "key %d", i) }
	for i := range keys {
		must(t, ix.Apply([]store.Change{{Key: key(i), Value: make([]byte, size)}}))
	}
	for i := range keys {
		if i%stays > 0 {
			must(t, ix.Apply([]store.Change{{Key: key(i)}}))
		}
	}
	must(t, ix.Sync())
	bound := int64(keys/stays+1)*size*3/2 + o.slack + 2*o.valueFile
	if n, files := valueBytes(t, dir); n > bound {
		t.Errorf("%d bytes in %d files, want at most %d", n, files, bound)
	}
}

// TestCleaningLongKeys: a record whose key is longer than what is read of it at first is moved like any other.
func TestCleaningLongKeys(t *testing.T) {
	ix := mustOpenWith(t, t.TempDir(), Options{valueFile: 32 << 10, slack: 1})
	defer func() { must(t, ix.Close()) }()
	want := map[string]byte{}
	for pass := range byte(4) {
		for i := range 60 {
			if i%4 == 0 && pass > 0 {
				continue // these stay as they were
			}
			key := fmt.Sprintf("%0*d", 10+i*7, i)
			want[key] = pass + 1
			must(t, ix.Apply([]store.Change{{Key: []byte(key), Value: bytes.Repeat([]byte{pass + 1}, 4000)}}))
		}
		must(t, ix.Sync())
	}
	for key, b := range want {
		if got, err := ix.Get([]byte(key)); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{b}, 4000)) {
			t.Errorf("the value of a key of %d bytes has %d bytes, %v, or is another", len(key), len(got), err)
		}
	}
	must(t, checkExtents(ix))
}

// TestReadsBesideCleaning: a reader sees every key that stays, while values are replaced, and others are moved because of
// that, and their files are removed.
func TestReadsBesideCleaning(t *testing.T) {
	const keys, readers, rounds, size = 40, 2, 200, 1000
	ix := mustOpenWith(t, t.TempDir(), Options{valueFile: 4 << 10, slack: 1})
	defer func() { must(t, ix.Close()) }()
	key := func(i int) []byte { return fmt.Appendf(nil, "stays %02d", i) }
	write := func(i int) {
		must(t, ix.Apply([]store.Change{{Key: key(i), Value: bytes.Repeat([]byte{byte(i)}, size)}}))
	}
	var before [keys]pointer
	for i := range keys {
		write(i)
		before[i], _ = ix.find(storedKey(key(i)))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for r := range readers {
		wg.Go(func() {
			for i := r; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				got, err := ix.Get(key(i % keys))
				if err != nil || len(got) != size || got[0] != byte(i%keys) {
					t.Errorf("Get(%q) = %d bytes, %v", key(i%keys), len(got), err)
				}
				page, err := ix.Scan([]byte("stays"), []byte("stayt"), keys)
				if err != nil || len(page) != keys {
					t.Errorf("Scan = %d entries, %v, want %d", len(page), err, keys)
				}
			}
		})
	}
	for i := range rounds {
		write(i * 2 % keys) // the even ones
		must(t, ix.Sync())
	}
	close(stop)
	wg.Wait()
	moved := 0
	for i := 1; i < keys; i += 2 {
		if p, err := ix.find(storedKey(key(i))); err == nil && p != before[i] {
			moved++
		}
	}
	if moved < keys/10 {
		t.Errorf("%d of %d values that were not written again have been moved", moved, keys/2)
	}
}

// TestFullDiskWhileCleaning: what could not be moved stays where it is until there is space.
func TestFullDiskWhileCleaning(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("there is no /dev/full")
	}
	defer full.Close()
	ix := mustOpenWith(t, t.TempDir(), smallFiles())
	defer func() { must(t, ix.Close()) }()
	const n, size = 100, 2000
	var removal []store.Change
	for i := range n {
		key := fmt.Appendf(nil, "%03d", i)
		must(t, ix.Apply([]store.Change{{Key: key, Value: make([]byte, size)}}))
		if i%4 != 0 {
			removal = append(removal, store.Change{Key: key})
		}
	}
	active := ix.values.active
	var file *os.File
	file, active.f = active.f, full
	if err := ix.Apply(removal); err != nil {
		t.Fatalf("Apply of removals, after which cleaning has no space: %v", err)
	}
	active.f = file
	for i := range n {
		must(t, ix.Apply([]store.Change{{Key: []byte("changes"), Value: make([]byte, size+i)}}))
	}
	if got, err := ix.Scan(nil, nil, n); err != nil || len(got) != n/4+1 {
		t.Errorf("Scan = %d entries, %v, want %d", len(got), err, n/4+1)
	}
	must(t, checkExtents(ix))
	if f := ix.values.files[1]; f != nil && f.live > 0 {
		t.Errorf("%d bytes of the first file are in use, want it cleaned", f.live)
	}
}

// TestCleaningWithoutSpace: what was applied is applied when there is no space to clean.
func TestCleaningWithoutSpace(t *testing.T) {
	o := smallFiles()
	calls := 0
	o.FreeSpace = func(string) (int64, error) {
		if calls++; calls%2 == 0 { // now and then a transaction of the cleaner's
			return MinFree - 1, nil
		}
		return MinFree, nil
	}
	dir := t.TempDir()
	ix := mustOpenWith(t, dir, o)
	defer func() { must(t, ix.Close()) }()
	h := rewrites{20, 8000}
	const batches = 1000
	n := 0
	for n < batches {
		err := ix.Apply(h.batch(n))
		if err == nil {
			n++
		} else if !errors.Is(err, store.ErrNoSpace) {
			t.Fatal(err)
		}
		must(t, checkExtents(ix))
	}
	if got, err := h.prefix(ix); err != nil || got != batches {
		t.Errorf("%d batches, %v, want %d", got, err, batches)
	}
}
