package spool_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spoolmq/spool"
)

func init() { children["unwritable"] = unwritableChild }

// unwritableChild says what Open answers.
func unwritableChild() {
	s, err := spool.Open(os.Getenv("SPOOL_TEST_DIR"))
	if err == nil {
		err = s.Close()
	}
	fmt.Println(err)
}

// TestOpenUnwritable: a spool in whose directories no file can be made is refused at once, not at the first one that it needs.
func TestOpenUnwritable(t *testing.T) {
	base, err := os.MkdirTemp("", "spool-unwritable-") // others get into t.TempDir only where the umask lets them
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	dir := filepath.Join(base, "spool")
	s, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := func() *exec.Cmd {
		c := exec.Command("/proc/self/exe")
		c.Env, c.Dir = append(os.Environ(), childEnv+"=unwritable", "SPOOL_TEST_DIR="+dir), "/"
		return c
	}
	run := cmd
	if os.Getuid() == 0 { // root may do anything: somebody else tries
		const other = 65534
		err := filepath.WalkDir(base, func(path string, _ os.DirEntry, err error) error {
			if err == nil {
				err = os.Chown(path, other, other)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		run = func() *exec.Cmd {
			c := cmd()
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: other, Gid: other}}
			return c
		}
	}
	for _, c := range []struct{ sub, want string }{
		{"", "spool: invalid argument"}, {"log", "spool: invalid argument"}, {"none", "<nil>"},
	} {
		path := filepath.Join(dir, c.sub)
		if err := os.Chmod(path, 0o500); err != nil && c.sub != "none" {
			t.Fatal(err)
		}
		out, err := run().CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if !strings.HasPrefix(string(out), c.want) {
			t.Errorf("Open of a spool with %q read-only = %s, want %s", c.sub, out, c.want)
		}
		if err := os.Chmod(path, 0o700); err != nil && c.sub != "none" {
			t.Fatal(err)
		}
	}
}
