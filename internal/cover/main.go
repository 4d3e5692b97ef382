// Command cover tells which error branches of commit, recovery, checkpoint and cleaning no test has taken. It reads the
// profile that `make cover` has go test write, and compares with exceptions.txt, where each has a reason.
//
//	go run ./internal/cover PROFILE...       exit 1 when a branch that is not listed was not taken, or a listed one was
//	go run ./internal/cover -n PROFILE...    print every branch that was not taken, listed or not
package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
)

var all = flag.Bool("n", false, "print every branch that was not taken, and nothing else")

//go:embed exceptions.txt
var exceptions string

func main() {
	flag.Parse()
	if err := run(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "cover:", err)
		os.Exit(1)
	}
}

func run(files []string) error {
	taken := profile{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil {
			err = taken.read(string(text))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	taken.sort()
	listed, err := readExceptions(exceptions)
	if err != nil {
		return fmt.Errorf("exceptions.txt: %w", err)
	}
	branches, err := load()
	if err != nil {
		return err
	}
	if *all {
		for _, b := range branches {
			if !taken.covers(b) {
				fmt.Printf("%s:%d: %s\n", b.file, b.line, b.id())
			}
		}
		return nil
	}
	wrong := compare(branches, taken, listed)
	for _, line := range wrong {
		fmt.Println(line)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%d of %d error branches are not as exceptions.txt says", len(wrong), len(branches))
	}
	fmt.Printf("%d error branches, %d of them not taken for a reason\n", len(branches), len(listed))
	return nil
}

// atTimes begins the reason of a branch that tests take when two goroutines meet in a certain order.
const atTimes = "At times: "

// compare returns a line for every branch that is not what the list says, and for every entry of the list that is not
// about an untaken branch.
func compare(branches []branch, taken profile, listed map[string]string) (wrong []string) {
	known := map[string]bool{}
	for _, b := range branches {
		known[b.id()] = true
		reason, exception := listed[b.id()]
		switch covered := taken.covers(b); {
		case !covered && !exception:
			wrong = append(wrong, fmt.Sprintf("%s:%d: not taken by any test: %s", b.file, b.line, b.id()))
		case covered && exception && !strings.HasPrefix(reason, atTimes):
			wrong = append(wrong, fmt.Sprintf("%s:%d: stale exception, a test takes it: %s", b.file, b.line, b.id()))
		}
	}
	for id := range listed {
		if !known[id] {
			wrong = append(wrong, "stale exception, there is no such branch: "+id)
		}
	}
	return wrong
}

// readExceptions reads the list: a branch on a line, its reason on the indented lines below. Lines that begin with # are
// for people.
func readExceptions(text string) (map[string]string, error) {
	listed, last := map[string]string{}, ""
	for i, line := range strings.Split(text, "\n") {
		switch trimmed := strings.TrimSpace(line); {
		case trimmed == "" || strings.HasPrefix(line, "#"):
		case trimmed != line && last == "":
			return nil, fmt.Errorf("line %d: a reason without a branch", i+1)
		case trimmed != line:
			listed[last] = strings.TrimSpace(listed[last] + " " + trimmed)
		default:
			if _, twice := listed[line]; twice {
				return nil, fmt.Errorf("line %d: %s is listed twice", i+1, line)
			}
			last = line
			listed[last] = ""
		}
	}
	for id, reason := range listed {
		if reason == "" {
			return nil, errors.New(id + " has no reason")
		}
	}
	return listed, nil
}
