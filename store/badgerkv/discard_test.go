package badgerkv

import (
	"os"
	"path/filepath"
	"testing"
)

// TestDiscard: the file that Badger ends the process over when it cannot open it is made before, and a failure is an error.
// Found by TestInject of the root package: openat 4 = ENOSPC.
func TestDiscard(t *testing.T) {
	dir := t.TempDir()
	must(t, mustOpen(t, dir).Close())
	fi, err := os.Stat(filepath.Join(dir, "DISCARD"))
	if err != nil || fi.Size() != discardSize || fi.Mode().Perm() != 0o600 {
		t.Errorf("DISCARD = %v, %v, want %d bytes for the owner only", fi, err, discardSize)
	}
	bad := t.TempDir()
	if err := os.Mkdir(filepath.Join(bad, "DISCARD"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := makeDiscard(bad); err == nil {
		t.Error("makeDiscard of a directory = nil, want an error")
	}
	if _, err := Open(bad, Options{}); err == nil {
		t.Error("Open beside a directory called DISCARD = nil, want an error")
	}
}
