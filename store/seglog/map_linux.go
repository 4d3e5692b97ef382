package seglog

import (
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// A memory is a file mapped into memory.
type memory []byte

// mapFile maps a file of zeros. They are written, so that a page is never without its place on the disk.
func mapFile(name string, size int64) (mapping, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return nil, err
	}
	if err := writeZeros(f, 0, size); err != nil {
		return nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return memory(b), nil
}

// Put copies b. Where the file was cut off, or a page that had left memory cannot be read, the copy is a fault that would
// end the process.
func (m memory) Put(b []byte, at int64) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("write %d bytes into the mapping at %d: %v", len(b), at, fault)
		}
	}()
	copy(m[at:], b)
	return nil
}

func (m memory) Close() error { return os.NewSyscallError("munmap", unix.Munmap(m)) }
