package history

import "fmt"

// collect finds the messages and the calls that name them.
func (c *checker) collect() {
	receipts := map[string]*track{}
	for _, o := range c.ops {
		if o.outcome == Unknown {
			c.verdict.Unknown++
		}
		if o.Verb != Send || o.without() {
			continue
		}
		for i, m := range o.Sent {
			if c.bodies[m.Body] != nil {
				c.violated(fmt.Sprintf("the history is unusable: body %q was sent twice", m.Body), "")
				continue
			}
			q := c.l.queues[o.Queue]
			t := &track{queue: o.Queue, target: q.target, source: q.name, body: m.Body, send: o, item: i}
			c.name(t, o, i)
			c.tracks = append(c.tracks, t)
			c.bodies[m.Body] = t
		}
	}
	c.identify()
	for _, o := range c.ops {
		if o.Verb != Receive && o.Verb != Peek || o.outcome != OK {
			continue
		}
		for i := range o.Got {
			c.shown(o, i, receipts)
		}
	}
	for _, o := range c.ops {
		switch {
		case o.Receipt != "" && o.outcome != Barred:
			if t := receipts[o.Receipt]; t != nil && (o.Queue == t.queue || o.Queue == t.target) {
				c.name(t, o, 0)
			} else if o.outcome == OK {
				c.violated("a receipt that was never given was accepted", c.l.line(o))
			}
		}
	}
	for _, t := range c.tracks {
		sortEvents(t.own)
	}
}

// name notes that a call is about a message.
func (c *checker) name(t *track, o *Op, item int) {
	t.own = append(t.own, event{o.call, o, item, false})
	if o.outcome == OK || o.outcome == Refused {
		t.own = append(t.own, event{o.ret, o, item, true})
	}
}

// identify gives messages the IDs that their sends returned, none of them twice.
func (c *checker) identify() {
	ids := map[string]*track{}
	for _, t := range c.tracks {
		if t.send.outcome != OK {
			continue
		}
		if len(t.send.IDs) != len(t.send.Sent) {
			c.violated("a send returned too few or too many IDs", c.l.line(t.send))
			continue
		}
		t.id = t.send.IDs[t.item]
		if other := ids[t.id]; other != nil {
			c.violated(fmt.Sprintf("ID %s was given twice, to %q and %q", t.id, other.body, t.body), c.l.excerpt(t, nil, nil)+c.l.excerpt(other, nil, nil))
		}
		ids[t.id] = t
	}
	owners := map[string]string{}
	for _, o := range c.ops {
		if o.outcome != OK {
			continue
		}
		for i := range o.Got {
			d := &o.Got[i]
			t := c.bodies[d.Body]
			if t == nil {
				continue
			}
			owner := d.Body
			if d.Origin != nil {
				owner += " (dead letter)"
			} else {
				if t.enqueued == 0 {
					t.enqueued = d.Enqueued
				}
				if t.id == "" {
					t.id = d.ID
				}
			}
			if other, ok := owners[d.ID]; ok && other != owner {
				c.violated(fmt.Sprintf("ID %s was shown with %s and with %s", d.ID, other, owner), c.l.excerpt(t, nil, nil))
			}
			owners[d.ID] = owner
		}
	}
}

// shown notes one message that a receive or a peek returned.
func (c *checker) shown(o *Op, i int, receipts map[string]*track) {
	d := &o.Got[i]
	t := c.bodies[d.Body]
	if t == nil || o.Queue != t.queue && o.Queue != t.target || (o.Queue == t.queue) != (d.Origin == nil) {
		c.violated(fmt.Sprintf("%q with ID %s was never sent to this queue", d.Body, d.ID), c.l.line(o))
		return
	}
	if t.send.call > o.ret {
		c.violated(fmt.Sprintf("%q was shown before it was sent", d.Body), c.l.line(o))
		return
	}
	if o.Verb == Receive {
		c.verdict.Deliveries++
		if receipts[d.Receipt] != nil || d.Receipt == "" {
			c.violated(fmt.Sprintf("receipt %q was given twice", d.Receipt), c.l.excerpt(t, o, nil))
			return
		}
		receipts[d.Receipt] = t
	}
	if i > 0 && o.Got[i-1].Enqueued > d.Enqueued {
		c.violated(fmt.Sprintf("%q was shown before %q, which is older", o.Got[i-1].Body, d.Body), c.l.excerpt(t, o, nil))
	}
	c.name(t, o, i)
}
