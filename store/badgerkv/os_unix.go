//go:build unix && !aix

package badgerkv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/spoolmq/spool/store"
)

// lockDir takes the lock that Badger takes, so that the files of an index in use are not judged. unlock lets it go.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("badgerkv: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = store.ErrLocked
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("badgerkv: %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// noDescriptors tells whether a file could not be opened because others are.
func noDescriptors(err error) bool { return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) }

// requireDescriptors makes sure that n more files can be opened: a compaction that cannot create its table loses keys.
func requireDescriptors(n int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil // The limit is unknown; so is the harm.
	}
	used := openDescriptors()
	if free := int64(min(uint64(limit.Cur), 1<<30)) - int64(used); free < int64(n) {
		return fmt.Errorf("badgerkv: %d file descriptors free of %d, %d needed: raise the limit (ulimit -n)", free, limit.Cur, n)
	}
	return nil
}

// openDescriptors counts the open files of this process, 0 where the system does not list them.
func openDescriptors() int {
	for _, dir := range []string{"/proc/self/fd", "/dev/fd"} {
		if names, err := os.ReadDir(dir); err == nil {
			return len(names)
		}
	}
	return 0
}

// allocated is what a file occupies, holes not counted.
func allocated(fi fs.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int64(st.Blocks) * 512
	}
	return fi.Size()
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
