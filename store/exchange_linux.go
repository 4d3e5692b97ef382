package store

import "golang.org/x/sys/unix"

// Exchange gives two files or directories of one file system each other's names, in one step. It fails where the file
// system cannot.
func Exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}
