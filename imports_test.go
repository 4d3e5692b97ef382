package spool_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/spoolmq/spool"

// importRules say who may import whom: packages by their folder in the module, "." for the root, a prefix where a
// pattern ends in "/...".
var importRules = []struct {
	why  string
	who  func(pkg string) bool // packages the rule is for
	what func(imported string) bool
	may  func(pkg, imported string) bool
}{
	{
		"the root imports store, timer and rewind and nothing else of ours",
		func(pkg string) bool { return pkg == "." }, importsOurs,
		func(_, imported string) bool {
			top, _, _ := strings.Cut(strings.TrimPrefix(imported, modulePath+"/"), "/")
			return top == "store" || top == "timer" || top == "rewind"
		},
	},
	{
		"timer and rewind import nothing of ours",
		func(pkg string) bool { return importsWithin(pkg, "timer") || importsWithin(pkg, "rewind") }, importsOurs,
		nil,
	},
	{
		"store knows nothing of what is above it",
		func(pkg string) bool { return importsWithin(pkg, "store") }, importsOurs,
		func(_, imported string) bool { return importsWithin(imported, modulePath+"/store") },
	},
	{
		"only store/badgerkv imports Badger",
		nil, func(imported string) bool { return strings.HasPrefix(imported, "github.com/dgraph-io/") },
		func(pkg, _ string) bool {
			return importsWithin(pkg, "store/badgerkv") || importsWithin(pkg, "bench/peers")
		},
	},
	{
		"only rewind and store/memkv import btree",
		nil, func(imported string) bool { return importsWithin(imported, "github.com/google/btree") },
		func(pkg, _ string) bool { return importsWithin(pkg, "rewind") || importsWithin(pkg, "store/memkv") },
	},
	{
		"nothing outside examples and bench/peers imports net or net/http",
		nil, func(imported string) bool { return imported == "net" || importsWithin(imported, "net/http") },
		func(pkg, _ string) bool { return importsWithin(pkg, "examples") || importsWithin(pkg, "bench/peers") },
	},
	{
		"internal/history judges the library and imports nothing of ours",
		func(pkg string) bool { return importsWithin(pkg, "internal/history") }, importsOurs, nil,
	},
	{
		"only tests import internal/history",
		nil, func(imported string) bool { return importsWithin(imported, modulePath+"/internal/history") },
		nil,
	},
	{
		"only the commands draw progress bars",
		nil, func(imported string) bool { return strings.HasPrefix(imported, "github.com/schollz/progressbar") },
		func(pkg, _ string) bool { return pkg == "examples/quickstart" || pkg == "cmd/spool" },
	},
	{
		"only tests import internal/model",
		nil, func(imported string) bool { return importsWithin(imported, modulePath+"/internal/model") },
		nil,
	},
}

func importsOurs(imported string) bool { return importsWithin(imported, modulePath) }

func importsWithin(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

// TestImports holds the plan of the house (docs/adr, DESIGN section 2). What tests import is left free, but for Badger,
// btree and the network.
func TestImports(t *testing.T) {
	seen := map[string]int{}
	err := filepath.WalkDir(".", func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := e.Name(); e.IsDir() {
			if file != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "tools") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg := path.Dir(filepath.ToSlash(file))
		seen[pkg]++
		test := strings.HasSuffix(file, "_test.go")
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			for _, r := range importRules {
				if r.who != nil && !r.who(pkg) || !r.what(imported) || r.may != nil && r.may(pkg, imported) || test && importsOurs(imported) {
					continue
				}
				t.Errorf("%s imports %s: %s", file, imported, r.why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range []string{".", "store", "store/seglog", "store/memlog", "store/badgerkv", "store/memkv", "timer", "rewind", "cmd/spool"} {
		if seen[pkg] == 0 {
			t.Errorf("package %s has no file: the rules are out of date", pkg)
		}
	}
}

// TestDirectDependencies holds what the root module may need.
func TestDirectDependencies(t *testing.T) {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{
		"github.com/dgraph-io/badger/v4", "github.com/google/btree", "go.uber.org/goleak", "golang.org/x/sys",
		"pgregory.net/rapid", "github.com/schollz/progressbar/v3",
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "require"))
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.HasPrefix(fields[1], "v") || strings.HasSuffix(line, "// indirect") {
			continue
		}
		if !slices.Contains(allowed, fields[0]) {
			t.Errorf("go.mod requires %s directly, want only %v", fields[0], allowed)
		}
	}
}
