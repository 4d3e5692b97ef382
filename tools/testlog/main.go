// Command testlog reads what go test -json writes and prints what go test would have printed without it: the closing
// line of each package and the whole output of each test that failed. It appends one line for every skipped test, with
// the reason the test gave, to the file named by -skips.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	name := flag.String("run", ".", "name of this run, for the list of skipped tests")
	skips := flag.String("skips", "", "file that skipped tests are appended to")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *name, *skips); err != nil {
		fmt.Fprintln(os.Stderr, "testlog:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, name, skipsFile string) error {
	l := log{out: out, output: map[test][]string{}}
	r := bufio.NewReader(in)
	for {
		line, err := r.ReadBytes('\n')
		if len(line) > 0 {
			l.add(line)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if skipsFile == "" || len(l.skipped) == 0 {
		return nil
	}
	f, err := os.OpenFile(skipsFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	for _, s := range l.skipped {
		if _, err := fmt.Fprintf(f, "  %s: %s\n", name, s); err != nil {
			f.Close()
			return err
		}
	}
	return f.Close()
}

// An event is one line of go test -json (see go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of a build-output event
	Test       string
	Output     string
}

type test struct{ pkg, name string }

// A log holds the output of tests that have not ended: a test's output is dropped when it passes.
type log struct {
	out     io.Writer
	output  map[test][]string
	skipped []string
}

func (l *log) add(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil {
		l.out.Write(line) // not an event: something go test itself had to say
		return
	}
	t := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		io.WriteString(l.out, e.Output)
	case "output":
		if e.Test == "" {
			if e.Output != "PASS\n" {
				io.WriteString(l.out, e.Output)
			}
			return
		}
		l.output[t] = append(l.output[t], e.Output)
	case "fail":
		l.print(t)
		if e.Test == "" {
			l.printUnfinished(e.Package)
		}
	case "skip":
		if e.Test != "" {
			l.skipped = append(l.skipped, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(l.output[t])))
		}
		delete(l.output, t)
	case "pass":
		delete(l.output, t)
	}
}

func (l *log) print(t test) {
	for _, s := range l.output[t] {
		io.WriteString(l.out, s)
	}
	delete(l.output, t)
}

// printUnfinished prints what the tests of a package said that were still running when its process ended.
func (l *log) printUnfinished(pkg string) {
	var left []test
	for t := range l.output {
		if t.pkg == pkg {
			left = append(left, t)
		}
	}
	slices.SortFunc(left, func(a, b test) int { return strings.Compare(a.name, b.name) })
	for _, t := range left {
		l.print(t)
	}
}

// reason is what a skipped test printed, on one line and without the lines of the test framework.
func reason(output []string) string {
	var said []string
	for _, line := range strings.Split(strings.Join(output, ""), "\n") {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			said = append(said, line)
		}
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, " ")
}
