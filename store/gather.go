package store

import (
	"runtime"
	"time"
)

// This file has leaders wait for company: how long is a matter of turns that others get to run, and of what a sync takes.

const (
	gatherTurns = 64 // how often a leader lets others run before it closes a group
	gatherIdle  = 4  // it stops after so many turns in which nobody joined
	lingerTurns = 8  // how often a call lets others run, while somebody writes, before it goes to sleep

	assembleTurns = 1 << 14               // Bound: how often the leader of a sync lets others run before it begins
	assembleIdle  = 16                    // it stops when nobody has come for one part in so many of a sync's time
	assembleMost  = 2                     // and after one part in so many in any case
	assembleFrom  = 20 * time.Microsecond // a sync that takes less is not worth waiting for others
	assembleHaste = 63                    // Bound: syncs that begin at once after waits that took too long
)

// gather lets other callers join the open group when the last group had several. Caller holds mu; it is released
// meanwhile.
func (c *Committer) gather() {
	if c.last <= 1 {
		return
	}
	want := int32(c.last)
	c.mu.Unlock()
	before, idle := c.joined.Load(), 0
	for i := 0; i < gatherTurns && before < want && idle < gatherIdle; i++ {
		runtime.Gosched()
		now := c.joined.Load()
		if now == before {
			idle++
		} else {
			before, idle = now, 0
		}
	}
	c.mu.Lock()
}

// linger lets others run while somebody writes: that takes about as long as to fall asleep and to be woken. Caller holds mu;
// it is released meanwhile.
func (c *Committer) linger(pos Position) {
	c.mu.Unlock()
	for turn := 0; turn < lingerTurns && !c.Reached(pos, AtWritten); turn++ {
		runtime.Gosched()
	}
	c.mu.Lock()
}

// assemble lets those whom the last sync has woken come back before the next one begins, and writes what has gathered: a
// sync costs the same for one call as for all of them, and without this half of the callers sleep in every second one. It
// waits for as long as they keep coming, and for a small part of what a sync takes. Callers who are busy for longer, with
// batches, had better work while the sync runs: after a wait that took too long the next syncs begin at once, more of them
// each time. Caller holds mu, leads the sync, and is one of those who have come; mu is released meanwhile.
func (c *Committer) assemble() {
	want, pace := c.woken, time.Duration(c.pace)
	if pace < assembleFrom || c.arrived.Load() >= want {
		return
	}
	if c.hasty > 0 {
		c.hasty--
		return
	}
	c.mu.Unlock()
	came := c.arrived.Load()
	began := time.Now()
	latest, now := began, began
	for turn := 0; came < want && turn < assembleTurns; turn++ {
		runtime.Gosched()
		now = time.Now()
		if n := c.arrived.Load(); n != came {
			came, latest = n, now
		}
		if now.Sub(latest) > pace/assembleIdle || now.Sub(began) > pace/assembleMost {
			break
		}
	}
	c.mu.Lock()
	if now.Sub(began) > pace/assembleMost {
		c.haste = min(2*c.haste+1, assembleHaste)
	} else {
		c.haste = 0
	}
	c.hasty = c.haste
	if c.open != nil && len(c.open.calls) > 0 && !c.writing && c.err == nil {
		c.writing = true
		c.writeOpen(AtSynced)
	}
}
