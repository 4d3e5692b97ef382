package systems

import (
	"context"
	"slices"
	"sync"
)

// A bell wakes receivers of systems that store, but do not wake anybody. Who wants a message joins, looks for one, and
// leaves or waits: what is sent after the look rings.
type bell struct {
	mu      sync.Mutex
	waiters []waiter // guarded by mu
}

type waiter chan struct{} // holds one

func (b *bell) join() waiter {
	w := make(waiter, 1)
	b.mu.Lock()
	b.waiters = append(b.waiters, w)
	b.mu.Unlock()
	return w
}

// leave takes a waiter off the list. If it was rung for meanwhile, somebody else is.
func (b *bell) leave(w waiter) {
	b.mu.Lock()
	b.waiters = slices.DeleteFunc(b.waiters, func(o waiter) bool { return o == w })
	b.mu.Unlock()
	select {
	case <-w:
		b.ring(1)
	default:
	}
}

// ring wakes n waiters, those who came first.
func (b *bell) ring(n int) {
	b.mu.Lock()
	n = min(n, len(b.waiters))
	for _, w := range b.waiters[:n] {
		w <- struct{}{}
	}
	b.waiters = slices.Delete(b.waiters, 0, n)
	b.mu.Unlock()
}

func (b *bell) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiters)
}

// A ready list hands out numbers in the order in which they came, and lets receivers wait for them.
type ready struct {
	bell
	mu      sync.Mutex
	numbers []uint64 // guarded by mu
}

func (r *ready) put(numbers ...uint64) {
	r.mu.Lock()
	r.numbers = append(r.numbers, numbers...)
	r.mu.Unlock()
	r.ring(len(numbers))
}

// take waits until there is a number and returns up to most of them.
func (r *ready) take(ctx context.Context, most int) ([]uint64, error) {
	if taken := r.look(most); taken != nil {
		return taken, nil
	}
	for {
		w := r.join()
		if taken := r.look(most); taken != nil {
			r.leave(w)
			return taken, nil
		}
		select {
		case <-w:
		case <-ctx.Done():
			r.leave(w)
			return nil, ctx.Err()
		}
	}
}

func (r *ready) look(most int) []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(most, len(r.numbers))
	if n == 0 {
		return nil
	}
	taken := slices.Clone(r.numbers[:n])
	r.numbers = r.numbers[n:]
	return taken
}
