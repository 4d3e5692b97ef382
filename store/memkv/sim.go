package memkv

import (
	"bytes"
	"slices"
	"sync"

	"github.com/spoolmq/spool/store"
)

// An Op is a call of an index that can be made to fail.
type Op int

// The calls that can fail.
const (
	OpApply Op = iota
	OpSync
	OpGet
	OpScan
	numOps
)

// A Sim is an index for tests. It tells apart what was synced and what was only applied, and fails on demand. It may be
// used by any number of goroutines.
//
// Invariant: the content of current is that of synced with the changes of unsynced made to it in order.
type Sim struct {
	mu       sync.Mutex
	current  *Index
	synced   *Index         // guarded by mu; replaced, never changed
	unsynced []store.Change // guarded by mu. Bound: ends with the next Sync.
	faults   [numOps]fault  // guarded by mu
}

// A fault fails the call after the next `after` ones.
type fault struct {
	after int
	err   error // nil: no fault is set
}

var _ store.Index = (*Sim)(nil)

// NewSim returns an empty index.
func NewSim() *Sim { return newSim(New()) }

func newSim(content *Index) *Sim { return &Sim{current: content, synced: content.Clone()} }

// Fail makes the n-th call of op from now on answer err and do nothing; 1 is the next call. It holds once and takes the
// place of a fault set before for the same op. A nil err takes that back.
func (s *Sim) Fail(op Op, n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[op] = fault{after: max(n, 1) - 1, err: err}
}

// fault returns the error for this call of op, if it is the one to fail.
func (s *Sim) fault(op Op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takeFault(op)
}

// takeFault counts a call of op. Caller holds mu.
func (s *Sim) takeFault(op Op) error {
	f := &s.faults[op]
	if f.err == nil {
		return nil
	}
	if f.after > 0 {
		f.after--
		return nil
	}
	err := f.err
	*f = fault{}
	return err
}

// Unsynced returns how many changes were applied since the last Sync.
func (s *Sim) Unsynced() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unsynced)
}

// Crash returns the index that would be found after a crash now: what was synced, and of what was applied since the first
// keep changes, which may end in the middle of a batch; keep is cut to 0 and Unsynced. What is found counts as synced.
// No fault is set in it. The Sim itself goes on, so that several crashes can be tried at one place.
func (s *Sim) Crash(keep int) *Sim {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.synced.Clone()
	for _, c := range s.unsynced[:min(max(keep, 0), len(s.unsynced))] {
		found.change(c)
	}
	return newSim(found)
}

// Clone returns a Sim with the same content, synced and unsynced, and no fault set.
func (s *Sim) Clone() *Sim {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Sim{current: s.current.Clone(), synced: s.synced.Clone(), unsynced: slices.Clone(s.unsynced)}
}

// Apply makes all changes of the batch, or none.
func (s *Sim) Apply(batch []store.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.takeFault(OpApply); err != nil {
		return err
	}
	if err := s.current.Apply(batch); err != nil {
		return err
	}
	for _, c := range batch {
		s.unsynced = append(s.unsynced, store.Change{Key: bytes.Clone(c.Key), Value: bytes.Clone(c.Value)})
	}
	return nil
}

// Sync makes what was applied survive Crash.
func (s *Sim) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.takeFault(OpSync); err != nil {
		return err
	}
	if err := s.current.Sync(); err != nil {
		return err
	}
	s.synced, s.unsynced = s.current.Clone(), nil
	return nil
}

// Get returns the value of a key as a fresh slice, or store.ErrNotFound.
func (s *Sim) Get(key []byte) ([]byte, error) {
	if err := s.fault(OpGet); err != nil {
		return nil, err
	}
	return s.current.Get(key)
}

// Scan returns up to limit entries, as that of Index.
func (s *Sim) Scan(from, to []byte, limit int) ([]store.Entry, error) {
	if err := s.fault(OpScan); err != nil {
		return nil, err
	}
	return s.current.Scan(from, to, limit)
}

// Size is 0: nothing is on disk.
func (s *Sim) Size() int64 { return s.current.Size() }

// Close ends the index; Crash still tells what it leaves.
func (s *Sim) Close() error { return s.current.Close() }
