package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"go.uber.org/goleak"

	"github.com/spoolmq/spool"
)

// childEnv makes this test binary the server.
const childEnv = "SQSHTTP_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

var (
	goodKey = aws.Credentials{AccessKeyID: "AKIDTEST", SecretAccessKey: "the secret"}
	noRetry = func(o *sqs.Options) { o.Retryer = aws.NopRetryer{} }
)

// A site is a server on a loopback address with a spool in memory or on disk, and a client of it.
type site struct {
	*sqs.Client
	t     testing.TB
	spool *spool.Spool
	sqs   *Server
	srv   *http.Server
	url   string
	log   *lines
	stop  func() error // shuts the server down; may be called more than once
}

type siteOptions struct {
	keys keyring
	dir  string // "" = in memory
}

// newSite starts a server; change may alter it before it serves.
func newSite(t testing.TB, set func(*siteOptions), change func(*site)) *site {
	t.Helper()
	var o siteOptions
	if set != nil {
		set(&o)
	}
	open := func() (*spool.Spool, error) { return spool.OpenMemory() }
	if o.dir != "" {
		open = func() (*spool.Spool, error) { return spool.Open(o.dir) }
	}
	s, err := open()
	check(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	st := &site{t: t, spool: s, url: "http://" + l.Addr().String(), log: new(lines)}
	log := slog.New(slog.NewTextHandler(st.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	st.sqs = NewServer(s, o.keys, log)
	st.srv = newHTTPServer(route(st.sqs, nil), st.sqs)
	if change != nil {
		change(st)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- listen(ctx, l, st.srv, log) }()
	st.stop = sync.OnceValue(func() error {
		stop()
		return <-ended
	})
	st.Client = newClient(t, st.url, goodKey)
	t.Cleanup(func() {
		check(t, st.stop())
		check(t, s.Close())
	})
	return st
}

// newClient returns a client that makes one attempt a call.
func newClient(t testing.TB, url string, key aws.Credentials) *sqs.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 1000}
	t.Cleanup(transport.CloseIdleConnections)
	return sqs.New(sqs.Options{
		Region:       "eu-west-1",
		BaseEndpoint: aws.String(url),
		HTTPClient:   &http.Client{Transport: transport},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return key, nil
		}),
	}, noRetry)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// create makes a queue and returns its URL.
func (s *site) create(name string, attributes map[string]string) *string {
	s.t.Helper()
	out, err := s.CreateQueue(s.t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	check(s.t, err)
	return out.QueueUrl
}

func (s *site) send(queue *string, body string) (id string) {
	s.t.Helper()
	out, err := s.SendMessage(s.t.Context(), &sqs.SendMessageInput{QueueUrl: queue, MessageBody: &body})
	check(s.t, err)
	return *out.MessageId
}

// receive waits for messages and returns up to ten.
func (s *site) receive(queue *string) []types.Message {
	s.t.Helper()
	out, err := s.ReceiveMessage(s.t.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: queue, MaxNumberOfMessages: 10, WaitTimeSeconds: 10,
		MessageAttributeNames:       []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"},
	})
	check(s.t, err)
	return out.Messages
}

func (s *site) receiveOne(queue *string) types.Message {
	s.t.Helper()
	ms := s.receive(queue)
	if len(ms) != 1 {
		s.t.Fatalf("received %d messages, want 1", len(ms))
	}
	return ms[0]
}

// delete deletes by the receipt of m.
func (s *site) delete(queue *string, m types.Message) {
	s.t.Helper()
	_, err := s.DeleteMessage(s.t.Context(), &sqs.DeleteMessageInput{QueueUrl: queue, ReceiptHandle: m.ReceiptHandle})
	check(s.t, err)
}

func (s *site) attributes(queue *string, names ...types.QueueAttributeName) map[string]string {
	s.t.Helper()
	out, err := s.GetQueueAttributes(s.t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: queue, AttributeNames: names})
	check(s.t, err)
	return out.Attributes
}

// waiting returns when n receives wait in the spool.
func (s *site) waiting(n int) {
	s.t.Helper()
	until(s.t, func() bool { return s.spool.Stats().Waiting == n }, "%d receives that wait", n)
}

// until returns when true holds.
func until(t testing.TB, true func() bool, what string, args ...any) {
	t.Helper()
	for start := time.Now(); !true(); runtime.Gosched() {
		if time.Since(start) > patience {
			t.Fatalf("no "+what, args...)
		}
	}
}

// arrives returns what comes through a channel.
func arrives[T any](t testing.TB, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("no " + what)
	}
	return v
}

// lines is a log in memory.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestParse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	check(t, os.WriteFile(file, []byte("one:first\n\ntwo:a:b/c=\r\n"), 0o600))
	blank := filepath.Join(t.TempDir(), "blank")
	check(t, os.WriteFile(blank, []byte("\n"), 0o600))
	for _, tt := range []struct {
		args string
		want string // in the message; "" = the flags are right
		keys keyring
	}{
		{"-dir d", "", keyring{}},
		{"-dir d -keys a:b,c:d:e", "", keyring{"a": "b", "c": "d:e"}},
		{"-dir d -keys @" + file, "", keyring{"one": "first", "two": "a:b/c="}},
		{"", "-dir is missing", nil},
		{"-dir d more", `unexpected argument "more"`, nil},
		{"-dir d -keys supersecret", "number 1 is not ID:SECRET", nil},
		{"-dir d -keys a:b,:supersecret", "number 2 is not ID:SECRET", nil},
		{"-dir d -keys a:supersecret,a:c", "a is there twice", nil},
		{"-dir d -keys @" + file + "x", "no such file", nil},
		{"-dir d -keys @" + blank, "no key", nil},
	} {
		var stderr bytes.Buffer
		o, err := parse(strings.Fields(tt.args), &stderr)
		if tt.want != "" {
			if err == nil || !strings.Contains(stderr.String(), tt.want) || strings.Contains(stderr.String(), "supersecret") {
				t.Errorf("parse(%s) = %v and said %q, want %q", tt.args, err, stderr.String(), tt.want)
			}
			continue
		}
		if err != nil || len(o.keys) != len(tt.keys) {
			t.Errorf("parse(%s) = %+v, %v", tt.args, o, err)
			continue
		}
		for id, secret := range tt.keys {
			if o.keys[id] != secret {
				t.Errorf("parse(%s): the secret of %s is %q, want %q", tt.args, id, o.keys[id], secret)
			}
		}
	}
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"-dir"}, &stderr); code != exitUsage {
		t.Errorf("wrong flags: exit code %d, want %d", code, exitUsage)
	}
	if code := run(t.Context(), []string{"-dir", t.TempDir(), "-listen", "nowhere"}, &stderr); code != exitFailed {
		t.Errorf("an address that is none: exit code %d, want %d", code, exitFailed)
	}
}
