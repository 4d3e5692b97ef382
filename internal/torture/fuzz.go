package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spoolmq/spool/internal/torture/record"
)

const (
	fuzzShort    = 20 * time.Second
	fuzzFull     = time.Hour
	fuzzTogether = 2 // as make fuzz does; each has one worker
)

// fuzzAll fuzzes each target that has not had its full time yet, some at a time. It calls done for each, one at a time, and
// begins no other one once one has failed.
func fuzzAll(lines []record.Line, code string, done func(record.Line) error) error {
	list, err := exec.Command("make", "--no-print-directory", "fuzz-list").Output()
	if err != nil {
		return fmt.Errorf("make fuzz-list: %w", err)
	}
	left := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(list)), "\n"), func(target string) bool { return fuzzed(lines, target, code) })
	if len(left) == 0 {
		return nil
	}
	control := fuzzControl()
	var mu sync.Mutex // guards left and err
	next := func() (target string) {
		mu.Lock()
		defer mu.Unlock()
		if len(left) > 0 {
			target, left = left[0], left[1:]
		}
		return target
	}
	var workers sync.WaitGroup
	for range fuzzTogether {
		workers.Go(func() {
			for target := next(); target != ""; target = next() {
				begun := time.Now()
				l := fuzz(target, fuzzFull, control)
				l.Seconds = time.Since(begun).Round(time.Second / 10).Seconds()
				mu.Lock()
				if e := done(l); e != nil || l.Result == "failed" {
					left, err = nil, errors.Join(err, e)
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return err
}

// fuzzed tells whether a target has had its full time with the code as it is.
func fuzzed(lines []record.Line, target, code string) bool {
	return slices.ContainsFunc(lines, func(l record.Line) bool {
		return l.Target == target && l.Counts(code) && l.Result == "ok" && l.Seconds >= fuzzFull.Seconds()
	})
}

// fuzz runs a target for a while, or each of them if it is empty. The control has been run before.
func fuzz(target string, d time.Duration, control string) (l record.Line) {
	l.Target, l.Control, l.Command = target, control, "make --no-print-directory fuzz FUZZTIME="+d.String()
	if target != "" {
		l.Command += fmt.Sprintf(" FUZZ='^%s$$'", regexp.QuoteMeta(target))
	}
	out, err := exec.Command("sh", "-c", l.Command).CombinedOutput()
	l.Operations = number(out, `elapsed: [^\n]*execs: (\d+) [^\n]*\n(?:PASS|ok)`)
	switch l.Result = "ok"; {
	case err != nil:
		l.Result, l.Why = "failed", err.Error()
		os.Stdout.Write(out)
	case control != record.ControlBites:
		l.Result = "failed"
	}
	return l
}

// fuzzControl fuzzes a decoder that takes memory for what is not there.
func fuzzControl() string {
	cmd := exec.Command("go", "test", "-run", "^$", "-fuzz", "^FuzzBound$", "-fuzztime", "60s", ".")
	cmd.Env = append(os.Environ(), "SPOOL_FUZZ_CONTROL=1")
	out, err := cmd.CombinedOutput()
	if e := os.RemoveAll("testdata/fuzz/FuzzBound"); e != nil {
		return e.Error()
	}
	if err == nil || !bytes.Contains(out, []byte("bytes for")) {
		return fmt.Sprintf("did not fail: %v", err)
	}
	return record.ControlBites
}
