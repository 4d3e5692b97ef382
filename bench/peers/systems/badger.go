package systems

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"github.com/spoolmq/spool/bench/workload"
)

// plainBadger is a queue as one writes it first: a key for each message, a transaction for each call. What can be
// received is a list in memory, read from the keys when the store is opened.
func plainBadger(durable bool) workload.System {
	return badgerQueue("badger", "a transaction for each call", durable, false)
}

// packedBadger has one goroutine that commits everything that waits in one transaction.
func packedBadger(durable bool) workload.System {
	return badgerQueue("badger-packed", "one committer packs calls into a transaction", durable, true)
}

const packed = 1024 // Bound: calls in a transaction

func badgerQueue(name, how string, durable, pack bool) workload.System {
	return workload.System{
		Name: name, Batch: bulk, Fresh: true,
		Config: how + choose(durable, ", SyncWrites, ", ", no SyncWrites, ") + "no conflict detection, otherwise the defaults",
		Open: func(dir string) (workload.Store, error) {
			db, err := badger.Open(badger.DefaultOptions(dir).WithSyncWrites(durable).WithDetectConflicts(false).WithLogger(nil))
			if err != nil {
				return nil, err
			}
			s := &badgerStore{db: db}
			if err := s.load(); err != nil {
				return nil, errors.Join(err, db.Close())
			}
			if pack {
				s.calls = make(chan *badgerCall, packed)
				s.committer.Go(s.commit)
			}
			return s, nil
		},
	}
}

const bulk = 256 // messages that a call may have

type badgerStore struct {
	db    *badger.DB
	ready ready
	last  atomic.Uint64

	calls     chan *badgerCall // nil: each call commits for itself
	committer sync.WaitGroup
}

// A badgerCall is what one call wants written.
type badgerCall struct {
	set    [][]byte // bodies, from number first on
	first  uint64
	remove []workload.Message
	done   chan error
}

func (c *badgerCall) apply(txn *badger.Txn) error {
	for i, body := range c.set {
		if err := txn.Set(key(c.first+uint64(i)), append([]byte(nil), body...)); err != nil {
			return err
		}
	}
	for _, m := range c.remove {
		if err := txn.Delete(key(m.ID)); err != nil {
			return err
		}
	}
	return nil
}

func key(number uint64) []byte { return binary.BigEndian.AppendUint64(nil, number) }

func (s *badgerStore) load() error {
	return s.db.View(func(txn *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.PrefetchValues = false
		it := txn.NewIterator(opts)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			number := binary.BigEndian.Uint64(it.Item().Key())
			s.ready.numbers = append(s.ready.numbers, number)
			s.last.Store(number)
		}
		return nil
	})
}

// write stores a call, by itself or with those that wait beside it.
func (s *badgerStore) write(c *badgerCall) error {
	if s.calls == nil {
		return s.db.Update(c.apply)
	}
	c.done = make(chan error, 1)
	s.calls <- c
	return <-c.done
}

// commit is the committer: it takes what waits, and what does not fit a transaction goes into the next one.
func (s *badgerStore) commit() {
	for c := range s.calls {
		group := []*badgerCall{c}
		for len(group) < packed && len(s.calls) > 0 {
			group = append(group, <-s.calls)
		}
		for len(group) > 0 {
			n, err := s.pack(group)
			for _, c := range group[:n] {
				c.done <- err
			}
			group = group[n:]
		}
	}
}

// pack commits as many calls as fit and returns how many those are.
func (s *badgerStore) pack(group []*badgerCall) (n int, err error) {
	for n = len(group); ; n = (n + 1) / 2 {
		err = s.db.Update(func(txn *badger.Txn) error {
			for _, c := range group[:n] {
				if err := c.apply(txn); err != nil {
					return err
				}
			}
			return nil
		})
		if n == 1 || !errors.Is(err, badger.ErrTxnTooBig) {
			return n, err
		}
	}
}

func (s *badgerStore) Waiting() (int, error) { return s.ready.waiting(), nil }

func (s *badgerStore) Producer(int) (workload.Producer, error) { return badgerEnd{s}, nil }
func (s *badgerStore) Consumer(int) (workload.Consumer, error) { return badgerEnd{s}, nil }

func (s *badgerStore) Close() error {
	if s.calls != nil {
		close(s.calls)
		s.committer.Wait()
	}
	return s.db.Close()
}

type badgerEnd struct{ *badgerStore }

func (badgerEnd) Close() error { return nil }

func (s badgerEnd) Send(_ context.Context, bodies [][]byte) error {
	n := uint64(len(bodies))
	first := s.last.Add(n) - n + 1
	if err := s.write(&badgerCall{set: bodies, first: first}); err != nil {
		return err
	}
	numbers := make([]uint64, n)
	for i := range numbers {
		numbers[i] = first + uint64(i)
	}
	s.ready.put(numbers...)
	return nil
}

func (s badgerEnd) Receive(ctx context.Context, into []workload.Message) (n int, err error) {
	numbers, err := s.ready.take(ctx, len(into))
	if err != nil {
		return 0, err
	}
	err = s.db.View(func(txn *badger.Txn) error {
		for i, number := range numbers {
			item, err := txn.Get(key(number))
			if err != nil {
				return err
			}
			body, err := item.ValueCopy(nil)
			if err != nil {
				return err
			}
			into[i] = workload.Message{Body: body, ID: number}
		}
		return nil
	})
	return len(numbers), err
}

func (s badgerEnd) Delete(_ context.Context, ms []workload.Message) error {
	return s.write(&badgerCall{remove: ms})
}
