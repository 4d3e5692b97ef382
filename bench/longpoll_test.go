package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spoolmq/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	bodySize = 1024
	turn     = 50 // rounds of one kind before those of the other
)

// BenchmarkLongPoll measures how long a Receive that is blocked takes to return, from the start of the Send that wakes
// it. Before each send the one receiver is seen to be parked; then an idle producer sleeps at least 100 µs, a busy one
// spins for 30 µs. The same is done with an unbuffered Go channel, in turns: chan-p50-µs is its median, and
// x-chan the ratio of the medians. An iteration is 50 rounds of each; for the tail to mean something, give it time:
// -benchtime 5s.
func BenchmarkLongPoll(b *testing.B) {
	for _, level := range []struct {
		name string
		open func(b *testing.B) (*spool.Spool, error)
	}{
		{"memory", func(*testing.B) (*spool.Spool, error) { return spool.OpenMemory() }},
		{"written", func(b *testing.B) (*spool.Spool, error) {
			return spool.Open(b.TempDir(), spool.WithDurability(spool.Written))
		}},
		{"fsync", func(b *testing.B) (*spool.Spool, error) { return spool.Open(b.TempDir()) }},
	} {
		for _, producer := range []struct {
			name  string
			pause func()
		}{
			{"idle", func() { time.Sleep(100 * time.Microsecond) }},
			{"busy", func() { spin(30 * time.Microsecond) }},
		} {
			b.Run(level.name+"/"+producer.name, func(b *testing.B) {
				s, err := level.open(b)
				if err != nil {
					b.Fatal(err)
				}
				queue := newReceiver(b, queueEnds(b, s))
				channel := newReceiver(b, channelEnds())
				turns := func() {
					queue.measure(turn, producer.pause)
					channel.measure(turn, producer.pause)
				}
				turns()
				queue.took, channel.took = nil, nil
				for b.Loop() {
					turns()
				}
				queue.stop()
				channel.stop()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(0, "ns/op") // the pauses, mostly
				b.ReportMetric(queue.percentile(50), "p50-µs")
				b.ReportMetric(queue.percentile(99), "p99-µs")
				b.ReportMetric(queue.percentile(99.9), "p99.9-µs")
				b.ReportMetric(channel.percentile(50), "chan-p50-µs")
				b.ReportMetric(queue.percentile(50)/channel.percentile(50), "x-chan")
			})
		}
	}
}

func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
	}
}

// ends is what is measured: send hands a body over, and receive blocks until there is one. A received body is
// acknowledged by done, outside what is measured. parked tells whether the one receiver is blocked.
type ends struct {
	parked  func() bool
	send    func(body []byte) error
	receive func(ctx context.Context) (body []byte, done func() error, err error)
}

// errNotParked is what a send answers that cannot ask beforehand. It has sent nothing.
var errNotParked = errors.New("the receiver is not parked")

func queueEnds(tb testing.TB, s *spool.Spool) ends {
	ctx := context.Background()
	q, err := s.CreateQueue(ctx, "bench", spool.Meta{})
	if err != nil {
		tb.Fatal(err)
	}
	return ends{
		parked: func() bool { return s.Stats().Waiting == 1 },
		send: func(body []byte) error {
			_, err := q.Send(ctx, spool.Message{Body: body})
			return err
		},
		receive: func(ctx context.Context) ([]byte, func() error, error) {
			d, err := q.Receive(ctx, spool.Wait(time.Minute))
			if err != nil {
				return nil, nil, err
			}
			return d.Body, func() error { return d.Delete(context.WithoutCancel(ctx)) }, nil
		},
	}
}

func channelEnds() ends {
	c := make(chan []byte)
	return ends{
		parked: func() bool { return true },
		send: func(body []byte) error {
			select {
			case c <- body:
				return nil
			default:
				return errNotParked
			}
		},
		receive: func(ctx context.Context) ([]byte, func() error, error) {
			select {
			case body := <-c:
				return body, func() error { return nil }, nil
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			}
		},
	}
}

// A receiver is a goroutine that blocks in receive again and again.
type receiver struct {
	tb      testing.TB
	ends    ends
	body    []byte
	sent    uint64
	took    []time.Duration
	waiting atomic.Bool // set just before receive is called
	got     chan result
	stop    func() // ends the receiver
}

type result struct {
	at   time.Time // when receive returned
	body []byte
	err  error
}

func newReceiver(tb testing.TB, e ends) *receiver {
	r := &receiver{tb: tb, ends: e, body: make([]byte, bodySize), got: make(chan result)}
	for i := range r.body {
		r.body[i] = byte(rand.Uint32())
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	r.stop = func() { cancel(); <-ended }
	tb.Cleanup(r.stop)
	go func() {
		defer close(ended)
		r.run(ctx)
	}()
	return r
}

func (r *receiver) run(ctx context.Context) {
	for {
		r.waiting.Store(true)
		body, done, err := r.ends.receive(ctx)
		at := time.Now()
		r.waiting.Store(false)
		if err == nil {
			err = done()
		}
		if errors.Is(err, context.Canceled) {
			return
		}
		select {
		case r.got <- result{at, body, err}:
		case <-ctx.Done():
			return
		}
	}
}

// measure does n rounds: it sends a message to the parked receiver, and keeps how long it took until it had it.
func (r *receiver) measure(n int, pause func()) {
	r.tb.Helper()
	for range n {
		r.once(pause)
	}
}

func (r *receiver) once(pause func()) {
	r.tb.Helper()
	r.sent++
	binary.BigEndian.PutUint64(r.body, r.sent)
	var start time.Time
	for err := errNotParked; err != nil; {
		for !r.waiting.Load() || !r.ends.parked() {
			runtime.Gosched()
		}
		pause()
		start = time.Now()
		if err = r.ends.send(r.body); err != nil && !errors.Is(err, errNotParked) {
			r.tb.Fatal(err)
		}
	}
	res := <-r.got
	if res.err != nil {
		r.tb.Fatal(res.err)
	}
	if !bytes.Equal(res.body, r.body) {
		r.tb.Fatalf("message %d came back as another one", r.sent)
	}
	r.took = append(r.took, res.at.Sub(start))
}

// percentile is the time in µs that p percent of the rounds did not exceed.
func (r *receiver) percentile(p float64) float64 {
	sorted := slices.Sorted(slices.Values(r.took))
	i := int(p / 100 * float64(len(sorted)))
	return float64(sorted[min(i, len(sorted)-1)]) / float64(time.Microsecond)
}

// The benchmark's own parts: a message arrives whole, and the receiver is parked when it is said to be.
func TestReceiver(t *testing.T) {
	s, err := spool.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, e := range []ends{queueEnds(t, s), channelEnds()} {
		r := newReceiver(t, e)
		r.measure(20, func() {})
		r.stop()
		if got := len(r.took); got != 20 {
			t.Errorf("%d rounds measured, want 20", got)
		}
	}
}

func TestPercentile(t *testing.T) {
	r := receiver{}
	for i := range 1000 {
		r.took = append(r.took, time.Duration(1000-i)*time.Microsecond)
	}
	for p, want := range map[float64]float64{50: 501, 99: 991, 99.9: 1000, 100: 1000} {
		if got := r.percentile(p); got != want {
			t.Errorf("percentile(%v) = %v, want %v", p, got, want)
		}
	}
}
