package seglog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/spoolmq/spool/store"
)

// Names in the directory of a spool.
const (
	formatName  = "FORMAT"
	passingName = "FORMAT.tmp"
	keyName     = "KEY"
	markName    = "MARK"
	lockName    = "LOCK"
	logName     = "log"
	indexName   = "index"
	indexMarker = "index.ok"
	lostName    = "lost+found"
)

// Open opens the log in dir, and makes it when the directory is missing or empty. It fails with store.ErrLocked while
// another process has it open, with store.ErrNotStore when the directory holds something else (nothing in it is touched),
// with store.ErrFormatVersion when a newer version made it, and with a *store.CorruptError when what is there is not what
// was written (nothing is deleted).
func Open(dir string, o Options) (*Log, error) {
	o = o.withDefaults()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := inspect(o.files, dir); err != nil {
		return nil, err
	}
	if err := mkdirAll(o.files, dir); err != nil {
		return nil, fmt.Errorf("make %s: %w", dir, err)
	}
	lock, err := o.files.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, err
	}
	l, err := openLocked(dir, o, lock)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return l, nil
}

// openLocked goes on when nobody else can be in the directory.
func openLocked(dir string, o Options, lock io.Closer) (*Log, error) {
	made, err := inspect(o.files, dir)
	if err != nil {
		return nil, err
	}
	if !made {
		if err := create(dir, &o); err != nil && noSpace(err) {
			return nil, fmt.Errorf("make a spool in %s: %w: %v", dir, store.ErrNoSpace, err)
		} else if err != nil {
			return nil, err
		}
	}
	for _, d := range []string{dir, filepath.Join(dir, logName)} {
		if err := o.files.Writable(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	who, err := readIdentity(o.files, dir)
	if err != nil {
		return nil, err
	}
	marker, err := openMarker(o.files, filepath.Join(dir, markName))
	if err != nil {
		return nil, err
	}
	if of := marker.last.id; of != who.id {
		err := &store.CorruptError{File: marker.path, Reason: fmt.Sprintf("of spool %x, want %x", of, who.id)}
		return nil, errors.Join(err, marker.file.Close())
	}
	l := &Log{dir: dir, o: o, lock: lock, ring: makeRing(o.RingSize)}
	l.files = homeFS{o.files, l.Home}
	l.marking.marker = marker
	if !marker.last.clean { // whoever closes it cleanly has come by here
		if err := syncNames(o.files, dir); err != nil {
			return nil, errors.Join(err, marker.file.Close())
		}
	}
	l.info = store.Info{SpoolID: who.id, Key: who.key, HighWater: marker.last.highWater, Clean: marker.last.clean, Created: !made}
	if err := l.recover(); err != nil {
		return nil, errors.Join(err, l.abandon())
	}
	l.openStage()
	l.startSpace()
	return l, nil
}

// abandon closes the files of a log that could not be opened.
func (l *Log) abandon() error {
	err := l.marking.marker.file.Close()
	for _, s := range l.segs.files() {
		err = errors.Join(err, s.close())
	}
	return err
}

// inspect tells whether dir holds a spool. It answers store.ErrNotStore for what is neither a spool nor a place to make
// one, and changes nothing.
func inspect(v vfs, dir string) (made bool, err error) {
	info, err := v.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !info.IsDir() {
		return false, fmt.Errorf("%s is a file: %w", dir, store.ErrNotStore)
	}
	entries, err := v.List(dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.Name() == formatName && !e.IsDir() {
			return true, nil
		}
	}
	// A creation that was cut short may have left some of our files. The caller's come later than FORMAT: they are
	// here without it only when it was lost, and then our own are here too.
	keyed := false
	for _, e := range entries {
		keyed = keyed || e.Name() == keyName
	}
	for _, e := range entries {
		ok, err := ours(v, dir, e, keyed)
		if err != nil {
			return false, err
		}
		if !ok {
			return false, fmt.Errorf("%s holds %s: %w", dir, e.Name(), store.ErrNotStore)
		}
	}
	return false, nil
}

// ours tells whether an entry of a directory without FORMAT is one that we may have made, or may ignore.
func ours(v vfs, dir string, e fs.DirEntry, keyed bool) (bool, error) {
	path := filepath.Join(dir, e.Name())
	switch e.Name() {
	case logName:
		return segmentsOnly(v, path, e)
	case lostName:
		inner, err := v.List(path)
		if errors.Is(err, fs.ErrPermission) {
			return true, nil // the system's own, which others cannot read
		}
		return len(inner) == 0, err
	case indexName:
		return e.IsDir() && keyed, nil
	}
	if !e.Type().IsRegular() {
		return false, nil
	}
	switch e.Name() {
	case lockName:
		b, err := readFile(v, path, lockLimit)
		return len(b) <= lockLimit && len(bytes.Trim(b, "0123456789")) == 0, err
	case indexMarker, stageName:
		return keyed, nil
	case passingName:
		return begins(v, path, formatLimit, "spool ")
	case keyName:
		return begins(v, path, keySize, "SPKY")
	case markName:
		return begins(v, path, markFile, "SPMK")
	}
	return false, nil
}

// segmentsOnly tells whether a directory holds nothing but files with names of segments.
func segmentsOnly(v vfs, path string, e fs.DirEntry) (bool, error) {
	if !e.IsDir() {
		return false, nil
	}
	inner, err := v.List(path)
	for _, e := range inner {
		_, seg := segmentNumber(e.Name(), segmentSuffix)
		_, passing := segmentNumber(e.Name(), passingSuffix)
		if !e.Type().IsRegular() || !seg && !passing {
			return false, nil
		}
	}
	return true, err
}

// begins tells whether a small file begins with magic, or was made and never written: then it is empty or zero.
func begins(v vfs, name string, limit int, magic string) (bool, error) {
	b, err := readFile(v, name, limit)
	if err != nil || len(b) > limit {
		return false, err
	}
	b = b[:min(len(b), len(magic))]
	return string(b) == magic[:len(b)] || len(bytes.Trim(b, "\x00")) == 0, nil
}

// readIdentity reads FORMAT and KEY.
func readIdentity(v vfs, dir string) (identity, error) {
	path := filepath.Join(dir, formatName)
	b, err := readFile(v, path, formatLimit)
	if err != nil {
		return identity{}, err
	}
	id, err := decodeFormat(b)
	if err != nil {
		return identity{}, unreadable(path, err)
	}
	path = filepath.Join(dir, keyName)
	b, err = readFile(v, path, keySize)
	if errors.Is(err, fs.ErrNotExist) {
		return identity{}, &store.CorruptError{File: path, Reason: "missing"}
	}
	if err != nil {
		return identity{}, err
	}
	who, err := decodeKey(b)
	if err != nil {
		return identity{}, unreadable(path, err)
	}
	if who.id != id {
		return identity{}, &store.CorruptError{File: path, Reason: fmt.Sprintf("of spool %x, want %x", who.id, id)}
	}
	return who, nil
}

// unreadable tells a file of a newer version from one that is damaged.
func unreadable(path string, err error) error {
	if errors.Is(err, store.ErrFormatVersion) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return &store.CorruptError{File: path, Reason: err.Error()}
}
