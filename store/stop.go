package store

// This file has what a committer does when it must not go on.

// fail stops everything: the outcome of what was under way is unknown. Caller holds mu.
func (c *Committer) fail(err error, calls []*call) {
	first := c.err == nil
	if first {
		c.err = err
	}
	calls = append(calls, c.waiting...)
	c.waiting = nil
	if c.open != nil {
		calls = append(calls, c.open.calls...)
		c.wakes = append(c.wakes, c.open.wakes...)
		c.open.calls, c.open.wakes = nil, nil
	}
	for _, w := range calls {
		w.wake <- signalDone
	}
	for _, w := range c.wakes {
		w.ch <- struct{}{}
	}
	c.wakes = nil
	c.room.Broadcast()
	if first && c.failed != nil {
		c.mu.Unlock()
		c.failed(err)
		c.mu.Lock()
	}
}

// Err is the error that stopped the committer, or nil.
func (c *Committer) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Fail stops the committer from outside, when what it stands on has been found broken.
func (c *Committer) Fail(err error) {
	c.mu.Lock()
	c.fail(err, nil)
	c.mu.Unlock()
}
