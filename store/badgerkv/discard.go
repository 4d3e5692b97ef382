package badgerkv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// discardSize is that of the file in which Badger counts what its value log could give back, and which it maps.
const discardSize = 1 << 20

// makeDiscard makes that file where it is missing, its first page allocated. Badger ends the process when it cannot, and
// writes to the map of a page that the file system may have no room for.
func makeDiscard(dir string) (err error) {
	f, err := os.OpenFile(filepath.Join(dir, "DISCARD"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("badgerkv: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fi, err := f.Stat()
	if err != nil || fi.Size() > 0 {
		return err
	}
	if _, err := f.WriteAt(make([]byte, 4096), 0); err != nil {
		return fmt.Errorf("badgerkv: %w", err)
	}
	return f.Truncate(discardSize)
}
