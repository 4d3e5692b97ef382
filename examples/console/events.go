package console

import (
	"bytes"
	"net/http"
	"time"
)

// streamTimeout is how long a browser may take for one event.
const streamTimeout = 10 * time.Second

func (c *Console) listEvents(w http.ResponseWriter, r *http.Request) {
	c.stream(w, r, func() ([]byte, error) {
		v, err := c.list(r)
		if err != nil {
			return nil, err
		}
		return c.text("rows", v)
	})
}

func (c *Console) queueEvents(w http.ResponseWriter, r *http.Request) {
	q := c.queue(w, r)
	if q == nil {
		return
	}
	c.stream(w, r, func() ([]byte, error) {
		v, err := c.view(r, q, 600, 120)
		if err != nil {
			return nil, err
		}
		return c.text("live", v)
	})
}

// stream sends a part of a page after each sample, until the browser goes away, the console is closed, or the part cannot
// be made any more. Bound: maxStreams at a time; each renders on its own.
func (c *Console) stream(w http.ResponseWriter, r *http.Request, part func() ([]byte, error)) {
	select {
	case c.streams <- struct{}{}:
		defer func() { <-c.streams }()
	default:
		http.Error(w, "too many live pages", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	for {
		next := c.sampler.next()
		text, err := part()
		if err != nil {
			return
		}
		_ = rc.SetWriteDeadline(time.Now().Add(streamTimeout)) // what has no deadlines is a test's
		if _, err := w.Write(event(text)); err != nil {
			return
		}
		if err := rc.Flush(); err != nil {
			return
		}
		select {
		case <-next:
		case <-r.Context().Done():
			return
		case <-c.closed.Done():
			return
		}
	}
}

// event is a text as one server-sent event.
func event(text []byte) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(text) {
		b.WriteString("data: ")
		b.Write(bytes.TrimRight(line, "\r\n"))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return b.Bytes()
}
