package seglog

import (
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
)

// faultFS passes everything on, except what it is told to refuse.
type faultFS struct {
	vfs

	mu    sync.Mutex
	full  bool                         // guarded by mu; taking space answers ENOSPC
	ops   int                          // guarded by mu; operations so far
	fault func(n int, op string) error // guarded by mu; the answer to the n-th operation, nil to pass it on
}

// at counts an operation and returns what it has to fail with.
func (f *faultFS) at(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops++
	if f.full && (op == "allocate" || op == "create") {
		return syscall.ENOSPC
	}
	if f.fault != nil {
		return f.fault(f.ops, op)
	}
	return nil
}

func (f *faultFS) setFull(full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full = full
}

func (f *faultFS) OpenFile(name string, flag int) (vfile, error) {
	op := "open"
	if flag&os.O_CREATE != 0 {
		op = "create"
	}
	if err := f.at(op); err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	inner, err := f.vfs.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return &faultFile{inner, f}, nil
}

func (f *faultFS) Map(name string, size int64) (mapping, error) {
	if err := f.at("map"); err != nil {
		return nil, err
	}
	inner, err := f.vfs.Map(name, size)
	return &faultMap{inner, f}, err
}

type faultMap struct {
	mapping
	f *faultFS
}

func (m *faultMap) Put(b []byte, at int64) error {
	if err := m.f.at("put"); err != nil {
		return err
	}
	return m.mapping.Put(b, at)
}

func (f *faultFS) Mkdir(name string) error {
	if err := f.at("mkdir"); err != nil {
		return err
	}
	return f.vfs.Mkdir(name)
}

func (f *faultFS) Remove(name string) error {
	if err := f.at("remove"); err != nil {
		return err
	}
	return f.vfs.Remove(name)
}

func (f *faultFS) Rename(from, to string) error {
	if err := f.at("rename"); err != nil {
		return err
	}
	return f.vfs.Rename(from, to)
}

func (f *faultFS) Stat(name string) (fs.FileInfo, error) {
	if err := f.at("stat"); err != nil {
		return nil, err
	}
	return f.vfs.Stat(name)
}

func (f *faultFS) List(dir string) ([]fs.DirEntry, error) {
	if err := f.at("list"); err != nil {
		return nil, err
	}
	return f.vfs.List(dir)
}

func (f *faultFS) SyncDir(dir string) error {
	if err := f.at("syncdir"); err != nil {
		return err
	}
	return f.vfs.SyncDir(dir)
}

func (f *faultFS) Writable(dir string) error {
	if err := f.at("access"); err != nil {
		return err
	}
	return f.vfs.Writable(dir)
}

func (f *faultFS) Free(dir string) (int64, error) {
	if err := f.at("free"); err != nil {
		return 0, err
	}
	return f.vfs.Free(dir)
}

func (f *faultFS) Lock(name string) (io.Closer, error) {
	if err := f.at("lock"); err != nil {
		return nil, err
	}
	return f.vfs.Lock(name)
}

type faultFile struct {
	vfile
	fs *faultFS
}

func (f *faultFile) ReadAt(b []byte, at int64) (int, error) {
	if err := f.fs.at("read"); err != nil {
		return 0, err
	}
	return f.vfile.ReadAt(b, at)
}

func (f *faultFile) WriteAt(b []byte, at int64) (int, error) {
	if err := f.fs.at("write"); err != nil {
		return 0, err
	}
	return f.vfile.WriteAt(b, at)
}

func (f *faultFile) Size() (int64, error) {
	if err := f.fs.at("size"); err != nil {
		return 0, err
	}
	return f.vfile.Size()
}

func (f *faultFile) Allocate(size int64) error {
	if err := f.fs.at("allocate"); err != nil {
		return err
	}
	return f.vfile.Allocate(size)
}

func (f *faultFile) Sync() error {
	if err := f.fs.at("sync"); err != nil {
		return err
	}
	return f.vfile.Sync()
}

func (f *faultFile) Close() error {
	if err := f.fs.at("close"); err != nil {
		f.vfile.Close()
		return err
	}
	return f.vfile.Close()
}
