package spool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/spoolmq/spool"
)

// The scripts of TestInject, by number. A script prints what it was told, one word and a body a line; of several lines about
// a body the last one counts.
//
//	sent     it is in one of the queues
//	deleted  it is not active in any
//	maybe    nothing is known
//	dir      not of a body: the spool is there now
var injectScripts = []func(*injection){injectTraffic, injectQueues, injectCleaning}

// An injection is a script that runs in a process of which a system call fails.
type injection struct {
	dir    string
	s      *spool.Spool
	rng    *rand.Rand
	n      int
	bodies map[string][]string // deleted and perhaps to be brought back, by queue
	sent   map[string][]string // in the queue, by all that is known
	lie    bool                // an unknown outcome is taken for success
}

func injectChild() {
	defer fmt.Println("done .")
	in := &injection{dir: os.Getenv("SPOOL_TEST_DIR"), rng: rand.New(rand.NewPCG(1, 1)), bodies: map[string][]string{}, sent: map[string][]string{},
		lie: os.Getenv("SPOOL_TEST_LIE") == "true"}
	var number int
	if _, err := fmt.Sscan(os.Getenv("SPOOL_TEST_SCRIPT"), &number); err != nil {
		panic(err)
	}
	if in.open() {
		injectScripts[number-1](in)
	}
	if in.s != nil {
		in.s.Close()
	}
}

func (in *injection) open() bool {
	s, err := spool.Open(in.dir, spool.WithSizes(16<<10, 8<<10))
	in.s = s
	return err == nil
}

// told prints what is known of a body after a call that was to make it so.
func (in *injection) told(word, body string, err error) {
	switch {
	case err == nil, in.lie && errors.Is(err, spool.ErrStoreFailed):
		fmt.Println(word, body)
	case errors.Is(err, spool.ErrStoreFailed):
		fmt.Println("maybe", body)
	}
}

func (in *injection) queue(name string, m spool.Meta) *spool.Queue {
	q, err := in.s.OpenQueue(context.Background(), name, m)
	if err != nil {
		return nil
	}
	return q
}

func (in *injection) send(q *spool.Queue, size int) {
	in.n++
	body := fmt.Sprintf("m%d-%0*d", in.n, in.rng.IntN(size), 0)
	_, err := q.Send(context.Background(), spool.Message{Body: []byte(body)})
	in.told("sent", body, err)
	if err == nil {
		in.sent[q.Name()] = append(in.sent[q.Name()], body)
	}
}

func (in *injection) delete(q *spool.Queue) {
	d, err := q.Receive(context.Background())
	if err != nil {
		return
	}
	err = d.Delete(context.Background())
	in.told("deleted", string(d.Body), err)
	if err == nil {
		in.bodies[q.Name()] = append(in.bodies[q.Name()], string(d.Body))
	}
}

// all prints of all that a queue has had, before a call that takes it all away or brings it back, that nothing is known,
// and afterwards what is.
func (in *injection) all(q *spool.Queue, word string, call func() error) {
	bodies := in.bodies[q.Name()]
	if word == "deleted" {
		bodies = append(bodies, in.sent[q.Name()]...)
	}
	for _, body := range bodies {
		fmt.Println("maybe", body)
	}
	if call() == nil {
		for _, body := range bodies {
			fmt.Println(word, body)
		}
	}
	delete(in.bodies, q.Name())
	if word == "deleted" {
		delete(in.sent, q.Name())
	}
}

// injectTraffic sends, receives and deletes.
func injectTraffic(in *injection) {
	q := in.queue("q", spool.Meta{VisibilityTimeout: time.Hour})
	if q == nil {
		return
	}
	for range 200 {
		if in.rng.IntN(2) == 0 {
			in.send(q, 400)
		} else {
			in.delete(q)
		}
	}
}

// injectQueues makes and ends queues, changes, purges and rewinds them, with a checkpoint every few operations, so that the
// index and the log's segments change all the time.
func injectQueues(in *injection) {
	ctx := context.Background()
	for i := range 200 {
		q := in.queue([]string{"a", "b", "c"}[in.rng.IntN(3)], spool.Meta{VisibilityTimeout: time.Hour, Rewind: time.Hour})
		if q == nil {
			continue
		}
		switch what := in.rng.IntN(20); {
		case what < 8:
			in.send(q, 1500)
		case what < 14:
			in.delete(q)
		case what < 15:
			in.all(q, "deleted", func() error { return in.s.DeleteQueue(ctx, q.Name()) })
		case what < 16:
			in.all(q, "deleted", func() error { return q.Purge(ctx) })
		case what < 18:
			in.all(q, "sent", func() error {
				from, _, err := q.RewindRange()
				if err == nil {
					_, err = q.Rewind(ctx, from.Add(time.Minute))
				}
				return err
			})
		default:
			// Whether it succeeds decides about no message; the queue is asked for it again later.
			_ = q.SetMeta(ctx, func(m *spool.Meta) { m.MaxMessages = int64(1000 + i) })
		}
		if i%10 == 9 {
			_ = in.s.Checkpoint() // a cache
		}
	}
}

// injectCleaning copies what lives out of the first segments again and again, moves dead letters, and opens the spool again,
// once after a repair.
func injectCleaning(in *injection) {
	for i := range 200 {
		dead := in.queue("dead", spool.Meta{VisibilityTimeout: time.Hour})
		if dead == nil {
			continue
		}
		q := in.queue("q", spool.Meta{VisibilityTimeout: time.Hour, DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 1}})
		if q == nil {
			continue
		}
		switch what := in.rng.IntN(20); {
		case what < 9:
			in.send(q, 1500)
		case what < 13:
			in.delete(q)
		case what < 17:
			if d, err := q.Receive(context.Background()); err == nil {
				_ = d.Release(context.Background(), 0) // it moves, or stays leased
			}
		default:
			in.delete(dead)
		}
		if i%10 == 9 {
			_ = in.s.Clean() // what it copies is there before and after
		}
		if i%50 == 49 && !in.again(i == 149) {
			return
		}
	}
}

// again closes the spool and opens it, after a repair into another directory if that succeeds.
func (in *injection) again(repair bool) bool {
	_ = in.s.Close() // what it could not do the next Open does
	in.s = nil
	if repair {
		to := in.dir + "-repaired"
		if _, err := spool.Repair(context.Background(), in.dir, to); err == nil {
			in.dir = to
			fmt.Println("dir", to)
		}
	}
	return in.open()
}
