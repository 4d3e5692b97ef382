package spool_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
)

// The oldest Active message first, always: what comes back comes in its place of production.
func TestRuleOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Rewind: time.Hour, VisibilityTimeout: 10 * sec})
		start := time.Now()
		q.send("lapsed")
		q.receive("lapsed")
		q.send("delayed", 5*sec)
		q.sendDelete("deleted")
		q.send("released")
		d := q.receive("released")
		time.Sleep(sec)
		q.send("later")
		if err := d.Release(bg, 3*sec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * sec)
		q.rewind(start, 1)
		q.send("last")
		for _, body := range []string{"lapsed", "delayed", "deleted", "released", "later", "last"} {
			d := q.receive(body)
			want := start
			switch body {
			case "later":
				want = start.Add(sec)
			case "last":
				want = start.Add(10 * sec)
			}
			wantAt(t, "EnqueuedAt of "+body, d.EnqueuedAt, want)
		}
		q.none()
	})
}

func TestRulePeek(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{VisibilityTimeout: 10 * sec})
		if ds, err := q.Peek(bg, 1); len(ds) != 0 || err != nil {
			t.Errorf("Peek of nothing = %q, %v, want no messages and no error", bodiesOf(ds), err)
		}
		start := time.Now()
		id, err := q.Send(bg, spool.Message{Body: []byte("a"), Attributes: map[string]string{"k": "v"}})
		if err != nil {
			t.Fatal(err)
		}
		q.send("b")
		q.send("later", time.Hour)
		time.Sleep(sec)
		q.receive("a")
		if ds, _ := q.Peek(bg, 10); !reflect.DeepEqual(bodiesOf(ds), []string{"b"}) {
			t.Errorf("Peek = %q, want b", bodiesOf(ds))
		}
		time.Sleep(10 * sec)
		before := q.attributes()
		ds, err := q.Peek(bg, spool.MaxBatch)
		if err != nil || !reflect.DeepEqual(bodiesOf(ds), []string{"a", "b"}) {
			t.Fatalf("Peek = %q, %v, want a and b", bodiesOf(ds), err)
		}
		d := ds[0]
		if d.ID != id || d.Receives != 1 || d.Rewinds != 0 || d.Receipt != "" || !d.VisibleAt.IsZero() || d.Attributes["k"] != "v" {
			t.Errorf("Peek = %+v, want id %s, 1 receive, no receipt, no VisibleAt", d, id)
		}
		wantAt(t, "EnqueuedAt", d.EnqueuedAt, start)
		wantAt(t, "FirstReceivedAt", d.FirstReceivedAt, start.Add(sec))
		if ds[1].Receives != 0 || !ds[1].FirstReceivedAt.IsZero() {
			t.Errorf("Peek = %+v, want no receives", ds[1])
		}
		if ds, _ := q.Peek(bg, 1); len(ds) != 1 {
			t.Errorf("Peek(1) = %q, want one", bodiesOf(ds))
		}
		if after := q.attributes(); after != before {
			t.Errorf("Attributes after Peek = %+v, want %+v", after, before)
		}
		wantReason(t, "Delete of a peeked message", d.Delete(bg), spool.Malformed)
		if d := q.receive("a"); d.Receives != 2 {
			t.Errorf("Receives = %d, want 2", d.Receives)
		}
	})
}

func TestRuleDeliveriesDrain(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{PollingWait: time.Hour})
		for _, body := range []string{"a", "b", "c", "d"} {
			q.send(body)
		}
		var got []string
		deliveries := q.Deliveries(bg, spool.Wait(0), spool.Visibility(time.Hour))
		for d, err := range deliveries {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(d.Body))
			q.counts(int64(4-len(got)), 1, 0, 0) // nothing is received ahead of the loop's body
			if d.VisibleAt.Before(time.Now().Add(time.Minute)) {
				t.Errorf("VisibleAt = %v, want an hour", d.VisibleAt)
			}
			if q.delete(d); len(got) == 2 {
				break
			}
		}
		q.counts(2, 0, 0, 0)
		for d, err := range deliveries { // it may be ranged over again
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(d.Body))
			q.delete(d)
		}
		if want := []string{"a", "b", "c", "d"}; !reflect.DeepEqual(got, want) {
			t.Errorf("Deliveries = %q, want %q", got, want)
		}
	})
}

func TestRuleDeliveriesEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{PollingWait: sec})
		type end struct {
			bodies []string
			errs   []error
			at     time.Time
		}
		loop := func(ctx context.Context, opts ...spool.ReceiveOption) <-chan end {
			ends := make(chan end, 1)
			go func() {
				var e end
				for d, err := range q.Deliveries(ctx, opts...) {
					if err != nil {
						e.errs = append(e.errs, err)
						continue
					}
					e.bodies = append(e.bodies, string(d.Body))
					if err := d.Delete(bg); err != nil {
						t.Errorf("Delete = %v", err)
					}
				}
				e.at = time.Now()
				ends <- e
			}()
			synctest.Wait()
			return ends
		}
		want := func(e end, err error, at time.Time, bodies ...string) {
			t.Helper()
			if !reflect.DeepEqual(e.bodies, bodies) || err == nil && len(e.errs) != 0 ||
				err != nil && (len(e.errs) != 1 || !errors.Is(e.errs[0], err)) {
				t.Errorf("Deliveries = %q, %v, want %q and %v", e.bodies, e.errs, bodies, err)
			}
			wantSoon(t, "end of Deliveries", e.at, at)
		}
		start := time.Now()
		ctx, cancel := context.WithCancel(bg)
		ends := loop(ctx)
		time.Sleep(time.Hour)
		q.send("a")
		time.Sleep(time.Hour)
		q.send("b", time.Minute)
		time.Sleep(time.Hour)
		cancel()
		want(<-ends, nil, start.Add(3*time.Hour), "a", "b")
		q.send("c")
		want(<-loop(ctx), nil, start.Add(3*time.Hour))

		start = time.Now()
		ends = loop(bg, spool.Wait(5*sec))
		time.Sleep(3 * sec)
		q.send("d")
		want(<-ends, nil, start.Add(8*sec), "c", "d")

		ends = loop(bg)
		start = time.Now()
		if err := s.DeleteQueue(bg, "q"); err != nil {
			t.Fatal(err)
		}
		want(<-ends, spool.ErrQueueNotFound, start)
		q = s.create("q", spool.Meta{})
		ends = loop(bg)
		s.close()
		want(<-ends, spool.ErrClosed, start)
		want(<-loop(ctx), spool.ErrClosed, start) // what comes before the context's error does so here too
	})
}
