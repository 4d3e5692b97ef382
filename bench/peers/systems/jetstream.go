package systems

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spoolmq/spool/bench/workload"
)

const (
	natsStream  = "STREAM"
	natsWorker  = "worker"
	natsSubject = "work"
	natsLater   = "later." // a subject of its own for each scheduled message
	natsReady   = 10 * time.Second
	natsAhead   = 512 // messages that a consumer asks for in advance
)

// jetStream is a NATS server in the process, with a work queue in a file and one durable pull consumer.
func jetStream(durable bool) workload.System {
	return workload.System{
		Name: "jetstream", Batch: bulk, Fresh: true,
		Config: "embedded, in-process connections, file storage, work queue, pull consumer 512 ahead, " +
			choose(durable, "sync_interval always, DoubleAck", "sync_interval default, plain acks") + "; batches are asynchronous publishes; a delay is a schedule, which ends at a whole second, the next one",
		Open: func(dir string) (workload.Store, error) { return openJetStream(dir, durable) },
	}
}

type natsStore struct {
	srv      *server.Server
	nc       *nats.Conn
	js       jetstream.JetStream
	consumer jetstream.Consumer
	double   bool
	later    atomic.Int64
	blocked  atomic.Int64 // receivers
	ahead    atomic.Bool  // messages have been fetched ahead
}

func openJetStream(dir string, durable bool) (workload.Store, error) {
	srv, err := server.NewServer(&server.Options{JetStream: true, StoreDir: dir, DontListen: true, NoLog: true, NoSigs: true,
		SyncAlways: durable, MaxPayload: 8 << 20, MaxPending: 256 << 20, JetStreamMaxStore: 64 << 30, JetStreamMaxMemory: 1 << 30})
	if err != nil {
		return nil, err
	}
	s := &natsStore{srv: srv, double: durable}
	srv.Start()
	if !srv.ReadyForConnections(natsReady) {
		return nil, errors.Join(fmt.Errorf("the NATS server is not ready after %v", natsReady), s.Close())
	}
	if err := s.connect(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *natsStore) connect() (err error) {
	if s.nc, err = nats.Connect("", nats.InProcessServer(s.srv)); err != nil {
		return err
	}
	if s.js, err = jetstream.New(s.nc, jetstream.WithPublishAsyncMaxPending(64*bulk)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	stream, err := s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: natsStream, Subjects: []string{natsSubject, natsLater + ">"},
		Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, MaxMsgSize: 8 << 20, AllowMsgSchedules: true})
	if err != nil {
		return err
	}
	s.consumer, err = stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: natsWorker, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: time.Hour, MaxAckPending: -1, FilterSubject: natsSubject, MaxWaiting: 2048})
	return err
}

// Waiting counts receivers. What the server counts is requests for messages: two of a receiver that has used up half of
// its first one.
func (s *natsStore) Waiting() (int, error) { return int(s.blocked.Load()), nil }

func (s *natsStore) Close() (err error) {
	if s.ahead.Load() {
		// A server that starts again has forgotten what was given back, and would wait for its acknowledgement. The stream
		// knows what was acknowledged.
		err = s.js.DeleteConsumer(context.Background(), natsStream, natsWorker)
	}
	if s.nc != nil {
		s.nc.Close()
	}
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
	return err
}

func (s *natsStore) Producer(int) (workload.Producer, error) { return natsProducer{s}, nil }

type natsProducer struct{ *natsStore }

func (natsProducer) Close() error { return nil }

func (p natsProducer) Send(ctx context.Context, bodies [][]byte) error {
	if len(bodies) == 1 {
		_, err := p.js.Publish(ctx, natsSubject, bodies[0])
		return err
	}
	return p.publish(bodies, func(i int) (jetstream.PubAckFuture, error) {
		return p.js.PublishAsync(natsSubject, append([]byte(nil), bodies[i]...))
	})
}

func (p natsProducer) SendDelayed(_ context.Context, bodies [][]byte, delays []time.Duration) error {
	return p.publish(bodies, func(i int) (jetstream.PubAckFuture, error) {
		return p.js.PublishAsync(natsLater+strconv.FormatInt(p.later.Add(1), 10), append([]byte(nil), bodies[i]...),
			jetstream.WithScheduleAt(time.Now().Add(delays[i]+time.Second-1).Truncate(time.Second)), jetstream.WithScheduleTarget(natsSubject))
	})
}

// publish has a batch under way and waits for all answers.
func (p natsProducer) publish(bodies [][]byte, one func(i int) (jetstream.PubAckFuture, error)) error {
	futures := make([]jetstream.PubAckFuture, 0, len(bodies))
	for i := range bodies {
		f, err := one(i)
		if err != nil {
			return err
		}
		futures = append(futures, f)
	}
	for _, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			return err
		}
	}
	return nil
}

// A natsConsumer has messages sent ahead. At the end it gives back those it has not handed out.
type natsConsumer struct {
	*natsStore
	got  chan jetstream.Msg
	pull jetstream.ConsumeContext
}

func (s *natsStore) Consumer(int) (workload.Consumer, error) {
	s.ahead.Store(true)
	c := &natsConsumer{natsStore: s, got: make(chan jetstream.Msg, 2*natsAhead)}
	var err error
	c.pull, err = s.consumer.Consume(func(m jetstream.Msg) { c.got <- m }, jetstream.PullMaxMessages(natsAhead))
	return c, err
}

func (c *natsConsumer) Close() (err error) {
	c.pull.Drain() // Stop would leave what has arrived with this consumer
	for {
		select {
		case m := <-c.got:
			err = errors.Join(err, m.Nak())
		case <-c.pull.Closed():
			for len(c.got) > 0 {
				m := <-c.got
				err = errors.Join(err, m.Nak())
			}
			return errors.Join(err, c.nc.Flush())
		}
	}
}

func (c *natsConsumer) Receive(ctx context.Context, into []workload.Message) (n int, err error) {
	c.blocked.Add(1)
	select {
	case m := <-c.got:
		c.blocked.Add(-1)
		into[0] = workload.Message{Body: m.Data(), Handle: m}
	case <-ctx.Done():
		c.blocked.Add(-1)
		return 0, ctx.Err()
	}
	for n = 1; n < len(into) && len(c.got) > 0; n++ {
		m := <-c.got
		into[n] = workload.Message{Body: m.Data(), Handle: m}
	}
	return n, nil
}

func (c *natsConsumer) Delete(ctx context.Context, ms []workload.Message) error {
	if !c.double {
		var err error
		for _, m := range ms {
			err = errors.Join(err, m.Handle.(jetstream.Msg).Ack())
		}
		return err
	}
	errs := make([]error, len(ms))
	var all sync.WaitGroup
	for i, m := range ms {
		all.Go(func() { errs[i] = m.Handle.(jetstream.Msg).DoubleAck(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}
