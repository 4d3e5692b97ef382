package spool_test

import (
	"os"
	"strings"
	"testing"

	"github.com/spoolmq/spool/internal/torture/record"
)

// TestReliabilityTotals: the totals in the documentation are those of the campaigns that count.
func TestReliabilityTotals(t *testing.T) {
	code, err := record.Code(".")
	if err != nil {
		t.Fatal(err)
	}
	lines, err := record.Read(".")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(record.Docs)
	if err != nil {
		t.Fatal(err)
	}
	if want := record.Table(lines, code); !strings.Contains(string(text), want) {
		t.Errorf("%s has other totals than\n%s(go run ./internal/torture -docs)", record.Docs, want)
	}
}

// TestReliabilityLines: what was run on changed files, on other code, or not at all, does not count.
func TestReliabilityLines(t *testing.T) {
	lines := []record.Line{
		{Row: "kill", Code: "a", Result: "ok", Crashes: 1, Control: record.ControlBites},
		{Row: "kill", Code: "a", Result: "ok", Crashes: 10, Dirty: true},
		{Row: "kill", Code: "b", Result: "ok", Crashes: 100},
		{Row: "kill", Code: "a", Result: "skipped", Crashes: 1000},
		{Row: "power", Code: "a", Result: "ok", Crashes: 10_000},
		{Row: "kill", Code: "a", Result: "failed", Crashes: 5},
	}
	want := record.Total{Campaigns: 2, Failed: 1, Crashes: 6, Controls: 1}
	if got := record.Sum(lines, "kill", "a"); got != want {
		t.Errorf("Sum = %+v, want %+v", got, want)
	}
}
