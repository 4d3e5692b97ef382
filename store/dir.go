package store

import (
	"errors"
	"os"
	"runtime"
)

// SyncDir makes what was created, renamed or removed in a directory stable. Windows does so by itself and refuses to be
// asked.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
