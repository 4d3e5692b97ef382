package systems

import (
	"context"
	"os"
	"path/filepath"

	"github.com/joncrlsn/dque"

	"github.com/spoolmq/spool/bench/workload"
)

const dqueSegment = 1000 // items of a file; all of a file is in memory while it is read

type dqueItem struct{ Body []byte }

// dQue is a dque. It has no acknowledgement: what is received is gone.
func dQue(durable bool) workload.System {
	return workload.System{
		Name: "dque", Batch: 1, Fresh: true,
		Config: choose(durable, "each call is synced", "turbo: nothing is synced") + ", 1000 items a segment; received is deleted, there is no acknowledgement",
		Open: func(dir string) (workload.Store, error) {
			if err := os.MkdirAll(filepath.Join(dir, "queue"), 0o700); err != nil {
				return nil, err
			}
			q, err := dque.NewOrOpen("queue", dir, dqueSegment, func() any { return new(dqueItem) })
			if err != nil {
				return nil, err
			}
			if !durable {
				if err := q.TurboOn(); err != nil {
					return nil, err
				}
			}
			s := &dqueStore{q: q}
			s.ready.numbers = make([]uint64, q.Size())
			return s, nil
		},
	}
}

// A dqueStore lets receivers wait by itself: DequeueBlock cannot be ended by a context. The numbers in ready mean nothing.
type dqueStore struct {
	q     *dque.DQue
	ready ready
}

func (s *dqueStore) Producer(int) (workload.Producer, error) { return dqueEnd{s}, nil }
func (s *dqueStore) Consumer(int) (workload.Consumer, error) { return dqueEnd{s}, nil }
func (s *dqueStore) Waiting() (int, error)                   { return s.ready.waiting(), nil }
func (s *dqueStore) Close() error                            { return s.q.Close() }

type dqueEnd struct{ *dqueStore }

func (dqueEnd) Close() error { return nil }

func (s dqueEnd) Send(_ context.Context, bodies [][]byte) error {
	if err := s.q.Enqueue(&dqueItem{append([]byte(nil), bodies[0]...)}); err != nil {
		return err
	}
	s.ready.put(0)
	return nil
}

func (s dqueEnd) Receive(ctx context.Context, into []workload.Message) (int, error) {
	if _, err := s.ready.take(ctx, 1); err != nil {
		return 0, err
	}
	item, err := s.q.Dequeue()
	if err != nil {
		return 0, err
	}
	into[0] = workload.Message{Body: item.(*dqueItem).Body}
	return 1, nil
}

func (dqueEnd) Delete(context.Context, []workload.Message) error { return nil }
