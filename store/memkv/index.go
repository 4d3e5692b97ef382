// Package memkv keeps the index of a spool in memory, on a B-tree.
//
// It owns keys and values, which it copies in and out, and forgets them when it is dropped. It has no goroutine, reads no
// clock and touches no file, so it works inside a testing/synctest bubble. It does not know what keys and values mean.
//
// [Index] is for spools without a disk and for those whose disk is too full for Badger. [Sim] is an Index for tests: it
// knows what a crash would leave, and fails on demand.
package memkv

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/google/btree"

	"github.com/spoolmq/spool/store"
)

// Limits in bytes, the same as those of store/badgerkv, so that what works in memory works on disk.
const (
	MaxKey   = 32 << 10
	MaxValue = 256<<10 - 1
)

// degree of the tree: nodes of at most 63 entries of 48 bytes.
const degree = 32

// An Index is a store.Index in memory. It may be used by any number of goroutines.
type Index struct {
	mu     sync.RWMutex
	tree   *btree.BTreeG[store.Entry] // guarded by mu; keys and values in it are never changed
	closed bool                       // guarded by mu
}

var _ store.Index = (*Index)(nil)

// New returns an empty index.
func New() *Index {
	less := func(a, b store.Entry) bool { return bytes.Compare(a.Key, b.Key) < 0 }
	return &Index{tree: btree.NewG(degree, less)}
}

// Apply makes all changes of the batch. A batch with a change outside the limits is refused and changes nothing.
func (ix *Index) Apply(batch []store.Change) error {
	if err := checkBatch(batch); err != nil {
		return err
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.closed {
		return store.ErrClosed
	}
	for _, c := range batch {
		ix.change(c)
	}
	return nil
}

// change makes one change. Caller holds mu.
func (ix *Index) change(c store.Change) {
	if c.Value == nil {
		ix.tree.Delete(store.Entry{Key: c.Key})
		return
	}
	ix.tree.ReplaceOrInsert(store.Entry{Key: bytes.Clone(c.Key), Value: bytes.Clone(c.Value)})
}

func checkBatch(batch []store.Change) error {
	for i, c := range batch {
		switch {
		case len(c.Key) == 0 || len(c.Key) > MaxKey:
			return fmt.Errorf("memkv: change %d: key of %d bytes, limit is 1 to %d", i, len(c.Key), MaxKey)
		case c.Value != nil && len(c.Value) == 0:
			return fmt.Errorf("memkv: change %d: value of 0 bytes, limit is 1 to %d", i, MaxValue)
		case len(c.Value) > MaxValue:
			return fmt.Errorf("memkv: change %d: value of %d bytes, limit is 1 to %d", i, len(c.Value), MaxValue)
		}
	}
	return nil
}

// Get returns the value of a key as a fresh slice, or store.ErrNotFound.
func (ix *Index) Get(key []byte) ([]byte, error) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if ix.closed {
		return nil, store.ErrClosed
	}
	e, ok := ix.tree.Get(store.Entry{Key: key})
	if !ok {
		return nil, store.ErrNotFound
	}
	return bytes.Clone(e.Value), nil
}

// Scan returns up to limit entries with from ≤ key < to in the order of their keys, as fresh slices. A nil from means
// from the first key on, a nil to means no upper end.
func (ix *Index) Scan(from, to []byte, limit int) ([]store.Entry, error) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if ix.closed {
		return nil, store.ErrClosed
	}
	if limit <= 0 {
		return nil, nil
	}
	var entries []store.Entry
	ix.tree.AscendGreaterOrEqual(store.Entry{Key: from}, func(e store.Entry) bool {
		if to != nil && bytes.Compare(e.Key, to) >= 0 {
			return false
		}
		entries = append(entries, store.Entry{Key: bytes.Clone(e.Key), Value: bytes.Clone(e.Value)})
		return len(entries) < limit
	})
	return entries, nil
}

// Sync does nothing: there is no stable storage.
func (ix *Index) Sync() error {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if ix.closed {
		return store.ErrClosed
	}
	return nil
}

// Size is 0: nothing is on disk.
func (ix *Index) Size() int64 { return 0 }

// Close lets the memory go. Calls after it answer store.ErrClosed.
func (ix *Index) Close() error {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.closed {
		return store.ErrClosed
	}
	ix.closed = true
	ix.tree.Clear(false)
	return nil
}

// Clone returns an open index with the content that ix has now. Both share memory until one of them changes; it takes
// the same time for any number of keys.
func (ix *Index) Clone() *Index {
	ix.mu.Lock() // Cloning marks the nodes of both trees as shared.
	defer ix.mu.Unlock()
	return &Index{tree: ix.tree.Clone()}
}
