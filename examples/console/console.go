// Package console shows a spool in a browser: its queues with their counters, rates and recent past; the settings of a
// queue, to be changed; the heads of its messages; and a timeline on which it can be rewound.
//
// It is one http.Handler, to be mounted in the server of the program that has the spool open. Pages are made on the
// server and work without JavaScript; with it they are live. Nothing is loaded from anywhere else.
//
// Who can see the console can read, bring back and purge messages. It is for the machine it runs on, unless it has a
// login; see [Options].
package console

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/spoolmq/spool"
)

const (
	defaultPrefix   = "/console"
	defaultInterval = 2 * time.Second
	maxPoints       = 150 // five minutes
	maxSampled      = 200 // queues; 150 points of 64 bytes for each
	maxStreams      = 64  // live pages at a time
)

// ErrNoLogin refuses a console that other machines could reach without a password.
var ErrNoLogin = errors.New("console: the server can be reached from other machines, and there is no login")

// Options say where a console is and who may see it.
type Options struct {
	// Prefix is the path at which the handler is mounted. It begins with a slash and does not end with one. Default
	// "/console".
	Prefix string

	// Listen is the address at which the server listens, as net.Listener's Addr has it. Without a Login it must be a
	// loopback address, and then requests must be for a loopback host as well: pages of other sites whose names were
	// made to lead to this machine are refused.
	Listen string

	// Login is "USER:PASSWORD" for HTTP's basic authentication, "" for none. It goes over the wire as it is: have TLS in
	// front where others can listen.
	Login string

	// Interval is how often the counters of queues are sampled and live pages are refreshed. Default 2 s.
	Interval time.Duration

	// Logger gets a line for each change that is made, and for what fails. Default: none.
	Logger *slog.Logger
}

// A Console is an http.Handler. It may be used by any number of requests at a time; at most 64 of them are live pages.
// It has one goroutine, which samples the first 200 queues by name, 150 points of each. Close ends it.
type Console struct {
	spool   *spool.Spool
	prefix  string
	log     *slog.Logger
	sampler *sampler
	handler http.Handler
	streams chan struct{} // a token for each live page

	closed context.Context
	close  context.CancelFunc
	work   sync.WaitGroup // the sampler
}

//go:embed assets
var assets embed.FS

// templates escape by context whatever is put in: bodies of messages and paths of requests are anybody's.
var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"ago": ago, "ahead": ahead, "utc": utc, "rate": rateText, "count": countText, "duration": formatDuration,
}).ParseFS(assets, "assets/*.html"))

// Handler returns the console of s, which stays the caller's to close, after the console. It answers [ErrNoLogin] when
// other machines could reach it without one; a server then goes on without a console.
func Handler(s *spool.Spool, o Options) (*Console, error) {
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if o.Interval == 0 {
		o.Interval = defaultInterval
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case !strings.HasPrefix(o.Prefix, "/") || strings.HasSuffix(o.Prefix, "/") || strings.ContainsAny(o.Prefix, "{} "):
		return nil, fmt.Errorf("console: the prefix %q is not a path like /console", o.Prefix)
	case o.Interval < 0:
		return nil, fmt.Errorf("console: the interval %v is negative", o.Interval)
	case o.Login == "" && !isLoopback(o.Listen):
		return nil, fmt.Errorf("%w: %s", ErrNoLogin, o.Listen)
	}
	g, err := newGuard(o.Login)
	if err != nil {
		return nil, err
	}
	c := &Console{
		spool: s, prefix: o.Prefix, log: o.Logger,
		sampler: newSampler(s, o.Interval), streams: make(chan struct{}, maxStreams),
	}
	c.handler = g.wrap(c.routes())
	c.closed, c.close = context.WithCancel(context.Background())
	c.work.Go(func() { c.sampler.run(c.closed) })
	return c, nil
}

// ServeHTTP answers requests whose path is the prefix or below it.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.handler.ServeHTTP(w, r) }

// Serves reports whether a request is for the console: its path is the prefix or below it.
func (c *Console) Serves(r *http.Request) bool {
	return r.URL.Path == c.prefix || strings.HasPrefix(r.URL.Path, c.prefix+"/")
}

// Close ends live pages and the sampling. It may be called twice, and while requests are under way: a server calls it
// when it begins to shut down (http.Server.RegisterOnShutdown), since live pages last for ever otherwise.
func (c *Console) Close() error {
	c.close()
	c.work.Wait()
	return nil
}

func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+c.prefix, http.RedirectHandler(c.prefix+"/", http.StatusMovedPermanently))
	mux.HandleFunc("GET "+c.prefix+"/{$}", c.listPage)
	mux.HandleFunc("GET "+c.prefix+"/events", c.listEvents)
	mux.HandleFunc("GET "+c.prefix+"/queues/{queue}", c.queuePage)
	mux.HandleFunc("GET "+c.prefix+"/queues/{queue}/events", c.queueEvents)
	mux.HandleFunc("POST "+c.prefix+"/queues/{queue}/settings", c.changeSettings)
	mux.HandleFunc("GET "+c.prefix+"/queues/{queue}/rewind", c.rewindPage)
	mux.HandleFunc("POST "+c.prefix+"/queues/{queue}/rewind", c.rewind)
	mux.HandleFunc("GET "+c.prefix+"/queues/{queue}/purge", c.purgePage)
	mux.HandleFunc("POST "+c.prefix+"/queues/{queue}/purge", c.purge)
	for _, name := range []string{"style.css", "live.js", "icon.svg"} {
		mux.HandleFunc("GET "+c.prefix+"/"+name, func(w http.ResponseWriter, r *http.Request) {
			http.ServeFileFS(w, r, assets, "assets/"+name)
		})
	}
	mux.HandleFunc(c.prefix+"/", func(w http.ResponseWriter, r *http.Request) {
		c.problem(w, http.StatusNotFound, "There is no such page.")
	})
	return mux
}
