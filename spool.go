package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memlog"
	"github.com/spoolmq/spool/store/seglog"
)

// Bounds of WithMemoryBudget.
const (
	defaultMemoryBudget = 64 << 20
	minMemoryBudget     = 8 << 20
	maxMemoryBudget     = 1 << 40
)

// A Durability says what a nil error of a send, a delete or a change of settings means.
type Durability uint8

const (
	// Fsync: it survives power loss; group commit makes it cheap.
	Fsync Durability = iota

	// Written: it survives the death of the process. The log is fsynced in the background at least once a second: a power loss
	// takes at most the last second, and what is left is a prefix.
	Written
)

// An Option sets up a spool at Open or OpenMemory.
type Option func(*options)

type options struct {
	durability      Durability
	durableReceives bool
	logger          *slog.Logger
	memoryBudget    int64
	segmentSize     int64   // tests: all segments of this size
	checkpointEvery int64   // tests: bytes of log between two checkpoints
	slack           int64   // tests: bytes of garbage before the log is cleaned
	step            stepper // tests: called at each kill point
	paging          paging
	index           func() (store.Index, error) // tests: the index of a spool in memory
}

// defaults are the options of a spool that is given none.
var defaults = options{memoryBudget: defaultMemoryBudget, checkpointEvery: checkpointEvery, slack: spaceSlack,
	paging: paging{grain: tellGrain, rest: passRest}}

// WithDurability chooses between Fsync, the default, and Written.
func WithDurability(d Durability) Option { return func(o *options) { o.durability = d } }

// WithDurableReceives has receives, extensions and releases on stable storage before they are answered, in a Written spool
// too, whose other changes stay Written: each of them then waits for an fsync, which calls that run at the same time share.
// Without it a power loss may undo the last ones; the messages are then visible again. In memory it changes nothing.
func WithDurableReceives() Option { return func(o *options) { o.durableReceives = true } }

// WithLogger sets where the spool reports what happens in the background. Message bodies are never logged. The default
// discards.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// WithMemoryBudget bounds what the spool keeps in memory, in bytes, within [8 MiB, 1 TiB]; the default is 64 MiB. What was
// not used lately is put out to the index and read back when it is needed. About 200 bytes for each 1,024 messages stay
// whatever the budget, and what Badger takes for the index comes on top. A spool in memory has no index, and no bound.
func WithMemoryBudget(bytes int64) Option { return func(o *options) { o.memoryBudget = bytes } }

func readSpoolOptions(opts []Option) (options, error) {
	o := defaults
	for _, opt := range opts {
		if opt == nil {
			return o, badArgument("option", "nil", "a With function's result")
		}
		opt(&o)
	}
	if o.durability > Written {
		return o, badArgument("WithDurability", uint8(o.durability), "Fsync or Written")
	}
	if o.memoryBudget < minMemoryBudget || o.memoryBudget > maxMemoryBudget {
		return o, badArgument("WithMemoryBudget", o.memoryBudget, fmt.Sprintf("%d to %d bytes", minMemoryBudget, int64(maxMemoryBudget)))
	}
	if o.logger == nil {
		o.logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// A Spool is a set of queues over one store. All methods may be called from any number of goroutines.
//
// Lock order: set, then one queue's mu, then the committer's and the clock's. Never two queues at once.
type Spool struct {
	log          *slog.Logger
	disk         store.Log
	commit       *store.Committer
	clock        *clock
	worker       *worker
	keeper       *keeper
	sealer       *sealer
	recent       memory
	epoch        uint32
	level        store.Level // of everything but receives and changes of visibility
	receiveLevel store.Level // of these: AtWritten, or AtSynced with durable receives, whatever level is
	base         int64       // ns; the clock's reading at opened
	opened       time.Time   // for its monotonic part
	nonces       atomic.Uint64
	stamps       sync.Mutex // guards VisibleAt of deliveries while they are extended
	spare        sync.Pool  // *waiter
	life         life
	gate         gate // sends wait here for the cleaner
	pager        pager
	step         stepper

	set    sync.RWMutex
	byName map[string]*Queue // guarded by set; by folded name
	byID   map[uint32]*Queue // guarded by set
	lastID uint32            // guarded by set; ids are never used again
	idPos  store.Position    // guarded by set; the newest record that tells lastID
	shed   []uint32          // guarded by set; deleted queues that the index still has. Bound: taken by each checkpoint
}

// Open opens the spool in dir, which is made (mode 0700) when it is not there. One process has a spool open at a time:
// another one gets ErrLocked. A directory that holds something else is refused with ErrInvalidArgument and left as it is.
// So is a path that cannot be used: one with a NUL, too long, in a loop of symbolic links, of a file or below one, or where
// this process may not write.
//
// Errors: ErrInvalidArgument, ErrLocked, ErrFormatVersion, ErrCorrupt (*CorruptError with the place; nothing was
// deleted), ErrNoSpace, ErrStoreFailed for other failures of the disk.
func Open(dir string, opts ...Option) (*Spool, error) {
	o, err := readSpoolOptions(opts)
	if err != nil {
		return nil, err
	}
	if err := checkPath("dir", dir); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(dir) // the process may be in another directory when the index is made
	if err != nil {
		return nil, openError("dir", dir, err)
	}
	var s *Spool
	found := func(disk *seglog.Log) error {
		s = newSpool(o, disk)
		sh := newShelf(path, disk, o.logger)
		sh.home = disk.Home
		return storeError(s.recover(sh))
	}
	_, err = seglog.Open(path, seglog.Options{SegmentSize: o.segmentSize, Logger: o.logger, Found: found, Step: o.step})
	if err != nil && s != nil {
		err = errors.Join(err, s.keeper.shelf.close())
	}
	if err != nil {
		return nil, openError("dir", dir, err)
	}
	s.start(o)
	return s, nil
}

// checkPath refuses what is no path of a directory anywhere.
func checkPath(name, path string) error {
	if path == "" || strings.ContainsRune(path, 0) {
		return badArgument(name, path, "the path of a directory")
	}
	return nil
}

// openError is storeError for what was met where a directory was to be opened or made: one that cannot be used is the
// caller's to put right.
func openError(name, dir string, err error) error {
	for _, unusable := range []error{fs.ErrPermission, fs.ErrNotExist, syscall.ENOTDIR, syscall.EROFS, syscall.ELOOP, syscall.ENAMETOOLONG} {
		if errors.Is(err, unusable) && !errors.Is(err, store.ErrCorrupt) {
			return badArgument(name, dir, "a directory that can be made, read and written: "+err.Error())
		}
	}
	return storeError(err)
}

// OpenMemory opens a spool that keeps nothing: everything is gone with Close. It works inside a testing/synctest bubble,
// where days of delays pass in milliseconds.
func OpenMemory(opts ...Option) (*Spool, error) {
	o, err := readSpoolOptions(opts)
	if err != nil {
		return nil, err
	}
	o.durability, o.durableReceives = Written, false // memory is as durable as it gets
	s := newSpool(o, memlog.New(memlog.Options{}))
	var sh *shelf
	if o.index != nil {
		sh = &shelf{make: o.index, disk: s.disk, log: o.logger, most: applyBytes}
	}
	if err := s.recover(sh); err != nil {
		return nil, storeError(err)
	}
	s.start(o)
	return s, nil
}

func newSpool(o options, disk store.Log) *Spool {
	info := disk.Info()
	s := &Spool{log: o.logger, step: o.step, disk: disk, sealer: newSealer(info.Key), epoch: info.Epoch,
		byName: map[string]*Queue{}, byID: map[uint32]*Queue{}}
	if o.durability == Fsync {
		s.level = store.AtSynced
	}
	if o.durableReceives {
		s.receiveLevel = store.AtSynced
	}
	s.spare.New = func() any { return &waiter{ready: make(chan struct{}, 1)} }
	s.nonces.Store(uint64(info.Epoch) << nonceBits)
	s.pager.init(o)
	s.life.idle = make(chan struct{})
	s.life.closed = make(chan struct{})
	return s
}

// start makes a recovered spool work.
func (s *Spool) start(o options) {
	s.commit = store.NewCommitter(s.disk, store.CommitterOptions{
		Level: s.level, Reveal: s.reveal, Failed: s.stop, Dirty: s.keeper.dirty, Short: s.keeper.isShort, Step: s.step})
	s.clock = newClock(s.now, (*Queue).tick)
	s.worker = newWorker()
	s.keeper.start(s, o)
	s.set.Lock()
	defer s.set.Unlock()
	for _, q := range s.byID {
		q.hold()
		if q.rest() {
			q.mu.Unlock()
			continue
		}
		q.unlock(s.now())
	}
}

// now is the spool's time, ns since the epoch: it never goes back, and a wall clock that jumps does not move it.
func (s *Spool) now() int64 { return s.base + int64(time.Since(s.opened)) }

func (s *Spool) nonce() uint64 { return s.nonces.Add(1) }

func (s *Spool) newWaiter() *waiter { return s.spare.Get().(*waiter) }

func (s *Spool) freeWaiter(w *waiter) {
	w.grants, w.more, w.err = nil, false, nil
	s.spare.Put(w)
}

// failure translates an error of the committer.
func (s *Spool) failure(err error) error {
	if err == nil {
		return nil
	}
	return storeError(err)
}

// stop is the committer's call: the store has failed, and nobody must wait for what will not come.
func (s *Spool) stop(err error) {
	s.log.Error("store failed; open the spool again to go on", "error", err)
	s.life.fail(storeError(err))
	s.gate.end()
	s.pager.gate.end()
	s.failWaiters(storeError(err))
}

func (s *Spool) failWaiters(err error) {
	s.set.RLock()
	defer s.set.RUnlock()
	for _, q := range s.byID {
		q.visit(func(*state) { q.waiters.fail(err) })
	}
}

// fold is a name as uniqueness sees it.
func fold(name string) string { return strings.ToLower(name) }

// CreateQueue makes a queue. A zero field of meta means its default. Names are unique ignoring case: ErrQueueExists.
func (s *Spool) CreateQueue(ctx context.Context, name string, meta Meta) (*Queue, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	q, made, err := s.create(name, meta)
	if err == nil && !made {
		err = fmt.Errorf("%w: %q", ErrQueueExists, q.name)
	}
	if err != nil {
		return nil, err
	}
	return q, nil
}

// OpenQueue returns the queue, made with meta if it is not there; the settings of one that is there are left alone. meta
// is checked in either case, so that a program fails at its first run as at the next ones: a field out of range is
// ErrInvalidArgument. Only whether the queue that a DeadLetter names exists and may be bound is not looked at when nothing
// is made. A name that differs from an existing one in case only is ErrQueueExists.
func (s *Spool) OpenQueue(ctx context.Context, name string, meta Meta) (*Queue, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	q, _, err := s.create(name, meta)
	if err == nil && q.name != name {
		return nil, fmt.Errorf("%w: %q", ErrQueueExists, q.name)
	}
	if err != nil {
		return nil, err
	}
	return q, nil
}

// create makes a queue, or returns the one that has the name already.
//
//	step                                     dies here: the next Open
//	1 take room (queue:admitted)             no such queue
//	2 set lock, over memory only: QUEUE into no such queue, or an empty one when another call has written the frame;
//	  the open frame (queue:recorded), found nobody had an answer
//	  by its name (queue:placed)
//	3 the frame is written                   likewise
//	4 synced (Fsync; queue:done), answer     the queue
func (s *Spool) create(name string, meta Meta) (q *Queue, made bool, err error) {
	if err := checkQueueName(name); err != nil {
		return nil, false, err
	}
	meta = meta.withDefaults().clone()
	if err := meta.validate(); err != nil {
		return nil, false, err
	}
	if q := s.taken(name); q != nil { // nothing is made, so no room is needed
		return q, false, s.failure(s.commit.Wait(q.origin, s.level))
	}
	need := int64(store.RecordSize(1024, 0))
	if err := s.commit.Admit(need); err != nil {
		return nil, false, s.failure(err)
	}
	s.step.at(stepCreateAdmitted)
	q, made, err = s.insert(name, meta, need)
	if !made {
		s.commit.Forgo(need)
	}
	if err != nil {
		return nil, false, err
	}
	// Whoever gets a queue that somebody else is just making waits for it too.
	err = s.failure(s.commit.Wait(q.origin, s.level))
	s.step.at(stepCreateDone)
	return q, made, err
}

// taken returns the queue that has a name, in whatever case, or nil.
func (s *Spool) taken(name string) *Queue {
	s.set.RLock()
	defer s.set.RUnlock()
	return s.byName[fold(name)]
}

func (s *Spool) insert(name string, meta Meta, need int64) (q *Queue, made bool, err error) {
	s.set.Lock()
	defer s.set.Unlock()
	if q := s.byName[fold(name)]; q != nil {
		return q, false, nil
	}
	target, err := s.resolve(nil, meta.DeadLetter)
	if err != nil {
		return nil, false, err
	}
	now := s.now()
	s.lastID++
	q = newQueue(s, name, newState(s.lastID, meta, now))
	q.hold()
	s.commit.Begin()
	q.origin = q.recordQueue(queueCreated, now, nil)
	s.commit.End(need)
	s.step.at(stepCreateRecorded)
	q.basis, s.idPos = q.origin, q.origin
	s.byName[fold(name)], s.byID[q.id] = q, q
	s.bind(q, target)
	q.rest()
	q.mu.Unlock()
	s.step.at(stepCreatePlaced)
	return q, true, nil
}

// Queue returns a queue by its exact name, or ErrQueueNotFound.
func (s *Spool) Queue(name string) (*Queue, error) {
	if err := s.enter(context.Background()); err != nil {
		return nil, err
	}
	defer s.leave()
	return s.lookUp(name)
}

func (s *Spool) lookUp(name string) (*Queue, error) {
	s.set.RLock()
	defer s.set.RUnlock()
	q := s.byName[fold(name)]
	if q == nil || q.name != name {
		return nil, fmt.Errorf("%w: %s", ErrQueueNotFound, valueText(name))
	}
	return q, nil
}

// Queues returns all queues, sorted by name. After Close there are none.
func (s *Spool) Queues() []*Queue {
	if s.enter(context.Background()) != nil {
		return nil
	}
	defer s.leave()
	qs := s.snapshotQueues()
	sort.Slice(qs, func(i, j int) bool { return qs[i].name < qs[j].name })
	return qs
}

// list returns all queues. Caller holds set.
func (s *Spool) list() []*Queue {
	qs := make([]*Queue, 0, len(s.byID))
	for _, q := range s.byID {
		qs = append(qs, q)
	}
	return qs
}

// DeleteQueue deletes a queue with everything in it. Receivers that wait get ErrQueueNotFound, as every later call of the
// Queue does. A queue that another one names as its dead-letter queue is refused with ErrInvalidArgument. Messages of which a
// rule has said by now that they go to a dead-letter queue go there first; while they wait for room the answer is ErrNoSpace,
// and [Queue.Purge] gives them up.
//
//	step                                     dies here: after the next Open
//	1 take room (delete:admitted)            the queue with everything in it
//	2 set lock, over memory only: QUEUE into the queue with everything in it, or none when another call has written
//	  the open frame (delete:recorded), not  the frame; nobody had an answer
//	  found by its name (delete:removed)
//	3 the frame is written                   likewise
//	4 synced (Fsync; delete:done), answer    no such queue
func (s *Spool) DeleteQueue(ctx context.Context, name string) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	need := int64(store.RecordSize(1024, 0))
	for {
		if err := s.commit.AdmitFrom(need, store.Cleaner); err != nil { // it makes room
			return s.failure(err)
		}
		s.step.at(stepDeleteAdmitted)
		pos, q, err := s.remove(name, need)
		if pos > 0 {
			err = s.failure(s.commit.Wait(pos, s.level))
			s.step.at(stepDeleteDone)
			return err
		}
		s.commit.Forgo(need) // a dead-letter move needs room itself
		if err != nil {
			return err
		}
		now, err := q.lock()
		if err != nil {
			return err
		}
		q.unlock(now)
	}
}

// remove is DeleteQueue's step 2. It answers no position, and has changed nothing, while dead letters of the queue may be
// due: then it returns the queue.
func (s *Spool) remove(name string, need int64) (pos store.Position, q *Queue, err error) {
	s.set.Lock()
	defer s.set.Unlock()
	q = s.byName[fold(name)]
	if q == nil || q.name != name {
		return 0, nil, fmt.Errorf("%w: %s", ErrQueueNotFound, valueText(name))
	}
	if f := q.feeders.Load(); f != nil {
		return 0, nil, badArgument("queue", name, fmt.Sprintf("one that is not the dead-letter queue of %q", (*f)[0].name))
	}
	q.hold()
	now := s.now()
	if q.target != nil && q.behind(now) {
		q.unlock(now)
		return 0, q, nil
	}
	if q.target != nil && q.st.noRoom > now {
		q.unlock(now)
		return 0, nil, fmt.Errorf("%w: messages of %s wait for room in %s", ErrNoSpace, valueText(q.name), valueText(q.target.name))
	}
	s.bind(q, nil)
	s.commit.Begin()
	pos = q.recordQueue(queueDropped, now, nil)
	s.commit.End(need)
	s.step.at(stepDeleteRecorded)
	q.dropped.Store(true)
	indexed := q.saved > 0 || q.shelving || q.st.inIndex() // the pager may have been there before a checkpoint
	q.st.purge()
	q.waiters.fail(ErrQueueNotFound)
	s.pager.used.Add(-q.told) // to the byte: nobody tells of it again
	q.told = 0
	if indexed {
		s.shed = append(s.shed, q.id)
	}
	q.mu.Unlock()
	s.clock.unset(q)
	delete(s.byName, fold(name))
	delete(s.byID, q.id)
	s.step.at(stepDeleteRemoved)
	return pos, q, nil
}

// Sync returns nil when everything acknowledged so far is on stable storage.
func (s *Spool) Sync(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	return s.failure(s.commit.Sync())
}
