package seglog

import (
	"io/fs"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/spoolmq/spool/store"
)

// A strictFS has files that cannot be synced any more once they are closed, and calls a function before one is synced, once.
type strictFS struct {
	vfs
	sync atomic.Pointer[func()]
}

func (f *strictFS) OpenFile(name string, flag int) (vfile, error) {
	inner, err := f.vfs.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return &strictFile{vfile: inner, fs: f}, nil
}

type strictFile struct {
	vfile
	fs     *strictFS
	closed atomic.Bool
}

func (f *strictFile) Sync() error {
	if hook := f.fs.sync.Swap(nil); hook != nil {
		(*hook)()
	}
	if f.closed.Load() {
		return fs.ErrClosed
	}
	return f.vfile.Sync()
}

func (f *strictFile) Close() error {
	f.closed.Store(true)
	return f.vfile.Close()
}

// emptyLast returns the files of a log that was killed when its last segment had no frame yet.
func emptyLast(t *testing.T) *memFS {
	t.Helper()
	files := newMemFS()
	var killed *memFS
	h := newHistory()
	l := h.open(t, Options{SegmentSize: 4096, files: files, Step: func(name string) {
		if name == stepRollDone && killed == nil {
			killed = files.killed()
		}
	}})
	for killed == nil {
		err := h.append(l, 500)
		if err == nil {
			err = l.Sync(l.End())
		}
		if err != nil && killed == nil {
			t.Fatal(err)
		}
	}
	l.Close()
	return killed
}

// TestDropBesideReplace: the last segment is empty and too small for the next frame, and is replaced while a Drop syncs it.
func TestDropBesideReplace(t *testing.T) {
	files := &strictFS{vfs: emptyLast(t)}
	begun, goOn := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	l, err := Open("/spool", Options{SegmentSize: 4096, files: files, Step: func(name string) {
		if name == stepRollHeader && !once.Swap(true) {
			close(begun)
			<-goOn
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	bounds := l.Boundaries()
	last := func() *segment {
		l.segs.mu.Lock()
		defer l.segs.mu.Unlock()
		return l.segs.last()
	}
	old := last()
	if len(bounds) < 2 || l.End() != old.base {
		t.Fatalf("bounds %d, end %d: the last segment is not empty", bounds, l.End())
	}
	appended := make(chan error, 1)
	go func() {
		p := make([]byte, 10000)
		_, err := l.Append(store.Payload{Parts: [][]byte{p}, Len: len(p)})
		appended <- err
	}()
	<-begun
	hook := func() {
		close(goOn)
		for last() == old { // or until the append holds space.mu and waits
			if !l.space.mu.TryLock() {
				return
			}
			l.space.mu.Unlock()
			runtime.Gosched()
		}
		appended <- <-appended
	}
	files.sync.Store(&hook)
	if err := l.Drop(bounds[len(bounds)-1]); err != nil {
		t.Errorf("Drop = %v", err)
	}
	if err := <-appended; err != nil {
		t.Errorf("Append = %v", err)
	}
	if err := l.usable(); err != nil {
		t.Errorf("the log has failed: %v", err)
	}
}
