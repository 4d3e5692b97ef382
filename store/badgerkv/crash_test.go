package badgerkv

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/spoolmq/spool/store"
)

// TestKill kills a process that writes, several times over the same directory. What it had synced is there, and what is
// there is a prefix.
func TestKill(t *testing.T) {
	const rounds, valueSize = 4, 20_000
	dir := filepath.Join(t.TempDir(), "idx")
	h := history{valueSize}
	synced := 0
	for round := range rounds {
		synced = max(synced, writeAndKill(t, 150*round, "write", dir, fmt.Sprint(valueSize)))
		ix := mustOpen(t, dir)
		n, err := h.prefix(ix)
		if err != nil || n < synced {
			t.Errorf("round %d: %d batches, %v, want %d or more", round, n, err, synced)
		}
		must(t, ix.Close())
	}
}

// TestKillCleaning kills a process whose values are replaced, moved and removed.
func TestKillCleaning(t *testing.T) {
	const rounds = 5
	dir := filepath.Join(t.TempDir(), "idx")
	h := rewrites{20, 8000}
	synced := 0
	for round := range rounds {
		synced = max(synced, writeAndKill(t, 200*round, "rewrite", dir))
		ix := mustOpenWith(t, dir, smallFiles())
		n, err := h.prefix(ix)
		if err != nil || n < synced {
			t.Errorf("round %d: %d batches, %v, want %d or more", round, n, err, synced)
		}
		must(t, ix.Close())
	}
}

// writeAndKill starts a writer and kills it some time after its synced batches have passed atLeast; it returns how many
// the writer said were synced.
func writeAndKill(t *testing.T, atLeast int, task string, args ...string) int {
	cmd := childCommand(t, task, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	deadline := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer deadline.Stop()
	synced, killed := 0, false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		n, err := strconv.Atoi(lines.Text())
		must(t, err)
		synced = n
		if n > atLeast+20 && !killed {
			killed = true
			must(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); !killed {
		t.Fatalf("the writer ended by itself: %v\n%s", err, stderr.String())
	}
	return synced
}

func init() {
	childTasks["rewrite"] = func(args []string) error {
		ix, err := Open(args[0], smallFiles())
		if err != nil {
			return err
		}
		h := rewrites{20, 8000}
		n, err := h.prefix(ix)
		if err != nil {
			return err
		}
		for ; ; n += 7 {
			for i := range 7 {
				if err := ix.Apply(h.batch(n + i)); err != nil {
					return err
				}
			}
			if err := ix.Sync(); err != nil {
				return err
			}
			if _, err := fmt.Println(n + 7); err != nil {
				return err
			}
		}
	}
	childTasks["write"] = func(args []string) error {
		valueSize, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		ix, err := Open(args[0], Options{})
		if err != nil {
			return err
		}
		h := history{valueSize}
		n, err := h.prefix(ix)
		if err != nil {
			return err
		}
		for ; ; n += 7 {
			if err := h.write(ix, n, n+7); err != nil {
				return err
			}
			if err := ix.Sync(); err != nil {
				return err
			}
			if _, err := fmt.Println(n + 7); err != nil {
				return err
			}
		}
	}
}

// TestLeftovers: what a process leaves that dies while Badger creates or removes files does not keep Open from working.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	ix := mustOpen(t, dir)
	must(t, ix.Apply([]store.Change{set("a", "1")}))
	must(t, ix.Close())
	for _, name := range []string{"00099.mem", "000099.vlog", "000098.sst", "MANIFEST-REWRITE", "LOCK"} {
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	must(t, os.WriteFile(filepath.Join(dir, "000097.sst"), []byte("half a table"), 0o600))
	ix = mustOpen(t, dir)
	if got, err := ix.Get([]byte("a")); err != nil || string(got) != "1" {
		t.Errorf("Get(a) = %q, %v, want 1", got, err)
	}
	must(t, ix.Close())
}

// TestForeignFiles: a database that has no seal is not ours to open.
func TestForeignFiles(t *testing.T) {
	for _, name := range []string{"MANIFEST", "000001.sst", "00001.mem", "000001.vlog"} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
		wantCorrupt(t, dir)
	}
	dir := t.TempDir()
	must(t, writeSeal(dir, 0))
	must(t, os.WriteFile(filepath.Join(dir, "000001.sst"), []byte("x"), 0o600))
	wantCorrupt(t, dir) // Badger would remove a table that no manifest names.
	for _, name := range []string{"x.mem", "1x.vlog", "99999999999.mem"} {
		dir := t.TempDir()
		must(t, mustOpen(t, dir).Close())
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
		wantCorrupt(t, dir)
	}
}
