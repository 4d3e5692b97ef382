package spool

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/seglog"
)

// Repair recovers what is whole of the spool in from, which nobody has open, into a new spool in to, a directory that is
// missing or empty. The spool in from is only read, down to the last byte as it was. Its index counts for nothing but the
// settings of queues that the log has lost.
//
// With to equal to from the repaired spool takes the place of the damaged one, which stays beside it: as
// "<from>.damaged-<n>", see Report.Kept.
//
// What comes through, in the order it had: every message whose body verifies and of which no surviving record says that it
// is deleted or gone, with its ID, body, attributes, EnqueuedAt, receive count, lease and delay; the queues with their
// newest settings that can be read; receipts, unless the file KEY is damaged. Damage takes with it what it hit, and that is
// in the report:
//
//   - A message whose body is hit is lost, unless the log has another copy of it.
//   - A lost delete, receive or move has the message come back: it may be delivered again. A lost rewind leaves what it
//     brought back rewindable.
//   - A queue that neither settings nor the index tell of is named by what refers to it, or "recovered-<number>", and
//     keeps messages for as long as a queue may. A lost change of settings leaves the settings before.
//   - A batch that is hit in the middle comes through in part.
//   - Without the file MARK it is not known where the log begins: messages deleted long ago may come back.
//
// Memory: as much as Open without an index. Disk: what is in the log, until the repaired spool is cleaned for the first
// time.
//
// Errors: ErrInvalidArgument when from holds no spool or to is in use, ErrLocked while somebody has from open,
// ErrFormatVersion, ErrNoSpace, ErrStoreFailed, or the context's. After an error to is as it was. What is damaged is no
// error.
func Repair(ctx context.Context, from, to string, opts ...CheckOption) (Report, error) {
	c, err := newCheck(ctx, from, opts)
	if err != nil {
		return Report{Dir: from}, err
	}
	p, err := newPlacement(c.report.Dir, to)
	if err == nil {
		err = c.repairInto(p)
	}
	return c.report, cmp.Or(storeError(err), storeError(c.survey.Close()))
}

// repairInto is a list of steps. Nobody sees what is made before the last one.
//
//	step                                  dies here
//	1 the new spool under a passing name  the original as it was; a directory "<to>.repairing-…" to be removed
//	  (repair:made, :begun, :copied)
//	2 synced and closed cleanly           likewise
//	  (repair:marked, :done)
//	3 it gets its name                    see placement
func (c *checkup) repairInto(p *placement) error {
	tmp, err := os.MkdirTemp(filepath.Dir(p.to), filepath.Base(p.to)+".repairing-")
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w: %w", store.ErrNoSpace, err)
	}
	if err != nil {
		return openError("to", p.to, err)
	}
	defaults.step.at(stepRepairMade)
	if err := c.rebuild(tmp); err != nil {
		return cmp.Or(err, os.RemoveAll(tmp))
	}
	if p.aside && runtime.GOOS == "windows" { // a directory with an open file cannot be renamed there
		if err := c.survey.Close(); err != nil {
			return cmp.Or(err, os.RemoveAll(tmp))
		}
	}
	if c.report.Kept, err = p.place(tmp); err != nil {
		return fmt.Errorf("the repaired spool is in %s: %w", tmp, err)
	}
	return nil
}

// rebuild makes the repaired spool in dir.
func (c *checkup) rebuild(dir string) error {
	info := c.survey.Info()
	seed := seglog.Seed{ID: info.SpoolID, Key: info.Key}
	if !c.survey.Keyed() {
		rand.Read(seed.Key[:])
		c.report.note("the key is lost: receipts of before are not valid any more")
	}
	if seed.ID == [16]byte{} {
		rand.Read(seed.ID[:])
	}
	if err := seglog.Plant(dir, seed); err != nil {
		return err
	}
	out, err := seglog.Open(dir, seglog.Options{Step: defaults.step})
	if err != nil {
		return err
	}
	defaults.step.at(stepRepairBegun)
	end, err := c.survey.Check()
	if errors.Is(err, store.ErrCorrupt) {
		end, err = math.MaxUint64, nil
	}
	m := newMender(c, out)
	if err == nil {
		err = c.read(end, m.record)
	}
	defaults.step.at(stepRepairCopied)
	if err == nil {
		err = m.finish()
	}
	defaults.step.at(stepRepairMarked)
	if err == nil {
		err = m.review()
	}
	if err = cmp.Or(err, out.Close()); err != nil {
		return err
	}
	if err := seglog.Raise(dir, max(m.epoch, c.survey.Info().Epoch)); err != nil {
		return err
	}
	defaults.step.at(stepRepairDone)
	return nil
}

// review replays what was written, as Open will, and counts.
func (m *mender) review() error {
	o := defaults
	o.logger = slog.New(slog.DiscardHandler)
	s := newSpool(o, m.out.log)
	r := &replay{spool: s, queues: map[uint32]*Queue{}}
	if err := r.run(s.disk.Start()); err != nil {
		return fmt.Errorf("replay of what was repaired: %w", err)
	}
	m.count(r.queues)
	m.weighLosses(r.queues)
	return nil
}

// A placement is where a repaired spool goes.
//
//	step                                    dies here
//	1 into an empty or missing directory:   the directory as it was, or the repaired spool
//	  one rename
//	1 into the place of the original: the   the original, or the repaired spool and the original as "….repairing-…"
//	  two names are exchanged, where the
//	  system can do that (repair:traded)
//	  otherwise the original is renamed     no directory of that name: the original is there as ".damaged-<n>", the
//	  (repair:aside) and then the repaired  repaired spool as "….repairing-…"
//	  spool
//	2 the original gets its name aside      as intended
//	  (repair:placed)
//
// Each directory is whole at any time, under one name or another, and none is removed.
type placement struct {
	to       string
	aside    bool                    // what is there is the original, which goes aside
	exchange func(a, b string) error // store.Exchange, but in tests
}

// newPlacement decides where a spool repaired from a directory goes, and refuses what is in use.
func newPlacement(from, to string) (*placement, error) {
	if err := checkPath("to", to); err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(to)
	if err != nil {
		return nil, err
	}
	real, err := filepath.EvalSymlinks(from)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
		if err != nil {
			return nil, badArgument("to", to, "a directory whose parent is there")
		}
		if within(parent, real) {
			return nil, badArgument("to", to, "a directory that is not in the damaged one")
		}
		return &placement{to: abs}, nil
	case err != nil:
		return nil, openError("to", to, err)
	}
	if was, err := os.Stat(real); err == nil && os.SameFile(was, info) {
		return &placement{to: real, aside: true, exchange: store.Exchange}, nil
	}
	entries, err := os.ReadDir(abs)
	if err != nil || len(entries) > 0 {
		return nil, badArgument("to", to, "a directory that is missing or empty, or the damaged one itself")
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return nil, err
	}
	if within(abs, real) {
		return nil, badArgument("to", to, "a directory that is not in the damaged one")
	}
	return &placement{to: abs}, nil
}

// within tells whether a path is a directory or lies in it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// place gives a repaired spool its name, and returns where the original is then, if it has made room.
func (p *placement) place(tmp string) (kept string, err error) {
	parent := filepath.Dir(p.to)
	if !p.aside {
		if err := os.Remove(p.to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err // it is not empty any more
		}
		err := errors.Join(os.Rename(tmp, p.to), store.SyncDir(parent))
		defaults.step.at(stepRepairPlaced)
		return "", err
	}
	if kept, err = spare(p.to); err != nil {
		return "", err
	}
	if p.exchange(tmp, p.to) == nil {
		defaults.step.at(stepRepairTraded)
		err = errors.Join(store.SyncDir(parent), os.Rename(tmp, kept))
	} else {
		if err := os.Rename(p.to, kept); err != nil {
			return "", err
		}
		defaults.step.at(stepRepairAside)
		err = os.Rename(tmp, p.to)
	}
	err = errors.Join(err, store.SyncDir(parent))
	defaults.step.at(stepRepairPlaced)
	return kept, err
}

// spare is a name beside dir that nobody has.
func spare(dir string) (string, error) {
	for n := 1; ; n++ {
		name := fmt.Sprintf("%s.damaged-%d", dir, n)
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name, nil
		} else if err != nil {
			return "", err
		}
	}
}
