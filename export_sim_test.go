package spool

import "github.com/spoolmq/spool/store"

// OpenOn is Open over a log and an index of the caller's. dir holds nothing but what says that the index may be believed:
// index is called for an empty one when there is no directory of that name in dir, and for the one there is otherwise.
func OpenOn(disk store.Log, dir string, index func() (store.Index, error), opts ...Option) (*Spool, error) {
	return openApplying(applyBytes, disk, dir, index, opts...)
}

// openApplying is OpenOn with changes of the index applied when they are so many bytes.
func openApplying(most int, disk store.Log, dir string, index func() (store.Index, error), opts ...Option) (*Spool, error) {
	o, err := readSpoolOptions(opts)
	if err != nil {
		return nil, err
	}
	s := newSpool(o, disk)
	sh := newShelf(dir, disk, o.logger)
	sh.make, sh.most = index, most
	if err := s.recover(sh); err != nil {
		return nil, storeError(err)
	}
	s.start(o)
	return s, nil
}

// CheckInvariants tells which invariants of the state of a spool do not hold.
func CheckInvariants(s *Spool) []string { return checkSpool(s) }

// WithSynced has f called after each sync of the log, before the spool believes that anything is durable.
func WithSynced(f func()) Option {
	return withStep(func(name string) {
		if name == "commit:synced" {
			f()
		}
	})
}
