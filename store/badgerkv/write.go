package badgerkv

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/dgraph-io/badger/v4"

	"github.com/spoolmq/spool/store"
)

// Apply makes all changes of the batch, in transactions of about 256 KB, one after the other: what a crash leaves is a
// prefix of them. An error other than store.ErrNoSpace, which too few descriptors are too, and that of a change outside the
// limits, found before anything is applied, fails the index. After ErrNoSpace a prefix may have been applied. Once for
// every few MB that stay in Badger it takes as long as merging what Badger holds does, some 10 ms a MB.
func (ix *Index) Apply(batch []store.Change) error {
	if err := ix.enter(); err != nil {
		return err
	}
	defer ix.leave()
	if err := checkBatch(batch); err != nil || len(batch) == 0 {
		return err
	}
	if err := ix.checkDescriptors(batch); err != nil {
		return err
	}
	err := guard("apply", func() error { return ix.writer.write(batch) })
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
		return fmt.Errorf("%w: %w", store.ErrNoSpace, err) // it passes
	}
	ix.written = 0
	return nil
}

// checkBatch holds a batch against the limits.
func checkBatch(batch []store.Change) error {
	for i, c := range batch {
		switch {
		case len(c.Key) == 0 || len(c.Key) > MaxKey:
			return fmt.Errorf("badgerkv: change %d: key of %d bytes, limit is 1 to %d", i, len(c.Key), MaxKey)
		case c.Value != nil && len(c.Value) == 0:
			return fmt.Errorf("badgerkv: change %d: value of 0 bytes, limit is 1 to %d", i, MaxValue)
		case len(c.Value) > MaxValue:
			return fmt.Errorf("badgerkv: change %d: value of %d bytes, limit is 1 to %d", i, len(c.Value), MaxValue)
		}
	}
	return nil
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

// Bounds of a transaction. Badger takes 15 % of a memtable in bytes (about 300 KB) and 3,276 entries; to what is counted
// here come the extents of the files that it touches: for each change at most one that loses a value and one that gets one.
const (
	txnChanges = 512
	txnBytes   = 64 << 10  // of keys and of values kept in Badger; reached by the last change, and passed by one of MaxKey
	txnRecords = 256 << 10 // of records; passed by the last one
	txnGone    = 64        // extents removed
)

// A writer turns changes into transactions. Slices that it is given must stay as they are until the next commit.
type writer struct {
	ix      *Index
	txn     *badger.Txn // nil between transactions
	changes int         // in txn
	bytes   int         // of them, in Badger
	records []byte      // of txn, at the tail of the active file, not written yet

	// live has by how much txn changes what is in use in a file, for each file that it touches.
	live map[*valueFile]int64

	written, freed int64 // bytes of records since the start of Apply
}

func (w *writer) write(batch []store.Change) error {
	defer w.abort()
	w.written, w.freed = 0, 0
	for _, c := range batch {
		if err := w.change(storedKey(c.Key), c.Value); err != nil {
			return err
		}
	}
	if err := w.commit(); err != nil {
		return err
	}
	return w.clean(cleanRate * (w.written + w.freed))
}

// change puts a change into the transaction, or into the next one when this one is full.
func (w *writer) change(key, value []byte) error {
	if w.changes >= txnChanges || w.bytes >= txnBytes || len(w.records) >= txnRecords {
		if err := w.commit(); err != nil {
			return err
		}
	}
	if w.txn == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	if err := w.forget(key); err != nil {
		return err
	}
	w.changes++
	w.bytes += len(key)
	switch {
	case value == nil:
		return w.txn.Delete(key)
	case len(value) <= inlineLimit:
		w.bytes += len(value)
		return w.txn.Set(key, value)
	}
	p, err := w.append(key, value)
	if err != nil {
		return err
	}
	return w.txn.SetEntry(badger.NewEntry(key, p.encode()).WithMeta(metaPointer))
}

// begin starts a transaction, after a look at the free space.
func (w *writer) begin() error {
	if err := requireFree(w.ix.dir, w.ix.opts, MinFree); err != nil {
		return err
	}
	w.txn = w.ix.db.NewTransaction(true)
	return w.txn.Set(sealKey, sealValue)
}

// forget takes the record of a key, which is going to be replaced, out of what is in use.
func (w *writer) forget(key []byte) error {
	if len(w.ix.values.files) == 0 {
		return nil // There are only small values: spare them the look.
	}
	p, err := findIn(w.txn, key)
	if err != nil || p.size == 0 {
		return err
	}
	f := w.ix.values.files[p.file]
	if f == nil {
		return corrupt(valueName(p.file), int64(p.at), "missing, a pointer leads to it")
	}
	w.live[f] -= int64(p.size)
	w.freed += int64(p.size)
	return nil
}

// append puts a record at the end of the newest value file, or of a new one.
func (w *writer) append(key, value []byte) (pointer, error) {
	vs, n := w.ix.values, recordSize(key, value)
	if vs.active == nil || vs.active.tail+n > vs.fileSize {
		if err := w.flush(); err != nil {
			return pointer{}, err
		}
		f, err := vs.create()
		if err != nil {
			return pointer{}, writeError(err)
		}
		vs.active = f
	}
	f := vs.active
	p := pointer{file: f.number, at: uint32(f.tail), size: uint32(n)}
	w.records, p.sum = appendRecord(w.records, key, value)
	f.tail += n
	w.live[f] += n
	w.written += n
	return p, nil
}

// flush writes the records to their file.
func (w *writer) flush() error {
	if len(w.records) == 0 {
		return nil
	}
	f := w.ix.values.active
	f.dirty = true
	_, err := f.f.WriteAt(w.records, f.tail-int64(len(w.records)))
	w.records = w.records[:0]
	return writeError(err)
}

// writeError makes of a full disk, which a write of our own can tell, the error that says so.
func writeError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", store.ErrNoSpace, err)
	}
	return err
}

// commit ends the transaction, if there is one. Records are written before the transaction that leads to them.
func (w *writer) commit() error {
	if w.txn == nil {
		return nil
	}
	if err := w.flush(); err != nil {
		return err
	}
	vs := w.ix.values
	for f, d := range w.live {
		if f.live+d < 0 {
			return corrupt(f.f.Name(), f.end, "%d bytes in use, %d of them given up", f.live, -d)
		}
		if err := w.txn.Set(extentKey(f.number), extent{f.tail, f.live + d}.encode()); err != nil {
			return err
		}
	}
	gone := min(len(vs.gone), txnGone)
	for _, n := range vs.gone[:gone] {
		if err := w.txn.Delete(extentKey(n)); err != nil {
			return err
		}
	}
	if err := w.txn.Commit(); err != nil {
		return err
	}
	vs.gone = vs.gone[gone:]
	for f, d := range w.live {
		f.extent = extent{f.tail, f.live + d}
	}
	w.end()
	return w.ix.compact()
}

// abort gives up a transaction that is under way, and its records.
func (w *writer) abort() {
	if w.txn == nil {
		return
	}
	w.txn.Discard()
	for f := range w.live {
		f.tail = f.end
	}
	w.end()
}

func (w *writer) end() {
	w.txn, w.changes, w.bytes, w.records = nil, 0, 0, w.records[:0]
	clear(w.live)
}
