package systems

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/beanstalkd/go-beanstalk"

	"github.com/spoolmq/spool/bench/workload"
)

const (
	beanstalkLease    = time.Hour
	beanstalkPriority = 1024
)

// beanstalkd is one tube, with a connection for each producer and consumer.
func beanstalkd(durable bool) workload.System {
	interval := choose(durable, "0", "50")
	return workload.System{
		Name: "beanstalkd", Batch: 1, Fresh: true,
		Config: "-b DIR -f " + interval + " -z 16777216, Unix socket; no batches; delays are whole seconds, rounded up",
		Open: func(dir string) (workload.Store, error) {
			srv, err := serve("beanstalkd", func(socket string) []string {
				return []string{"-b", dir, "-f", interval, "-z", "16777216", "-l", "unix:" + socket}
			})
			if err != nil {
				return nil, err
			}
			control, err := beanstalk.Dial("unix", srv.socket)
			if err != nil {
				return nil, errors.Join(err, srv.stop())
			}
			return &beanstalkStore{srv, control}, nil
		},
	}
}

type beanstalkStore struct {
	*process
	control *beanstalk.Conn
}

func (s *beanstalkStore) PID() int { return s.cmd.Process.Pid }

func (s *beanstalkStore) Waiting() (int, error) {
	stats, err := s.control.Stats()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(stats["current-waiting"])
}

func (s *beanstalkStore) Close() error { return errors.Join(s.control.Close(), s.stop()) }

func (s *beanstalkStore) end() (beanstalkEnd, error) {
	c, err := beanstalk.Dial("unix", s.socket)
	return beanstalkEnd{c}, err
}

func (s *beanstalkStore) Producer(int) (workload.Producer, error) { return s.end() }
func (s *beanstalkStore) Consumer(int) (workload.Consumer, error) { return s.end() }

type beanstalkEnd struct{ c *beanstalk.Conn }

func (e beanstalkEnd) Close() error {
	if err := e.c.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil // a Receive that was ended has closed it
}

func (e beanstalkEnd) Send(_ context.Context, bodies [][]byte) error {
	_, err := e.c.Put(bodies[0], beanstalkPriority, 0, beanstalkLease)
	return err
}

func (e beanstalkEnd) SendDelayed(_ context.Context, bodies [][]byte, delays []time.Duration) error {
	for i, body := range bodies {
		if _, err := e.c.Put(body, beanstalkPriority, (delays[i] + time.Second - 1).Truncate(time.Second), beanstalkLease); err != nil {
			return err
		}
	}
	return nil
}

// Receive ends with ctx by closing the connection, as nothing else ends a reserve before whole seconds are over. The
// server takes back what it has reserved for it.
func (e beanstalkEnd) Receive(ctx context.Context, into []workload.Message) (int, error) {
	stop := context.AfterFunc(ctx, func() { _ = e.c.Close() })
	id, body, err := e.c.Reserve(beanstalkLease)
	if !stop() {
		return 0, ctx.Err()
	}
	if err != nil {
		return 0, err
	}
	into[0] = workload.Message{Body: body, ID: id}
	return 1, nil
}

func (e beanstalkEnd) Delete(_ context.Context, ms []workload.Message) error {
	return e.c.Delete(ms[0].ID)
}
