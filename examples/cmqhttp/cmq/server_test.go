package cmq_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/examples/cmqhttp/cmq"
	"github.com/spoolmq/spool/examples/cmqhttp/internal/wire"
)

const (
	testID  = "AKIDtest"
	testKey = "unit-test-key"
	patient = 20 * time.Second // what takes longer has failed
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A server is a handler on a loopback port, over a spool in memory.
type server struct {
	*wire.Client
	spool   *spool.Spool
	handler *cmq.Handler
	http    *http.Server
}

// serve starts a server that ends with the test. o's keys are set.
func serve(t testing.TB, o cmq.Options) *server {
	t.Helper()
	s, err := spool.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	o.Keys = map[string]string{"other": "key", testID: testKey}
	h, err := cmq.New(s, o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &server{
		Client: &wire.Client{Addr: l.Addr().String(), ID: testID, Key: testKey},
		spool:  s, handler: h, http: &http.Server{Handler: h},
	}
	srv.http.RegisterOnShutdown(h.Drain)
	var served sync.WaitGroup
	served.Go(func() { srv.http.Serve(l) })
	t.Cleanup(func() {
		srv.http.Close()
		served.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return srv
}

// dial returns a connection that fails the test instead of waiting for ever.
func (s *server) dial(t testing.TB) *conn {
	t.Helper()
	c, err := s.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patient))
	return &conn{Conn: c, t: t}
}

// queue makes a queue in the spool itself.
func (s *server) queue(t testing.TB, name string, meta spool.Meta) *spool.Queue {
	t.Helper()
	q, err := s.spool.CreateQueue(context.Background(), name, meta)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

type conn struct {
	*wire.Conn
	t testing.TB
}

// ok does an action that must succeed.
func (c *conn) ok(action string, args ...string) wire.Answer {
	c.t.Helper()
	return c.refused(0, "", action, args...)
}

// refused does an action that must answer code and the beginning of a message.
func (c *conn) refused(code int, message, action string, args ...string) wire.Answer {
	c.t.Helper()
	a, err := c.Do(action, args...)
	if err != nil {
		c.t.Fatalf("%s: %v", action, err)
	}
	c.check(a, code, message)
	return a
}

func (c *conn) check(a wire.Answer, code int, message string) {
	c.t.Helper()
	if a.Status != 200 || a.Code != code || len(a.Message) < len(message) || a.Message[:len(message)] != message {
		c.t.Fatalf("status %d, %s, want status 200, code %d, message %s…", a.Status, a.Raw, code, message)
	}
}

// until waits for a condition that another goroutine brings about.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	late := time.After(patient)
	for !is() {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("not so after %v: %s", patient, what)
		}
	}
}

// attributes reads a queue in the spool itself.
func attributes(t testing.TB, q *spool.Queue) spool.Attributes {
	t.Helper()
	a, err := q.Attributes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return a
}
