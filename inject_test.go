package spool_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

var (
	injectMost    = flag.Int("spool.inject.most", 3, "TestInject fails the first so many calls of each kind, one a run; 0 = all of them")
	injectControl = flag.Bool("spool.inject.control", false, "a control: the script of TestInject takes an unknown outcome for success, and must fail")
)

func init() { children["inject"] = injectChild }

// TestInject runs a script of 200 operations in a process of which the n-th call of a kind fails, for each kind and n:
// every operation answers, with success or an error, and what was acknowledged is true afterwards.
func TestInject(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("making system calls fail needs strace")
	}
	if out, err := exec.Command("strace", "-f", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("strace cannot trace here: %v: %s", err, out)
	}
	runs, met := 0, 0
	for _, call := range []string{"pwrite64", "fdatasync", "fsync", "openat", "renameat", "unlinkat", "fallocate"} {
		for _, errno := range []string{"EIO", "ENOSPC"} {
			for n := 1; *injectMost == 0 || n <= *injectMost; n++ {
				runs++
				if !injectRun(t, call, errno, n) {
					break // there are fewer calls
				}
				met++
			}
		}
	}
	t.Logf("%d runs of 200 operations, %d faults met", runs, met)
}

// injectBefore is how many calls the runtime makes before the script begins, or more.
var injectBefore = map[string]int{"openat": 4}

// injectRun makes one run, and tells whether the fault was met.
func injectRun(t *testing.T, call, errno string, n int) bool {
	t.Helper()
	what := fmt.Sprintf("%s %d = %s", call, n, errno)
	base := t.TempDir()
	dir, trace := filepath.Join(base, "spool"), filepath.Join(base, "trace")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "strace", "-f", "-qq", "-o", trace, "-e", "trace="+call,
		"-e", fmt.Sprintf("inject=%s:error=%s:when=%d", call, errno, n+injectBefore[call]), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=inject", "SPOOL_TEST_DIR="+dir, fmt.Sprint("SPOOL_TEST_LIE=", *injectControl))
	var out, bad bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &bad
	ended := cmd.Run()
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text, []byte("(INJECTED)"))
	line := text[bytes.LastIndexByte(text[:max(at, 0)], '\n')+1:]
	switch {
	case ended == nil:
	case call == "openat" && at >= 0 && !bytes.Contains(line[:max(0, bytes.IndexByte(line, '\n'))], []byte(base)):
		return true // it was a file of the runtime
	case call == "openat" && (bytes.Contains(bad.Bytes(), []byte("DISCARD")) || bytes.Contains(bad.Bytes(), []byte("err: open ")) && bytes.Contains(bad.Bytes(), []byte("/index: "))):
		// Badger ends the process when its file or its directory is there and cannot be opened: docs/reliability.md says so.
		t.Logf("%s: Badger ended the process", what)
		return true
	default:
		t.Errorf("%s: the process ended with %v\n%.2000s", what, ended, bad.String())
		return false
	}
	injectJudge(t, what, dir, out.String())
	return at >= 0
}

// injectJudge compares what the process was told with what is there.
func injectJudge(t *testing.T, what, dir, told string) {
	t.Helper()
	sent, gone, maybe := map[string]bool{}, map[string]bool{}, map[string]bool{}
	done := 0
	for lines := bufio.NewScanner(strings.NewReader(told)); lines.Scan(); {
		var verb, body string
		if _, err := fmt.Sscan(lines.Text(), &verb, &body); err != nil {
			t.Fatalf("%s: line %q", what, lines.Text())
		}
		switch verb {
		case "sent":
			sent[body] = true
		case "maybe":
			maybe[body] = true
		case "deleted":
			gone[body] = true
		case "done":
			done++
		}
	}
	if done != 1 {
		t.Errorf("%s: the script did not end", what)
	}
	if len(sent) == 0 && len(maybe) == 0 {
		return // it was never opened
	}
	s, err := spool.Open(dir)
	if err != nil {
		t.Errorf("%s: Open afterwards = %v", what, err)
		return
	}
	defer s.Close()
	q, err := s.OpenQueue(context.Background(), "q", spool.Meta{})
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	a, err := q.Attributes(context.Background())
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	left, err := q.Peek(context.Background(), spool.MaxBatch)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	there := map[string]bool{}
	for _, d := range left {
		body := string(d.Body)
		there[body] = true
		if gone[body] || !sent[body] && !maybe[body] {
			t.Errorf("%s: %q is there, deleted %v, sent %v", what, body, gone[body], sent[body])
		}
	}
	missing := 0
	for body := range sent {
		if !there[body] && !gone[body] && !maybe[body] {
			missing++
		}
	}
	if int64(missing) > a.Inactive {
		t.Errorf("%s: %d acknowledged messages are missing, %d are inactive", what, missing, a.Inactive)
	}
}

// injectChild is the script. It says what it was told: "maybe" where that was not clear.
func injectChild() {
	defer fmt.Println("done .")
	ctx := context.Background()
	s, err := spool.Open(os.Getenv("SPOOL_TEST_DIR"), spool.WithSizes(16<<10, 8<<10))
	if err != nil {
		return
	}
	defer s.Close()
	q, err := s.OpenQueue(ctx, "q", spool.Meta{VisibilityTimeout: time.Hour})
	if err != nil {
		return
	}
	sentMaybe, deletedMaybe := "maybe", "maybe"
	if os.Getenv("SPOOL_TEST_LIE") == "true" {
		sentMaybe, deletedMaybe = "sent", "deleted"
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 200 {
		if rng.IntN(2) == 0 {
			body := fmt.Sprintf("m%d-%0*d", i, rng.IntN(400), 0)
			if _, err := q.Send(ctx, spool.Message{Body: []byte(body)}); err == nil {
				fmt.Println("sent", body)
			} else if errors.Is(err, spool.ErrStoreFailed) {
				fmt.Println(sentMaybe, body)
			}
			continue
		}
		d, err := q.Receive(ctx)
		if err != nil {
			continue
		}
		switch err := d.Delete(ctx); {
		case err == nil:
			fmt.Println("deleted", string(d.Body))
		case errors.Is(err, spool.ErrStoreFailed):
			fmt.Println(deletedMaybe, string(d.Body))
		}
	}
}
