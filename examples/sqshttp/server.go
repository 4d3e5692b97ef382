package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spoolmq/spool"
)

const (
	maxRequestBytes = 8 << 20 // 1 MiB of message, each byte of which JSON may write as six, and room for the rest
	bodyTimeout     = 30 * time.Second
	replyTimeout    = 30 * time.Second
	healthTimeout   = 5 * time.Second

	contentType   = "application/x-amz-json-1.0"
	targetPrefix  = "AmazonSQS."
	statusGone    = 499 // in the log only: the client went away
	requestIDSize = 16
)

// A Server answers the requests of SQS clients from one spool. It is an [http.Handler] for POST on every path: SDKs post
// to "/", or to the URL of the queue. It may be used by any number of goroutines.
type Server struct {
	spool *spool.Spool
	keys  keyring // immutable
	log   *slog.Logger

	bodyTimeout, replyTimeout time.Duration    // immutable
	now                       func() time.Time // immutable; for dates of signatures

	draining context.Context // ends with Drain
	drain    context.CancelFunc
}

// NewServer returns a server of what s holds. With keys a request must be signed by one of them; without keys all are
// served. s stays the caller's to close.
func NewServer(s *spool.Spool, keys keyring, log *slog.Logger) *Server {
	draining, drain := context.WithCancel(context.Background())
	return &Server{
		spool: s, keys: keys, log: log,
		bodyTimeout: bodyTimeout, replyTimeout: replyTimeout, now: time.Now,
		draining: draining, drain: drain,
	}
}

// Drain answers all receives that wait, and all that come later, with no message. It is called before a shutdown.
func (s *Server) Drain() { s.drain() }

// Health answers 200 when the spool can store, and 503 when it cannot or when the server is going down.
func (s *Server) Health(w http.ResponseWriter, r *http.Request) {
	ctx, stop := context.WithTimeout(r.Context(), healthTimeout)
	defer stop()
	err := s.draining.Err()
	if err == nil {
		err = s.spool.Sync(ctx)
	}
	if err != nil {
		s.log.Warn("unhealthy", "error", err)
		http.Error(w, "unhealthy", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// A call is one request while it is served.
type call struct {
	*Server
	ctx    context.Context // ends when the client goes away
	path   string
	base   string // what URLs of queues begin with
	region string // what ARNs are made with
	key    string // who signed; "" when nobody had to
	lost   func() // undoes what a reply that was not written has handed out; nil = nothing
}

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	id := newRequestID()
	w.Header().Set("X-Amzn-Requestid", id)
	c := &call{Server: s, ctx: r.Context(), path: r.URL.Path, base: baseURL(r), region: regionOf(r)}

	out, err := c.answer(w, r)
	status, text := http.StatusOK, []byte(nil)
	if err == nil {
		text, err = marshal(out)
	}
	if err != nil {
		status, text = failure(w.Header(), r, err)
	}
	if s.reply(w, status, text) != nil || errors.Is(err, context.Canceled) {
		status = statusGone
		if c.lost != nil {
			c.lost()
		}
	}
	s.logRequest(r, c, id, status, len(text), time.Since(start), err)
}

// answer does what the request asks for.
func (c *call) answer(w http.ResponseWriter, r *http.Request) (any, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, refuse("MethodNotAllowed", "%s is not served, only POST", r.Method)
	}
	body, err := c.readBody(w, r)
	if err != nil {
		return nil, err
	}
	if len(c.keys) > 0 {
		if c.key, err = c.keys.verify(r, body, c.now()); err != nil {
			return nil, err
		}
	}
	do, err := operationOf(r.Header.Get("X-Amz-Target"))
	if err != nil {
		return nil, err
	}
	return do(c, body)
}

// readBody reads a body to its end: only then does net/http notice a client that goes away while it is served.
func (c *call) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > maxRequestBytes {
		w.Header().Set("Connection", "close")
		return nil, refuse("RequestEntityTooLarge", "the request has %d bytes, limit %d", r.ContentLength, maxRequestBytes)
	}
	// A recorder does not support deadlines, and needs none. At the end of the body net/http takes this one away.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(c.bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBytes))
	if err != nil {
		w.Header().Set("Connection", "close")
	}
	var timeout net.Error
	switch {
	case err == nil:
		return body, nil
	case errors.As(err, new(*http.MaxBytesError)):
		return nil, refuse("RequestEntityTooLarge", "the request has more than %d bytes", maxRequestBytes)
	case errors.As(err, &timeout) && timeout.Timeout():
		return nil, refuse("RequestTimeout", "the body did not come within %v", c.bodyTimeout)
	}
	return nil, refuse("SerializationException", "the body could not be read")
}

// reply writes a reply. It answers an error when the client cannot have got all of it.
func (s *Server) reply(w http.ResponseWriter, status int, text []byte) error {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", fmt.Sprint(len(text)))
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(s.replyTimeout)) // net/http takes it away after the reply
	w.WriteHeader(status)
	_, err := w.Write(text)
	if err == nil {
		err = rc.Flush()
	}
	return err
}

// logRequest writes one line a request, without anything of its body.
func (s *Server) logRequest(r *http.Request, c *call, id string, status, size int, took time.Duration, err error) {
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("id", id), slog.String("remote", r.RemoteAddr), slog.String("target", clip(r.Header.Get("X-Amz-Target"))),
		slog.Int("status", status), slog.Int64("in", r.ContentLength), slog.Int("out", size), slog.Duration("took", took),
	}
	if c.key != "" {
		attrs = append(attrs, slog.String("key", c.key))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", shapeOf(err)))
		if status >= http.StatusInternalServerError {
			level = slog.LevelError
			attrs = append(attrs, slog.String("cause", err.Error()))
		}
	}
	s.log.LogAttrs(r.Context(), level, "request", attrs...)
}

// clip bounds what a client can make the log hold.
func clip(text string) string { return text[:min(len(text), 80)] }

func newRequestID() string {
	var b [requestIDSize]byte
	_, _ = rand.Read(b[:]) // never fails
	h := hex.EncodeToString(b[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// decode reads a request's JSON. Text that is not UTF-8 is refused: it would not be stored as it came.
func decode(body []byte, in any) error {
	if !utf8.Valid(body) {
		return refuse("InvalidMessageContents", "the request is not UTF-8")
	}
	if err := json.Unmarshal(body, in); err != nil {
		if t := (*json.UnmarshalTypeError)(nil); errors.As(err, &t) {
			return refuse("SerializationException", "%s cannot be a JSON %s", clip(t.Field), clip(t.Value))
		}
		return refuse("SerializationException", "the body is not the JSON object that is expected")
	}
	return nil
}

func marshal(out any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(out); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
