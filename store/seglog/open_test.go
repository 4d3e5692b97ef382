package seglog

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/spoolmq/spool/store"
)

// tree lists what is in a directory, with contents.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			all = append(all, path+"/")
			return err
		}
		b, err := os.ReadFile(path)
		all = append(all, path+" "+string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestNotStore(t *testing.T) {
	place := func(names ...string) string {
		dir := t.TempDir()
		for _, name := range names {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("something of somebody"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for _, dir := range []string{
		place("file"),
		place("LOCK"),
		place("LOCK", "file"),
		place("lost+found/file"),
		place("log/access.log"),
		place("log/0000000000000001.seg/file"),
		place("index/file"),
		place("index.ok"),
		place("KEY"),
		place("MARK"),
		place("FORMAT.tmp"),
		place("FORMAT/file"),
		place("LOCK/file"),
		place("log"),
	} {
		before := tree(t, dir)
		l, err := Open(dir, Options{})
		if !errors.Is(err, store.ErrNotStore) {
			t.Errorf("Open of %q = %v, want %v", before, err, store.ErrNotStore)
			closeDead(l)
		}
		if after := tree(t, dir); !slices.Equal(before, after) {
			t.Errorf("Open of a directory that is no spool made %q of %q", after, before)
		}
	}
	file := filepath.Join(place("file"), "file")
	if _, err := Open(file, Options{}); !errors.Is(err, store.ErrNotStore) {
		t.Errorf("Open of a file = %v, want %v", err, store.ErrNotStore)
	}
	if _, err := Open(filepath.Join(file, "below"), Options{}); err == nil {
		t.Error("Open below a file succeeded")
	}
}

// TestNotQuiteStore: files that have our names, and are not what we make, are somebody else's.
func TestNotQuiteStore(t *testing.T) {
	for name, content := range map[string]string{
		lockName: "mine", keyName: "SPKY" + strings.Repeat("x", keySize), markName: "SPMK" + strings.Repeat("x", markFile),
		passingName: "spool " + strings.Repeat("x", formatLimit),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		before := tree(t, dir)
		if l, err := Open(dir, Options{}); !errors.Is(err, store.ErrNotStore) {
			t.Errorf("%s: Open = %v, want %v", name, err, store.ErrNotStore)
			closeDead(l)
		}
		if after := tree(t, dir); !slices.Equal(after, before) {
			t.Errorf("%s: there is %q, was %q", name, after, before)
		}
	}
}

// TestTwiceASegment: of two files with the same frames nobody knows which one was written last.
func TestTwiceASegment(t *testing.T) {
	files := newMemFS()
	o := Options{SegmentSize: 4096, files: files}
	h := newHistory()
	l := openTest(t, "/spool", o)
	if err := errors.Join(h.append(l, 300), h.finish(l), l.Close()); err != nil {
		t.Fatal(err)
	}
	n := files.entries["/spool/log/0000000000000001.seg"]
	files.entries["/spool/log/00000000000000ff.seg"] = &memNode{data: slices.Clone(n.data)}
	if l, err := Open("/spool", o); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Open = %v, want %v", err, store.ErrCorrupt)
		closeDead(l)
	}
}

func TestCreate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := os.MkdirAll(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	l := openTest(t, dir, Options{})
	if size := l.Size(); size.Allocated > 8<<20 || size.Live != 0 {
		t.Errorf("an empty log occupies %d bytes, limit %d", size.Allocated, 8<<20)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if err == nil && runtime.GOOS != "windows" && info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// The caller's names are none of ours.
	for _, name := range []string{"index", "index.ok"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	l = openTest(t, dir, Options{})
	defer l.Close()
	if i := l.Info(); i.Created || i.Epoch != 2 {
		t.Errorf("opened again: created %t, epoch %d, want false, 2", i.Created, i.Epoch)
	}
}

// TestCreateIsDurable: what a power loss leaves of a directory that was made is all of it once FORMAT has its name, and its
// parents are made as durably.
func TestCreateIsDurable(t *testing.T) {
	files := newMemFS()
	renamed := false
	o := Options{SegmentSize: 4096, files: files, Step: func(name string) {
		if name != stepCreateRename {
			return
		}
		renamed = true
		for _, c := range files.pending {
			t.Errorf("%s may be lost when FORMAT gets its name", c.name)
		}
	}}
	l := openTest(t, "/a/b/spool", o)
	defer l.Close()
	if !renamed {
		t.Error("FORMAT had no passing name")
	}
	for _, name := range []string{"/a", "/a/b", "/a/b/spool", "/a/b/spool/FORMAT"} {
		if files.durable[name] == nil {
			t.Errorf("%s may be lost when Open has returned", name)
		}
	}
}

// TestCreateKilledThenCut: whatever operation of a creation the process was killed at, what the next one reports to be durable
// has all its names.
func TestCreateKilledThenCut(t *testing.T) {
	for _, dir := range []string{"/spool", "/a/b/spool"} {
		for die, alive := 1, false; !alive; die++ {
			files := newMemFS()
			files.die = die
			o := Options{SegmentSize: 4096, files: files}
			l, err := Open(dir, o)
			alive = err == nil
			o.files = files.killed()
			closeDead(l)
			l = openTest(t, dir, o)
			_, err = l.Append(testPayload(100, 1))
			if err = errors.Join(err, l.Sync(l.End())); err != nil {
				t.Fatal(err)
			}
			end := l.End()
			files = o.files.(*memFS).killed().cut()
			closeDead(l)
			for name := dir; name != "/"; name = filepath.Dir(name) {
				if files.entries[name] == nil {
					t.Errorf("killed at operation %d: %s is gone", die, name)
				}
			}
			o.files = files
			if l, err = Open(dir, o); err != nil || l.End() != end {
				t.Errorf("killed at operation %d: Open = %v, want a log that ends at %d", die, err, end)
			}
			closeDead(l)
		}
	}
}

// A parentFS does not sync the parent of the spool.
type parentFS struct {
	vfs
	err error
}

func (f parentFS) SyncDir(dir string) error {
	if dir == "/" {
		return f.err
	}
	return f.vfs.SyncDir(dir)
}

// TestParentIsNotSynced: a parent that the process may not read, or whose file system does not sync it, is in nobody's way.
func TestParentIsNotSynced(t *testing.T) {
	for _, c := range []struct{ err, want error }{
		{syscall.EACCES, nil}, {syscall.EINVAL, nil}, {syscall.EROFS, nil}, {syscall.ENOTSUP, nil}, {syscall.EIO, syscall.EIO},
	} {
		files := newMemFS()
		if err := files.Mkdir("/spool"); err != nil {
			t.Fatal(err)
		}
		l, err := Open("/spool", Options{files: parentFS{files, c.err}})
		if !errors.Is(err, c.want) {
			t.Errorf("Open = %v where the parent answers %v, want %v", err, c.err, c.want)
		}
		closeDead(l)
	}
}

// TestSeed: a planted log has the identity, the time and the epochs of the other one, and Raise lowers none.
func TestSeed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	seed := Seed{ID: [16]byte{1}, Key: [32]byte{2}, Epoch: 6, HighWater: 7}
	if err := Plant(dir, seed); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ raise, want uint32 }{{0, 7}, {3, 8}, {20, 21}} {
		if err := Raise(dir, c.raise); err != nil {
			t.Fatal(err)
		}
		l := openTest(t, dir, Options{SegmentSize: 64 << 10})
		if i := l.Info(); i.Epoch != c.want || i.SpoolID != seed.ID || i.Key != seed.Key || i.HighWater != seed.HighWater {
			t.Errorf("raised to %d: %+v, want epoch %d", c.raise, i, c.want)
		}
		if err := errors.Join(l.Mark(0, true), l.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSizeIsOfAllFiles: what a log says that it occupies is what its files do, small ones being a page each.
func TestSizeIsOfAllFiles(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, dir, Options{SegmentSize: 64 << 10})
	if err := errors.Join(newHistory().append(l, 100), l.Close()); err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += max(info.Size(), pageSize)
		}
		return err
	})
	if got := l.Size().Allocated; got != sum || err != nil {
		t.Errorf("Size says %d bytes, the files have %d, %v", got, sum, err)
	}
}

// TestMissingFormat: without FORMAT a directory is made anew if no frame is lost by it.
func TestMissingFormat(t *testing.T) {
	for _, frames := range []int{0, 1} {
		files := newMemFS()
		o := Options{SegmentSize: 4096, files: files}
		l := openTest(t, "/spool", o)
		h := newHistory()
		for range frames {
			if err := h.append(l, 50); err != nil {
				t.Fatal(err)
			}
		}
		id := l.Info().SpoolID
		if err := errors.Join(h.finish(l), l.Close(), files.Remove("/spool/FORMAT")); err != nil {
			t.Fatal(err)
		}
		l, err := Open("/spool", o)
		if frames > 0 && !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("Open without FORMAT and with a frame = %v, want %v", err, store.ErrCorrupt)
		}
		if frames == 0 && (err != nil || l.Info().SpoolID == id || !l.Info().Created) {
			t.Errorf("Open without FORMAT and without a frame = %v, want a new spool", err)
		}
		closeDead(l)
	}
}

func TestNewerVersion(t *testing.T) {
	dir := t.TempDir()
	if err := openTest(t, dir, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, markName))
	if err != nil {
		t.Fatal(err)
	}
	newer := append(resealed(b[pageSize:pageSize+markSize], 2), make([]byte, pageSize-markSize)...)
	if err := os.WriteFile(filepath.Join(dir, markName), append(b[:pageSize:pageSize], newer...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, store.ErrFormatVersion) {
		t.Fatalf("Open of a newer version = %v, want %v", err, store.ErrFormatVersion)
	}
}

func TestReadOnlyDirectory(t *testing.T) {
	dir := t.TempDir()
	files := &faultFS{vfs: osFS{}, fault: func(_ int, op string) error {
		if op == "lock" || op == "create" || op == "mkdir" {
			return syscall.EROFS
		}
		return nil
	}}
	if _, err := Open(dir, Options{files: files}); !errors.Is(err, syscall.EROFS) || errors.Is(err, store.ErrNotStore) {
		t.Fatalf("Open in a read-only directory = %v, want %v", err, syscall.EROFS)
	}
}

// TestLocked opens a directory that another process has open.
func TestLocked(t *testing.T) {
	const variable = "SEGLOG_TEST_LOCKED"
	if dir := os.Getenv(variable); dir != "" {
		_, err := Open(dir, Options{})
		if errors.Is(err, store.ErrLocked) {
			os.Stdout.WriteString("locked: " + err.Error())
		}
		os.Exit(0)
	}
	dir := t.TempDir()
	l := openTest(t, dir, Options{})
	defer l.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	child := exec.Command(exe, "-test.run=^TestLocked$")
	child.Env = append(os.Environ(), variable+"="+dir)
	out, err := child.CombinedOutput()
	if pid := "pid " + strconv.Itoa(os.Getpid()); err != nil || !strings.Contains(string(out), pid) {
		t.Fatalf("a second process said %q, %v, want a text with %q", out, err, pid)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, store.ErrLocked) {
		t.Fatalf("Open in the same process = %v, want %v", err, store.ErrLocked)
	}
	if _, err := l.Append(testPayload(10, 1)); err != nil {
		t.Fatalf("Append after others tried to open = %v", err)
	}
}

// A fullFile is a small file on a full disk: it takes what fits the blocks it has, and what it gives up is lost to it.
type fullFile struct {
	text   []byte
	blocks int
}

func (f *fullFile) WriteAt(b []byte, at int64) (int, error) {
	if int(at)+len(b) > f.blocks*pageSize {
		return 0, syscall.ENOSPC
	}
	f.text = append(f.text[:at], append(b, f.text[min(int(at)+len(b), len(f.text)):]...)...)
	return len(b), nil
}

func (f *fullFile) Truncate(size int64) error {
	f.text, f.blocks = f.text[:size], min(f.blocks, (int(size)+pageSize-1)/pageSize)
	return nil
}

// TestLockOnFullDisk: a lock is taken without room for a pid, and none is needed where one stood before.
func TestLockOnFullDisk(t *testing.T) {
	pid := strconv.Itoa(os.Getpid())
	for before, want := range map[string]string{"": "", "1": pid, "12345678901234567": pid} {
		f := &fullFile{text: []byte(before), blocks: min(1, len(before))}
		if err := writePid(f); err != nil || string(f.text) != want {
			t.Errorf("pid over %q = %q, %v, want %q", before, f.text, err, want)
		}
	}
}

// TestForeignSegment: a segment of another spool is not taken for a spare.
func TestForeignSegment(t *testing.T) {
	files := newMemFS()
	o := Options{SegmentSize: 4096, files: files}
	h := newHistory()
	l := openTest(t, "/spool", o)
	if err := errors.Join(h.append(l, 50), l.Close()); err != nil {
		t.Fatal(err)
	}
	alien := encodeHeader(header{id: someID, size: 3 * pageSize, kind: kindPrepared})
	files.entries["/spool/log/00000000000000aa.seg"] = &memNode{data: append(alien, make([]byte, 2*pageSize)...)}
	var corrupt *store.CorruptError
	if _, err := Open("/spool", o); !errors.As(err, &corrupt) || !strings.HasSuffix(corrupt.File, "00aa.seg") {
		t.Fatalf("Open with a segment of another spool = %v, want a *CorruptError that names it", err)
	}
}

// TestLostFormat: a directory that has lost FORMAT is made anew only if nothing else tells that there was something in it.
func TestLostFormat(t *testing.T) {
	for name, damage := range map[string]func(*memFS){
		"and every segment":           func(f *memFS) { delete(f.entries, "/spool/log/0000000000000001.seg") },
		"and the header of a segment": func(f *memFS) { clear(f.entries["/spool/log/0000000000000001.seg"].data[:pageSize]) },
		"and the header, and MARK": func(f *memFS) {
			clear(f.entries["/spool/log/0000000000000001.seg"].data[:pageSize])
			delete(f.entries, "/spool/MARK")
		},
		"and MARK":                   func(f *memFS) { delete(f.entries, "/spool/MARK") },
		"and the whole of a segment": func(f *memFS) { clear(f.entries["/spool/log/0000000000000001.seg"].data) },
		"and all but KEY and the index": func(f *memFS) {
			delete(f.entries, "/spool/log/0000000000000001.seg")
			delete(f.entries, "/spool/MARK")
			f.entries["/spool/index"] = &memNode{dir: true}
		},
		"and all but KEY and the marker of the index": func(f *memFS) {
			delete(f.entries, "/spool/log/0000000000000001.seg")
			delete(f.entries, "/spool/MARK")
			f.entries["/spool/index.ok"] = &memNode{}
		},
	} {
		files := newMemFS()
		o := Options{SegmentSize: 4096, files: files}
		l := openTest(t, "/spool", o)
		h := newHistory()
		if err := errors.Join(h.append(l, 50), h.finish(l), l.Mark(1, true), l.Close(), files.Remove("/spool/FORMAT")); err != nil {
			t.Fatal(err)
		}
		damage(files)
		before := len(files.entries)
		l, err := Open("/spool", o)
		if !errors.Is(err, store.ErrCorrupt) || len(files.entries) != before {
			t.Errorf("Open without FORMAT, %s = %v with %d entries, want %v with %d", name, err, len(files.entries), store.ErrCorrupt, before)
		}
		closeDead(l)
	}
}

// TestForeignMark: MARK and segments of another spool, which agree with each other, are not taken for this one's.
func TestForeignMark(t *testing.T) {
	files := newMemFS()
	o := Options{SegmentSize: 4096, files: files}
	for _, dir := range []string{"/spool", "/other"} {
		l := openTest(t, dir, o)
		h := newHistory()
		if err := errors.Join(h.append(l, 50), h.finish(l), l.Mark(1, true), l.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"/MARK", "/log/0000000000000001.seg"} {
		files.entries["/spool"+name] = files.entries["/other"+name]
	}
	l, err := Open("/spool", o)
	var corrupt *store.CorruptError
	if !errors.As(err, &corrupt) || corrupt.File != "/spool/MARK" {
		t.Errorf("Open with the log of another spool = %v, want a *CorruptError of MARK", err)
	}
	closeDead(l)
}

// TestOlderMark: a log that goes on behind the end that a MARK of an earlier close tells of is damage at that end, in the segment
// that holds it.
func TestOlderMark(t *testing.T) {
	files := newMemFS()
	o := Options{SegmentSize: 4096, files: files}
	h := newHistory()
	var mark *memNode
	var end store.Position
	for range 2 {
		l := openTest(t, "/spool", o)
		for range 5 { // more than a segment
			if err := h.append(l, 1000); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(h.finish(l), l.Mark(1, true)); err != nil {
			t.Fatal(err)
		}
		if mark == nil {
			end = l.End()
			mark = &memNode{data: slices.Clone(files.entries["/spool/MARK"].data)}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	files.entries["/spool/MARK"] = mark
	l, err := Open("/spool", o)
	var corrupt *store.CorruptError
	if !errors.As(err, &corrupt) {
		t.Fatalf("Open with an older MARK = %v, want a *CorruptError", err)
	}
	n := files.entries[corrupt.File]
	if n == nil {
		t.Fatalf("%v: there is no such file", err)
	}
	head, err := decodeHeader(n.data[:pageSize])
	if err != nil || corrupt.Offset != offset(head.base, end) || corrupt.Offset < pageSize || corrupt.Offset > int64(len(n.data)) {
		t.Errorf("%v, of a file of %d bytes; the log ended at %d", corrupt, len(n.data), end)
	}
	closeDead(l)
}
