package badgerkv

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/spoolmq/spool/store"
)

// smallFiles has value files that are full after a few records and cleaned at once.
func smallFiles() Options { return Options{valueFile: 64 << 10, slack: 32 << 10} }

func mustOpenWith(t testing.TB, dir string, o Options) *Index {
	t.Helper()
	ix, err := Open(dir, o)
	must(t, err)
	return ix
}

// rewrites is a history in which keys get new values again and again, some are removed, and one in ten stays, so that
// nearly every value file holds something that is in use.
type rewrites struct{ keys, valueSize int }

func (h rewrites) value(i int) []byte {
	b := bytes.Repeat([]byte{byte(i)}, 8+i*7919%h.valueSize)
	binary.BigEndian.PutUint64(b, uint64(i))
	return b
}

func (h rewrites) batch(i int) []store.Change {
	if i%10 == 0 {
		return []store.Change{{Key: fmt.Appendf(nil, "stays %06d", i), Value: h.value(i)}, set("last", fmt.Sprint(i))}
	}
	c := store.Change{Key: fmt.Appendf(nil, "changes %06d", i*31%h.keys)}
	if i%7 != 0 {
		c.Value = h.value(i)
	}
	return []store.Change{c, set("last", fmt.Sprint(i))}
}

func (h rewrites) write(t testing.TB, ix *Index, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		must(t, ix.Apply(h.batch(i)))
	}
}

// state is the content after n batches.
func (h rewrites) state(n int) map[string][]byte {
	m := map[string][]byte{}
	for i := range n {
		for _, c := range h.batch(i) {
			if m[string(c.Key)] = c.Value; c.Value == nil {
				delete(m, string(c.Key))
			}
		}
	}
	return m
}

// prefix returns of how many batches the content of ix is, or an error when it is not that of a prefix.
func (h rewrites) prefix(ix *Index) (int, error) {
	n := 0
	switch last, err := ix.Get([]byte("last")); {
	case err == nil:
		if _, err := fmt.Sscan(string(last), &n); err != nil {
			return 0, err
		}
		n++
	case !errors.Is(err, store.ErrNotFound):
		return 0, err
	}
	want := h.state(n)
	got, err := ix.Scan(nil, nil, len(want)+1)
	if err != nil || len(got) != len(want) {
		return 0, fmt.Errorf("%d batches: %d entries, %w, want %d", n, len(got), err, len(want))
	}
	for _, e := range got {
		again, err := ix.Get(e.Key)
		if v := want[string(e.Key)]; err != nil || !bytes.Equal(e.Value, v) || !bytes.Equal(again, e.Value) {
			return 0, fmt.Errorf("%d batches: %q has %d bytes, Get %d, %w, want %d", n, e.Key, len(e.Value), len(again), err, len(v))
		}
	}
	return n, checkExtents(ix)
}

// checkExtents counts what is in use in each value file, and compares with what the index says.
func checkExtents(ix *Index) error {
	live := map[uint32]int64{}
	err := ix.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte(userPrefix)})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if it.Item().UserMeta() == metaPointer {
				p, err := pointerOf(it.Item())
				if err != nil {
					return err
				}
				live[p.file] += int64(p.size)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	stored, err := readExtents(ix.db)
	if err != nil {
		return err
	}
	for n, f := range ix.values.files {
		if f.live != live[n] || (f.end > valueHeaderSize && stored[n] != f.extent) || f.tail != f.end {
			return fmt.Errorf("file %d: %+v, tail %d, %+v in Badger, %d bytes in use", n, f.extent, f.tail, stored[n], live[n])
		}
		delete(live, n)
	}
	if len(live) > 0 {
		return fmt.Errorf("pointers into files that are not there: %v", live)
	}
	return nil
}

// valueBytes is what the value files take.
func valueBytes(t testing.TB, dir string) (size int64, files int) {
	t.Helper()
	s, err := takeSurvey(dir)
	must(t, err)
	for _, f := range s.values {
		size += f.size
	}
	return size, len(s.values)
}

// TestRemoved: when everything is removed, so are the files, and what Badger knows of them.
func TestRemoved(t *testing.T) {
	const n = 3 * txnGone
	dir := t.TempDir()
	ix := mustOpenWith(t, dir, Options{valueFile: 1000})
	defer func() { must(t, ix.Close()) }()
	var removal []store.Change
	for i := range n {
		key := fmt.Appendf(nil, "%04d", i)
		must(t, ix.Apply([]store.Change{{Key: key, Value: make([]byte, 1000)}}))
		removal = append(removal, store.Change{Key: key})
	}
	must(t, ix.Apply(removal))
	if _, files := valueBytes(t, dir); files != n {
		t.Errorf("%d value files before Sync, want %d: a crash needs them", files, n)
	}
	must(t, ix.Sync())
	if _, files := valueBytes(t, dir); files != 1 {
		t.Errorf("%d value files, want the newest only", files)
	}
	must(t, ix.Apply([]store.Change{set("a", "1")}))
	if extents, err := readExtents(ix.db); err != nil || len(extents) > n-txnGone {
		t.Errorf("%d extents, %v after a transaction, want %d at most", len(extents), err, n-txnGone)
	}
	must(t, ix.Close()) // with extents of files that are gone
	ix = mustOpenWith(t, dir, Options{valueFile: 1000})
	for range n/txnGone + 1 {
		must(t, ix.Apply([]store.Change{set("a", "1")}))
	}
	if extents, err := readExtents(ix.db); err != nil || len(extents) > 1 {
		t.Errorf("%d extents, %v, want one at most", len(extents), err)
	}
}

// damageValue flips a bit in the value of a key.
func damageValue(t *testing.T, ix *Index, key string) {
	t.Helper()
	p, err := ix.find(storedKey([]byte(key)))
	must(t, err)
	f := ix.values.files[p.file].f
	b := []byte{0}
	at := int64(p.at + p.size/2)
	_, err = f.ReadAt(b, at)
	must(t, err)
	b[0] ^= 4
	_, err = f.WriteAt(b, at)
	must(t, err)
}

// TestDamagedValue: a value that goes bad while the index is open is an error of everything that reads it, and the index
// is failed.
func TestDamagedValue(t *testing.T) {
	for what, read := range map[string]func(ix *Index) error{
		"Get":  func(ix *Index) error { _, err := ix.Get([]byte("b")); return err },
		"Scan": func(ix *Index) error { _, err := ix.Scan(nil, nil, 10); return err },
		"cleaning": func(ix *Index) (err error) {
			for i := 0; i < 100 && err == nil; i++ {
				err = ix.Apply([]store.Change{{Key: []byte("changes"), Value: make([]byte, 10_000)}})
			}
			return err
		},
	} {
		ix := mustOpenWith(t, t.TempDir(), smallFiles())
		for _, key := range []string{"a", "b", "c"} {
			must(t, ix.Apply([]store.Change{{Key: []byte(key), Value: make([]byte, 1000)}}))
		}
		damageValue(t, ix, "b")
		if _, err := ix.Get([]byte("a")); err != nil {
			t.Errorf("%s: Get of an intact value: %v", what, err)
		}
		if err := read(ix); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s = %v, want %v", what, err, store.ErrCorrupt)
		}
		if err := ix.Apply([]store.Change{set("x", "y")}); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("Apply after that = %v, want %v", err, store.ErrCorrupt)
		}
		if err := ix.Close(); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("Close after that = %v, want %v", err, store.ErrCorrupt)
		}
	}
}

// TestAnotherRecord: a record that verifies is not enough, it must be the one that was written last.
func TestAnotherRecord(t *testing.T) {
	for what, record := range map[string]struct{ key, value string }{
		"an older value": {"ka", strings.Repeat("0", 1000)},
		"another key":    {"kb", strings.Repeat("1", 1000)},
	} {
		dir := t.TempDir()
		ix := mustOpen(t, dir)
		must(t, ix.Apply([]store.Change{set("a", strings.Repeat("1", 1000))}))
		must(t, ix.Close())
		b, _ := appendRecord(encodeValueHeader(1), []byte(record.key), []byte(record.value))
		must(t, os.WriteFile(filepath.Join(dir, valueName(1)), b, 0o600))
		ix = mustOpen(t, dir)
		if got, err := ix.Get([]byte("a")); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: Get = %.10q, %v, want %v", what, got, err, store.ErrCorrupt)
		}
		if err := ix.Close(); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: Close = %v, want %v", what, err, store.ErrCorrupt)
		}
	}
}

// TestReopenedFile: an index goes on in its newest value file.
func TestReopenedFile(t *testing.T) {
	dir := t.TempDir()
	for i := range 5 {
		ix := mustOpen(t, dir)
		must(t, ix.Apply([]store.Change{{Key: []byte{byte(i)}, Value: make([]byte, 1000)}}))
		must(t, ix.Close())
	}
	size, files := valueBytes(t, dir)
	if want := valueHeaderSize + 5*recordSize([]byte("k0"), make([]byte, 1000)); files != 1 || size != want {
		t.Errorf("%d bytes in %d value files, want %d in one", size, files, want)
	}
}

// TestDeadFile: a file of which nothing is in use when an index is opened is not looked at, so nothing is written to it.
func TestDeadFile(t *testing.T) {
	dir := t.TempDir()
	value := bytes.Repeat([]byte("v"), 1000)
	ix := mustOpen(t, dir)
	must(t, ix.Apply([]store.Change{{Key: []byte("a"), Value: value}}))
	must(t, ix.Apply([]store.Change{{Key: []byte("a")}}))
	must(t, ix.Close())
	must(t, os.WriteFile(filepath.Join(dir, valueName(1)), make([]byte, 2000), 0o600))
	ix = mustOpen(t, dir)
	must(t, ix.Apply([]store.Change{{Key: []byte("b"), Value: value}}))
	must(t, ix.Close())
	ix = mustOpen(t, dir)
	defer func() { must(t, ix.Close()) }()
	if got, err := ix.Get([]byte("b")); err != nil || !bytes.Equal(got, value) {
		t.Errorf("Get(b) = %d bytes, %v, want %d", len(got), err, len(value))
	}
}

// TestLargeTransactions: neither large values nor many files that were removed make a transaction larger than it may be.
func TestLargeTransactions(t *testing.T) {
	ix := mustOpen(t, t.TempDir())
	defer func() { must(t, ix.Close()) }()
	var batch []store.Change
	for i := range 40 {
		batch = append(batch, store.Change{Key: fmt.Appendf(nil, "key %d", i), Value: make([]byte, MaxValue)})
	}
	must(t, ix.Apply(batch))
	if n := cap(ix.writer.records); n > 2*(txnRecords+longestRecord) {
		t.Errorf("%d bytes of records were gathered, want some %d", n, txnRecords+longestRecord)
	}
	for i := range uint32(10_000) {
		ix.values.gone = append(ix.values.gone, 1_000_000+i)
	}
	must(t, ix.Apply([]store.Change{set("a", "1")}))
	must(t, ix.Apply([]store.Change{set("a", "2")}))
	if n := len(ix.values.gone); n != 10_000-2*txnGone {
		t.Errorf("%d files are still to be forgotten, want %d", n, 10_000-2*txnGone)
	}
}

// TestValueFileGone: pointers that lead nowhere, which an index that is open should never have.
func TestValueFileGone(t *testing.T) {
	ix := mustOpen(t, t.TempDir())
	must(t, ix.Apply([]store.Change{{Key: []byte("a"), Value: make([]byte, 1000)}}))
	must(t, ix.values.close())
	clear(ix.values.files)
	if _, err := ix.Get([]byte("a")); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Get = %v, want %v", err, store.ErrCorrupt)
	}
	if err := ix.Close(); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Close = %v, want %v", err, store.ErrCorrupt)
	}
}

// TestSwappedFiles: each value file is that of its number.
func TestSwappedFiles(t *testing.T) {
	dir := t.TempDir()
	ix := mustOpenWith(t, dir, smallFiles())
	must(t, ix.Apply(largeBatch(1<<20)))
	must(t, ix.Close())
	one, two := filepath.Join(dir, valueName(1)), filepath.Join(dir, valueName(2))
	must(t, os.Rename(one, one+"x"))
	must(t, os.Rename(two, one))
	must(t, os.Rename(one+"x", two))
	wantCorrupt(t, dir)
}

// TestFullDiskOfValues: a full disk is an error, after which the index goes on.
func TestFullDiskOfValues(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("there is no /dev/full")
	}
	defer full.Close()
	dir := t.TempDir()
	ix := mustOpenWith(t, dir, smallFiles())
	h := rewrites{10, 8000}
	h.write(t, ix, 0, 100)
	active := ix.values.active
	var file *os.File
	file, active.f = active.f, full
	if err := ix.Apply(h.batch(101)); !errors.Is(err, store.ErrNoSpace) {
		t.Fatalf("Apply = %v, want %v", err, store.ErrNoSpace)
	}
	active.f = file
	if n, err := h.prefix(ix); err != nil || n != 100 {
		t.Errorf("%d batches, %v, want 100", n, err)
	}
	h.write(t, ix, 100, 300)
	must(t, ix.Close())
	ix = mustOpenWith(t, dir, smallFiles())
	defer func() { must(t, ix.Close()) }()
	if n, err := h.prefix(ix); err != nil || n != 300 {
		t.Errorf("%d batches, %v, want 300", n, err)
	}
}

// TestFormat1: an index that has all values in Badger is read, and its seal says from then on that it may have others.
func TestFormat1(t *testing.T) {
	const inLog, inTables, size = 12, 100, 50_000 // the first fit a memtable: while they are copied nothing else is written
	value := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, size) }
	closed, crashed := t.TempDir(), t.TempDir()
	db, err := badger.Open(badgerOptions(closed, &health{log: Options{}.withDefaults().Logger}))
	must(t, err)
	for i := range inTables {
		if i == inLog {
			must(t, copyDir(closed, crashed))
		}
		must(t, db.Update(func(txn *badger.Txn) error {
			return errors.Join(txn.Set(sealKey, sealValue), txn.Set(storedKey(fmt.Appendf(nil, "%03d", i)), value(i)))
		}))
	}
	must(t, db.Close())
	for dir, n := range map[string]int{closed: inTables, crashed: inLog} {
		seal := encodeSeal(uint64(n))
		binary.LittleEndian.PutUint32(seal[sealFormatA:], 1)
		binary.LittleEndian.PutUint32(seal[sealCRCA:], sealCRC(seal[:]))
		must(t, os.WriteFile(filepath.Join(dir, sealName), seal[:], 0o600))
		ix := mustOpen(t, dir)
		b, err := os.ReadFile(filepath.Join(dir, sealName))
		must(t, err)
		if _, format, err := decodeSeal("x", b); err != nil || format != sealFormat {
			t.Errorf("format %d, %v after Open, want %d", format, err, sealFormat)
		}
		for i := 0; i < n; i += 3 {
			must(t, ix.Apply([]store.Change{{Key: fmt.Appendf(nil, "%03d", i), Value: value(i + 1)}}))
		}
		must(t, ix.Close())
		ix = mustOpen(t, dir)
		got, err := ix.Scan(nil, nil, n+1)
		if err != nil || len(got) != n {
			t.Fatalf("Scan = %d entries, %v, want %d", len(got), err, n)
		}
		for i, e := range got {
			if i%3 == 0 {
				i++
			}
			if !bytes.Equal(e.Value, value(i)) {
				t.Errorf("%q has %d bytes of %d, want %d", e.Key, len(e.Value), e.Value[0], i)
			}
		}
		must(t, ix.Close())
	}
}

var powerSeed = flag.Uint64("power.seed", 0, "seed of TestPowerLoss; 0 takes a new one")

// TestPowerLoss takes the files in the middle of writing, and loses some of the value bytes that were not synced: any, since
// a disk writes in any order. What is left is a prefix with all that was synced, and the index works.
func TestPowerLoss(t *testing.T) {
	const rounds = 30
	seed := cmp.Or(*powerSeed, uint64(time.Now().UnixNano()))
	t.Logf("repeat with -power.seed=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	lost := 0
	for round := range rounds {
		img := powerLoss(t, r)
		ix := mustOpenWith(t, img.dir, smallFiles())
		n, err := img.h.prefix(ix)
		if err != nil || n < img.synced || n > img.batches {
			t.Fatalf("round %d: %d batches, %v, want %d to %d", round, n, err, img.synced, img.batches)
		}
		lost += img.batches - n
		img.h.write(t, ix, n, n+20)
		if round%2 == 0 {
			must(t, ix.Sync())
		}
		must(t, ix.Close())
		ix = mustOpenWith(t, img.dir, smallFiles())
		if again := mustPrefix(t, img.h, ix); again != n+20 {
			t.Fatalf("round %d: %d batches after reopening, want %d", round, again, n+20)
		}
		must(t, ix.Close())
	}
	if lost == 0 {
		t.Errorf("nothing was lost in %d rounds", rounds)
	}
}

// A powerImage is what a failure of power leaves.
type powerImage struct {
	dir             string
	h               rewrites
	synced, batches int
}

func powerLoss(t *testing.T, r *rand.Rand) powerImage {
	work := t.TempDir()
	img := powerImage{dir: t.TempDir(), h: rewrites{20, 8000}}
	write := func(ix *Index) {
		n := img.batches + r.IntN(40)
		img.h.write(t, ix, img.batches, n)
		img.batches = n
	}
	ix := mustOpenWith(t, work, smallFiles())
	write(ix)
	must(t, ix.Close())
	ix = mustOpenWith(t, work, smallFiles())
	defer func() { must(t, ix.Close()) }()
	write(ix)
	must(t, ix.Sync())
	img.synced = img.batches
	safe := valueSizes(t, work)
	write(ix)
	must(t, copyDir(work, img.dir))
	for name, size := range valueSizes(t, img.dir) {
		losePower(t, r, filepath.Join(img.dir, name), safe[name], size)
	}
	return img
}

func mustPrefix(t *testing.T, h rewrites, ix *Index) int {
	t.Helper()
	n, err := h.prefix(ix)
	must(t, err)
	return n
}

func valueSizes(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	s, err := takeSurvey(dir)
	must(t, err)
	sizes := map[string]int64{}
	for _, f := range s.values {
		sizes[filepath.Base(f.path)] = f.size
	}
	return sizes
}

// losePower loses something of what a file has behind the first safe bytes; without any, perhaps all of it.
func losePower(t *testing.T, r *rand.Rand, path string, safe, size int64) {
	t.Helper()
	switch r.IntN(4) {
	case 0:
	case 1:
		must(t, os.Truncate(path, safe+r.Int64N(size-safe+1)))
	case 2:
		if safe == 0 {
			must(t, os.Remove(path))
		}
	default: // zeros
		from := safe + r.Int64N(size-safe+1)
		b := make([]byte, r.Int64N(size-from+1))
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt(b, from)
		must(t, errors.Join(err, f.Close()))
	}
}

// TestPowerLossInTwoLogs: a value is lost whose pointer is in the first of two logs. Everything behind it is given up, the
// second log with it.
func TestPowerLossInTwoLogs(t *testing.T) {
	img := twoLogs(t, 20)
	path := filepath.Join(img.dir, valueName(1))
	b, err := os.ReadFile(path)
	must(t, err)
	lost := bytes.Index(b, img.h.batch(25)[0].Key)
	if lost < 0 {
		t.Fatal("the value of batch 25 is not in the first file")
	}
	must(t, os.Truncate(path, int64(lost)))
	ix := mustOpen(t, img.dir)
	defer func() { must(t, ix.Close()) }()
	if n, err := img.h.prefix(ix); err != nil || n != 25 {
		t.Errorf("%d batches, %v, want the 25 before the one that was lost", n, err)
	}
	must(t, img.h.write(ix, 25, 30))
}

// TestLostInTable: a lost value whose pointer has reached a table cannot be cut off, so the index is corrupt.
func TestLostInTable(t *testing.T) {
	dir, crashed := t.TempDir(), t.TempDir()
	ix := mustOpen(t, dir)
	must(t, ix.Apply([]store.Change{set("a", "1")}))
	must(t, ix.Sync())
	must(t, ix.Apply([]store.Change{{Key: []byte("b"), Value: make([]byte, 1000)}}))
	small := bytes.Repeat([]byte("v"), inlineLimit)
	for i := 0; ; i++ {
		must(t, ix.Apply([]store.Change{{Key: fmt.Appendf(nil, "%06d", i), Value: small}}))
		if i%1000 == 0 && len(ix.db.Tables()) > 0 {
			break
		}
	}
	for logs := []file(nil); len(logs) != 1; { // The log of what is in the table is about to be removed.
		s, err := takeSurvey(dir)
		must(t, err)
		logs = s.logs
	}
	must(t, copyDir(dir, crashed))
	must(t, ix.Close())
	must(t, os.Truncate(filepath.Join(crashed, valueName(1)), valueHeaderSize+100))
	wantCorrupt(t, crashed)
}

// TestMachineErrorsOfValues: that a file cannot be opened says nothing about what is in it.
func TestMachineErrorsOfValues(t *testing.T) {
	if os.Getuid() == 0 || runtime.GOOS == "windows" {
		t.Skip("root and Windows read files of mode 0")
	}
	dir, crashed := t.TempDir(), t.TempDir()
	ix := mustOpen(t, dir)
	must(t, ix.Apply([]store.Change{{Key: []byte("b"), Value: make([]byte, 1000)}}))
	must(t, copyDir(dir, crashed))
	must(t, ix.Close())
	for _, dir := range []string{dir, crashed} {
		must(t, os.Chmod(filepath.Join(dir, valueName(1)), 0))
		if _, err := Open(dir, Options{}); err == nil || errors.Is(err, store.ErrCorrupt) {
			t.Errorf("Open = %v, want a plain error", err)
		}
	}
}

// TestUnknownValueFile: a file that no transaction knows of is what a crash leaves of one that did not come to be.
func TestUnknownValueFile(t *testing.T) {
	dir := t.TempDir()
	ix := mustOpen(t, dir)
	must(t, ix.Apply([]store.Change{{Key: []byte("a"), Value: make([]byte, 1000)}}))
	must(t, ix.Close())
	must(t, os.WriteFile(filepath.Join(dir, valueName(7)), []byte("half a header"), 0o600))
	ix = mustOpen(t, dir)
	defer func() { must(t, ix.Close()) }()
	if names := slices.Sorted(maps.Keys(valueSizes(t, dir))); strings.Join(names, " ") != valueName(1) {
		t.Errorf("value files are %v, want only the first", names)
	}
	if got, err := ix.Get([]byte("a")); err != nil || len(got) != 1000 {
		t.Errorf("Get(a) = %d bytes, %v, want 1000", len(got), err)
	}
}

func dirtyFiles(ix *Index) (n int) {
	for _, f := range ix.values.files {
		if f.dirty {
			n++
		}
	}
	return n
}

// TestSyncOfValues: Sync syncs what was written, also by a process before this one that died, and so does Close.
func TestSyncOfValues(t *testing.T) {
	dir, crashed := t.TempDir(), t.TempDir()
	ix := mustOpenWith(t, dir, smallFiles())
	must(t, ix.Apply(largeBatch(1<<20)))
	must(t, copyDir(dir, crashed))
	must(t, ix.Close())
	if n := dirtyFiles(ix); n != 0 {
		t.Errorf("%d files are to be synced after Close, want none", n)
	}
	ix = mustOpenWith(t, crashed, smallFiles())
	defer func() { must(t, ix.Close()) }()
	if n := dirtyFiles(ix); n != len(ix.values.files) || n < 2 {
		t.Errorf("%d of %d files are to be synced after a crash, want all", n, len(ix.values.files))
	}
	must(t, ix.Sync())
	if n := dirtyFiles(ix); n != 0 {
		t.Errorf("%d files are to be synced after Sync, want none", n)
	}
	must(t, ix.Apply(largeBatch(16<<10)))
	if n := dirtyFiles(ix); n != 1 {
		t.Errorf("%d files are to be synced after one change, want one", n)
	}
}
