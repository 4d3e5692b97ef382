// Package cmq answers the HTTP query API of Tencent's CMQ (version 2, queue model) from a spool, so that programs that
// use CMQ's SDKs run unchanged against a directory of their own.
//
// One endpoint takes every action as a form-encoded POST or as a GET, at any path. Every answer is a JSON object with
// HTTP status 200, whatever went wrong: the SDKs look at nothing else. The ranges are CMQ's, which are narrower than a
// spool's: 16 messages and 1 MiB a batch, waits up to 30 s, delays up to an hour, leases up to 12 hours.
//
// What is stricter or other than in CMQ stands in the README beside this package.
package cmq

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spoolmq/spool"
)

const (
	defaultWindow       = 15 * time.Minute
	defaultBodyTimeout  = 30 * time.Second
	defaultReplyTimeout = 30 * time.Second
)

// Options say how a Handler checks requests and where it logs them.
type Options struct {
	// Keys has the secretKey of each secretId that may sign requests. At least one; none of them empty.
	Keys map[string]string

	// Window is how far the Timestamp of a request may be from the server's clock, either way. Default 15 min.
	// Within it a request that was seen can be sent again: the Python SDK does so by itself.
	Window time.Duration

	// Logger gets one line a request, with no body, receipt or signature in it. Default: none.
	Logger *slog.Logger
}

// A Handler is the http.Handler of the API. It may be used by any number of requests at a time.
//
// The http.Server around it must not have a WriteTimeout or ReadTimeout shorter than 30 s, the longest wait: each
// request gets deadlines of its own for its body and its reply. Paths must reach it as they were sent: they are signed.
type Handler struct {
	spool  *spool.Spool
	keys   map[string]string
	window time.Duration
	log    *slog.Logger

	bodyTimeout  time.Duration // for a request's body to arrive
	replyTimeout time.Duration // for a reply to be taken

	draining context.Context // done when receives do not wait any more
	drain    context.CancelFunc
	broken   atomic.Bool // an I/O error: the spool refuses every call until it is opened again
}

// New returns a handler over s, which stays the caller's to close, after the server is shut down. It fails when there is
// no key, or an empty one.
func New(s *spool.Spool, o Options) (*Handler, error) {
	if len(o.Keys) == 0 {
		return nil, errors.New("cmq: no keys: there must be one secretId with its secretKey at least")
	}
	for id, key := range o.Keys {
		if id == "" || key == "" {
			return nil, fmt.Errorf("cmq: the secretId %q or its secretKey is empty", id)
		}
	}
	h := &Handler{
		spool: s, keys: maps.Clone(o.Keys), window: o.Window, log: o.Logger,
		bodyTimeout: defaultBodyTimeout, replyTimeout: defaultReplyTimeout,
	}
	if h.window == 0 {
		h.window = defaultWindow
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.draining, h.drain = context.WithCancel(context.Background())
	return h, nil
}

// Drain answers the receives that wait with "no message", and lets none wait any more. It is for the shutdown of a
// server, which waits for requests under way: see http.Server.RegisterOnShutdown.
func (h *Handler) Drain() { h.drain() }

// Health is nil while requests can be served: not after Drain, and not after an I/O error, which only opening the spool
// again can heal.
func (h *Handler) Health() error {
	switch {
	case h.broken.Load():
		return spool.ErrStoreFailed
	case h.draining.Err() != nil:
		return errors.New("cmq: shutting down")
	}
	return nil
}

// A call is one request on its way.
type call struct {
	ctx                context.Context // ends when the client goes away
	began              time.Time
	id                 string // requestId
	method, host, path string // as the client signed them
	params             params
	secretID           string            // empty until it is known who asks
	deliveries         []*spool.Delivery // what the reply hands over
	rc                 *http.ResponseController
}

// A reply is the members of an answer beside code, message and requestId.
type reply map[string]any

// actions are what can be asked for.
var actions = map[string]func(*Handler, *call) (reply, error){
	"CreateQueue":           (*Handler).createQueue,
	"ListQueue":             (*Handler).listQueue,
	"GetQueueAttributes":    (*Handler).getQueueAttributes,
	"SetQueueAttributes":    (*Handler).setQueueAttributes,
	"DeleteQueue":           (*Handler).deleteQueue,
	"UnbindDeadLetterQueue": (*Handler).unbindDeadLetterQueue,
	"RewindQueue":           (*Handler).rewindQueue,
	"ClearQueue":            (*Handler).clearQueue,
	"SendMessage":           (*Handler).sendMessage,
	"BatchSendMessage":      (*Handler).batchSendMessage,
	"ReceiveMessage":        (*Handler).receiveMessage,
	"BatchReceiveMessage":   (*Handler).batchReceiveMessage,
	"DeleteMessage":         (*Handler).deleteMessage,
	"BatchDeleteMessage":    (*Handler).batchDeleteMessage,
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{
		ctx: r.Context(), began: time.Now(), id: rand.Text(),
		method: r.Method, host: r.Host, path: r.URL.EscapedPath(),
		rc: http.NewResponseController(w),
	}
	members, err := h.answer(c, r)
	a := &apiError{members: members}
	if err != nil {
		a = h.refuse(c, err)
	}
	unsent := h.write(w, c, a)
	if unsent != nil {
		h.takeBack(c)
	}
	h.record(c, r, a, err, unsent)
}

// refuse returns the answer for an error, and remembers one that no later call can heal.
func (h *Handler) refuse(c *call, err error) *apiError {
	if errors.Is(err, spool.ErrStoreFailed) {
		h.broken.Store(true)
	}
	a := translate(err)
	if a.module == 10390 && c.method == http.MethodGet {
		a.module = 10400
	}
	return a
}

// answer reads a request, checks who signed it and does what it asks for.
func (h *Handler) answer(c *call, r *http.Request) (reply, error) {
	text := r.URL.RawQuery
	switch r.Method {
	case http.MethodGet:
	case http.MethodPost:
		var err error
		if text, err = h.body(c, r); err != nil {
			return nil, err
		}
	default:
		return nil, fail(4000, 10410, "the method must be POST or GET")
	}
	var err error
	if c.params, err = parse(text); err != nil {
		return nil, err
	}
	if err := h.authenticate(c); err != nil {
		return nil, err
	}
	name, err := c.params.text("Action")
	if err != nil {
		return nil, err
	}
	act, known := actions[name]
	if !known {
		return nil, fail(4000, 10280, "the action %s is unknown", shown(name))
	}
	return act(h, c)
}

// body reads the body to its end, which is also what lets net/http see that a client has gone away during a wait. net/http
// lifts the deadline at the end of the body; before it, the connection is of no more use.
func (h *Handler) body(c *call, r *http.Request) (string, error) {
	_ = c.rc.SetReadDeadline(c.began.Add(h.bodyTimeout)) // what has no deadlines is a test's
	var text strings.Builder
	n := r.ContentLength
	if n <= maxRequest {
		var err error
		if n, err = io.Copy(&text, io.LimitReader(r.Body, maxRequest+1)); err != nil {
			return "", fail(4000, 10420, "the request could not be read to its end")
		}
	}
	if n > maxRequest {
		return "", fail(4000, 10420, "the request is larger than %d bytes", maxRequest)
	}
	return text.String(), nil
}

// write sends an answer as a whole. It fails when the client was gone before, or did not take it in time; nil means that
// it has gone out, not that it has arrived.
func (h *Handler) write(w http.ResponseWriter, c *call, a *apiError) error {
	if err := c.ctx.Err(); err != nil && c.params != nil { // a body that does not arrive ends the context too
		return err
	}
	members := reply{"code": a.code, "message": a.message(), "requestId": c.id}
	maps.Copy(members, a.members)
	text, err := json.Marshal(members)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_ = c.rc.SetWriteDeadline(time.Now().Add(h.replyTimeout))
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := c.rc.Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// takeBack makes the messages of a reply that was not sent visible again at once.
func (h *Handler) takeBack(c *call) {
	for _, d := range c.deliveries {
		if err := d.Release(context.WithoutCancel(c.ctx), 0); err != nil {
			h.log.Error("a message that could not be handed over stays hidden until its lease ends", "id", d.ID, "err", err)
		}
	}
}

// record writes the line of a request. err is why it was refused, unsent why its answer was not sent; what a client did
// wrong, and its going away, are no more than information.
func (h *Handler) record(c *call, r *http.Request, a *apiError, err, unsent error) {
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("requestId", c.id), slog.String("remote", r.RemoteAddr), slog.String("secretId", shown(c.secretID)),
		slog.String("action", shown(c.params["Action"])), slog.String("queue", shown(c.params["queueName"])),
		slog.Int("code", a.code), slog.Int("module", a.module), slog.Int("delivered", len(c.deliveries)),
		slog.Duration("took", time.Since(c.began)),
	}
	switch {
	case unsent != nil:
		attrs = append(attrs, slog.String("unsent", unsent.Error()))
	case a.code == codeInternal:
		level = slog.LevelError
		attrs = append(attrs, slog.String("err", err.Error()))
	}
	h.log.LogAttrs(context.WithoutCancel(c.ctx), level, "request", attrs...)
}
