package seglog

import (
	"fmt"
	"io"
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

// writePid replaces the contents of the lock file, which the caller has locked. They are written over, not made anew: on a
// full disk somebody else may take a block that is given up. Without room for the pid the next process is not told it.
func writePid(f interface {
	io.WriterAt
	Truncate(size int64) error
}) error {
	pid := strconv.AppendInt(nil, int64(os.Getpid()), 10)
	_, err := f.WriteAt(pid, 0)
	switch {
	case err == nil:
		return f.Truncate(int64(len(pid)))
	case noSpace(err):
		return f.Truncate(0)
	}
	return err
}
