package spool

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/seglog"
)

// Bounds of a report: what is beyond is counted, not listed.
const (
	maxDamages = 1000
	maxLost    = 1000
	maxNotes   = 100
)

// A Report is what [Verify] or [Repair] found.
type Report struct {
	Dir      string        `json:"dir"`      // the spool that was read
	Bytes    int64         `json:"bytes"`    // of the log's files that were read
	Segments int           `json:"segments"` // files of the log
	Frames   int64         `json:"frames"`   // group commits that verify
	Records  int64         `json:"records"`  // changes that verify
	Queues   []QueueReport `json:"queues"`   // sorted by name; after a repair those of the repaired spool
	Index    string        `json:"index"`    // "none", "whole", "damaged" (Open makes it anew from the log); empty after a repair

	Damages     []Damage      `json:"damages,omitempty"` // the first 1,000
	DamageCount int64         `json:"damageCount"`
	Lost        []LostMessage `json:"lost,omitempty"` // messages known to be lost, the first 1,000; only after a repair
	LostCount   int64         `json:"lostCount"`
	Notes       []string      `json:"notes,omitempty"` // what else a repair could not keep, in words; at most 100
	Kept        string        `json:"kept,omitempty"`  // where the damaged original is, when the repaired one has its place
}

// A QueueReport has a queue's messages by their recorded state: what has fallen due since the last record is not taken
// into account.
type QueueReport struct {
	Name       string `json:"name"`
	Active     int64  `json:"active"`
	Inactive   int64  `json:"inactive"`
	Delayed    int64  `json:"delayed"`
	Rewindable int64  `json:"rewindable"`
}

// A Damage is a place where what is stored is not what was written.
type Damage struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"` // bytes from the file's start
	Length int64  `json:"length"` // bytes; 0 when that is not known
	Reason string `json:"reason"` // without message bodies
}

// A LostMessage was neither deleted nor moved as far as can be told, and its body cannot be read any more.
type LostMessage struct {
	Queue  string `json:"queue"`
	ID     string `json:"id"`
	File   string `json:"file"`
	Offset int64  `json:"offset"`
}

// OK tells whether nothing is damaged.
func (r *Report) OK() bool { return r.DamageCount == 0 }

// Err returns nil when nothing is damaged, otherwise a *CorruptError with the first place.
func (r *Report) Err() error {
	if r.OK() {
		return nil
	}
	d := r.Damages[0]
	return storeError(&CorruptError{File: d.File, Offset: d.Offset, Reason: d.Reason})
}

func (r *Report) damage(file string, at, n int64, reason string) {
	same := func(d Damage) bool { return d.File == file && d.Offset == at && (at > 0 || d.Reason == reason) }
	if slices.ContainsFunc(r.Damages, same) {
		return
	}
	if r.DamageCount++; len(r.Damages) < maxDamages {
		r.Damages = append(r.Damages, Damage{file, at, n, reason})
	}
}

func (r *Report) fault(f seglog.Fault) { r.damage(f.File, f.Offset, f.Length, f.Reason) }

func (r *Report) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); len(r.Notes) < maxNotes && !slices.Contains(r.Notes, n) {
		r.Notes = append(r.Notes, n)
	}
}

// A CheckOption sets up [Verify] and [Repair].
type CheckOption func(*checkup)

// WithProgress has f called with the bytes read so far and those to read in all, as often as a frame is read, by the
// goroutine that called Verify or Repair. The last call is not always with done equal to total.
func WithProgress(f func(done, total int64)) CheckOption { return func(c *checkup) { c.progress = f } }

// A checkup is one run of Verify or Repair over a survey of a spool.
type checkup struct {
	ctx      context.Context
	progress func(done, total int64)
	survey   *seglog.Survey
	report   Report
}

// newCheck surveys the spool in dir. Caller closes the survey.
func newCheck(ctx context.Context, dir string, opts []CheckOption) (*checkup, error) {
	c := &checkup{ctx: ctx, progress: func(int64, int64) {}}
	for _, opt := range opts {
		if opt == nil {
			return nil, badArgument("option", "nil", "a With function's result")
		}
		opt(c)
	}
	if err := checkPath("dir", dir); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err == nil {
		c.survey, err = seglog.TakeSurvey(dir)
	}
	if errors.Is(err, store.ErrNotStore) {
		return nil, badArgument("dir", dir, "the directory of a spool")
	}
	if err != nil {
		return nil, openError("dir", dir, err)
	}
	c.report = Report{Dir: dir, Segments: c.survey.Segments(), Queues: []QueueReport{}}
	for _, f := range c.survey.Faults() {
		c.report.fault(f)
	}
	return c, nil
}

// read goes through the log below a position, and hands every record to f.
func (c *checkup) read(upTo store.Position, f func(seglog.Find) error) error {
	total := c.survey.Size()
	return c.survey.Read(upTo, seglog.Reader{
		Record: func(r seglog.Find) error {
			if !r.Rotten {
				c.report.Records++
			}
			return f(r)
		},
		Frame:     func() { c.report.Frames++ },
		Fault:     c.report.fault,
		Plausible: func(typ byte, head []byte) bool { return tell(typ, head) != nil },
		Message:   func(typ byte) bool { return typ == recordSend || typ == recordCopy || typ == recordDeadLetter },
		Progress: func(done int64) error {
			c.report.Bytes = max(c.report.Bytes, min(done, total))
			c.progress(min(done, total), total)
			return c.ctx.Err()
		},
	})
}

// count fills in the queues of the report.
func (c *checkup) count(queues map[uint32]*Queue) {
	for id, q := range queues {
		name := q.name
		if name == "" {
			name = fmt.Sprintf("queue %d", id)
		}
		n := &q.st.count
		c.report.Queues = append(c.report.Queues, QueueReport{name, n[active] + n[hidden], n[inactive] + n[moving],
			n[delayed] + n[pending], n[rewindable]})
	}
	slices.SortFunc(c.report.Queues, func(a, b QueueReport) int { return strings.Compare(a.Name, b.Name) })
}

// farthest is how far a message's sequence may lie from those around it. Bound: the directory of a queue's blocks has a
// pointer for each million in between.
const farthest = 1 << 36

func nearby(next, seq uint64) bool {
	return next == 0 || seq < next+farthest && next < seq+farthest
}

// A head is the decoded head of a record.
type head interface{ decode(*decoder) }

// An ids is the head of an IDS.
type ids struct{ last uint32 }

func (r *ids) decode(d *decoder) { r.last = uint32(d.uv()) }

// tell decodes the head of a record, and returns nil for what no encoder wrote.
func tell(typ byte, b []byte) head {
	var h head
	switch typ {
	case recordSend:
		h = new(sendRecord)
	case recordReceive:
		h = new(receiveRecord)
	case recordDelete:
		h = new(deleteRecord)
	case recordVisibility:
		h = new(visibilityRecord)
	case recordRewind:
		h = new(rewindRecord)
	case recordQueue:
		h = new(queueRecord)
	case recordDeadLetter:
		h = new(deadLetterRecord)
	case recordSnapshot:
		h = new(snapshotRecord)
	case recordIDs:
		h = new(ids)
	case recordCopy:
		h = new(copyRecord)
	default:
		return nil
	}
	d := &decoder{b: b}
	if h.decode(d); d.done() != nil {
		return nil
	}
	return h
}
