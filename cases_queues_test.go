package spool_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

func TestCase47DeletedQueue(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		old := s.create("q", spool.Meta{Rewind: time.Hour})
		old.sendDelete("rewindable")
		old.send("m")
		d := old.receive("m")
		old.send("left")
		wantErr(t, "DeleteQueue", s.DeleteQueue(bg, "other"), spool.ErrQueueNotFound)
		answers := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(bg, 10*sec)
			defer cancel()
			for {
				if _, err := old.Receive(ctx, spool.Wait(time.Hour)); err != nil {
					answers <- err
					return
				}
			}
		}()
		if err := s.DeleteQueue(bg, "q"); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "a blocked Receive", <-answers, spool.ErrQueueNotFound)
		wantErr(t, "DeleteQueue again", s.DeleteQueue(bg, "q"), spool.ErrQueueNotFound)
		for _, name := range []string{"q", "Q"} { // a new queue shares nothing with the old one
			q := s.create(name, spool.Meta{Rewind: time.Hour})
			q.counts(0, 0, 0, 0)
			q.none()
			if a := q.attributes(); a.Sent != 0 || a.Received != 0 || a.Deleted != 0 {
				t.Errorf("Attributes of a new queue = %+v, want nothing counted", a)
			}
			q.refused(d.Receipt, spool.WrongQueue)
			q.send("new")
			_, err := old.Send(bg, spool.Message{Body: []byte("x")})
			wantErr(t, "Send to the old queue", err, spool.ErrQueueNotFound)
			_, err = old.Receive(bg)
			wantErr(t, "Receive from the old queue", err, spool.ErrQueueNotFound)
			wantErr(t, "Delete in the old queue", d.Delete(bg), spool.ErrQueueNotFound)
			_, err = old.Attributes(bg)
			wantErr(t, "Attributes of the old queue", err, spool.ErrQueueNotFound)
			_, _, err = old.RewindRange()
			wantErr(t, "RewindRange of the old queue", err, spool.ErrQueueNotFound)
			q.counts(1, 0, 0, 0)
			if err := s.DeleteQueue(bg, name); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestCase47RecreatedQueueAfterReopening(t *testing.T) {
	onDisks(t, func(t *testing.T, reopen func() *caseSpool) {
		s := reopen()
		old := s.create("q", spool.Meta{Rewind: time.Hour})
		start := old.attributes().CreatedAt
		old.sendDelete("rewindable")
		old.send("m")
		d := old.receive("m")
		if err := s.DeleteQueue(bg, "q"); err != nil {
			t.Fatal(err)
		}
		s.create("q", spool.Meta{Rewind: time.Hour})
		q := reopen().get("q")
		q.counts(0, 0, 0, 0)
		q.refused(d.Receipt, spool.WrongQueue)
		q.rewind(q.attributes().CreatedAt, 0)
		if at := q.attributes().CreatedAt; at.Before(start) {
			t.Errorf("CreatedAt = %v, want that of the new queue", at)
		}
	})
}

// OpenQueue opens what is there and creates what is not, also when many do it at the same time.
func TestRuleOpenQueue(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		var all sync.WaitGroup
		var created atomic.Int64
		for i := range 8 {
			all.Go(func() {
				q, err := s.OpenQueue(bg, "opened", spool.Meta{MaxMessages: int64(i + 1)})
				if err != nil {
					t.Errorf("OpenQueue = %v", err)
					return
				}
				if _, err := q.Send(bg, spool.Message{Body: []byte("m"), Delay: spool.NoDelay}); err != nil {
					wantErr(t, "Send", err, spool.ErrQueueFull)
				}
			})
			all.Go(func() {
				if _, err := s.CreateQueue(bg, "created", spool.Meta{}); err == nil {
					created.Add(1)
				} else {
					wantErr(t, "CreateQueue", err, spool.ErrQueueExists)
				}
			})
		}
		all.Wait()
		if a := s.get("opened").attributes(); a.Active != min(8, a.MaxMessages) {
			t.Errorf("Active = %d of MaxMessages %d, want all queues to be one", a.Active, a.MaxMessages)
		}
		if created.Load() != 1 || len(s.Queues()) != 2 {
			t.Errorf("created %d times, %d queues, want 1 and 2", created.Load(), len(s.Queues()))
		}
		was := s.get("created").Meta()
		_, err := s.OpenQueue(bg, "created", spool.Meta{Delay: -1})
		wantArgument(t, "OpenQueue of a queue that is there with a bad Meta", err)
		q, err := s.OpenQueue(bg, "created", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: "none", MaxReceives: 1}})
		if err != nil || q.Meta() != was {
			t.Errorf("OpenQueue of a queue that is there = %v, want it with the Meta that it has", err)
		}
	})
}

// Many queues, created, used, dropped and reopened; the names that are left are those that were not dropped.
func TestRuleManyQueues(t *testing.T) {
	onDisks(t, func(t *testing.T, reopen func() *caseSpool) {
		const n = 200
		s := reopen()
		var all sync.WaitGroup
		for part := range 4 {
			all.Go(func() {
				for i := part; i < n; i += 4 {
					q := s.create(fmt.Sprintf("q%03d", i), spool.Meta{MaxMessages: int64(i + 1)})
					q.send(q.Name())
					if i%3 != 0 {
						continue
					}
					if err := s.DeleteQueue(bg, q.Name()); err != nil {
						t.Errorf("DeleteQueue = %v", err)
					}
				}
			})
		}
		all.Wait()
		for range 2 {
			s = reopen()
			queues := s.Queues()
			for i := range n {
				if i%3 == 0 {
					_, err := s.Spool.Queue(fmt.Sprintf("q%03d", i))
					wantErr(t, "Queue", err, spool.ErrQueueNotFound)
					continue
				}
				q := &caseQueue{queues[0], t}
				if queues = queues[1:]; q.Name() != fmt.Sprintf("q%03d", i) || q.Meta().MaxMessages != int64(i+1) {
					t.Fatalf("Queues has %s with %+v, want q%03d", q.Name(), q.Meta(), i)
				}
				if err := q.receive(q.Name()).Release(bg, 0); err != nil {
					t.Fatal(err)
				}
			}
			if len(queues) > 0 {
				t.Errorf("Queues has %d more", len(queues))
			}
		}
	})
}

// A queue that is dropped while it is used: every call succeeds or says so, and the name is free.
func TestRuleDropUnderUse(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		dead, rounds := s.create("dead", spool.Meta{}), 4
		if strings.HasSuffix(t.Name(), "/memory") {
			rounds = 20
		}
		for range rounds {
			q := s.create("q", spool.Meta{Rewind: time.Hour, DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 1}})
			start := q.attributes().CreatedAt
			var all sync.WaitGroup
			use := func(call func() error) {
				all.Go(func() {
					for {
						err := call()
						if errors.Is(err, spool.ErrQueueNotFound) {
							return
						}
						if err != nil && !errors.Is(err, spool.ErrNoMessage) && !errors.Is(err, spool.ErrInvalidReceipt) {
							t.Errorf("a call beside DeleteQueue = %v", err)
							return
						}
					}
				})
			}
			use(func() error { _, err := q.Send(bg, spool.Message{Body: []byte("m")}); return err })
			use(func() error {
				d, err := q.Receive(bg, spool.Wait(time.Hour))
				if err != nil {
					return err
				}
				return d.Delete(bg)
			})
			use(func() error {
				ds, err := q.ReceiveBatch(bg, 10, spool.Wait(time.Hour))
				if err != nil {
					return err
				}
				return ds[0].Release(bg, 0)
			})
			use(func() error { _, err := q.Attributes(bg); return err })
			use(func() error { _, err := q.Rewind(bg, start); return err })
			for q.attributes().Received < 20 {
				runtime.Gosched()
			}
			if err := s.DeleteQueue(bg, "q"); err != nil {
				t.Fatal(err)
			}
			all.Wait()
			if t.Failed() {
				return
			}
		}
		a := dead.attributes()
		if a.Inactive != 0 || a.Sent != 0 {
			t.Errorf("Attributes of the dead-letter queue = %+v, want arrivals only", a)
		}
	})
}
