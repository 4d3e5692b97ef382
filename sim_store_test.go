package spool_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memkv"
	"github.com/spoolmq/spool/store/memlog"
)

// A simFault is a call of the two contracts that can be made to fail.
type simFault int

const (
	faultAppend simFault = iota
	faultAppendUnknown
	faultSync
	faultGrow
	faultMark
	faultDrop
	faultApply
	faultIndexSync
	faultGet
	faultScan
	simFaults
)

var simFaultNames = [...]string{"append", "append unknown", "sync", "grow", "mark", "drop", "apply", "index sync", "get", "scan"}

// A simDisk is what survives: a log and an index in memory, which take virtual time and fail when they are told to.
//
// Every sleep ends at an instant of which the last six bits say who sleeps, so that no two things happen at one instant
// by chance, and a seed makes the same history however the goroutines are scheduled.
type simDisk struct {
	*memlog.Log
	dir   string // says that the index may be believed
	rng   *rand.Rand
	flush *rand.Rand
	frank bool           // syncs are seen to take as long as they do
	begun store.Position // of the goroutine that syncs: what is on its way to stable storage, and said to be there; 0: nothing

	mu    sync.Mutex
	index *memkv.Sim // guarded by mu
	armed [simFaults]struct {
		after int // calls that still succeed
		err   error
	} // guarded by mu
	hit     [simFaults]int // guarded by mu
	durable store.Position // guarded by mu; what reached stable storage while another call failed the log
	first   int64          // guarded by mu; when a fault was met first; 0: none has been
}

// simSleep sleeps for about d, until an instant that is nobody else's.
func simSleep(d time.Duration, who int64) {
	at := time.Now().UnixNano() + int64(d)
	at += (who - at%64 + 64) % 64
	time.Sleep(time.Duration(at - time.Now().UnixNano()))
}

const simFrank = 4 // one disk in so many is frank

const ( // who sleeps, besides the actors
	simChaos  = 58
	simWrites = 60
	simSyncs  = 61
)

// arm makes the call after n more of its kind fail once.
func (d *simDisk) arm(f simFault, n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed[f].after, d.armed[f].err = n, err
}

// fails tells whether a call has to fail now.
func (d *simDisk) fails(f simFault) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := &d.armed[f]
	if a.err == nil {
		return nil
	}
	if a.after > 0 {
		a.after--
		return nil
	}
	err := a.err
	a.err = nil
	d.hit[f]++
	if d.first == 0 && f != faultGrow {
		d.first = simNow()
	}
	return fmt.Errorf("%s: %w", simFaultNames[f], err)
}

func (d *simDisk) Append(p store.Payload) (store.Position, error) {
	simSleep(time.Duration(20_000+d.rng.IntN(100_000)), simWrites)
	if err := d.fails(faultAppend); err != nil {
		d.Log.Fail(memlog.Append, 0, err)
	}
	if err := d.fails(faultAppendUnknown); err != nil {
		d.Log.Fail(memlog.AppendUnknown, 0, err)
	}
	pos, err := d.Log.Append(p)
	simSleep(time.Duration(1000+d.rng.IntN(10_000)), simWrites)
	return pos, err
}

// Sync takes its time. A disk that is not frank lets that pass in finish, so that the committer takes it for one that is too
// quick to wait for: its leaders give others a part of the time that a sync takes to come along, and no time passes in a
// bubble until they have let them run 16,384 times, in vain. That was two thirds of what a seed costs.
func (d *simDisk) Sync(upTo store.Position) error {
	var err error
	if upTo > d.Log.Synced() { // what has nothing to do does not fail
		err = d.fails(faultSync)
	}
	if !d.frank && err == nil {
		d.begun = upTo
		return nil
	}
	d.wait()
	if err != nil {
		d.Log.Fail(memlog.Sync, 0, err)
	}
	return d.settle(upTo)
}

// finish is called when Sync has returned nil, before anybody makes use of that.
func (d *simDisk) finish() {
	upTo := d.begun
	if d.begun = 0; upTo == 0 {
		return
	}
	d.wait()
	if d.settle(upTo) != nil { // another call has failed the log: a sync under way does not mind
		d.mu.Lock()
		defer d.mu.Unlock()
		d.durable = upTo
	}
}

// simStall is what a sync takes longer now and then.
const simStall = 60 * time.Millisecond

// wait is the time that what was written takes to stable storage.
func (d *simDisk) wait() {
	took := 200_000 + d.flush.IntN(3_000_000)
	if d.flush.IntN(60) == 0 {
		took += int(simStall)
	}
	simSleep(time.Duration(took), simSyncs)
}

// settle has it there.
func (d *simDisk) settle(upTo store.Position) error {
	if *simLie && d.flush.IntN(3) == 0 {
		return nil
	}
	err := d.Log.Sync(upTo)
	simSleep(time.Duration(1000+d.flush.IntN(20_000)), simSyncs)
	return err
}

func (d *simDisk) Grow(n int64) error {
	if err := d.fails(faultGrow); err != nil {
		return err
	}
	return d.Log.Grow(n)
}

func (d *simDisk) Draw(n int64, _ bool) error { return d.Grow(n) }

func (d *simDisk) Mark(highWater int64, clean bool) error {
	if err := d.fails(faultMark); err != nil {
		d.Log.Fail(memlog.Mark, 0, err)
	}
	return d.Log.Mark(highWater, clean)
}

func (d *simDisk) Drop(before store.Position) error {
	if err := d.fails(faultDrop); err != nil {
		d.Log.Fail(memlog.Drop, 0, err)
	}
	return d.Log.Drop(before)
}

// A simIndex is the index of a simDisk, as the spool sees it.
type simIndex struct {
	*memkv.Sim
	d *simDisk
}

func (ix simIndex) Apply(batch []store.Change) error {
	if err := ix.d.fails(faultApply); err != nil {
		return err
	}
	return ix.Sim.Apply(batch)
}

func (ix simIndex) Sync() error {
	if err := ix.d.fails(faultIndexSync); err != nil {
		return err
	}
	return ix.Sim.Sync()
}

func (ix simIndex) Get(key []byte) ([]byte, error) {
	if err := ix.d.fails(faultGet); err != nil {
		return nil, err
	}
	return ix.Sim.Get(key)
}

func (ix simIndex) Scan(from, to []byte, limit int) ([]store.Entry, error) {
	if err := ix.d.fails(faultScan); err != nil {
		return nil, err
	}
	return ix.Sim.Scan(from, to, limit)
}

func newSimDisk(log *memlog.Log, index *memkv.Sim, dir string, rng *rand.Rand) (*simDisk, error) {
	d := &simDisk{Log: log, dir: dir, index: index, frank: rng.IntN(simFrank) == 0,
		rng: rand.New(rand.NewPCG(rng.Uint64(), 1)), flush: rand.New(rand.NewPCG(rng.Uint64(), 2))}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if index == nil {
		return d, nil
	}
	return d, os.Mkdir(d.indexDir(), 0o700)
}

func (d *simDisk) indexDir() string { return filepath.Join(d.dir, "index") }
func (d *simDisk) marker() string   { return filepath.Join(d.dir, "index.ok") }

// open is the index that the spool opens: the one that is there, or an empty one.
func (d *simDisk) open() (store.Index, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := os.Mkdir(d.indexDir(), 0o700); err == nil || d.index == nil {
		d.index = memkv.NewSim()
	}
	return simIndex{d.index, d}, nil
}

// crash is what the next open finds: after the death of the process everything that was written, after that of the
// machine a random prefix of what was not synced.
func (d *simDisk) crash(power bool, dir string, rng *rand.Rand) (*simDisk, error) {
	d.mu.Lock()
	index, durable := d.index, d.durable
	d.mu.Unlock()
	keep := func(n int64) int64 {
		if !power || n == 0 {
			return n
		}
		return rng.Int64N(n + 1)
	}
	log := d.Log.Crash(func(unsynced int64) int64 { return max(keep(unsynced), int64(durable)-int64(d.Log.Synced())) })
	if index != nil {
		index = index.Crash(int(keep(int64(index.Unsynced()))))
	}
	next, err := newSimDisk(log, index, dir, rng)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(d.marker()); err == nil {
		if err := os.WriteFile(next.marker(), nil, 0o600); err != nil {
			return nil, err
		}
	}
	return next, os.RemoveAll(d.dir)
}

// worked is the latest instant at which everything worked for certain.
func (d *simDisk) worked() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.first != 0 {
		return d.first
	}
	return simNow()
}

// hits counts the faults that were met.
func (d *simDisk) hits() [simFaults]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hit
}
