package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spoolmq/spool"
)

// With this variable set the test binary is the command.
const beCommand = "SPOOL_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(beCommand) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// runSpool runs the command in a process of its own.
func runSpool(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), beCommand+"=1")
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	runErr := cmd.Run()
	if exit := (*exec.ExitError)(nil); runErr != nil && !errors.As(runErr, &exit) {
		t.Fatal(runErr)
	}
	return cmd.ProcessState.ExitCode(), out.String(), err.String()
}

// makeSpool makes a spool with ten messages.
func makeSpool(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	ctx := context.Background()
	s, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	q, err := s.CreateQueue(ctx, "orders", spool.Meta{})
	for i := range 10 {
		if err == nil {
			_, err = q.Send(ctx, spool.Message{Body: fmt.Appendf(nil, "the body of message %d", i)})
		}
	}
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// flip damages the body of a message.
func flip(t *testing.T, dir, text string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "log"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if i := bytes.Index(b, []byte(text)); err == nil && i >= 0 {
			b[i] ^= 1
			err = os.WriteFile(path, b, 0o600)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUsage(t *testing.T) {
	dir := makeSpool(t)
	for _, args := range [][]string{{}, {"mend", dir}, {"verify"}, {"verify", dir, dir}, {"verify", "-to", "x", dir}, {"repair", "-x", dir}} {
		if status, stdout, stderr := runSpool(t, args...); status != exitUsage || stdout != "" || !strings.Contains(stderr, "Usage:") {
			t.Errorf("spool %v: status %d, %q, %q", args, status, stdout, stderr)
		}
	}
	for _, args := range [][]string{{"help"}, {"--help"}, {"repair", "-h"}} {
		if status, stdout, stderr := runSpool(t, args...); status != exitOK || stdout != usage || stderr != "" {
			t.Errorf("spool %v: status %d, %q, %q", args, status, stdout, stderr)
		}
	}
}

func TestCommands(t *testing.T) {
	dir := makeSpool(t)
	status, stdout, stderr := runSpool(t, "verify", dir)
	if status != exitOK || !strings.Contains(stdout, "nothing is damaged") || !strings.Contains(stdout, "index: none") || stderr != "" {
		t.Errorf("verify: status %d, %q, %q", status, stdout, stderr)
	}
	if status, stdout, _ := runSpool(t, "stats", dir); status != exitOK || !strings.Contains(stdout, "orders                                             10            0") {
		t.Errorf("stats: status %d, %q", status, stdout)
	}
	flip(t, dir, "body of message 4")
	if status, stdout, _ := runSpool(t, "verify", dir); status != exitDamaged || strings.Count(stdout, "damaged: ") != 1 || strings.Contains(stdout, "nothing is damaged") {
		t.Errorf("verify of a damaged spool: status %d, %q", status, stdout)
	}

	to := filepath.Join(t.TempDir(), "repaired")
	status, stdout, stderr = runSpool(t, "repair", "-json", "-to", to, dir)
	var r spool.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || status != exitDamaged || stderr != "" {
		t.Fatalf("repair: status %d, %q, %q, %v", status, stdout, stderr, err)
	}
	if r.DamageCount != 1 || len(r.Damages) != 1 || r.LostCount != 1 || r.Lost[0].Queue != "orders" || len(r.Queues) != 1 || r.Queues[0].Active != 9 {
		t.Errorf("repair: %+v", r)
	}
	if status, stdout, _ := runSpool(t, "verify", "-json", to); status != exitOK || !strings.Contains(stdout, `"damageCount": 0`) {
		t.Errorf("verify of what was repaired: status %d, %q", status, stdout)
	}

	if status, stdout, _ := runSpool(t, "repair", dir); status != exitDamaged || !strings.Contains(stdout, dir+".damaged-1") {
		t.Errorf("repair in place: status %d, %q", status, stdout)
	}
	if status, _, _ := runSpool(t, "verify", dir); status != exitOK {
		t.Errorf("verify after a repair in place: status %d", status)
	}
}

func TestRefusals(t *testing.T) {
	dir := makeSpool(t)
	empty := t.TempDir()
	if status, _, stderr := runSpool(t, "verify", empty); status != exitError || !strings.Contains(stderr, "the directory of a spool") {
		t.Errorf("verify of an empty directory: status %d, %q", status, stderr)
	}
	s, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"verify", dir}, {"stats", dir}, {"repair", dir}} {
		if status, _, stderr := runSpool(t, args...); status != exitError || !strings.Contains(stderr, fmt.Sprintf("pid %d", os.Getpid())) {
			t.Errorf("%v of an open spool: status %d, %q", args, status, stderr)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A bar is drawn where there is a terminal.
func TestBar(t *testing.T) {
	dir := makeSpool(t)
	for _, terminal := range []bool{true, false} {
		var out, err bytes.Buffer
		c := command{out: &out, err: &err, bar: terminal}
		if status := c.run(context.Background(), []string{"verify", dir}); status != exitOK || (err.Len() > 0) != terminal {
			t.Errorf("terminal %t: status %d, %q", terminal, status, err.String())
		}
	}
}
