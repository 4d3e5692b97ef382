package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// outside are tests that look at the library's text instead of at what it does, and would notice any change of it.
const outside = "^(TestReliabilityTotals|TestListApplies)$"

// allTests is how many times as long as the tests that a mutant names those of a whole package may take.
const allTests = 5

// What became of a mutant.
type verdict int

const (
	survived verdict = iota
	caught
	equivalent
	broken // the list is wrong: stale, does not compile, or names a test that is not there
)

type outcome struct {
	verdict verdict
	by      string // what caught it, or what is wrong with it
	took    time.Duration
}

// A bench is a copy of the module in which one mutant at a time is tried.
type bench struct {
	dir     string
	timeout time.Duration // of the tests that a mutant names
	quick   bool          // the named tests only
	torture bool
	keep    string // where the output of what has failed goes, or empty
}

// newBench copies what git has or would have of the module in the current directory.
func newBench() (*bench, error) {
	out, err := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	dir, err := os.MkdirTemp("", "spool-mutants-")
	if err != nil {
		return nil, err
	}
	b := &bench{dir, *timeout, *quick, *torture, *keep}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if err := copyFile(name, filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) { // deleted, and not committed
			return nil, errors.Join(err, b.remove())
		}
	}
	return b, nil
}

func (b *bench) remove() error { return os.RemoveAll(b.dir) }

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// try puts a mutant in, looks for a test that fails, and takes it out again.
func (b *bench) try(ctx context.Context, m *mutant) (o outcome, err error) {
	begun := time.Now()
	defer func() { o.took = time.Since(begun) }()
	if m.equivalent != "" {
		return outcome{verdict: equivalent, by: m.equivalent}, nil
	}
	path := filepath.Join(b.dir, m.file)
	was, err := os.ReadFile(path)
	if err != nil {
		return o, err
	}
	text, err := m.apply(was)
	if err != nil {
		return outcome{verdict: broken, by: err.Error()}, nil
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, os.WriteFile(path, was, 0o644)) }()
	return b.judge(ctx, m), ctx.Err()
}

func (b *bench) judge(ctx context.Context, m *mutant) outcome {
	wrong := func(format string, args ...any) outcome {
		return outcome{verdict: broken, by: fmt.Sprintf("%s: mutant %s: ", m.place, m.name) + fmt.Sprintf(format, args...)}
	}
	look := func(timeout time.Duration, where string, args ...string) outcome {
		out, err := b.test(ctx, timeout, args...)
		switch {
		case bytes.Contains(out, []byte("[build failed]")):
			return wrong("does not compile: %s", firstLine(out))
		case err != nil:
			return b.found(m, where, out)
		case args[0] == "-run" && bytes.Contains(out, []byte("[no tests to run]")):
			return wrong("no test matches %v", args)
		}
		return outcome{}
	}
	for _, t := range m.tests {
		if o := look(b.timeout, t.pkg+" ", "-run", t.pattern, t.pkg); o.verdict != survived {
			return o
		}
	}
	if b.quick {
		return outcome{}
	}
	if o := look(allTests*b.timeout, "go test ./...: ", "-skip", outside, "./..."); o.verdict != survived || !b.torture {
		return o
	}
	if out, err := b.command(ctx, "go", "run", "./internal/torture", "-ci"); err != nil {
		return b.found(m, "torture -ci: ", out)
	}
	return outcome{}
}

// found is the outcome for a mutant that something with this output has caught.
func (b *bench) found(m *mutant, where string, out []byte) outcome {
	o := outcome{verdict: caught, by: where + reason(out)}
	if b.keep != "" {
		if err := os.WriteFile(filepath.Join(b.keep, m.name+".out"), out, 0o644); err != nil {
			o.by += " (" + err.Error() + ")"
		}
	}
	return o
}

// test runs go test, which ends by itself when a test hangs.
func (b *bench) test(ctx context.Context, timeout time.Duration, args ...string) ([]byte, error) {
	return b.command(ctx, "go", append([]string{"test", "-count=1", "-vet=off", "-failfast", "-timeout", timeout.String()}, args...)...)
}

func (b *bench) command(ctx context.Context, name string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = b.dir
	c.WaitDelay = time.Second
	return c.CombinedOutput()
}

var (
	failedTest  = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	runningTest = regexp.MustCompile(`(?m)^\s+(Test\S+|Fuzz\S+|Example\S+) \(`)
	failedRow   = regexp.MustCompile(`(?m)^(.*\S) +failed `)
)

// reason finds in the output of a failed run what has failed.
func reason(out []byte) string {
	what := func(pattern *regexp.Regexp) string {
		if m := pattern.FindSubmatch(out); m != nil {
			return string(m[1])
		}
		return ""
	}
	switch {
	case bytes.Contains(out, []byte("panic: test timed out")):
		return "hangs in " + what(runningTest)
	case what(failedTest) != "":
		return what(failedTest)
	case what(failedRow) != "":
		return what(failedRow)
	}
	for _, sign := range []string{"panic: ", "fatal error: ", "goleak: ", "found unexpected goroutines"} {
		if i := bytes.Index(out, []byte(sign)); i >= 0 {
			return firstLine(out[i:])
		}
	}
	return firstLine(out)
}

func firstLine(out []byte) string {
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return fmt.Sprintf("%.160s", line)
		}
	}
	return "no output"
}
