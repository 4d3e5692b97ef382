package spool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/internal/history"
)

// A simActor makes one call at a time. What it knows is its own, so that it does the same whatever the others are
// scheduled to do.
type simActor struct {
	sim   *simulation
	n     int
	rng   *rand.Rand
	alone bool // it calls while nobody else does
	s     *spool.Spool
	lost  bool // its call died: when it returned was up to the scheduler
	held  []simHeld
	sent  []int64 // when the latest messages were sent
}

type simHeld struct {
	q *simQueue
	d *spool.Delivery
	s *spool.Spool
}

// run calls whenever it may.
func (a *simActor) run(stop chan struct{}) {
	for {
		think := time.Duration(a.rng.Int64N(int64(30 * time.Millisecond)))
		if a.rng.IntN(20) == 0 {
			think = time.Duration(a.rng.Int64N(int64(3 * time.Second)))
		}
		if !a.pause(think, stop) {
			return
		}
		a.step()
	}
}

// pause sleeps until an instant that is nobody else's, at which calls may be made. It answers false when the seed is over.
func (a *simActor) pause(d time.Duration, stop chan struct{}) bool {
	for {
		sim := a.sim
		if a.lost {
			sim.mu.Lock()
			wake := sim.wake
			sim.mu.Unlock()
			select {
			case <-stop:
				return false
			case <-wake:
			}
			a.lost = false
		}
		simSleep(d, int64(a.n))
		sim.mu.Lock()
		ready, wake := sim.open && sim.ready && !sim.failed && sim.left > 0, sim.wake
		sim.mu.Unlock()
		if ready {
			return true
		}
		select {
		case <-stop:
			return false
		case <-wake:
		}
		d = time.Duration(1 + a.rng.Int64N(int64(50*time.Millisecond)))
	}
}

func (a *simActor) step() {
	sim := a.sim
	sim.mu.Lock()
	sim.left--
	sim.busy++
	a.s = sim.s
	q := sim.queues[a.rng.IntN(len(sim.queues))]
	if q.name == "dead" && a.rng.IntN(2) == 0 {
		q = sim.queues[1]
	}
	sim.mu.Unlock()
	q = sim.view(q)
	defer func() {
		sim.mu.Lock()
		sim.busy--
		sim.mu.Unlock()
	}()
	if q.temp && a.n == 0 && (q.q == nil || a.rng.IntN(8) == 0) {
		a.dropOrMake(q)
		return
	}
	if q.q == nil {
		return
	}
	switch n := a.rng.IntN(100); {
	case n < 20:
		a.send(q)
	case n < 50:
		a.receive(q, 0)
	case n < 68:
		a.byReceipt(history.Delete)
	case n < 72:
		a.deleteBatch()
	case n < 78:
		a.byReceipt(history.Visibility)
	case n < 85:
		a.byReceipt(history.Release)
	case n < 89:
		a.rewind(q)
	case n < 93:
		a.look(q)
	case n < 95:
		a.peek(q, 1+a.rng.IntN(20))
	case n < 97:
		a.setMeta(q)
	case n < 98:
		a.sync()
	default:
		if q.there > simMostThere || a.rng.IntN(12) == 0 {
			a.purge(q)
		} else {
			a.receive(q, 20)
		}
	}
}

// call records the begin of a call; the function that it returns records the end, after a moment of its own: calls that
// end together would be recorded in any order. It answers whether what was returned may be used.
func (a *simActor) call(o *history.Op) (end func(error) bool) {
	o.Actor = a.n
	stopped := a.sim.down()
	a.sim.h.Call(o, simNow())
	return func(err error) bool {
		a.moment()
		out := a.sim.outcome(a.s, o, err)
		if out == history.Unknown && (stopped || o.Verb == history.SetMeta && o.Settings == nil) { // a spool that has stopped refuses everything
			out = history.Barred
		}
		a.sim.mu.Lock()
		a.sim.ops++
		a.sim.mu.Unlock()
		told := a.sim.h.Return(o, out, simNow())
		a.lost = !told
		return told && out == history.OK
	}
}

// moment lets a moment pass, where time is virtual.
func (a *simActor) moment() {
	if d := time.Duration(a.rng.IntN(2000)); !a.sim.real {
		simSleep(d, int64(a.n))
	}
}

// upTo draws a duration of up to d, or of a small part of it where time is real.
func (a *simActor) upTo(d time.Duration) time.Duration {
	if a.sim.real {
		d /= 40
	}
	return 1 + time.Duration(a.rng.Int64N(int64(d)))
}

func (a *simActor) body() string {
	a.sim.mu.Lock()
	a.sim.bodies++
	n := a.sim.bodies
	a.sim.mu.Unlock()
	body := fmt.Sprintf("m%d", n)
	switch a.rng.IntN(30) {
	case 0:
		body += strings.Repeat("x", a.rng.IntN(3000))
	case 1:
		body += strings.Repeat("y", a.rng.IntN(60))
	}
	return body
}

func (a *simActor) delay() time.Duration {
	switch a.rng.IntN(10) {
	case 0, 1:
		return a.upTo(10 * time.Second)
	case 2:
		return a.upTo(8 * time.Minute)
	case 3:
		return spool.NoDelay
	}
	return 0
}

func (a *simActor) send(q *simQueue) {
	if q.there > simMostThere {
		a.purgeSome(q)
		return
	}
	n := 1
	if a.rng.IntN(4) == 0 {
		n = 2 + a.rng.IntN(12)
	}
	o := &history.Op{Verb: history.Send, Queue: q.id}
	ms := make([]spool.Message, n)
	for i := range ms {
		body := a.body()
		ms[i] = spool.Message{Body: []byte(body), Delay: a.delay()}
		o.Sent = append(o.Sent, history.Sent{Body: history.Digest([]byte(body)), Delay: int64(ms[i].Delay)})
	}
	end := a.call(o)
	var err error
	if n == 1 {
		var id string
		id, err = q.q.Send(context.Background(), ms[0])
		o.IDs = []string{id}
	} else {
		o.IDs, err = q.q.SendBatch(context.Background(), ms)
	}
	at := simNow()
	if end(err) {
		a.sim.grew(q, n)
		if a.sent = append(a.sent, at); len(a.sent) > 20 {
			a.sent = a.sent[1:]
		}
	}
}

// purgeSome makes room in a queue that has become long.
func (a *simActor) purgeSome(q *simQueue) {
	if a.rng.IntN(10) == 0 {
		a.purge(q)
		return
	}
	a.receive(q, 20)
	for range 10 {
		a.byReceipt(history.Delete)
	}
}

// receive takes up to max messages, 0: some, and returns how many it got.
func (a *simActor) receive(q *simQueue, max int) int {
	o := &history.Op{Verb: history.Receive, Queue: q.id, Max: max}
	single := max == 0 && a.rng.IntN(2) == 0
	if max == 0 {
		o.Max = 1
		if !single {
			o.Max = 1 + a.rng.IntN(8)
		}
	}
	opts := []spool.ReceiveOption{spool.Wait(0)}
	if !a.alone && max == 0 && a.rng.IntN(6) == 0 {
		o.Wait = int64(a.upTo(4 * time.Second))
		opts[0] = spool.Wait(time.Duration(o.Wait))
	}
	switch a.rng.IntN(5) {
	case 0:
		o.Visibility = int64(a.upTo(2 * time.Second))
	case 1:
		o.Visibility = int64(a.upTo(10 * time.Minute))
	}
	if o.Visibility > 0 {
		opts = append(opts, spool.Visibility(time.Duration(o.Visibility)))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if o.Wait > 0 && a.rng.IntN(8) == 0 {
		timer := time.AfterFunc(time.Duration(a.rng.Int64N(o.Wait)), cancel)
		defer timer.Stop()
	}
	end := a.call(o)
	var got []*spool.Delivery
	var err error
	if single {
		var d *spool.Delivery
		if d, err = q.q.Receive(ctx, opts...); err == nil {
			got = append(got, d)
		}
	} else {
		got, err = q.q.ReceiveBatch(ctx, o.Max, opts...)
	}
	o.Got = simShown(got)
	if !end(err) {
		return 0
	}
	for _, d := range got {
		a.held = append(a.held, simHeld{q, d, a.s})
	}
	if n := len(a.held); n > 40 && !a.alone {
		a.held = a.held[n-30:]
	}
	return len(got)
}

func simShown(got []*spool.Delivery) []history.Delivery {
	shown := make([]history.Delivery, len(got))
	for i, d := range got {
		shown[i] = history.Delivery{ID: d.ID, Body: history.Digest(d.Body), Receipt: d.Receipt, Enqueued: d.EnqueuedAt.UnixNano(),
			FirstReceived: simInstant(d.FirstReceivedAt), Visible: simInstant(d.VisibleAt), Receives: d.Receives, Rewinds: d.Rewinds}
		if o := d.DeadLetter; o != nil {
			shown[i].Origin = &history.Origin{Queue: o.Queue, ID: o.ID, Enqueued: o.EnqueuedAt.UnixNano(), Receives: o.Receives}
		}
	}
	return shown
}

func simInstant(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// take draws one of the receipts that the actor has, mostly a late one; a used one may come again.
func (a *simActor) take() (h simHeld, ok bool) {
	n := len(a.held)
	if n == 0 {
		return h, false
	}
	i := n - 1 - a.rng.IntN(min(n, 8))
	h = a.held[i]
	if a.alone || a.rng.IntN(6) > 0 {
		a.held = append(a.held[:i], a.held[i+1:]...)
	}
	h.q = a.sim.view(h.q)
	return h, h.q.q != nil
}

func (a *simActor) byReceipt(v history.Verb) {
	h, ok := a.take()
	if !ok {
		return
	}
	o := &history.Op{Verb: v, Queue: h.q.id, Receipt: h.d.Receipt}
	switch {
	case v == history.Visibility:
		o.For = int64(a.upTo(20 * time.Second))
	case v == history.Release && a.rng.IntN(2) == 0:
		o.For = int64(a.upTo(20 * time.Second))
	}
	own := a.rng.IntN(2) == 0 && h.s == a.s
	ctx, d := context.Background(), time.Duration(o.For)
	end := a.call(o)
	var err error
	switch {
	case v == history.Delete && own:
		err = h.d.Delete(ctx)
	case v == history.Delete:
		err = h.q.q.Delete(ctx, h.d.Receipt)
	case v == history.Visibility && own:
		if err = h.d.Extend(ctx, d); err == nil {
			o.Visible = h.d.VisibleAt.UnixNano()
		}
	case v == history.Visibility:
		err = h.q.q.ChangeVisibility(ctx, h.d.Receipt, d)
	case own || o.For > 0 && h.s == a.s:
		err = h.d.Release(ctx, d)
	default:
		o.For = 0
		err = h.q.q.ChangeVisibility(ctx, h.d.Receipt, 0)
	}
	if end(err) && v == history.Delete {
		a.sim.grew(h.q, -1)
	}
}

func (a *simActor) deleteBatch() {
	h, ok := a.take()
	if !ok {
		return
	}
	batch := []simHeld{h}
	for range a.rng.IntN(5) {
		if other, ok := a.take(); ok && other.q.id == h.q.id {
			batch = append(batch, other)
		}
	}
	stopped := a.sim.down()
	var ops []*history.Op
	var receipts []string
	for _, h := range batch {
		o := &history.Op{Verb: history.Delete, Queue: h.q.id, Receipt: h.d.Receipt, Actor: a.n}
		a.sim.h.Call(o, simNow())
		ops = append(ops, o)
		receipts = append(receipts, h.d.Receipt)
	}
	err := h.q.q.DeleteBatch(context.Background(), receipts)
	a.moment()
	fails := map[int]error{}
	var be *spool.BatchError
	if errors.As(err, &be) {
		for _, f := range be.Failed {
			fails[f.Index] = f.Err
		}
		err = nil
	}
	a.sim.mu.Lock()
	a.sim.ops++
	a.sim.mu.Unlock()
	a.sim.grew(h.q, len(fails)-len(ops))
	for i, o := range ops {
		e := err
		if e == nil {
			e = fails[i]
		}
		out := a.sim.outcome(a.s, o, e)
		if out == history.Unknown && stopped {
			out = history.Barred
		}
		a.lost = !a.sim.h.Return(o, out, simNow())
	}
}

func (a *simActor) rewind(q *simQueue) {
	to := simNow() - a.rng.Int64N(int64(2*time.Minute))
	switch {
	case len(a.sent) > 0 && a.rng.IntN(2) == 0:
		to = a.sent[a.rng.IntN(len(a.sent))] + a.rng.Int64N(3) - 1
	case a.rng.IntN(4) == 0:
		to = simNow() - a.rng.Int64N(int64(10*time.Hour))
	}
	o := &history.Op{Verb: history.Rewind, Queue: q.id, To: to}
	end := a.call(o)
	n, err := q.q.Rewind(context.Background(), time.Unix(0, to))
	o.N = n
	if end(err) {
		a.sim.grew(q, int(n))
	}
}

func (a *simActor) look(q *simQueue) {
	o := &history.Op{Verb: history.Look, Queue: q.id}
	end := a.call(o)
	at, err := q.q.Attributes(context.Background())
	o.Counts = history.Counts{Active: at.Active, Inactive: at.Inactive, Delayed: at.Delayed, Rewindable: at.Rewindable,
		Sent: at.Sent, Received: at.Received, Deleted: at.Deleted}
	if end(err) {
		a.sim.grew(q, int(at.Active+at.Inactive+at.Delayed)-a.sim.view(q).there)
	}
}

func (a *simActor) peek(q *simQueue, max int) {
	o := &history.Op{Verb: history.Peek, Queue: q.id, Max: max}
	end := a.call(o)
	got, err := q.q.Peek(context.Background(), max)
	o.Got = simShown(got)
	end(err)
}

func (a *simActor) purge(q *simQueue) {
	end := a.call(&history.Op{Verb: history.Purge, Queue: q.id})
	end(q.q.Purge(context.Background()))
}

func (a *simActor) sync() {
	end := a.call(&history.Op{Verb: history.Sync, Queue: history.None})
	end(a.s.Sync(context.Background()))
}

func (a *simActor) setMeta(q *simQueue) {
	n, k := a.rng.IntN(5), a.rng.IntN(3)
	o := &history.Op{Verb: history.SetMeta, Queue: q.id, Settings: &history.Settings{}}
	end := a.call(o)
	asked := false
	err := q.q.SetMeta(context.Background(), func(m *spool.Meta) {
		asked = true
		switch n {
		case 0:
			m.VisibilityTimeout = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second}[k]
		case 1:
			m.Rewind = []time.Duration{0, m.Retention / 2, m.Retention}[k]
		case 2:
			m.Retention = max(m.Rewind, m.Delay+1, []time.Duration{10 * time.Minute, 6 * time.Hour, 96 * time.Hour}[k])
			if m.DeadLetter != nil {
				m.Retention = max(m.Retention, m.DeadLetter.MaxAge+1)
			}
		case 3:
			m.Delay = []time.Duration{0, 0, 2 * time.Second}[k]
		case 4:
			if q.target != nil {
				m.DeadLetter = &spool.DeadLetter{Queue: "dead", MaxReceives: 1 + k, MaxAge: time.Duration(k) * 4 * time.Minute}
			}
		}
		*o.Settings = simSettings(*m)
	})
	if !asked { // it did not come so far
		o.Settings = nil
	}
	end(err)
}

// dropOrMake deletes a queue, or makes it when it is not there.
func (a *simActor) dropOrMake(q *simQueue) {
	sim := a.sim
	if q.q == nil {
		a.lost = !sim.create(a.s, q)
		return
	}
	end := a.call(&history.Op{Verb: history.Drop, Queue: q.id})
	if end(a.s.DeleteQueue(context.Background(), q.name)) {
		sim.mu.Lock()
		if sim.s == a.s {
			q.real.q = nil
		}
		sim.mu.Unlock()
	}
}
