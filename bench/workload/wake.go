package workload

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// The two kinds of producers whose messages wake a receiver.
var Pauses = []struct {
	Name  string
	Pause func()
}{
	{"idle", func() { time.Sleep(100 * time.Microsecond) }},
	{"busy", func() { spin(30 * time.Microsecond) }},
}

// wakeTime is how long a receiver may take to park, and a message to wake it, before the run is given up.
const wakeTime = 10 * time.Second

func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
	}
}

// A Wake measures how long a blocked receive takes to return, from the start of the send that wakes it. Its one
// receiver acknowledges outside of what is measured. Before each send the receiver is seen to be parked: the store
// says that one receive is blocked, or the producer can send to a blocked receiver only.
type Wake struct {
	Took []time.Duration // of each round

	st       Store
	producer Producer
	consumer Consumer
	book     *Book
	bodies   [][]byte
	waiting  atomic.Bool // set just before receive is called
	got      chan woken
	cancel   context.CancelFunc
	ended    chan struct{}
}

type woken struct {
	at  time.Time // when receive returned
	err error
}

// NewWake starts a receiver on the store, whose queue 0 is empty.
func NewWake(st Store, size int) (*Wake, error) {
	p, err := st.Producer(0)
	if err != nil {
		return nil, err
	}
	c, err := st.Consumer(0)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &Wake{st: st, producer: p, consumer: c, book: NewBook(1, size), bodies: [][]byte{make([]byte, size)},
		got: make(chan woken, 1), cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		w.receive(ctx)
	}()
	return w, nil
}

// Close ends the receiver. Everything that was sent must have come.
func (w *Wake) Close() error {
	w.cancel()
	<-w.ended
	return errors.Join(w.book.Missing(), w.producer.Close(), w.consumer.Close())
}

func (w *Wake) receive(ctx context.Context) {
	into := make([]Message, 1)
	for {
		w.waiting.Store(true)
		_, err := w.consumer.Receive(ctx, into)
		at := time.Now()
		w.waiting.Store(false)
		if err != nil && ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.Join(w.book.Take(into[0].Body), w.consumer.Delete(context.WithoutCancel(ctx), into))
		}
		select {
		case w.got <- woken{at, err}:
		case <-ctx.Done():
			return
		}
	}
}

// Rounds wakes the receiver n times, each time after a pause.
func (w *Wake) Rounds(n int, pause func()) error {
	for range n {
		w.book.Fill(0, w.bodies[0])
		start, err := w.send(pause)
		if err != nil {
			return err
		}
		res, err := w.collect()
		if err != nil {
			return err
		}
		if res.err != nil {
			return res.err
		}
		w.Took = append(w.Took, res.at.Sub(start))
	}
	return nil
}

// collect takes the receiver's result. It does not block, as a producer with something else to do would not: one that
// blocks right after its send hands its processor to the receiver.
func (w *Wake) collect() (woken, error) {
	for deadline := time.Now().Add(wakeTime); time.Now().Before(deadline); runtime.Gosched() {
		select {
		case res := <-w.got:
			return res, nil
		default:
		}
	}
	return woken{}, fmt.Errorf("the message does not come within %v", wakeTime)
}

// send sends when the receiver is parked, and returns when it began to.
func (w *Wake) send(pause func()) (start time.Time, err error) {
	for {
		if err := w.parked(); err != nil {
			return start, err
		}
		pause()
		start = time.Now()
		trier, ok := w.producer.(Trier)
		if !ok {
			return start, w.producer.Send(context.Background(), w.bodies)
		}
		if trier.Try(w.bodies[0]) {
			return start, nil
		}
	}
}

// parked returns when the receiver is blocked, as far as that can be known before the send.
func (w *Wake) parked() error {
	blocked := 0
	for deadline := time.Now().Add(wakeTime); ; runtime.Gosched() {
		if w.waiting.Load() {
			store, ok := w.st.(Waiting)
			if !ok {
				return nil
			}
			var err error
			if blocked, err = store.Waiting(); err != nil || blocked == 1 {
				return err
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the receiver does not park within %v: %d are blocked, want 1", wakeTime, blocked)
		}
	}
}
