package spool

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/seglog"
)

var (
	innerSeed  = flag.Uint64("spool.inner.seed", 0, "seed of TestReopen and TestReopenBeside; 0 draws one")
	innerSteps = flag.Int("spool.inner.steps", 0, "steps of each run (0: 250, 120 with -short)")
	innerRuns  = flag.Int("spool.inner.runs", 0, "runs of TestReopen (0: 2, 1 with -short)")
	innerLoss  = flag.Bool("spool.inner.control", false, "a control: with the index a message is lost too, and TestReopen and TestIndexDamage must fail")
)

func innerRandom(t testing.TB) *rand.Rand {
	seed := *innerSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-spool.inner.seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// TestReopen drives a spool with tiny segments on disk and asks again and again: what would be there after a crash now,
// with the index, without it, with an older one? It must be what is here.
func TestReopen(t *testing.T) {
	rng := innerRandom(t)
	runs := *innerRuns
	if runs == 0 {
		runs = 2
		if testing.Short() {
			runs = 1
		}
	}
	for i := range runs {
		sub := rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			d := newDriver(t, sub)
			d.run()
		})
	}
}

// TestReopenBeside is TestReopen while checkpoints are made and segments given back all the time.
func TestReopenBeside(t *testing.T) {
	d := newDriver(t, innerRandom(t))
	d.beside = true
	d.run()
}

// TestReopenMidCheckpoint is TestReopen with changes in the middle of every checkpoint: some blocks are saved before
// them, some behind, and so are the queues' own records; and between the steps of cleaning.
func TestReopenMidCheckpoint(t *testing.T) {
	d := newDriver(t, innerRandom(t))
	d.mid = true
	d.run()
}

// A driver makes random changes to a spool, and looks at what would be found at the next Open.
type driver struct {
	t      *testing.T
	rng    *rand.Rand
	dir    string
	opts   []Option
	s      *Spool
	held   []heldReceipt
	old    string // a copy made earlier, for its index
	trace  []string
	beside bool // checkpoints run in a goroutine of their own
	mid    bool // steps are made in the middle of checkpoints
	inside bool // a checkpoint or cleaning is under way
	pause  sync.Mutex
	stop   chan struct{}
	ended  chan struct{}

	found, used int // copies opened with their index there, and those that used it
	steps       int // made in the middle of checkpoints
}

type heldReceipt struct{ queue, receipt string }

func newDriver(t *testing.T, rng *rand.Rand) *driver {
	d := &driver{t: t, rng: rng, dir: t.TempDir()}
	segment := int64(4096) << rng.IntN(3)
	d.opts = []Option{WithSizes(segment, 1<<40)}
	if rng.IntN(3) > 0 {
		d.opts = append(d.opts, WithDurability(Written))
	}
	t.Cleanup(d.close)
	d.open()
	return d
}

// takeKeeper stops a spool's keeper: checkpoints and reclaims are made when the test says so.
func takeKeeper(s *Spool) {
	close(s.keeper.stop)
	s.keeper.wait.Wait()
	s.keeper.stop = make(chan struct{})
}

func (d *driver) fatalf(format string, args ...any) {
	d.t.Helper()
	from := max(0, len(d.trace)-60)
	d.t.Fatalf("%s\nafter:\n  %s", fmt.Sprintf(format, args...), strings.Join(d.trace[from:], "\n  "))
}

func (d *driver) note(format string, args ...any) {
	d.trace = append(d.trace, fmt.Sprintf(format, args...))
}

func (d *driver) must(err error) {
	d.t.Helper()
	if err != nil {
		d.fatalf("%v", err)
	}
}

// check fails the test where an invariant does not hold.
func (d *driver) check(s *Spool, how string) {
	d.t.Helper()
	if errs := checkSpool(s); len(errs) > 0 {
		d.fatalf("%s: %s", how, strings.Join(errs, "\n"))
	}
}

func (d *driver) open() {
	s, err := Open(d.dir, append(slices.Clip(d.opts), WithSteps(d.between))...)
	d.must(err)
	takeKeeper(s)
	d.s = s
	if d.beside {
		d.startBeside()
	}
}

func (d *driver) startBeside() {
	d.stop, d.ended = make(chan struct{}), make(chan struct{})
	stop, ended, k := d.stop, d.ended, d.s.keeper
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
			}
			d.pause.Lock()
			k.work.Lock()
			k.checkpoint()
			k.reclaim()
			err := k.cleanSegment()
			k.work.Unlock()
			d.pause.Unlock()
			if err != nil {
				d.t.Error(err)
				return
			}
			runtime.Gosched()
		}
	}()
}

// close closes the spool; a second call does nothing.
func (d *driver) close() {
	if d.stop != nil {
		close(d.stop)
		<-d.ended
		d.stop = nil
	}
	if d.s != nil {
		s := d.s
		d.s = nil
		d.must(s.Close())
	}
}

func (d *driver) run() {
	steps := *innerSteps
	if steps == 0 {
		steps = 250
		if testing.Short() {
			steps = 80
		}
		if d.mid {
			steps /= 3
		}
	}
	if d.beside && d.stop == nil {
		d.startBeside()
	}
	for i := range steps {
		d.step()
		if i%8 == 7 {
			d.check(d.s, "here")
		}
		if d.rng.IntN(60) == 0 || i == steps-1 || d.mid && strings.Contains(d.trace[len(d.trace)-1], "checkpoint true") && d.rng.IntN(6) == 0 {
			d.compare()
		}
	}
	for tries := 0; d.mid && d.steps == 0 && tries < 50; tries++ {
		d.keep(true, false) // chance has made none, or none that a step came into
	}
	d.close()
	d.t.Logf("%d of %d copies used their index; %d steps in the middle of others", d.used, d.found, d.steps)
	if d.found > 4 && d.used < d.found/4 { // an older index may lie before the log
		d.t.Error("most copies were rebuilt from the log")
	}
	if d.mid && d.steps == 0 {
		d.t.Error("no step was made in the middle of a checkpoint")
	}
}

// ---- steps ---------------------------------------------------------------------------------------------------------

func (d *driver) step() {
	r, ctx := d.rng, context.Background()
	names := []string{"a", "b", "c", "dead", "bulk"}
	name := names[r.IntN(4)]
	if d.mid && r.IntN(4) == 0 {
		name = "bulk"
	}
	q, err := d.s.Queue(name)
	if err != nil {
		d.create(name)
		return
	}
	n := r.IntN(100)
	if d.inside {
		n = r.IntN(82)
	}
	switch {
	case n < 8:
		size := 1 + r.IntN(64)
		if r.IntN(3) == 0 {
			size = 1 + r.IntN(9000)
		}
		m := Message{Body: d.body(size), Delay: d.delay(q)}
		if r.IntN(4) == 0 {
			m.Attributes = map[string]string{"k": "v", "": "x"}
			delete(m.Attributes, "")
		}
		_, err := q.Send(ctx, m)
		d.note("%s send %d delay %v: %v", name, size, m.Delay, err)
		d.allow(err, ErrQueueFull)
	case n < 24:
		batch := make([]Message, 1+r.IntN(700))
		delay := d.delay(q)
		for i := range batch {
			batch[i] = Message{Body: d.body(1 + r.IntN(12)), Delay: delay}
		}
		_, err := q.SendBatch(ctx, batch)
		d.note("%s send batch of %d delay %v: %v", name, len(batch), delay, err)
		d.allow(err, ErrQueueFull)
	case n < 44:
		max := 1
		if r.IntN(4) > 0 {
			max = 1 + r.IntN(900)
		}
		v := d.span()
		got, err := q.ReceiveBatch(ctx, max, Visibility(v), Wait(0))
		d.note("%s receive %d for %v: %d %v", name, max, v, len(got), err)
		d.allow(err, ErrNoMessage)
		for _, x := range got {
			d.held = append(d.held, heldReceipt{name, x.Receipt})
		}
		if len(d.held) > 3000 {
			d.held = append(d.held[:0], d.held[1500:]...)
		}
	case n < 62:
		d.delete(name, q)
	case n < 70:
		d.change(name, q)
	case n < 75:
		d.rewind(name, q)
	case n < 79:
		d.setMeta(name, q)
	case n < 80:
		d.note("%s purge", name)
		d.must(q.Purge(ctx))
	case n < 82:
		err := d.s.DeleteQueue(ctx, name)
		d.note("%s dropped: %v", name, err)
		d.allow(err, ErrInvalidArgument)
	case n < 89:
		d.keep(true, false)
	case n < 92:
		d.keep(false, true)
	case n < 95:
		d.keep(true, true)
	case n < 97:
		d.reopen()
	default:
		a, err := q.Attributes(ctx)
		d.must(err)
		d.note("%s has %d %d %d %d", name, a.Active, a.Inactive, a.Delayed, a.Rewindable)
	}
}

// keep makes a checkpoint, gives segments back and cleans, as the keeper does.
func (d *driver) keep(checkpoint, reclaim bool) {
	if d.mid {
		d.bulk()
	}
	d.pause.Lock()
	defer d.pause.Unlock()
	k := d.s.keeper
	k.work.Lock()
	defer k.work.Unlock()
	d.inside = true
	defer func() { d.inside = false }()
	switch {
	case checkpoint && d.mid && k.shelf.index != nil:
		d.checkpointSlowly(k)
	case checkpoint:
		k.checkpoint()
	}
	if reclaim {
		k.reclaim()
	}
	for range d.rng.IntN(4) {
		d.must(k.cleanSegment())
	}
	d.note("checkpoint %t, reclaim %t: checkpoint at %d, log %d to %d", checkpoint, reclaim, k.at.Load(), d.s.disk.Start(), d.s.disk.End())
}

// between makes changes between two steps of cleaning, and looks at what a crash would leave there.
func (d *driver) between(step string) {
	if !d.mid || !d.inside {
		return
	}
	for range d.rng.IntN(3) {
		d.steps++
		d.step()
	}
	d.note("…while cleaning: %s", step)
	if step != "dropped" && d.rng.IntN(60) == 0 { // there the side file is locked
		d.compare()
	}
}

// checkpointSlowly makes steps whenever a checkpoint hands a batch to the index.
func (d *driver) checkpointSlowly(k *keeper) {
	h := &hooked{Index: k.shelf.index, hook: func(op string, before bool) error {
		if !before || op != "Apply" {
			return nil
		}
		for range d.rng.IntN(4) {
			d.steps++
			d.step()
		}
		d.note("…in the middle of a checkpoint")
		return nil
	}}
	k.shelf.index = h
	k.checkpoint()
	if k.shelf.index == h {
		k.shelf.index = h.Index
	}
}

// bulk makes a queue whose blocks are full of leases, so large that a checkpoint hands them over in several batches.
func (d *driver) bulk() {
	ctx := context.Background()
	q, err := d.s.OpenQueue(ctx, "bulk", Meta{Rewind: time.Hour})
	d.must(err)
	a, err := q.Attributes(ctx)
	d.must(err)
	for n := a.Inactive + a.Active; n < 18*MaxBatch && d.rng.IntN(20) > 0; n += MaxBatch {
		batch := make([]Message, MaxBatch)
		for i := range batch {
			batch[i].Body = []byte{byte(i)}
		}
		if _, err := q.SendBatch(ctx, batch); errors.Is(err, ErrQueueFull) {
			break
		} else {
			d.must(err)
		}
	}
	for {
		got, err := q.ReceiveBatch(ctx, MaxBatch, Visibility(10*time.Hour), Wait(0))
		if errors.Is(err, ErrNoMessage) {
			break
		}
		d.must(err)
		for _, x := range got {
			if d.rng.IntN(40) == 0 {
				d.held = append(d.held, heldReceipt{"bulk", x.Receipt})
			}
		}
	}
	q.hold()
	q.st.touched = true
	q.st.each(func(*summary) bool { return false }, func(b *block) bool {
		if b.body != nil {
			b.dirty = true
		}
		return true
	})
	q.mu.Unlock()
}

func (d *driver) allow(err error, ok ...error) {
	d.t.Helper()
	for _, x := range ok {
		if errors.Is(err, x) {
			return
		}
	}
	d.must(err)
}

func (d *driver) body(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(d.rng.Uint32())
	}
	return b
}

// span is a length of time that is over at once, or not before the clock is moved on.
func (d *driver) span() time.Duration {
	switch d.rng.IntN(4) {
	case 0:
		return time.Duration(1+d.rng.IntN(2000)) * time.Microsecond
	case 1:
		return 20 * time.Minute
	}
	return 10 * time.Hour
}

func (d *driver) delay(q *Queue) time.Duration {
	if d.rng.IntN(4) > 0 || q.Meta().Retention <= time.Hour {
		return 0
	}
	if d.rng.IntN(2) == 0 {
		return time.Duration(1+d.rng.IntN(2000)) * time.Microsecond
	}
	return 15*time.Minute + time.Duration(d.rng.IntN(50))*time.Minute
}

func (d *driver) meta(m *Meta) {
	r := d.rng
	if r.IntN(2) == 0 {
		m.Rewind = []time.Duration{0, 40 * time.Minute, 3 * time.Hour}[r.IntN(3)]
	}
	if r.IntN(3) == 0 {
		m.Retention = []time.Duration{3 * time.Hour, 5 * time.Hour, 30 * time.Hour}[r.IntN(3)]
		if r.IntN(6) == 0 {
			m.Retention, m.Rewind = time.Second, 0
		}
	}
	if m.Retention != 0 {
		m.Rewind = min(m.Rewind, m.Retention)
	}
	if r.IntN(10) == 0 {
		m.MaxMessages = 3000
	}
}

func (d *driver) create(name string) {
	var m Meta
	m.Rewind = time.Hour
	d.meta(&m)
	if m.Retention == time.Second {
		m.Retention = time.Hour
	}
	if _, err := d.s.Queue("dead"); err == nil && name != "dead" && d.rng.IntN(2) == 0 {
		m.DeadLetter = &DeadLetter{Queue: "dead", MaxReceives: d.rng.IntN(4), MaxAge: []time.Duration{0, 25 * time.Minute}[d.rng.IntN(2)]}
		if m.DeadLetter.MaxReceives == 0 && m.DeadLetter.MaxAge == 0 {
			m.DeadLetter.MaxReceives = 1
		}
	}
	_, err := d.s.CreateQueue(context.Background(), name, m)
	d.note("%s created %+v: %v", name, m, err)
	d.must(err)
}

func (d *driver) setMeta(name string, q *Queue) {
	err := q.SetMeta(context.Background(), func(m *Meta) {
		d.meta(m)
		if m.DeadLetter != nil && d.rng.IntN(3) == 0 {
			m.DeadLetter = nil
		} else if m.DeadLetter == nil && name != "dead" && d.rng.IntN(3) == 0 {
			if _, err := d.s.Queue("dead"); err == nil {
				m.DeadLetter = &DeadLetter{Queue: "dead", MaxReceives: 1 + d.rng.IntN(2)}
			}
		}
		if m.DeadLetter != nil && m.DeadLetter.MaxAge >= m.Retention {
			m.DeadLetter.MaxAge, m.DeadLetter.MaxReceives = 0, 2
		}
		d.note("%s set to Retention %v, Rewind %v, %+v", name, m.Retention, m.Rewind, m.DeadLetter)
	})
	d.must(err)
}

func (d *driver) take(name string, n int) (receipts []string) {
	var rest []heldReceipt
	newest := d.rng.IntN(2) == 0
	if newest {
		slices.Reverse(d.held)
	}
	for _, h := range d.held {
		if h.queue == name && len(receipts) < n && d.rng.IntN(8) > 0 {
			receipts = append(receipts, h.receipt)
		} else {
			rest = append(rest, h)
		}
	}
	if newest {
		slices.Reverse(rest)
	}
	d.held = rest
	return receipts
}

func (d *driver) delete(name string, q *Queue) {
	receipts := d.take(name, 1+d.rng.IntN(900))
	if len(receipts) == 0 {
		return
	}
	err := q.DeleteBatch(context.Background(), receipts)
	refused := 0
	var batch *BatchError
	if errors.As(err, &batch) {
		refused, err = len(batch.Failed), nil
	}
	d.note("%s delete %d, %d refused: %v", name, len(receipts), refused, err)
	d.must(err)
}

func (d *driver) change(name string, q *Queue) {
	for _, receipt := range d.take(name, 1+d.rng.IntN(5)) {
		v := d.span()
		var err error
		switch d.rng.IntN(3) {
		case 0:
			err = q.ChangeVisibility(context.Background(), receipt, 0)
			d.note("%s release: %v", name, err)
		case 1:
			_, err = q.giveBack(context.Background(), receipt, v)
			d.note("%s release for %v: %v", name, v, err)
		default:
			err = q.ChangeVisibility(context.Background(), receipt, v)
			d.held = append(d.held, heldReceipt{name, receipt})
			d.note("%s extend by %v: %v", name, v, err)
		}
		d.allow(err, ErrInvalidReceipt)
	}
}

func (d *driver) rewind(name string, q *Queue) {
	earliest, latest, err := q.RewindRange()
	if errors.Is(err, ErrRewindDisabled) {
		return
	}
	d.must(err)
	to := latest
	switch d.rng.IntN(4) {
	case 0:
		to = earliest.Add(time.Second)
	case 1, 2: // some message's instant
		q.hold()
		q.st.each(func(*summary) bool { return false }, func(b *block) bool {
			bring(d.t, q, b)
			if at := q.st.cursor.get(&b.places, d.rng.IntN(max(1, b.places.n))).at; at > earliest.UnixNano()+1e9 {
				to = instantTime(at)
			}
			return d.rng.IntN(3) > 0
		})
		q.mu.Unlock()
	}
	want, err := q.RewindPreview(context.Background(), to)
	d.must(err)
	n, err := q.Rewind(context.Background(), to)
	d.note("%s rewind to %v before now: %d %v", name, latest.Sub(to), n, err)
	d.must(err)
	if n != want {
		d.fatalf("Rewind = %d, RewindPreview = %d", n, want)
	}
}

// reopen closes the spool and opens it again, sometimes hours later.
func (d *driver) reopen() {
	before := dump(d.t, d.s)
	jump := d.jump()
	d.must(d.s.disk.Sync(d.s.disk.End()))
	if jump > 0 {
		d.must(d.s.disk.Mark(d.s.now()+int64(jump), false))
	}
	d.close()
	if d.rng.IntN(4) == 0 {
		d.must(os.RemoveAll(filepath.Join(d.dir, "index")))
		d.must(os.RemoveAll(filepath.Join(d.dir, "index.ok")))
		d.note("index removed")
	}
	d.open()
	d.note("reopened %v later", jump)
	d.check(d.s, "here")
	if jump == 0 && !d.beside {
		d.same("reopened", before, dump(d.t, d.s))
	}
}

func (d *driver) jump() time.Duration {
	return []time.Duration{0, 0, 17 * time.Minute, 31 * time.Minute, time.Hour + time.Minute, 4 * time.Hour}[d.rng.IntN(6)]
}

// ---- what is found at Open -----------------------------------------------------------------------------------------

// snapshot copies the directory as it is, and tells what the spool has.
func (d *driver) snapshot() (before []string, end store.Position, image string) {
	if !d.inside {
		d.pause.Lock()
		defer d.pause.Unlock()
	}
	d.must(d.s.Sync(context.Background()))
	before = dump(d.t, d.s)
	end = d.s.disk.End()
	d.must(d.s.keeper.mark(false))
	d.must(d.s.Sync(context.Background()))
	image = d.t.TempDir()
	copyTree(d.t, d.dir, image)
	d.note("compared at %d", end)
	return before, end, image
}

// compare opens copies of a snapshot in several ways.
func (d *driver) compare() {
	before, end, image := d.snapshot()
	asIs := d.look(image, "crashed", 0, end, func(string) {})
	d.same("crashed", before, asIs)
	noIndex := func(dir string) {
		d.must(os.RemoveAll(filepath.Join(dir, "index")))
		d.must(os.RemoveAll(filepath.Join(dir, "index.ok")))
		innerLose(d.t, dir, d.opts)
	}
	d.same("without index", before, d.look(image, "without index", 0, end, noIndex))
	jump := d.jump()
	if jump > 0 {
		d.same(fmt.Sprintf("index against log, %v later", jump), d.look(image, "later", jump, end, func(string) {}),
			d.look(image, "later without index", jump, end, noIndex))
	}
	switch d.rng.IntN(2) {
	case 0:
		d.same("without marker", before, d.look(image, "without marker", 0, end, func(dir string) {
			d.must(os.RemoveAll(filepath.Join(dir, "index.ok")))
		}))
	case 1:
		if d.old == "" {
			break
		}
		older := d.old
		d.same("older index", before, d.look(image, "older index", 0, end, func(dir string) {
			noIndex(dir)
			copyTree(d.t, filepath.Join(older, "index"), filepath.Join(dir, "index"))
			if data, err := os.ReadFile(filepath.Join(older, "index.ok")); err == nil {
				d.must(os.WriteFile(filepath.Join(dir, "index.ok"), data, 0o600))
			}
		}))
	}
	if d.old == "" || d.rng.IntN(4) == 0 {
		d.old = image
	}
	if d.rng.IntN(3) == 0 && !d.inside { // go on where the crash was
		jump := d.jump()
		d.close()
		d.dir = d.t.TempDir()
		copyTree(d.t, image, d.dir)
		setTime(d.t, d.dir, jump)
		d.open()
		d.note("went on after a crash, %v later", jump)
	}
}

// innerLose loses what the log has: as a control, the messages of a queue that has some.
func innerLose(t testing.TB, dir string, opts []Option) {
	if !*innerLoss {
		return
	}
	s, err := Open(dir, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, q := range s.Queues() {
		if err := q.Purge(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// look opens a copy of an image in which something was changed and some time has passed, and tells what is there. It
// makes a checkpoint and opens it again: that must show the same.
func (d *driver) look(image, how string, jump time.Duration, end store.Position, change func(dir string)) []string {
	dir := filepath.Join(d.t.TempDir(), "copy")
	copyTree(d.t, image, dir)
	change(dir)
	setTime(d.t, dir, jump)
	_, noMarker := os.Stat(filepath.Join(dir, "index.ok"))
	opts := d.opts
	if spills := d.rng.IntN(2) == 0; spills { // its replay keeps little in memory, and makes an index if there is none
		opts = append(slices.Clip(opts), WithPaging(1<<40, 1<<40), func(o *options) { o.paging.most = 4 << 10 })
		how += ", spilled"
		noMarker = os.ErrNotExist
	}
	s, err := Open(dir, opts...)
	if err != nil {
		d.fatalf("%s: %v", how, err)
	}
	defer func() { s.Close() }()
	takeKeeper(s)
	if noMarker == nil {
		d.found++
	}
	if noMarker == nil && s.keeper.shelf.index != nil {
		d.used++
	}
	d.check(s, how)
	first := dumpFrom(d.t, s, end)
	d.check(s, how)
	if d.rng.IntN(4) == 0 {
		s.keeper.checkpoint()
		s.keeper.reclaim()
		s.keeper.checkpoint()
		again := dumpFrom(d.t, s, end)
		d.same(how+", after a checkpoint", first, again)
		d.must(s.Close())
		if s, err = Open(dir, d.opts...); err != nil {
			d.fatalf("%s, opened again: %v", how, err)
		}
		d.check(s, how)
		d.same(how+", opened again", first, dumpFrom(d.t, s, end))
	}
	d.must(s.Close())
	d.must(os.RemoveAll(dir))
	return first
}

func (d *driver) same(how string, want, got []string) {
	d.t.Helper()
	for i := range max(len(want), len(got)) {
		var a, b string
		if i < len(want) {
			a = want[i]
		}
		if i < len(got) {
			b = got[i]
		}
		if a != b {
			d.fatalf("%s: line %d of %d is\n  %s\nwant\n  %s", how, i, len(got), b, a)
		}
	}
}

// setTime makes the next Open of a directory find itself some time later.
func setTime(t testing.TB, dir string, jump time.Duration) {
	t.Helper()
	if jump == 0 {
		return
	}
	log, err := seglog.Open(dir, seglog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	now := max(time.Now().UnixNano(), log.Info().HighWater)
	if err := errors.Join(log.Mark(now+int64(jump), false), log.Close()); err != nil {
		t.Fatal(err)
	}
}

// dump tells the complete logical state of a spool, everything due taken into account, in text that two spools can be
// compared by.
func dump(t testing.TB, s *Spool) []string { return dumpFrom(t, s, 1<<62) }

// dumpFrom leaves out of messages from a position on what depends on when exactly a spool was opened: dead letters that
// fell due while it was closed.
func dumpFrom(t testing.TB, s *Spool, end store.Position) (lines []string) {
	t.Helper()
	quiesce(t, s)
	s.set.RLock()
	lines = append(lines, fmt.Sprintf("highest queue id %d", s.lastID))
	s.set.RUnlock()
	for _, q := range s.Queues() {
		q.hold()
		lines = append(lines, dumpQueue(t, q, end)...)
		q.mu.Unlock()
	}
	return lines
}

// quiesce waits until nothing falls due soon: what is left takes minutes.
func quiesce(t testing.TB, s *Spool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		busy := false
		for _, q := range s.Queues() {
			now, err := q.lock()
			if err != nil {
				t.Fatal(err)
			}
			busy = busy || q.st.wake() < now+int64(10*time.Second) || q.st.count[moving]+q.st.count[hidden]+q.st.count[pending] > 0
			q.unlock(now)
		}
		if !busy {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("something is always about to fall due")
		}
		runtime.Gosched()
	}
}

func dumpQueue(t testing.TB, q *Queue, end store.Position) (lines []string) {
	st := q.st
	m := *st.meta
	dl := "none"
	if m.DeadLetter != nil {
		dl = fmt.Sprintf("%+v", *m.DeadLetter)
	}
	m.DeadLetter = nil
	bound := "nobody"
	if q.target != nil {
		bound = q.target.name
	}
	var late []string
	count := [kinds]int64{}
	var body []string
	st.each(func(*summary) bool { return false }, func(b *block) bool {
		b, err := whole(q, b)
		if err != nil {
			t.Fatal(err)
		}
		now := settled(st, b)
		for off, p := range placesOf(b) {
			k := now.kind(off)
			if k == gone {
				continue
			}
			count[k]++
			seq := b.first() + uint64(off)
			stored, err := q.open(p.pos, seq, p.size)
			if err != nil {
				t.Fatalf("queue %q, message %d at %d: %v", q.name, seq, p.pos, err)
			}
			sum := crc32.ChecksumIEEE(stored.body) ^ crc32.ChecksumIEEE(stored.attrs)<<1
			var e entry
			if x := now.entry(off); x != nil {
				e = *x
			}
			if p.pos >= end {
				late = append(late, fmt.Sprintf("%s late: kind %d size %d sum %08x origin %+v", q.name, k, p.size, sum, *stored.origin))
				continue
			}
			if stored.at != p.at {
				t.Fatalf("queue %q, message %d: EnqueuedAt %d, its record says %d", q.name, seq, p.at, stored.at)
			}
			body = append(body, fmt.Sprintf("%s %d: kind %d at %d size %d sum %08x due %d first %d base %d nonce %x receives %d rewinds %d",
				q.name, seq, k, p.at, p.size, sum, e.due, e.first, e.base, e.nonce, e.receives, e.rewinds))
		}
		return true
	})
	if count != st.count {
		t.Fatalf("queue %q: count = %v, its messages are %v", q.name, st.count, count)
	}
	slices.Sort(late)
	lines = append(lines, fmt.Sprintf("%s id %d next %d sent %d received %d deleted %d created %d modified %d count %v",
		q.name, q.id, st.next, st.sent, st.received, st.erased, st.created, st.modified, st.count),
		fmt.Sprintf("%s meta %+v dead letters %s to %s floors %+v generation %d", q.name, m, dl, bound, st.floors, st.history.Generation()))
	return append(append(lines, body...), late...)
}

// copyTree copies a directory, holes left as holes. What disappears meanwhile was not needed.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, x fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if x.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		if err := copyFile(path, filepath.Join(to, rel)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	buf, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	at := int64(0)
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := out.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if err != nil {
			return out.Truncate(at)
		}
	}
}
