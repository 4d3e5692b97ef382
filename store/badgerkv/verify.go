package badgerkv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"

	"github.com/spoolmq/spool/store"
)

// verified is what an index was found to hold.
type verified struct {
	version uint64 // of the newest transaction in its files
	sealed  uint64 // version that was synced, at most version
	values  []file // value files there are
}

// verify reads everything that Badger is going to read and answers store.ErrCorrupt unless
//
//   - every table that the manifest names is there and whole (others are left from a flush or compaction that was cut
//     off, and Badger removes them),
//   - the logs continue the tables and each other without a gap: versions are dense,
//   - the newest version is at least the sealed one,
//   - the values that were applied after it are whole (those before are verified when they are read),
//   - the files without content of ours are as Badger made them.
//
// A log that ends in the middle of a transaction is what a crash leaves. A new directory is given a seal.
func (s *survey) verify() (verified, error) {
	sealed, found, err := readSeal(s.dir)
	if err != nil {
		return verified{}, err
	}
	if !found {
		return verified{}, s.begin()
	}
	if err := s.verifyRest(); err != nil {
		return verified{}, err
	}
	values := &unsynced{dir: s.dir, sealed: sealed}
	defer values.close()
	version, err := s.verifyTables(values)
	if err != nil {
		return verified{}, err
	}
	if version, err = s.verifyLogs(version, values); err != nil {
		return verified{}, err
	}
	if version < sealed {
		return verified{}, corrupt(s.dir, 0, "newest version is %d, synced was %d", version, sealed)
	}
	return verified{version: version, sealed: sealed, values: s.values}, nil
}

// begin writes the seal of a new index, before Badger writes anything: files of Badger's without a seal are not ours.
func (s *survey) begin() error {
	if s.manifest || s.count() > 0 {
		return corrupt(filepath.Join(s.dir, sealName), 0, "missing")
	}
	return writeSeal(s.dir, 0)
}

// verifyTables checks the tables of the manifest and returns the newest version in them.
func (s *survey) verifyTables(values *unsynced) (newest uint64, err error) {
	named, err := s.readManifest()
	if err != nil {
		return 0, err
	}
	var buf []byte
	for id, tm := range named {
		f, ok := s.tables[id]
		if !ok {
			return 0, corrupt(table.NewFilename(id, s.dir), 0, "missing, the manifest names it")
		}
		if tm.Level >= maxLevels || tm.KeyID != 0 || tm.Compression != 0 {
			return 0, corrupt(f.path, 0, "level %d, key %d, compression %d", tm.Level, tm.KeyID, tm.Compression)
		}
		var version uint64
		if version, buf, err = verifyTable(f, buf, values); err != nil {
			return 0, err
		}
		newest = max(newest, version)
	}
	return newest, nil
}

// readManifest returns the tables that the manifest names. Without a manifest there may be no tables: Badger would remove
// them. Changes cut off at its end are noticed by what is missing then: a table, or a version.
func (s *survey) readManifest() (map[uint64]badger.TableManifest, error) {
	path := filepath.Join(s.dir, badger.ManifestFilename)
	if !s.manifest {
		if len(s.tables) > 0 {
			return nil, corrupt(path, 0, "missing beside %d tables", len(s.tables))
		}
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("badgerkv: %w", err)
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, 0, badger.Options{})
	if err != nil {
		return nil, corrupt(path, 0, "%v", err)
	}
	return m.Tables, nil
}

// verifyTable opens a table in memory as Badger would, checks every block, and returns the newest version in it. buf is
// used for the content and returned, grown where needed.
func verifyTable(f file, buf []byte, values *unsynced) (version uint64, _ []byte, err error) {
	buf, err = readFile(f, buf)
	if err != nil {
		return 0, buf, fmt.Errorf("badgerkv: %w", err)
	}
	if err := verifyFooter(f.path, buf); err != nil {
		return 0, buf, err
	}
	var t *table.Table
	err = guard("table", func() (err error) {
		o := tableOptions()
		if t, err = table.OpenInMemoryTable(buf, f.id, &o); err != nil {
			return err
		}
		return t.VerifyChecksum()
	})
	if err != nil {
		return 0, buf, corrupt(f.path, 0, "%.300v", err)
	}
	return t.MaxVersion(), buf, guard("table", func() error { return values.verifyTable(f.path, t) })
}

// unsynced looks at the values that were applied after the last sync: a power failure may have kept the pointer to a value
// and lost the value.
type unsynced struct {
	dir    string
	sealed uint64
	f      *os.File // the file looked at last, or nil
	number uint32   // of f
}

// verifyTable looks at the values of a table. What is lost here cannot be cut off.
func (u *unsynced) verifyTable(path string, t *table.Table) error {
	if t.MaxVersion() <= u.sealed {
		return nil
	}
	it := t.NewIterator(table.NOCACHE)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		v := it.Value()
		if v.UserMeta != metaPointer {
			continue
		}
		key, version := y.ParseKey(it.Key()), y.ParseTs(it.Key())
		if whole, err := u.whole(key, v.Value, version); err != nil {
			return err
		} else if !whole {
			return corrupt(path, 0, "the value of %.40q at version %d is lost", key, version)
		}
	}
	return nil
}

// whole tells whether a value is what its pointer says, or was synced.
func (u *unsynced) whole(key, value []byte, version uint64) (bool, error) {
	if version <= u.sealed {
		return true, nil
	}
	p, err := decodePointer(value)
	if err != nil {
		return false, err
	}
	if err := u.open(p.file); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("badgerkv: %w", err)
	}
	_, err = readValue(u.f, p, key)
	if errors.Is(err, store.ErrCorrupt) {
		return false, nil
	}
	return err == nil, err
}

func (u *unsynced) open(number uint32) (err error) {
	if u.f != nil && u.number == number {
		return nil
	}
	u.close()
	u.number = number
	u.f, err = os.Open(filepath.Join(u.dir, valueName(number)))
	return err
}

func (u *unsynced) close() {
	if u.f != nil {
		u.f.Close()
		u.f = nil
	}
}

// readFile reads a whole file into buf or, where that is too small, into a new slice.
func readFile(f file, buf []byte) ([]byte, error) {
	r, err := os.Open(f.path)
	if err != nil {
		return buf, err
	}
	defer r.Close()
	if int64(cap(buf)) < f.size {
		buf = make([]byte, f.size)
	}
	buf = buf[:f.size]
	_, err = io.ReadFull(r, buf)
	return buf, err
}

// verifyFooter checks the lengths at the end of a table, which Badger follows before it has checked anything. Read from
// the end: length of the checksum (uint32, big endian), checksum, length of the index, index.
func verifyFooter(path string, b []byte) error {
	const length, longestChecksum = 4, 64
	rest := len(b)
	for _, part := range []struct {
		name    string
		longest int
	}{{"checksum", longestChecksum}, {"index", len(b)}} {
		n := uint64(0)
		if rest >= length {
			n = uint64(binary.BigEndian.Uint32(b[rest-length : rest]))
		}
		if n == 0 || n > uint64(part.longest) || n+length > uint64(rest) {
			return corrupt(path, int64(rest), "%s of %d bytes in a table of %d", part.name, n, len(b))
		}
		rest -= length + int(n)
	}
	return nil
}

// verifyRest checks the files that hold nothing of ours, since Badger stumbles over them all the same.
func (s *survey) verifyRest() error {
	for _, f := range s.vlogs {
		if err := verifyBlank(f.path, f.size, logHeaderSize); err != nil {
			return err
		}
	}
	discard := filepath.Join(s.dir, discardName)
	fi, err := os.Stat(discard)
	if err == nil {
		err = verifyBlank(discard, fi.Size(), 0)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.verifyRegistry()
}

// verifyRegistry checks the list of encryption keys, which is empty.
func (s *survey) verifyRegistry() error {
	const longest = 64 // 28 in Badger 4.9; a damaged length of a key beyond that would be allocated
	path := filepath.Join(s.dir, badger.KeyRegistryFileName)
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Badger writes a new one
	}
	if err != nil {
		return fmt.Errorf("badgerkv: %w", err)
	}
	if fi.Size() > longest {
		return corrupt(path, longest, "%d bytes, want an empty list", fi.Size())
	}
	if _, err := badger.OpenKeyRegistry(badger.KeyRegistryOptions{Dir: s.dir, ReadOnly: true}); err != nil {
		return corrupt(path, 0, "%v", err)
	}
	return nil
}

// verifyBlank makes sure that a file is all zeros but for a header, of which the first eight bytes, the number of an
// encryption key, are zero as well.
func verifyBlank(path string, size, header int64) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("badgerkv: %w", err)
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	for at := int64(0); at < size; at += int64(len(buf)) {
		n, err := f.ReadAt(buf, at)
		if err != nil && err != io.EOF {
			return corrupt(path, at, "%v", err)
		}
		for i, b := range buf[:n] {
			if b != 0 && !inHeader(at+int64(i), header) {
				return corrupt(path, at+int64(i), "byte %#02x in a file that holds nothing", b)
			}
		}
	}
	return nil
}

// inHeader is whether offset at lies in the random part of a header.
func inHeader(at, header int64) bool { return at >= logKeyID && at < header }
