// Command sqshttp serves a spool to clients of Amazon SQS: the AWS SDKs, the AWS CLI, and whatever else speaks the JSON
// protocol of SQS (AWS JSON 1.0).
//
// Usage:
//
//	sqshttp -dir DIRECTORY [-listen ADDRESS] [-keys ID:SECRET[,ID:SECRET] | -keys @FILE] [-console-user USER:PASSWORD]
//
// It has a console for browsers at /console/, when -listen is a loopback address or -console-user is given.
// Without -keys every request is served, signed or not. With -keys a request must be signed (Signature Version 4) by one
// of them. SIGINT and SIGTERM end it in good order: polls that wait are answered, then the spool is closed.
//
// The exit code is 0 after a shutdown in good order, 1 when something failed and 2 for wrong usage.
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
	"syscall"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/examples/console"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

const (
	headerTimeout   = 10 * time.Second // to send the head of a request
	idleTimeout     = 2 * time.Minute  // of a connection between requests; SDKs drop theirs after 90 s
	maxHeaderBytes  = 32 << 10
	shutdownTimeout = 10 * time.Second
)

type options struct {
	dir    string
	listen string
	keys   keyring
	login  string // of the console
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stderr))
}

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
		log.Error("stopped", "error", err)
		return exitFailed
	}
	return 0
}

// parse reads the flags and has said on stderr what is wrong with them when it returns an error.
func parse(args []string, stderr io.Writer) (*options, error) {
	o := new(options)
	var keys string
	f := flag.NewFlagSet("sqshttp", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.dir, "dir", "", "`directory` of the spool; it is created if it is not there")
	f.StringVar(&o.listen, "listen", "127.0.0.1:9324", "`address` to listen on")
	f.StringVar(&keys, "keys", "", "`ID:SECRET[,ID:SECRET]` that requests must be signed with, or @FILE with one on each line")
	f.StringVar(&o.login, "console-user", "", "who may use the console: `USER:PASSWORD`; needed for one when -listen is not a loopback address")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	var err error
	switch {
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.dir == "":
		err = errors.New("-dir is missing")
	default:
		o.keys, err = readKeys(keys)
	}
	if err != nil {
		fmt.Fprintln(stderr, "sqshttp:", err)
		f.Usage()
	}
	return o, err
}

// serve serves until ctx ends, and returns when everything is closed.
func serve(ctx context.Context, o *options, log *slog.Logger) (err error) {
	s, err := spool.Open(o.dir, spool.WithLogger(log))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()

	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	pages, err := openConsole(s, l.Addr().String(), o.login, log)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	sqs := NewServer(s, o.keys, log)
	srv := newHTTPServer(route(sqs, pages), sqs)
	if pages != nil {
		defer pages.Close()
		srv.RegisterOnShutdown(func() { pages.Close() })
	}

	if tcp, ok := l.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && len(o.keys) == 0 {
		log.Warn("everybody who reaches this address may do everything: no -keys", "addr", l.Addr())
	}
	log.Info("listening", "addr", l.Addr(), "dir", o.dir, "keys", len(o.keys))
	return listen(ctx, l, srv, log)
}

// openConsole returns nil when others could reach the console without a login: the API is served all the same.
func openConsole(s *spool.Spool, addr, login string, log *slog.Logger) (*console.Console, error) {
	pages, err := console.Handler(s, console.Options{Listen: addr, Login: login, Logger: log})
	if errors.Is(err, console.ErrNoLogin) {
		log.Warn("there is no console: give it -console-user, or listen at a loopback address", "error", err)
		return nil, nil
	}
	return pages, err
}

// route tells the API from what is beside it. pages is nil when there is no console.
func route(sqs *Server, pages *console.Console) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", sqs.Health)
	mux.Handle("/", sqs)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if pages != nil && pages.Serves(r) {
			pages.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// newHTTPServer returns an HTTP server that bounds what a client may take without an answer. It has no WriteTimeout,
// which would end long polls; the handler bounds the reading of a body and the writing of a reply itself.
func newHTTPServer(h http.Handler, sqs *Server) *http.Server {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(sqs.log.Handler(), slog.LevelDebug),
	}
	srv.RegisterOnShutdown(sqs.Drain)
	return srv
}

// listen serves on l until ctx ends; then it lets requests under way end.
func listen(ctx context.Context, l net.Listener, srv *http.Server, log *slog.Logger) error {
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	log.Info("shutting down")
	deadline, stop := context.WithTimeout(context.Background(), shutdownTimeout)
	defer stop()
	err := srv.Shutdown(deadline)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests are under way after %v: %w", shutdownTimeout, err), srv.Close())
	}
	<-failed
	return err
}
