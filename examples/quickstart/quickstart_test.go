package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/spoolmq/spool"
)

// A child is this test binary, run as the program. It does what stepEnv says: "die recorded 3" kills it with -9 when it
// comes to the step of that name for the third time; "tell recorded 3" makes it print a line there and go on.
const (
	childEnv = "SPOOL_QUICKSTART_CHILD"
	stepEnv  = "SPOOL_QUICKSTART_STEP"
	told     = "here"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	if spec := os.Getenv(stepEnv); spec != "" {
		var do, at string
		var nth, seen atomic.Int64
		var n int64
		if _, err := fmt.Sscan(spec, &do, &at, &n); err != nil {
			panic(err)
		}
		nth.Store(n)
		step = func(name string) {
			if name != at || seen.Add(1) != nth.Load() {
				return
			}
			if do == "tell" {
				fmt.Println(told)
				return
			}
			self, err := os.FindProcess(os.Getpid())
			if err == nil {
				err = self.Kill()
			}
			if err != nil {
				panic(err)
			}
			select {} // the kill is on its way
		}
	}
	main()
}

func child(t *testing.T, stepSpec string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), childEnv+"=1", stepEnv+"="+stepSpec)
	return cmd
}

// signalled runs a child, sends it sig at the step, and returns how it ended.
func signalled(t *testing.T, sig os.Signal, at string, args ...string) *os.ProcessState {
	t.Helper()
	cmd := child(t, "tell "+at, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == told {
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState
}

// must runs the program in this process and wants an exit code.
func must(t *testing.T, code int, stdin io.Reader, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if got := run(args, stdin, &out, &errs); got != code {
		t.Fatalf("run(%q) = %d, want %d\nstdout:\n%s\nstderr:\n%s", args, got, code, &out, &errs)
	}
	return out.String(), errs.String()
}

// table is the value of a row of the table.
func table(t *testing.T, stdout, name string) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + ` +(\d+)`).FindStringSubmatch(stdout)
	if m == nil {
		t.Fatalf("no row %q in\n%s", name, stdout)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// write writes a file of its own for the test and returns its path.
func write(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// joined is a text of these lines.
func joined(lines ...[]byte) []byte { return append(bytes.Join(lines, []byte("\n")), '\n') }

// text is n lines of random length, some of them empty.
func text(t *testing.T, n int) []byte {
	seed := rand.Uint64()
	t.Logf("text(%d) with seed %d", n, seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var b bytes.Buffer
	for i := range n {
		for range r.IntN(12) {
			fmt.Fprintf(&b, "%x ", r.Uint32())
		}
		fmt.Fprintf(&b, "line %d\n", i)
		if r.IntN(10) == 0 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// checkResults compares a file of results with the input, in the plainest way.
func checkResults(t *testing.T, path string, input []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	for i, line := range bytes.Split(bytes.TrimSuffix(input, []byte("\n")), []byte("\n")) {
		fmt.Fprintf(&want, "%d %x %d\n", i+1, sha256.Sum256(line), len(bytes.Fields(line)))
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("the results at %s are not those of the input (%d bytes, want %d)", path, len(got), want.Len())
	}
}

func TestAlmanac(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	out, _ := must(t, 0, nil, "-dir", dir)
	lines := bytes.Count(almanac, []byte("\n"))
	if lines < 2000 {
		t.Errorf("the almanac has %d lines, want 2000", lines)
	}
	if got := table(t, out, "sent"); got != lines {
		t.Errorf("sent %d, want %d", got, lines)
	}
	for _, name := range []string{"lost", "wrong", "active", "inactive", "delayed"} {
		if got := table(t, out, name); got != 0 {
			t.Errorf("%s %d, want 0", name, got)
		}
	}
	if got := table(t, out, "redelivered"); got < 2*((lines+49)/50) {
		t.Errorf("redelivered %d, want at least two for every fiftieth of %d lines", got, lines)
	}
	// Two thirds were wrong when it was noticed, at the earliest, and all that was sent after the first of them is rewound.
	if got := table(t, out, "rewound"); got < lines/3 {
		t.Errorf("rewound %d of %d", got, lines)
	}
	if got := table(t, out, "rewindable"); got != lines {
		t.Errorf("rewindable %d, want all %d deleted ones", got, lines)
	}
	checkResults(t, dir+"-results.txt", almanac)

	again, _ := must(t, 0, nil, "-dir", dir)
	if table(t, again, "received") != table(t, out, "received") {
		t.Errorf("a finished run received again:\n%s", again)
	}
	if _, err := os.Stat(dir + "-results.txt.part"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

func TestFreshDirectory(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("TMP", os.Getenv("TMPDIR"))
	out, _ := must(t, 0, nil, "-in", write(t, []byte("a\n")))
	dir := regexp.MustCompile(`(?m)^spool +(.*)$`).FindStringSubmatch(out)
	if dir == nil {
		t.Fatalf("the directory is not named in\n%s", out)
	}
	if _, err := os.Stat(dir[1]); err != nil {
		t.Error(err)
	}
}

func TestSmallInputs(t *testing.T) {
	for _, input := range []string{"a\n", "a", "\n", "a\n\nb\r\n", "a\nb", "\n\n\n\n\n", "one\ntwo words\nthree words here\n\x00\xff\xfe\n"} {
		dir := filepath.Join(t.TempDir(), "spool")
		out, _ := must(t, 0, nil, "-dir", dir, "-in", write(t, []byte(input)), "-workers", "2")
		if table(t, out, "rewound") < 1 {
			t.Errorf("%q: nothing was rewound:\n%s", input, out)
		}
		checkResults(t, dir+"-results.txt", []byte(input))
	}
}

func TestEmptyInput(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	out, _ := must(t, 0, nil, "-dir", dir, "-in", write(t, nil))
	if got := table(t, out, "sent"); got != 0 {
		t.Errorf("sent %d of nothing", got)
	}
	if results, err := os.ReadFile(dir + "-results.txt"); err != nil || len(results) != 0 {
		t.Errorf("results %q, %v", results, err)
	}
}

func TestLongLines(t *testing.T) {
	word := append(bytes.Repeat([]byte("x"), 999), ' ')
	long := bytes.Repeat(word, maxLine/len(word)+1)[:maxLine]
	input := joined(long, []byte("short"), []byte(""), long[:batchBytes], long[:batchBytes+1])
	if !testing.Short() {
		input = append(input, joined(long[:maxLine-1], long)...)
	}
	dir := filepath.Join(t.TempDir(), "spool")
	must(t, 0, nil, "-dir", dir, "-in", write(t, input))
	checkResults(t, dir+"-results.txt", input)

	dir = filepath.Join(t.TempDir(), "spool")
	_, said := must(t, exitFailed, nil, "-dir", dir, "-in", write(t, joined([]byte("short"), append(long, 'x'))))
	if !strings.Contains(said, "line 2 is longer than 16777216 bytes") {
		t.Errorf("a line that is too long: %s", said)
	}
	s, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if len(s.Queues()) != 0 {
		t.Error("something was done before the line was found")
	}
}

func TestStandardInput(t *testing.T) {
	input := text(t, 1000)
	dir := filepath.Join(t.TempDir(), "spool")
	must(t, 0, bytes.NewReader(input), "-dir", dir, "-in", "-")
	checkResults(t, dir+"-results.txt", input)

	// Killed, and gone on with although standard input is gone.
	dir = filepath.Join(t.TempDir(), "spool")
	cmd := child(t, "die recorded 1", "-dir", dir, "-in", "-", "-visibility", "200ms")
	cmd.Stdin = bytes.NewReader(input)
	if err := cmd.Run(); err == nil {
		t.Fatal("was not killed")
	}
	must(t, 0, strings.NewReader(""), "-dir", dir, "-in", "-", "-visibility", "200ms")
	checkResults(t, dir+"-results.txt", input)
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-workers", "0"}, "-workers 0 is not in 1 to 256"},
		{[]string{"-workers", "257"}, "-workers 257 is not in 1 to 256"},
		{[]string{"-workers", "x"}, "invalid value"},
		{[]string{"-visibility", "0s"}, "-visibility 0s is not in"},
		{[]string{"-nonsense"}, "not defined"},
		{[]string{"surplus"}, `unexpected argument "surplus"`},
	} {
		if _, said := must(t, exitUsage, nil, c.args...); !strings.Contains(said, c.want) || !strings.Contains(said, "-visibility") {
			t.Errorf("%q: %s", c.args, said)
		}
	}
	if _, said := must(t, 0, nil, "-h"); !strings.Contains(said, "-workers") {
		t.Errorf("-h: %s", said)
	}
}

func TestFilesInTheWay(t *testing.T) {
	in := write(t, []byte("a\n"))
	dir := func() string { return filepath.Join(t.TempDir(), "spool") }
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no input", []string{"-dir", dir(), "-in", in + "-absent"}, "absent"},
		{"a directory as input", []string{"-dir", dir(), "-in", t.TempDir()}, "directory"},
		{"a file as spool", []string{"-dir", in, "-in", in}, in},
		{"results nowhere", []string{"-dir", dir(), "-in", in, "-out", filepath.Join(in+"-absent", "out")}, "-out"},
		{"a directory as results", []string{"-dir", dir(), "-in", in, "-out", t.TempDir()}, "is a directory"},
		{"results over input", []string{"-dir", dir(), "-in", in, "-out", in}, "is the input"},
	} {
		if _, said := must(t, exitFailed, nil, c.args...); !strings.Contains(said, c.want) {
			t.Errorf("%s: %q does not say %q", c.name, said, c.want)
		}
	}
	if got, err := os.ReadFile(in); err != nil || string(got) != "a\n" {
		t.Errorf("the input is now %q, %v", got, err)
	}
}

func TestDirectoryInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, said := must(t, exitFailed, nil, "-dir", dir); !strings.Contains(said, strconv.Itoa(os.Getpid())) {
		t.Errorf("a directory in use: %q does not name process %d", said, os.Getpid())
	}
}

func TestOtherInput(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	must(t, 0, nil, "-dir", dir, "-in", write(t, []byte("a\n")))
	if _, said := must(t, exitFailed, nil, "-dir", dir, "-in", write(t, []byte("b\n"))); !strings.Contains(said, "another input") {
		t.Errorf("another input on the same directory: %s", said)
	}
}

// A result that is missing, and one that is not right, must not go unseen.
func TestVerdict(t *testing.T) {
	dir, out := filepath.Join(t.TempDir(), "spool"), filepath.Join(t.TempDir(), "results")
	must(t, 0, nil, "-dir", dir, "-out", out)
	good, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(good, []byte("\n"))
	for _, c := range []struct {
		name        string
		results     []byte
		lost, wrong int
	}{
		{"one dropped", append(bytes.Join(lines[:7], nil), bytes.Join(lines[8:], nil)...), 1, 0},
		{"the last dropped", bytes.Join(lines[:len(lines)-2], nil), 1, 0},
		{"one altered", bytes.Replace(good, lines[100], append([]byte("101 0"), lines[100][5:]...), 1), 0, 1},
		{"a count altered", bytes.Replace(good, lines[100], append(bytes.TrimSuffix(lines[100], []byte("\n")), "0\n"...), 1), 0, 1},
		{"one dropped and one altered", append(bytes.Join(lines[1:7], nil), append([]byte("8 0"), bytes.Join(lines[7:], nil)[3:]...)...), 1, 1},
		{"one twice", append(bytes.Clone(good), lines[3]...), 0, 1},
		{"one too many", append(bytes.Clone(good), "9999999 0 0\n"...), 0, 1},
		{"not a result", append(bytes.Clone(good), "what is this\n"...), 0, 1},
	} {
		if err := os.WriteFile(out, c.results, 0o600); err != nil {
			t.Fatal(err)
		}
		said, _ := must(t, exitFailed, nil, "-dir", dir, "-out", out)
		if lost, wrong := table(t, said, "lost"), table(t, said, "wrong"); lost != c.lost || wrong != c.wrong {
			t.Errorf("%s: lost %d, wrong %d, want %d and %d", c.name, lost, wrong, c.lost, c.wrong)
		}
	}
	if err := os.Remove(out); err != nil {
		t.Fatal(err)
	}
	must(t, 0, nil, "-dir", dir, "-out", out)
	checkResults(t, out, almanac)
}

func TestKilledThreeTimes(t *testing.T) {
	input := text(t, lineCount(t, 30_000))
	in, dir := write(t, input), filepath.Join(t.TempDir(), "spool")
	args := []string{"-in", in, "-dir", dir, "-visibility", "500ms"}
	for _, at := range []string{"sent 5", "recorded 10", "deleted 20"} {
		if state := signalled(t, os.Kill, at, args...); state.Success() {
			t.Fatalf("ran to its end, the kill at %q came too late", at)
		}
	}
	out, _ := must(t, 0, nil, args...)
	checkResults(t, dir+"-results.txt", input)
	if got, want := table(t, out, "sent"), bytes.Count(input, []byte("\n")); got != want {
		t.Errorf("sent %d, want each of %d lines once", got, want)
	}
}

func TestInterruptedThreeTimes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent an interrupt on Windows")
	}
	input := text(t, lineCount(t, 30_000))
	in, dir := write(t, input), filepath.Join(t.TempDir(), "spool")
	args := []string{"-in", in, "-dir", dir}
	for _, at := range []string{"recorded 5", "deleted 10", "fixed 1"} {
		if state := signalled(t, os.Interrupt, at, args...); state.ExitCode() != exitInterrupted {
			t.Fatalf("interrupted at %q: exit code %d, want %d", at, state.ExitCode(), exitInterrupted)
		}
	}
	// In good order means that nothing waits for a lease to end: with the default of 5 s this would show.
	must(t, 0, nil, args...)
	checkResults(t, dir+"-results.txt", input)
}

func TestKilledAtEachStep(t *testing.T) {
	input := text(t, 2000)
	in := write(t, input)
	for _, at := range []string{"sent 1", "sent 3", "recorded 1", "recorded 3", "deleted 1", "deleted 3", "fixed 1", "rewound 1", "published 1"} {
		dir := filepath.Join(t.TempDir(), "spool")
		args := []string{"-in", in, "-dir", dir, "-visibility", "200ms", "-workers", "2"}
		if err := child(t, "die "+at, args...).Run(); err == nil {
			t.Errorf("never came to %q", at)
		}
		if strings.HasPrefix(at, "rew") || strings.HasPrefix(at, "fix") { // and once more at the same place
			if err := child(t, "die rewound 1", args...).Run(); err == nil {
				t.Errorf("did not rewind again after a death at %q", at)
			}
		}
		out, _ := must(t, 0, nil, args...)
		checkResults(t, dir+"-results.txt", input)
		if table(t, out, "sent") != bytes.Count(input, []byte("\n")) || table(t, out, "rewound") == 0 {
			t.Errorf("killed at %q:\n%s", at, out)
		}
	}
}

func TestJournalDamage(t *testing.T) {
	input := text(t, 500)
	in, dir := write(t, input), filepath.Join(t.TempDir(), "spool")
	args := []string{"-in", in, "-dir", dir, "-visibility", "200ms"}
	if err := child(t, "die recorded 1", args...).Run(); err == nil {
		t.Fatal("was not killed")
	}
	path := dir + "-journal.txt"
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Replace(kept, []byte("\nresult "), []byte("\nresult of something else "), 1)
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, said := must(t, exitFailed, nil, args...); !strings.Contains(said, path+": line 2") {
		t.Errorf("a damaged journal: %q does not name its place", said)
	}
	if err := os.WriteFile(path, append(kept, "result cut-off 1 2"...), 0o600); err != nil { // a torn last line
		t.Fatal(err)
	}
	must(t, 0, nil, args...)
	checkResults(t, dir+"-results.txt", input)
}

// lineCount is n, or less of it in a short run.
func lineCount(t *testing.T, n int) int {
	t.Helper()
	if testing.Short() {
		return n / 3
	}
	return n
}
