// Package badgerkv keeps the index of a spool in Badger v4, and its values beside.
//
// It owns one directory and everything in it, and makes of Badger what store.Index promises: a key that was applied and
// synced is there with its value, or an error tells. Badger alone does not promise that: it cuts a write-ahead log short
// at the first byte it cannot read, drops tables that its manifest does not name, ends the process when a table has been
// truncated or the disk is full, and says nothing of most of it. So four things stand around it:
//
//   - Before Badger opens, every file of its is verified here, in the caller's goroutine (verify.go). Any complaint is
//     store.ErrCorrupt, and the answer to it is to throw the directory away and build the index again.
//   - Every transaction also writes one key of our own, so that the versions of what is stored are dense and their
//     highest is known even after compactions; Sync and Close record that version in a file beside (seal.go). What is
//     missing in the middle or at the synced end is therefore noticed by Open.
//   - With less than MinFree bytes free, Badger is neither opened nor written to: it writes through memory maps, and a
//     full disk is a signal that kills the process.
//   - Badger gets little to hold: a value of more than 256 bytes goes to a file of our own, and Badger has a pointer with
//     a checksum (record.go). So its memory, its compactions and the time to verify it depend on the number of keys, not
//     on their values. A value is verified whenever it is read, and one that is damaged is store.ErrCorrupt.
//
// What remains hidden: a block of a table that goes bad while the index is open makes Get answer store.ErrNotFound and
// ends Scan early, because Badger's reads swallow checksum errors. Callers check what they read against counts of their
// own. What was applied after the last Sync may be lost from its end, never from its middle.
//
// The package does not know what keys and values mean.
//
// Format: the directory is Badger's (format 8) with the file SEAL and the value files beside; a caller's key k is stored
// as "k"+k, the key "s" and those that begin with "f" belong to the package.
package badgerkv

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/spoolmq/spool/store"
)

// Limits of the index.
const (
	// MaxValue is the longest value in bytes.
	MaxValue = 256<<10 - 1

	// MaxKey is the longest key in bytes. Badger's own limit is 65,000.
	MaxKey = 32 << 10

	// MinFree is the space in bytes that must be free for Open and Apply to touch Badger. It covers memtables being
	// flushed; a compaction asks for more.
	MinFree = 128 << 20
)

const (
	// descriptorReserve is how many descriptors must be free beside one for every file of the index: what a compaction
	// opens before it closes others. Apply looks again after every descriptorEvery bytes.
	descriptorReserve = 64
	descriptorEvery   = 8 << 20

	// closeTimeout bounds Close. Badger retries a flush that fails for ever.
	closeTimeout = 10 * time.Second

	// closeFree is the free space in bytes below which Close gives Badger up: closing it writes out a memtable.
	closeFree = 8 * memTableSize
)

// Options of an index. The zero value is usable.
type Options struct {
	// Logger gets what Badger says: errors and warnings as such, everything else at debug level. Nil discards it.
	Logger *slog.Logger

	// FreeSpace returns the bytes free for this process on the file system of dir. Nil asks the operating system.
	FreeSpace func(dir string) (int64, error)

	// Home returns why nothing may be done in dir by name any more: somebody else may have it. Then Apply fails, and Close
	// gives Badger up. Nil is never asked.
	Home func() error

	valueFile int64 // size of a value file in bytes; other than valueFileSize in tests
	slack     int64 // cleanSlack, likewise
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FreeSpace == nil {
		o.FreeSpace = freeSpace
	}
	o.valueFile, o.slack = cmp.Or(o.valueFile, valueFileSize), cmp.Or(o.slack, cleanSlack)
	return o
}

// An Index is a store.Index on Badger. After an error from Apply or Sync other than store.ErrNoSpace and a refused
// change, or once Badger has logged an error, it is failed: every call but Size and Close answers the first failure.
type Index struct {
	dir    string // immutable
	opts   Options
	health *health
	db     *badger.DB
	values *values
	writer writer // used by Apply only

	// mu keeps Close from pulling the maps away under a reader: calls hold it for reading, Close for writing.
	mu     sync.RWMutex
	closed bool // guarded by mu

	// Used by Apply, Sync and Close only, which have one caller at a time.
	sealed  uint64 // version recorded in the seal
	written int    // bytes applied since the descriptors were counted
}

var _ store.Index = (*Index)(nil)

// Open opens the index in dir, or creates it when dir is missing or empty. The caller sees to it that nobody else has
// dir: by a lock of its own, which on Windows is the only one that holds while files are verified.
//
// It answers store.ErrNoSpace with less than MinFree bytes free, store.ErrLocked when the directory is in use,
// store.ErrFormatVersion when a newer version wrote it, and store.ErrCorrupt when what is there is not what was synced;
// then nothing has been changed and the caller removes the directory. Other errors are about the machine, such as too few
// file descriptors, and say nothing about the content.
//
// Every file of Badger's is read once; of the value files, only what was not synced. If Badger still fails after that, two
// of its goroutines are lost; there is no way to end them.
func Open(dir string, o Options) (*Index, error) {
	o = o.withDefaults()
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("badgerkv: %w", err)
	}
	if err := requireFree(dir, o, MinFree); err != nil {
		return nil, err
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	found, err := prepare(dir)
	unlock() // Badger takes the same lock again at once.
	if err != nil {
		return nil, err
	}
	ix := &Index{dir: dir, opts: o, health: &health{log: o.Logger}, sealed: found.sealed}
	ix.writer = writer{ix: ix, live: map[*valueFile]int64{}}
	if err := ix.start(found); err != nil {
		return nil, err
	}
	return ix, nil
}

// makeDir makes dir where it is missing, for its owner only.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fi, err := os.Stat(dir)
	if err != nil || fi.Mode().Perm()&0o077 == 0 {
		return err
	}
	return os.Chmod(dir, 0o700)
}

// prepare verifies what is in dir and leaves it so that Badger opens it without trouble.
func prepare(dir string) (found verified, err error) {
	s, err := takeSurvey(dir)
	if err != nil {
		return found, err
	}
	if err := requireDescriptors(descriptorReserve + s.count()); err != nil {
		return found, err
	}
	err = guard("verify", func() error {
		found, err = s.verify()
		return err
	})
	if err != nil {
		return found, err
	}
	return found, errors.Join(s.cutLogs(), s.removeEmpty(), makeDiscard(dir))
}

// start opens Badger and makes sure that it found what verify found.
func (ix *Index) start(found verified) error {
	err := guard("open", func() (err error) {
		ix.db, err = badger.Open(badgerOptions(ix.dir, ix.health))
		return err
	})
	if err != nil {
		return openError(ix.dir, err)
	}
	if err = ix.health.err(); err == nil {
		if got := ix.db.MaxVersion(); got != found.version {
			err = corrupt(ix.dir, 0, "Badger opened version %d, its files hold %d", got, found.version)
		}
	}
	if err == nil {
		err = guard("values", func() (err error) {
			ix.values, err = openValues(ix.dir, ix.opts, ix.db, found)
			return err
		})
	}
	if err == nil {
		err = ix.tighten(false)
	}
	if err != nil && ix.values != nil {
		err = errors.Join(err, ix.values.close())
	}
	if err != nil {
		return errors.Join(err, ix.stop())
	}
	return nil
}

// Size is what the files of the index occupy in bytes: allocated where the operating system tells, else apparent.
func (ix *Index) Size() int64 {
	names, err := os.ReadDir(ix.dir)
	if err != nil {
		return 0
	}
	var n int64
	for _, e := range names {
		if fi, err := e.Info(); err == nil { // Badger removes files at any time
			n += allocated(fi)
		}
	}
	return n
}

// Close flushes what was applied, so that it is on stable storage when it returns nil, and ends Badger. It waits for
// calls that are running. It gives up after 10 seconds, or at once with less than 16 MB free or where Options.Home answers an
// error: then Badger stays, with its goroutines and its lock, until the process ends; what was synced is safe.
func (ix *Index) Close() error {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.closed {
		return store.ErrClosed
	}
	ix.closed = true
	if err := requireFree(ix.dir, ix.opts, closeFree); err != nil {
		return fmt.Errorf("badgerkv: abandoned at close: %w", errors.Join(err, ix.values.close()))
	}
	version := ix.db.MaxVersion()
	err := ix.values.sync()
	if err = errors.Join(err, ix.stop(), ix.values.close()); err != nil {
		return err
	}
	if err := ix.health.err(); err != nil {
		return err
	}
	if version == ix.sealed {
		return nil
	}
	return writeSeal(ix.dir, version) // Badger has synced the directory.
}

// stop closes Badger, for at most closeTimeout.
func (ix *Index) stop() error {
	done := make(chan error, 1)
	go func() { done <- guard("close", ix.db.Close) }()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return errors.Join(fmt.Errorf("badgerkv: abandoned: close took more than %v", closeTimeout), ix.health.err())
	}
}

// enter begins a call: it makes sure that Badger is open and well. The caller calls leave when it returned nil.
func (ix *Index) enter() error {
	ix.mu.RLock()
	err := ix.health.err()
	if ix.closed {
		err = store.ErrClosed
	}
	if err != nil {
		ix.mu.RUnlock()
	}
	return err
}

func (ix *Index) leave() { ix.mu.RUnlock() }

// requireFree answers store.ErrNoSpace when fewer than n bytes are free, and what Home says.
func requireFree(dir string, o Options, n int64) error {
	if o.Home != nil {
		if err := o.Home(); err != nil {
			return fmt.Errorf("badgerkv: %s: %w", dir, err)
		}
	}
	free, err := o.FreeSpace(dir)
	if err != nil {
		return fmt.Errorf("badgerkv: free space of %s: %w", dir, err)
	}
	if free < n {
		return fmt.Errorf("badgerkv: %d bytes free in %s, %d needed: %w", free, dir, n, store.ErrNoSpace)
	}
	return nil
}
