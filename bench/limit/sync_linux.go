package limit

import (
	"os"

	"golang.org/x/sys/unix"
)

func allocate(f *os.File, size int64) error { return unix.Fallocate(int(f.Fd()), 0, 0, size) }

func datasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
