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

// TestSendAfterSetMeta: a send that began before a change of the settings and stores its messages after it keeps to the new
// ones.
func TestSendAfterSetMeta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bg := context.Background()
		s, err := OpenMemory(WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		q, err := s.CreateQueue(bg, "q", Meta{Delay: time.Hour, Retention: 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		between := func(body int, delay time.Duration, meta Meta) (one, batch error) {
			s.gate.set(true)
			m := Message{Body: make([]byte, body), Delay: delay}
			ended := make(chan struct{}, 2)
			go func() { _, one = q.Send(bg, m); ended <- struct{}{} }()
			go func() { _, batch = q.SendBatch(bg, []Message{{Body: []byte("x")}, m}); ended <- struct{}{} }()
			synctest.Wait()
			if err := q.SetMeta(bg, func(m *Meta) { *m = meta }); err != nil {
				t.Error(err)
			}
			s.gate.set(false)
			<-ended
			<-ended
			return one, batch
		}
		one, batch := between(1, 0, Meta{Delay: time.Minute})
		a, err := q.Attributes(bg)
		if one != nil || batch != nil || err != nil || a.Delayed != 3 || !a.NextDue.Equal(time.Now().Add(time.Minute)) {
			t.Errorf("Send, SendBatch = %v, %v; %d delayed, the first until %v, %v; want 3 with the new delay of a minute", one, batch, a.Delayed, a.NextDue, err)
		}
		one, batch = between(2048, NoDelay, Meta{MaxMessageSize: 1024})
		if !errors.Is(one, ErrMessageTooLarge) || !errors.Is(batch, ErrMessageTooLarge) {
			t.Errorf("Send, SendBatch = %v, %v, want ErrMessageTooLarge", one, batch)
		}
		one, batch = between(1, 2*time.Hour, Meta{Retention: time.Hour})
		if !errors.Is(one, ErrInvalidArgument) || !errors.Is(batch, ErrInvalidArgument) {
			t.Errorf("Send, SendBatch = %v, %v, want ErrInvalidArgument", one, batch)
		}
		if a, err := q.Attributes(bg); err != nil || a.Sent != 3 {
			t.Errorf("%d messages sent, %v, want 3", a.Sent, err)
		}
	})
}

// TestGatesOfAStoppedSpool: who waits for the cleaner, or for memory, when the store fails is told so at once, and nobody
// waits there later.
func TestGatesOfAStoppedSpool(t *testing.T) {
	for name, of := range map[string]func(*Spool) *gate{
		"cleaner": func(s *Spool) *gate { return &s.gate }, "memory": func(s *Spool) *gate { return &s.pager.gate },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := OpenMemory(WithoutPaging)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				q, err := s.CreateQueue(t.Context(), "q", Meta{})
				if err != nil {
					t.Fatal(err)
				}
				g := of(s)
				g.set(true)
				time.AfterFunc(time.Minute, func() { s.commit.Fail(errors.New("the disk is gone")) })
				time.AfterFunc(time.Hour, func() { g.set(false) })
				from := time.Now()
				if _, err := q.Send(t.Context(), Message{Body: []byte("x")}); !errors.Is(err, ErrStoreFailed) || time.Since(from) > time.Minute {
					t.Errorf("Send = %v after %v, want ErrStoreFailed when the store fails", err, time.Since(from))
				}
				if g.set(true); g.closed.Load() != nil {
					t.Error("the gate was shut after the failure")
				}
			})
		})
	}
}

// TestNothingOfADeletedQueueStays: the clock forgets a queue that is deleted, and the pager what a queue took that is deleted
// or at rest.
func TestNothingOfADeletedQueueStays(t *testing.T) {
	s, err := OpenMemory(WithoutPaging)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	for _, name := range []string{"deleted", "rests"} {
		s.pager.grain = tellGrain
		q, err := s.CreateQueue(ctx, name, Meta{})
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			if _, err := q.Send(ctx, Message{Body: []byte("x"), Delay: time.Hour}); err != nil {
				t.Fatal(err)
			}
		}
		if s.pager.used.Load() == 0 {
			t.Fatal("the pager knows of nothing")
		}
		s.pager.grain = 1 << 30 // it is not told of so little
		if name == "deleted" {
			err = s.DeleteQueue(ctx, name)
		} else {
			err = q.Purge(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		s.restIdle()
		if n := s.pager.used.Load(); n != 0 {
			t.Errorf("%s: the pager counts %d bytes, want 0", name, n)
		}
		s.clock.mu.Lock()
		if n := len(s.clock.queue); name == "deleted" && n > 0 {
			t.Errorf("%s: the clock has %d queues, want none", name, n)
		}
		s.clock.mu.Unlock()
	}
}
