package store

// Kill points of a committer. They are reached once a frame, or once a sync, with no lock held.
const (
	stepClosed  = "commit:closed"  // a group takes no more records, and nothing of it is in the log
	stepWritten = "commit:written" // its frame is in the log, nobody knows
	stepSynced  = "commit:synced"  // everything that was written is durable, nobody knows
	stepShown   = "commit:shown"   // messages can be received, their senders do not know
)

// Steps returns the names with which CommitterOptions.Step can be called.
func Steps() []string { return []string{stepClosed, stepWritten, stepSynced, stepShown} }

func (c *Committer) at(name string) {
	if c.step != nil {
		c.step(name)
	}
}
