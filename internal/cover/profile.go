package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const modulePath = "github.com/spoolmq/spool/"

// A span is a block of the profile: where its statements begin, and how often they ran.
type span struct{ line, column, count int }

// A profile has the spans of each file, in order.
type profile map[string][]span

// read adds what go test -coverprofile writes: a line "name.go:line.column,line.column statements count" for each block of
// each package and each test binary. sort must follow.
func (p profile) read(text string) error {
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if strings.HasPrefix(line, "mode:") {
			continue
		}
		name, rest, ok := strings.Cut(line, ":")
		var s, end span
		var statements int
		if _, err := fmt.Sscanf(rest, "%d.%d,%d.%d %d %d", &s.line, &s.column, &end.line, &end.column, &statements, &s.count); err != nil || !ok {
			return fmt.Errorf("line %d is not of a profile: %q", i+1, line)
		}
		name = strings.TrimPrefix(name, modulePath)
		p[name] = append(p[name], s)
	}
	return nil
}

func (p profile) sort() {
	for _, spans := range p {
		slices.SortFunc(spans, func(a, b span) int {
			return cmp.Or(a.line-b.line, a.column-b.column, b.count-a.count)
		})
	}
}

// covers tells whether the first block inside the branch has run in any test binary.
func (p profile) covers(b branch) bool {
	for _, s := range p[b.file] {
		if s.line > b.line || s.line == b.line && s.column >= b.column {
			return s.count > 0
		}
	}
	return false
}
