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
	err = ix.view("get", func() error {
		value, err = ix.load(storedKey(key))
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
	err = ix.view("scan", func() error {
		entries, err = ix.collect(storedKey(from), end, limit)
		return err
	})
	return entries, err
}

// load returns the value of a stored key.
func (ix *Index) load(key []byte) ([]byte, error) {
	var before pointer
	for {
		value, p, err := ix.loadOnce(key)
		if !errors.Is(err, errMoved) {
			return value, err
		}
		if p == before {
			return nil, corrupt(valueName(p.file), int64(p.at), "missing, a pointer leads to it")
		}
		before = p // The next transaction sees where the value is now.
	}
}

func (ix *Index) loadOnce(key []byte) ([]byte, pointer, error) {
	txn := ix.db.NewTransaction(false)
	defer txn.Discard()
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, pointer{}, store.ErrNotFound
	}
	if err != nil {
		return nil, pointer{}, err
	}
	return ix.value(item)
}

// value returns the value of an item, and the pointer to it when there is one. It answers errMoved when the value has been
// moved by a later transaction, or removed.
func (ix *Index) value(item *badger.Item) ([]byte, pointer, error) {
	if item.UserMeta() != metaPointer {
		value, err := copyValue(item)
		return value, pointer{}, err
	}
	p, err := pointerOf(item)
	if err != nil {
		return nil, p, err
	}
	value, err := ix.values.read(p, item.Key())
	return value, p, err
}

// find returns the pointer that stands for the value of a stored key, or one of size 0.
func (ix *Index) find(key []byte) (pointer, error) {
	txn := ix.db.NewTransaction(false)
	defer txn.Discard()
	return findIn(txn, key)
}

func findIn(txn *badger.Txn, key []byte) (pointer, error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return pointer{}, nil
	}
	if err != nil || item.UserMeta() != metaPointer {
		return pointer{}, err
	}
	return pointerOf(item)
}

func pointerOf(item *badger.Item) (p pointer, err error) {
	err = item.Value(func(b []byte) error {
		p, err = decodePointer(b)
		return err
	})
	return p, err
}

// collect walks over from ≤ key < to. Values are not prefetched: they lie in the table beside their keys, and Badger
// would start a goroutine for each.
func (ix *Index) collect(from, to []byte, limit int) ([]store.Entry, error) {
	txn := ix.db.NewTransaction(false)
	defer txn.Discard()
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
		key := item.KeyCopy(nil)
		value, _, err := ix.value(item)
		if errors.Is(err, errMoved) {
			value, err = ix.load(key)
		}
		if errors.Is(err, store.ErrNotFound) {
			continue // removed since the scan began
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, store.Entry{Key: key[len(userPrefix):], Value: value})
	}
	return entries, nil
}

// view runs f, which reads. An error other than ErrNotFound fails the index: the next answer could be wrong.
func (ix *Index) view(what string, f func() error) error {
	err := guard(what, f)
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
