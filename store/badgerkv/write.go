package badgerkv

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/spoolmq/spool/store"
)

// Apply makes all changes of the batch, in transactions as large as Badger takes (about 300 KB), one after the other:
// what a crash leaves is a prefix of them. An error other than store.ErrNoSpace and that of a change outside the limits,
// or of too few descriptors, which are found before anything is applied, fails the index. After ErrNoSpace a prefix may
// have been applied.
func (ix *Index) Apply(batch []store.Change) error {
	if err := ix.enter(); err != nil {
		return err
	}
	defer ix.leave()
	n, err := checkBatch(batch)
	if err != nil {
		return err
	}
	if err := ix.checkDescriptors(batch); err != nil {
		return err
	}
	w := writer{ix: ix, keys: make([]byte, 0, n)}
	err = guard("apply", func() error { return w.write(batch) })
	if err != nil && !errors.Is(err, store.ErrNoSpace) {
		return ix.health.fail(fmt.Errorf("badgerkv: index failed: apply: %w", err))
	}
	return err
}

// checkDescriptors counts the free descriptors once in a while: the index needs more as it grows.
func (ix *Index) checkDescriptors(batch []store.Change) error {
	for _, c := range batch {
		ix.written += len(c.Key) + len(c.Value)
	}
	if ix.written < descriptorEvery {
		return nil
	}
	if err := requireDescriptors(descriptorReserve); err != nil {
		return err
	}
	ix.written = 0
	return nil
}

// checkBatch holds a batch against the limits and returns how many bytes its stored keys take.
func checkBatch(batch []store.Change) (int, error) {
	n := 0
	for i, c := range batch {
		switch {
		case len(c.Key) == 0 || len(c.Key) > MaxKey:
			return 0, fmt.Errorf("badgerkv: change %d: key of %d bytes, limit is 1 to %d", i, len(c.Key), MaxKey)
		case c.Value != nil && len(c.Value) == 0:
			return 0, fmt.Errorf("badgerkv: change %d: value of 0 bytes, limit is 1 to %d", i, MaxValue)
		case len(c.Value) > MaxValue:
			return 0, fmt.Errorf("badgerkv: change %d: value of %d bytes, limit is 1 to %d", i, len(c.Value), MaxValue)
		}
		n += len(c.Key) + len(userPrefix)
	}
	return n, nil
}

const (
	userPrefix = "k" // of every key of the caller
	userEnd    = "l" // the first key after all of them
)

// sealKey is written by every transaction, with sealValue. Its only use is to carry the transaction's version: a
// compaction drops a removed key and its version with it, but it keeps the newest version of a key that is there.
var (
	sealKey   = []byte("s")
	sealValue = []byte{1}
)

// A writer turns a batch into transactions.
type writer struct {
	ix   *Index
	txn  *badger.Txn
	keys []byte // holds the stored keys, which must stay until their transaction is committed; never grows
}

func (w *writer) write(batch []store.Change) error {
	if len(batch) == 0 {
		return nil
	}
	defer func() {
		if w.txn != nil {
			w.txn.Discard()
		}
	}()
	if err := w.begin(); err != nil {
		return err
	}
	for _, c := range batch {
		if err := w.add(c); err != nil {
			return err
		}
	}
	return w.txn.Commit()
}

// begin starts a transaction, after a look at the free space.
func (w *writer) begin() error {
	if err := requireFree(w.ix.dir, w.ix.opts, MinFree); err != nil {
		return err
	}
	w.txn = w.ix.db.NewTransaction(true)
	return w.txn.Set(sealKey, sealValue)
}

// add puts a change into the transaction, or into the next one when this one is full.
func (w *writer) add(c store.Change) error {
	start := len(w.keys)
	w.keys = append(append(w.keys, userPrefix...), c.Key...)
	key := w.keys[start:len(w.keys):len(w.keys)]
	err := w.set(key, c.Value)
	if !errors.Is(err, badger.ErrTxnTooBig) {
		return err
	}
	if err := w.txn.Commit(); err != nil {
		return err
	}
	if err := w.begin(); err != nil {
		return err
	}
	return w.set(key, c.Value)
}

func (w *writer) set(key, value []byte) error {
	if value == nil {
		return w.txn.Delete(key)
	}
	return w.txn.Set(key, value)
}
