package history

import (
	"fmt"
	"slices"
	"sort"
)

const (
	mostConfigs    = 4096 // Bound: states of one message; more is an error
	mostViolations = 8
)

// A Violation is something that should not have happened.
type Violation struct {
	Rule string // one line
	Text string // the history of the message that is wrong, or of the observation
}

func (v Violation) String() string { return v.Rule + "\n" + v.Text }

// A Verdict is what Check found.
type Verdict struct {
	Violations           []Violation // at most 8
	Ops, Messages        int
	Deliveries, Unknown  int // receives of a message; calls whose outcome is unknown
	AtRest, RewindCounts int // observations and rewinds of which the numbers were compared
	Exact                int // of those, numbers of which the history allowed only one
	Numbers              int
}

// A track is one message: the calls that name it.
type track struct {
	queue    QueueID
	target   QueueID
	source   string // name of queue
	body     string
	send     *Op
	item     int
	id       string
	enqueued int64
	own      []event
}

// An event is the begin or the return of a call, as far as it concerns one message.
type event struct {
	stamp uint64
	op    *Op
	item  int // of Sent or Got; -1: the call does not name the message
	ret   bool
}

// A frontier is what a power loss cannot undo.
type frontier struct {
	stamp uint64 // calls that had returned by then
	time  int64  // or by then
}

// A checker is one run of Check.
type checker struct {
	l       *Log
	ops     []*Op
	tracks  []*track
	bodies  map[string]*track
	levels  map[QueueID][]event // calls that may concern every message of a queue
	starts  map[QueueID][]start
	tallies map[*Op]*tally
	ended   map[QueueID][]ending
	fates   map[int32]*fate
	spare   []config // room for the next configs of a run, whose own take its place: most calls make new ones
	todo    []config // room for those that are still to be looked at
	own     []config // room for the first ones of the next run
	verdict Verdict
}

// A start is a moment at which no call that changes a queue was under way, and what the queue may have been set to then.
type start struct {
	stamp   uint64
	configs []config
}

// Check judges the history so far.
func (l *Log) Check() Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &checker{l: l, ops: l.ops, bodies: map[string]*track{}, levels: map[QueueID][]event{}, starts: map[QueueID][]start{},
		tallies: map[*Op]*tally{}, ended: map[QueueID][]ending{}, fates: map[int32]*fate{}}
	c.verdict.Ops = len(c.ops)
	l.loses = slices.ContainsFunc(c.ops, func(o *Op) bool { return o.Power })
	if l.lost > 0 {
		c.violated(fmt.Sprintf("the history is full: %d calls were not recorded", l.lost), "")
	}
	c.frontiers()
	c.solos()
	c.collect()
	c.queueLevels()
	c.queueStarts()
	for _, t := range c.tracks {
		c.track(t)
	}
	if len(c.verdict.Violations) == 0 { // what was followed to the end only
		c.compareTallies()
		c.compareFates()
	}
	c.verdict.Messages = len(c.tracks)
	return c.verdict
}

func (c *checker) violated(rule, text string) {
	if len(c.verdict.Violations) < mostViolations {
		c.verdict.Violations = append(c.verdict.Violations, Violation{rule, text})
	}
}

// frontiers works out what each crash cannot have undone.
func (c *checker) frontiers() {
	var durable []*Op // acknowledged calls that imply that everything before them is durable
	for _, o := range c.ops {
		switch o.Verb {
		case Create, Send, Delete, Rewind, Purge, SetMeta, Drop:
			if o.outcome == OK && c.l.o.Fsync {
				durable = append(durable, o)
			}
		case Receive, Visibility, Release:
			if o.outcome == OK && c.l.o.DurableReceives && (o.Verb != Receive || len(o.Got) > 0) {
				durable = append(durable, o)
			}
		case Sync:
			if o.outcome == OK {
				durable = append(durable, o)
			}
		case Crash:
			for _, d := range durable {
				if d.ret < o.call {
					o.frontier.stamp = max(o.frontier.stamp, d.call)
				}
			}
			o.frontier.time = o.works - c.l.o.Lag
			durable = durable[:0]
		}
	}
}

// solos finds the calls that no other overlapped, on queues that have to do with each other.
func (c *checker) solos() {
	group := make([]int, len(c.l.queues)) // of queues that share a dead-letter queue
	for i, q := range c.l.queues {
		group[i] = i
		if q.target != None {
			group[i] = int(q.target)
		}
	}
	last, until := map[int]*Op{}, map[int]uint64{}
	for _, o := range c.ops { // by call
		if o.Queue == None || o.outcome == Barred || o.outcome == Refused && o.Receipt == "" {
			continue // what was refused a receipt tells something about the message
		}
		g := group[o.Queue]
		o.solo = until[g] < o.call && o.outcome != Unknown && o.outcome != Pending
		if p := last[g]; p != nil && o.call < until[g] {
			p.solo = false
		}
		ret := o.ret
		if o.outcome == Pending {
			ret = 1 << 63
		}
		if ret >= until[g] {
			until[g], last[g] = ret, o
		}
	}
}

// queueLevels finds the calls that may concern every message of a queue.
func (c *checker) queueLevels() {
	for _, o := range c.ops {
		add := func(ret bool) {
			e := event{o.call, o, -1, ret}
			if ret {
				e.stamp = o.ret
			}
			c.levels[o.Queue] = append(c.levels[o.Queue], e)
		}
		switch o.Verb {
		case Rewind, Purge, SetMeta, Drop, Found, Missing:
			if o.without() {
				continue
			}
			add(false)
			if o.outcome == OK {
				add(true)
			}
		case Receive:
			if o.outcome == Unknown {
				add(false)
			} else if o.solo {
				add(true)
			}
		case Peek, Look:
			if o.solo {
				add(true)
			}
		case Crash:
			for q := range c.l.queues {
				c.levels[QueueID(q)] = append(c.levels[QueueID(q)], event{o.call, o, -1, true})
			}
		}
		if o.solo && o.outcome == OK {
			switch o.Verb {
			case Look, Rewind:
				c.tallies[o] = &tally{}
			}
		}
	}
	for q := range c.levels {
		sortEvents(c.levels[q])
	}
}

func sortEvents(es []event) {
	slices.SortStableFunc(es, func(a, b event) int {
		switch {
		case a.stamp < b.stamp:
			return -1
		case a.stamp > b.stamp:
			return 1
		}
		return 0
	})
}

// queueStarts follows the settings of each queue, and of the one that its dead letters go to.
func (c *checker) queueStarts() {
	created := map[QueueID]*Op{}
	for _, o := range c.ops {
		if o.Verb == Create && !o.without() {
			created[o.Queue] = o
		}
	}
	for id, q := range c.l.queues {
		made := created[QueueID(id)]
		if made == nil {
			continue
		}
		first, from := state{src: made.Settings, undo: &undo{op: made}}, made.call
		if q.target != None && created[q.target] != nil {
			first.dst = created[q.target].Settings
			first.undo.before.dst = first.dst
			from = min(from, created[q.target].call)
		}
		configs := []config{{s: first}}
		if made.outcome != OK {
			configs = append(configs, config{s: first.undo.before})
		}
		if c.l.o.Fsync || !c.l.loses {
			configs[0].s.undo = nil
		}
		r := c.newRun(&track{queue: QueueID(id), target: q.target, source: q.name, send: made}, configs)
		r.settings = true
		r.quiet = func(stamp uint64) {
			configs := slices.Clone(r.configs)
			for i := range configs {
				configs[i].s.undo = nil
			}
			c.starts[QueueID(id)] = append(c.starts[QueueID(id)], start{stamp, configs})
		}
		r.quiet(from)
		r.over(from, nil)
	}
}

// startOf is the last moment before a message was sent at which its queue was quiet.
func (c *checker) startOf(t *track) (start, bool) {
	starts := c.starts[t.queue]
	i := sort.Search(len(starts), func(i int) bool { return starts[i].stamp >= t.send.call })
	if i == 0 {
		return start{}, false
	}
	return starts[i-1], true
}

// track judges one message.
func (c *checker) track(t *track) {
	s, ok := c.startOf(t)
	if !ok {
		c.violated(fmt.Sprintf("%q was sent to a queue that was not created", t.body), c.l.line(t.send))
		return
	}
	r := c.newRun(t, append(c.own[:0], s.configs...))
	r.over(s.stamp, t.own)
	r.end()
	c.own = r.configs
}
