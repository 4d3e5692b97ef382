package store

import "errors"

// This file gives out room in the log, before any lock is taken: what has none is refused before it is recorded.

// Admit takes room for n bytes of records (RecordSize each) that the caller is about to append in one go. It must be
// followed by End(n) or Forgo(n). It answers ErrNoSpace when the log cannot take them and the committer's failure when
// there was one. It may block until room that others hold has been used or given back: whoever holds room must not wait
// for somebody who may still need some, and no lock may be held.
func (c *Committer) Admit(n int64) error { return c.AdmitFrom(n, Ordinary) }

// A Purse is what a change may draw on when space is short.
type Purse uint8

const (
	Ordinary Purse = iota // what the file system gives: changes that store more
	Reserve               // and the shared part of the log's reserve: changes that store less in the end
	Cleaner               // and all of it: what makes room
)

// AdmitFrom is Admit for a change that may draw on a purse.
func (c *Committer) AdmitFrom(n int64, purse Purse) error {
	n += FrameHeaderSize + FrameAlign
	for {
		c.mu.Lock()
		for c.err == nil && c.admitted > c.flown && c.admitted-c.flown+n > maxGroup {
			if c.open != nil && c.open.records > 0 && !c.writing {
				c.writing = true
				c.leadWrite(AtWritten) // nobody else may be there to do it
			} else {
				c.room.Wait()
			}
		}
		if c.err != nil {
			defer c.mu.Unlock()
			return c.err
		}
		need := c.admitted + n
		if need <= c.roomFor(purse) {
			c.admitted = need
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		if err := c.grow(need, purse); err != nil {
			return err
		}
	}
}

// TryAdmit is AdmitFrom for callers that hold a queue's lock: it never blocks, and answers false instead.
func (c *Committer) TryAdmit(n int64, purse Purse) bool {
	n += FrameHeaderSize + FrameAlign
	c.mu.Lock()
	defer c.mu.Unlock()
	full := c.admitted > c.flown && c.admitted-c.flown+n > maxGroup
	if c.err != nil || full || c.admitted+n > c.roomFor(purse) {
		return false
	}
	c.admitted += n
	return true
}

// Forgo gives back what Admit(n) took.
func (c *Committer) Forgo(n int64) {
	c.mu.Lock()
	c.admitted -= n + FrameHeaderSize + FrameAlign
	c.room.Broadcast()
	c.mu.Unlock()
}

func (c *Committer) roomFor(purse Purse) int64 {
	if purse == Ordinary {
		return c.log.Room()
	}
	return c.log.ReserveRoom()
}

func (c *Committer) grow(n int64, purse Purse) (err error) {
	c.growing.Lock()
	defer c.growing.Unlock()
	switch {
	case n <= c.roomFor(purse):
		return nil
	case purse == Ordinary:
		err = c.log.Grow(n)
	default:
		err = c.log.Draw(n, purse == Cleaner)
	}
	if err == nil || errors.Is(err, ErrNoSpace) {
		c.short(c.log.Room() < n)
	}
	if err != nil && !errors.Is(err, ErrNoSpace) && !errors.Is(err, ErrClosed) {
		c.Fail(err) // an I/O error is the end, wherever it is met
	}
	return err
}
