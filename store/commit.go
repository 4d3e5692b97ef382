package store

import (
	"hash/crc32"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Level is how far a record has come.
type Level uint8

const (
	AtWritten Level = iota // survives the death of the process
	AtSynced               // survives power loss
)

// Bounds of the committer.
const (
	maxGroup   = 4 << 20 // Bound: bytes of one group, unless a single call is larger
	copiedBody = 1 << 10 // larger bodies are referenced until their group is written, smaller ones copied
	keptBuffer = 1 << 20 // buffers above this size are not kept for long
)

// A Hidden is a run of messages that must not be seen before their record has reached the committer's level.
type Hidden struct {
	Owner any // the queue
	First uint64
	N     int
}

// A Committer turns calls into frames: group commit in two stages, led by the callers.
//
// A caller takes room with Admit, appends its records between Begin and End (in practice under a queue's lock, which
// makes the queue's order the log's order), and then waits for its level. The first to wait leads: it takes the group
// that has gathered, writes it as one frame and tells the others; while it writes, the next group gathers. A record is
// written when its frame is, and synced when a Sync that began later returns; one Sync covers every frame written
// before it. So a call that only needs AtWritten never queues behind a running Sync.
//
//	step                                     dies here: the next Open finds
//	commit:closed   no more records come     nothing of the group
//	commit:written  the frame is written     all of it, though nobody has had an answer
//	commit:synced   and synced               likewise, after power loss too
//	commit:shown    messages are visible     likewise: a receive of one of them is a record that comes later
//
// A committer goroutine was tried and lost 10 to 34 % with few callers (two switches a commit). Leaders let other
// goroutines run before they close a group when the last one had several calls: without it everybody who slept in one
// group starts the next one alone, and throughput with many callers nearly halves.
//
// Lock order: a queue's lock before mu. mu is never held across I/O or a callback.
type Committer struct {
	log    Log
	level  Level
	reveal func([]Hidden)
	failed func(error)
	dirty  func()
	short  func(bool)
	step   func(name string)

	growing sync.Mutex    // one Grow at a time
	joined  atomic.Int32  // calls in the open group
	arrived atomic.Int32  // calls that wait for a sync and have come since the last one ended
	parked  sync.Pool     // *call
	large   sync.Pool     // *group with a buffer above keptBuffer
	stable  atomic.Uint64 // as synced, for a look without mu
	safe    atomic.Uint64 // as written, for a look without mu

	mu       sync.Mutex
	room     sync.Cond // guarded by mu; signalled when admitted shrinks
	err      error     // guarded by mu; set once, fail-stop
	open     *group    // guarded by mu; gathers records; nil when nothing has been appended since the last group closed
	flying   *group    // guarded by mu; being written
	spares   [2]*group // guarded by mu; for reuse: one for the group that gathers and one for the next
	next     Position  // guarded by mu; base of the next group to be opened
	written  Position  // guarded by mu; end of the last written frame
	synced   Position  // guarded by mu
	writing  bool      // guarded by mu; somebody leads the write stage
	syncing  bool      // guarded by mu; somebody leads the sync stage
	last     int       // guarded by mu; calls in the last group
	woken    int32     // guarded by mu; calls and receivers that the last sync has woken
	pace     int64     // guarded by mu; ns that a sync took lately
	hasty    int       // guarded by mu; syncs still to begin without waiting for those whom the last one has woken
	haste    int       // guarded by mu; what hasty was set to last
	admitted int64     // guarded by mu; Bound of what will still be appended; INVARIANT: admitted ≤ log.Room() when it last grew
	flown    int64     // guarded by mu; part of admitted that is in the flying group
	waiting  []*call   // guarded by mu; parked for a sync, by position
	hidden   []Hidden  // guarded by mu; written, not synced; only when level is AtSynced
	wakes    []wake    // guarded by mu; written, for when that is synced
	commits  int64     // guarded by mu; frames written
	records  int64     // guarded by mu; records written
}

// A group is what will be one frame.
type group struct {
	base     Position
	buf      []byte   // envelopes, heads and small bodies
	parts    [][]byte // finished pieces; buf[cut:] is the last one
	cut      int
	size     int
	heads    uint32
	records  uint32
	admitted int64
	calls    []*call
	eager    bool // a call of calls waits for AtWritten only
	hidden   []Hidden
	wakes    []wake
}

// A call is one parked goroutine.
type call struct {
	wake  chan signal // capacity 1
	level Level
	pos   Position
}

type signal uint8

const (
	signalDone signal = iota
	signalWrite
	signalSync
)

// CommitterOptions are the parts of a Committer that its owner supplies. The functions are called without any lock of
// the committer held, and may append.
type CommitterOptions struct {
	Level  Level          // what hidden messages wait for
	Reveal func([]Hidden) // their records have reached Level; in log order, one call at a time
	Failed func(error)    // called once, by the call that met the error
	Dirty  func()         // something was written and is not yet synced; must not block
	Short  func(bool)     // whether room that was asked for is not to be had but from the reserve; must not block. nil: not told
	Step   func(string)   // called at each of Steps, by whoever leads; tests end the process there. nil: it is not
}

// NewCommitter returns a committer for a log that nobody else appends to.
func NewCommitter(log Log, o CommitterOptions) *Committer {
	end := log.End()
	c := &Committer{log: log, level: o.Level, reveal: o.Reveal, failed: o.Failed, dirty: o.Dirty, short: o.Short, step: o.Step,
		next: end, written: end, synced: log.Synced()}
	if c.short == nil {
		c.short = func(bool) {}
	}
	c.room.L = &c.mu
	c.large.New = func() any { return &group{} }
	c.parked.New = func() any { return &call{wake: make(chan signal, 1)} }
	c.safe.Store(uint64(c.written))
	c.stable.Store(uint64(c.synced))
	return c
}

// Begin opens the committer for the records of one call: they share a frame, so all of them survive or none. Add and
// Hide may follow; End must.
func (c *Committer) Begin() {
	c.mu.Lock()
	if c.open == nil {
		c.open = c.newGroup()
	}
}

func (c *Committer) newGroup() *group {
	g, other := c.spares[0], c.spares[1]
	c.spares = [2]*group{other}
	if g == nil {
		g = c.large.Get().(*group)
	}
	g.base = c.next
	return g
}

// Add appends a record between Begin and End and returns its position. head is copied; body is read until the record is
// written, so whoever owns it waits for AtWritten at least. sum is BodySum(body...).
func (c *Committer) Add(typ byte, head []byte, sum uint32, body ...[]byte) Position {
	g := c.open
	n := 0
	for _, b := range body {
		n += len(b)
	}
	pos := g.base + Position(FrameHeaderSize+g.size)
	start := len(g.buf)
	g.buf = AppendRecordHead(g.buf, typ, head, n, sum)
	g.heads = crc32.Update(g.heads, Castagnoli, g.buf[start:])
	for _, b := range body {
		if len(b) <= copiedBody {
			g.buf = append(g.buf, b...)
			continue
		}
		g.parts = append(g.parts, g.buf[g.cut:len(g.buf):len(g.buf)], b)
		g.cut = len(g.buf)
	}
	g.size += RecordSize(len(head), n)
	g.records++
	return pos
}

// Hide says that the owner's messages [first, first+n) wait for the committer's level. It stands between Begin and End.
func (c *Committer) Hide(owner any, first uint64, n int) {
	c.open.hidden = append(c.open.hidden, Hidden{owner, first, n})
}

// Seen takes back what Hide has said of one message: somebody has it who waits for its level himself. It stands between
// Begin and End.
func (c *Committer) Seen(owner any, seq uint64) {
	if last := len(c.open.hidden) - 1; last >= 0 && c.open.hidden[last] == (Hidden{owner, seq, 1}) {
		c.open.hidden = c.open.hidden[:last]
	}
}

// Wake has a channel sent to when the records before have reached a level, or never will. It stands between Begin and End.
// The channel has room for one. Somebody must wait for that level, too.
func (c *Committer) Wake(ch chan<- struct{}, level Level) {
	if c.err != nil {
		ch <- struct{}{}
		return
	}
	c.open.wakes = append(c.open.wakes, wake{ch, level})
	c.joined.Add(-1) // these records have no caller of their own
}

// A wake is a channel to be sent to at a level.
type wake struct {
	ch    chan<- struct{}
	level Level
}

// End closes the records of one call that took room with Admit(n). A call may turn out to have none. Nobody waits for a
// group without records, and so nobody writes it: its room is given back at once.
func (c *Committer) End(n int64) {
	n += FrameHeaderSize + FrameAlign
	if c.open.records == 0 {
		c.admitted -= n
		c.room.Broadcast()
		c.mu.Unlock()
		return
	}
	c.open.admitted += n
	c.joined.Add(1)
	c.mu.Unlock()
}

// Nudge is for a caller that has recorded something and goes on to what may block before it waits for that: if nobody else
// writes it, somebody who waits for room does.
func (c *Committer) Nudge() {
	c.mu.Lock()
	c.room.Broadcast()
	c.mu.Unlock()
}

// Appended is a position above every record appended so far. Whoever needs a consistent pair of it and a queue's state
// holds the queue's lock.
func (c *Committer) Appended() Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		return c.next
	}
	return c.open.base + Position(FrameHeaderSize+c.open.size)
}

// Boundary is the position of the frame that gathers, or would be next: every record in an earlier frame has been
// appended, and replay can begin here.
func (c *Committer) Boundary() Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		return c.next
	}
	return c.open.base
}

// Wait returns nil when the record at pos has reached the level, or why it never will.
func (c *Committer) Wait(pos Position, level Level) error {
	if c.Reached(pos, level) {
		return nil
	}
	c.mu.Lock()
	if level == AtSynced {
		c.arrived.Add(1)
	}
	for lingered := false; ; {
		switch {
		case pos < c.synced || level == AtWritten && pos < c.written:
			c.mu.Unlock()
			return nil
		case c.err != nil && (c.flying == nil || pos < c.flying.base || pos >= c.next): // what is being written is still read
			defer c.mu.Unlock()
			return c.err
		case pos >= c.written && !c.writing && (level == AtWritten || !c.syncing):
			c.writing = true
			c.leadWrite(level)
			continue
		case pos < c.written && !c.syncing:
			c.syncing = true
			c.leadSync()
			continue
		case !lingered && c.level == AtWritten && level == AtWritten:
			lingered = true
			c.linger(pos)
			continue
		}
		w := c.park(pos, level)
		c.mu.Unlock()
		s := <-w.wake
		c.parked.Put(w)
		if s == signalDone && c.Reached(pos, level) {
			return nil
		}
		c.mu.Lock()
		switch s {
		case signalWrite:
			c.leadWrite(level)
		case signalSync:
			c.leadSync()
		}
	}
}

// Reached tells whether a record has reached a level, and what it brought is shown. It takes no lock, and may answer false a
// moment too long.
func (c *Committer) Reached(pos Position, level Level) bool {
	return pos < Position(c.stable.Load()) || level == AtWritten && pos < Position(c.safe.Load())
}

// Sync returns nil when everything appended before is on stable storage.
func (c *Committer) Sync() error {
	end := c.Appended()
	if end == 0 || end <= c.log.Start() {
		return nil
	}
	return c.Wait(end-1, AtSynced)
}

// park puts a call where the leader of its stage will find it. Caller holds mu.
func (c *Committer) park(pos Position, level Level) *call {
	w := c.parked.Get().(*call)
	w.level, w.pos = level, pos
	switch {
	case pos < c.written:
		c.waiting = append(c.waiting, w)
	case c.flying != nil && pos < c.next:
		c.flying.calls = append(c.flying.calls, w)
	default:
		c.open.calls = append(c.open.calls, w)
		c.open.eager = c.open.eager || level == AtWritten
	}
	return w
}

// leadWrite writes the open group as one frame. own is the leader's level. Caller holds mu and has set writing; mu is
// released while it writes.
func (c *Committer) leadWrite(own Level) {
	c.gather()
	c.writeOpen(own)
}

// writeOpen is leadWrite without waiting for others.
func (c *Committer) writeOpen(own Level) {
	g := c.open
	if g == nil || c.err != nil {
		c.writing = false
		return
	}
	c.open, c.flying, c.flown = nil, g, g.admitted
	c.last = int(c.joined.Swap(0))
	end := g.base + Position(FrameSize(g.size))
	c.next = end
	c.room.Broadcast()
	c.mu.Unlock()

	c.at(stepClosed)
	_, err := c.log.Append(g.payload())
	if err == nil {
		c.at(stepWritten)
		if c.level == AtWritten {
			c.show(g.hidden)
		}
	}

	c.mu.Lock()
	c.flying, c.flown = nil, 0
	c.writing = false
	if err == nil {
		err = c.err
	}
	if err != nil {
		c.wakes = append(c.wakes, g.wakes...)
		c.fail(err, g.calls)
		return
	}
	clean := c.synced >= c.written
	c.written = end
	c.safe.Store(uint64(end))
	c.commits++
	c.records += int64(g.records)
	c.admitted -= g.admitted
	c.room.Broadcast()
	if c.level == AtSynced {
		c.hidden = append(c.hidden, g.hidden...)
	}
	for _, w := range g.wakes {
		if w.level == AtWritten {
			w.ch <- struct{}{}
		} else {
			c.wakes = append(c.wakes, w)
		}
	}
	for _, w := range g.calls {
		if w.level == AtWritten {
			w.wake <- signalDone
		} else {
			c.waiting = append(c.waiting, w)
		}
	}
	c.recycle(g)
	c.appointWriter()
	if own == AtWritten {
		c.appointSyncer()
	}
	if clean {
		c.mu.Unlock()
		c.dirty()
		c.mu.Lock()
	}
}

// leadSync makes everything written stable. Caller holds mu and has set syncing; mu is released while it syncs.
func (c *Committer) leadSync() {
	if c.err != nil {
		c.syncing = false
		return
	}
	c.assemble()
	upTo, calls, hidden, wakes := c.written, c.waiting, c.hidden, c.wakes
	c.waiting, c.hidden, c.wakes = nil, nil, nil
	c.mu.Unlock()

	began := time.Now()
	err := c.log.Sync(upTo)
	took := time.Since(began)
	if err == nil {
		c.at(stepSynced)
		c.show(hidden)
	}

	c.mu.Lock()
	c.syncing = false
	if err != nil {
		c.wakes = append(c.wakes, wakes...)
		c.fail(err, calls)
		return
	}
	c.synced = upTo
	c.stable.Store(uint64(upTo))
	c.pace += (int64(took) - c.pace) / 8
	woken := 1 + len(wakes) + len(calls)
	c.arrived.Store(0)
	for _, w := range wakes {
		w.ch <- struct{}{}
	}
	for _, w := range calls {
		w.wake <- signalDone
	}
	c.waiting = slices.DeleteFunc(c.waiting, func(w *call) bool {
		covered := w.pos < upTo // it came while the sync ran, for what had been written before
		if covered {
			w.wake <- signalDone
			woken++
		}
		return covered
	})
	c.woken = int32(woken)
	c.appointWriter()
	if !c.writing {
		c.appointSyncer() // a writer does so itself, for what it writes as well
	}
	if c.written > upTo && !c.syncing {
		// It was written while this sync ran, when there was no need to tell: it is not synced by anybody.
		c.mu.Unlock()
		c.dirty()
		c.mu.Lock()
	}
}

// show tells the owner of messages that they have reached the level they were hidden for.
func (c *Committer) show(hidden []Hidden) {
	if len(hidden) > 0 {
		c.reveal(hidden)
		c.at(stepShown)
	}
}

// appointWriter hands the write stage to the first parked call of the open group. While a sync runs, a group that is
// wanted on stable storage only goes on gathering: to write it sooner would bring it there no sooner. Caller holds mu.
func (c *Committer) appointWriter() {
	if c.writing || c.open == nil || len(c.open.calls) == 0 || c.syncing && !c.open.eager {
		return
	}
	w := c.open.calls[0]
	c.open.calls = append(c.open.calls[:0], c.open.calls[1:]...)
	c.writing = true
	w.wake <- signalWrite
}

// appointSyncer hands the sync stage to the first call that waits for it. Caller holds mu.
func (c *Committer) appointSyncer() {
	if c.syncing || len(c.waiting) == 0 {
		return
	}
	w := c.waiting[0]
	c.waiting = c.waiting[1:]
	c.syncing = true
	w.wake <- signalSync
}

// recycle keeps a written group for reuse. Caller holds mu.
func (c *Committer) recycle(g *group) {
	clear(g.parts)
	clear(g.calls)
	clear(g.hidden)
	clear(g.wakes)
	*g = group{buf: g.buf[:0], parts: g.parts[:0], calls: g.calls[:0], hidden: g.hidden[:0], wakes: g.wakes[:0]}
	if cap(g.buf) > keptBuffer {
		c.large.Put(g) // until the next collection of garbage: traffic of large groups uses it again, quiet gives it back
		return
	}
	c.spares = [2]*group{g, c.spares[0]}
}

// Counts tells how many frames and records have been written since the committer was made.
func (c *Committer) Counts() (commits, records int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.commits, c.records
}

func (g *group) payload() Payload {
	parts := g.parts
	if len(g.buf) > g.cut {
		parts = append(parts, g.buf[g.cut:])
	}
	g.parts = parts
	return Payload{Parts: parts, Len: g.size, Heads: g.heads, Records: g.records}
}
