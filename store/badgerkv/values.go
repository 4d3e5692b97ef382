package badgerkv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"
)

const (
	valueExt = ".val"

	// valueFileSize is the size in bytes at which another value file is begun: small, so that one which is cleaned is
	// soon gone; large, because each has a descriptor.
	valueFileSize = 16 << 20
)

// errMoved says that a value file is gone: since the pointer to it was read, the value was moved or removed.
var errMoved = errors.New("value has moved")

// values are the value files of an index.
type values struct {
	dir             string // immutable
	fileSize, slack int64  // immutable; bytes

	mu    sync.RWMutex
	files map[uint32]*valueFile // guarded by mu; changed by the writer, which therefore reads it without mu

	// Used by the writer only: Apply, Sync and Close, which have one caller at a time.
	active *valueFile // takes the next record; nil when that needs a new file
	last   uint32     // highest number there has been
	gone   []uint32   // files that are removed while Badger still has their extents
	victim *valueFile // is being cleaned, or nil
	walked int64      // offset up to which it is
}

// A valueFile is an open value file. The writer owns all but the file.
type valueFile struct {
	number uint32 // immutable
	f      *os.File
	extent       // as of the last transaction
	tail   int64 // where the next record goes; behind end while a transaction is being made
	dirty  bool  // has bytes that are not synced
}

func valueName(number uint32) string { return fmt.Sprintf("%08d%s", number, valueExt) }

// openValues opens the value files that Badger knows of, and removes others: their transactions were lost in a crash.
func openValues(dir string, o Options, db *badger.DB, found verified) (_ *values, err error) {
	vs := &values{dir: dir, fileSize: o.valueFile, slack: o.slack, files: map[uint32]*valueFile{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, vs.close())
		}
	}()
	extents, err := readExtents(db)
	if err != nil {
		return nil, err
	}
	for _, f := range found.values {
		n := uint32(f.id)
		vs.last = max(vs.last, n)
		if _, ok := extents[n]; ok {
			continue
		}
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("badgerkv: %w", err)
		}
	}
	// Whoever wrote what is not synced may not have come to syncing these files.
	dirty := found.version > found.sealed
	for _, n := range slices.Sorted(maps.Keys(extents)) {
		vs.last = max(vs.last, n)
		if err := vs.open(n, extents[n], dirty); err != nil {
			return nil, err
		}
		if f := vs.files[n]; f != nil && f.live > 0 {
			vs.active = f
		}
	}
	return vs, nil
}

func readExtents(db *badger.DB) (map[uint32]extent, error) {
	extents := map[uint32]extent{}
	err := db.View(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.PrefetchValues = false
		o.Prefix = []byte(extentPrefix)
		it := txn.NewIterator(o)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			item := it.Item()
			if len(item.Key()) != len(extentPrefix)+4 {
				return corrupt("index", 0, "extent under a key of %d bytes", len(item.Key()))
			}
			n := binary.BigEndian.Uint32(item.Key()[len(extentPrefix):])
			err := item.Value(func(b []byte) (err error) {
				extents[n], err = decodeExtent(valueName(n), b)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return extents, err
}

// open opens a file. One that is not in use any more may be anything.
func (vs *values) open(n uint32, x extent, dirty bool) error {
	path := filepath.Join(vs.dir, valueName(n))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if x.live > 0 {
			return corrupt(path, 0, "missing, %d bytes of it are in use", x.live)
		}
		vs.gone = append(vs.gone, n)
		return nil
	}
	if err != nil {
		return fmt.Errorf("badgerkv: %w", err)
	}
	vs.files[n] = &valueFile{number: n, f: f, extent: x, tail: x.end, dirty: dirty}
	if x.live == 0 {
		return nil
	}
	return verifyValueFile(path, f, n, x)
}

// verifyValueFile makes sure that a file is the one with that number, and that nothing was cut off. What the records hold
// is checked by those who read them, against the pointers.
func verifyValueFile(path string, f *os.File, n uint32, x extent) error {
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("badgerkv: %w", err)
	}
	if fi.Size() < x.end {
		return corrupt(path, fi.Size(), "ends, want %d bytes", x.end)
	}
	header := make([]byte, valueHeaderSize)
	if _, err := f.ReadAt(header, 0); err != nil {
		return fmt.Errorf("badgerkv: %w", err)
	}
	if want := encodeValueHeader(n); !bytes.Equal(header, want) {
		return corrupt(path, 0, "header %x, want %x", header, want)
	}
	return nil
}

// read returns the value to which p leads, as a fresh slice. It answers errMoved when the file is gone.
func (vs *values) read(p pointer, key []byte) ([]byte, error) {
	vs.mu.RLock() // so that the file stays open
	defer vs.mu.RUnlock()
	f := vs.files[p.file]
	if f == nil {
		return nil, errMoved
	}
	return readValue(f.f, p, key)
}

// readValue reads the value of a key from a value file. What is not what was written is store.ErrCorrupt.
func readValue(f *os.File, p pointer, key []byte) ([]byte, error) {
	b := make([]byte, p.size)
	if _, err := f.ReadAt(b, int64(p.at)); err == io.EOF {
		return nil, corrupt(f.Name(), int64(p.at), "file ends within a record of %d bytes", p.size)
	} else if err != nil {
		return nil, fmt.Errorf("badgerkv: %w", err)
	}
	k, value, sum, ok := openRecord(b)
	if !ok || sum != p.sum || !bytes.Equal(k, key) {
		return nil, corrupt(f.Name(), int64(p.at), "record of %d bytes does not verify", p.size)
	}
	return value, nil
}

// create begins another file. Nothing knows of it before the first transaction that uses it.
func (vs *values) create() (*valueFile, error) {
	n := vs.last + 1
	f, err := os.OpenFile(filepath.Join(vs.dir, valueName(n)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	vs.last = n
	if _, err := f.WriteAt(encodeValueHeader(n), 0); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	vf := &valueFile{number: n, f: f, extent: extent{end: valueHeaderSize}, tail: valueHeaderSize, dirty: true}
	vs.mu.Lock()
	vs.files[n] = vf
	vs.mu.Unlock()
	return vf, nil
}

// sync returns nil when every record is on stable storage. The caller syncs the directory.
func (vs *values) sync() error {
	for _, f := range vs.files {
		if !f.dirty {
			continue
		}
		if err := f.f.Sync(); err != nil {
			return err
		}
		f.dirty = false
	}
	return nil
}

// removeDead removes the files of which nothing is in use. The caller has synced the transactions that say so.
func (vs *values) removeDead() error {
	for n, f := range vs.files {
		if f.live > 0 || f == vs.active {
			continue
		}
		vs.mu.Lock()
		delete(vs.files, n)
		vs.mu.Unlock()
		if f == vs.victim {
			vs.victim = nil
		}
		vs.gone = append(vs.gone, n)
		if err := errors.Join(f.f.Close(), os.Remove(f.f.Name())); err != nil {
			return err
		}
	}
	return nil
}

// close closes all files. Nothing reads any more.
func (vs *values) close() error {
	var err error
	for _, f := range vs.files {
		err = errors.Join(err, f.f.Close())
	}
	return err
}
