package spool_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDependenciesReviewed: docs/dependencies.md has the modules of go.mod in their versions, and no others, and says
// something in each column.
func TestDependenciesReviewed(t *testing.T) {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(?:require )?\t?(\S+\.\S+/\S+) (v\S+)`).FindAllStringSubmatch(string(text), -1) {
		want[m[1]] = m[2]
	}
	page, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(page), "\n") {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if !strings.HasPrefix(line, "| ") || strings.Contains(line, "| module ") || strings.HasPrefix(line, "| module") {
			continue
		}
		for i := range cells {
			if cells[i] = strings.TrimSpace(cells[i]); cells[i] == "" {
				t.Errorf("a cell is empty: %s", line)
			}
		}
		if len(cells) != 6 {
			t.Errorf("%d columns, want 6: %s", len(cells), line)
			continue
		}
		switch version, known := want[cells[0]]; {
		case !known:
			t.Errorf("%s is not in go.mod", cells[0])
		case version != cells[1]:
			t.Errorf("%s is reviewed at %s, go.mod has %s", cells[0], cells[1], version)
		}
		delete(want, cells[0])
	}
	for module, version := range want {
		t.Errorf("%s %s is not reviewed", module, version)
	}
}
