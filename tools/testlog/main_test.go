package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	in := strings.Join([]string{
		`{"Action":"start","Package":"p"}`,
		`{"Action":"output","Package":"p","Test":"TestGood","Output":"=== RUN   TestGood\n"}`,
		`{"Action":"output","Package":"p","Test":"TestGood","Output":"    g_test.go:1: chatter\n"}`,
		`{"Action":"pass","Package":"p","Test":"TestGood"}`,
		`{"Action":"output","Package":"p","Test":"TestBad","Output":"    b_test.go:3: got 1, want 2\n"}`,
		`{"Action":"fail","Package":"p","Test":"TestBad"}`,
		`{"Action":"output","Package":"p","Test":"TestSkip","Output":"=== RUN   TestSkip\n"}`,
		`{"Action":"output","Package":"p","Test":"TestSkip","Output":"    s_test.go:9: needs root\n"}`,
		`{"Action":"output","Package":"p","Test":"TestSkip","Output":"--- SKIP: TestSkip (0.00s)\n"}`,
		`{"Action":"skip","Package":"p","Test":"TestSkip"}`,
		`{"Action":"output","Package":"p","Test":"TestCut","Output":"    c_test.go:2: about to exit\n"}`,
		`{"ImportPath":"q","Action":"build-output","Output":"q.go:1:1: syntax error\n"}`,
		`{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}`,
		`{"Action":"fail","Package":"p"}`,
		`go: a line that is no event`,
	}, "\n") + "\n"
	skips := filepath.Join(t.TempDir(), "skips")
	var out strings.Builder
	if err := run(strings.NewReader(in), &out, "./m", skips); err != nil {
		t.Fatal(err)
	}
	want := "    b_test.go:3: got 1, want 2\nq.go:1:1: syntax error\nFAIL\tp\t0.1s\n    c_test.go:2: about to exit\ngo: a line that is no event\n"
	if out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
	got, err := os.ReadFile(skips)
	if err != nil {
		t.Fatal(err)
	}
	if want := "  ./m: p TestSkip: s_test.go:9: needs root\n"; string(got) != want {
		t.Errorf("skips = %q, want %q", got, want)
	}
}
