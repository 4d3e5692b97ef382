package spool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestGate: while the gate is shut sends wait, until it opens, their context ends or the spool closes; nobody else does.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bg := context.Background()
		s, err := OpenMemory(WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		q, err := s.CreateQueue(bg, "q", Meta{})
		if err != nil {
			t.Fatal(err)
		}
		s.gate.set(true)
		ctx, cancel := context.WithCancel(bg)
		time.AfterFunc(time.Minute, cancel)
		if _, err := q.Send(ctx, Message{Body: []byte("x")}); !errors.Is(err, context.Canceled) {
			t.Errorf("Send = %v, want the context's error", err)
		}
		time.AfterFunc(time.Minute, func() { s.gate.set(false) })
		if _, err := q.Send(bg, Message{Body: []byte("x")}); err != nil {
			t.Errorf("Send = %v", err)
		}
		s.gate.set(true)
		if d, err := q.Receive(bg); err != nil || d.Delete(bg) != nil {
			t.Errorf("Receive beside a closed gate = %v", err)
		}
		from := time.Now()
		time.AfterFunc(time.Minute, func() { s.Close() })
		if _, err := q.Send(bg, Message{Body: []byte("x")}); !errors.Is(err, ErrClosed) {
			t.Errorf("Send = %v, want ErrClosed", err)
		}
		if waited := time.Since(from); waited > time.Minute {
			t.Errorf("Send answered after %v, want at once when Close has come", waited)
		}
		s.Close()
		if s.gate.set(true); s.gate.closed.Load() != nil {
			t.Error("the gate was shut after Close: whoever comes late would wait for ever")
		}
	})
}
