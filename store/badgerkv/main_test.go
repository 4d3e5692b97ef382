package badgerkv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"github.com/spoolmq/spool/store"
)

// childEnv names the task of a child process: tests that may kill their process run in one.
const childEnv = "BADGERKV_TEST_TASK"

// childTasks are run by runChild with their arguments; what they print is returned.
var childTasks = map[string]func(args []string) error{}

func TestMain(m *testing.M) {
	if task := childTasks[os.Getenv(childEnv)]; task != nil {
		if err := task(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func childCommand(t testing.TB, task string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+task)
	return cmd
}

// runChild runs a task and returns what it printed. Its death is the test's failure.
func runChild(t testing.TB, task string, args ...string) string {
	t.Helper()
	cmd := childCommand(t, task, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("child %s: %v\n%s\n%.4000s", task, err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

func mustOpen(t testing.TB, dir string) *Index {
	t.Helper()
	ix, err := Open(dir, Options{})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return ix
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

func set(key, value string) store.Change { return store.Change{Key: []byte(key), Value: []byte(value)} }

// history writes batches whose prefixes can be told apart: batch i sets a key of its own and the key "last", and removes
// the key that batch i-1 set beside.
type history struct{ valueSize int }

func (h history) batch(i int) []store.Change {
	value := bytes.Repeat([]byte{byte(i + 1)}, h.valueSize)
	return []store.Change{
		{Key: fmt.Appendf(nil, "batch %06d", i), Value: value},
		set("last", strconv.Itoa(i)),
		set(fmt.Sprintf("temporary %06d", i), "x"),
		{Key: fmt.Appendf(nil, "temporary %06d", i-1)},
	}
}

func (h history) write(ix store.Index, from, to int) error {
	for i := from; i < to; i++ {
		if err := ix.Apply(h.batch(i)); err != nil {
			return err
		}
	}
	return nil
}

// prefix returns of how many batches the content of ix is, or an error when it is not that of a prefix.
func (h history) prefix(ix store.Index) (int, error) {
	entries, err := ix.Scan([]byte("batch "), []byte("batch!"), 1_000_000)
	if err != nil {
		return 0, err
	}
	for i, e := range entries {
		want := h.batch(i)[0]
		if !bytes.Equal(e.Key, want.Key) || !bytes.Equal(e.Value, want.Value) {
			return 0, fmt.Errorf("entry %d of %d is %q with %d bytes", i, len(entries), e.Key, len(e.Value))
		}
		if got, err := ix.Get(e.Key); err != nil || !bytes.Equal(got, want.Value) {
			return 0, fmt.Errorf("Get(%q) = %d bytes, %v; Scan has it", e.Key, len(got), err)
		}
	}
	n := len(entries)
	last, err := ix.Get([]byte("last"))
	if n == 0 && errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil || string(last) != strconv.Itoa(n-1) {
		return 0, fmt.Errorf("%d batches, last is %q, %v", n, last, err)
	}
	beside, err := ix.Scan([]byte("temporary "), []byte("temporary!"), 10)
	if err != nil || len(beside) != 1 || string(beside[0].Key) != fmt.Sprintf("temporary %06d", n-1) {
		return 0, fmt.Errorf("%d batches, %d temporary keys, %v", n, len(beside), err)
	}
	return n, nil
}

// copyDir copies what a crash would leave: the files of an open index are taken as they are. Holes stay holes.
func copyDir(from, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	names, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range names {
		if err := copyFile(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	buf, zeros := make([]byte, 4096), make([]byte, 4096)
	var at int64
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 && !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := out.WriteAt(buf[:n], at); err != nil {
				return errors.Join(err, out.Close())
			}
		}
		at += int64(n)
		if err != nil {
			break
		}
	}
	return errors.Join(out.Truncate(at), out.Close())
}
