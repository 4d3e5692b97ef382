package spool_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

// ErrClosed, then the context's error, then ErrQueueNotFound, then arguments. A context already done means no effect.
func TestRulePrecedence(t *testing.T) {
	done, cancel := context.WithCancel(bg)
	cancel()
	type verb struct {
		name string
		call func(q *spool.Queue, ctx context.Context) error
	}
	bad := []verb{ // every one with a bad argument
		{"Send", func(q *spool.Queue, ctx context.Context) error { _, err := q.Send(ctx, spool.Message{}); return err }},
		{"SendBatch", func(q *spool.Queue, ctx context.Context) error { _, err := q.SendBatch(ctx, nil); return err }},
		{"Receive", func(q *spool.Queue, ctx context.Context) error {
			_, err := q.Receive(ctx, spool.Wait(-1))
			return err
		}},
		{"ReceiveBatch", func(q *spool.Queue, ctx context.Context) error { _, err := q.ReceiveBatch(ctx, 0); return err }},
		{"Peek", func(q *spool.Queue, ctx context.Context) error { _, err := q.Peek(ctx, 0); return err }},
		{"Delete", func(q *spool.Queue, ctx context.Context) error { return q.Delete(ctx, "") }},
		{"DeleteBatch", func(q *spool.Queue, ctx context.Context) error { return q.DeleteBatch(ctx, nil) }},
		{"ChangeVisibility", func(q *spool.Queue, ctx context.Context) error { return q.ChangeVisibility(ctx, "", -1) }},
		{"Rewind", func(q *spool.Queue, ctx context.Context) error { _, err := q.Rewind(ctx, time.Time{}); return err }},
		{"RewindPreview", func(q *spool.Queue, ctx context.Context) error {
			_, err := q.RewindPreview(ctx, time.Time{})
			return err
		}},
		{"SetMeta", func(q *spool.Queue, ctx context.Context) error {
			return q.SetMeta(ctx, func(m *spool.Meta) { m.Delay = -1 })
		}},
	}
	all := append([]verb{
		{"Purge", func(q *spool.Queue, ctx context.Context) error { return q.Purge(ctx) }},
		{"Attributes", func(q *spool.Queue, ctx context.Context) error { _, err := q.Attributes(ctx); return err }},
	}, bad...)
	onEach(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Rewind: time.Hour})
		q.send("m")
		before := q.attributes()
		for _, v := range all {
			if err := v.call(q.Queue, done); err != context.Canceled {
				t.Errorf("%s with a done context = %v, want context.Canceled as it is", v.name, err)
			}
		}
		if after := q.attributes(); after != before {
			t.Errorf("Attributes after calls with a done context = %+v, want %+v", after, before)
		}
		for _, v := range bad {
			err := v.call(q.Queue, bg)
			if errors.Is(err, context.Canceled) || spool.CodeOf(err) != 4000 && !errors.Is(err, spool.ErrInvalidReceipt) {
				t.Errorf("%s with a bad argument = %v, want it refused for that", v.name, err)
			}
		}
		if err := s.DeleteQueue(bg, "q"); err != nil {
			t.Fatal(err)
		}
		for _, v := range all {
			if err := v.call(q.Queue, done); err != context.Canceled {
				t.Errorf("%s of a deleted queue with a done context = %v, want context.Canceled", v.name, err)
			}
			wantErr(t, v.name+" of a deleted queue", v.call(q.Queue, bg), spool.ErrQueueNotFound)
		}
		s.close()
		for _, v := range all {
			wantErr(t, v.name+" after Close", v.call(q.Queue, bg), spool.ErrClosed)
			wantErr(t, v.name+" after Close with a done context", v.call(q.Queue, done), spool.ErrClosed)
		}
	})
}

// TestRulePrecedenceOfDeliveries: a delivery of Peek knows its queue, and a zero one the context.
func TestRulePrecedenceOfDeliveries(t *testing.T) {
	done, cancel := context.WithCancel(bg)
	cancel()
	verbs := func(d *spool.Delivery, ctx context.Context) map[string]error {
		return map[string]error{"Delete": d.Delete(ctx), "Extend": d.Extend(ctx, sec), "Extend by 0": d.Extend(ctx, 0),
			"Release": d.Release(ctx, 0)}
	}
	onEach(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		q.send("m")
		ds, err := q.Peek(bg, 1)
		if err != nil || len(ds) != 1 {
			t.Fatalf("Peek = %d messages, %v, want 1", len(ds), err)
		}
		for name, d := range map[string]*spool.Delivery{"a peeked": ds[0], "a zero": {}} {
			for verb, err := range verbs(d, done) {
				wantErr(t, verb+" of "+name+" delivery with a done context", err, context.Canceled)
			}
			for verb, err := range verbs(d, bg) {
				wantReason(t, verb+" of "+name+" delivery", err, spool.Malformed)
			}
		}
		q.counts(1, 0, 0, 0)
		if err := s.DeleteQueue(bg, "q"); err != nil {
			t.Fatal(err)
		}
		for verb, err := range verbs(ds[0], bg) {
			wantErr(t, verb+" of a peeked delivery of a deleted queue", err, spool.ErrQueueNotFound)
		}
		s.close()
		for verb, err := range verbs(ds[0], done) {
			wantErr(t, verb+" of a peeked delivery after Close", err, spool.ErrClosed)
		}
	})
}

func TestRuleDoneContextOfTheSpool(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		s.create("q", spool.Meta{})
		done, cancel := context.WithTimeout(bg, 0)
		defer cancel()
		want := func(what string, err, want error) {
			t.Helper()
			wantErr(t, what, err, want)
		}
		_, err := s.CreateQueue(done, "1", spool.Meta{})
		want("CreateQueue", err, context.DeadlineExceeded)
		_, err = s.OpenQueue(done, "new", spool.Meta{})
		want("OpenQueue", err, context.DeadlineExceeded)
		want("DeleteQueue", s.DeleteQueue(done, "q"), context.DeadlineExceeded)
		want("Sync", s.Sync(done), context.DeadlineExceeded)
		want("DeleteQueue", s.DeleteQueue(bg, "new"), spool.ErrQueueNotFound)
		want("Sync", s.Sync(bg), nil)
		if n := len(s.Queues()); n != 1 {
			t.Errorf("Queues = %d, want 1", n)
		}
		s.close()
		_, err = s.CreateQueue(done, "1", spool.Meta{})
		want("CreateQueue", err, spool.ErrClosed)
		_, err = s.OpenQueue(done, "q", spool.Meta{})
		want("OpenQueue", err, spool.ErrClosed)
		_, err = s.Spool.Queue("q")
		want("Queue", err, spool.ErrClosed)
		want("DeleteQueue", s.DeleteQueue(done, "q"), spool.ErrClosed)
		want("Sync", s.Sync(done), spool.ErrClosed)
	})
}
