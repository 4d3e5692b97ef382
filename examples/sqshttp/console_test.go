package main

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spoolmq/spool"
)

// TestConsole: the console is there at a loopback address; elsewhere it needs a login, and the API is served without it.
func TestConsole(t *testing.T) {
	s, err := spool.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sqs := NewServer(s, nil, slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		addr, login string
		status      int
		answer      string
	}{
		{"127.0.0.1:9324", "", 200, "There is no queue."},
		{"127.0.0.1:9324", "ops:secret", 401, "a user and a password"},
		{"[::]:9324", "", 405, ""}, // the API's answer
		{"[::]:9324", "ops:secret", 401, "a user and a password"},
	} {
		var log strings.Builder
		pages, err := openConsole(s, c.addr, c.login, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if missing := strings.Contains(log.String(), "there is no console"); missing != (pages == nil) {
			t.Errorf("%+v: the log has %q", c, log.String())
		}
		r := httptest.NewRequest("GET", "/console/", nil)
		r.Host = "localhost:9324"
		w := httptest.NewRecorder()
		route(sqs, pages).ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.answer) {
			t.Errorf("%+v: %d %s", c, w.Code, w.Body)
		}
		w = httptest.NewRecorder()
		route(sqs, pages).ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
		if w.Code != 200 {
			t.Errorf("%+v: healthz = %d", c, w.Code)
		}
		if pages != nil {
			pages.Close()
		}
	}
}
