package history

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	seedFlag  = flag.Uint64("history.seed", 0, "first seed of TestRight and TestMutants; 0 draws one")
	seedsFlag = flag.Int("history.seeds", 0, "seeds of TestRight (0: 400, 60 with -short)")
)

func firstSeed(t *testing.T) uint64 {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() >> 16
	}
	t.Logf("-history.seed=%d", seed)
	return seed
}

// TestRight: what a right spool does is never called wrong.
func TestRight(t *testing.T) {
	seeds := *seedsFlag
	if seeds == 0 {
		seeds = 400
		if testing.Short() {
			seeds = 60
		}
	}
	first := firstSeed(t)
	var sum Verdict
	var mu sync.Mutex
	var next atomic.Uint64
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for i := next.Add(1) - 1; i < uint64(seeds) && !t.Failed(); i = next.Add(1) - 1 {
				v := newPlay(first+i, "").run().Check()
				if len(v.Violations) > 0 {
					t.Errorf("-history.seed=%d: %v", first+i, v.Violations[0])
				}
				mu.Lock()
				sum.add(v)
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	t.Logf("%d histories: %+v", seeds, sum)
	if sum.Exact*10 < sum.Numbers*8 || sum.Unknown == 0 || sum.RewindCounts == 0 {
		t.Errorf("the histories check too little: %+v", sum)
	}
}

func (sum *Verdict) add(v Verdict) {
	sum.Ops += v.Ops
	sum.Messages += v.Messages
	sum.Deliveries += v.Deliveries
	sum.Unknown += v.Unknown
	sum.AtRest += v.AtRest
	sum.RewindCounts += v.RewindCounts
	sum.Exact += v.Exact
	sum.Numbers += v.Numbers
}

// TestRightThoughOnceCalledWrong: histories of a right spool in which the judge once was mistaken.
func TestRightThoughOnceCalledWrong(t *testing.T) {
	for seed, why := range map[uint64]string{
		24189172041929: "a delay ends while nobody can know whether the age is over",
	} {
		if v := newPlay(seed, "").run().Check(); len(v.Violations) > 0 {
			t.Errorf("-history.seed=%d (%s): %v", seed, why, v.Violations[0])
		}
	}
}

// TestRightOnce: what a right spool did was called wrong here once. Its retention ended inside a lease of which nobody could tell
// whether it had ended before.
func TestRightOnce(t *testing.T) {
	if v := newPlay(31222979172520, "").run().Check(); len(v.Violations) > 0 {
		t.Error(v.Violations[0])
	}
}

// TestMutants: each way of being wrong is noticed.
func TestMutants(t *testing.T) {
	const seeds = 6000
	first := firstSeed(t)
	if len(mutants) < 32 {
		t.Errorf("%d mutants, want at least 32", len(mutants))
	}
	for _, bug := range mutants {
		t.Run(bug, func(t *testing.T) {
			for i := range uint64(seeds) {
				v := newPlay(first+i, bug).run().Check()
				if len(v.Violations) == 0 {
					continue
				}
				for _, x := range v.Violations {
					if strings.Contains(x.Rule, "unusable") || strings.Contains(x.Rule, "too many") {
						t.Fatalf("caught by accident: %s", x.Rule)
					}
				}
				t.Logf("after %d seeds: %s", i+1, v.Violations[0].Rule)
				if i == 0 && len(v.Violations[0].Text) == 0 {
					t.Errorf("no history is shown")
				}
				return
			}
			t.Errorf("not noticed in %d histories from -history.seed=%d on", seeds, first)
		})
	}
}

// oneQueue is a history of one queue; each begin and each end of a call on it comes 1 ns after the one before.
func oneQueue() (l *Log, begin func(*Op) *Op, end func(*Op)) {
	l, at := New(Options{}), int64(0)
	q := l.Queue("a", None)
	begin = func(o *Op) *Op {
		o.Queue = q
		at++
		l.Call(o, at)
		return o
	}
	end = func(o *Op) {
		at++
		l.Return(o, OK, at)
	}
	return l, begin, end
}

// done records a call that nothing went wrong with.
func done(l *Log, o *Op, begin, end int64) {
	l.Call(o, begin)
	l.Return(o, OK, end)
}

// TestPurgedBeforeRead: what a purge takes away from a receive that has leased it and not read it yet counts as received, or
// does not; without a purge beside it nothing does that was not handed over.
func TestPurgedBeforeRead(t *testing.T) {
	for _, c := range []struct {
		before   bool // the purge has ended when the receive begins
		received int64
		right    bool
	}{{false, 0, true}, {false, 1, true}, {false, 2, true}, {false, 3, false}, {true, 0, true}, {true, 1, false}} {
		l, call, end := oneQueue()
		end(call(&Op{Verb: Create, Settings: &Settings{Visibility: 1e9, Retention: 1e12}}))
		end(call(&Op{Verb: Send, Sent: []Sent{{Body: "m1"}, {Body: "m2"}}, IDs: []string{"1", "2"}}))
		if c.before {
			end(call(&Op{Verb: Purge}))
		}
		receive := call(&Op{Verb: Receive, Max: 2})
		if !c.before {
			end(call(&Op{Verb: Purge}))
		}
		end(receive)
		end(call(&Op{Verb: Look, Counts: Counts{Sent: 2, Received: c.received}}))
		if v := l.Check(); (len(v.Violations) == 0) != c.right || v.AtRest != 1 {
			t.Errorf("purge before %t, %d received: %v, want none: %t", c.before, c.received, v.Violations, c.right)
		}
	}
}

// TestMoveBesideAHandOver: a receive that waits is given the dead letters that have come. That another lease has ended
// meanwhile, whose message is about to be moved, is no fault, unless that was long ago, or before the call.
func TestMoveBesideAHandOver(t *testing.T) {
	const ms = int64(1e6)
	for _, c := range []struct {
		wait, ended int64 // when the other lease ended, before the hand-over
		move        int64 // how long a move may take
		right       bool
	}{{1000 * ms, ms / 10, 0, true}, {0, ms / 10, 0, false}, {1000 * ms, 30 * ms, 0, false}, {1000 * ms, 60 * ms, 0, false},
		{1000 * ms, 30 * ms, 40 * ms, true}, {1000 * ms, 45 * ms, 40 * ms, false}, {0, 30 * ms, 40 * ms, false}} {
		l := New(Options{Move: c.move})
		dead := l.Queue("dead", None)
		a := l.Queue("a", dead)
		taken := 2000 * ms // the hand-over
		lease := func(id string, at, until int64) *Op {
			return &Op{Verb: Receive, Queue: a, Max: 1, Visibility: until - at, Got: []Delivery{{
				ID: id, Body: "m" + id, Receipt: "r" + id, Enqueued: 3, FirstReceived: at, Visible: until, Receives: 1}}}
		}
		done(l, &Op{Verb: Create, Queue: dead, Settings: &Settings{Visibility: 1000 * ms, Retention: 1e15}}, 1, 1)
		done(l, &Op{Verb: Create, Queue: a, Settings: &Settings{Visibility: 1000 * ms, Retention: 1e15, MaxReceives: 1}}, 2, 2)
		done(l, &Op{Verb: Send, Queue: a, Sent: []Sent{{Body: "m1"}, {Body: "m2"}}, IDs: []string{"1", "2"}}, 3, 3)
		moved := taken - ms/2
		done(l, lease("1", 4, moved), 4, 4)
		done(l, lease("2", 5, taken-c.ended), 5, 5)
		done(l, &Op{Verb: Receive, Queue: dead, Max: 5, Wait: c.wait, Got: []Delivery{{
			ID: "3", Body: "m1", Receipt: "r3", Enqueued: moved, FirstReceived: taken, Visible: taken + 1000*ms, Receives: 1,
			Origin: &Origin{Queue: "a", ID: "1", Enqueued: 3, Receives: 1}}}}, taken-50*ms, taken)
		if v := l.Check(); (len(v.Violations) == 0) != c.right {
			t.Errorf("a lease that ended %d ns before the hand-over, wait %d, moves of %d: %v, want none: %t", c.ended, c.wait, c.move, v.Violations, c.right)
		}
	}
}

// TestNothingToUndo: what a power loss might undo is not followed where there was none.
func TestNothingToUndo(t *testing.T) {
	l, call, end := oneQueue()
	settings := func(i int) *Settings {
		return &Settings{Visibility: 1e9, Retention: 1e15, Rewind: 1e12, Delay: int64(i%3) * 1e9}
	}
	end(call(&Op{Verb: Create, Settings: settings(0)}))
	end(call(&Op{Verb: Send, Sent: []Sent{{Body: "m1"}}, IDs: []string{"1"}}))
	for i := range 60 {
		purge, set, again := call(&Op{Verb: Purge}), call(&Op{Verb: SetMeta, Settings: settings(i)}), call(&Op{Verb: SetMeta, Settings: settings(i + 1)})
		end(set)
		end(purge)
		end(again)
	}
	if v := l.Check(); len(v.Violations) > 0 {
		t.Errorf("Check = %s", v.Violations[0].Rule)
	}
}

// TestLateAnswer: a receive that has waited in vain may return long after its wait was over, past what has become active since.
// What was active before that it may not leave.
func TestLateAnswer(t *testing.T) {
	const ms = int64(1e6)
	for _, c := range []struct {
		due, back int64 // of the message; the return of the call
		right     bool
	}{{160 * ms, 250 * ms, true}, {140 * ms, 250 * ms, false}, {140 * ms, 155 * ms, true}} {
		l := New(Options{})
		q := l.Queue("a", None)
		call := func(o *Op, begin, end int64) {
			o.Queue = q
			done(l, o, begin, end)
		}
		call(&Op{Verb: Create, Settings: &Settings{Visibility: 1000 * ms, Retention: 1e15}}, 1, 1)
		call(&Op{Verb: Send, Sent: []Sent{{Body: "m1", Delay: c.due - 10}}, IDs: []string{"1"}}, 10, 10)
		call(&Op{Verb: Receive, Max: 1, Wait: 50 * ms}, 100*ms, c.back)
		if v := l.Check(); (len(v.Violations) == 0) != c.right {
			t.Errorf("due after %d ms, a wait of 100 to 150 ms that returned after %d: %v, want none: %t", c.due/ms, c.back/ms, v.Violations, c.right)
		}
	}
}

// TestTakenInPortions: what becomes active between two portions of a batch may be older than what the first one took.
func TestTakenInPortions(t *testing.T) {
	for _, c := range []struct {
		due   int64 // of a message that the batch left
		right bool
	}{{1050, true}, {950, false}} {
		l := New(Options{})
		q := l.Queue("a", None)
		call := func(o *Op, at int64) {
			o.Queue = q
			done(l, o, at, at)
		}
		call(&Op{Verb: Create, Settings: &Settings{Visibility: 1e9, Retention: 1e15}}, 1)
		call(&Op{Verb: Send, Sent: []Sent{{Body: "m1", Delay: 1050 - 10}}, IDs: []string{"1"}}, 10)
		call(&Op{Verb: Send, Sent: []Sent{{Body: "m2", Delay: c.due - 20}}, IDs: []string{"2"}}, 20)
		call(&Op{Verb: Send, Sent: []Sent{{Body: "m3"}}, IDs: []string{"3"}}, 30)
		got := func(id string, enqueued, taken int64) Delivery {
			return Delivery{ID: id, Body: "m" + id, Receipt: "r" + id, Enqueued: enqueued, FirstReceived: taken, Visible: taken + 1e9, Receives: 1}
		}
		receive := &Op{Verb: Receive, Queue: q, Max: 2, Got: []Delivery{got("1", 10, 1060), got("3", 30, 1000)}}
		l.Call(receive, 1000)
		l.Return(receive, OK, 1070)
		if v := l.Check(); (len(v.Violations) == 0) != c.right {
			t.Errorf("one that is due at %d was left: %v, want none: %t", c.due, v.Violations, c.right)
		}
	}
}

// TestLimit: a history that was cut off says so.
func TestLimit(t *testing.T) {
	l := New(Options{Limit: 1})
	q := l.Queue("a", None)
	for range 2 {
		o := &Op{Verb: Create, Queue: q, Settings: &Settings{}}
		l.Call(o, 1)
		l.Return(o, OK, 2)
	}
	if v := l.Check(); len(v.Violations) == 0 || !strings.Contains(v.Violations[0].Rule, "full") {
		t.Errorf("Check = %+v, want a violation that says that the history is full", v)
	}
}

// TestConcurrent: any number of goroutines may record.
func TestConcurrent(t *testing.T) {
	l := New(Options{Slack: 1})
	q := l.Queue("a", None)
	create := &Op{Verb: Create, Queue: q, Settings: &Settings{Visibility: 1e9, Retention: 1e12}}
	l.Call(create, 1)
	l.Return(create, OK, 2)
	var wait sync.WaitGroup
	for g := range 8 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := range 100 {
				o := &Op{Verb: Send, Queue: q, Sent: []Sent{{Body: fmt.Sprint(g, "-", i)}}, IDs: []string{fmt.Sprint("id", g, "-", i)}}
				l.Call(o, 3)
				l.Return(o, OK, 4)
			}
		}()
	}
	wait.Wait()
	if v := l.Check(); len(v.Violations) > 0 || v.Messages != 800 {
		t.Errorf("Check = %+v", v)
	}
}

// TestHash: the same history has the same hash, another one has not.
func TestHash(t *testing.T) {
	seed := firstSeed(t)
	a, b, c := newPlay(seed, "").run().Hash(), newPlay(seed, "").run().Hash(), newPlay(seed+1, "").run().Hash()
	if a != b || a == c {
		t.Errorf("hashes %x, %x of one history, %x of another", a, b, c)
	}
}

// TestDigest: bodies that differ have digests that differ.
func TestDigest(t *testing.T) {
	long := strings.Repeat("x", 100)
	bodies := []string{"a", "b", long, long + "y", "y" + long, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}
	seen := map[string]bool{}
	for _, b := range bodies {
		d := Digest([]byte(b))
		if seen[d] || len(d) > 80 {
			t.Errorf("Digest(%q) = %q", b, d)
		}
		seen[d] = true
	}
}

// ---- a random history of a toy ----

// A play makes several actors call a toy. Each call begins, has its effect and returns at instants of its own.
type play struct {
	rng    *rand.Rand
	toy    *toy
	l      *Log
	ids    [2]QueueID
	actors []*actor
	bodies int
	held   []toyHeld
}

type toyHeld struct {
	queue   int
	receipt string
}

type actor struct {
	op     *Op
	effect func() Outcome
	out    Outcome
	record int // number of the record of its effect
	done   bool
}

const second = int64(1e9)

func newPlay(seed uint64, bug string) *play {
	rng := rand.New(rand.NewPCG(seed, 1))
	p := &play{rng: rng}
	fsync := rng.IntN(2) == 0
	p.l = New(Options{Fsync: fsync})
	s := Settings{Visibility: 10 * second, Retention: 600 * second, Rewind: 300 * second, MaxReceives: 3}
	switch rng.IntN(4) {
	case 0:
		s.MaxReceives, s.MaxAge = 0, 100*second
	case 1:
		s.Delay = 2 * second
	case 2:
		s.Retention, s.Rewind, s.MaxReceives = 60*second, 40*second, 0
	}
	p.toy = newToy(bug, fsync, s)
	p.ids[1] = p.l.Queue("dead", None)
	p.ids[0] = p.l.Queue("a", p.ids[1])
	for _, i := range []int{1, 0} {
		settings := p.toy.queues[i].settings
		o := &Op{Verb: Create, Queue: p.ids[i], Settings: &settings}
		p.l.Call(o, p.toy.now)
		p.l.Return(o, OK, p.toy.now)
	}
	p.sync()
	p.actors = make([]*actor, 1+rng.IntN(4))
	for i := range p.actors {
		p.actors[i] = &actor{}
	}
	return p
}

func (p *play) sync() {
	o := &Op{Verb: Sync, Queue: None}
	p.l.Call(o, p.toy.now)
	p.toy.stable(len(p.toy.records))
	p.l.Return(o, OK, p.toy.now)
}

func (p *play) pass() {
	d := p.rng.Int64N(second / 50)
	if p.rng.IntN(12) == 0 {
		d = p.rng.Int64N(15 * second)
	}
	p.toy.now += d
}

func (p *play) run() *Log {
	for range 260 {
		p.pass()
		switch n := p.rng.IntN(120); {
		case n == 0:
			p.crash()
		case n < 4:
			p.rest()
		case n == 4:
			p.sync()
		default:
			p.step(p.actors[p.rng.IntN(len(p.actors))])
		}
	}
	p.finish()
	p.drain()
	return p.l
}

func (p *play) step(a *actor) {
	switch {
	case a.op == nil:
		p.begin(a)
	case !a.done:
		p.effect(a)
	default:
		p.returns(a)
		return
	}
	if a.done && (len(a.op.Sent) > 1 && p.rng.IntN(6) == 0 || a.op.N > 1 && p.rng.IntN(2) == 0) {
		p.crash() // in the middle of what has several effects
	}
}

func (p *play) effect(a *actor) {
	p.toy.advance()
	if p.toy.moved && p.toy.fsync { // nobody sees a move that is not durable
		p.toy.stable(p.toy.record())
	}
	p.toy.moved = false
	a.out, a.done = a.effect(), true
	a.record = p.toy.record()
	if a.op.Verb == Send && p.toy.fsync && p.toy.bug != "a send, a delete or a purge acknowledged and not durable" {
		p.toy.stable(a.record) // nobody sees a message that is not durable
	}
}

func (p *play) returns(a *actor) {
	switch a.op.Verb {
	case Receive, Visibility, Release, Look, Peek:
	default:
		if p.toy.fsync && a.out == OK && p.toy.bug != "a send, a delete or a purge acknowledged and not durable" {
			p.toy.stable(a.record)
		}
	}
	for _, d := range a.op.Got {
		if a.op.Verb == Receive {
			p.held = append(p.held, toyHeld{int(p.ids[0] - a.op.Queue), d.Receipt})
		}
	}
	p.l.Return(a.op, a.out, p.toy.now)
	*a = actor{}
}

// finish lets every call return.
func (p *play) finish() {
	for _, a := range p.actors {
		for a.op != nil {
			p.step(a)
		}
	}
}

func (p *play) crash() {
	power := p.rng.IntN(2) == 0
	p.l.Crashed(power, p.toy.now, p.toy.now)
	p.toy.crash(power, p.rng.IntN)
	for _, a := range p.actors {
		*a = actor{}
	}
	p.toy.now += p.rng.Int64N(20 * second)
	for i := range p.ids {
		s := p.toy.queues[i].settings
		o := &Op{Verb: Found, Queue: p.ids[i], Settings: &s}
		p.l.Call(o, p.toy.now)
		p.l.Return(o, OK, p.toy.now)
	}
	if p.rng.IntN(2) == 0 {
		p.rest()
	}
}

// rest looks at everything while nobody else calls.
func (p *play) rest() {
	p.finish()
	for i := range p.ids {
		p.alone(p.look(i))
		p.alone(p.peek(i))
		if p.rng.IntN(2) == 0 {
			p.alone(p.receive(i))
		}
		if p.rng.IntN(2) == 0 {
			p.alone(p.rewind(i))
		}
		p.alone(p.look(i))
	}
}

func (p *play) alone(a *actor) {
	p.l.Call(a.op, p.toy.now)
	p.effect(a)
	p.returns(a)
}

func (p *play) drain() {
	for i := range p.ids {
		for {
			p.toy.now += 20 * second
			a := p.receive(i)
			a.op.Max = 50
			p.alone(a)
			p.alone(p.look(i))
			left := p.toy.counts(&p.toy.queues[i])
			for _, h := range p.held {
				p.alone(p.byReceipt(Delete, h))
			}
			p.held = nil
			if left.Inactive+left.Delayed+left.Active == 0 || p.toy.now > 3_000_000_000_000 {
				break
			}
		}
		p.alone(p.look(i))
	}
}

// begin makes an actor call something.
func (p *play) begin(a *actor) {
	i := 0
	if p.rng.IntN(5) == 0 {
		i = 1
	}
	switch n := p.rng.IntN(100); {
	case n < 25:
		*a = *p.send()
	case n < 55:
		*a = *p.receive(i)
	case n < 82:
		if len(p.held) == 0 {
			return
		}
		h := p.held[max(0, len(p.held)-1-p.rng.IntN(6))]
		*a = *p.byReceipt([]Verb{Delete, Delete, Delete, Visibility, Release}[p.rng.IntN(5)], h)
	case n < 88:
		*a = *p.rewind(i)
	case n < 90:
		*a = *p.purge(i)
	case n < 94:
		*a = *p.setMeta()
	case n < 97:
		*a = *p.peek(i)
	default:
		*a = *p.look(i)
	}
	p.l.Call(a.op, p.toy.now)
}

func (p *play) send() *actor {
	o := &Op{Verb: Send, Queue: p.ids[0]}
	n := 1
	if p.rng.IntN(3) == 0 {
		n = 2 + p.rng.IntN(3)
	}
	for range n {
		p.bodies++
		b := Sent{Body: fmt.Sprintf("m%d", p.bodies)}
		if p.rng.IntN(4) == 0 {
			b.Delay = p.rng.Int64N(20 * second)
		}
		o.Sent = append(o.Sent, b)
	}
	return &actor{op: o, effect: func() Outcome {
		o.IDs = p.toy.send(&p.toy.queues[0], o.Sent)
		return OK
	}}
}

func (p *play) receive(i int) *actor {
	o := &Op{Verb: Receive, Queue: p.ids[i], Max: 1 + p.rng.IntN(3)}
	if p.rng.IntN(3) == 0 {
		o.Visibility = 1 + p.rng.Int64N(20*second)
	}
	return &actor{op: o, effect: func() Outcome {
		o.Got = p.toy.receive(&p.toy.queues[i], o.Max, o.Visibility)
		return OK
	}}
}

func (p *play) byReceipt(v Verb, h toyHeld) *actor {
	o := &Op{Verb: v, Queue: p.ids[h.queue], Receipt: h.receipt}
	switch {
	case v == Visibility:
		o.For = 1 + p.rng.Int64N(20*second)
	case v == Release && p.rng.IntN(2) == 0:
		o.For = 1 + p.rng.Int64N(5*second)
	}
	return &actor{op: o, effect: func() Outcome {
		q := &p.toy.queues[h.queue]
		m := p.toy.byReceipt(q, h.receipt)
		if m == nil {
			return Refused
		}
		switch v {
		case Delete:
			p.toy.delete(q, m)
		case Visibility:
			p.toy.visibility(m, o.For)
		case Release:
			p.toy.release(q, m, o.For)
		}
		return OK
	}}
}

func (p *play) rewind(i int) *actor {
	q := &p.toy.queues[i]
	o := &Op{Verb: Rewind, Queue: p.ids[i], To: p.toy.now - p.rng.Int64N(200*second)}
	if len(q.messages) > 0 {
		o.To = q.messages[p.rng.IntN(len(q.messages))].enq + int64(p.rng.IntN(3)) - 1
	}
	return &actor{op: o, effect: func() Outcome {
		o.N = p.toy.rewind(q, o.To)
		return OK
	}}
}

func (p *play) purge(i int) *actor {
	return &actor{op: &Op{Verb: Purge, Queue: p.ids[i]}, effect: func() Outcome {
		p.toy.purge(&p.toy.queues[i])
		return OK
	}}
}

// setMeta changes what may always be changed. One call at a time: the settings are those of its beginning.
func (p *play) setMeta() *actor {
	for _, a := range p.actors {
		if a.op != nil && a.op.Verb == SetMeta {
			return p.look(0)
		}
	}
	s := p.toy.queues[0].settings
	switch p.rng.IntN(3) {
	case 0:
		s.Visibility = (5 + int64(p.rng.IntN(10))) * second
	case 1:
		s.Rewind = []int64{0, s.Retention / 2, s.Retention}[p.rng.IntN(3)]
	case 2:
		s.Retention = max(s.Rewind, []int64{60, 300, 600}[p.rng.IntN(3)]*second)
	}
	return &actor{op: &Op{Verb: SetMeta, Queue: p.ids[0], Settings: &s}, effect: func() Outcome {
		p.toy.queues[0].settings = s
		p.toy.advance()
		return OK
	}}
}

func (p *play) peek(i int) *actor {
	o := &Op{Verb: Peek, Queue: p.ids[i], Max: 1000}
	return &actor{op: o, effect: func() Outcome {
		for _, m := range p.toy.queues[i].messages {
			if m.kind == active {
				o.Got = append(o.Got, m.shown())
			}
		}
		return OK
	}}
}

func (p *play) look(i int) *actor {
	o := &Op{Verb: Look, Queue: p.ids[i]}
	return &actor{op: o, effect: func() Outcome {
		o.Counts = p.toy.counts(&p.toy.queues[i])
		return OK
	}}
}
