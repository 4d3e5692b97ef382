package spool_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

// TestNoRegularFile: a pipe or a directory in the place of a file is damage like any other, and keeps nobody waiting.
func TestNoRegularFile(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	s, err := spool.Open(image, spool.WithPaging(0, 1<<40))
	if err != nil {
		t.Fatal(err)
	}
	q, err := s.CreateQueue(bg, "q", spool.Meta{})
	for range 10 {
		if err == nil {
			_, err = q.Send(bg, spool.Message{Body: []byte("x")})
		}
	}
	if err := errors.Join(err, s.Checkpoint(), s.Close()); err != nil {
		t.Fatal(err)
	}
	names := []string{"FORMAT", "KEY", "MARK", "log/0000000000000001.seg", "index/MANIFEST", "index/DISCARD"}
	tables, err := filepath.Glob(filepath.Join(image, "index", "*.*"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("%d files in the index, %v", len(tables), err)
	}
	for _, table := range tables {
		names = append(names, filepath.Join("index", filepath.Base(table)))
	}
	for _, name := range names {
		for what, put := range map[string]func(string) error{
			"pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
			"directory": func(path string) error { return os.Mkdir(path, 0o700) },
			"huge file": func(path string) error {
				return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40))
			},
		} {
			dir := filepath.Join(t.TempDir(), "spool")
			path := filepath.Join(dir, name)
			if err := errors.Join(os.CopyFS(dir, os.DirFS(image)), os.Remove(path), put(path)); err != nil {
				t.Fatal(err)
			}
			inLog := filepath.Dir(name) != "index"
			if inLog && what == "huge file" {
				continue // a sparse segment takes as long to read as a full one; TestSurveyEnds
			}
			ctx, cancel := context.WithTimeout(bg, time.Minute)
			r, err := spool.Verify(ctx, dir)
			if err != nil || inLog && r.OK() {
				t.Errorf("%s is a %s: Verify = %v, %v, want damage", name, what, r.Err(), err)
			}
			if r, err = spool.Repair(ctx, dir, dir+"-whole"); err != nil {
				t.Errorf("%s is a %s: Repair = %v", name, what, err)
			} else if n := len(r.Queues); name != "log/0000000000000001.seg" && (n != 1 || r.Queues[0].Active != 10) {
				t.Errorf("%s is a %s: Repair has %+v, want a queue with 10 messages", name, what, r.Queues)
			}
			s, err := spool.Open(dir)
			if err == nil {
				s.Close()
			}
			if inLog != (err != nil) || err != nil && !errors.Is(err, spool.ErrCorrupt) && !errors.Is(err, spool.ErrInvalidArgument) {
				t.Errorf("%s is a %s: Open = %v", name, what, err)
			}
			cancel()
		}
	}
}

// TestNoLockFile: nobody waits for a pipe in the place of the lock file either.
func TestNoLockFile(t *testing.T) {
	dir := t.TempDir()
	s, err := spool.Open(dir)
	if err == nil {
		err = s.Close()
	}
	path := filepath.Join(dir, "LOCK")
	if err := errors.Join(err, os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err = spool.Open(dir)
	wantErr(t, "Open", err, spool.ErrCorrupt)
	_, err = spool.Verify(bg, dir)
	wantErr(t, "Verify", err, spool.ErrCorrupt)
}
