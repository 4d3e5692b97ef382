package spool

import (
	"context"
	"sync"
	"sync/atomic"
)

// closing is set in life.calls when the spool refuses new calls.
const closing = 1 << 62

// A life counts the calls under way, and ends when Close has come and the last of them has gone.
type life struct {
	calls   atomic.Int64
	failed  atomic.Pointer[error] // why every call is refused; set once
	idle    chan struct{}         // closed when Close has come and no call is under way
	once    sync.Once
	endOnce sync.Once
	closed  chan struct{} // closed when Close is done
	err     error         // what Close returns; written before closed is closed
}

// fail makes every later call answer err.
func (l *life) fail(err error) { l.failed.CompareAndSwap(nil, &err) }

// enter begins a call; leave must follow when it returns nil.
func (s *Spool) enter(ctx context.Context) error {
	err := ctx.Err() // before the call counts: a nil context panics here, and Close must not wait for that call for ever
	if s.life.calls.Add(1) >= closing {
		s.leave()
		return ErrClosed
	}
	if failed := s.life.failed.Load(); err == nil && failed != nil {
		err = *failed
	}
	if err != nil {
		s.leave()
	}
	return err
}

// refusal says why no call may begin to wait, or nil.
func (s *Spool) refusal() error {
	if s.life.calls.Load() >= closing {
		return ErrClosed
	}
	return s.broken()
}

// broken says why the spool has stopped, or nil.
func (s *Spool) broken() error {
	if failed := s.life.failed.Load(); failed != nil {
		return *failed
	}
	return s.failure(s.commit.Err())
}

func (s *Spool) leave() {
	if s.life.calls.Add(-1) == closing {
		s.life.end()
	}
}

// end tells that Close has come and no call is under way. A call that comes late and is refused may tell so again.
func (l *life) end() {
	select {
	case <-l.idle:
	default:
		l.endOnce.Do(func() { close(l.idle) })
	}
}

// Close ends the spool: receivers that wait get ErrClosed, calls under way are let finish, everything is made stable, and
// no goroutine is left. Calls after it answer ErrClosed. A second Close waits for the first and returns the same.
func (s *Spool) Close() error {
	s.life.once.Do(s.close)
	<-s.life.closed
	return s.life.err
}

// close is a list of steps; after any of them the directory opens again, with everything that was acknowledged.
func (s *Spool) close() {
	defer close(s.life.closed)
	if s.life.calls.Add(closing) == closing {
		s.life.end()
	}
	s.gate.end()
	s.pager.gate.end()
	s.failWaiters(ErrClosed)
	<-s.life.idle
	s.clock.close()
	s.worker.close()
	err := s.keeper.close()
	if e := s.disk.Close(); err == nil {
		err = e
	}
	if failed := s.life.failed.Load(); failed != nil {
		err = *failed
	}
	s.life.err = storeError(err)
}
