package spool_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/internal/model"
)

// The same random operations run against the library and against internal/model; after every step results, counters and
// order must be equal. A run is a list of operations made of plain numbers, which are interpreted against the state at
// hand: so a list with holes is still a run, and a failing one is shrunk by cutting pieces out of it.

var (
	modelSteps = flag.Int("spool.model.steps", 0, "operations of TestModel against the model (0: 100000, 10000 with -short or -race)")
	modelSeed  = flag.Uint64("spool.model.seed", 0, "seed of TestModel and TestModelDisk; 0 draws one")
	modelWrong = flag.Bool("spool.model.wrong", false, "a control: the model forgets some deletes, and the tests of the model must fail")
	modelOnly  = flag.Int("spool.model.run", -1, "make only this run of the seed, and print what it does as it goes")
)

const modelRun = 200 // operations between two fresh spools

func TestModel(t *testing.T) {
	steps := *modelSteps
	if steps == 0 {
		steps = 100_000
		if testing.Short() || raceEnabled {
			steps = 10_000
		}
	}
	modelCampaign(t, steps, modelRun, func(ops []modelOp) error { return modelInBubble(t, ops) })
}

// TestModelDisk runs on disk, in real time and with clean reopens: everything that takes time takes hours here.
func TestModelDisk(t *testing.T) {
	for name, d := range map[string]spool.Durability{"fsync": spool.Fsync, "written": spool.Written} {
		t.Run(name, func(t *testing.T) {
			steps := 10_000
			if *modelSteps > 0 {
				steps = *modelSteps / 10
			}
			if testing.Short() || raceEnabled {
				steps = 1200
			}
			modelCampaign(t, steps, 2*modelRun, func(ops []modelOp) error {
				dir, err := os.MkdirTemp("", "spool-model-")
				if err != nil {
					return err
				}
				defer os.RemoveAll(dir)
				r := &modelRunner{slack: time.Second, ctx: context.Background(), dir: dir}
				r.open = func() (*spool.Spool, error) {
					return spool.Open(dir, append(modelSizes(ops[0].n[1]), spool.WithDurability(d))...)
				}
				return r.run(ops)
			})
		})
	}
}

// modelSizes makes small segments and many checkpoints in most runs, so that few messages make the log move on, and puts
// blocks out of memory all the time in most of them.
func modelSizes(n uint32) []spool.Option {
	if n%4 == 0 {
		return modelPaging(n >> 2)
	}
	return append(modelPaging(n>>9), spool.WithSizes(int64(8<<10)<<(n>>2%4), int64(4<<10)<<(n>>4%5)))
}

// modelPaging puts blocks out of memory all the time, in two of three runs; in one of them calls wait for it.
func modelPaging(n uint32) []spool.Option {
	return [][]spool.Option{{}, {spool.WithPaging(0, 1<<40)}, {spool.WithPaging(0, 2<<10)}}[n%3]
}

// TestModelDiskTime is on disk and under virtual time, closed or killed now and then: what falls due meanwhile as well.
func TestModelDiskTime(t *testing.T) {
	steps := 30_000
	if *modelSteps > 0 {
		steps = *modelSteps / 10
	}
	if testing.Short() || raceEnabled {
		steps = 1200
	}
	modelCampaign(t, steps, modelRun, func(ops []modelOp) error {
		dir, err := os.MkdirTemp(damageTemp(), "spool-model-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		synctest.Test(t, func(t *testing.T) {
			r := &modelRunner{bubble: true, ctx: t.Context(), dir: filepath.Join(dir, "spool")}
			durability := spool.Durability(ops[0].n[0] % 2)
			r.open = func() (*spool.Spool, error) {
				options := []spool.Option{spool.WithDurability(durability), spool.WithoutPaging}
				if n := ops[0].n[1]; n%3 == 0 { // Badger looks around twenty times a second: days would take minutes
					options = append(options, modelSizes(n/3|1)...)
					r.longest = 10 * time.Second
				}
				return spool.Open(r.dir, options...)
			}
			err = r.run(ops)
		})
		return err
	})
}

func modelCampaign(t *testing.T, steps, per int, run func([]modelOp) error) {
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64() >> 16
	}
	t.Logf("-spool.model.seed=%d", seed)
	begun := time.Now()
	clear(modelSeen)
	for i := 0; i*per < steps; i++ {
		if *modelOnly >= 0 && i != *modelOnly {
			continue
		}
		if testing.Verbose() && *modelSeed != 0 { // a panic in a goroutine of the spool's own ends the process
			fmt.Printf("run %d of seed %d\n", i, seed)
		}
		ops := modelOps(rand.New(rand.NewPCG(seed, uint64(i))), per)
		err := run(ops)
		if err == nil {
			continue
		}
		first, ok := err.(*modelError)
		if !ok {
			t.Fatal(err)
		}
		ops, err = modelShrink(ops, err, run)
		t.Fatalf("run %d of seed %d: %v\n\nshrunk to %d operations:\n%v", i, seed, first.err, len(ops), err)
	}
	t.Logf("%d steps in %v: %v", steps, time.Since(begun).Round(time.Millisecond), modelSeen)
}

func modelInBubble(t *testing.T, ops []modelOp) (err error) {
	synctest.Test(t, func(t *testing.T) {
		r := &modelRunner{bubble: true, ctx: t.Context()}
		r.open = func() (*spool.Spool, error) { return spool.OpenMemory(modelPaging(ops[0].n[1])...) }
		err = r.run(ops)
	})
	return err
}

// modelShrink cuts pieces out of a failing run, then makes its numbers small, as long as it goes on failing.
func modelShrink(ops []modelOp, err error, run func([]modelOp) error) ([]modelOp, error) {
	end := time.Now().Add(20 * time.Second)
	try := func(candidate []modelOp) bool {
		if time.Now().After(end) {
			return false
		}
		e, failed := run(candidate).(*modelError)
		if failed {
			ops, err = candidate, e
		}
		return failed
	}
	if at := err.(*modelError).step; at+1 < len(ops) {
		try(ops[:at+1])
	}
	for size := len(ops) / 2; size > 0; {
		cut := false
		for i := 0; i+size <= len(ops); {
			if try(slices.Concat(ops[:i], ops[i+size:])) {
				cut = true
			} else {
				i += size
			}
		}
		if !cut || size > 1 {
			size /= 2
		}
	}
	for i := range ops {
		for j := range ops[i].n {
			if i < len(ops) && ops[i].n[j] != 0 {
				simpler := slices.Clone(ops)
				simpler[i].n[j] = 0
				try(simpler)
			}
		}
	}
	return ops, err
}

// ---- operations ----

type modelOp struct {
	verb func(*modelRunner, modelOp) error
	name string
	n    [6]uint32
}

var modelVerbs = []struct {
	weight int
	name   string
	real   bool // also on disk
	do     func(*modelRunner, modelOp) error
}{
	{14, "send", true, (*modelRunner).send},
	{6, "sendbatch", true, (*modelRunner).sendBatch},
	{16, "receive", true, (*modelRunner).receive},
	{4, "poll", false, (*modelRunner).poll},
	{4, "waiter", false, (*modelRunner).startWaiter},
	{1, "cancel", false, (*modelRunner).cancelWaiter},
	{2, "drain", true, (*modelRunner).drain},
	{12, "delete", true, (*modelRunner).delete},
	{3, "deletebatch", true, (*modelRunner).deleteBatch},
	{5, "visibility", true, (*modelRunner).visibility},
	{5, "release", true, (*modelRunner).release},
	{5, "rewind", true, (*modelRunner).rewind},
	{3, "peek", true, (*modelRunner).peek},
	{1, "purge", true, (*modelRunner).purge},
	{6, "setmeta", true, (*modelRunner).setMeta},
	{1, "drop", true, (*modelRunner).drop},
	{2, "create", true, (*modelRunner).create},
	{18, "sleep", false, (*modelRunner).sleep},
	{2, "wrong", true, (*modelRunner).wrong},
	{3, "reopen", true, (*modelRunner).reopen},
	{0, "flood", true, (*modelRunner).flood}, // weight 2 in some runs, see modelOps
}

func modelOps(rng *rand.Rand, n int) []modelOp {
	verbs := slices.Clone(modelVerbs)
	if rng.IntN(8) == 0 {
		verbs[len(verbs)-1].weight = 2
	}
	total := 0
	for _, v := range verbs {
		total += v.weight
	}
	ops := make([]modelOp, n)
	for i := range ops {
		w := rng.IntN(total)
		for _, v := range verbs {
			if w -= v.weight; w < 0 {
				ops[i] = modelOp{verb: v.do, name: v.name}
				break
			}
		}
		for j := range ops[i].n {
			ops[i].n[j] = rng.Uint32()
		}
	}
	return ops
}

// A modelRunner is one spool, its model, and what the operations so far have left in hand.
type modelRunner struct {
	ctx    context.Context
	bubble bool          // virtual time: every instant is exact
	slack  time.Duration // real time: how far the spool's clock and ours may be apart
	open   func() (*spool.Spool, error)
	dir    string // "" in memory

	longest time.Duration // that virtual time may pass at once; 0 = days

	s        *spool.Spool
	m        *model.Spool
	queues   []*modelQueue
	dead     []*modelQueue
	held     []modelHeld
	waiters  []*modelWaiter
	ids      map[string]bool
	receipts map[string]bool
	bodies   int
	log      []string
}

type modelQueue struct {
	q *spool.Queue
	m *model.Queue
}

type modelHeld struct {
	q *modelQueue
	d *spool.Delivery
	r *model.Receipt // nil: malformed

	closed bool // the spool of d's own methods has been closed since
}

func (h modelHeld) own(q *modelQueue, n uint32) bool { return h.q == q && !h.closed && n%2 == 0 }

type modelWaiter struct {
	q          *modelQueue
	max        int
	batch      bool
	visibility time.Duration
	deadline   time.Time
	cancel     context.CancelFunc
	cancelled  bool
	done       chan struct{}
	got        []*spool.Delivery
	err        error
}

type modelError struct {
	err  error
	step int
	log  []string
}

func (e *modelError) Error() string {
	return fmt.Sprintf("%s\n--> %v", strings.Join(e.log[max(0, len(e.log)-60):], "\n"), e.err)
}

func (r *modelRunner) run(ops []modelOp) (err error) {
	step := -1
	fail := func(err error) *modelError { return &modelError{err, step, r.log} }
	defer func() {
		if p := recover(); p != nil {
			err = fail(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	defer func() {
		if r.s == nil {
			return
		}
		e := r.s.Close()
		if r.bubble {
			synctest.Wait()
		}
		for _, w := range r.waiters {
			<-w.done
			if e == nil && !errors.Is(w.err, spool.ErrClosed) {
				e = fmt.Errorf("waiter at Close: %v, want ErrClosed", w.err)
			}
		}
		if e != nil && err == nil {
			err = fail(fmt.Errorf("Close: %w", e))
		}
	}()
	r.m, r.ids, r.receipts = model.New(time.Now().Add(-r.slack)), map[string]bool{}, map[string]bool{}
	if r.s, err = r.open(); err != nil {
		return fail(err)
	}
	for i, op := range ops {
		step = i
		for name := range uint32(len(modelNames)) {
			for _, which := range []uint32{1, 0} { // as it may come, or the defaults
				if len(r.queues) >= 2 {
					break
				}
				if err := r.create(modelOp{n: [6]uint32{name, which, op.n[2], op.n[3], 1}}); err != nil {
					return fail(err)
				}
			}
		}
		if *modelOnly >= 0 {
			fmt.Printf("step %d: %s\n", i, op.name)
		}
		if err := op.verb(r, op); err != nil {
			return fail(fmt.Errorf("%s: %w", op.name, err))
		}
	}
	return nil
}

func (r *modelRunner) note(format string, args ...any) {
	r.log = append(r.log, time.Now().Format("02T15:04:05.000000000 ")+fmt.Sprintf(format, args...))
	if *modelOnly >= 0 {
		fmt.Println(r.log[len(r.log)-1])
	}
}

// now begins a call: the span that end returns holds the instant at which the spool took it.
func (r *modelRunner) now() (end func() model.Span) {
	lo := time.Now().Add(-r.slack)
	return func() model.Span {
		at := model.Span{Lo: lo, Hi: time.Now().Add(r.slack)}
		if r.bubble {
			at.Lo = at.Hi
		}
		r.m.Advance(at.Lo)
		return at
	}
}

func (r *modelRunner) queue(n uint32) *modelQueue {
	return r.queues[int(n)%len(r.queues)]
}

// failure is the name of the sentinel that an error answers to, with the reason of a receipt error.
func failure(err error) string {
	var re *spool.ReceiptError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &re):
		if !errors.Is(err, spool.ErrInvalidReceipt) || spool.CodeOf(err) != 4430 {
			return fmt.Sprintf("ReceiptError without sentinel or code: %v", err)
		}
		return string(re.Reason)
	}
	for _, s := range []struct {
		name string
		err  error
		code int
	}{
		{"ErrInvalidArgument", spool.ErrInvalidArgument, 4000},
		{"ErrNoMessage", spool.ErrNoMessage, 7000},
		{"ErrQueueNotFound", spool.ErrQueueNotFound, 4440},
		{"ErrQueueExists", spool.ErrQueueExists, 4460},
		{"ErrMessageTooLarge", spool.ErrMessageTooLarge, 4400},
		{"ErrQueueFull", spool.ErrQueueFull, 4410},
		{"ErrBatchTooLarge", spool.ErrBatchTooLarge, 4470},
		{"ErrRewindDisabled", spool.ErrRewindDisabled, 6050},
		{"ErrInvalidRewindTime", spool.ErrInvalidRewindTime, 4000},
		{"ErrClosed", spool.ErrClosed, 6000},
		{"context.Canceled", context.Canceled, 6000},
	} {
		if errors.Is(err, s.err) {
			if c := spool.CodeOf(err); c != s.code {
				return fmt.Sprintf("%s with code %d, want %d", s.name, c, s.code)
			}
			return s.name
		}
	}
	return "unknown: " + err.Error()
}

// modelSeen counts what the runs of a campaign came by: what is never seen is not tested.
var modelSeen = map[string]int{}

func wantFailure(err error, want ...string) error {
	got := failure(err)
	modelSeen[got]++
	if len(want) == 0 && got == "" || slices.Contains(want, got) {
		return nil
	}
	return fmt.Errorf("answer %q (%v), want one of %q", got, err, want)
}

// ---- comparing ----

// settle lets waiters take what they can have, then compares everything. atomic says that what became active in this
// step did so at once.
func (r *modelRunner) settle(atomic bool) error {
	if r.bubble {
		synctest.Wait()
	}
	at := r.now()()
	if err := r.arrivals(nil, at); err != nil {
		return err
	}
	if err := r.serve(atomic, at); err != nil {
		return err
	}
	return r.compare()
}

// serve checks what the waiters got: the oldest messages, the first waiter first, none left beside the other.
func (r *modelRunner) serve(atomic bool, at model.Span) error {
	var waiting []*modelWaiter
	for _, w := range r.waiters {
		select {
		case <-w.done:
		default:
			waiting = append(waiting, w)
			if !w.deadline.After(at.Lo) {
				return fmt.Errorf("receiver of %s still waits at its deadline %v", w.q.m.Name, w.deadline)
			}
			continue
		}
		w.cancel()
		switch {
		case w.cancelled:
			if err := wantFailure(w.err, "context.Canceled"); err != nil {
				return fmt.Errorf("cancelled receiver: %w", err)
			}
			continue
		case w.q.m.Dropped:
			if err := wantFailure(w.err, model.ErrQueueNotFound); err != nil {
				return fmt.Errorf("receiver of a deleted queue: %w", err)
			}
			continue
		case w.err != nil:
			if err := wantFailure(w.err, model.ErrNoMessage); err != nil || w.deadline.After(at.Lo) {
				return fmt.Errorf("receiver of %s until %v: %v", w.q.m.Name, w.deadline, w.err)
			}
			continue
		}
		modelSeen["woke"]++
		r.note("  receiver of %s woke with %d", w.q.m.Name, len(w.got))
		for _, first := range waiting {
			if first.q == w.q {
				return fmt.Errorf("a receiver of %s was served before one that came earlier", w.q.m.Name)
			}
		}
		available := int(w.q.m.Count(model.Active))
		if err := r.received(w.q, w.got, len(w.got), w.visibility, at); err != nil {
			return err
		}
		if want := min(w.max, available); len(w.got) == 0 || len(w.got) > want || atomic && len(w.got) != want {
			return fmt.Errorf("receiver of %s woke with %d messages, want %d", w.q.m.Name, len(w.got), want)
		}
	}
	r.waiters = waiting
	for _, w := range waiting {
		if n := w.q.m.Count(model.Active); n > 0 {
			return fmt.Errorf("%d active in %s beside a waiting receiver", n, w.q.m.Name)
		}
	}
	return nil
}

// arrivals learns which dead-letter copies came and in which order. first are deliveries that were made already.
func (r *modelRunner) arrivals(first []*spool.Delivery, at model.Span) error {
	copies := r.m.Arrivals()
	if len(copies) == 0 {
		return nil
	}
	for _, w := range r.waiters {
		select {
		case <-w.done:
			first = append(first, w.got...)
		default:
		}
	}
	for _, q := range r.queues {
		mine := slices.DeleteFunc(slices.Clone(copies), func(c *model.Message) bool { return !slices.Contains(q.m.Messages, c) })
		if len(mine) == 0 {
			continue
		}
		peeked, err := q.q.Peek(r.ctx, spool.MaxBatch)
		if err != nil {
			return err
		}
		for _, d := range slices.Concat(first, peeked) {
			i := slices.IndexFunc(mine, func(c *model.Message) bool {
				return d.DeadLetter != nil && d.DeadLetter.ID == c.Origin.ID && d.DeadLetter.Queue == c.Origin.Queue
			})
			if i < 0 {
				continue
			}
			if r.ids[d.ID] {
				return fmt.Errorf("dead-letter copy %s in %s has an ID that was given before", d.ID, q.m.Name)
			}
			r.ids[d.ID] = true
			modelSeen["moved by "+d.DeadLetter.Reason]++
			if err := q.m.Arrived(mine[i], d.ID, d.EnqueuedAt); err != nil {
				return err
			}
			mine = slices.Delete(mine, i, i+1)
		}
		// A copy that has arrived within the slack may have left by retention by now, or not.
		for _, c := range mine {
			if c.State == model.Gone || !c.Enq.Hi.Add(q.m.Meta.Retention).After(at.Hi) {
				continue
			}
			return fmt.Errorf("message %s of %s (%d receives, %v) did not arrive in dead-letter queue %s", c.Origin.ID, c.Origin.Queue, c.Origin.Receives, c.Origin.Reasons, q.m.Name)
		}
	}
	r.m.Advance(at.Lo)
	return nil
}

func (r *modelRunner) compare() error {
	names := []string{}
	for _, q := range r.queues {
		names = append(names, q.m.Name)
	}
	slices.Sort(names)
	got := []string{}
	for _, q := range r.s.Queues() {
		got = append(got, q.Name())
	}
	if !slices.Equal(got, names) {
		return fmt.Errorf("Queues() = %q, want %q", got, names)
	}
	for i, q := range r.queues {
		if err := r.compareQueue(q, (len(r.log)+i)%4 == 0); err != nil {
			return fmt.Errorf("queue %s: %w\nmodel: %s", q.m.Name, err, modelDump(q.m))
		}
	}
	return nil
}

func modelDump(q *model.Queue) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%+v", q.Meta)
	if q.Meta.DeadLetter != nil {
		fmt.Fprintf(&b, " dead letters %+v", *q.Meta.DeadLetter)
	}
	for _, m := range q.Messages {
		fmt.Fprintf(&b, "\n  %s %q %v enqueued %v due %v receives %d rewinds %d", m.ID, m.Body, m.State, m.Enq, m.Due, m.Receives, m.Rewinds)
	}
	return b.String()
}

func (r *modelRunner) compareQueue(q *modelQueue, peek bool) error {
	end := r.now()
	a, err := q.q.Attributes(r.ctx)
	if err != nil {
		return fmt.Errorf("Attributes: %w", err)
	}
	end()
	for _, c := range []struct {
		name      string
		got, want int64
	}{
		{"Active", a.Active, q.m.Count(model.Active)},
		{"Inactive", a.Inactive, q.m.Count(model.Inactive)},
		{"Delayed", a.Delayed, q.m.Count(model.Delayed)},
		{"Rewindable", a.Rewindable, q.m.Count(model.Rewindable)},
		{"Sent", a.Sent, q.m.Sent},
		{"Received", a.Received, q.m.Received},
		{"Deleted", a.Deleted, q.m.Deleted},
	} {
		if c.got != c.want {
			return fmt.Errorf("%s = %d, want %d (active %d inactive %d delayed %d rewindable %d)", c.name, c.got, c.want, a.Active, a.Inactive, a.Delayed, a.Rewindable)
		}
	}
	next := q.m.NextDue()
	if next != nil {
		known := *next // but not whose it is
		next = &known
	}
	for _, c := range []struct {
		name string
		got  time.Time
		want *model.Span
	}{
		{"Oldest", a.Oldest, q.m.Oldest()},
		{"NextDue", a.NextDue, next},
		{"CreatedAt", a.CreatedAt, &q.m.Created},
		{"ModifiedAt", a.ModifiedAt, &q.m.Modified},
	} {
		switch {
		case c.want == nil && !c.got.IsZero():
			return fmt.Errorf("%s = %v, want none", c.name, model.At(c.got))
		case c.want != nil && !c.want.Learn(c.got):
			return fmt.Errorf("%s = %v, want %v", c.name, model.At(c.got), c.want)
		}
	}
	if got, want := modelMeta(a.Meta), q.m.Meta; !equalModelMeta(got, want) {
		return fmt.Errorf("Attributes.Meta = %+v, want %+v", got, want)
	}
	if got, want := modelMeta(q.q.Meta()), q.m.Meta; !equalModelMeta(got, want) {
		return fmt.Errorf("Meta = %+v, want %+v", got, want)
	}
	if peek {
		return r.comparePeek(q, spool.MaxBatch)
	}
	return nil
}

func (r *modelRunner) comparePeek(q *modelQueue, n int) error {
	got, err := q.q.Peek(r.ctx, n)
	if err != nil {
		return fmt.Errorf("Peek: %w", err)
	}
	want := q.m.ActiveMessages()
	want = want[:min(n, len(want))]
	if len(got) != len(want) {
		return fmt.Errorf("Peek(%d) = %d messages, want %d", n, len(got), len(want))
	}
	for i, d := range got {
		if err := modelSame(d, want[i]); err != nil {
			return fmt.Errorf("Peek(%d)[%d]: %w", n, i, err)
		}
		switch {
		case !d.VisibleAt.IsZero():
			return fmt.Errorf("Peek(%d)[%d].VisibleAt = %v, want none", n, i, d.VisibleAt)
		case d.Receipt != "":
			return fmt.Errorf("Peek(%d)[%d] has a receipt", n, i)
		}
	}
	return nil
}

// modelSame compares what a delivery and a peeked message have in common.
func modelSame(d *spool.Delivery, m *model.Message) error {
	switch {
	case d.ID != m.ID:
		return fmt.Errorf("message %s (%q), want %s (%q)", d.ID, d.Body, m.ID, m.Body)
	case string(d.Body) != m.Body:
		return fmt.Errorf("body of %s = %q, want %q", d.ID, d.Body, m.Body)
	case len(d.Attributes)+len(m.Attributes) > 0 && !maps.Equal(d.Attributes, m.Attributes):
		return fmt.Errorf("attributes of %s = %q, want %q", d.ID, d.Attributes, m.Attributes)
	case d.Receives != m.Receives:
		return fmt.Errorf("%s has %d receives, want %d", d.ID, d.Receives, m.Receives)
	case d.Rewinds != m.Rewinds:
		return fmt.Errorf("%s has %d rewinds, want %d", d.ID, d.Rewinds, m.Rewinds)
	case !m.Enq.Learn(d.EnqueuedAt):
		return fmt.Errorf("%s has EnqueuedAt %v, want %v", d.ID, model.At(d.EnqueuedAt), m.Enq)
	case m.First.Lo.IsZero() && !d.FirstReceivedAt.IsZero(), !m.First.Lo.IsZero() && !m.First.Learn(d.FirstReceivedAt):
		return fmt.Errorf("%s has FirstReceivedAt %v, want %v", d.ID, model.At(d.FirstReceivedAt), m.First)
	case (d.DeadLetter == nil) != (m.Origin == nil):
		return fmt.Errorf("%s has DeadLetter %+v, want %+v", d.ID, d.DeadLetter, m.Origin)
	}
	if o := m.Origin; o != nil {
		g := d.DeadLetter
		if g.Queue != o.Queue || g.ID != o.ID || g.Receives != o.Receives || !slices.Contains(o.Reasons, g.Reason) || !o.Enq.Learn(g.EnqueuedAt) {
			return fmt.Errorf("%s has DeadLetter %+v, want %+v", d.ID, *g, *o)
		}
	}
	return nil
}

// received takes the deliveries that the library made over into the model, which would have made them of its oldest n.
func (r *modelRunner) received(q *modelQueue, got []*spool.Delivery, n int, visibility time.Duration, at model.Span) error {
	want := q.m.Receive(n, visibility, at)
	if len(got) != len(want) {
		return fmt.Errorf("received %d messages of %s, want %d\nmodel: %s", len(got), q.m.Name, len(want), modelDump(q.m))
	}
	for i, d := range got {
		m := want[i].Message()
		if err := modelSame(d, m); err != nil {
			return fmt.Errorf("delivery %d: %w\nmodel: %s", i, err, modelDump(q.m))
		}
		switch {
		case !m.Due.Learn(d.VisibleAt):
			return fmt.Errorf("delivery %s has VisibleAt %v, want %v", d.ID, model.At(d.VisibleAt), m.Due)
		case !wellFormed(d.Receipt, 128):
			return fmt.Errorf("receipt %q", d.Receipt)
		case r.receipts[d.Receipt]:
			return fmt.Errorf("receipt %q was given before", d.Receipt)
		}
		r.receipts[d.Receipt] = true
		switch {
		case d.Rewinds > 0:
			modelSeen["received after a rewind"]++
		case d.DeadLetter != nil:
			modelSeen["received a dead letter"]++
		case d.Receives > 1:
			modelSeen["received again"]++
		default:
			modelSeen["received"]++
		}
		r.note("    %s %q receives %d until %v", d.ID, d.Body, d.Receives, model.At(d.VisibleAt))
		r.held = append(r.held, modelHeld{q: q, d: d, r: want[i]})
		for j := range d.Body { // it belongs to us
			d.Body[j] = '#'
		}
	}
	return nil
}

func wellFormed(s string, most int) bool {
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return len(s) > 0 && len(s) <= most
}

// ---- verbs ----

func (r *modelRunner) body(n uint32) string {
	r.bodies++
	body := fmt.Sprintf("m%d", r.bodies)
	switch n % 16 {
	case 0:
		body += strings.Repeat(".", int(n>>8%90))
	case 1:
		body = "\x00\xff" + body
	}
	return body
}

func (r *modelRunner) message(q *modelQueue, a, b uint32) model.Send {
	x := model.Send{Body: r.body(a)}
	switch b % 16 {
	case 0, 1:
		x.Delay = -1
	case 2, 3, 4:
		x.Delay = r.duration(b >> 4)
	case 5:
		x.Delay = q.m.Meta.Retention - time.Duration(b>>4%2)
	case 6:
		x.Attributes = map[string]string{"k": x.Body, "\x00": ""}
	}
	return x
}

func libraryMessage(x model.Send) spool.Message {
	m := spool.Message{Body: []byte(x.Body), Attributes: maps.Clone(x.Attributes), Delay: x.Delay}
	if x.Delay == -1 {
		m.Delay = spool.NoDelay
	}
	return m
}

func (r *modelRunner) send(op modelOp) error {
	q := r.queue(op.n[0])
	return r.sendAll(q, []model.Send{r.message(q, op.n[1], op.n[2])}, false)
}

func (r *modelRunner) sendBatch(op modelOp) error {
	q := r.queue(op.n[0])
	batch := make([]model.Send, 1+op.n[1]%7)
	for i := range batch {
		batch[i] = r.message(q, op.n[2]+uint32(i)*2654435761, op.n[3]+uint32(i)*2246822519)
	}
	return r.sendAll(q, batch, true)
}

func (r *modelRunner) sendAll(q *modelQueue, batch []model.Send, asBatch bool) error {
	var ids []string
	var err error
	end := r.now()
	if asBatch {
		ms := make([]spool.Message, len(batch))
		for i, x := range batch {
			ms[i] = libraryMessage(x)
		}
		ids, err = q.q.SendBatch(r.ctx, ms)
		for i := range ms { // the caller's slices are the caller's
			for j := range ms[i].Body {
				ms[i].Body[j] = '!'
			}
			clear(ms[i].Attributes)
		}
	} else {
		var id string
		m := libraryMessage(batch[0])
		id, err = q.q.Send(r.ctx, m)
		ids = []string{id}
		for j := range m.Body {
			m.Body[j] = '!'
		}
	}
	at := end()
	for _, x := range batch {
		r.note("send %s %q delay %v", q.m.Name, x.Body, x.Delay)
	}
	want := q.m.CanSend(batch)
	if e := wantFailure(err, want...); e != nil {
		return e
	}
	if err == nil {
		if len(ids) != len(batch) {
			return fmt.Errorf("%d ids for %d messages", len(ids), len(batch))
		}
		for _, id := range ids {
			if r.ids[id] || !wellFormed(id, 64) {
				return fmt.Errorf("id %q is malformed or was given before", id)
			}
			r.ids[id] = true
		}
		r.note("  = %v", ids)
		q.m.Send(batch, ids, at)
	} else {
		r.note("  = %v", err)
	}
	return r.settle(true)
}

// flood sends hundreds, so that messages of one queue come to lie in several blocks; when there are many it takes and
// deletes hundreds. Bound: what a Peek shows.
func (r *modelRunner) flood(op modelOp) error {
	q := r.queue(op.n[0])
	there := 0
	for _, q := range r.queues {
		there += len(q.m.Messages)
	}
	if op.n[5]%4 == 0 && r.bubble && q.m.Meta.Rewind > 0 { // more rewinds than a queue likes to remember
		r.note("rewind %s 700 times", q.m.Name)
		to := time.Now()
		if op.n[5]%8 == 0 && there > 0 && len(q.m.Messages) > 0 {
			to = q.m.Messages[len(q.m.Messages)-1].Enq.Lo
		}
		for range 700 {
			n, err := q.q.Rewind(r.ctx, to)
			if err := wantFailure(err, orNone(q.m.CanRewind(to, time.Now()))...); err != nil {
				return err
			}
			if err != nil {
				break
			}
			if want := q.m.Rewind(to, time.Now()); n != want {
				return fmt.Errorf("rewind restored %d, want %d", n, want)
			}
		}
		return r.settle(true)
	}
	n := 100 + int(op.n[1]%350)
	if there+n <= spool.MaxBatch-100 {
		batch := make([]model.Send, n)
		for i := range batch {
			batch[i] = model.Send{Body: r.body(uint32(i) | 2), Delay: -1}
			if op.n[2]%4 == 0 && uint32(i)%7 == op.n[3]%7 {
				batch[i].Delay = r.duration(op.n[4] + uint32(i))
			}
		}
		return r.sendAll(q, batch, true)
	}
	for _, o := range r.queues {
		if len(o.m.Messages) > len(q.m.Messages) {
			q = o
		}
	}
	if op.n[1]%4 == 0 || q.m.Count(model.Active) < 50 {
		return r.purge(modelOp{n: [6]uint32{uint32(slices.Index(r.queues, q))}})
	}
	end := r.now()
	got, err := q.q.ReceiveBatch(r.ctx, n, spool.Wait(0))
	at := end()
	if err != nil {
		return err
	}
	want := min(n, int(q.m.Count(model.Active)))
	if len(got) != want {
		return fmt.Errorf("ReceiveBatch(%d) gave %d, want %d", n, len(got), want)
	}
	first := len(r.held)
	if err := r.received(q, got, n, 0, at); err != nil {
		return err
	}
	var receipts []string
	for i, h := range r.held[first:] {
		if op.n[2]%8 == 0 && i%5 == 0 || len(q.m.Check(h.r)) > 0 {
			continue
		}
		receipts = append(receipts, h.d.Receipt)
		q.m.Delete(h.r)
	}
	r.note("deletebatch %s of %d", q.m.Name, len(receipts))
	if len(receipts) > 0 {
		if err := q.q.DeleteBatch(r.ctx, receipts); err != nil {
			return err
		}
	}
	return r.settle(true)
}

// options draws options for a receive and says what they come to.
func (r *modelRunner) options(q *modelQueue, n uint32, wait time.Duration) (opts []spool.ReceiveOption, visibility time.Duration) {
	if wait >= 0 {
		opts = append(opts, spool.Wait(wait))
	}
	if n%4 == 0 {
		visibility = max(1, r.duration(n>>2))
		opts = append(opts, spool.Visibility(visibility))
	}
	return opts, visibility
}

func libraryReceive(ctx context.Context, q *spool.Queue, n int, batch bool, opts []spool.ReceiveOption) ([]*spool.Delivery, error) {
	if batch {
		got, err := q.ReceiveBatch(ctx, n, opts...)
		if err != nil && len(got) > 0 {
			err = fmt.Errorf("%d deliveries beside error %w", len(got), err)
		}
		return got, err
	}
	d, err := q.Receive(ctx, opts...)
	if err != nil {
		if d != nil {
			err = fmt.Errorf("a delivery beside error %w", err)
		}
		return nil, err
	}
	return []*spool.Delivery{d}, nil
}

func modelBatch(a uint32) (n int, batch bool) {
	if a%2 == 0 {
		return 1, false
	}
	return 1 + int(a>>1%8), true
}

func (r *modelRunner) receive(op modelOp) error {
	q := r.queue(op.n[0])
	n, batch := modelBatch(op.n[1])
	opts, visibility := r.options(q, op.n[2], 0)
	end := r.now()
	got, err := libraryReceive(r.ctx, q.q, n, batch, opts)
	at := end()
	r.note("receive %s max %d visibility %v: %d, %v", q.m.Name, n, visibility, len(got), err)
	if err := r.arrivals(got, at); err != nil {
		return err
	}
	want := []string{}
	if q.m.Count(model.Active) == 0 {
		want = append(want, model.ErrNoMessage)
	}
	if err := wantFailure(err, want...); err != nil {
		return err
	}
	if err := r.received(q, got, n, visibility, at); err != nil {
		return err
	}
	return r.settle(true)
}

// poll is a receive that waits while nobody else does anything: only the spool's own clock can end it.
func (r *modelRunner) poll(op modelOp) error {
	if len(r.waiters) > 0 || !r.bubble {
		return r.settle(true)
	}
	q := r.queue(op.n[0])
	n, batch := modelBatch(op.n[1])
	wait := min(r.duration(op.n[3]), 24*time.Hour)
	if next, ok := r.m.Next(); ok && op.n[4]%4 == 0 {
		wait = min(24*time.Hour, max(0, time.Until(next)+time.Duration(op.n[4]>>2%3)-1))
	}
	if r.longest > 0 {
		wait = min(wait, r.longest)
	}
	asked := wait
	if op.n[5]%8 == 0 {
		asked, wait = -1, q.m.Meta.PollingWait
	}
	opts, visibility := r.options(q, op.n[2], asked)
	begun := time.Now()
	got, err := libraryReceive(r.ctx, q.q, n, batch, opts)
	now := time.Now()
	r.note("poll %s for %v max %d visibility %v: %d, %v", q.m.Name, wait, n, visibility, len(got), err)

	// When did a message become active, and was it still there when the spool's clock could have noticed?
	var since time.Time
	look := func(at time.Time) {
		r.m.AdvanceUnseen(at, now)
		switch active := q.m.Count(model.Active) > 0; {
		case !active && at.Sub(since) <= r.m.Slack:
			since = time.Time{}
		case active && since.IsZero():
			since = at
		}
	}
	look(begun)
	for next, ok := r.m.Next(); ok && !next.After(now); next, ok = r.m.Next() {
		look(next)
	}
	look(now)
	at := model.At(now)
	if err := r.arrivals(got, at); err != nil {
		return err
	}
	late := now.Sub(begun.Add(wait))
	switch {
	case late > r.m.Slack:
		return fmt.Errorf("poll for %v ended after %v", wait, now.Sub(begun))
	case err == nil && since.IsZero():
		return fmt.Errorf("poll got %d, nothing was active", len(got))
	case err == nil && now.Sub(since) > r.m.Slack:
		return fmt.Errorf("poll got a message at %v that was active since %v", model.At(now), model.At(since))
	case err != nil && !since.IsZero() && !since.After(begun.Add(wait)):
		return fmt.Errorf("poll for %v from %v: %v, though a message was active since %v", wait, model.At(begun), err, model.At(since))
	case err != nil && late < 0:
		return fmt.Errorf("poll for %v ended after %v: %v", wait, now.Sub(begun), err)
	case err != nil:
		if err := wantFailure(err, model.ErrNoMessage); err != nil {
			return err
		}
		return r.settle(true)
	}
	if want := min(n, int(q.m.Count(model.Active))); len(got) > want || now.Equal(begun) && len(got) != want {
		return fmt.Errorf("poll got %d, want %d", len(got), want)
	}
	if err := r.received(q, got, len(got), visibility, at); err != nil {
		return err
	}
	return r.settle(true)
}

func (r *modelRunner) startWaiter(op modelOp) error {
	if len(r.waiters) >= 6 || !r.bubble {
		return r.settle(true)
	}
	q := r.queue(op.n[0])
	n, batch := modelBatch(op.n[1])
	wait := max(1, min(r.duration(op.n[3]), 24*time.Hour))
	asked := wait
	if op.n[5]%8 == 0 && q.m.Meta.PollingWait > 0 {
		asked, wait = -1, q.m.Meta.PollingWait
	}
	opts, visibility := r.options(q, op.n[2], asked)
	ctx, cancel := context.WithCancel(r.ctx)
	w := &modelWaiter{q: q, max: n, batch: batch, visibility: visibility, deadline: time.Now().Add(wait), cancel: cancel, done: make(chan struct{})}
	r.note("receiver of %s waits %v max %d visibility %v", q.m.Name, wait, n, visibility)
	go func() {
		defer close(w.done)
		defer func() {
			if p := recover(); p != nil {
				w.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		w.got, w.err = libraryReceive(ctx, q.q, n, batch, opts)
	}()
	r.waiters = append(r.waiters, w)
	return r.settle(true)
}

func (r *modelRunner) cancelWaiter(op modelOp) error {
	if len(r.waiters) > 0 {
		w := r.waiters[int(op.n[0])%len(r.waiters)]
		r.note("cancel a receiver of %s", w.q.m.Name)
		w.cancelled = true
		w.cancel()
	}
	return r.settle(true)
}

// drain ranges over Deliveries and leaves after a few.
func (r *modelRunner) drain(op modelOp) error {
	q := r.queue(op.n[0])
	n := int(op.n[1] % 6)
	opts, visibility := r.options(q, op.n[2], 0)
	want := min(n, int(q.m.Count(model.Active)))
	if n == 0 {
		want = int(q.m.Count(model.Active))
	}
	r.note("deliveries of %s, %d", q.m.Name, n)
	end := r.now()
	var got []*spool.Delivery
	for d, err := range q.q.Deliveries(r.ctx, opts...) {
		if err != nil {
			return fmt.Errorf("Deliveries: %w", err)
		}
		at := end()
		if err := r.arrivals([]*spool.Delivery{d}, at); err != nil {
			return err
		}
		if err := r.received(q, []*spool.Delivery{d}, 1, visibility, at); err != nil {
			return err
		}
		if got = append(got, d); len(got) == n {
			break
		}
	}
	if len(got) != want {
		return fmt.Errorf("Deliveries gave %d, want %d", len(got), want)
	}
	return r.settle(true)
}

// receipt draws a receipt: mostly a late one, sometimes garbage. The queue is mostly the right one.
func (r *modelRunner) receipt(a, b uint32) (q *modelQueue, h modelHeld) {
	if len(r.held) == 0 || b%32 == 0 {
		garbage := []string{"", "x", strings.Repeat("A", 128), strings.Repeat("A", 400), "é"}
		s := garbage[int(a)%len(garbage)]
		if len(r.held) > 0 && a%2 == 0 {
			real := []byte(r.held[int(a>>1)%len(r.held)].d.Receipt)
			if i := int(a>>8) % len(real); b>>5%2 == 0 {
				real[i] ^= 1 + byte(a>>16)%255
			} else {
				real = real[:i]
			}
			s = string(real)
		}
		return r.queue(a), modelHeld{d: &spool.Delivery{Receipt: s}}
	}
	i := len(r.held) - 1 - int(a)%min(len(r.held), 6)
	if b%4 == 1 {
		i = int(a) % len(r.held)
	}
	h = r.held[i]
	if q = h.q; q.m.Dropped || b>>5%16 == 0 {
		q = r.queue(a >> 8)
	}
	return q, h
}

func (r *modelRunner) delete(op modelOp) error {
	q, h := r.receipt(op.n[0], op.n[1])
	var err error
	end := r.now()
	if h.own(q, op.n[2]) {
		err = h.d.Delete(r.ctx)
	} else {
		err = q.q.Delete(r.ctx, h.d.Receipt)
	}
	end()
	r.note("delete %s %s %.12s: %v", q.m.Name, h.d.ID, h.d.Receipt, err)
	want := q.m.Check(h.r)
	if err := wantFailure(err, want...); err != nil {
		return err
	}
	if err == nil && !(*modelWrong && op.n[5]%10 == 0) {
		q.m.Delete(h.r)
	}
	return r.settle(true)
}

func (r *modelRunner) deleteBatch(op modelOp) error {
	q, h := r.receipt(op.n[0], op.n[1])
	held := []modelHeld{h}
	for i := range op.n[2] % 5 {
		_, h := r.receipt(op.n[3]+i*2654435761, op.n[4]+i*2246822519)
		held = append(held, h)
	}
	var receipts []string
	for _, h := range held {
		receipts = append(receipts, h.d.Receipt)
	}
	end := r.now()
	err := q.q.DeleteBatch(r.ctx, receipts)
	end()
	r.note("deletebatch %s of %d: %v", q.m.Name, len(receipts), err)
	var failed []spool.ItemError
	var be *spool.BatchError
	if errors.As(err, &be) {
		failed = be.Failed
	} else if err != nil {
		return err
	}
	bad := 0
	for i, h := range held {
		want := q.m.Check(h.r)
		if len(want) == 0 {
			q.m.Delete(h.r)
			continue
		}
		bad++
		if len(failed) == 0 || failed[0].Index != i || failed[0].Receipt != receipts[i] {
			return fmt.Errorf("Failed = %+v, want one for index %d (%v)", failed, i, want)
		}
		if err := wantFailure(failed[0].Err, want...); err != nil {
			return fmt.Errorf("index %d: %w", i, err)
		}
		failed = failed[1:]
	}
	if len(failed) > 0 {
		return fmt.Errorf("%+v failed, want success", failed)
	}
	if bad > 0 {
		code := 6010
		if bad == len(held) {
			code = 6020
		}
		if !errors.Is(err, spool.ErrBatchPartial) || spool.CodeOf(err) != code {
			return fmt.Errorf("%v with code %d, want ErrBatchPartial with %d", err, spool.CodeOf(err), code)
		}
	}
	return r.settle(true)
}

func (r *modelRunner) visibility(op modelOp) error {
	q, h := r.receipt(op.n[0], op.n[1])
	d := r.duration(op.n[3])
	if d == 0 {
		d = 1
	}
	own := h.own(q, op.n[2])
	var err error
	end := r.now()
	if own {
		err = h.d.Extend(r.ctx, d)
	} else {
		err = q.q.ChangeVisibility(r.ctx, h.d.Receipt, d)
	}
	at := end()
	r.note("visibility %s %s by %v: %v", q.m.Name, h.d.ID, d, err)
	if err := wantFailure(err, q.m.Check(h.r)...); err != nil {
		return err
	}
	if err == nil {
		q.m.Extend(h.r, d, at)
		if m := h.r.Message(); own && !m.Due.Learn(h.d.VisibleAt) {
			return fmt.Errorf("VisibleAt = %v, want %v", model.At(h.d.VisibleAt), m.Due)
		}
	}
	return r.settle(true)
}

func (r *modelRunner) release(op modelOp) error {
	q, h := r.receipt(op.n[0], op.n[1])
	after := time.Duration(0)
	if op.n[4]%2 == 0 {
		after = r.duration(op.n[3])
	}
	var err error
	var name string
	end := r.now()
	switch {
	case h.own(q, op.n[2]):
		name, err = "Release", h.d.Release(r.ctx, after)
	case h.own(q, op.n[2]+1) && op.n[5]%2 == 0:
		name, after = "Extend(0)", 0
		err = h.d.Extend(r.ctx, 0)
	default:
		name, after = "ChangeVisibility(0)", 0
		err = q.q.ChangeVisibility(r.ctx, h.d.Receipt, 0)
	}
	at := end()
	r.note("%s %s %s after %v: %v", name, q.m.Name, h.d.ID, after, err)
	if err := wantFailure(err, q.m.Check(h.r)...); err != nil {
		return err
	}
	if err == nil {
		q.m.Release(h.r, after, at)
	}
	return r.settle(true)
}

func (r *modelRunner) rewind(op modelOp) error {
	q := r.queue(op.n[0])
	if op.n[0]>>16%4 != 0 {
		for _, o := range r.queues {
			if q.m.Count(model.Rewindable) == 0 {
				q = o
			}
		}
	}
	now := time.Now()
	to := now.Add(-r.duration(op.n[1]))
	w := q.m.Meta.Rewind
	switch op.n[2] % 8 {
	case 0:
		to = now.Add(-w)
	case 1:
		to = now.Add(-w).Add(-1)
	case 2:
		to = now.Add(time.Duration(op.n[3] % 2))
	case 3, 4, 5:
		if n := len(q.m.Messages); n > 0 {
			if m := q.m.Messages[int(op.n[3])%n]; m.Enq.Lo.Equal(m.Enq.Hi) {
				to = m.Enq.Lo.Add(time.Duration(int(op.n[4]%3) - 1))
			}
		}
	case 6:
		if op.n[3]%4 == 0 {
			to = time.Time{}
		}
	}
	if !r.bubble { // stay away from the edges of the range, which we do not know
		if d := now.Sub(to); w > 0 && (d-w).Abs() < time.Minute {
			to = now.Add(-w / 2)
		}
		if d := to.Sub(now); d >= 0 {
			to = now.Add(time.Hour)
		}
	}
	end := r.now()
	preview, perr := q.q.RewindPreview(r.ctx, to)
	n, err := preview, perr
	if op.n[5]%4 != 0 {
		n, err = q.q.Rewind(r.ctx, to)
	}
	at := end()
	r.note("rewind %s to %v: %d, %v", q.m.Name, model.At(to), n, err)
	took := at.Lo // the spool's now, as far as it matters
	if past := at.Hi.Add(-r.slack); !to.After(past) {
		took = past
	}
	if e := wantFailure(err, orNone(q.m.CanRewind(to, took))...); e != nil {
		return e
	}
	if failure(err) != failure(perr) || err == nil && n != preview {
		return fmt.Errorf("RewindPreview = %d, %v beside Rewind = %d, %v", preview, perr, n, err)
	}
	var re *spool.RewindRangeError
	if failure(err) == model.ErrInvalidRewindTime {
		if !errors.As(err, &re) {
			return fmt.Errorf("%v is no RewindRangeError", err)
		}
		if e, l := at.Add(-w), at; !e.Learn(re.Earliest) || !l.Learn(re.Latest) {
			return fmt.Errorf("range %v to %v, want %v to %v", model.At(re.Earliest), model.At(re.Latest), e, l)
		}
	}
	if err == nil {
		want := int64(len(q.m.Rewinds(to)))
		if n != want {
			return fmt.Errorf("rewind to %v restored %d, want %d\nmodel: %s", model.At(to), n, want, modelDump(q.m))
		}
		if op.n[5]%4 != 0 {
			modelSeen["restored"] += int(q.m.Rewind(to, at.Lo))
		}
	}
	earliest, latest, err := q.q.RewindRange()
	at = r.now()()
	if err := wantFailure(err, orNone(q.m.CanRewind(at.Lo, at.Lo))...); err != nil {
		return fmt.Errorf("RewindRange: %w", err)
	}
	if e, l := at.Add(-w), at; err == nil && (!e.Learn(earliest) || !l.Learn(latest)) {
		return fmt.Errorf("RewindRange = %v, %v, want %v, %v", earliest, latest, e, l)
	}
	return r.settle(true)
}

func orNone(fail string) []string {
	if fail == model.OK {
		return nil
	}
	return []string{fail}
}

func (r *modelRunner) peek(op modelOp) error {
	q := r.queue(op.n[0])
	n := 1 + int(op.n[1]%5)
	r.note("peek %s %d", q.m.Name, n)
	if err := r.comparePeek(q, n); err != nil {
		return err
	}
	return r.settle(true)
}

func (r *modelRunner) purge(op modelOp) error {
	q := r.queue(op.n[0])
	end := r.now()
	err := q.q.Purge(r.ctx)
	end()
	r.note("purge %s: %v", q.m.Name, err)
	if err != nil {
		return err
	}
	q.m.Purge()
	return r.settle(true)
}

func (r *modelRunner) drop(op modelOp) error {
	q := r.queue(op.n[0])
	if op.n[1]%2 == 0 {
		return r.settle(true)
	}
	end := r.now()
	err := r.s.DeleteQueue(r.ctx, q.m.Name)
	end()
	r.note("drop %s: %v", q.m.Name, err)
	if err := wantFailure(err, orNone(r.m.Drop(q.m.Name))...); err != nil {
		return err
	}
	if err == nil {
		r.queues = slices.DeleteFunc(r.queues, func(o *modelQueue) bool { return o == q })
		r.dead = append(r.dead, q)
	}
	if len(r.queues) == 0 {
		return r.create(modelOp{n: op.n})
	}
	return r.settle(true)
}

var modelNames = []string{"orders", "dead", "Mail-1", "x", "dead_2"}

func (r *modelRunner) create(op modelOp) error {
	if len(r.queues) >= 4 {
		return r.settle(true)
	}
	name := modelNames[int(op.n[0])%len(modelNames)]
	if op.n[0]>>8%8 == 1 {
		name = strings.ToUpper(name)
	}
	meta := r.meta(model.Meta{}, op.n[1], op.n[2], op.n[3])
	end := r.now()
	var q *spool.Queue
	var err error
	opened := op.n[4]%4 == 0
	if opened {
		q, err = r.s.OpenQueue(r.ctx, name, libraryMeta(meta))
	} else {
		q, err = r.s.CreateQueue(r.ctx, name, libraryMeta(meta))
	}
	at := end()
	r.note("create %s %+v: %v", name, meta, err)
	if opened && r.m.Queue(name) != nil {
		// Whether a meta that will not be used must be valid is open.
		if err != nil && failure(err) != model.ErrInvalidArgument || err == nil && q.Name() != name {
			return fmt.Errorf("OpenQueue of an existing queue: %v", err)
		}
		return r.settle(true)
	}
	mq, fail := r.m.Create(name, meta, at)
	want := orNone(fail)
	if fail == model.ErrInvalidArgument && r.m.Taken(name) { // both are true
		want = append(want, model.ErrQueueExists)
	}
	if err := wantFailure(err, want...); err != nil {
		return err
	}
	if err == nil {
		if q.Name() != name {
			return fmt.Errorf("Name() = %q, want %q", q.Name(), name)
		}
		r.queues = append(r.queues, &modelQueue{q, mq})
	}
	return r.settle(true)
}

func (r *modelRunner) setMeta(op modelOp) error {
	q := r.queue(op.n[0])
	meta := r.meta(q.m.Meta, op.n[1], op.n[2], op.n[3])
	end := r.now()
	err := q.q.SetMeta(r.ctx, func(m *spool.Meta) {
		if got := modelMeta(*m); !equalModelMeta(got, q.m.Meta) {
			panic(fmt.Sprintf("SetMeta hands %+v to its function, want %+v", got, q.m.Meta))
		}
		*m = libraryMeta(meta)
	})
	at := end()
	r.note("setmeta %s %+v %+v: %v", q.m.Name, meta, meta.DeadLetter, err)
	if err := wantFailure(err, orNone(q.m.SetMeta(meta, at))...); err != nil {
		return err
	}
	return r.settle(false)
}

// meta changes some fields of a meta to values that like to meet.
func (r *modelRunner) meta(m model.Meta, which, a, b uint32) model.Meta {
	pick := func(ds ...time.Duration) time.Duration { return ds[int(a%uint32(len(ds)))] }
	if which%4 == 0 {
		return m
	}
	if which%4 == 1 { // what is seldom together by chance
		m.Retention = pick(0, time.Minute, time.Hour)
		m.Rewind = pick(m.Retention, m.Retention/2, time.Minute, 30*time.Second)
		m.Visibility = pick(time.Second, 10*time.Second, time.Minute)
		if len(r.queues) > 1 && b%2 == 0 {
			m.DeadLetter = &model.DeadLetter{Queue: r.queues[b>>3%uint32(len(r.queues))].m.Name, MaxReceives: int(b >> 1 % 4), MaxAge: pick(10*time.Second, 0, time.Minute-1)}
		}
		which = 0
	}
	for bit := range 8 {
		if which == 0 || which>>(2+bit)%4 != 0 {
			continue
		}
		switch bit {
		case 0:
			m.Visibility = pick(0, time.Second, time.Minute, time.Hour, 30*time.Second)
		case 1:
			m.Retention = pick(0, time.Second, 10*time.Second, time.Minute, time.Hour)
		case 2, 3:
			m.Rewind = pick(0, time.Second, 10*time.Second, time.Minute, time.Hour, 96*time.Hour, m.Retention)
		case 4:
			m.MaxMessages = []int64{0, 3, 20}[a%3]
		case 5:
			m.Delay = pick(0, 0, 0, time.Second, 10*time.Second, m.Retention-1)
		case 6:
			m.PollingWait = pick(0, time.Second, time.Minute)
			m.MaxSize = []int{0, 40}[a%2]
		case 7:
			m.DeadLetter = nil
			if b%8 != 0 && len(r.queues) > 0 {
				m.DeadLetter = &model.DeadLetter{Queue: r.queue(b >> 3).m.Name, MaxReceives: int(a % 4), MaxAge: pick(0, 0, time.Second, 10*time.Second, time.Minute, m.Retention-1)}
			}
		}
	}
	if !r.bubble { // nothing that comes due
		m.Visibility, m.Retention, m.Delay, m.PollingWait = 0, 0, 0, 0
		if which>>20%2 == 0 {
			m.Visibility = 10 * time.Hour
		}
		if m.Rewind > 0 {
			m.Rewind = pick(24*time.Hour, 96*time.Hour)
		}
		if m.DeadLetter != nil {
			dl := *m.DeadLetter
			dl.MaxAge = 0
			m.DeadLetter = &dl
		}
	}
	return m
}

func libraryMeta(m model.Meta) spool.Meta {
	l := spool.Meta{
		VisibilityTimeout: m.Visibility, PollingWait: m.PollingWait, MaxMessageSize: m.MaxSize, Retention: m.Retention,
		Rewind: m.Rewind, MaxMessages: m.MaxMessages, Delay: m.Delay,
	}
	if d := m.DeadLetter; d != nil {
		l.DeadLetter = &spool.DeadLetter{Queue: d.Queue, MaxReceives: d.MaxReceives, MaxAge: d.MaxAge}
	}
	return l
}

func modelMeta(l spool.Meta) model.Meta {
	m := model.Meta{
		Visibility: l.VisibilityTimeout, PollingWait: l.PollingWait, MaxSize: l.MaxMessageSize, Retention: l.Retention,
		Rewind: l.Rewind, MaxMessages: l.MaxMessages, Delay: l.Delay,
	}
	if d := l.DeadLetter; d != nil {
		m.DeadLetter = &model.DeadLetter{Queue: d.Queue, MaxReceives: d.MaxReceives, MaxAge: d.MaxAge}
	}
	return m
}

func equalModelMeta(a, b model.Meta) bool {
	da, db := a.DeadLetter, b.DeadLetter
	a.DeadLetter, b.DeadLetter = nil, nil
	return a == b && (da == db || da != nil && db != nil && *da == *db)
}

// duration is between nothing and days: round ones, which meet each other, or any.
func (r *modelRunner) duration(n uint32) time.Duration {
	if !r.bubble {
		return time.Duration(1+n%20) * time.Hour
	}
	if r.longest > 0 && n%64 > 0 {
		return time.Duration(n>>6%8)*time.Second + time.Duration(n>>9%2)
	}
	if n%2 == 0 {
		round := []time.Duration{0, 1, time.Millisecond, time.Second, time.Second, 10 * time.Second, 30 * time.Second, time.Minute, time.Hour, 24 * time.Hour}
		return round[int(n>>1)%len(round)]
	}
	return time.Duration(math.Pow(10, float64(n>>1)/(1<<31)*14.6)) // up to 4.6 days, all orders of magnitude alike
}

// wait draws a time to let pass, with a liking for the instants at which something is due, and for those just beside
// them.
func (r *modelRunner) wait(op modelOp) time.Duration {
	d := r.duration(op.n[1])
	if op.n[5]%4 != 0 { // else nothing lives long
		d = min(d, 10*time.Second)
	}
	if due := r.m.Deadlines(); len(due) > 0 && op.n[0]%4 != 0 {
		i := min(bitsTrailing(op.n[2]), len(due)-1)
		d = time.Until(due[i]) + time.Duration(op.n[3]%3) - 1
		if op.n[3]%5 == 0 {
			d = time.Until(due[i])
		}
	}
	if r.longest > 0 {
		d = min(d, r.longest)
	}
	return max(0, d)
}

// sleep lets time pass.
func (r *modelRunner) sleep(op modelOp) error {
	if !r.bubble {
		return r.settle(true)
	}
	d := r.wait(op)
	r.note("sleep %v", d)
	until := time.Now().Add(d)
	if len(r.waiters) == 0 {
		time.Sleep(d)
		at := r.now()()
		if op.n[4]%3 == 0 { // let the next operation be the first to look
			return r.arrivals(nil, at)
		}
		return r.settle(false)
	}
	// With receivers waiting, look at every instant at which something happens: then all of them are exact.
	for time.Now().Before(until) {
		next := until
		if due, ok := r.m.Next(); ok && due.Before(next) {
			next = due
		}
		for _, w := range r.waiters {
			if w.deadline.Before(next) {
				next = w.deadline
			}
		}
		time.Sleep(time.Until(next))
		for _, q := range r.queues {
			if _, err := q.q.Attributes(r.ctx); err != nil {
				return err
			}
		}
		if err := r.settle(false); err != nil {
			return err
		}
	}
	return r.settle(false)
}

func bitsTrailing(n uint32) int {
	i := 0
	for ; n&1 == 1; n >>= 1 {
		i++
	}
	return i
}

// wrong makes calls that must fail and change nothing.
func (r *modelRunner) wrong(op modelOp) error {
	q := r.queue(op.n[0])
	ctx := r.ctx
	if op.n[1]%3 == 0 {
		done, cancel := context.WithCancel(ctx)
		cancel()
		ctx = done
	}
	calls := []struct {
		name string
		want string
		do   func(q *spool.Queue) error
	}{
		{"SendBatch(none)", model.ErrInvalidArgument, func(q *spool.Queue) error { _, err := q.SendBatch(ctx, nil); return err }},
		{"SendBatch(1025)", model.ErrInvalidArgument, func(q *spool.Queue) error {
			_, err := q.SendBatch(ctx, slices.Repeat([]spool.Message{{Body: []byte("x")}}, spool.MaxBatch+1))
			return err
		}},
		{"Send(empty)", model.ErrInvalidArgument, func(q *spool.Queue) error { _, err := q.Send(ctx, spool.Message{}); return err }},
		{"Send(delay -2)", model.ErrInvalidArgument, func(q *spool.Queue) error {
			_, err := q.Send(ctx, spool.Message{Body: []byte("x"), Delay: -2})
			return err
		}},
		{"Send(empty key)", model.ErrInvalidArgument, func(q *spool.Queue) error {
			_, err := q.Send(ctx, spool.Message{Body: []byte("x"), Attributes: map[string]string{"": "x"}})
			return err
		}},
		{"ReceiveBatch(0)", model.ErrInvalidArgument, func(q *spool.Queue) error { _, err := q.ReceiveBatch(ctx, 0); return err }},
		{"ReceiveBatch(1025)", model.ErrInvalidArgument, func(q *spool.Queue) error { _, err := q.ReceiveBatch(ctx, 1025); return err }},
		{"Receive(Visibility 0)", model.ErrInvalidArgument, func(q *spool.Queue) error { _, err := q.Receive(ctx, spool.Visibility(0)); return err }},
		{"Receive(Wait 25h)", model.ErrInvalidArgument, func(q *spool.Queue) error { _, err := q.Receive(ctx, spool.Wait(25*time.Hour)); return err }},
		{"Peek(0)", model.ErrInvalidArgument, func(q *spool.Queue) error { _, err := q.Peek(ctx, 0); return err }},
		{"DeleteBatch(none)", model.ErrInvalidArgument, func(q *spool.Queue) error { return q.DeleteBatch(ctx, nil) }},
		{"ChangeVisibility(-1)", model.ErrInvalidArgument, func(q *spool.Queue) error { return q.ChangeVisibility(ctx, "x", -1) }},
		{"SetMeta(Visibility -1)", model.ErrInvalidArgument, func(q *spool.Queue) error {
			return q.SetMeta(ctx, func(m *spool.Meta) { m.VisibilityTimeout = -1; m.Rewind = 0 })
		}},
	}
	c := calls[int(op.n[2])%len(calls)]
	want := c.want
	if ctx != r.ctx {
		want = "context.Canceled"
	}
	r.note("wrong: %s on %s, want %s", c.name, q.m.Name, want)
	if err := wantFailure(c.do(q.q), want); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	if len(r.dead) > 0 {
		gone := r.dead[int(op.n[3])%len(r.dead)]
		if want != "context.Canceled" {
			want = model.ErrQueueNotFound
		}
		if err := wantFailure(c.do(gone.q), want); err != nil {
			return fmt.Errorf("%s on a deleted queue: %w", c.name, err)
		}
	}
	if r.m.Queue("nobody") == nil {
		if _, err := r.s.Queue("nobody"); failure(err) != model.ErrQueueNotFound {
			return fmt.Errorf("Queue(nobody): %v", err)
		}
	}
	return r.settle(true)
}

func (r *modelRunner) reopen(op modelOp) error {
	if r.dir == "" || len(r.waiters) > 0 {
		return r.settle(true)
	}
	closed := time.Duration(0)
	if r.bubble && op.n[1]%2 == 0 {
		closed = r.wait(op)
	}
	if r.bubble && op.n[2]%2 == 0 {
		modelSeen["killed"]++
		r.note("kill and open after %v", closed)
		synctest.Wait()
		next := r.dir + "'"
		if err := copySpool(r.dir, next); err != nil {
			return err
		}
		defer os.RemoveAll(r.dir)
		r.dir = next
	} else {
		modelSeen["closed"]++
		r.note("close and open after %v", closed)
	}
	if err := r.s.Close(); err != nil {
		return err
	}
	time.Sleep(closed)
	if op.n[0]%3 == 0 {
		dropped, err := dropIndex(r.dir)
		r.note("index dropped: %v", dropped)
		if err != nil {
			return err
		}
	}
	var err error
	if r.s, err = r.open(); err != nil {
		r.s = nil
		return err
	}
	r.m.Restart()
	if r.bubble {
		r.m.AdvanceClosed(time.Now())
	}
	for _, q := range r.queues {
		if q.q, err = r.s.Queue(q.m.Name); err != nil {
			return err
		}
	}
	for _, q := range r.dead {
		if _, err := q.q.Attributes(r.ctx); failure(err) != "ErrClosed" && failure(err) != model.ErrQueueNotFound {
			return fmt.Errorf("queue of a closed spool: %v", err)
		}
	}
	r.dead = nil
	for i := range r.held {
		r.held[i].closed = true
	}
	return r.settle(true)
}
