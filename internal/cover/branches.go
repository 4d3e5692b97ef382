package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/printer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// watched are the packages and, of each, the files that are commit, recovery, checkpoint and cleaning. Of seglog it is all
// but what repairs: salvage, survey, claims, copies, guess and seed.
var watched = []struct {
	pkg   string // directory
	files []string
}{
	{".", []string{"checkpoint.go", "clean.go", "keeper.go", "life.go", "pager.go", "reclaim.go", "recover.go", "shelf.go", "spill.go",
		"strays.go"}},
	{"store", []string{"admit.go", "commit.go", "dir.go", "frame.go", "gather.go", "record.go"}},
	{"store/seglog", []string{"ahead.go", "append.go", "chain.go", "create.go", "drop.go", "header.go", "identity.go", "log.go",
		"mark.go", "open.go", "os_linux.go", "os_lock.go", "os_unix.go", "read.go", "recover.go", "replay.go", "reserve.go",
		"ring.go", "scan.go", "segment.go", "space.go", "sync.go", "vfs.go"}},
}

// A branch is what is done when something went wrong: the body of an if or of a case whose condition tests an error, or
// that returns one.
type branch struct {
	file         string
	line, column int // where its statements begin, or a little before
	function     string
	text         string // of the condition
	nth          int    // among those of the same text in the function
}

// id names a branch, also when lines move.
func (b branch) id() string {
	id := b.file + " " + b.function + ": " + b.text
	if b.nth > 1 {
		id += fmt.Sprintf(" #%d", b.nth)
	}
	return id
}

// load returns the branches of all watched files.
func load() (branches []branch, err error) {
	exports, err := exportFiles()
	if err != nil {
		return nil, err
	}
	for _, w := range watched {
		more, err := loadPackage(w.pkg, w.files, exports)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.pkg, err)
		}
		branches = append(branches, more...)
	}
	return branches, nil
}

// goList runs go list and returns its lines.
func goList(args ...string) ([]string, error) {
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("go list: %w: %s", err, exit.Stderr)
	}
	return strings.Fields(string(out)), err
}

// exportFiles returns for each package that is imported where the compiler has put its types.
func exportFiles() (map[string]string, error) {
	lines, err := goList("-export", "-deps", "-f", "{{if .Export}}{{.ImportPath}}={{.Export}}{{end}}", "./...")
	exports := map[string]string{}
	for _, line := range lines {
		pkg, file, _ := strings.Cut(line, "=")
		exports[pkg] = file
	}
	return exports, err
}

// loadPackage returns the branches of some files of a package, as it is built here.
func loadPackage(dir string, names []string, exports map[string]string) (branches []branch, err error) {
	built, err := goList("-f", "{{range .GoFiles}}{{.}} {{end}}", "./"+dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !slices.Contains(built, name) {
			return nil, fmt.Errorf("there is no %s", name)
		}
	}
	var files []*ast.File
	fset := token.NewFileSet()
	for _, name := range built {
		f, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", func(pkg string) (io.ReadCloser, error) { return os.Open(exports[pkg]) })}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	if _, err := config.Check(dir, fset, files, info); err != nil {
		return nil, err
	}
	for i, f := range files {
		if names == nil || slices.Contains(names, built[i]) {
			branches = append(branches, find(fset, f, info, filepath.ToSlash(filepath.Join(dir, built[i])))...)
		}
	}
	return branches, nil
}

// find returns the branches of a file.
func find(fset *token.FileSet, f *ast.File, info *types.Info, name string) (branches []branch) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		nth := map[string]int{}
		add := func(text string, body token.Pos) {
			at := fset.Position(body)
			nth[text]++
			branches = append(branches, branch{name, at.Line, at.Column, function(fn), text, nth[text]})
		}
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.IfStmt:
				if len(n.Body.List) > 0 && (wrong(info, n.Cond) || returnsError(info, n.Body.List)) {
					add("if "+header(fset, n), n.Body.Lbrace)
				}
				if block, ok := n.Else.(*ast.BlockStmt); ok && len(block.List) > 0 && (right(info, n.Cond) || returnsError(info, block.List)) {
					add("else of if "+header(fset, n), block.Lbrace)
				}
			case *ast.CaseClause:
				if len(n.Body) > 0 && (slices.ContainsFunc(n.List, func(e ast.Expr) bool { return wrong(info, e) }) || returnsError(info, n.Body)) {
					add(clause(fset, n), n.Colon)
				}
			}
			return true
		})
	}
	return branches
}

// function is the name of a function, with its receiver's type.
func function(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	t := fn.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name + "." + fn.Name.Name
	}
	return fn.Name.Name
}

// wrong tells whether a condition holds because of an error: one is compared with something, but not found to be nil, or
// errors.Is or errors.As has found it.
func wrong(info *types.Info, cond ast.Expr) (found bool) {
	ast.Inspect(cond, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if (n.Op == token.NEQ || n.Op == token.EQL) && isError(info, n.X) {
				found = found || n.Op == token.NEQ || !isNil(info, n.Y)
			}
		case *ast.CallExpr:
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok {
				if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "errors" {
					found = found || sel.Sel.Name == "Is" || sel.Sel.Name == "As"
				}
			}
		}
		return !found
	})
	return found
}

// right tells whether a condition is that there is no error.
func right(info *types.Info, cond ast.Expr) bool {
	b, ok := cond.(*ast.BinaryExpr)
	return ok && b.Op == token.EQL && isError(info, b.X) && isNil(info, b.Y)
}

// returnsError tells whether statements end with the return of an error that is not nil.
func returnsError(info *types.Info, list []ast.Stmt) bool {
	if len(list) == 0 {
		return false
	}
	ret, ok := list[len(list)-1].(*ast.ReturnStmt)
	if !ok || len(ret.Results) == 0 {
		return false
	}
	last := ret.Results[len(ret.Results)-1]
	if call, ok := last.(*ast.CallExpr); ok && !makesError(call) {
		return false // whether it is an error is decided there
	}
	return isError(info, last) && !isNil(info, last)
}

// makesError tells whether a call returns an error whatever happens.
func makesError(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return ok && (sel.Sel.Name == "Errorf" || sel.Sel.Name == "New")
}

func isNil(info *types.Info, e ast.Expr) bool { return info.Types[e].IsNil() }

var errorType = types.Universe.Lookup("error").Type().Underlying().(*types.Interface)

func isError(info *types.Info, e ast.Expr) bool {
	t := info.Types[e].Type
	return t != nil && !isNil(info, e) && types.Implements(t, errorType)
}

// header is the first line of an if, as it is written.
func header(fset *token.FileSet, n *ast.IfStmt) string {
	text := source(fset, n.Cond)
	if n.Init != nil {
		text = source(fset, n.Init) + "; " + text
	}
	return text
}

func clause(fset *token.FileSet, n *ast.CaseClause) string {
	if n.List == nil {
		return "default"
	}
	var list []string
	for _, e := range n.List {
		list = append(list, source(fset, e))
	}
	return "case " + strings.Join(list, ", ")
}

// source prints a node on one line.
func source(fset *token.FileSet, n ast.Node) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, fset, n); err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
