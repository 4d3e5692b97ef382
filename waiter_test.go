package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memlog"
)

// TestHandOver sends to a receiver that waits, messages that it gets a copy of and messages that it reads from the log. What
// the sender does with its slices afterwards is no concern of the receiver's, and a later delivery is the same.
func TestHandOver(t *testing.T) {
	for _, size := range []int{1, 1000, 4 << 10, 4<<10 + 1, 60 << 10} {
		for _, batch := range []int{1, 3} {
			t.Run(fmt.Sprintf("size=%d/batch=%d", size, batch), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { handOver(t, size, batch) })
			})
		}
	}
}

func handOver(t *testing.T, size, batch int) {
	s, err := spool.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	q, err := s.CreateQueue(t.Context(), "q", spool.Meta{PollingWait: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan *spool.Delivery)
	go func() {
		d, err := q.Receive(t.Context())
		if err != nil {
			t.Error(err)
		}
		got <- d
	}()
	synctest.Wait()
	ms := make([]spool.Message, batch)
	for i := range ms {
		ms[i] = spool.Message{Body: bytes.Repeat([]byte{byte('a' + i)}, size), Attributes: map[string]string{"n": fmt.Sprint(i)}}
	}
	ids, err := q.SendBatch(t.Context(), ms)
	if err != nil {
		t.Fatal(err)
	}
	want, attributes := bytes.Clone(ms[0].Body), maps.Clone(ms[0].Attributes)
	clear(ms[0].Body)
	ms[0].Attributes["n"] = "another"
	first := <-got
	sent := time.Now()
	if err := first.Release(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	second, err := q.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range []*spool.Delivery{first, second} {
		if d.ID != ids[0] || !bytes.Equal(d.Body, want) || !maps.Equal(d.Attributes, attributes) || !d.EnqueuedAt.Equal(sent) || d.Receives != i+1 {
			t.Errorf("delivery %d: %s, %d bytes, %v, sent at %v, received %d times; want %s, %d bytes, %v, %v", i+1, d.ID, len(d.Body),
				d.Attributes, d.EnqueuedAt, d.Receives, ids[0], len(want), attributes, sent)
		}
	}
}

// A goneLog has lost the record that is read next, once it was told so, as if it had been cleaned away.
type goneLog struct {
	*memlog.Log
	lose func()
}

func (l *goneLog) ReadRecord(pos store.Position, dst []byte) ([]byte, error) {
	if f := l.lose; f != nil {
		l.lose = nil
		f()
		return nil, store.ErrGone
	}
	return l.Log.ReadRecord(pos, dst)
}

// TestWaitGoesOn: a receive that was woken for a message which is gone before it is read goes on with its wait, however
// long receives are to wait by now.
func TestWaitGoesOn(t *testing.T) {
	for _, now := range []time.Duration{10 * time.Second, 0, time.Hour} {
		t.Run(now.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &goneLog{Log: memlog.New(memlog.Options{})}
				q := openOn(t, log, t.TempDir()).create("q", spool.Meta{PollingWait: 10 * time.Second})
				q.send("gone", 4*time.Second)
				log.lose = func() { q.set(func(m *spool.Meta) { m.PollingWait = now }) }
				at := time.Now()
				_, err := q.Receive(bg)
				if took := time.Since(at); !errors.Is(err, spool.ErrNoMessage) || took != 10*time.Second || log.lose != nil {
					t.Errorf("Receive = %v after %v, want ErrNoMessage after 10s", err, took)
				}
			})
		})
	}
}
