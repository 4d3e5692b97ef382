package workload

import "context"

// most is how many producers a Backlog can have.
const most = 256

// A Backlog stores messages and gets them back, for what is measured by other means than a Load.
type Backlog struct{ run run }

// NewBacklog opens a system, which holds nothing, and begins to keep book of it.
func NewBacklog(ctx context.Context, sys System, dir string, size int) (*Backlog, error) {
	st, err := sys.Open(dir)
	if err != nil {
		return nil, err
	}
	return &Backlog{run{ctx: ctx, sys: sys, dir: dir, st: st, load: Load{Size: size}, book: NewBook(most, size)}}, nil
}

// Open is the store.
func (b *Backlog) Open() Store { return b.run.st }

// Close closes the store.
func (b *Backlog) Close() error { return b.run.st.Close() }

// Store sends n messages or a few more, fewer if the system's Bound passes, in large batches if the system has them.
func (b *Backlog) Store(n int) error { return b.run.store(n) }

// StoreBy does it with so many producers, at most 256, in batches of so many messages.
func (b *Backlog) StoreBy(n, producers, batch int) error {
	return b.run.storeBy(n, Load{Producers: producers, Batch: batch}, b.run.sys.Bound)
}

// Stored is how many messages were sent.
func (b *Backlog) Stored() int64 { return b.run.book.Sent() }

// ReadBack receives and deletes everything, and compares it with what was sent.
func (b *Backlog) ReadBack() error { return b.run.readBack() }

// Took checks off a message that was received and deleted by other means.
func (b *Backlog) Took(body []byte) error {
	b.run.deleted.Add(1)
	return b.run.book.Take(body)
}

// Expect makes everything that was stored expected once more: the store has brought it back.
func (b *Backlog) Expect() {
	b.run.book.Again()
	b.run.deleted.Store(0)
}
