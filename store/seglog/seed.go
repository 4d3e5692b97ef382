package seglog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spoolmq/spool/store"
)

// A Seed is what a new log continues: the identity of another one.
type Seed struct {
	ID        [16]byte
	Key       [32]byte
	Epoch     uint32 // the first Open has a higher one
	HighWater int64  // ns since the Unix epoch
}

// Plant makes an empty log in dir, which is missing or empty, that has an identity of before: ids and receipts that were
// given out under it stay good. Nobody may use dir meanwhile. A directory left in the middle of it is made anew by Open.
func Plant(dir string, seed Seed) error {
	o := Options{}.withDefaults()
	if made, err := inspect(o.files, dir); err != nil {
		return err
	} else if made {
		return fmt.Errorf("%s holds a spool: %w", dir, errors.Join(store.ErrNotStore, os.ErrExist))
	}
	if err := mkdirAll(o.files, dir); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	who := identity{id: seed.ID, key: seed.Key}
	err := createAs(dir, who, mark{id: who.id, epoch: seed.Epoch, highWater: seed.HighWater}, &o)
	if err != nil && noSpace(err) {
		return fmt.Errorf("make a spool in %s: %w: %v", dir, store.ErrNoSpace, err)
	}
	return err
}

// Raise makes the next Open of a log that nobody has open, and that was closed cleanly, have a higher epoch than this
// one. Commit point: the newer slot of MARK.
func Raise(dir string, epoch uint32) error {
	m, err := openMarker(osFS{}, filepath.Join(dir, markName))
	if err != nil {
		return err
	}
	next := m.last
	next.epoch = max(next.epoch, epoch)
	return errors.Join(m.write(next), m.file.Close())
}
