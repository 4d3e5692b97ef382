package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// commands are the indented lines of the README between two texts.
func commands(t *testing.T, from, to string) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	check(t, err)
	_, part, found := strings.Cut(string(text), from)
	part, _, ended := strings.Cut(part, to)
	if !found || !ended {
		t.Fatalf("the README has nothing between %q and %q", from, to)
	}
	var lines strings.Builder
	for line := range strings.Lines(part) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			lines.WriteString(command)
		}
	}
	return lines.String()
}

// The README's commands do what it says, signatures included: the AWS CLI and curl against a server that asks for the key.
func TestReadme(t *testing.T) {
	if testing.Short() {
		t.Skip("the AWS CLI takes half a second a command")
	}
	for _, tool := range []string{"bash", "aws", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: the README's commands are not run", tool)
		}
	}
	s := newSite(t, func(o *siteOptions) { o.keys = keyring{"me": "secret"} }, nil)
	script := "set -eu\n" + commands(t, "## With the AWS CLI", "## With Go") + commands(t, "With curl:", "and with Go")
	ctx, stop := context.WithTimeout(t.Context(), 3*patience)
	defer stop()
	cmd := exec.CommandContext(ctx, "bash", "-c", strings.ReplaceAll(script, "http://127.0.0.1:9324", s.url))
	cmd.Env = append(os.Environ(), "AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull, "AWS_PAGER=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`"RewindPeriod": "86400"`, `maxReceiveCount\":3`, `"ApproximateNumberOfMessagesRewindable": "1"`, `{"RestoredMessages":1}`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the commands did not print %s:\n%s", want, out)
		}
	}
}
