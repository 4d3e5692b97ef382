package badgerkv

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/spoolmq/spool/store"
)

// What Badger 4.9.6 does by itself with the damages of this test (badger.Open with our options in a process of its own for
// each case), and what Open does here. "Gone" means that Badger opened without an error and said nothing.
//
//	file          damage                   Badger alone                                        Open
//	*.mem         flip, cut, zero          the rest of the log is gone; with a second log      corrupt if synced or in the
//	                                       only that of this one: a hole (30 to 59 of 60)      middle, else a prefix
//	*.mem         delete                   all of it is gone, with a second log a hole         same
//	*.mem         cut to nothing,          error, 5 goroutines lost                            as delete; corrupt
//	              flip of the key number
//	*.sst         cut, append              the process dies (panic in a goroutine)             corrupt
//	*.sst         cut to nothing, delete   error, 2 goroutines lost                            corrupt
//	*.sst         flip, zero in a block    blocks are gone: 20 or 52 of 80 batches left        corrupt
//	*.sst         flip, zero in the index  error, 2 goroutines lost                            corrupt
//	MANIFEST      flip                     error                                               corrupt
//	MANIFEST      cut                      tables are gone, and removed from disk              corrupt
//	MANIFEST      delete                   all tables are gone, and removed from disk          corrupt; without tables it is
//	                                                                                           not missed
//	KEYREGISTRY   flip, cut, append        error, 2 goroutines lost, or no difference          same, none lost
//	KEYREGISTRY   delete                   no difference                                       no difference
//	*.vlog        flip of the key number   error, 2 goroutines lost                            corrupt
//	*.vlog        cut to nothing           error, 2 goroutines lost                            no difference
//	*.vlog        others                   no difference                                       corrupt or no difference
//	DISCARD       any                      no difference                                       corrupt or no difference
//	SEAL          any                                                                          corrupt
//	*.val         cut, delete, header                                                          corrupt if synced, else a
//	                                                                                           prefix
//	*.val         flip, zero in a record                                                       corrupt when the value is read,
//	                                                                                           if synced, else a prefix
//	*.val         append, what is not in use                                                   no difference
//
// So nothing that was synced is hidden any more; what was not synced can be lost from its end without a word, which is
// what a crash does as well.

// damageAll asks for every case instead of every tenth.
var damageAll = flag.Bool("damage.all", false, "try all damages")

// An image is a directory to be damaged: of how many batches it is, and how many of them were synced.
type image struct {
	name            string
	dir             string
	synced, batches int
	h               history
}

// images makes one index of each kind: closed with tables only, crashed with tables and a log, and crashed with two logs.
func images(t *testing.T) []image {
	closed := makeImage(t, "closed", 1000, 60, 20, 0)
	crashed := makeImage(t, "crashed", 1000, 60, 20, 30)
	return []image{closed, crashed, twoLogs(t, 30)}
}

// makeImage writes batches and closes, twice, then writes tail more, syncs after 20 of them, and takes the files as a
// crash would leave them.
func makeImage(t *testing.T, name string, valueSize, first, second, tail int) image {
	img := image{name: name, h: history{valueSize}, synced: first + second, batches: first + second + tail}
	work := t.TempDir()
	for _, part := range [][2]int{{0, first}, {first, first + second}} {
		ix := mustOpen(t, work)
		must(t, img.h.write(ix, part[0], part[1]))
		must(t, ix.Close())
	}
	img.dir = work
	if tail == 0 {
		return img
	}
	ix := mustOpen(t, work)
	defer func() { must(t, ix.Close()) }()
	const syncedTail = 20
	must(t, img.h.write(ix, img.synced, img.synced+syncedTail))
	must(t, ix.Sync())
	must(t, img.h.write(ix, img.synced+syncedTail, img.batches))
	img.synced += syncedTail
	img.dir = t.TempDir()
	must(t, copyDir(work, img.dir))
	return img
}

// twoLogs is what a crash leaves between the switch of memtables and the end of the flush: the first log from one crash,
// the second and the values from a later one, the manifest of before. Of the 30 batches in the first log some are synced.
func twoLogs(t *testing.T, synced int) image {
	img := image{name: "two logs", dir: t.TempDir(), h: history{1000}, synced: synced, batches: 60}
	work, after := t.TempDir(), t.TempDir()
	ix := mustOpen(t, work)
	must(t, img.h.write(ix, 0, synced))
	must(t, ix.Sync())
	must(t, img.h.write(ix, synced, 30))
	must(t, copyDir(work, img.dir))
	must(t, ix.Close())
	must(t, copyDir(img.dir, after))
	ix = mustOpen(t, after)
	must(t, img.h.write(ix, 30, 60))
	logs, err := filepath.Glob(filepath.Join(after, "*"+walExt))
	must(t, err)
	newest := slices.Max(logs)
	values, err := filepath.Glob(filepath.Join(after, "*"+valueExt))
	must(t, err)
	for _, path := range append(values, newest) {
		must(t, copyFile(path, filepath.Join(img.dir, filepath.Base(path))))
	}
	must(t, ix.Close())
	return img
}

// A damage is done to one file of a copy of an image.
type damage struct {
	file string
	what string // flip, cut, delete, append, zero
	at   int64
}

func (d damage) String() string { return fmt.Sprintf("%s %s %d", d.file, d.what, d.at) }

func (d damage) do(dir string) error {
	path := filepath.Join(dir, d.file)
	switch d.what {
	case "none":
		return nil
	case "delete":
		return os.Remove(path)
	case "cut":
		return os.Truncate(path, d.at)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, 64)
	switch d.what {
	case "flip":
		_, err = f.ReadAt(b[:1], d.at)
		b[0] ^= 1 << (d.at % 8)
		b = b[:1]
	case "append":
		copy(b, "garbage at the end of a file that had none")
	}
	if err == nil {
		_, err = f.WriteAt(b, d.at)
	}
	return errors.Join(err, f.Close())
}

// damages are those of every file of an image, at the places where its content is.
func (img image) damages(t *testing.T) []damage {
	list := []damage{{"", "none", 0}}
	names, err := os.ReadDir(img.dir)
	must(t, err)
	for _, e := range names {
		if e.Name() == "LOCK" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(img.dir, e.Name()))
		must(t, err)
		size := int64(len(b))
		used := int64(len(bytes.TrimRight(b, "\x00"))) // logs are mostly holes
		list = append(list, damage{e.Name(), "delete", 0}, damage{e.Name(), "cut", 0}, damage{e.Name(), "append", size})
		places := []int64{0, 7, 8, 12, 20, 21, 22, 23, 24, 25, 26, used - 1, used - 5, used - 20, used - 60}
		for i := range int64(12) {
			places = append(places, used*i/12, used*i/12+1)
		}
		slices.Sort(places)
		for _, at := range slices.Compact(places) {
			if at >= 0 && at < size {
				list = append(list, damage{e.Name(), "flip", at}, damage{e.Name(), "cut", at})
			}
			if at >= 0 && at+64 <= used {
				list = append(list, damage{e.Name(), "zero", at})
			}
		}
	}
	if *damageAll {
		return list
	}
	i := 0
	return slices.DeleteFunc(list, func(d damage) bool {
		i++
		return i%10 != 0 && d.at != 0 && d.what != "append"
	})
}

// TestDamage damages every file at many places. Open must answer ErrCorrupt, or the content must be that of a prefix of
// the batches with all synced ones in it; or, in value files only, reading must answer ErrCorrupt. Then the index must work. A child process does it, so that a panic in a
// goroutine of Badger's is noticed as what it is.
func TestDamage(t *testing.T) {
	for _, img := range images(t) {
		t.Run(img.name, func(t *testing.T) {
			t.Parallel()
			list := img.damages(t)
			args := []string{img.dir, t.TempDir(), fmt.Sprint(img.h.valueSize)}
			cmd := childCommand(t, "damage", args...)
			var in, stderr bytes.Buffer
			for _, d := range list {
				fmt.Fprintln(&in, d)
			}
			cmd.Stdin, cmd.Stderr = &in, &stderr
			out, err := cmd.Output()
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			if err != nil {
				t.Errorf("child: %v; its last case: %s\n%.3000s", err, lines[len(lines)-1], stderr.String())
			}
			if err == nil && len(lines) != len(list) {
				t.Fatalf("%d results for %d cases", len(lines), len(list))
			}
			img.judge(t, lines)
		})
	}
}

// judge reads lines of "case: result".
func (img image) judge(t *testing.T, lines []string) {
	counts := map[string]int{}
	for _, line := range lines {
		what, result, _ := strings.Cut(line, ": ")
		n, err := strconv.Atoi(result)
		switch {
		case result == "corrupt" && !strings.HasPrefix(what, " none"):
		case result == "corrupt when read" && filepath.Ext(strings.Fields(what)[0]) == valueExt:
		case err != nil || n < img.synced || n > img.batches:
			t.Errorf("%s: %q, want \"corrupt\" or %d to %d batches", what, result, img.synced, img.batches)
		case n == img.batches:
			result = "no difference"
		case strings.HasPrefix(what, " none"):
			t.Errorf("no damage: %d batches, want %d", n, img.batches)
		default:
			result = "prefix"
		}
		counts[filepath.Ext(strings.Fields(what)[0])+" "+result]++
		counts[result]++
	}
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%4d %s", counts[k], k)
	}
	if counts["corrupt"] == 0 || counts["no difference"] == 0 {
		t.Errorf("results are %v, want some of both kinds", counts)
	}
}

func init() {
	childTasks["damage"] = func(args []string) error {
		valueSize, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		h := history{valueSize}
		lines := bufio.NewScanner(os.Stdin)
		for i := 0; lines.Scan(); i++ {
			var d damage
			if _, err := fmt.Sscanf(lines.Text(), "%s %s %d", &d.file, &d.what, &d.at); err != nil {
				d.what = "none" // which names no file
			}
			fmt.Print(d, ": ")
			dir := filepath.Join(args[1], fmt.Sprint(i))
			if err := copyDir(args[0], dir); err != nil {
				return err
			}
			if err := d.do(dir); err != nil {
				return err
			}
			fmt.Println(tryDamaged(dir, h))
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
		return errors.Join(lines.Err(), goleak.Find()) // A failed badger.Open would leave goroutines behind.
	}
}

// tryDamaged opens a damaged index, and uses and reopens it when that works.
func tryDamaged(dir string, h history) string {
	ix, err := Open(dir, Options{})
	if errors.Is(err, store.ErrCorrupt) {
		return "corrupt"
	}
	if err != nil {
		return err.Error()
	}
	n, err := h.prefix(ix)
	if errors.Is(err, store.ErrCorrupt) && errors.Is(ix.Close(), store.ErrCorrupt) {
		return "corrupt when read"
	}
	if err == nil {
		err = h.write(ix, n, n+1)
	}
	if err = errors.Join(err, ix.Close()); err != nil {
		return err.Error()
	}
	if ix, err = Open(dir, Options{}); err != nil {
		return "second open: " + err.Error()
	}
	again, err := h.prefix(ix)
	if err == nil && again != n+1 {
		err = fmt.Errorf("second open: %d batches, want %d", again, n+1)
	}
	if err = errors.Join(err, ix.Close()); err != nil {
		return err.Error()
	}
	return strconv.Itoa(n)
}

func wantCorrupt(t *testing.T, dir string) {
	t.Helper()
	ix, err := Open(dir, Options{})
	if !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Open = %v, want %v", err, store.ErrCorrupt)
	}
	if err == nil {
		must(t, ix.Close())
	}
}
