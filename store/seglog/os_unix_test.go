//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package seglog

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
)

// TestWritable: what no file can be made in is told with its name. Of permissions see TestOpenUnwritable.
func TestWritable(t *testing.T) {
	dir := t.TempDir()
	if err := writable(dir); err != nil {
		t.Errorf("a directory of one's own: %v", err)
	}
	missing := filepath.Join(dir, "missing")
	var at *fs.PathError
	if err := writable(missing); !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &at) || at.Path != missing {
		t.Errorf("a directory that is not there: %v", err)
	}
}
