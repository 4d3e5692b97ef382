package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/badgerkv"
	"github.com/spoolmq/spool/store/seglog"
)

// Verify checks the spool in dir, which nobody has open, and changes nothing. It reads every frame of the log
// with every body, FORMAT, KEY and MARK, and every record of the index, compares them with their checksums and with what
// they say of each other, and replays the log as Open would. What a crash has torn off the end of the log is no damage.
//
// What is wrong is in the report and no error: see [Report.OK] and [Report.Err]. It knows no budget of
// memory: 64 MiB at most for a frame, and for each message what it takes in memory, up to 130 bytes.
//
// Errors: ErrInvalidArgument when dir holds no spool, ErrLocked while somebody has it open, ErrFormatVersion,
// ErrStoreFailed when the disk cannot be read, or the context's. The report is filled in as far as it went.
func Verify(ctx context.Context, dir string, opts ...CheckOption) (Report, error) {
	c, err := newCheck(ctx, dir, opts)
	if err != nil {
		return Report{Dir: dir}, err
	}
	err = c.verify()
	return c.report, cmp.Or(storeError(err), storeError(c.survey.Close()))
}

func (c *checkup) verify() error {
	end, err := c.survey.Check()
	if bad := (*CorruptError)(nil); errors.As(err, &bad) {
		c.report.damage(bad.File, bad.Offset, 0, bad.Reason)
		end, err = math.MaxUint64, nil
	}
	if err != nil {
		return err
	}
	disk := &still{info: c.survey.Info(), start: c.survey.Start(), end: end}
	o := defaults
	o.logger = slog.New(slog.DiscardHandler)
	r := &replay{spool: newSpool(o, disk), queues: map[uint32]*Queue{}}
	if err := c.read(end, func(f seglog.Find) error { c.replay(r, f); return nil }); err != nil {
		return err
	}
	c.finish(r)
	return c.verifyIndex(disk, o)
}

// replay applies a record. What was found outside of frames that verify is counted only.
func (c *checkup) replay(r *replay, f seglog.Find) {
	if !f.Framed || f.Rotten {
		return
	}
	err := errors.New("a message far from all others of its queue")
	if r.known(f) {
		err = r.record(f.Pos, f.Record)
	}
	if err != nil {
		c.report.damage(f.File, f.Offset, int64(f.Size()), err.Error())
	}
}

// known tells whether a message lies where the directory of its queue can reach it.
func (r *replay) known(f seglog.Find) bool {
	var m *sendRecord
	switch h := tell(f.Type, f.Head).(type) {
	case *sendRecord:
		m = h
	case *deadLetterRecord:
		m = &h.to
	case *copyRecord:
		m = &sendRecord{queue: h.queue, seq: h.seq}
	default:
		return true
	}
	q := r.queues[m.queue]
	return q == nil || nearby(q.st.next, m.seq)
}

// finish checks what the log tells of the queues as a whole, and counts.
func (c *checkup) finish(r *replay) {
	names := map[string]bool{}
	for id, q := range r.queues {
		r.finishQueue(q)
		if q.name == "" {
			c.report.damage("log", 0, 0, fmt.Sprintf("queue %d has records but no beginning", id))
		}
		names[fold(q.name)] = true
	}
	for _, q := range r.queues {
		if dl := q.st.meta.DeadLetter; dl != nil && !names[fold(dl.Queue)] {
			c.report.damage("log", 0, 0, fmt.Sprintf("queue %q has the dead-letter queue %q, which is not there", q.name, dl.Queue))
		}
	}
	c.count(r.queues)
}

// verifyIndex reads every record of the index that its checkpoint tells of.
func (c *checkup) verifyIndex(disk store.Log, o options) error {
	r := &replay{spool: newSpool(o, disk), queues: map[uint32]*Queue{}}
	there, err := c.openIndex(disk, r)
	if err == nil && there {
		err = c.readBlocks(r)
	}
	switch c.report.Index = "whole"; {
	case !there:
		c.report.Index = "none"
	case err != nil:
		c.report.Index = "damaged"
	}
	if errors.Is(err, store.ErrFormatVersion) || c.ctx.Err() != nil {
		return cmp.Or(c.ctx.Err(), err)
	}
	if bad := (*CorruptError)(nil); errors.As(err, &bad) {
		c.report.damage(bad.File, bad.Offset, 0, bad.Reason)
	} else if err != nil {
		c.report.damage(filepath.Join(c.report.Dir, "index"), 0, 0, err.Error())
	}
	return nil
}

// openIndex brings what the index has into r, but for the bodies of blocks. It is not there when Open would not look at
// it.
func (c *checkup) openIndex(disk store.Log, r *replay) (there bool, err error) {
	sh := newShelf(c.report.Dir, disk, r.spool.log)
	if _, err := os.Stat(sh.marker); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return true, err
	}
	sh.make = func() (store.Index, error) { return badgerkv.Freeze(sh.dir) }
	r.shelf = sh
	if err := sh.open(); err != nil {
		return true, err
	}
	return true, sh.read(r)
}

// readBlocks reads the bodies of all blocks in the index.
func (c *checkup) readBlocks(r *replay) (err error) {
	for _, q := range r.queues {
		q.st.each(func(*summary) bool { return false }, func(b *block) bool {
			if err = c.ctx.Err(); err == nil && b.body == nil {
				_, err = r.shelf.fetch(q.id, b.number, b.saved)
			}
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// still is as much of a log as a replay asks for beside its frames. Every other call would be a mistake.
type still struct {
	store.Log
	info       store.Info
	start, end store.Position
}

func (s *still) Info() store.Info      { return s.info }
func (s *still) Start() store.Position { return s.start }
func (s *still) End() store.Position   { return s.end }
