package seglog

import (
	"fmt"
	"os"
	"strconv"

	"github.com/spoolmq/spool/store"
)

const lockLimit = 20 // Bound: digits of a pid in LOCK that are looked at

// lockedError names the holder of a lock. The text is empty for the moment between its locking and its writing.
func lockedError(name, holder string) error {
	if holder == "" {
		holder = "unknown"
	}
	return fmt.Errorf("%s: %w, pid %s", name, store.ErrLocked, holder)
}

// writePid replaces the contents of the lock file, which the caller has locked.
func writePid(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0)
	return err
}
