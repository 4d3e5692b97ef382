// Command cmqhttp serves a spool over the HTTP query API of Tencent's CMQ, to unchanged CMQ SDKs.
//
//	cmqhttp -dir data -listen 127.0.0.1:8080 -keys ID:SECRET
//
// It has a console for browsers at /console, when -listen is a loopback address or -console-user is given.
//
// GET /healthz answers 200 while requests can be served. SIGINT and SIGTERM end the server: receives that wait are
// answered with "no message" at once, requests under way are finished, and the spool is closed.
//
// The exit code is 0 after a signal, 1 when something failed, and 2 for wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/examples/cmqhttp/cmq"
	"github.com/spoolmq/spool/examples/console"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

// What the server grants to clients. There is no write timeout and no read timeout, which would end receives that wait:
// the handler sets deadlines for each body and each reply.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute // a client that finds its connection closed may send a message twice
	headerBytes   = 256 << 10       // a GET has its parameters there
	stopTimeout   = 15 * time.Second
)

type options struct {
	dir    string
	listen string
	keys   map[string]string
	login  string // of the console
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program
	os.Exit(run(ctx, os.Args[1:], os.Stderr))
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return exitUsage
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if err := serve(ctx, o, log); err != nil {
		log.Error("stopped", "err", err)
		return exitFailed
	}
	return 0
}

// parse reads the flags and has said on stderr what is wrong with them when it returns an error.
func parse(args []string, stderr io.Writer) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("cmqhttp", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.dir, "dir", "data", "`directory` of the spool; made when it is not there")
	f.StringVar(&o.listen, "listen", "127.0.0.1:8080", "`address` to serve at")
	keys := f.String("keys", "", "who may sign requests: `ID:SECRET[,ID:SECRET]`, or @file with one ID:SECRET a line")
	f.StringVar(&o.login, "console-user", "", "who may use the console: `USER:PASSWORD`; needed for one when -listen is not a loopback address")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	var err error
	if f.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
	} else {
		o.keys, err = readKeys(*keys)
	}
	if err != nil {
		fmt.Fprintln(stderr, "cmqhttp:", err)
		f.Usage()
	}
	return o, err
}

// readKeys reads the value of -keys. Its errors have no secret in them.
func readKeys(value string) (map[string]string, error) {
	pairs := strings.Split(value, ",")
	if file, ok := strings.CutPrefix(value, "@"); ok {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("-keys: %w", err)
		}
		pairs = strings.Split(string(text), "\n")
	}
	keys := map[string]string{}
	for i, pair := range pairs {
		pair = strings.TrimSpace(pair)
		if pair == "" || strings.HasPrefix(pair, "#") {
			continue
		}
		id, secret, _ := strings.Cut(pair, ":")
		if id == "" || secret == "" {
			return nil, fmt.Errorf("-keys: number %d is not ID:SECRET", i+1)
		}
		if _, twice := keys[id]; twice {
			return nil, fmt.Errorf("-keys: the ID %q is there twice", id)
		}
		keys[id] = secret
	}
	if len(keys) == 0 {
		return nil, errors.New("-keys is needed: ID:SECRET, or @file")
	}
	return keys, nil
}

// serve opens the spool and serves it until ctx ends.
func serve(ctx context.Context, o *options, log *slog.Logger) (err error) {
	s, err := spool.Open(o.dir, spool.WithLogger(log))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	api, err := cmq.New(s, cmq.Options{Keys: o.keys, Logger: log})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	pages, err := openConsole(s, l.Addr().String(), o.login, log)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	server := &http.Server{
		Handler:           route(api, pages),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	server.RegisterOnShutdown(api.Drain)
	if pages != nil {
		defer pages.Close()
		server.RegisterOnShutdown(func() { pages.Close() })
	}
	log.Info("listening", "addr", l.Addr().String(), "dir", o.dir)
	return serveUntil(ctx, server, l)
}

// openConsole returns nil when others could reach the console without a login: the API is served all the same.
func openConsole(s *spool.Spool, addr, login string, log *slog.Logger) (*console.Console, error) {
	pages, err := console.Handler(s, console.Options{Listen: addr, Login: login, Logger: log})
	if errors.Is(err, console.ErrNoLogin) {
		log.Warn("there is no console: give it -console-user, or listen at a loopback address", "err", err)
		return nil, nil
	}
	return pages, err
}

// serveUntil serves until ctx ends, then lets the requests under way be finished.
func serveUntil(ctx context.Context, server *http.Server, l net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := server.Shutdown(patience); err != nil {
		return server.Close() // who is not done by now is cut off: a client that sends its body slowly, for example
	}
	return nil
}

// route leaves the paths of the API as they are, since they are signed: a http.ServeMux would answer "//v2/index.php",
// which some SDKs ask for, with a redirect that no SDK follows. pages is nil when there is no console.
func route(api *cmq.Handler, pages *console.Console) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/healthz":
			health(w, api)
		case pages != nil && pages.Serves(r):
			pages.ServeHTTP(w, r)
		default:
			api.ServeHTTP(w, r)
		}
	})
}

func health(w http.ResponseWriter, api *cmq.Handler) {
	if err := api.Health(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}
