// Package transport has the smallest server of a spool that is worth having: what to mind when writing one's own.
package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/spoolmq/spool"
)

// NewHandler serves POST /QUEUE to send, GET /QUEUE to receive and DELETE /QUEUE/RECEIPT to delete.
func NewHandler(s *spool.Spool) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do func(*spool.Queue, http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			q, err := s.Queue(r.PathValue("queue"))
			if err == nil {
				err = do(q, w, r)
			}
			switch code := spool.CodeOf(err); {
			case errors.Is(err, spool.ErrNoMessage):
				w.WriteHeader(http.StatusNoContent)
			case code == 6000: // an I/O error, a full disk, Close
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
			case code != 0:
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		})
	}
	handle("POST /{queue}", func(q *spool.Queue, w http.ResponseWriter, r *http.Request) error {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(q.Meta().MaxMessageSize)))
		if err != nil {
			return fmt.Errorf("%w: %w", spool.ErrInvalidArgument, err)
		}
		id, err := q.Send(r.Context(), spool.Message{Body: body})
		if err == nil {
			fmt.Fprint(w, id)
		}
		return err
	})
	handle("GET /{queue}", func(q *spool.Queue, w http.ResponseWriter, r *http.Request) error {
		d, err := q.Receive(r.Context(), spool.Wait(20*time.Second)) // ends when the client goes away
		if err != nil {
			return err
		}
		w.Header().Set("Receipt", d.Receipt)
		if _, err := w.Write(d.Body); err == nil && http.NewResponseController(w).Flush() == nil {
			return nil
		}
		return d.Release(context.WithoutCancel(r.Context()), 0) // not written: somebody else gets it now
	})
	handle("DELETE /{queue}/{receipt}", func(q *spool.Queue, w http.ResponseWriter, r *http.Request) error {
		return q.Delete(r.Context(), r.PathValue("receipt"))
	})
	return mux
}

func Example() {
	s, err := spool.OpenMemory()
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	if _, err := s.CreateQueue(context.Background(), "jobs", spool.Meta{}); err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(NewHandler(s))
	defer server.Close()

	do := func(method, path, body string) (text, receipt string) {
		r, err := http.NewRequest(method, server.URL+path, strings.NewReader(body))
		if err != nil {
			log.Fatal(err)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			log.Fatal(err)
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		if err != nil {
			log.Fatal(err)
		}
		return strings.TrimSpace(res.Status + " " + string(answer)), res.Header.Get("Receipt")
	}
	do("POST", "/jobs", "hello")
	text, receipt := do("GET", "/jobs", "")
	fmt.Println("received:", text)
	text, _ = do("DELETE", "/jobs/"+receipt, "")
	fmt.Println("deleted:", text)
	text, _ = do("DELETE", "/jobs/"+receipt, "")
	fmt.Println("again:", text)
	// Output:
	// received: 200 OK hello
	// deleted: 200 OK
	// again: 400 Bad Request spool: invalid receipt: Deleted
}
