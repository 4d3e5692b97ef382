package workload

import "context"

// most is how many producers a Backlog can have.
const most = 256

// A Backlog stores messages and gets them back, for what is measured by other means than a Load.
type Backlog struct{ run run }

// NewBacklog begins to keep book of a store, which is empty.
func NewBacklog(ctx context.Context, sys System, st Store, size int) *Backlog {
	b := &Backlog{}
	b.run.ctx, b.run.sys, b.run.st, b.run.load.Size = ctx, sys, st, size
	b.run.book = NewBook(most, size)
	return b
}

// Store sends n messages or a few more, in large batches if the system has them.
func (b *Backlog) Store(n int) error { return b.run.store(n) }

// StoreBy does it with so many producers, in batches of so many messages.
func (b *Backlog) StoreBy(n, producers, batch int) error {
	return b.run.storeBy(n, Load{Producers: producers, Batch: batch})
}

// Stored is how many messages were sent.
func (b *Backlog) Stored() int64 { return b.run.book.Sent() }

// ReadBack receives and deletes everything, and compares it with what was sent.
func (b *Backlog) ReadBack() error { return b.run.readBack() }

// Took checks off a message that was received and deleted elsewhere.
func (b *Backlog) Took(m Message) error {
	b.run.deleted.Add(1)
	return b.run.book.Take(m.Body)
}

// Reopened tells that the store was closed and opened again.
func (b *Backlog) Reopened(st Store) { b.run.st = st }

// Expect makes everything that was stored expected once more: the store has brought it back.
func (b *Backlog) Expect() {
	b.run.book.Again()
	b.run.deleted.Store(0)
}
