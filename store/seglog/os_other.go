//go:build freebsd || netbsd || openbsd || dragonfly

package seglog

import (
	"errors"
	"os"
)

// syncFile waits until the contents are on stable storage.
func syncFile(f *os.File) error { return f.Sync() }

// allocate writes the space: there is no call that all of these systems share.
func allocate(f *os.File, size int64) error { return writeZeros(f, 0, size) }

// freeSpace is not known here: segments are then sized by traffic alone.
func freeSpace(string) (int64, error) { return 0, errors.ErrUnsupported }
