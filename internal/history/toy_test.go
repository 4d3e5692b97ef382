package history

import (
	"fmt"
	"slices"
)

// be wrong in one way. It has no concurrency and no storage: what was recorded is a list of its states.
type toy struct {
	bug   string
	fsync bool
	now   int64

	toyState
	records []toyState // after each change
	times   []int64
	synced  int // of records, that many survive power loss
	moved   bool
}

type toyState struct {
	queues [2]toyQueue
	ids    int
	n      int // changes ever, for bugs that show now and then
}

type toyQueue struct {
	settings                Settings
	messages                []*toyMessage // by age
	sent, received, deleted int64
	drift                   int64
}

type toyMessage struct {
	id, body, receipt    string
	old                  []string // earlier receipts
	kind                 kind
	enq, due, first, age int64
	receives, rewinds    int
	origin               *Origin
}

func newToy(bug string, fsync bool, s Settings) *toy {
	t := &toy{bug: bug, fsync: fsync, now: 1_000_000_000_000}
	t.queues[0].settings = s
	t.queues[1].settings = Settings{Visibility: s.Visibility, Retention: s.Retention, Rewind: s.Rewind}
	t.record()
	t.synced = len(t.records)
	return t
}

func (s toyState) clone() toyState {
	for i := range s.queues {
		q := &s.queues[i]
		q.messages = slices.Clone(q.messages)
		for j, m := range q.messages {
			c := *m
			c.old = slices.Clone(m.old)
			q.messages[j] = &c
		}
	}
	return s
}

// is tells whether the toy has a bug, every n-th time.
func (t *toy) is(bug string, every int) bool {
	return t.bug == bug && t.n%every == every-1
}

func (t *toy) record() int {
	t.n++
	t.records = append(t.records, t.clone())
	t.times = append(t.times, t.now)
	return len(t.records)
}

// stable makes everything up to a record survive power loss.
func (t *toy) stable(record int) { t.synced = max(t.synced, record) }

// crash forgets what a crash forgets; keep chooses how many of n records survive.
func (t *toy) crash(power bool, keep func(n int) int) {
	most := len(t.records)
	least := t.synced
	if t.bug == "a send, a delete or a purge acknowledged and not durable" || t.bug == "power loss takes more than the last second" {
		least = max(1, least-12)
	}
	for least < most && t.times[least] < t.now-500_000_000 && t.bug != "power loss takes more than the last second" {
		least++ // made stable in the background
	}
	if !power {
		least = most
		if t.bug == "kill loses the latest change" {
			least = max(1, most-1)
			most = least
		}
	}
	n := least + keep(most-least+1)
	next := t.records[n-1].clone()
	if t.bug == "a hole: an old record is lost, a newer one is kept" && power && n > t.synced+2 {
		lost, before := t.records[n-2], t.records[n-3] // messages that were sent by the lost record
		for i := range next.queues {
			was := map[string]bool{}
			for _, m := range before.queues[i].messages {
				was[m.body] = true
			}
			for _, m := range lost.queues[i].messages {
				if !was[m.body] && m.origin == nil {
					next.queues[i].remove(m.body)
				}
			}
		}
	}
	if t.bug == "settings go back to old ones by a crash" {
		next.queues[0].settings = t.records[0].queues[0].settings
	}
	if t.bug == "counters start again after a crash" {
		next.queues[0].received = 0
	}
	next.n, next.ids = t.n, t.ids
	if t.bug == "IDs start again after a crash" {
		next.ids -= 3
	}
	t.toyState = next
	t.records, t.times = []toyState{t.clone()}, []int64{t.now}
	t.synced = 1
}

func (q *toyQueue) remove(body string) {
	q.messages = slices.DeleteFunc(q.messages, func(m *toyMessage) bool { return m.body == body })
}

// ---- time ----

func (t *toy) next(q *toyQueue, m *toyMessage) int64 {
	at := m.enq + q.settings.Retention
	if t.bug == "an expired message is delivered" || t.bug == "retention ends only what is active" && m.kind == inactive {
		at = never
	}
	switch m.kind {
	case delayed:
		due := m.due
		if t.bug == "a delay ends 1 ms early" {
			due -= 1e6
		}
		at = min(at, due)
	case inactive:
		due := m.due
		if t.bug == "a lease ends 1 ms early" {
			due -= 1e6
		}
		if t.bug == "a lapsed message never comes back" && m.receives == 2 {
			due = never
		}
		at = min(at, due)
	case rewindable:
		if t.bug != "the rewind window is not looked at" {
			at = min(at, m.enq+q.settings.Rewind)
		}
	}
	if q == &t.queues[0] && q.settings.MaxAge > 0 && m.age > 0 && (m.kind == active || m.kind == delayed) {
		at = min(at, m.age+q.settings.MaxAge)
	}
	return at
}

// advance lets everything happen that is due.
func (t *toy) advance() {
	for {
		var who *toyMessage
		var where *toyQueue
		best := t.now + 1
		for i := range t.queues {
			for _, m := range t.queues[i].messages {
				if at := t.next(&t.queues[i], m); at < best {
					best, who, where = at, m, &t.queues[i]
				}
			}
		}
		if who == nil {
			return
		}
		t.happen(where, who, best)
	}
}

func (t *toy) happen(q *toyQueue, m *toyMessage, at int64) {
	switch {
	case m.enq+q.settings.Retention <= at && t.bug != "an expired message is delivered":
		q.remove(m.body)
	case m.kind == rewindable:
		q.remove(m.body)
	case m.kind == inactive:
		t.leaseEnds(q, m, at, 0)
	case m.kind == delayed && m.age == 0:
		m.kind, m.age = active, m.due
	case m.kind == delayed && m.due <= at:
		m.kind = active
	default:
		t.move(q, m, at)
	}
}

func (t *toy) leaseEnds(q *toyQueue, m *toyMessage, at, after int64) {
	most := q.settings.MaxReceives
	if most > 0 && t.bug == "a dead letter moves one receive late" {
		most++
	}
	if most > 0 && t.bug == "a dead letter moves one receive early" {
		most = max(1, most-1)
	}
	over := q.settings.MaxAge > 0 && at >= m.age+q.settings.MaxAge
	switch {
	case q == &t.queues[0] && (most > 0 && m.receives >= most || over):
		t.move(q, m, at)
	case after > 0:
		m.kind, m.due = delayed, at+after
	default:
		m.kind = active
		if t.is("counters drift when leases lapse", 5) {
			q.drift++
		}
	}
}

func (t *toy) move(q *toyQueue, m *toyMessage, at int64) {
	d := &t.queues[1]
	t.moved = true
	copies := 1
	if t.is("a dead letter arrives twice", 3) {
		copies = 2
	}
	if t.is("a dead letter is lost", 3) {
		copies = 0
	}
	for range copies {
		if n := len(d.messages); n > 0 {
			at = max(at, d.messages[n-1].enq)
		}
		c := &toyMessage{id: t.id(), body: m.body, kind: active, enq: at, age: at,
			origin: &Origin{Queue: "a", ID: m.id, Enqueued: m.enq, Receives: m.receives}}
		if t.bug == "a dead letter keeps its receive count" {
			c.receives = m.receives
		}
		if t.bug == "a dead letter tells of another origin" {
			c.origin.Receives++
		}
		d.messages = append(d.messages, c)
	}
	if t.is("a dead letter stays in its queue as well", 3) {
		m.kind = active
		m.receives, m.age = 0, at
		return
	}
	q.remove(m.body)
}

func (t *toy) id() string {
	t.ids++
	return fmt.Sprintf("id%d", t.ids)
}

// ---- verbs ----

func (t *toy) send(q *toyQueue, batch []Sent) (ids []string) {
	for i, b := range batch {
		m := &toyMessage{id: t.id(), body: b.Body, kind: active, enq: t.now, age: t.now}
		ids = append(ids, m.id)
		delay := b.Delay
		if delay == 0 {
			delay = q.settings.Delay
		}
		if delay > 0 && !t.is("a delay is lost", 4) {
			m.kind, m.due, m.age = delayed, t.now+delay, 0
		}
		if t.is("an acknowledged send is dropped", 9) || i > 0 && i == len(batch)-1 && t.bug == "the last message of a batch is dropped" {
			continue
		}
		if t.is("an ID is given twice", 15) && len(q.messages) > 0 {
			m.id = q.messages[0].id
			ids[len(ids)-1] = m.id
		}
		q.messages = append(q.messages, m)
		q.sent++
		if t.bug == "a batch is torn by a crash" && i < len(batch)-1 {
			t.record()
		}
	}
	if t.bug == "Sent counts a batch as one" {
		q.sent -= int64(len(batch) - 1)
	}
	return ids
}

func (t *toy) receive(q *toyQueue, max int, visibility int64) (got []Delivery) {
	if visibility == 0 {
		visibility = q.settings.Visibility
	}
	if max > 1 && t.bug == "a batch of receives comes short" {
		max--
	}
	if t.is("a receive finds nothing though something is active", 8) {
		return nil
	}
	list := slices.Clone(q.messages)
	if t.is("the newest comes first", 3) {
		slices.Reverse(list)
	}
	for _, m := range list {
		if len(got) == max {
			break
		}
		if m.kind != active && !(m.kind == inactive && t.is("a leased message is handed out again", 20)) {
			continue
		}
		m.receives++
		if t.is("a redelivery is not counted", 4) && m.receives > 1 {
			m.receives--
		}
		if m.receipt != "" {
			m.old = append(m.old, m.receipt)
		}
		t.ids++
		receipt := fmt.Sprintf("r%d", t.ids)
		if t.bug == "a redelivery has the receipt of the first" && m.receipt != "" {
			receipt = m.receipt
		}
		m.receipt, m.kind, m.due = receipt, inactive, t.now+visibility
		if m.first == 0 || t.bug == "FirstReceivedAt is that of the latest receive" {
			m.first = t.now
		}
		q.received++
		d := m.shown()
		d.Receipt, d.Visible = m.receipt, m.due
		if t.is("a body is that of another message", 12) && len(q.messages) > 1 {
			d.Body = q.messages[t.n%len(q.messages)].body
		}
		if t.is("a body was never sent", 20) {
			d.Body = "garbage"
		}
		if t.bug == "EnqueuedAt changes with a redelivery" && m.receives > 1 {
			d.Enqueued = t.now
		}
		got = append(got, d)
	}
	return got
}

func (m *toyMessage) shown() Delivery {
	return Delivery{ID: m.id, Body: m.body, Enqueued: m.enq, FirstReceived: m.first, Receives: m.receives, Rewinds: m.rewinds, Origin: m.origin}
}

func (t *toy) byReceipt(q *toyQueue, receipt string) *toyMessage {
	for _, m := range q.messages {
		if m.kind == inactive && m.receipt == receipt {
			if t.is("a good receipt is refused", 10) {
				return nil
			}
			return m
		}
		if m.receipt == receipt && m.kind == active && t.bug == "a receipt works after the lease" {
			return m
		}
		if m.kind == inactive && slices.Contains(m.old, receipt) && t.bug == "a stale receipt works" {
			return m
		}
	}
	return nil
}

func (t *toy) delete(q *toyQueue, m *toyMessage) {
	q.deleted++
	if t.is("a delete is counted twice", 6) {
		q.deleted++
	}
	if t.is("a delete is answered and not made", 7) {
		return
	}
	m.kind = rewindable
	if q.settings.Rewind == 0 {
		q.remove(m.body)
	}
}

func (t *toy) visibility(m *toyMessage, d int64) {
	switch t.bug {
	case "an extension is ignored":
	case "an extension counts from the old deadline":
		m.due += d
	default:
		m.due = t.now + d
	}
}

func (t *toy) release(q *toyQueue, m *toyMessage, after int64) {
	if t.bug == "a release is ignored" {
		return
	}
	if t.bug == "a release forgets its delay" {
		after = 0
	}
	t.leaseEnds(q, m, t.now, after)
}

func (t *toy) rewind(q *toyQueue, to int64) (n int64) {
	for i, m := range q.messages {
		in := m.enq >= to
		switch t.bug {
		case "a rewind leaves its edge out":
			in = m.enq > to
		case "a rewind takes one too old":
			in = m.enq >= to-1
		}
		if m.kind == inactive && in && t.is("a rewind brings leased messages back too", 2) {
			m.kind = active
			m.rewinds++
			n++
			continue
		}
		if m.kind == active && in && t.bug == "a rewind counts what is active" {
			n++
		}
		if m.kind != rewindable || !in {
			continue
		}
		if t.is("a rewind misses one, and counts it", 2) && n > 0 {
			n++
			continue
		}
		m.kind, m.receives, m.first, m.age = active, 0, 0, t.now
		if t.bug == "a rewind keeps the receive count" {
			m.receives = 1
		}
		if t.bug != "a rewind is not counted" {
			m.rewinds++
		}
		n++
		if t.bug == "a rewind is torn by a crash" && i%2 == 0 {
			t.record()
		}
	}
	if t.is("a rewind counts one too many", 2) && n > 0 {
		n++
	}
	return n
}

func (t *toy) purge(q *toyQueue) {
	switch {
	case t.bug == "a purge leaves what is delayed":
		q.messages = slices.DeleteFunc(q.messages, func(m *toyMessage) bool { return m.kind != delayed })
	case t.bug == "a purge leaves what is rewindable":
		q.messages = slices.DeleteFunc(q.messages, func(m *toyMessage) bool { return m.kind != rewindable })
	default:
		q.messages = nil
	}
}

func (t *toy) counts(q *toyQueue) (c Counts) {
	for _, m := range q.messages {
		switch m.kind {
		case active:
			c.Active++
		case inactive:
			c.Inactive++
		case delayed:
			c.Delayed++
		case rewindable:
			c.Rewindable++
		}
	}
	c.Active += q.drift
	c.Sent, c.Received, c.Deleted = q.sent, q.received, q.deleted
	return c
}

// mutants are the ways in which a toy can be wrong.
var mutants = []string{
	"a send, a delete or a purge acknowledged and not durable", "power loss takes more than the last second",
	"kill loses the latest change", "a hole: an old record is lost, a newer one is kept",
	"settings go back to old ones by a crash", "counters start again after a crash", "IDs start again after a crash",
	"an expired message is delivered", "retention ends only what is active", "a delay ends 1 ms early",
	"a lease ends 1 ms early", "a lapsed message never comes back", "the rewind window is not looked at",
	"a dead letter moves one receive late", "a dead letter moves one receive early", "counters drift when leases lapse",
	"a dead letter arrives twice", "a dead letter is lost", "a dead letter keeps its receive count",
	"a dead letter tells of another origin", "a dead letter stays in its queue as well", "a delay is lost",
	"an acknowledged send is dropped", "the last message of a batch is dropped", "an ID is given twice",
	"a batch is torn by a crash", "Sent counts a batch as one", "a batch of receives comes short",
	"a receive finds nothing though something is active", "the newest comes first", "a leased message is handed out again",
	"a redelivery is not counted", "a redelivery has the receipt of the first", "FirstReceivedAt is that of the latest receive",
	"a body is that of another message", "a body was never sent", "EnqueuedAt changes with a redelivery",
	"a good receipt is refused", "a receipt works after the lease", "a stale receipt works", "a delete is counted twice",
	"a delete is answered and not made", "an extension is ignored", "an extension counts from the old deadline",
	"a release is ignored", "a release forgets its delay", "a rewind leaves its edge out", "a rewind takes one too old",
	"a rewind brings leased messages back too", "a rewind counts what is active", "a rewind misses one, and counts it",
	"a rewind keeps the receive count", "a rewind is not counted", "a rewind is torn by a crash",
	"a rewind counts one too many", "a purge leaves what is delayed", "a purge leaves what is rewindable",
}
