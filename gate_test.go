package spool

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestGate(t *testing.T) {
	s := cleanOpen(t, t.TempDir())
	q := cleanQueue(t, s, "q", cleanMeta)
	s.gate.set(true)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := q.Send(ctx, Message{Body: []byte("x")}); !errors.Is(err, context.Canceled) {
		t.Errorf("Send = %v, want the context's error", err)
	}
	time.AfterFunc(20*time.Millisecond, func() { s.gate.set(false) })
	if _, err := q.Send(context.Background(), Message{Body: []byte("x")}); err != nil {
		t.Errorf("Send = %v", err)
	}
	s.gate.set(true)
	if d, err := q.Receive(context.Background()); err != nil || d.Delete(context.Background()) != nil {
		t.Errorf("Receive beside a closed gate = %v", err)
	}
	time.AfterFunc(20*time.Millisecond, func() { s.Close() })
	if _, err := q.Send(context.Background(), Message{Body: []byte("x")}); !errors.Is(err, ErrClosed) {
		t.Errorf("Send = %v, want ErrClosed", err)
	}
}
