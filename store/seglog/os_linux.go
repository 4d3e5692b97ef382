package seglog

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncFile waits until the contents are on stable storage. fdatasync leaves out the file's times; a size that matters
// for reading is included.
func syncFile(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == unix.EINTR {
			continue // the wait was cut short: nothing has been reported and nothing forgotten
		}
		return os.NewSyscallError("fdatasync", err)
	}
}

// allocate takes the space without writing it. A file system that cannot do so is written to instead.
func allocate(f *os.File, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch err {
		case unix.EINTR:
			continue
		case unix.EOPNOTSUPP, unix.ENOSYS:
			return writeZeros(f, 0, size)
		}
		return os.NewSyscallError("fallocate", err)
	}
}

// freeSpace returns how many bytes an unprivileged process may still take.
func freeSpace(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
