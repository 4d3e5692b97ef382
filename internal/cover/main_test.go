package main

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"slices"
	"strings"
	"testing"
)

const sample = `package p

import "errors"

var errX = errors.New("x")

type T struct{}

func f() error { return nil }

func (t *T) g(n int) error {
	if err := f(); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	if err := f(); err == nil {
		n++
	}
	if n > 3 {
		return errX
	}
	if n > 4 {
		return nil
	}
	switch err := f(); {
	case errors.Is(err, errX):
		n++
	case n > 1:
		n--
	}
	return f()
}
`

func sampleBranches(t *testing.T) []branch {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "p.go", sample, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	config := types.Config{Importer: importer.ForCompiler(fset, "source", nil)}
	if _, err := config.Check("p", fset, []*ast.File{f}, info); err != nil {
		t.Fatal(err)
	}
	return find(fset, f, info, "p.go")
}

// TestFind: a branch is what is done when something went wrong, and nothing else.
func TestFind(t *testing.T) {
	var got []string
	for _, b := range sampleBranches(t) {
		got = append(got, b.id())
	}
	want := []string{
		"p.go T.g: if err := f(); err != nil",
		"p.go T.g: if err := f(); err != nil #2",
		"p.go T.g: if n > 3",
		"p.go T.g: case errors.Is(err, errX)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("branches\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestCompare: what no test takes is told unless it is listed, and what is listed must still be so.
func TestCompare(t *testing.T) {
	branches := sampleBranches(t)
	taken := profile{}
	err := taken.read(`mode: set
github.com/spoolmq/spool/p.go:12.32,14.3 1 1
github.com/spoolmq/spool/p.go:15.32,17.3 1 0
github.com/spoolmq/spool/p.go:15.32,17.3 1 1
github.com/spoolmq/spool/p.go:21.11,23.3 1 0
github.com/spoolmq/spool/p.go:28.28,29.6 1 0
`)
	if err != nil {
		t.Fatal(err)
	}
	taken.sort()
	listed, err := readExceptions(`# for people
p.go T.g: case errors.Is(err, errX)
    It cannot
    happen.
p.go T.g: if err := f(); err != nil
    A test takes it.
p.go T.g: if err := f(); err != nil #2
    At times: a test takes it.
p.go T.h: if n > 3
    It is not there any more.
`)
	if err != nil {
		t.Fatal(err)
	}
	got := compare(branches, taken, listed)
	for i, want := range []string{"stale exception, a test takes it: p.go T.g: if err := f(); err != nil", "not taken by any test: p.go T.g: if n > 3",
		"stale exception, there is no such branch: p.go T.h: if n > 3"} {
		if len(got) != 3 || !strings.Contains(got[i], want) {
			t.Errorf("compare = %q, want %q", got, want)
		}
	}
	for _, bad := range []string{"  a reason", "a branch\n", "a\n  b\na\n  b\n"} {
		if _, err := readExceptions(bad); err == nil {
			t.Errorf("readExceptions(%q) answers nil", bad)
		}
	}
	if err := (profile{}).read("not a profile"); err == nil {
		t.Error("a line that is not of a profile is read")
	}
}
