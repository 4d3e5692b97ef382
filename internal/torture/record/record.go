// Package record is what reliability campaigns leave behind: one line of JSON each, in docs/reliability/runs.jsonl, and
// the totals over the lines that count.
package record

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// File is where the lines are, in the root of the module.
const File = "docs/reliability/runs.jsonl"

// Docs is the page that has the totals.
const Docs = "docs/reliability.md"

// A Line is one campaign. Only the harness writes lines.
type Line struct {
	Row        string  `json:"row"`
	Commit     string  `json:"commit"`
	Dirty      bool    `json:"dirty"` // the tree differed from the commit: the line does not count
	Code       string  `json:"code"`  // hash of the library's code: where it differs from the present one the line does not count
	Command    string  `json:"command"`
	Seed       uint64  `json:"seed,omitempty"`   // the first one
	Target     string  `json:"target,omitempty"` // of fuzz: the only one
	Operations int64   `json:"operations"`
	Crashes    int64   `json:"crashes"`
	Faults     int64   `json:"faults"`
	Result     string  `json:"result"`  // ok, failed or skipped
	Control    string  `json:"control"` // what the run without the guard did
	Why        string  `json:"why,omitempty"`
	Seconds    float64 `json:"seconds"`
}

// Code is a hash of everything that a program that uses the library is built from.
func Code(root string) (string, error) {
	h := sha256.New()
	for _, top := range []string{".", "store", "timer", "rewind"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(name string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case e.IsDir() && (top == "." && name != filepath.Join(root, top) || e.Name() == "storetest"):
				return filepath.SkipDir
			case e.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
				return nil
			}
			text, err := os.ReadFile(name)
			short, _ := filepath.Rel(root, name)
			fmt.Fprintf(h, "%s %d\n%s", filepath.ToSlash(short), len(text), text)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

// Read returns all lines, none if there is no file.
func Read(root string) (lines []Line, err error) {
	f, err := os.Open(filepath.Join(root, File))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for scan := bufio.NewScanner(f); scan.Scan(); {
		var l Line
		if err := json.Unmarshal(scan.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", File, len(lines)+1, err)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// Append adds a line.
func Append(root string, l Line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(root, File), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(append(text, '\n')); err != nil {
		return err
	}
	return f.Close()
}

// A Total is what the lines of a row that count add up to.
type Total struct {
	Campaigns, Failed           int
	Operations, Crashes, Faults int64
	Controls                    int // that failed, as they must
}

// Counts tells whether a line counts: of a clean tree, with the code as it is, and not skipped.
func (l *Line) Counts(code string) bool {
	return !l.Dirty && l.Code == code && l.Result != "skipped"
}

// Sum adds up the lines of a row that count.
func Sum(lines []Line, row, code string) (t Total) {
	for _, l := range lines {
		if l.Row != row || !l.Counts(code) {
			continue
		}
		t.Campaigns++
		if l.Result != "ok" {
			t.Failed++
		}
		if l.Control == ControlBites {
			t.Controls++
		}
		t.Operations += l.Operations
		t.Crashes += l.Crashes
		t.Faults += l.Faults
	}
	return t
}

// ControlBites is what Line.Control says when the run without the guard failed, as it must.
const ControlBites = "failed, as it must"

// Rows are those of the programme, in the order of the documentation.
var Rows = []string{"model", "simulation", "history", "real history", "kill", "power", "io errors", "disk full", "damage", "index loss", "clocks", "fuzz",
	"descriptors", "soak"}

// Table is the totals as they stand in docs/reliability.md.
func Table(lines []Line, code string) string {
	var b strings.Builder
	b.WriteString("| row | campaigns | failed | operations | crashes | faults | controls that failed, as they must |\n|---|---|---|---|---|---|---|\n")
	for _, row := range Rows {
		t := Sum(lines, row, code)
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d |\n", row, t.Campaigns, t.Failed, t.Operations, t.Crashes, t.Faults, t.Controls)
	}
	return b.String()
}

// WriteDocs puts the totals into the documentation.
func WriteDocs(root string, lines []Line, code string) error {
	const begin, end = "<!-- totals -->\n", "<!-- end -->"
	name := filepath.Join(root, Docs)
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s: no place for the totals", Docs)
	}
	return os.WriteFile(name, []byte(before+begin+"\n"+Table(lines, code)+"\n"+end+after), 0o644)
}
