package badgerkv

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/spoolmq/spool/store"
)

// space is a FreeSpace hook with n bytes free, which the test may change.
type space struct{ free int64 }

func (s *space) options() Options {
	return Options{FreeSpace: func(string) (int64, error) { return s.free, nil }}
}

func TestOpenWithoutSpace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "idx")
	room := &space{MinFree - 1}
	if _, err := Open(dir, room.options()); !errors.Is(err, store.ErrNoSpace) {
		t.Fatalf("Open with %d bytes free = %v, want %v", room.free, err, store.ErrNoSpace)
	}
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Errorf("Open left %v, want nothing", names)
	}
	room.free = MinFree
	ix, err := Open(dir, room.options())
	must(t, err)
	must(t, ix.Close())
}

// TestApplyWithoutSpace: nothing is written, reading goes on, and when room is back so does writing.
func TestApplyWithoutSpace(t *testing.T) {
	room := &space{MinFree}
	ix, err := Open(t.TempDir(), room.options())
	must(t, err)
	defer func() { must(t, ix.Close()) }()
	h := history{100}
	must(t, h.write(ix, 0, 3))
	room.free = MinFree - 1
	if err := h.write(ix, 3, 4); !errors.Is(err, store.ErrNoSpace) {
		t.Fatalf("Apply with %d bytes free = %v, want %v", room.free, err, store.ErrNoSpace)
	}
	if n, err := h.prefix(ix); err != nil || n != 3 {
		t.Errorf("%d batches, %v, want 3", n, err)
	}
	must(t, ix.Sync())
	room.free = MinFree
	must(t, h.write(ix, 3, 4))
	if n, err := h.prefix(ix); err != nil || n != 4 {
		t.Errorf("%d batches, %v, want 4", n, err)
	}
}

// TestSpaceEndsInABatch: what was applied of a large batch is a prefix of its changes.
func TestSpaceEndsInABatch(t *testing.T) {
	calls, room := 0, int64(MinFree)
	ix, err := Open(t.TempDir(), Options{FreeSpace: func(string) (int64, error) {
		calls++
		if calls == 4 { // Open, and two transactions
			return MinFree - 1, nil
		}
		return room, nil
	}})
	must(t, err)
	defer func() { must(t, ix.Close()) }()
	var batch []store.Change
	for i := range 100 {
		batch = append(batch, store.Change{Key: fmt.Appendf(nil, "%03d", i), Value: make([]byte, 10_000)})
	}
	if err := ix.Apply(batch); !errors.Is(err, store.ErrNoSpace) {
		t.Fatalf("Apply = %v, want %v", err, store.ErrNoSpace)
	}
	got, err := ix.Scan(nil, nil, 1000)
	must(t, err)
	if len(got) < 40 || len(got) > 70 {
		t.Errorf("%d changes were made, want two transactions of about 30", len(got))
	}
	for i, e := range got {
		if string(e.Key) != string(batch[i].Key) {
			t.Errorf("change %d is of %q, want %q", i, e.Key, batch[i].Key)
		}
	}
	must(t, ix.Apply(batch))
}

// TestFreeSpaceFails: not knowing is not having.
func TestFreeSpaceFails(t *testing.T) {
	boom := errors.New("boom")
	_, err := Open(t.TempDir(), Options{FreeSpace: func(string) (int64, error) { return 1 << 40, boom }})
	if !errors.Is(err, boom) {
		t.Errorf("Open = %v, want %v", err, boom)
	}
}

func TestRealFreeSpace(t *testing.T) {
	free, err := freeSpace(t.TempDir())
	if err != nil || free <= 0 {
		t.Errorf("freeSpace = %d, %v", free, err)
	}
	if _, err := freeSpace(filepath.Join(t.TempDir(), "missing")); err == nil && runtime.GOOS == "linux" {
		t.Error("freeSpace of a missing directory = nil, want an error")
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	ix := mustOpen(t, dir)
	if other, err := Open(dir, Options{}); !errors.Is(err, store.ErrLocked) && runtime.GOOS != "windows" {
		if err == nil {
			other.Close()
		}
		t.Errorf("second Open = %v, want %v", err, store.ErrLocked)
	}
	must(t, ix.Close())
	must(t, mustOpen(t, dir).Close())
}

// TestCloseWithoutSpace: Badger is left alone, which keeps its goroutines, so a child does it.
func TestCloseWithoutSpace(t *testing.T) {
	dir := t.TempDir()
	if out := runChild(t, "close without space", dir); !strings.Contains(out, store.ErrNoSpace.Error()) {
		t.Errorf("Close = %s, want %v", out, store.ErrNoSpace)
	}
	ix := mustOpen(t, dir)
	defer func() { must(t, ix.Close()) }()
	if n, err := (history{100}).prefix(ix); err != nil || n < 5 {
		t.Errorf("%d batches, %v, want the 5 synced", n, err)
	}
}

// TestAway: in a directory that may be somebody else's by now nothing is written, not even at Close.
func TestAway(t *testing.T) {
	dir := t.TempDir()
	if out := runChild(t, "away", dir); !strings.Contains(out, "Apply: badgerkv: index failed") || !strings.Contains(out, "Close: badgerkv: abandoned") ||
		strings.Count(out, "moved away") != 2 {
		t.Errorf("%s, want that both calls tell why", out)
	}
	ix := mustOpen(t, dir)
	defer func() { must(t, ix.Close()) }()
	if n, err := (history{100}).prefix(ix); err != nil || n != 5 {
		t.Errorf("%d batches, %v, want the 5 synced", n, err)
	}
}

const fewDescriptors = 40

var descriptorsControl = flag.Bool("badgerkv.descriptors.control", false, "a control: TestDescriptors does not lower the limit, and must fail")

// TestDescriptors: with too few descriptors Open fails with an error about them, not about the content.
func TestDescriptors(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no descriptor limit")
	}
	limit := fewDescriptors
	if *descriptorsControl {
		limit = 1000
	}
	out := runChild(t, "descriptors", t.TempDir(), strconv.Itoa(limit))
	if !strings.HasPrefix(out, "plain: ") || !strings.Contains(out, "file descriptors free of 40, 64 needed") {
		t.Errorf("Open with 40 descriptors: %s, want a plain error that names 40 and 64", out)
	}
	out = runChild(t, "descriptors later", t.TempDir(), strconv.Itoa(limit))
	if !strings.Contains(out, "file descriptors free of 40, 64 needed") || !strings.HasSuffix(out, "\n<nil>\n") {
		t.Errorf("Apply with 40 descriptors, then with many: %s, want an error and nil", out)
	}
	if out = runChild(t, "sync without descriptors", t.TempDir()); out != "true\n<nil>\n<nil>\n" {
		t.Errorf("Sync without a descriptor, then with many, and what is there after: %s, want a want of space, and all", out)
	}
}

// largeBatch has n bytes of values in it.
func largeBatch(n int) []store.Change {
	const size = 16 << 10
	batch := make([]store.Change, n/size)
	for i := range batch {
		batch[i] = store.Change{Key: fmt.Appendf(nil, "%06d", i), Value: make([]byte, size)}
	}
	return batch
}

// TestOpenOfAFile: a mistake of the caller is not a corrupt index.
func TestOpenOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	if _, err := Open(file, Options{}); err == nil || errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Open of a file = %v, want a plain error", err)
	}
}

// TestOpenWithoutPermission: nor is one that cannot be read.
func TestOpenWithoutPermission(t *testing.T) {
	if os.Getuid() == 0 || runtime.GOOS == "windows" {
		t.Skip("root and Windows read files of mode 0")
	}
	dir := t.TempDir()
	must(t, mustOpen(t, dir).Close())
	must(t, os.Chmod(filepath.Join(dir, "MANIFEST"), 0))
	if _, err := Open(dir, Options{}); err == nil || errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Open = %v, want a plain error", err)
	}
}

// TestPanics: a panic in a call is an error and fails the index.
func TestPanics(t *testing.T) {
	ix := mustOpen(t, t.TempDir())
	must(t, ix.db.Close()) // behind the back of ix: NewIterator panics now
	if _, err := ix.Scan(nil, nil, 1); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Scan = %v, want %v", err, store.ErrCorrupt)
	}
	if err := ix.Apply([]store.Change{set("a", "1")}); err == nil {
		t.Error("Apply after a panic = nil, want an error")
	}
	if err := ix.Close(); err == nil {
		t.Error("Close after a panic = nil, want an error")
	}
}

func init() {
	childTasks["close without space"] = func(args []string) error {
		room := &space{MinFree}
		ix, err := Open(args[0], room.options())
		if err != nil {
			return err
		}
		h := history{100}
		if err := errors.Join(h.write(ix, 0, 5), ix.Sync(), h.write(ix, 5, 9)); err != nil {
			return err
		}
		room.free = 1
		fmt.Print(ix.Close())
		return nil
	}
	childTasks["away"] = func(args []string) error {
		var away error
		ix, err := Open(args[0], Options{Home: func() error { return away }})
		if err != nil {
			return err
		}
		h := history{100}
		if err := errors.Join(h.write(ix, 0, 5), ix.Sync()); err != nil {
			return err
		}
		away = errors.New("moved away")
		fmt.Println("Apply:", h.write(ix, 5, 6))
		fmt.Println("Close:", ix.Close())
		return nil
	}
	childTasks["descriptors"] = func(args []string) error {
		limit, err := strconv.Atoi(args[1])
		if err := errors.Join(err, limitDescriptors(limit)); err != nil {
			return err
		}
		ix, err := Open(args[0], Options{})
		switch {
		case err == nil:
			fmt.Print("opened")
			return ix.Close()
		case errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNoSpace):
			fmt.Print("wrong kind: ", err)
		default:
			fmt.Print("plain: ", err)
		}
		return nil
	}
	childTasks["sync without descriptors"] = func(args []string) error {
		ix, err := Open(args[0], Options{})
		if err != nil {
			return err
		}
		if err := errors.Join(ix.Apply(largeBatch(1<<20)), limitDescriptors(3)); err != nil {
			return err
		}
		fmt.Println(errors.Is(ix.Sync(), store.ErrNoSpace))
		if err := limitDescriptors(1000); err != nil {
			return err
		}
		fmt.Println(ix.Sync())
		if err := ix.Close(); err != nil {
			return err
		}
		if ix, err = Open(args[0], Options{}); err != nil {
			return err
		}
		_, err = ix.Get(largeBatch(1 << 20)[0].Key)
		fmt.Println(err)
		return ix.Close()
	}
	childTasks["descriptors later"] = func(args []string) error {
		few, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		ix, err := Open(args[0], Options{})
		if err != nil {
			return err
		}
		for _, limit := range []int{few, 1000} {
			if err := limitDescriptors(limit); err != nil {
				return err
			}
			fmt.Println(ix.Apply(largeBatch(descriptorEvery)))
		}
		return ix.Close()
	}
}
