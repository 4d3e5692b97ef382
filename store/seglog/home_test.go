package seglog

import (
	"os"
	"path/filepath"
	"testing"
)

// TestHome: when the directory was moved, removed or replaced, nothing is done by name any more, and the log fails with its
// next mark.
func TestHome(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(path string) { t.Helper(); must(os.WriteFile(path, nil, 0o600)) }
	for name, spoil := range map[string]func(dir string){
		"moved":    func(dir string) { must(os.Rename(dir, dir+".moved")) },
		"unlocked": func(dir string) { must(os.Remove(filepath.Join(dir, lockName))) },
		"a file":   func(dir string) { must(os.Rename(dir, dir+".moved")); put(dir) },
		"replaced": func(dir string) {
			must(os.Rename(dir, dir+".moved"))
			must(os.Mkdir(dir, 0o700))
			put(filepath.Join(dir, lockName))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "s")
			l, err := Open(dir, Options{SegmentSize: 4 << 10}) // without a reserve nothing is made beside
			must(err)
			defer l.Close()
			must(l.Home())
			spoil(dir)
			there := filepath.Join(filepath.Dir(dir), "there")
			put(there)
			if _, err := l.files.OpenFile(there, os.O_RDWR); err == nil {
				t.Error("a file was opened")
			}
			if err := l.files.Rename(there, there+".renamed"); err == nil {
				t.Error("a file was renamed")
			}
			if err := l.files.Remove(there); err == nil {
				t.Error("a file was removed")
			}
			if _, err := os.Stat(there); err != nil {
				t.Error(err)
			}
			if err := l.Mark(0, false); err == nil || l.usable() == nil {
				t.Errorf("Mark = %v, and the log goes on", err)
			}
			must(l.lock.Close())
			if err := l.Home(); err != nil {
				t.Errorf("Home without a lock file = %v, want nil: it cannot be found out", err)
			}
		})
	}
}
