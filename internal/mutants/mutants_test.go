package main

import (
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// least is how many mutants docs/reliability.md promises.
const least = 150

// TestListApplies: the text that a mutant changes stands in its file exactly once, what comes out is Go, and the tests that
// it names are there. Who changes that text looks at the mutant too.
func TestListApplies(t *testing.T) {
	all, err := readList(root)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string][]string{}
	real := 0
	for _, m := range all {
		text, err := os.ReadFile(filepath.Join(root, m.file))
		if err != nil {
			t.Errorf("%s: %v", m.place, err)
			continue
		}
		changed, err := m.apply(text)
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := format.Source(changed); err != nil {
			t.Errorf("%s: mutant %s is not Go: %v", m.place, m.name, err)
		}
		if m.equivalent == "" {
			real++
		}
		for _, x := range m.tests {
			if tests[x.pkg] == nil {
				tests[x.pkg] = testsOf(t, x.pkg)
			}
			if !slices.ContainsFunc(tests[x.pkg], matcher(t, x.pattern)) {
				t.Errorf("%s: mutant %s: no test of %s matches %s", m.place, m.name, x.pkg, x.pattern)
			}
		}
	}
	if real < least {
		t.Errorf("%d mutants, want at least %d", real, least)
	}
}

// testsOf are the names of the tests of a package.
func testsOf(t *testing.T, pkg string) (names []string) {
	paths, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w*)\(`).FindAllSubmatch(text, -1) {
			names = append(names, string(f[1]))
		}
	}
	return names
}

// matcher is go test -run's, but for subtests.
func matcher(t *testing.T, pattern string) func(string) bool {
	top, _, _ := strings.Cut(pattern, "/")
	re, err := regexp.Compile(top)
	if err != nil {
		t.Fatal(err)
	}
	return re.MatchString
}

// TestDocumentedNumber: the number in the documentation is the one that TestListApplies checks.
func TestDocumentedNumber(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/reliability.md"))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("at least %d mistakes", least); !strings.Contains(strings.Join(strings.Fields(string(text)), " "), want) {
		t.Errorf("docs/reliability.md does not say %q", want)
	}
}

func TestParseRefuses(t *testing.T) {
	const whole = "mutant a\nwhy w\nfile f\ntest . TestA\n<<<\nold\n===\nnew\n>>>\n"
	all, err := parse("list", whole)
	if err != nil || len(all) != 1 || all[0].old != "old" || all[0].new != "new" {
		t.Fatalf("parse = %+v, %v", all, err)
	}
	for name, text := range map[string]string{
		"field before a mutant": "why w\n" + whole,
		"unknown field":         strings.Replace(whole, "why", "because", 1),
		"no test":               strings.Replace(whole, "test . TestA\n", "", 1),
		"no pattern":            strings.Replace(whole, " TestA", "", 1),
		"no reason":             strings.Replace(whole, "why w\n", "", 1),
		"no end":                strings.Replace(whole, ">>>\n", "", 1),
		"no change":             strings.Replace(whole, "new", "old", 1),
	} {
		if got, err := parse("list", text); err == nil {
			t.Errorf("%s: parse = %+v, want an error", name, got)
		}
	}
}

func TestApplyOnce(t *testing.T) {
	m := mutant{name: "m", file: "f.go", old: "a", new: "b"}
	if got, err := m.apply([]byte("x a y")); err != nil || string(got) != "x b y" {
		t.Errorf("apply = %q, %v", got, err)
	}
	for _, text := range []string{"x y", "a a"} {
		if got, err := m.apply([]byte(text)); err == nil {
			t.Errorf("apply to %q = %q, want that it is stale", text, got)
		}
	}
}

func TestReason(t *testing.T) {
	for out, want := range map[string]string{
		"=== RUN TestA\n--- FAIL: TestA (0.00s)\nFAIL\n":                                    "TestA",
		"panic: test timed out after 1m0s\n\trunning tests:\n\t\tTestB (1m0s)\n":            "hangs in TestB",
		"panic: runtime error: index out of range\n\ngoroutine 1":                           "panic: runtime error: index out of range",
		"model        failed       170000 operations      0 crashes      0 faults; control": "model",
		"": "no output",
	} {
		if got := reason([]byte(out)); got != want {
			t.Errorf("reason(%q) = %q, want %q", out, got, want)
		}
	}
}
