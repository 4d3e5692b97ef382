package spool_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/internal/history"
	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memlog"
)

// The whole library runs under virtual time on a log and an index in memory that take time, fail and crash. Actors call
// it, each one call at a time; one goroutine more crashes it, closes it, makes its calls fail, takes its space and lets
// hours pass. Everything is recorded, and internal/history judges it. A seed makes the same history every time.

var (
	simSeed  = flag.Uint64("spool.sim.seed", 0, "first seed of TestSimulation; 0 draws one")
	simSeeds = flag.Int("spool.sim.seeds", 0, "seeds of TestSimulation (0: 4, or those of the years)")
	simFile  = flag.String("spool.sim.history", "", "write the history of each seed that TestSimulation runs to the file of this name and the seed")
	simLie   = flag.Bool("spool.sim.lie", false, "a control: the log of TestSimulation says that it is synced when it is not; the test must fail")
	simYears = flag.Float64("spool.sim.years", 0, "simulated years of TestSimulation: 200 seeds each, which must hold a million operations, 2,000 crashes and 2,000 faults")
)

const (
	simYear      = 365 * 24 * time.Hour
	simPerYear   = 200                  // seeds
	simSpan      = simYear / simPerYear // of one seed
	simActors    = 8
	simRounds    = 14  // busy times of a seed
	simRoundOps  = 420 // operations of a busy time
	simMostThere = 250 // messages of a queue, about
)

// A simulation is one seed.
type simulation struct {
	seed uint64
	dir  string
	rng  *rand.Rand // of the goroutine that makes trouble
	h    *history.Log

	durability      spool.Durability
	durableReceives bool
	options         []spool.Option
	segment         int64
	tight           bool // space runs out now and then
	broken          bool // calls of the store fail now and then
	real            bool // on real files, in real time
	calm            bool // nothing is checkpointed, cleaned or put out of memory in the background

	disk   *simDisk
	boots  int
	actors []*simActor
	begun  time.Time

	mu     sync.Mutex
	s      *spool.Spool  // guarded by mu; nil while it is down
	queues []*simQueue   // guarded by mu
	failed bool          // guarded by mu; the spool has told that its store failed
	open   bool          // guarded by mu; actors may call
	ready  bool          // guarded by mu; what is there has been recorded
	wake   chan struct{} // guarded by mu; closed when actors may call again
	left   int           // guarded by mu; operations of this busy time
	busy   int           // guarded by mu; actors in a call
	bodies int           // guarded by mu
	wrong  []string      // guarded by mu

	ops, crashes, power, closes, squeezes int
	faults                                [simFaults]int
	span                                  time.Duration
}

// A simQueue is a queue of the spool and what the history calls it. Actors use copies.
type simQueue struct {
	name     string
	real     *simQueue
	target   *simQueue
	id       history.QueueID
	q        *spool.Queue // nil: not there
	temp     bool         // it is deleted and made again
	there    int          // messages, about
	settings spool.Meta   // what it was made with
	earlier  []simEpoch   // of a queue that is made again: which it may be
}

// A simEpoch is a queue that had the name.
type simEpoch struct {
	id      history.QueueID
	created time.Time // zero: nobody knows
}

// view is a copy of a queue as it is now.
func (sim *simulation) view(q *simQueue) *simQueue {
	sim.mu.Lock()
	defer sim.mu.Unlock()
	v := *q.real
	return &v
}

// grew notes that a queue has n messages more.
func (sim *simulation) grew(q *simQueue, n int) {
	sim.mu.Lock()
	defer sim.mu.Unlock()
	q.real.there += n
}

func (sim *simulation) errorf(format string, args ...any) {
	sim.mu.Lock()
	defer sim.mu.Unlock()
	if len(sim.wrong) < 4 {
		sim.wrong = append(sim.wrong, fmt.Sprintf(format, args...))
	}
}

func simNow() int64 { return time.Now().UnixNano() }

// run is the seed from the first open to the last close.
func (sim *simulation) run(t *testing.T) {
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("-spool.sim.seed=%d: panic: %v\n%s", sim.seed, p, debug.Stack())
		}
	}()
	sim.begun = time.Now()
	sim.choose()
	disk, err := newSimDisk(memlog.New(memlog.Options{SegmentSize: sim.segment, SpoolID: [16]byte{1}, Key: [32]byte{2}}),
		nil, filepath.Join(sim.dir, "0"), sim.rng)
	if err != nil {
		t.Error(err)
		return
	}
	sim.disk = disk
	if !sim.boot() {
		return
	}
	sim.makeQueues()
	sim.ready, sim.wake = true, make(chan struct{})
	var wait sync.WaitGroup
	stop := make(chan struct{})
	for i := range simActors {
		a := &simActor{sim: sim, n: i, rng: rand.New(rand.NewPCG(sim.seed, uint64(i+1)))}
		sim.actors = append(sim.actors, a)
		wait.Add(1)
		go func() {
			defer wait.Done()
			a.run(stop)
		}()
	}
	for round := range simRounds {
		sim.busyTime()
		left := time.Until(sim.begun.Add(simSpan * 9 / 10))
		if gap := left / time.Duration(simRounds-round); gap > 0 {
			sim.idle(time.Duration(sim.rng.Int64N(int64(gap) * 2)))
		}
	}
	sim.drain()
	close(stop)
	wait.Wait()
	sim.span = max(simSpan, time.Since(sim.begun))
	if err := sim.s.Close(); err != nil {
		sim.errorf("Close = %v", err)
	}
	sim.countFaults()
}

// choose draws what the seed is about.
func (sim *simulation) choose() {
	r := sim.rng
	sim.durability = spool.Durability(r.IntN(2))
	sim.durableReceives = r.IntN(4) == 0
	sim.segment = int64(4<<10) << r.IntN(5)
	sim.tight, sim.broken = r.IntN(3) == 0 && (*simSeed > 0 || *simSeeds > 0 || *simYears > 0), r.IntN(4) > 0
	sim.options = []spool.Option{spool.WithDurability(sim.durability), spool.WithoutPaging}
	if sim.durableReceives {
		sim.options = append(sim.options, spool.WithDurableReceives())
	}
	if sim.calm = r.IntN(4) == 0; sim.calm {
		sim.options = append(sim.options, spool.WithSizes(sim.segment, 1<<40))
	} else {
		sim.options = append(sim.options, spool.WithSizes(sim.segment, int64(4<<10)<<r.IntN(5)), spool.WithSlack(int64(512<<10)<<r.IntN(2)))
		sim.options = append(sim.options, [][]spool.Option{{}, {spool.WithPaging(0, 1<<40)}, {spool.WithPaging(0, 2<<10)}}[r.IntN(3)]...)
	}
	if *simSeeds == 1 && testing.Verbose() {
		sim.options = append(sim.options, spool.WithLogger(slog.New(slog.NewTextHandler(os.Stdout, nil))))
	}
	sim.h = history.New(history.Options{Limit: 100_000, Fsync: sim.durability == spool.Fsync, DurableReceives: sim.durableReceives, LateMoves: sim.tight,
		Move: int64(2*simStall + 10*time.Millisecond)}) // for one sync and the one that it waits for
}

// boot opens the spool on what is there.
func (sim *simulation) boot() bool {
	options := append(slices.Clip(sim.options), spool.WithSynced(sim.disk.finish))
	s, err := spool.OpenOn(sim.disk, sim.disk.dir, sim.disk.open, options...)
	if err != nil {
		sim.errorf("Open = %v", err)
		return false
	}
	sim.mu.Lock()
	sim.s, sim.failed = s, false
	sim.mu.Unlock()
	return true
}

func (sim *simulation) makeQueues() {
	r := sim.rng
	second := time.Second
	visibility := []time.Duration{second, 5 * second, 30 * second}
	retention := []time.Duration{10 * time.Minute, 6 * time.Hour, 96 * time.Hour}
	dead := &simQueue{name: "dead", settings: spool.Meta{Retention: retention[r.IntN(3)]}}
	queues := []*simQueue{dead}
	for _, name := range []string{"a", "b", "c", "temp"} {
		m := spool.Meta{VisibilityTimeout: visibility[r.IntN(3)], Retention: retention[r.IntN(3)]}
		switch r.IntN(3) {
		case 0:
			m.Rewind = m.Retention
		case 1:
			m.Rewind = m.Retention / 2
		}
		if r.IntN(3) == 0 {
			m.Delay = time.Duration(r.IntN(int(5 * second)))
		}
		if r.IntN(4) == 0 {
			m.MaxMessages = 40
		}
		q := &simQueue{name: name, temp: name == "temp"}
		if name == "a" || name == "b" && !sim.calm { // whose dead letters come first after an open is not promised
			q.target = dead
			m.DeadLetter = &spool.DeadLetter{Queue: "dead", MaxReceives: 1 + r.IntN(4)}
			if r.IntN(3) == 0 {
				m.DeadLetter.MaxAge = 5 * time.Minute
			}
		}
		q.settings = m
		queues = append(queues, q)
	}
	sim.queues = queues
	for _, q := range queues {
		q.real = q
		sim.create(sim.s, q)
	}
}

// create makes a queue and records it. It answers false when the call died.
func (sim *simulation) create(s *spool.Spool, q *simQueue) bool {
	target := history.None
	if q.target != nil {
		target = q.target.id
	}
	id := sim.h.Queue(q.name, target)
	sim.mu.Lock()
	n := len(q.real.earlier)
	q.real.earlier = append(q.real.earlier, simEpoch{id: id})
	sim.mu.Unlock()
	set := simSettings(withSimDefaults(q.settings))
	o := &history.Op{Verb: history.Create, Queue: id, Settings: &set}
	sim.h.Call(o, simNow())
	made, err := s.CreateQueue(context.Background(), q.name, q.settings)
	outcome := sim.outcome(s, o, err)
	told := sim.h.Return(o, outcome, simNow())
	if told && outcome == history.Barred {
		sim.mu.Lock()
		q.real.earlier = slices.Delete(q.real.earlier, n, n+1)
		sim.mu.Unlock()
	}
	if !told || err != nil {
		return told
	}
	a, err := made.Attributes(context.Background())
	sim.mu.Lock()
	defer sim.mu.Unlock()
	if err != nil || sim.s != s {
		return false // the next open finds it
	}
	q.real.earlier[n].created = a.CreatedAt
	q.real.id, q.real.q, q.real.there = id, made, 0
	return true
}

func withSimDefaults(m spool.Meta) spool.Meta {
	if m.VisibilityTimeout == 0 {
		m.VisibilityTimeout = 30 * time.Second
	}
	if m.Retention == 0 {
		m.Retention = 96 * time.Hour
	}
	return m
}

func simSettings(m spool.Meta) history.Settings {
	s := history.Settings{Visibility: int64(m.VisibilityTimeout), Retention: int64(m.Retention), Rewind: int64(m.Rewind), Delay: int64(m.Delay)}
	if d := m.DeadLetter; d != nil {
		s.MaxReceives, s.MaxAge = d.MaxReceives, int64(d.MaxAge)
	}
	return s
}

// outcome says what an error means for the call, and notes what must not be.
func (sim *simulation) outcome(s *spool.Spool, o *history.Op, err error) history.Outcome {
	if err == nil {
		return history.OK
	}
	o.Error = err.Error()
	switch {
	case errors.Is(err, spool.ErrNoMessage):
		return history.OK
	case errors.Is(err, spool.ErrStoreFailed), errors.Is(err, spool.ErrCorrupt) && sim.broken:
		sim.mu.Lock()
		sim.failed = sim.failed || s == sim.s
		sim.mu.Unlock()
		return history.Unknown
	}
	if errors.Is(err, spool.ErrInvalidReceipt) {
		return history.Refused
	}
	for _, refusal := range []error{spool.ErrQueueFull, spool.ErrRewindDisabled, spool.ErrInvalidRewindTime,
		spool.ErrQueueNotFound, spool.ErrClosed, context.Canceled} {
		if errors.Is(err, refusal) {
			return history.Barred
		}
	}
	if errors.Is(err, spool.ErrNoSpace) && (sim.tight || sim.broken) {
		return history.Barred
	}
	sim.errorf("%v: %v", o.Verb, err)
	return history.Barred
}

// ---- trouble ----

// busyTime lets the actors call, and makes trouble meanwhile.
func (sim *simulation) busyTime() {
	sim.mu.Lock()
	sim.open, sim.left = true, simRoundOps
	sim.rouse()
	sim.mu.Unlock()
	full := false
	for {
		end := time.Now().Add(time.Duration(sim.rng.Int64N(int64(1500 * time.Millisecond))))
		for time.Now().Before(end) && !sim.down() {
			simSleep(time.Duration(sim.rng.Int64N(int64(100*time.Millisecond))), simChaos)
		}
		sim.mu.Lock()
		done, failed := sim.left <= 0, sim.failed
		sim.mu.Unlock()
		if failed {
			sim.recoverSpool(sim.rng.IntN(2) == 0)
			full = false
			continue
		}
		if done {
			break
		}
		switch n := sim.rng.IntN(40); {
		case n < 6:
			sim.recoverSpool(n < 3)
			full = false
		case n < 8:
			sim.reopen()
			full = false
		case n < 26 && sim.broken:
			sim.arm()
		case n < 28 && sim.tight:
			if full = !full; full {
				sim.squeezes++
				sim.disk.SetCapacity(sim.disk.Size().Allocated)
			} else {
				sim.disk.SetCapacity(0)
			}
		case n < 30:
			sim.rest(true)
		}
	}
	sim.disk.SetCapacity(0)
	sim.rest(true)
}

// idle lets time pass in which nobody calls. A spool that stops meanwhile is opened again, as its owner would see to.
func (sim *simulation) idle(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		simSleep(min(time.Until(end), time.Duration(1+sim.rng.Int64N(int64(10*time.Minute)))), simChaos)
		if sim.s.Sync(context.Background()) != nil {
			sim.recoverSpool(sim.rng.IntN(2) == 0)
		}
	}
}

// arm makes a call of the store fail soon.
func (sim *simulation) arm() {
	f := simFault(sim.rng.IntN(int(simFaults)))
	if f == faultGrow && !sim.tight {
		f = faultSync
	}
	var err error = syscall.EIO
	switch f {
	case faultGrow:
		err = store.ErrNoSpace
	case faultApply, faultIndexSync:
		if sim.rng.IntN(2) == 0 {
			err = store.ErrNoSpace
		}
	case faultAppend, faultAppendUnknown, faultSync, faultMark:
		if sim.rng.IntN(3) == 0 {
			err = syscall.ENOSPC
		}
	}
	n := 0
	if f <= faultSync {
		n = sim.rng.IntN(8)
	}
	sim.disk.arm(f, n, err)
}

func (sim *simulation) countFaults() {
	for f, n := range sim.disk.hits() {
		sim.faults[f] += n
	}
}

// recoverSpool is a crash, and the open after it.
func (sim *simulation) recoverSpool(power bool) {
	sim.crashes++
	if power {
		sim.power++
	}
	sim.mu.Lock()
	s := sim.s
	sim.s, sim.ready = nil, false
	sim.mu.Unlock()
	sim.h.Crashed(power, simNow(), sim.disk.worked())
	old := sim.disk
	sim.countFaults()
	sim.next(power)
	for op := memlog.Append; op <= memlog.Drop; op++ {
		old.Log.Fail(op, 0, errors.New("the machine is dead"))
	}
	sim.steady(func() { s.Close() })
	if sim.rng.IntN(3) == 0 {
		simSleep(time.Duration(sim.rng.Int64N(int64(40*time.Second))), simChaos)
	}
	sim.up()
}

// reopen closes the spool and opens it again.
func (sim *simulation) reopen() {
	sim.closes++
	sim.mu.Lock()
	s := sim.s
	sim.mu.Unlock()
	o := &history.Op{Verb: history.Sync, Queue: history.None}
	var err error
	sim.steady(func() {
		err = s.Close()
		sim.mu.Lock()
		sim.s, sim.ready = nil, false
		sim.mu.Unlock()
		sim.waitIdle()
	})
	if err != nil {
		if !errors.Is(err, spool.ErrStoreFailed) && !errors.Is(err, spool.ErrCorrupt) {
			sim.errorf("Close = %v", err)
		}
		sim.h.Crashed(false, simNow(), sim.disk.worked())
	} else {
		sim.h.Call(o, simNow())
		sim.h.Return(o, history.OK, simNow())
	}
	sim.countFaults()
	sim.next(false)
	if sim.rng.IntN(2) == 0 {
		simSleep(time.Duration(sim.rng.Int64N(int64(40*time.Second))), simChaos)
	}
	sim.up()
}

// steady makes something take the same time always: in a close it is left to the scheduler which of two syncs comes first.
func (sim *simulation) steady(f func()) {
	end := time.Now().Add(300 * time.Millisecond)
	f()
	time.Sleep(time.Until(end))
}

// next takes over what the disk holds now.
func (sim *simulation) next(power bool) {
	sim.boots++
	disk, err := sim.disk.crash(power, filepath.Join(sim.dir, fmt.Sprint(sim.boots)), sim.rng)
	if err != nil {
		panic(err)
	}
	sim.disk = disk
}

// up opens the spool and records what is there.
func (sim *simulation) up() {
	if !sim.boot() {
		panic("the spool does not open")
	}
	if errs := spool.CheckInvariants(sim.s); len(errs) > 0 {
		sim.errorf("after an open: %s", strings.Join(errs, "\n"))
	}
	if sim.calm { // what fell due while it was closed is seen to
		simSleep(time.Second, simChaos)
	}
	for _, q := range sim.queues {
		sim.find(q)
	}
	if sim.rng.IntN(2) == 0 {
		sim.rest(false)
	}
	sim.mu.Lock()
	sim.ready = true
	sim.rouse()
	sim.mu.Unlock()
}

// rouse has actors look again whether they may call. Caller holds mu.
func (sim *simulation) rouse() {
	close(sim.wake)
	sim.wake = make(chan struct{})
}

// find records whether a queue is there, and which.
func (sim *simulation) find(q *simQueue) {
	found, err := sim.s.Queue(q.name)
	var a spool.Attributes
	if err == nil {
		a, err = found.Attributes(context.Background())
	}
	if err != nil && !errors.Is(err, spool.ErrQueueNotFound) {
		sim.outcome(sim.s, &history.Op{}, err)
		return
	}
	sim.mu.Lock()
	q.q = nil
	earlier, here := q.earlier, -1
	for i, e := range earlier {
		if err == nil && e.created.Equal(a.CreatedAt) {
			here = i
		}
	}
	for i, e := range slices.Backward(earlier) {
		if err == nil && here < 0 && e.created.IsZero() { // its making was never answered; an older one has been missing before
			here = i
			earlier[i].created = a.CreatedAt
		}
	}
	if n := len(earlier); n > 6 {
		q.earlier = earlier[n-6:]
	}
	sim.mu.Unlock()
	if err == nil && here < 0 {
		sim.errorf("queue %q of %v was never made", q.name, a.CreatedAt)
		return
	}
	for i, e := range earlier {
		o := &history.Op{Verb: history.Missing, Queue: e.id}
		if i == here {
			set := simSettings(a.Meta)
			o.Verb, o.Settings = history.Found, &set
			sim.mu.Lock()
			q.q, q.id = found, e.id
			sim.mu.Unlock()
		}
		sim.h.Call(o, simNow())
		sim.h.Return(o, history.OK, simNow())
	}
}

// waitIdle waits until no actor is in a call.
func (sim *simulation) waitIdle() {
	for {
		sim.mu.Lock()
		busy := sim.busy
		sim.mu.Unlock()
		if busy == 0 {
			return
		}
		simSleep(20*time.Millisecond, simChaos)
	}
}

// rest looks at everything while nobody else calls.
func (sim *simulation) rest(wait bool) {
	if wait {
		sim.mu.Lock()
		was := sim.open
		sim.open = false
		sim.mu.Unlock()
		sim.waitIdle()
		defer func() {
			sim.mu.Lock()
			sim.open = was
			sim.rouse()
			sim.mu.Unlock()
		}()
	}
	a := &simActor{sim: sim, n: simChaos, rng: sim.rng, alone: true, s: sim.s}
	for _, q := range sim.queues {
		if q = sim.view(q); q.q == nil || sim.down() {
			continue
		}
		a.look(q)
		a.peek(q, spool.MaxBatch)
		switch sim.rng.IntN(4) {
		case 0:
			a.rewind(q)
			a.look(q)
		case 1:
			a.receive(q, 0)
			a.look(q)
		}
	}
	if s := sim.s; !sim.down() {
		if errs := spool.CheckInvariants(s); len(errs) > 0 {
			sim.errorf("at rest: %s", strings.Join(errs, "\n"))
		}
	}
}

func (sim *simulation) down() bool {
	sim.mu.Lock()
	defer sim.mu.Unlock()
	return sim.s == nil || sim.failed
}

// drain takes everything out.
func (sim *simulation) drain() {
	sim.mu.Lock()
	sim.open = false
	sim.mu.Unlock()
	sim.waitIdle()
	for f := range simFaults {
		sim.disk.arm(f, 0, nil)
	}
	for range 12 {
		sim.rest(false)
		if sim.down() { // a fault of before was met only now
			sim.recoverSpool(false)
		}
		a := &simActor{sim: sim, n: simChaos, rng: sim.rng, alone: true, s: sim.s}
		simSleep(time.Minute, simChaos)
		for _, q := range sim.queues {
			if q = sim.view(q); q.q == nil {
				continue
			}
			for a.receive(q, spool.MaxBatch) > 0 {
				for len(a.held) > 0 {
					a.byReceipt(history.Delete)
				}
			}
			a.look(q)
		}
	}
}
