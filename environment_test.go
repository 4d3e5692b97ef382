package spool_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/spoolmq/spool"
)

// TestRuleRelativePath: a spool stays where it was opened, its index too, when the process goes to another directory.
func TestRuleRelativePath(t *testing.T) {
	ctx, home, elsewhere := context.Background(), t.TempDir(), t.TempDir()
	t.Chdir(home)
	s, err := spool.Open("s")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	t.Chdir(elsewhere)
	q, err := s.CreateQueue(ctx, "q", spool.Meta{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Send(ctx, spool.Message{Body: []byte("m")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(elsewhere); err != nil || len(left) > 0 {
		t.Errorf("%v in the directory that the process went to, %v, want nothing", left, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if report, err := spool.Verify(ctx, filepath.Join(home, "s")); err != nil || !report.OK() || report.Index != "whole" {
		t.Errorf("Verify = %+v, %v, want a whole index", report, err)
	}
}
