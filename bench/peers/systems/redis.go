package systems

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/spoolmq/spool/bench/workload"
)

const (
	redisGroup = "group"
	redisField = "b"
	redisBlock = 100 * time.Millisecond // so often a blocked receive looks whether it is to end
)

// redisStream is a stream with one consumer group. What is acknowledged is removed from the stream.
func redisStream(durable bool) workload.System {
	mode := choose(durable, "always", "everysec")
	return workload.System{
		Name: "redis", Batch: bulk, Queues: true, Fresh: true,
		Config: "appendonly, appendfsync " + mode + ", no snapshots, Unix socket, XADD, XREADGROUP BLOCK, XACK and XDEL; batches are pipelines",
		Open: func(dir string) (workload.Store, error) {
			srv, err := serve("redis-server", func(socket string) []string {
				return []string{"--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "",
					"--appendonly", "yes", "--appendfsync", mode, "--daemonize", "no"}
			})
			if err != nil {
				return nil, err
			}
			db := redis.NewClient(&redis.Options{Network: "unix", Addr: srv.socket, PoolSize: 1000, ReadTimeout: time.Minute, MaxRetries: -1})
			s := &redisStore{process: srv, db: db}
			if err := s.loaded(); err != nil {
				return nil, errors.Join(err, s.Close())
			}
			return s, nil
		},
	}
}

type redisStore struct {
	*process
	db *redis.Client
}

// loaded waits until the server has read its file.
func (s *redisStore) loaded() error {
	for deadline := time.Now().Add(serverStart); ; time.Sleep(time.Millisecond) {
		err := s.db.Ping(context.Background()).Err()
		if err == nil || !strings.HasPrefix(err.Error(), "LOADING") || time.Now().After(deadline) {
			return err
		}
	}
}

func (s *redisStore) PID() int { return s.cmd.Process.Pid }

func (s *redisStore) Waiting() (int, error) {
	info, err := s.db.Info(context.Background(), "clients").Result()
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(info, "blocked_clients:")
	number, _, _ := strings.Cut(rest, "\r\n")
	return strconv.Atoi(number)
}

func (s *redisStore) Close() error { return errors.Join(s.db.Close(), s.stop()) }

func (s *redisStore) end(queue int) (redisEnd, error) {
	e := redisEnd{s, "q" + strconv.Itoa(queue)}
	err := s.db.XGroupCreateMkStream(context.Background(), e.stream, redisGroup, "0").Err()
	if err != nil && strings.HasPrefix(err.Error(), "BUSYGROUP") { // it is there
		err = nil
	}
	return e, err
}

func (s *redisStore) Producer(queue int) (workload.Producer, error) { return s.end(queue) }
func (s *redisStore) Consumer(queue int) (workload.Consumer, error) { return s.end(queue) }

type redisEnd struct {
	*redisStore
	stream string
}

func (redisEnd) Close() error { return nil }

func (e redisEnd) Send(ctx context.Context, bodies [][]byte) error {
	_, err := e.db.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, body := range bodies {
			p.XAdd(ctx, &redis.XAddArgs{Stream: e.stream, Values: []any{redisField, body}})
		}
		return nil
	})
	return err
}

func (e redisEnd) Receive(ctx context.Context, into []workload.Message) (int, error) {
	for ctx.Err() == nil {
		// Not under ctx: an answer that nobody reads is a message that stays with this consumer.
		got, err := e.db.XReadGroup(context.Background(), &redis.XReadGroupArgs{Group: redisGroup, Consumer: "consumer",
			Streams: []string{e.stream, ">"}, Count: int64(len(into)), Block: redisBlock}).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return 0, err
		}
		for i, m := range got[0].Messages {
			into[i] = workload.Message{Body: []byte(m.Values[redisField].(string)), Handle: m.ID}
		}
		return len(got[0].Messages), nil
	}
	return 0, ctx.Err()
}

func (e redisEnd) Delete(ctx context.Context, ms []workload.Message) error {
	ids := make([]string, len(ms))
	for i, m := range ms {
		ids[i] = m.Handle.(string)
	}
	_, err := e.db.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.XAck(ctx, e.stream, redisGroup, ids...)
		p.XDel(ctx, e.stream, ids...)
		return nil
	})
	return err
}
