package seglog

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spoolmq/spool/store"
)

// memFS is a file system in memory that can lose power. It keeps what is durable beside what is there: of each file the
// contents at its last sync and which parts have been written since, and of each directory the changes since its last
// sync, in order.
type memFS struct {
	mu      sync.Mutex
	entries map[string]*memNode // guarded by mu; by path
	durable map[string]*memNode // guarded by mu; what a power loss leaves for certain
	pending []memChange         // guarded by mu; changes that are not durable, in order
	locked  *memLock            // guarded by mu
	dead    bool                // guarded by mu; the machine is gone: every operation fails
	full    bool                // guarded by mu; taking space fails
	regains bool                // guarded by mu; but not that of files that were removed meanwhile
	room    int64               // guarded by mu; of those
	free    int64               // guarded by mu; what Free answers, 0 for plenty
	ops     int                 // guarded by mu
	die     int                 // guarded by mu; the operation that finds the machine gone, 0 for none
	last    *memFS              // guarded by mu; copy made when the machine died, as the kernel saw it
	noSync  bool                // guarded by mu; a disk that lies: syncs do nothing
	forgets bool                // guarded by mu; syncs of files fail, and what was to be written counts as written then
}

type memNode struct {
	dir    bool
	data   []byte
	synced []byte
	dirty  []span // parts of data written since the last sync; Bound: merged when they touch
}

type span struct{ from, to int64 }

type memChange struct {
	name string
	node *memNode // nil when the entry is removed
	from string   // when it is renamed
}

var errDead = errors.New("the machine is gone")

// setFull makes taking space fail, or not any more.
func (f *memFS) setFull(full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full, f.regains, f.room = full, false, 0
}

// setForgets makes syncs of files fail as they do on Linux: the pages stay in the cache, and no later sync writes them.
func (f *memFS) setForgets() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgets = true
}

// setFullBut makes taking space fail but for that of files that are removed from now on.
func (f *memFS) setFullBut() {
	f.setFull(true)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.regains = true
}

// regaining tells whether the disk has been full since setFullBut.
func (f *memFS) regaining() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.regains
}

func newMemFS() *memFS {
	root := &memNode{dir: true}
	return &memFS{entries: map[string]*memNode{"/": root}, durable: map[string]*memNode{"/": root}}
}

// at counts an operation. Caller holds mu.
func (m *memFS) at() error {
	m.ops++
	if !m.dead && m.die != 0 && m.ops >= m.die {
		m.last = m.copy()
		m.dead = true
	}
	if m.dead {
		return errDead
	}
	return nil
}

// copy returns the file system as it is, unlocked by whoever had it. Caller holds mu.
func (m *memFS) copy() *memFS {
	nodes := map[*memNode]*memNode{nil: nil}
	dup := func(n *memNode) *memNode {
		if _, ok := nodes[n]; !ok {
			nodes[n] = &memNode{n.dir, slices.Clone(n.data), slices.Clone(n.synced), slices.Clone(n.dirty)}
		}
		return nodes[n]
	}
	c := &memFS{entries: map[string]*memNode{}, durable: map[string]*memNode{}, noSync: m.noSync}
	for name, n := range m.entries {
		c.entries[name] = dup(n)
	}
	for name, n := range m.durable {
		c.durable[name] = dup(n)
	}
	for _, p := range m.pending {
		c.pending = append(c.pending, memChange{p.name, dup(p.node), p.from})
	}
	return c
}

// killed returns what the next process finds when this one is killed.
func (m *memFS) killed() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last != nil {
		return m.last
	}
	m.dead, m.last = true, m.copy()
	return m.last
}

// survives takes back that the machine is to die, and tells whether it is alive.
func (m *memFS) survives() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.die = 0
	return !m.dead
}

// dieIn has the machine die at the n-th operation from now on.
func (m *memFS) dieIn(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.die = m.ops + n
}

func (m *memFS) apply(entries map[string]*memNode, c memChange) {
	if c.from != "" {
		delete(entries, c.from)
	}
	if c.node == nil {
		delete(entries, c.name)
		return
	}
	entries[c.name] = c.node
}

// change changes the directory, not durably. Caller holds mu.
func (m *memFS) change(c memChange) {
	m.apply(m.entries, c)
	m.pending = append(m.pending, c)
}

func missing(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

func (m *memFS) OpenFile(name string, flag int) (vfile, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.at(); err != nil {
		return nil, err
	}
	n := m.entries[name]
	switch {
	case n == nil && flag&os.O_CREATE == 0 || m.entries[filepath.Dir(name)] == nil:
		return nil, missing("open", name)
	case n != nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case n == nil && m.full && m.room == 0:
		return nil, syscall.ENOSPC
	case n == nil:
		n = &memNode{}
		m.change(memChange{name: name, node: n})
	case flag&os.O_TRUNC != 0:
		n.data, n.synced, n.dirty = nil, nil, nil
	}
	return &memFile{m, n}, nil
}

// A memMap is a mapping of a file: each Put is an operation of its own.
type memMap struct{ *memFile }

func (m memMap) Put(b []byte, at int64) error {
	_, err := m.WriteAt(b, at)
	return err
}

func (m *memFS) Map(name string, size int64) (mapping, error) {
	f, err := m.OpenFile(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteAt(make([]byte, size), 0)
	return memMap{f.(*memFile)}, err
}

func (m *memFS) Mkdir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.at(); err != nil {
		return err
	}
	if m.entries[name] != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	m.change(memChange{name: name, node: &memNode{dir: true}})
	return nil
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.at(); err != nil {
		return err
	}
	if m.entries[name] == nil {
		return missing("remove", name)
	}
	if m.regains {
		m.room += int64(len(m.entries[name].data))
	}
	m.change(memChange{name: name})
	return nil
}

func (m *memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.at(); err != nil {
		return err
	}
	if m.entries[from] == nil {
		return missing("rename", from)
	}
	m.change(memChange{name: to, node: m.entries[from], from: from})
	return nil
}

// memInfo is a fs.FileInfo and a fs.DirEntry.
type memInfo struct {
	name string
	n    *memNode
}

func (i memInfo) Name() string { return i.name }
func (i memInfo) Size() int64  { return int64(len(i.n.data)) }
func (i memInfo) Mode() fs.FileMode {
	if i.n.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}
func (i memInfo) Type() fs.FileMode          { return i.Mode().Type() }
func (i memInfo) ModTime() time.Time         { return time.Time{} }
func (i memInfo) IsDir() bool                { return i.n.dir }
func (i memInfo) Sys() any                   { return nil }
func (i memInfo) Info() (fs.FileInfo, error) { return i, nil }

func (m *memFS) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.at(); err != nil {
		return nil, err
	}
	if n := m.entries[name]; n != nil {
		return memInfo{filepath.Base(name), n}, nil
	}
	return nil, missing("stat", name)
}

func (m *memFS) List(dir string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.at(); err != nil {
		return nil, err
	}
	if m.entries[dir] == nil {
		return nil, missing("list", dir)
	}
	var list []fs.DirEntry
	for _, name := range slices.Sorted(maps.Keys(m.entries)) {
		if filepath.Dir(name) == dir && name != dir {
			list = append(list, memInfo{filepath.Base(name), m.entries[name]})
		}
	}
	return list, nil
}

func (m *memFS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.at(); err != nil || m.noSync {
		return err
	}
	m.pending = slices.DeleteFunc(m.pending, func(c memChange) bool {
		if filepath.Dir(c.name) != dir {
			return false
		}
		m.apply(m.durable, c)
		return true
	})
	return nil
}

func (m *memFS) Writable(string) error { return nil }

func (m *memFS) Free(string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return cmp.Or(m.free, 1<<40), nil
}

type memLock struct{ m *memFS }

func (m *memFS) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.at(); err != nil {
		return nil, err
	}
	if m.locked != nil {
		return nil, fmt.Errorf("%s: %w", name, store.ErrLocked)
	}
	if m.entries[name] == nil {
		m.change(memChange{name: name, node: &memNode{}})
	}
	m.locked = &memLock{m}
	return m.locked, nil
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.m.locked = nil
	return nil
}

type memFile struct {
	m *memFS
	n *memNode
}

func (f *memFile) ReadAt(b []byte, at int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.m.at(); err != nil {
		return 0, err
	}
	n := copy(b, f.n.data[min(at, int64(len(f.n.data))):])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, at int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.m.at(); err != nil {
		return 0, err
	}
	f.n.write(b, at)
	return len(b), nil
}

func (n *memNode) write(b []byte, at int64) {
	if end := at + int64(len(b)); end > int64(len(n.data)) {
		n.data = append(n.data, make([]byte, end-int64(len(n.data)))...)
	}
	copy(n.data[at:], b)
	n.dirty = append(n.dirty, span{at, at + int64(len(b))})
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return int64(len(f.n.data)), f.m.at()
}

func (f *memFile) Allocate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.m.at(); err != nil {
		return err
	}
	if f.m.full && size > f.m.room {
		return syscall.ENOSPC
	}
	f.m.room = max(0, f.m.room-size)
	f.n.write(make([]byte, size), 0)
	return nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.m.at(); err != nil || f.m.noSync {
		return err
	}
	if f.m.forgets {
		f.n.dirty = nil
		return syscall.EIO
	}
	f.n.sync()
	return nil
}

func (n *memNode) sync() {
	if len(n.synced) < len(n.data) {
		n.synced = append(n.synced, make([]byte, len(n.data)-len(n.synced))...)
	}
	for _, s := range n.dirty {
		copy(n.synced[s.from:s.to], n.data[s.from:s.to])
	}
	n.dirty = n.dirty[:0]
}

func (f *memFile) Close() error { return nil }

// files returns the paths of all files, sorted.
func (m *memFS) files() []string {
	var names []string
	for name, n := range m.entries {
		if !n.dir && !strings.HasSuffix(name, lockName) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// count tells how many files have such names.
func (m *memFS) count(suffix string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range m.files() {
		if strings.HasSuffix(name, suffix) {
			n++
		}
	}
	return n
}
