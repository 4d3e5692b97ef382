package spool

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memkv"
	"github.com/spoolmq/spool/store/memlog"
)

// A faultCall is a call of the log or of the index that can be made to fail.
type faultCall string

const (
	faultAppend   faultCall = "append"
	faultWritten  faultCall = "append that was written"
	faultSync     faultCall = "sync"
	faultGrow     faultCall = "grow"
	faultMark     faultCall = "mark"
	faultDrop     faultCall = "drop"
	faultRead     faultCall = "read"
	faultReplay   faultCall = "replay"
	faultMake     faultCall = "make index"
	faultApply    faultCall = "apply"
	faultKeep     faultCall = "sync index"
	faultGet      faultCall = "get"
	faultScan     faultCall = "scan"
	faultShut     faultCall = "close index"
	faultCloseLog faultCall = "close log"
)

var faultCalls = []faultCall{faultAppend, faultWritten, faultSync, faultGrow, faultMark, faultDrop, faultRead, faultReplay, faultMake,
	faultApply, faultKeep, faultGet, faultScan, faultShut, faultCloseLog}

// A fault makes the n-th call of its kind fail.
type fault struct {
	call faultCall
	n    int
	err  error

	mu    sync.Mutex
	seen  int  // guarded by mu
	quiet bool // guarded by mu; the test itself is at work
}

func (f *fault) of(call faultCall) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.call != call || f.quiet {
		return nil
	}
	if f.seen++; f.seen == f.n {
		return f.err
	}
	return nil
}

// hush has no call fail or count while it is quiet, and tells what it was before.
func (f *fault) hush(quiet bool) (before bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, f.quiet = f.quiet, quiet
	return before
}

// met tells whether there was such a call.
func (f *fault) met() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen >= f.n
}

// A faultDisk is a log and an index in memory of which one call fails. Its directory says whether the index may be believed.
type faultDisk struct {
	*memlog.Log
	*fault
	dir     string
	index   *memkv.Sim
	applied func() // unless nil, called after each Apply of the index
	apply   int    // bytes of changes that the index gets together; 0 = applyBytes
}

func newFaultDisk(t testing.TB, f *fault) *faultDisk {
	return &faultDisk{Log: memlog.New(memlog.Options{SegmentSize: 16 << 10}), fault: f, dir: t.TempDir()}
}

// crash makes the disk what the next open finds: what was synced. What the spool does meanwhile, which ends in before,
// does not count.
func (d *faultDisk) crash(t testing.TB, before func()) {
	t.Helper()
	log := d.Log.Crash(func(int64) int64 { return 0 })
	index := d.index
	if index != nil {
		index = index.Crash(0)
	}
	marker := filepath.Join(d.dir, "index.ok")
	_, unbelieved := os.Stat(marker)
	before()
	d.Log, d.index = log, index
	if unbelieved != nil {
		os.Remove(marker)
	} else if err := os.WriteFile(marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (d *faultDisk) open(opts ...Option) (*Spool, error) {
	return openApplying(cmp.Or(d.apply, applyBytes), d, d.dir, func() (store.Index, error) {
		if err := d.of(faultMake); err != nil {
			return nil, err
		}
		at := filepath.Join(d.dir, "index")
		if err := os.Mkdir(at, 0o700); err == nil || d.index == nil {
			d.index = memkv.NewSim()
		}
		return &faultIndex{d.index, d}, nil
	}, opts...)
}

// failing lets a call of the log fail when it is its turn, with the log failed for good.
func (d *faultDisk) failing(call faultCall, op memlog.Op) {
	if err := d.of(call); err != nil {
		d.Log.Fail(op, 0, err)
	}
}

func (d *faultDisk) Append(p store.Payload) (store.Position, error) {
	d.failing(faultAppend, memlog.Append)
	d.failing(faultWritten, memlog.AppendUnknown)
	return d.Log.Append(p)
}

func (d *faultDisk) Sync(upTo store.Position) error {
	d.failing(faultSync, memlog.Sync)
	return d.Log.Sync(upTo)
}

func (d *faultDisk) Grow(n int64) error {
	d.failing(faultGrow, memlog.Grow)
	return d.Log.Grow(n)
}

func (d *faultDisk) Draw(n int64, _ bool) error { return d.Grow(n) }

func (d *faultDisk) Mark(high int64, clean bool) error {
	d.failing(faultMark, memlog.Mark)
	return d.Log.Mark(high, clean)
}

func (d *faultDisk) Drop(before store.Position) error {
	d.failing(faultDrop, memlog.Drop)
	return d.Log.Drop(before)
}

func (d *faultDisk) ReadRecord(pos store.Position, dst []byte) ([]byte, error) {
	if err := d.of(faultRead); err != nil {
		return nil, err
	}
	return d.Log.ReadRecord(pos, dst)
}

func (d *faultDisk) ReadSpan(from, to store.Position, dst []byte) ([]byte, error) {
	if err := d.of(faultRead); err != nil {
		return nil, err
	}
	return d.Log.ReadSpan(from, to, dst)
}

func (d *faultDisk) Replay(from store.Position, f func(store.Position, []byte) error) error {
	return d.Log.Replay(from, func(pos store.Position, payload []byte) error {
		if err := d.of(faultReplay); err != nil {
			return err
		}
		return f(pos, payload)
	})
}

func (d *faultDisk) Close() error { return errors.Join(d.of(faultCloseLog), d.Log.Close()) }

// A faultIndex is the index of a faultDisk.
type faultIndex struct {
	*memkv.Sim
	d *faultDisk
}

func (ix *faultIndex) Apply(batch []store.Change) error {
	if err := ix.d.of(faultApply); err != nil {
		return err
	}
	err := ix.Sim.Apply(batch)
	if f := ix.d.applied; f != nil {
		f()
	}
	return err
}

func (ix *faultIndex) Sync() error {
	if err := ix.d.of(faultKeep); err != nil {
		return err
	}
	return ix.Sim.Sync()
}

func (ix *faultIndex) Get(key []byte) ([]byte, error) {
	if err := ix.d.of(faultGet); err != nil {
		return nil, err
	}
	return ix.Sim.Get(key)
}

func (ix *faultIndex) Scan(from, to []byte, limit int) ([]store.Entry, error) {
	if err := ix.d.of(faultScan); err != nil {
		return nil, err
	}
	return ix.Sim.Scan(from, to, limit)
}

// Close keeps what was synced, for the next open.
func (ix *faultIndex) Close() error {
	next := ix.Sim.Clone()
	err := errors.Join(ix.d.of(faultShut), ix.Sim.Close())
	ix.d.index = next
	return err
}
