package spool_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memlog"
)

// A spanLog counts reads, and may spoil what ReadSpan answers.
type spanLog struct {
	*memlog.Log
	spans, records int
	spoil          func(span []byte) ([]byte, error)
}

func (l *spanLog) ReadRecord(pos store.Position, dst []byte) ([]byte, error) {
	l.records++
	return l.Log.ReadRecord(pos, dst)
}

func (l *spanLog) ReadSpan(from, to store.Position, dst []byte) ([]byte, error) {
	l.spans++
	out, err := l.Log.ReadSpan(from, to, dst)
	if l.spoil != nil && err == nil {
		return l.spoil(out)
	}
	return out, err
}

// TestSpan: a batch is read in few pieces of the log, and what is in them is not believed: whatever they are, the batch has
// the bodies that were sent, in their order.
func TestSpan(t *testing.T) {
	bodies := make([]string, 40)
	for i := range bodies {
		bodies[i] = fmt.Sprint(i, strings.Repeat("x", i*200))
	}
	bodies[20] = strings.Repeat("large", 40<<10)
	spoils := map[string]func([]byte) ([]byte, error){
		"whole":   nil,
		"cut":     func(b []byte) ([]byte, error) { return b[:len(b)/2], nil },
		"empty":   func(b []byte) ([]byte, error) { return b[:0], nil },
		"failed":  func(b []byte) ([]byte, error) { return b, store.ErrGone },
		"flipped": func(b []byte) ([]byte, error) { b[len(b)/3] ^= 1; return b, nil },
		"zeros":   func(b []byte) ([]byte, error) { clear(b); return b, nil },
		"shifted": func(b []byte) ([]byte, error) { return b[1:], nil },
	}
	for name, spoil := range spoils {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				log := &spanLog{Log: memlog.New(memlog.Options{})}
				q := openOn(t, log, dir).create("q", spool.Meta{MaxMessageSize: 1 << 20})
				for _, body := range bodies {
					q.send(body)
				}
				log.spoil = spoil
				for _, receive := range []func() ([]*spool.Delivery, error){
					func() ([]*spool.Delivery, error) { return q.Peek(bg, len(bodies)) },
					func() ([]*spool.Delivery, error) {
						return q.ReceiveBatch(bg, len(bodies), spool.Visibility(time.Minute))
					},
				} {
					log.spans, log.records = 0, 0
					ds, err := receive()
					if err != nil {
						t.Fatal(err)
					}
					var got []string
					for _, d := range ds {
						got = append(got, string(d.Body))
					}
					if !slices.Equal(got, bodies) {
						t.Fatalf("%d bodies that are not those of the %d that were sent", len(got), len(bodies))
					}
					if spoil == nil && (log.spans > 4 || log.records != 1) {
						t.Errorf("%d pieces and %d single records were read for a batch of %d, want at most 4 and the large one", log.spans, log.records, len(bodies))
					}
				}
			})
		})
	}
}

// TestSpanScattered: messages of one batch that lie far apart are read one by one, not with everything between them.
func TestSpanScattered(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := &spanLog{Log: memlog.New(memlog.Options{})}
		c := openOn(t, log, dir)
		q, other := c.create("q", spool.Meta{}), c.create("other", spool.Meta{})
		for i := range 10 {
			q.send(fmt.Sprint(i))
			other.send(strings.Repeat("far", 10<<10))
		}
		ds, err := q.ReceiveBatch(bg, 10)
		if err != nil || len(ds) != 10 {
			t.Fatalf("ReceiveBatch = %d, %v, want 10", len(ds), err)
		}
		if log.spans > 0 || log.records != 10 {
			t.Errorf("%d pieces and %d single records, want 0 and 10", log.spans, log.records)
		}
	})
}

// TestSpanOfAnotherSpool: what was read for one batch is not looked at for another. Two spools that do the same at the same
// instants have the same records at the same positions, but for the bodies.
func TestSpanOfAnotherSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var queues []*caseQueue
		for range 2 {
			queues = append(queues, inMemory(t).create("q", spool.Meta{}))
		}
		for range 20 {
			for i, q := range queues {
				for range 2 {
					q.send(fmt.Sprint("body of spool ", i))
				}
			}
			for i, q := range queues {
				ds, err := q.ReceiveBatch(bg, 2)
				if want := fmt.Sprint("body of spool ", i); err != nil || len(ds) != 2 || string(ds[0].Body) != want || string(ds[1].Body) != want {
					t.Fatalf("spool %d: ReceiveBatch = %q, %v, want %q twice", i, bodiesOf(ds), err, want)
				}
			}
		}
	})
}
