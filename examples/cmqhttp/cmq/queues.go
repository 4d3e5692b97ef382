package cmq

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spoolmq/spool"
)

// settings are what a queue can be set to, with CMQ's ranges. Durations are whole seconds; a queue that a program has
// set to a fraction shows it rounded up.
var settings = []struct {
	name        string
	least, most int64
	set         func(*spool.Meta, int64)
	get         func(spool.Meta) int64
}{
	{"maxMsgHeapNum", 1_000_000, 1_000_000_000,
		func(m *spool.Meta, n int64) { m.MaxMessages = n }, func(m spool.Meta) int64 { return m.MaxMessages }},
	{"pollingWaitSeconds", 0, maxWait,
		func(m *spool.Meta, n int64) { m.PollingWait = seconds(n) }, func(m spool.Meta) int64 { return inSeconds(m.PollingWait) }},
	{"visibilityTimeout", 1, 43_200,
		func(m *spool.Meta, n int64) { m.VisibilityTimeout = seconds(n) }, func(m spool.Meta) int64 { return inSeconds(m.VisibilityTimeout) }},
	{"maxMsgSize", 1024, maxBatchBytes,
		func(m *spool.Meta, n int64) { m.MaxMessageSize = int(n) }, func(m spool.Meta) int64 { return int64(m.MaxMessageSize) }},
	{"msgRetentionSeconds", 60, maxRetention,
		func(m *spool.Meta, n int64) { m.Retention = seconds(n) }, func(m spool.Meta) int64 { return inSeconds(m.Retention) }},
	{"rewindSeconds", 0, maxRetention,
		func(m *spool.Meta, n int64) { m.Rewind = seconds(n) }, func(m spool.Meta) int64 { return inSeconds(m.Rewind) }},
}

const (
	maxRetention = 1_296_000 // seconds, 15 days
	maxListed    = 50
	listed       = 20
)

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// inSeconds rounds up.
func inSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// unix is 0 for no time.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// queue returns the queue that a call names.
func (h *Handler) queue(c *call) (*spool.Queue, error) {
	name, err := c.params.text("queueName")
	if err != nil {
		return nil, err
	}
	return h.spool.Queue(name)
}

// patch reads the settings of a call. What it returns changes only what the call names.
func (c *call) patch() (func(*spool.Meta), error) {
	var changes []func(*spool.Meta)
	for _, s := range settings {
		n, ok, err := c.params.number(s.name, s.least, s.most)
		if err != nil {
			return nil, err
		}
		if ok {
			changes = append(changes, func(m *spool.Meta) { s.set(m, n) })
		}
	}
	if text, ok := c.params["deadLetterPolicy"]; ok {
		d, err := parsePolicy(text)
		if err != nil {
			return nil, err
		}
		changes = append(changes, func(m *spool.Meta) { m.DeadLetter = d })
	}
	return func(m *spool.Meta) {
		for _, change := range changes {
			change(m)
		}
	}, nil
}

// A deadLetterPolicy is CMQ's: one of the two limits, as policy says.
type deadLetterPolicy struct {
	Queue       string `json:"deadLetterQueue"`
	Policy      *int64 `json:"policy"`
	MaxReceives int64  `json:"maxReceiveCount"`
	MaxAge      int64  `json:"maxTimeToLive"`
}

func parsePolicy(text string) (*spool.DeadLetter, error) {
	var p deadLetterPolicy
	if json.Unmarshal([]byte(text), &p) != nil {
		return nil, fail(4000, 10360, "deadLetterPolicy is not a JSON object of a string and integers")
	}
	switch {
	case p.Queue == "":
		return nil, fail(4000, 10760, "deadLetterPolicy has no deadLetterQueue")
	case p.Policy == nil || *p.Policy != 0 && *p.Policy != 1:
		return nil, fail(4000, 10770, "the policy of deadLetterPolicy must be 0 or 1")
	case *p.Policy == 0 && (p.MaxReceives < 1 || p.MaxReceives > 1000):
		return nil, fail(4000, 10350, "maxReceiveCount is %d, out of [1, 1000]", p.MaxReceives)
	case *p.Policy == 1 && (p.MaxAge < 300 || p.MaxAge > 43_200):
		return nil, fail(4000, 10350, "maxTimeToLive is %d, out of [300, 43200]", p.MaxAge)
	case *p.Policy == 0:
		return &spool.DeadLetter{Queue: p.Queue, MaxReceives: int(p.MaxReceives)}, nil
	}
	return &spool.DeadLetter{Queue: p.Queue, MaxAge: seconds(p.MaxAge)}, nil
}

func policyText(d *spool.DeadLetter) string {
	policy := int64(0)
	if d.MaxReceives == 0 {
		policy = 1
	}
	text, _ := json.Marshal(deadLetterPolicy{d.Queue, &policy, int64(d.MaxReceives), inSeconds(d.MaxAge)}) // always marshals
	return string(text)
}

func (h *Handler) createQueue(c *call) (reply, error) {
	name, err := c.params.text("queueName")
	if err != nil {
		return nil, err
	}
	change, err := c.patch()
	if err != nil {
		return nil, err
	}
	var meta spool.Meta
	change(&meta)
	q, err := h.spool.CreateQueue(c.ctx, name, meta)
	if err != nil {
		return nil, err
	}
	a, err := q.Attributes(c.ctx)
	if err != nil {
		return nil, err
	}
	return reply{"queueId": queueID(q.Name(), a)}, nil
}

// queueID names a queue for as long as it lives, across restarts; one of the same name made later has another.
func queueID(name string, a spool.Attributes) string {
	sum := sha256.Sum256([]byte(name + "/" + strconv.FormatInt(a.CreatedAt.UnixNano(), 10)))
	return fmt.Sprintf("queue-%x", sum[:8])
}

func (h *Handler) listQueue(c *call) (reply, error) {
	offset, _, err := c.params.number("offset", 0, math.MaxInt32)
	if err != nil {
		return nil, err
	}
	limit, given, err := c.params.number("limit", 1, maxListed)
	if err != nil {
		return nil, err
	}
	if !given {
		limit = listed
	}
	all := slices.DeleteFunc(h.spool.Queues(), func(q *spool.Queue) bool {
		return !strings.Contains(q.Name(), c.params["searchWord"])
	})
	from := min(int(offset), len(all))
	page := []reply{}
	for _, q := range all[from:min(from+int(limit), len(all))] {
		a, err := q.Attributes(c.ctx)
		if errors.Is(err, spool.ErrQueueNotFound) {
			continue // deleted since we looked
		}
		if err != nil {
			return nil, err
		}
		page = append(page, reply{"queueId": queueID(q.Name(), a), "queueName": q.Name()})
	}
	return reply{"totalCount": len(all), "queueList": page}, nil
}

func (h *Handler) getQueueAttributes(c *call) (reply, error) {
	q, err := h.queue(c)
	if err != nil {
		return nil, err
	}
	a, err := q.Attributes(c.ctx)
	if err != nil {
		return nil, err
	}
	r := reply{
		"queueName":      q.Name(),
		"queueId":        queueID(q.Name(), a),
		"createTime":     unix(a.CreatedAt),
		"lastModifyTime": unix(a.ModifiedAt),
		"activeMsgNum":   a.Active,
		"inactiveMsgNum": a.Inactive,
		"delayMsgNum":    a.Delayed,
		"rewindMsgNum":   a.Rewindable,
		"rewindmsgNum":   a.Rewindable, // as the Python SDK reads it
		"minMsgTime":     unix(a.Oldest),
	}
	for _, s := range settings {
		r[s.name] = s.get(a.Meta)
	}
	if a.DeadLetter != nil {
		r["deadLetterPolicy"] = policyText(a.DeadLetter)
	}
	return r, nil
}

func (h *Handler) setQueueAttributes(c *call) (reply, error) {
	q, err := h.queue(c)
	if err != nil {
		return nil, err
	}
	change, err := c.patch()
	if err != nil {
		return nil, err
	}
	if err := q.SetMeta(c.ctx, change); err != nil {
		return nil, err
	}
	return h.getQueueAttributes(c)
}

func (h *Handler) unbindDeadLetterQueue(c *call) (reply, error) {
	q, err := h.queue(c)
	if err != nil {
		return nil, err
	}
	return nil, q.SetMeta(c.ctx, func(m *spool.Meta) { m.DeadLetter = nil })
}

func (h *Handler) deleteQueue(c *call) (reply, error) {
	name, err := c.params.text("queueName")
	if err != nil {
		return nil, err
	}
	return nil, h.spool.DeleteQueue(c.ctx, name)
}

func (h *Handler) clearQueue(c *call) (reply, error) {
	q, err := h.queue(c)
	if err != nil {
		return nil, err
	}
	return nil, q.Purge(c.ctx)
}

// rewindQueue takes whole seconds, and so now − rewindSeconds, computed by the client, is up to a second before what a
// rewind allows. That second is accepted: what was sent in it has left the window.
func (h *Handler) rewindQueue(c *call) (reply, error) {
	q, err := h.queue(c)
	if err != nil {
		return nil, err
	}
	n, given, err := c.params.number("startConsumeTime", 0, math.MaxInt32*2)
	if err != nil {
		return nil, err
	}
	if !given {
		return nil, fail(4000, 10390, "missing parameter startConsumeTime")
	}
	to := time.Unix(n, 0)
	_, err = q.Rewind(c.ctx, to)
	if e := (*spool.RewindRangeError)(nil); errors.As(err, &e) && to.Before(e.Earliest) && e.Earliest.Sub(to) < time.Second {
		const later = 50 * time.Millisecond // the range moves on while we ask again
		_, err = q.Rewind(c.ctx, e.Earliest.Add(later))
	}
	return nil, err
}
