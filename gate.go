package spool

import (
	"context"
	"sync"
	"sync/atomic"
)

// A gate holds sends back while most of the log is garbage, so that the cleaner catches up. The zero gate is open.
type gate struct {
	closed atomic.Pointer[chan struct{}] // nil while the gate is open; closed when it opens

	mu    sync.Mutex
	ended bool // guarded by mu; it stays open
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.closed.Load()
	switch {
	case shut && at == nil && !g.ended:
		ch := make(chan struct{})
		g.closed.Store(&ch)
	case !shut && at != nil:
		g.closed.Store(nil)
		close(*at)
	}
}

// end opens the gate for good.
func (g *gate) end() {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.set(false)
}

// pass waits until the gate is open, or returns the context's error.
func (g *gate) pass(ctx context.Context) error {
	for at := g.closed.Load(); at != nil; at = g.closed.Load() {
		select {
		case <-*at:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
