package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A mutant is one mistake in the library.
//
// Format: the files of the folder list hold mutants one behind the other, in lines. Empty lines between them, and lines that
// begin with "#", mean nothing.
//
//	mutant NAME
//	why   what a person would have done wrong
//	file  path in the module
//	test  PACKAGE PATTERN     of go test -run: what is expected to notice it; any number of them
//	equivalent  REASON        nobody can notice it: it is listed, not run
//	<<<
//	text that stands in the file exactly once
//	===
//	what stands there instead
//	>>>
//
// The line breaks before === and >>> belong to neither text.
type mutant struct {
	name, why, file string
	tests           []namedTest
	equivalent      string
	old, new        string
	place           string // file and line in the list
}

type namedTest struct{ pkg, pattern string }

// listDir is where the list is, in the root of the module.
const listDir = "internal/mutants/list"

// readList reads all mutants, in the order of their files.
func readList(root string) (all []mutant, err error) {
	paths, err := filepath.Glob(filepath.Join(root, listDir, "*.txt"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		some, err := parse(filepath.Base(path), string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	names := map[string]string{}
	for _, m := range all {
		if other := names[m.name]; other != "" {
			return nil, fmt.Errorf("%s: mutant %s, as at %s", m.place, m.name, other)
		}
		names[m.name] = m.place
	}
	return all, nil
}

// parse reads the text of one file of the list.
func parse(name, text string) (all []mutant, err error) {
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		word, rest, _ := strings.Cut(lines[i], " ")
		rest = strings.TrimSpace(rest)
		place := fmt.Sprintf("%s:%d", name, i+1)
		if word == "" || strings.HasPrefix(word, "#") {
			continue
		}
		if word == "mutant" {
			all = append(all, mutant{name: rest, place: place})
			continue
		}
		if len(all) == 0 {
			return nil, fmt.Errorf("%s: %q before the first mutant", place, lines[i])
		}
		m := &all[len(all)-1]
		if word != "<<<" {
			if err := m.field(word, rest); err != nil {
				return nil, fmt.Errorf("%s: %w", place, err)
			}
			continue
		}
		middle, end := i+slices.Index(lines[i:], "==="), i+slices.Index(lines[i:], ">>>")
		if middle < i || end < middle {
			return nil, fmt.Errorf("%s: <<< without === and >>>", place)
		}
		m.old, m.new = strings.Join(lines[i+1:middle], "\n"), strings.Join(lines[middle+1:end], "\n")
		i = end
	}
	for _, m := range all {
		if m.name == "" || m.why == "" || m.file == "" || m.old == "" || m.old == m.new || len(m.tests) == 0 && m.equivalent == "" {
			return nil, fmt.Errorf("%s: mutant %q lacks something", m.place, m.name)
		}
	}
	return all, nil
}

func (m *mutant) field(word, rest string) error {
	switch word {
	case "why":
		m.why = rest
	case "file":
		m.file = rest
	case "test":
		pkg, pattern, ok := strings.Cut(rest, " ")
		if !ok {
			return fmt.Errorf("test %q, want a package and a pattern", rest)
		}
		m.tests = append(m.tests, namedTest{pkg, strings.TrimSpace(pattern)})
	case "equivalent":
		m.equivalent = cmp.Or(rest, "no reason given")
	default:
		return fmt.Errorf("%q is no field of a mutant", word)
	}
	return nil
}

// apply returns the file's text with the mistake in it. It fails for a mutant that is stale: the text that it changes is
// not there any more, or there more than once.
func (m *mutant) apply(text []byte) ([]byte, error) {
	if n := bytes.Count(text, []byte(m.old)); n != 1 {
		return nil, fmt.Errorf("%s: mutant %s is stale: its text stands in %s %d times, want once", m.place, m.name, m.file, n)
	}
	return bytes.Replace(text, []byte(m.old), []byte(m.new), 1), nil
}
