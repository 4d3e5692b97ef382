package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

// post sends a request that is not signed.
func (s *site) post(operation, body string) (status int, text string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url, strings.NewReader(body))
	check(s.t, err)
	r.Header.Set("X-Amz-Target", targetPrefix+operation)
	return s.do(r)
}

func (s *site) do(r *http.Request) (status int, text string) {
	s.t.Helper()
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	check(s.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	check(s.t, err)
	if res.Header.Get("X-Amzn-Requestid") == "" {
		s.t.Errorf("the reply %d %s has no request ID", res.StatusCode, body)
	}
	return res.StatusCode, string(body)
}

func TestMalformed(t *testing.T) {
	s := newSite(t, nil, nil)
	s.create("jobs", nil)
	long := strings.Repeat("n", 1000)
	for _, tt := range []struct {
		operation, body, want string
		status                int
	}{
		{"SendMessage", ``, "SerializationException", 400},
		{"SendMessage", `{`, "SerializationException", 400},
		{"SendMessage", `[]`, "SerializationException", 400},
		{"SendMessage", `{} {}`, "SerializationException", 400},
		{"SendMessage", `null`, "MissingParameter", 400},
		{"SendMessage", `{}`, "MissingParameter", 400},
		{"SendMessage", `{"QueueUrl":"jobs"}`, "MissingParameter", 400},
		{"SendMessage", `{"QueueUrl":5}`, "SerializationException", 400},
		{"SendMessage", `{"QueueUrl":"jobs","MessageBody":"x","DelaySeconds":"1"}`, "SerializationException", 400},
		{"SendMessage", `{"QueueUrl":"jobs","MessageBody":"x","DelaySeconds":1.5}`, "SerializationException", 400},
		{"SendMessage", `{"QueueUrl":"jobs","MessageBody":"x","DelaySeconds":99999999999999999999}`, "SerializationException", 400},
		{"SendMessage", "{\"QueueUrl\":\"jobs\",\"MessageBody\":\"\xff\"}", "InvalidMessageContents", 400},
		{"SendMessage", `{"QueueUrl":"jobs","MessageBody":"x","MessageAttributes":{"a":{"DataType":"Binary","BinaryValue":"?"}}}`, "SerializationException", 400},
		{"SendMessage", strings.Repeat(`{"a":`, 20000), "SerializationException", 400},
		{"ReceiveMessage", `{"QueueUrl":"jobs","MaxNumberOfMessages":0}`, "InvalidParameterValue", 400},
		{"DeleteMessage", `{"QueueUrl":"jobs"}`, "MissingParameter", 400},
		{"ChangeMessageVisibility", `{"QueueUrl":"jobs","ReceiptHandle":"x"}`, "MissingParameter", 400},
		{"CreateQueue", `{}`, "MissingParameter", 400},
		{"GetQueueUrl", `{}`, "MissingParameter", 400},
		{"PurgeQueue", `{"QueueUrl":"http://x/000000000000/` + long + `"}`, "InvalidAddress", 404},
		{"PurgeQueue", `{"QueueUrl":"http://x/000000000000/"}`, "QueueDoesNotExist", 400},
		{"RewindQueue", `{"QueueUrl":"jobs"}`, "MissingParameter", 400},
		{"RewindQueue", `{"QueueUrl":"jobs","Timestamp":1e999999999}`, "InvalidParameterValue", 400},
		{"Explode", `{}`, "UnknownOperationException", 400},
		{long, `{}`, "UnknownOperationException", 400},
		{"TagQueue", `{}`, "UnsupportedOperation", 400},
	} {
		status, text := s.post(tt.operation, tt.body)
		if status != tt.status || !strings.Contains(text, "#"+tt.want+`"`) {
			t.Errorf("%.40s %.60s: %d %s, want %d %s", tt.operation, tt.body, status, text, tt.status, tt.want)
		}
		if len(text) > 600 {
			t.Errorf("%.40s %.60s: the reply has %d bytes", tt.operation, tt.body, len(text))
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodOptions} {
		r, err := http.NewRequestWithContext(t.Context(), method, s.url, nil)
		check(t, err)
		if status, text := s.do(r); status != http.StatusMethodNotAllowed {
			t.Errorf("%s is answered with %d %s", method, status, text)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url, strings.NewReader("Action=ListQueues"))
	check(t, err)
	if status, text := s.do(r); status != http.StatusBadRequest || !strings.Contains(text, "query protocol") {
		t.Errorf("the query protocol is answered with %d %s", status, text)
	}
}

// SDKs of other languages post to the URL of the queue. What a client does not know, or writes in another way, is no reason
// to refuse it.
func TestLenient(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", nil)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, *jobs, strings.NewReader(`{"MessageBody":"x","New":{"a":[1]}}`))
	check(t, err)
	r.Header.Set("X-Amz-Target", "AmazonSQS.SendMessage")
	if status, text := s.do(r); status != http.StatusOK {
		t.Errorf("a post to the URL of the queue: %d %s", status, text)
	}
	if m := s.receiveOne(jobs); *m.Body != "x" {
		t.Errorf("received %q", *m.Body)
	}
	if status, text := s.post("ReceiveMessage", `{"QueueUrl":"jobs"}`); status != http.StatusOK || text != "{}" {
		t.Errorf("an empty queue answers %d %q, want {}", status, text)
	}
}

// endless is a body that is as long as one wants.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	if e.n <= 0 {
		return 0, io.EOF
	}
	n := min(e.n, len(p))
	copy(p, bytes.Repeat([]byte(" "), n))
	e.n -= n
	return n, nil
}

func TestOversized(t *testing.T) {
	s := newSite(t, nil, nil)
	s.create("jobs", nil)
	for name, n := range map[string]int64{"announced": maxRequestBytes + 1, "not announced": -1} {
		w := httptest.NewRecorder()
		body := &endless{maxRequestBytes + 1}
		r := httptest.NewRequest(http.MethodPost, "/", body)
		r.ContentLength = n
		r.Header.Set("X-Amz-Target", "AmazonSQS.SendMessage")
		s.sqs.ServeHTTP(w, r)
		if w.Code != http.StatusRequestEntityTooLarge || w.Header().Get("Connection") != "close" {
			t.Errorf("%s: %d %s, want 413 and the end of the connection", name, w.Code, w.Body)
		}
		if n > 0 && body.n != maxRequestBytes+1 {
			t.Errorf("%d bytes were read of what was announced as too much", maxRequestBytes+1-body.n)
		}
	}
	// The largest message there is, in the longest JSON there is of it.
	body := strings.Repeat(`\u00e4`, 1<<19)
	status, text := s.post("SendMessage", `{"QueueUrl":"jobs","MessageBody":"`+body+`"}`)
	if status != http.StatusOK {
		t.Errorf("a message of 1 MiB: %d %.200s", status, text)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url, strings.NewReader("{}"))
	check(t, err)
	r.Header.Set("X-Long", strings.Repeat("x", maxHeaderBytes+8<<10))
	res, err := http.DefaultClient.Do(r)
	check(t, err)
	check(t, res.Body.Close())
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a head of 40 KB is answered with %d, want 431", res.StatusCode)
	}
}

// dial opens a connection and writes text.
func (s *site) dial(text string) net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	check(s.t, err)
	s.t.Cleanup(func() { _ = c.Close() })
	check(s.t, c.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(c, text)
	check(s.t, err)
	return c
}

func TestSlowClients(t *testing.T) {
	s := newSite(t, nil, func(s *site) {
		s.srv.ReadHeaderTimeout = 50 * time.Millisecond
		s.sqs.bodyTimeout = 50 * time.Millisecond
		s.sqs.replyTimeout = 50 * time.Millisecond
	})
	head := s.dial("POST / HTTP/1.1\r\nHost: x\r\nX-Slow")
	if text, err := io.ReadAll(head); err != nil || strings.Contains(string(text), "200") {
		t.Errorf("a head that does not end is answered with %q, %v, want the end of the connection", text, err)
	}
	body := s.dial("POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.ListQueues\r\nContent-Length: 100\r\n\r\n{")
	if text, err := io.ReadAll(body); err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 408 ") {
		t.Errorf("a body that does not end is answered with %q, %v, want 408", text, err)
	}

	// Ten messages of 1 MiB for a client that does not read: more than what lies between us. They are given back.
	s.create("jobs", nil)
	q, err := s.spool.Queue("jobs")
	check(t, err)
	for range 10 {
		_, err := q.Send(t.Context(), spool.Message{Body: bytes.Repeat([]byte{1}, 1<<20)}) // six bytes each in JSON
		check(t, err)
	}
	const receive = `{"QueueUrl":"jobs","MaxNumberOfMessages":10}`
	s.dial(fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.ReceiveMessage\r\nContent-Length: %d\r\n\r\n%s", len(receive), receive))
	until(t, func() bool { return strings.Contains(s.log.String(), "status=499") }, "reply that could not be written")
	a, err := q.Attributes(t.Context())
	check(t, err)
	if a.Active != 10 || a.Received != 10 {
		t.Errorf("%d messages are active after %d receives, want 10 after 10", a.Active, a.Received)
	}
}

// A poll is not cut by any of the timeouts that stop slow clients.
func TestPollOutlastsTimeouts(t *testing.T) {
	s := newSite(t, nil, func(s *site) {
		s.srv.ReadHeaderTimeout = 100 * time.Millisecond
		s.sqs.bodyTimeout = 100 * time.Millisecond
		s.sqs.replyTimeout = 100 * time.Millisecond
	})
	s.create("jobs", nil)
	start := time.Now()
	c := s.dial("")
	for range 2 { // the second on the same connection, whose deadlines have passed
		const receive = `{"QueueUrl":"jobs","WaitTimeSeconds":1}`
		_, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.ReceiveMessage\r\nContent-Length: %d\r\n\r\n%s", len(receive), receive)
		check(t, err)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		check(t, err)
		check(t, res.Body.Close())
		if res.StatusCode != http.StatusOK {
			t.Errorf("a poll is answered with %s", res.Status)
		}
	}
	if took := time.Since(start); took < 2*time.Second {
		t.Errorf("two polls of 1 s took %v", took)
	}
}

// What else is served on a connection is not under the deadline of an earlier reply.
func TestReplyDeadlineEnds(t *testing.T) {
	s := newSite(t, nil, func(s *site) {
		s.sqs.replyTimeout = 50 * time.Millisecond
		mux := http.NewServeMux()
		mux.Handle("/", s.srv.Handler)
		mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
			<-time.After(200 * time.Millisecond)
			_, _ = io.WriteString(w, "slow")
		})
		s.srv.Handler = mux
	})
	c := s.dial("POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.ListQueues\r\nContent-Length: 2\r\n\r\n{}")
	r := bufio.NewReader(c)
	for _, want := range []string{"{}", "slow"} {
		res, err := http.ReadResponse(r, nil)
		check(t, err)
		text, err := io.ReadAll(res.Body)
		if err != nil || string(text) != want {
			t.Errorf("the reply is %q, %v, want %q", text, err, want)
		}
		_, err = io.WriteString(c, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
		check(t, err)
	}
}

// Every client is bounded, and no poll.
func TestServerLimits(t *testing.T) {
	s := newSite(t, nil, nil)
	if v := s.srv; v.ReadHeaderTimeout <= 0 || v.IdleTimeout <= 0 || v.MaxHeaderBytes <= 0 || v.ReadTimeout != 0 || v.WriteTimeout != 0 {
		t.Errorf("limits are %v, %v, %d, %v, %v", v.ReadHeaderTimeout, v.IdleTimeout, v.MaxHeaderBytes, v.ReadTimeout, v.WriteTimeout)
	}
}

// A brokenWriter is a connection that cannot be written to.
type brokenWriter struct{ http.ResponseWriter }

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestUnwrittenIsReleased(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", nil)
	s.send(jobs, "x")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(`{"QueueUrl":"jobs"}`))
	r.Header.Set("X-Amz-Target", "AmazonSQS.ReceiveMessage")
	s.sqs.ServeHTTP(brokenWriter{httptest.NewRecorder()}, r)
	if m := s.receiveOne(jobs); m.Attributes["ApproximateReceiveCount"] != "2" {
		t.Errorf("the message came back with %v", m.Attributes)
	}
}

// A leavingClient is gone as soon as a message has been leased to it.
type leavingClient struct {
	context.Context
	q *spool.Queue
}

func (c leavingClient) Err() error {
	if a, err := c.q.Attributes(context.Background()); err != nil || a.Inactive > 0 {
		return context.Canceled
	}
	return nil
}

func TestLeasedToNobody(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", nil)
	s.send(jobs, "x")
	q, err := s.spool.Queue("jobs")
	check(t, err)
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(leavingClient{t.Context(), q}, http.MethodPost, "/", strings.NewReader(`{"QueueUrl":"jobs"}`))
	r.Header.Set("X-Amz-Target", "AmazonSQS.ReceiveMessage")
	s.sqs.ServeHTTP(w, r)
	if a, err := q.Attributes(t.Context()); err != nil || a.Active != 1 || a.Received != 1 {
		t.Errorf("%d messages are active after %d receives, %v, want 1 after 1", a.Active, a.Received, err)
	}
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("the reply is %d %s, want 503: an empty success would be a lie", w.Code, w.Body)
	}
}

func TestHealth(t *testing.T) {
	s := newSite(t, withKeys, nil)
	get := func() int {
		t.Helper()
		w := httptest.NewRecorder()
		s.srv.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
		return w.Code
	}
	if code := get(); code != http.StatusOK {
		t.Errorf("healthz = %d, want 200", code)
	}
	s.sqs.Drain()
	if code := get(); code != http.StatusServiceUnavailable {
		t.Errorf("healthz while going down = %d, want 503", code)
	}
	s2 := newSite(t, nil, nil)
	check(t, s2.spool.Close())
	w := httptest.NewRecorder()
	s2.sqs.Health(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("healthz of a closed spool = %d, want 503", w.Code)
	}
	if status, _ := s2.post("SendMessage", `{"QueueUrl":"jobs","MessageBody":"x"}`); status != http.StatusServiceUnavailable {
		t.Errorf("a closed spool answers %d, want 503", status)
	}
}

func TestLog(t *testing.T) {
	s := newSite(t, nil, nil)
	jobs := s.create("jobs", nil)
	s.send(jobs, "a very private body")
	m := s.receiveOne(jobs)
	log := s.log.String()
	for _, want := range []string{"target=AmazonSQS.SendMessage", "status=200", "id=", "took=", "in=", "out=", "remote=127.0.0.1"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	if strings.Contains(log, "private") || strings.Contains(log, *m.ReceiptHandle) {
		t.Errorf("the log has what is in a request:\n%s", log)
	}
}
