// Command torture runs the campaigns by which docs/reliability.md proves what is promised: each row with its numbers, and
// with the guard switched off, which must fail. It prints one line a row and appends one line a campaign to
// docs/reliability/runs.jsonl, which nobody else writes.
//
//	go run ./internal/torture -ci       each row once, in its short form; nothing is recorded without -record
//	go run ./internal/torture           each row until the programme is fulfilled; resumes where it was stopped
//	go run ./internal/torture -table    the totals, as the documentation has them; -docs puts them there
package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spoolmq/spool/internal/torture/record"
)

var (
	ci      = flag.Bool("ci", false, "each row once, in its short form")
	keep    = flag.Bool("record", false, "with -ci: record what was run")
	only    = flag.String("row", "", "this row only")
	table   = flag.Bool("table", false, "print the totals and do nothing else")
	docs    = flag.Bool("docs", false, "write the totals into docs/reliability.md and do nothing else")
	fuzzFor = flag.Duration("fuzz", 0, "with -ci: time of each fuzz target (0: 20s); without, each has an hour")
)

func main() {
	flag.Parse()
	if *fuzzFor != 0 && !*ci {
		fmt.Fprintf(os.Stderr, "torture: -fuzz %v without -ci: each target has %v\n", *fuzzFor, fuzzFull)
		os.Exit(2)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	code, err := record.Code(".")
	if err != nil {
		return err
	}
	lines, err := record.Read(".")
	if err != nil {
		return err
	}
	if *table {
		fmt.Print(record.Table(lines, code))
		return nil
	}
	if *docs {
		return record.WriteDocs(".", lines, code)
	}
	commit, dirty := tree()
	if binaries.dir, err = os.MkdirTemp("", "torture-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(binaries.dir)) }()
	bad := 0
	done := func(r *row, l record.Line) error {
		l.Row, l.Commit, l.Dirty, l.Code = r.name, commit, dirty, code
		fmt.Println(summary(l))
		if l.Result == "failed" {
			bad++
		}
		lines = append(lines, l)
		if *ci && !*keep {
			return nil
		}
		return record.Append(".", l)
	}
	var waits []func() error
	for i := range rows {
		r := &rows[i]
		if *only != "" && r.name != *only {
			continue
		}
		if *ci && r.beside {
			line := make(chan record.Line, 1)
			go func() { line <- r.campaign() }()
			waits = append(waits, func() error { return done(r, <-line) })
			continue
		}
		if r.fuzz && !*ci {
			if err := fuzzAll(lines, code, func(l record.Line) error { return done(r, l) }); err != nil {
				return err
			}
			continue
		}
		for again := true; again; again = !*ci && r.left(lines, code) && bad == 0 {
			if err := done(r, r.campaign()); err != nil {
				return err
			}
		}
	}
	for _, wait := range waits {
		if err := wait(); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d campaigns failed", bad)
	}
	return nil
}

// left tells whether the row wants another campaign.
func (r *row) left(lines []record.Line, code string) bool {
	if r.absent != "" || r.most == 0 {
		return false
	}
	if last := lines[len(lines)-1]; last.Dirty || last.Result == "skipped" {
		return false // more of these count for nothing
	}
	t := record.Sum(lines, r.name, code)
	switch r.of {
	case "operations":
		return t.Operations < r.most
	case "crashes":
		return t.Crashes < r.most
	}
	return int64(t.Campaigns) < r.most
}

func summary(l record.Line) string {
	text := fmt.Sprintf("%-12s %-7s %9d operations %6d crashes %6d faults; control: %s; %.0f s", l.Row, l.Result, l.Operations, l.Crashes, l.Faults, l.Control, l.Seconds)
	if l.Target != "" {
		text += "; " + l.Target
	}
	if l.Why != "" {
		text += "; " + l.Why
	}
	return text
}

// campaign runs the row once, and its control.
func (r *row) campaign() (l record.Line) {
	begun := time.Now()
	defer func() { l.Seconds = time.Since(begun).Round(time.Second / 10).Seconds() }()
	l.Control = "none"
	switch {
	case r.absent != "":
		l.Result, l.Why = "skipped", r.absent
		return l
	case r.fuzz:
		return fuzz("", cmp.Or(*fuzzFor, fuzzShort), fuzzControl())
	}
	args := r.full
	if *ci {
		args = r.ci
	}
	if r.seed != "" {
		l.Seed = rand.Uint64() >> 16
		args = append(args[:len(args):len(args)], fmt.Sprintf("-%s=%d", r.seed, l.Seed))
	}
	out, err := r.test1(args, &l)
	l.Operations, l.Crashes, l.Faults = number(out, r.counts.operations), number(out, r.counts.crashes), number(out, r.counts.faults)
	switch skip := skipped(out); {
	case err != nil:
		l.Result, l.Why = "failed", err.Error()
		os.Stdout.Write(out)
		return l
	case skip != "":
		l.Result, l.Why = "skipped", skip
		return l
	}
	l.Result = "ok"
	switch {
	case r.proof != "":
		l.Control = r.proof
	case r.control != nil:
		out, err := r.test1(r.control, &record.Line{})
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && bytes.Contains(out, []byte("--- FAIL")) {
			l.Control = record.ControlBites
		} else {
			l.Result, l.Control = "failed", fmt.Sprintf("did not fail: %v", err)
		}
	}
	return l
}

// test1 runs the row's tests as go test does. The command that it notes builds them anew.
func (r *row) test1(args []string, l *record.Line) ([]byte, error) {
	l.Command = strings.Join(append([]string{"go test -count=1 -timeout=6h -v -run", r.test, r.pkg, "-args"}, args...), " ")
	binary, out, err := testBinary(r.pkg)
	if err != nil {
		return out, err
	}
	cmd := exec.Command(binary, append([]string{"-test.paniconexit0", "-test.timeout=6h", "-test.v", "-test.run", r.test}, args...)...)
	cmd.Dir = r.pkg
	return cmd.CombinedOutput()
}

// binaries are the tests of packages, each built once: to link them takes seconds, and a row and its control run them twice.
var binaries = struct {
	sync.Mutex
	dir  string
	made map[string]string // guarded by Mutex; by package
}{made: map[string]string{}}

// testBinary returns the tests of a package, or what the compiler says.
func testBinary(pkg string) (path string, out []byte, err error) {
	binaries.Lock()
	defer binaries.Unlock()
	if path = binaries.made[pkg]; path != "" {
		return path, nil, nil
	}
	path = filepath.Join(binaries.dir, fmt.Sprintf("%d.test", len(binaries.made)))
	if out, err = exec.Command("go", "test", "-c", "-o", path, pkg).CombinedOutput(); err != nil {
		return "", out, err
	}
	binaries.made[pkg] = path
	return path, nil, nil
}

// number adds up what a pattern finds.
func number(out []byte, pattern string) (n int64) {
	if pattern == "" {
		return 0
	}
	for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(out, -1) {
		v, err := strconv.ParseInt(string(m[1]), 10, 64)
		if err == nil {
			n += v
		}
	}
	return n
}

// skipped is the reason why a test was not run, if none was.
func skipped(out []byte) string {
	if bytes.Contains(out, []byte("--- PASS")) {
		return ""
	}
	m := regexp.MustCompile(`(?m)^\s+\S+_test\.go:\d+: (.*)$`).FindAllSubmatch(out, -1)
	if !bytes.Contains(out, []byte("--- SKIP")) || len(m) == 0 {
		return "no test was run"
	}
	return string(m[len(m)-1][1])
}

// tree is the commit, and whether the files differ from it. What the harness records makes no difference.
func tree() (commit string, dirty bool) {
	out, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown", true
	}
	changed, err := exec.Command("git", "status", "--porcelain", "--", ".", ":!"+record.File, ":!docs/reliability.md").Output()
	return strings.TrimSpace(string(out)), err != nil || len(changed) > 0
}
