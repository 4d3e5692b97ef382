// Package storetest holds implementations of the contracts in package store to them.
package storetest

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spoolmq/spool/store"
)

var indexSeed = flag.Uint64("index.seed", 0, "seed of the random index test; 0 takes a new one")

// An IndexHarness tells the suite how to get an index.
type IndexHarness struct {
	// Open returns an empty index. reopen closes the index that was returned last and opens its content again; it is nil
	// when the content cannot outlive the index. The suite closes what it got last.
	Open func(t testing.TB) (ix store.Index, reopen func() store.Index)

	MaxKey, MaxValue int // bytes; one more is refused
}

// TestIndex holds an implementation of store.Index to its contract.
func TestIndex(t *testing.T, h IndexHarness) {
	tests := []struct {
		name string
		run  func(*testing.T, *indexUnderTest)
	}{
		{"Order", indexOrder},
		{"Remove", indexRemove},
		{"LastChangeWins", indexLastChangeWins},
		{"ScanBounds", indexScanBounds},
		{"ScanPages", indexScanPages},
		{"Refused", func(t *testing.T, u *indexUnderTest) { indexRefused(t, u, h) }},
		{"Limits", func(t *testing.T, u *indexUnderTest) { indexLimits(t, u, h) }},
		{"LargeBatch", indexLargeBatch},
		{"ManySmall", indexManySmall},
		{"Ownership", indexOwnership},
		{"ReadsBesideWrites", indexReadsBesideWrites},
		{"Reopen", indexReopen},
		{"Model", indexModel},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ix, reopen := h.Open(t)
			u := &indexUnderTest{t: t, Index: ix, reopen: reopen, want: map[string]string{}}
			test.run(t, u)
			u.compare()
			if err := u.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// indexUnderTest is an index beside the map that it should equal.
type indexUnderTest struct {
	store.Index
	t      *testing.T
	reopen func() store.Index
	want   map[string]string
}

// apply makes the changes in both.
func (u *indexUnderTest) apply(batch ...store.Change) {
	u.t.Helper()
	if err := u.Apply(batch); err != nil {
		u.t.Fatalf("Apply of %d changes: %v", len(batch), err)
	}
	for _, c := range batch {
		if c.Value == nil {
			delete(u.want, string(c.Key))
		} else {
			u.want[string(c.Key)] = string(c.Value)
		}
	}
}

func (u *indexUnderTest) sync() {
	u.t.Helper()
	if err := u.Sync(); err != nil {
		u.t.Fatalf("Sync: %v", err)
	}
}

// expect is what Scan should return.
func (u *indexUnderTest) expect(from, to []byte, limit int) []string {
	keys := slices.Sorted(maps.Keys(u.want))
	keys = slices.DeleteFunc(keys, func(k string) bool {
		return k < string(from) || to != nil && k >= string(to)
	})
	return keys[:min(len(keys), max(limit, 0))]
}

// scan compares one Scan with the map.
func (u *indexUnderTest) scan(from, to []byte, limit int) {
	u.t.Helper()
	got, err := u.Scan(from, to, limit)
	if err != nil {
		u.t.Fatalf("Scan(%.40q, %.40q, %d): %v", from, to, limit, err)
	}
	want := u.expect(from, to, limit)
	if len(got) != len(want) {
		u.t.Fatalf("Scan(%.40q, %.40q, %d) = %d entries, want %d", from, to, limit, len(got), len(want))
	}
	for i, e := range got {
		if string(e.Key) != want[i] || string(e.Value) != u.want[want[i]] {
			u.t.Fatalf("Scan(%.40q, %.40q, %d)[%d] = %.40q: %s, want %.40q: %s", from, to, limit, i,
				e.Key, indexBrief(e.Value), want[i], indexBrief([]byte(u.want[want[i]])))
		}
	}
}

// get compares one Get with the map.
func (u *indexUnderTest) get(key string) {
	u.t.Helper()
	got, err := u.Get([]byte(key))
	want, ok := u.want[key]
	if !ok && !errors.Is(err, store.ErrNotFound) {
		u.t.Fatalf("Get(%.40q) = %s, %v, want %v", key, indexBrief(got), err, store.ErrNotFound)
	}
	if ok && (err != nil || string(got) != want) {
		u.t.Fatalf("Get(%.40q) = %s, %v, want %s", key, indexBrief(got), err, indexBrief([]byte(want)))
	}
}

// compare reads everything, both ways.
func (u *indexUnderTest) compare() {
	u.t.Helper()
	u.scan(nil, nil, len(u.want)+1)
	for key := range u.want {
		u.get(key)
	}
}

func indexBrief(b []byte) string { return fmt.Sprintf("%d bytes %.16q", len(b), b) }

func indexSet(k, v string) store.Change { return store.Change{Key: []byte(k), Value: []byte(v)} }

func indexDelete(key string) store.Change { return store.Change{Key: []byte(key)} }

func indexOrder(_ *testing.T, u *indexUnderTest) {
	for _, k := range []string{"b", "\x00", "a\xff", "\xff\xff", "a", "a\x00", "\xff", "!badger!x", "s", "k", "aa"} {
		u.apply(indexSet(k, "value of "+k))
	}
	u.compare()
	for _, k := range []string{"", "c", "\x00\x00", "\xfe", "badger!x"} {
		u.get(k)
	}
}

func indexRemove(_ *testing.T, u *indexUnderTest) {
	u.apply(indexDelete("never there"))
	u.apply(indexSet("a", "1"), indexSet("b", "2"), indexSet("c", "3"))
	u.apply(indexDelete("b"))
	u.get("b")
	u.apply(indexSet("b", "again"), indexDelete("a"), indexDelete("c"))
}

func indexLastChangeWins(_ *testing.T, u *indexUnderTest) {
	u.apply(indexSet("a", "1"), indexSet("a", "2"), indexDelete("b"), indexSet("b", "3"))
	u.compare()
	u.apply(indexSet("a", "a longer one"))
	u.compare()
	u.apply(indexSet("a", "4"), indexDelete("a"), indexDelete("b"), indexSet("b", "5"), indexSet("b", "6"))
}

func indexScanBounds(_ *testing.T, u *indexUnderTest) {
	keys := []string{"a", "b", "b\x00", "b\x01", "b\xff", "b\xff\xff", "c", "\xff", "\xff\xff"}
	for _, k := range keys {
		u.apply(indexSet(k, "v"+k))
	}
	bounds := [][]byte{nil, {}, []byte("b\xff\xff\x00"), []byte("d"), []byte("\xff\xff\xff")}
	for _, k := range keys {
		bounds = append(bounds, []byte(k))
	}
	for _, from := range bounds {
		for _, to := range bounds {
			for _, limit := range []int{-1, 0, 1, 2, 100} {
				u.scan(from, to, limit)
			}
		}
	}
}

// indexScanPages walks through everything as callers do: the next page begins behind the last key.
func indexScanPages(t *testing.T, u *indexUnderTest) {
	for i := range 100 {
		u.apply(indexSet(fmt.Sprintf("page %03d", i), fmt.Sprint(i)))
	}
	for _, limit := range []int{1, 7, 50, 99, 100, 101} {
		var from []byte
		for n := 0; ; {
			page, err := u.Scan(from, nil, limit)
			n += len(page)
			if err != nil || len(page) < limit || n > len(u.want) {
				if err != nil || n != len(u.want) {
					t.Errorf("pages of %d: %d entries, %v, want %d", limit, n, err, len(u.want))
				}
				break
			}
			from = append(page[len(page)-1].Key, 0)
		}
	}
}

// indexRefused: a batch with one change that cannot be made changes nothing and does no harm.
func indexRefused(t *testing.T, u *indexUnderTest, h IndexHarness) {
	u.apply(indexSet("a", "1"))
	bad := map[string]store.Change{
		"empty value":    {Key: []byte("b"), Value: []byte{}},
		"empty key":      {Value: []byte("v")},
		"value too long": {Key: []byte("b"), Value: make([]byte, h.MaxValue+1)},
		"key too long":   {Key: make([]byte, h.MaxKey+1), Value: []byte("v")},
	}
	for name, c := range bad {
		if err := u.Apply([]store.Change{indexSet("a", "2"), indexSet("c", "2"), c}); err == nil {
			t.Errorf("%s: Apply = nil, want an error", name)
		}
		u.compare()
	}
	u.apply(indexSet("a", "3"))
}

func indexLimits(_ *testing.T, u *indexUnderTest, h IndexHarness) {
	long, value := strings.Repeat("k", h.MaxKey-1), strings.Repeat("v", h.MaxValue)
	var batch []store.Change
	for _, last := range "abcde" {
		batch = append(batch, indexSet(long+string(last), value))
	}
	u.apply(batch...)
	u.compare()
	u.apply(indexSet("small", "x"), batch[0], indexDelete(string(batch[1].Key)), indexSet("small 2", "y"))
}

// indexLargeBatch: 4 MB in one batch, more than any transaction holds, with changes of the same key far apart.
func indexLargeBatch(_ *testing.T, u *indexUnderTest) {
	batch := []store.Change{indexSet("first", "overwritten"), indexSet("gone", "x")}
	for i := range 1000 {
		value := bytes.Repeat([]byte{byte(i), byte(i >> 8), 1}, 1400)
		batch = append(batch, store.Change{Key: fmt.Appendf(nil, "large %04d", i), Value: value})
	}
	batch = append(batch, indexSet("first", "last"), indexDelete("gone"), indexDelete("large 0000"))
	u.apply(batch...)
}

// indexManySmall: more changes than a transaction may count.
func indexManySmall(_ *testing.T, u *indexUnderTest) {
	var batch []store.Change
	for i := range 20_000 {
		batch = append(batch, indexSet(fmt.Sprintf("%05d", i), "v"))
	}
	for i := 0; i < 20_000; i += 3 {
		batch = append(batch, indexDelete(fmt.Sprintf("%05d", i)))
	}
	u.apply(batch...)
}

// indexOwnership: slices handed in may be reused, slices handed out may be written to.
func indexOwnership(t *testing.T, u *indexUnderTest) {
	key, value := []byte("key"), []byte("value")
	u.apply(store.Change{Key: key, Value: value})
	copy(key, "xxx")
	copy(value, "xxxxx")
	u.compare()
	got, getErr := u.Get([]byte("key"))
	page, err := u.Scan(nil, nil, 1)
	if getErr != nil || err != nil || len(page) != 1 {
		t.Fatalf("Get: %v, Scan = %d entries, %v, want 1", getErr, len(page), err)
	}
	copy(got, "yyyyy")
	copy(page[0].Key, "yyy")
	copy(page[0].Value, "yyyyy")
}

// indexReadsBesideWrites: while keys are set and removed, a reader sees the ones that stay, in order, with values that
// were theirs at some time.
func indexReadsBesideWrites(t *testing.T, u *indexUnderTest) {
	const n, rounds, readers = 50, 40, 3
	for i := range n {
		u.apply(indexSet(fmt.Sprintf("stays %02d", i), "0"))
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
					indexReadOnce(t, u.Index, i%n, n)
				}
			}
		})
	}
	for round := range rounds {
		var batch []store.Change
		for i := range n {
			batch = append(batch, indexSet(fmt.Sprintf("stays %02d", i), fmt.Sprint(round)))
			batch = append(batch, indexSet(fmt.Sprintf("grows %02d %02d", round, i), "x"))
		}
		u.apply(batch...)
		u.sync()
	}
	close(stop)
	wg.Wait()
}

// indexReadOnce reads one key and scans all n.
func indexReadOnce(t *testing.T, ix store.Index, i, n int) {
	key := fmt.Sprintf("stays %02d", i)
	if got, err := ix.Get([]byte(key)); err != nil || len(got) == 0 || len(got) > 2 {
		t.Errorf("Get(%q) = %q, %v", key, got, err)
	}
	page, err := ix.Scan([]byte("stays "), []byte("stays\xff"), n+1)
	if err != nil || len(page) != n {
		t.Errorf("Scan = %d entries, %v, want %d", len(page), err, n)
	}
	for j, e := range page {
		if want := fmt.Sprintf("stays %02d", j); string(e.Key) != want {
			t.Errorf("Scan[%d] = %q, want %q", j, e.Key, want)
		}
	}
	ix.Size()
}

func indexReopen(t *testing.T, u *indexUnderTest) {
	if u.reopen == nil {
		t.Skip("the content does not outlive the index")
	}
	for round := range 4 {
		for i := range 20 {
			u.apply(indexSet(fmt.Sprintf("%d %d", i%7, i), fmt.Sprint(round)), indexDelete(fmt.Sprint(i*round%20)))
		}
		if round%2 == 0 {
			u.sync()
		}
		u.Index = u.reopen()
		u.compare()
	}
}

// indexModel drives the index and a map with the same random calls.
func indexModel(t *testing.T, u *indexUnderTest) {
	seed := cmp.Or(*indexSeed, uint64(time.Now().UnixNano()))
	t.Logf("repeat with -index.seed=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		switch p := r.IntN(100); {
		case p < 40:
			u.apply(indexRandomBatch(r)...)
		case p < 65:
			u.get(indexRandomKey(r))
		case p < 95:
			from, to := []byte(indexRandomKey(r)), []byte(indexRandomKey(r))
			if r.IntN(4) == 0 {
				to = nil
			}
			u.scan(from, to, r.IntN(20))
		case p < 97 && u.reopen != nil:
			u.Index = u.reopen()
		default:
			u.sync()
		}
	}
}

func indexRandomKey(r *rand.Rand) string {
	const alphabet = "\x00ab\xff"
	b := make([]byte, 1+r.IntN(4))
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

// indexRandomBatch has mostly short values and now and then a long one.
func indexRandomBatch(r *rand.Rand) []store.Change {
	batch := make([]store.Change, r.IntN(12))
	for i := range batch {
		batch[i].Key = []byte(indexRandomKey(r))
		if r.IntN(3) == 0 {
			continue
		}
		longest := []int{100, 100, 100, 100_000}[r.IntN(4)]
		batch[i].Value = bytes.Repeat([]byte{byte(r.IntN(256))}, 1+r.IntN(longest))
	}
	return batch
}
