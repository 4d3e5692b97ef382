package badgerkv

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/spoolmq/spool/store"
)

// Get returns the value of a key as a fresh slice, or store.ErrNotFound.
func (ix *Index) Get(key []byte) (value []byte, err error) {
	if err := ix.enter(); err != nil {
		return nil, err
	}
	defer ix.leave()
	err = ix.view("get", func(txn *badger.Txn) error {
		item, err := txn.Get(storedKey(key))
		if errors.Is(err, badger.ErrKeyNotFound) {
			return store.ErrNotFound
		}
		if err != nil {
			return err
		}
		value, err = copyValue(item)
		return err
	})
	return value, err
}

// Scan returns up to limit entries with from ≤ key < to in the order of their keys, as fresh slices. A nil from means
// from the first key on, a nil to means no upper end.
func (ix *Index) Scan(from, to []byte, limit int) (entries []store.Entry, err error) {
	if err := ix.enter(); err != nil {
		return nil, err
	}
	defer ix.leave()
	if limit <= 0 || (to != nil && bytes.Compare(from, to) >= 0) {
		return nil, nil
	}
	end := []byte(userEnd)
	if to != nil {
		end = storedKey(to)
	}
	err = ix.view("scan", func(txn *badger.Txn) error {
		entries, err = collect(txn, storedKey(from), end, limit)
		return err
	})
	return entries, err
}

// collect walks over from ≤ key < to. Values are not prefetched: they lie in the table beside their keys, and Badger
// would start a goroutine for each.
func collect(txn *badger.Txn, from, to []byte, limit int) ([]store.Entry, error) {
	o := badger.DefaultIteratorOptions
	o.PrefetchValues = false
	o.Prefix = commonPrefix(from, to)
	it := txn.NewIterator(o)
	defer it.Close()
	var entries []store.Entry
	for it.Seek(from); it.Valid() && len(entries) < limit; it.Next() {
		item := it.Item()
		if bytes.Compare(item.Key(), to) >= 0 {
			break
		}
		value, err := copyValue(item)
		if err != nil {
			return nil, err
		}
		key := bytes.Clone(item.Key()[len(userPrefix):])
		entries = append(entries, store.Entry{Key: key, Value: value})
	}
	return entries, nil
}

// view runs f in a read transaction. An error other than ErrNotFound fails the index: the next answer could be wrong.
func (ix *Index) view(what string, f func(*badger.Txn) error) error {
	err := guard(what, func() error {
		txn := ix.db.NewTransaction(false)
		defer txn.Discard()
		return f(txn)
	})
	if err == nil || errors.Is(err, store.ErrNotFound) {
		return err
	}
	return ix.health.fail(fmt.Errorf("badgerkv: index failed: %s: %w", what, err))
}

// copyValue copies a value. No value is empty, so an empty one is one that Badger could not read and kept silent about.
func copyValue(item *badger.Item) ([]byte, error) {
	value, err := item.ValueCopy(nil)
	if err != nil {
		return nil, err
	}
	if len(value) == 0 {
		return nil, corrupt("index", 0, "empty value at version %d", item.Version())
	}
	return value, nil
}

func storedKey(key []byte) []byte {
	return append(append(make([]byte, 0, len(userPrefix)+len(key)), userPrefix...), key...)
}

// commonPrefix is what every key with a ≤ key < b begins with. Badger leaves out tables without such keys.
func commonPrefix(a, b []byte) []byte {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}
