package seglog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spoolmq/spool/store"
)

// A vfs is what the log asks of a file system. In production it is osFS; tests put faults and power losses there.
type vfs interface {
	OpenFile(name string, flag int) (vfile, error) // mode 0600
	Map(name string, size int64) (mapping, error)  // a file of that size, of zeros that were written; made if need be
	Mkdir(name string) error                       // mode 0700
	Remove(name string) error
	Rename(from, to string) error
	Stat(name string) (fs.FileInfo, error)
	List(dir string) ([]fs.DirEntry, error)
	SyncDir(dir string) error            // what was created, renamed and removed in dir survives power loss
	Writable(dir string) error           // nil when files can be made and removed in dir, as far as permissions go
	Free(dir string) (int64, error)      // bytes that an unprivileged process may still take
	Lock(name string) (io.Closer, error) // store.ErrLocked when another holder has it
}

// A vfile is an open file.
type vfile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Allocate(size int64) error // makes the file size bytes long with space for each of them
	Sync() error               // contents and size survive power loss
}

// osFS is the file system of the operating system.
type osFS struct{}

func (osFS) OpenFile(name string, flag int) (vfile, error) {
	f, err := openRegular(name, flag)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func openRegular(name string, flag int) (*os.File, error) {
	if err := regular(name); err != nil {
		return nil, err
	}
	return os.OpenFile(name, flag, 0o600)
}

// regular tells why what stands under a name is no file of a log: to open a pipe may take for ever.
func regular(name string) error {
	if fi, err := os.Stat(name); err == nil && !fi.Mode().IsRegular() {
		return &store.CorruptError{File: name, Reason: "is no regular file"}
	}
	return nil
}

func (osFS) Map(name string, size int64) (mapping, error) {
	return mapFile(name, size)
}

func (osFS) Mkdir(name string) error                { return os.Mkdir(name, 0o700) }
func (osFS) Remove(name string) error               { return os.Remove(name) }
func (osFS) Rename(from, to string) error           { return os.Rename(from, to) }
func (osFS) Stat(name string) (fs.FileInfo, error)  { return os.Stat(name) }
func (osFS) List(dir string) ([]fs.DirEntry, error) { return os.ReadDir(dir) }
func (osFS) SyncDir(dir string) error               { return syncDir(dir) }
func (osFS) Writable(dir string) error              { return writable(dir) }
func (osFS) Free(dir string) (int64, error)         { return freeSpace(dir) }

// Lock takes the lock file and writes the pid into it, for the error that the next process gets.
func (osFS) Lock(name string) (io.Closer, error) {
	f, err := openRegular(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(lockRefused(f, name, err), f.Close())
	}
	if err := writePid(f); err != nil {
		f.Close()
		return nil, err
	}
	return heldLock{f}, nil
}

// lockRefused says why an open lock file could not be locked, and who has it.
func lockRefused(f *os.File, name string, err error) error {
	if !errors.Is(err, store.ErrLocked) {
		return &fs.PathError{Op: "lock", Path: name, Err: err}
	}
	holder := make([]byte, lockLimit)
	n, _ := f.ReadAt(holder, 0)
	return lockedError(name, strings.TrimSpace(string(holder[:n])))
}

// A heldLock is a lock file that this process has locked.
type heldLock struct{ *os.File }

// Close gives the lock up before the file: a child process that is just being started has the open file too, for the
// moment until it runs its own program, and with it the lock.
func (l heldLock) Close() error { return errors.Join(unlockFile(l.File), l.File.Close()) }

// held returns nil while the lock file has its name. It is not there, or another one is, when the directory was moved,
// removed or replaced: what is done by name would be done to somebody else's files. What cannot be found out is not judged.
func (l heldLock) held() error {
	mine, err := l.File.Stat()
	if err != nil {
		return nil
	}
	there, err := os.Stat(l.File.Name())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("the directory was moved or removed: %w", err)
	}
	if err == nil && !os.SameFile(mine, there) {
		return fmt.Errorf("the directory was replaced: %s is not the file that was locked", l.File.Name())
	}
	return nil
}

// A homeFS is a file system for as long as nothing has taken the place of the directory that was locked.
type homeFS struct {
	vfs
	home func() error
}

func (v homeFS) OpenFile(name string, flag int) (vfile, error) {
	if err := v.home(); err != nil {
		return nil, err
	}
	return v.vfs.OpenFile(name, flag)
}

func (v homeFS) Map(name string, size int64) (mapping, error) {
	if err := v.home(); err != nil {
		return nil, err
	}
	return v.vfs.Map(name, size)
}

func (v homeFS) Remove(name string) error {
	if err := v.home(); err != nil {
		return err
	}
	return v.vfs.Remove(name)
}

func (v homeFS) Rename(from, to string) error {
	if err := v.home(); err != nil {
		return err
	}
	return v.vfs.Rename(from, to)
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Allocate(size int64) error { return allocate(f.File, size) }
func (f osFile) Sync() error               { return syncFile(f.File) }

// writeZeros is the portable way to allocate: every byte is written. Pieces of 64 KB leave small folios in the page
// cache, into which the later writes of single pages are cheapest.
func writeZeros(f io.WriterAt, from, to int64) error {
	zeros := make([]byte, min(64<<10, to-from))
	for from < to {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// syncNames makes durable what is in a directory, and the name of the directory itself: a process that was killed while it
// made them may have left them in the page cache only.
func syncNames(v vfs, dir string) error {
	if err := v.SyncDir(dir); err != nil {
		return err
	}
	return syncParent(v, dir)
}

// syncParent makes the name of a directory durable that this process may not have made. Where its parent cannot be read, or is
// on a file system that does not sync it, it is taken to be somebody else's.
func syncParent(v vfs, dir string) error {
	err := v.SyncDir(filepath.Dir(dir))
	for _, passed := range []error{fs.ErrPermission, errors.ErrUnsupported, syscall.EINVAL, syscall.EROFS} {
		if errors.Is(err, passed) {
			return nil
		}
	}
	return err
}

// mkdirAll makes dir and its missing parents.
func mkdirAll(v vfs, dir string) error {
	if _, err := v.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return mkdir(v, dir)
}

// mkdir makes a missing directory and its missing parents, each durable in its own parent before the next one is begun. So is
// the parent that is there: it may be what a creation has left that was cut short.
func mkdir(v vfs, dir string) error {
	parent := filepath.Dir(dir)
	_, err := v.Stat(parent)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		err = mkdir(v, parent)
	} else if err == nil {
		err = syncParent(v, parent)
	}
	if err != nil {
		return err
	}
	if err := v.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return v.SyncDir(parent)
}

// readFile returns the contents of a file that is at most limit bytes long, and its first limit+1 bytes when it is
// longer.
func readFile(v vfs, name string, limit int) ([]byte, error) {
	f, err := v.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, limit+1)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return b[:n], nil
}

// writeFile makes name hold exactly b, durably but for its directory entry.
func writeFile(v vfs, name string, b []byte) error {
	f, err := v.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(b, 0); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
