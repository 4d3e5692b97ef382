package seglog

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"

	"github.com/spoolmq/spool/store"
)

// syncFile waits until the contents are on stable storage (FlushFileBuffers).
func syncFile(f *os.File) error { return f.Sync() }

// allocate writes the space: setting the end of a file reserves it but leaves reads of it slow and its zeroing late.
func allocate(f *os.File, size int64) error { return writeZeros(f, 0, size) }

// syncDir does nothing: NTFS journals directory entries, and directories cannot be flushed.
func syncDir(string) error { return nil }

// writable does not look: what may be done in a directory is not told by its mode.
func writable(string) error { return nil }

// freeSpace returns how many bytes this process may still take.
func freeSpace(dir string) (int64, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, nil, nil); err != nil {
		return 0, os.NewSyscallError("GetDiskFreeSpaceEx", err)
	}
	return int64(min(free, 1<<62)), nil
}

// lockFile locks one byte far behind the text, so that the next process can read the pid: locks are mandatory here.
func lockFile(f *os.File) error {
	at := windows.Overlapped{Offset: 1 << 30}
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	if err == windows.ERROR_LOCK_VIOLATION {
		return store.ErrLocked
	}
	return err
}

// unlockFile does nothing: the lock is this handle's, and goes with it.
func unlockFile(*os.File) error { return nil }

// noDescriptors tells whether err says that too many files are open.
func noDescriptors(err error) bool { return errors.Is(err, windows.ERROR_TOO_MANY_OPEN_FILES) }

// noSpace tells whether err says that there is no room, as opposed to a fault.
func noSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}
