package spool_test

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
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
	injectScript  = flag.Int("spool.inject.script", 1, "TestInject runs this script: 1 sends and deletes, 2 makes and changes queues, 3 cleans, moves and repairs; 0 = all of them")
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
	scripts := []int{*injectScript}
	if *injectScript == 0 {
		scripts = []int{1, 2, 3}
	}
	runs, met := 0, 0
	for _, script := range scripts {
		more, hit := injectScriptRuns(t, script)
		runs, met = runs+more, met+hit
	}
	t.Logf("%d runs of 200 operations, %d faults met", runs, met)
}

// injectScriptRuns makes the runs of one script.
func injectScriptRuns(t *testing.T, script int) (runs, met int) {
	for _, call := range []string{"pwrite64", "fdatasync", "fsync", "openat", "renameat", "unlinkat", "fallocate"} {
		for _, errno := range []string{"EIO", "ENOSPC"} {
			for n := 1; *injectMost == 0 || n <= *injectMost; n++ {
				runs++
				if !injectRun(t, script, call, errno, n) {
					break // there are fewer calls
				}
				met++
			}
		}
	}
	return runs, met
}

// injectBefore is how many calls the runtime makes before the script begins, or more.
var injectBefore = map[string]int{"openat": 4}

// injectRun makes one run, and tells whether the fault was met.
func injectRun(t *testing.T, script int, call, errno string, n int) bool {
	t.Helper()
	what := fmt.Sprintf("script %d: %s %d = %s", script, call, n, errno)
	base := t.TempDir()
	dir, trace := filepath.Join(base, "spool"), filepath.Join(base, "trace")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "strace", "-f", "-qq", "-o", trace, "-e", "trace="+call,
		"-e", fmt.Sprintf("inject=%s:error=%s:when=%d", call, errno, n+injectBefore[call]), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=inject", "SPOOL_TEST_DIR="+dir, fmt.Sprint("SPOOL_TEST_SCRIPT=", script), fmt.Sprint("SPOOL_TEST_LIE=", *injectControl))
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
	known := map[string]string{} // the last word about each body
	done := 0
	for lines := bufio.NewScanner(strings.NewReader(told)); lines.Scan(); {
		var word, body string
		if _, err := fmt.Sscan(lines.Text(), &word, &body); err != nil {
			t.Fatalf("%s: line %q", what, lines.Text())
		}
		switch word {
		case "done":
			done++
		case "dir":
			dir = body
		default:
			known[body] = word
		}
	}
	if done != 1 {
		t.Errorf("%s: the script did not end", what)
	}
	if len(known) == 0 {
		return // it was never opened
	}
	s, err := spool.Open(dir)
	if err != nil {
		t.Errorf("%s: Open afterwards = %v", what, err)
		return
	}
	defer s.Close()
	there, inactive := map[string]bool{}, 0
	for _, q := range s.Queues() {
		a, err := q.Attributes(context.Background())
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		inactive += int(a.Inactive)
		left, err := q.Peek(context.Background(), spool.MaxBatch)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for _, d := range left {
			body := string(d.Body)
			if word := known[body]; word == "deleted" || word == "" || there[body] {
				t.Errorf("%s: %q is in queue %s, told %q, in another one too: %v", what, body, q.Name(), word, there[body])
			}
			there[body] = true
		}
	}
	missing := 0
	for body, word := range known {
		if word == "sent" && !there[body] {
			missing++
		}
	}
	if missing > inactive {
		t.Errorf("%s: %d acknowledged messages are missing, %d are inactive", what, missing, inactive)
	}
}
