package seglog

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncFile waits until the contents are on stable storage. Sync asks for F_FULLFSYNC here: plain fsync leaves them in
// the disk's cache.
func syncFile(f *os.File) error { return f.Sync() }

// allocate writes the space, because F_PREALLOCATE reserves it without making it part of the file.
func allocate(f *os.File, size int64) error { return writeZeros(f, 0, size) }

// freeSpace returns how many bytes an unprivileged process may still take.
func freeSpace(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
