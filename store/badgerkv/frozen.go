package badgerkv

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"

	"github.com/spoolmq/spool/store"
)

// A Frozen is an index that is read without Badger: nothing is written, nothing is locked, and no space is needed. It has
// every key in memory, with values of up to 256 bytes; a spool's index has about two keys for 1,024 messages. The caller
// sees to it that nobody has the index open. It answers Get, Scan, Size and Close of store.Index; Apply and Sync are
// refused.
type Frozen struct {
	dir  string
	kept map[string]frozen // by key as Badger has it
	keys []string          // of those that are there, sorted
}

// A frozen value is the newest one of its key.
type frozen struct {
	version uint64
	gone    bool
	pointed bool // the value is a pointer
	value   []byte
}

const metaDelete = 1 << 0 // Badger's mark of a deletion

// Freeze verifies the index in dir as Open does, and reads its keys. It answers store.ErrCorrupt when what is there is not
// what was synced, and store.ErrFormatVersion when a newer version wrote it.
func Freeze(dir string) (*Frozen, error) {
	f := &Frozen{dir: dir, kept: map[string]frozen{}}
	if err := guard("freeze", f.read); err != nil {
		return nil, err
	}
	for k, v := range f.kept {
		if !v.gone {
			f.keys = append(f.keys, k)
		}
	}
	slices.Sort(f.keys)
	return f, nil
}

func (f *Frozen) read() error {
	s, err := takeSurvey(f.dir)
	if err != nil {
		return err
	}
	sealed, found, err := readSeal(f.dir)
	if err == nil && !found {
		err = corrupt(filepath.Join(f.dir, sealName), 0, "missing")
	}
	if err == nil {
		err = s.verifyRest()
	}
	if err != nil {
		return err
	}
	values := &unsynced{dir: f.dir, sealed: sealed}
	defer values.close()
	newest, err := s.verifyTables(values)
	if err == nil {
		newest, err = s.verifyLogs(newest, values)
	}
	if err == nil && newest < sealed {
		err = corrupt(f.dir, 0, "newest version is %d, synced was %d", newest, sealed)
	}
	if err != nil {
		return err
	}
	return errors.Join(f.readTables(s), f.readLogs(s, newest))
}

// readTables takes the keys of tables that have been verified.
func (f *Frozen) readTables(s *survey) error {
	named, err := s.readManifest()
	if err != nil {
		return err
	}
	var buf []byte
	for id := range named {
		if buf, err = readFile(s.tables[id], buf); err != nil {
			return fmt.Errorf("badgerkv: %w", err)
		}
		o := tableOptions()
		t, err := table.OpenInMemoryTable(buf, id, &o)
		if err != nil {
			return corrupt(s.tables[id].path, 0, "%.300v", err)
		}
		it := t.NewIterator(table.NOCACHE)
		for it.Rewind(); it.Valid(); it.Next() {
			v := it.Value()
			f.take(y.ParseKey(it.Key()), v.Value, y.ParseTs(it.Key()), v.Meta, v.UserMeta)
		}
		it.Close()
	}
	return nil
}

// readLogs takes the keys of the transactions that count.
func (f *Frozen) readLogs(s *survey, newest uint64) error {
	for _, log := range s.logs {
		lr, file, err := openLog(log, nil)
		if err != nil {
			return err
		}
		lr.each = func(e entry) {
			if e.version <= newest && e.meta&logEnd == 0 {
				f.take(e.key, e.value, e.version, e.meta, e.userMeta)
			}
		}
		err = lr.readAll(file, log.size)
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (f *Frozen) take(key, value []byte, version uint64, meta, userMeta byte) {
	if !bytes.HasPrefix(key, []byte(userPrefix)) || f.kept[string(key)].version > version {
		return
	}
	f.kept[string(key)] = frozen{version, meta&metaDelete != 0, userMeta == metaPointer, bytes.Clone(value)}
}

// Get returns the value of a key as a fresh slice, or store.ErrNotFound.
func (f *Frozen) Get(key []byte) ([]byte, error) {
	k := append([]byte(userPrefix), key...)
	v, ok := f.kept[string(k)]
	switch {
	case !ok || v.gone:
		return nil, store.ErrNotFound
	case !v.pointed:
		return bytes.Clone(v.value), nil
	}
	p, err := decodePointer(v.value)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(filepath.Join(f.dir, valueName(p.file)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, corrupt(filepath.Join(f.dir, valueName(p.file)), 0, "missing")
	}
	if err != nil {
		return nil, fmt.Errorf("badgerkv: %w", err)
	}
	value, err := readValue(file, p, k)
	return value, errors.Join(err, file.Close())
}

// Scan returns up to limit entries with from ≤ key < to in the order of their keys; a nil to means no upper end.
func (f *Frozen) Scan(from, to []byte, limit int) (entries []store.Entry, err error) {
	i, _ := slices.BinarySearch(f.keys, userPrefix+string(from))
	for ; i < len(f.keys) && len(entries) < limit; i++ {
		key := []byte(f.keys[i][len(userPrefix):])
		if to != nil && bytes.Compare(key, to) >= 0 {
			break
		}
		value, err := f.Get(key)
		if err != nil {
			return nil, err
		}
		entries = append(entries, store.Entry{Key: key, Value: value})
	}
	return entries, nil
}

// Apply is refused.
func (f *Frozen) Apply([]store.Change) error {
	return fmt.Errorf("badgerkv: %s: %w", f.dir, fs.ErrPermission)
}

// Sync has nothing to do.
func (f *Frozen) Sync() error { return nil }

// Size is how many keys there are.
func (f *Frozen) Size() int64 { return int64(len(f.keys)) }

// Close has nothing to do.
func (f *Frozen) Close() error { return nil }
