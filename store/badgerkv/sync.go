package badgerkv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spoolmq/spool/store"
)

// Sync returns nil when everything applied before is on stable storage. Without a descriptor it answers store.ErrNoSpace, and
// may be called again. Any other error fails the index: a sync that has failed is never tried twice.
//
// Badger's own Sync covers the memtable in use. After a switch of memtables the log of the previous one has been written
// but not synced, until it has become a table; so all logs are synced here through descriptors of our own, which takes in
// what was written through the map (not on Windows, where a lost end is what the seal is there to notice). Tables and the
// manifest are synced by Badger when they are written; the directory, which names them, is not always.
//
// What is synced includes that nothing of some value files is in use any more, so these are removed.
func (ix *Index) Sync() error {
	if err := ix.enter(); err != nil {
		return err
	}
	defer ix.leave()
	version := ix.db.MaxVersion()
	if version == ix.sealed {
		return nil
	}
	if err := ix.flush(version); err != nil && noDescriptors(err) && ix.health.err() == nil {
		return fmt.Errorf("badgerkv: sync: %w: %w", store.ErrNoSpace, err)
	} else if err != nil {
		return ix.health.fail(fmt.Errorf("badgerkv: index failed: sync: %w", err))
	}
	ix.sealed = version
	if err := ix.values.removeDead(); err != nil {
		return ix.health.fail(fmt.Errorf("badgerkv: index failed: sync: %w", err))
	}
	return nil
}

func (ix *Index) flush(version uint64) error {
	if err := ix.values.sync(); err != nil { // before the pointers
		return err
	}
	if err := guard("sync", ix.db.Sync); err != nil {
		return err
	}
	if err := ix.tighten(true); err != nil {
		return err
	}
	if err := syncDir(ix.dir); err != nil {
		return err
	}
	if err := ix.health.err(); err != nil { // Badger only logs what fails in its goroutines.
		return err
	}
	return writeSeal(ix.dir, version) // Commit point: the version counts as synced.
}

// tighten takes the rights of others from the files that Badger created with the process's umask, and syncs the logs when
// asked. A file that is gone has become part of a table.
func (ix *Index) tighten(syncLogs bool) error {
	names, err := os.ReadDir(ix.dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		path := filepath.Join(ix.dir, e.Name())
		err := tightenFile(path, e)
		if err == nil && syncLogs && filepath.Ext(path) == walExt {
			err = syncFile(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func tightenFile(path string, e fs.DirEntry) error {
	fi, err := e.Info()
	if err != nil || fi.Mode().Perm()&0o077 == 0 {
		return err
	}
	return os.Chmod(path, 0o600)
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
