package spool_test

import (
	"bytes"
	"context"
	"errors"
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

// TestRuleDirectoryReplaced: a spool whose directory was renamed stops before it touches what has come in its place, and what
// it has acknowledged is in the directory that was its own.
func TestRuleDirectoryReplaced(t *testing.T) {
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "s")
	first, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	q, err := first.CreateQueue(ctx, "q", spool.Meta{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	second, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	p, err := second.CreateQueue(ctx, "q", spool.Meta{})
	if err != nil {
		t.Fatal(err)
	}
	var sent [2]int64
	var refused error
	body := bytes.Repeat([]byte("m"), 60_000)
	for range 100 { // several segments
		if _, err := p.Send(ctx, spool.Message{Body: body}); err != nil {
			t.Fatal(err)
		}
		sent[1]++
		if refused != nil {
			continue
		}
		if _, refused = q.Send(ctx, spool.Message{Body: body}); refused == nil {
			sent[0]++
		}
	}
	if !errors.Is(refused, spool.ErrStoreFailed) {
		t.Errorf("Send in a directory that was moved = %v after %d messages, want ErrStoreFailed", refused, sent[0])
	}
	if err := first.Close(); !errors.Is(err, spool.ErrStoreFailed) {
		t.Errorf("Close of a directory that was moved = %v, want ErrStoreFailed", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	for i, path := range []string{dir + ".moved", dir} {
		s, err := spool.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		q, err := s.Queue("q")
		if err != nil {
			t.Fatal(err)
		}
		if a, err := q.Attributes(ctx); err != nil || a.Active < sent[i] || a.Active > sent[i]+1 {
			t.Errorf("%s: %d active, %v, want the %d that were sent", path, a.Active, err, sent[i])
		}
	}
}

// TestRuleDirectoryRemoved: a spool does not bring back a directory that was removed, and a new one can be made there.
func TestRuleDirectoryRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for err = os.RemoveAll(dir); err != nil; err = os.RemoveAll(dir) {
		t.Log(err) // the reserve is being filled
	}
	if err := s.Checkpoint(); err == nil {
		t.Error("a checkpoint was made in a directory that was removed")
	}
	if err := s.Close(); !errors.Is(err, spool.ErrStoreFailed) {
		t.Errorf("Close of a directory that was removed = %v, want ErrStoreFailed", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory that was removed is there again")
	}
	again, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
