package console

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spoolmq/spool"
)

const (
	listSize   = 100 // queues a page
	headsShown = 10
)

// A page is what all of them have.
type page struct {
	Title  string
	Prefix string
	Reload bool // without JavaScript the page asks for itself again
	Done   string
}

func (c *Console) page(title string) page { return page{Title: title, Prefix: c.prefix} }

// A listView is the queues from one name on.
type listView struct {
	page
	Query, After string // what was asked for
	Rows         []*queueView
	More         string // the name after which the next page begins; empty on the last
	Queues       int    // that match
}

// A queueView is one queue with its recent past.
type queueView struct {
	Prefix, Name string
	spool.Attributes
	Rates rates
	Chart chart
}

// render writes a page as a whole: a template that fails half way leaves no half of a page.
func (c *Console) render(w http.ResponseWriter, status int, name string, data any) {
	text, err := c.text(name, data)
	if err != nil {
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) // a browser that has gone away
}

func (c *Console) text(name string, data any) ([]byte, error) {
	var b bytes.Buffer
	err := templates.ExecuteTemplate(&b, name, data)
	if err != nil {
		c.log.Error("a template failed", "name", name, "err", err)
	}
	return b.Bytes(), err
}

// problem answers with a page that says what is wrong.
func (c *Console) problem(w http.ResponseWriter, status int, text string) {
	c.render(w, status, "problem", struct {
		page
		Text string
	}{c.page("That did not work"), text})
}

// refuse answers for an error of the spool.
func (c *Console) refuse(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case r.Context().Err() != nil: // nobody is there to read it
	case errors.Is(err, spool.ErrInvalidArgument):
		c.problem(w, http.StatusUnprocessableEntity, err.Error())
	case errors.Is(err, spool.ErrQueueNotFound):
		c.problem(w, http.StatusNotFound, "There is no such queue.")
	case errors.Is(err, spool.ErrInvalidRewindTime), errors.Is(err, spool.ErrRewindDisabled):
		c.problem(w, http.StatusUnprocessableEntity, err.Error())
	case errors.Is(err, spool.ErrClosed):
		c.problem(w, http.StatusServiceUnavailable, "The spool is closed.")
	default:
		c.log.Error("console", "path", r.URL.Path, "err", err)
		c.problem(w, http.StatusInternalServerError, "The spool answered with an error; the log has it.")
	}
}

// queue returns the queue that a path names, or answers that there is none.
func (c *Console) queue(w http.ResponseWriter, r *http.Request) *spool.Queue {
	q, err := c.spool.Queue(r.PathValue("queue"))
	if err != nil {
		c.refuse(w, r, err)
		return nil
	}
	return q
}

// view reads a queue. width and height are those of its chart.
func (c *Console) view(r *http.Request, q *spool.Queue, width, height int) (*queueView, error) {
	a, err := q.Attributes(r.Context())
	if err != nil {
		return nil, err
	}
	points := c.sampler.points(q.Name(), a.CreatedAt)
	return &queueView{Prefix: c.prefix, Name: q.Name(), Attributes: a, Rates: ratesOf(points), Chart: draw(points, width, height)}, nil
}

// list reads the queues that a request asks for: those whose name has q in it, after the name of after.
func (c *Console) list(r *http.Request) (*listView, error) {
	v := &listView{page: c.page("Queues"), Query: r.FormValue("q"), After: r.FormValue("after")}
	v.Reload = true
	for _, q := range c.spool.Queues() {
		if !strings.Contains(strings.ToLower(q.Name()), strings.ToLower(v.Query)) {
			continue
		}
		v.Queues++
		if q.Name() <= v.After || v.More != "" {
			continue
		}
		if len(v.Rows) == listSize {
			v.More = v.Rows[listSize-1].Name
			continue
		}
		row, err := c.view(r, q, 150, 30)
		if errors.Is(err, spool.ErrQueueNotFound) {
			continue // deleted since we looked
		}
		if err != nil {
			return nil, err
		}
		v.Rows = append(v.Rows, row)
	}
	return v, nil
}

func (c *Console) listPage(w http.ResponseWriter, r *http.Request) {
	v, err := c.list(r)
	if err != nil {
		c.refuse(w, r, err)
		return
	}
	c.render(w, http.StatusOK, "list", v)
}

// A peeked message is one that could be received now.
type peeked struct {
	*spool.Delivery
	Head head
}

// queuePage shows one queue.
func (c *Console) queuePage(w http.ResponseWriter, r *http.Request) {
	q := c.queue(w, r)
	if q == nil {
		return
	}
	live, err := c.view(r, q, 600, 120)
	if err != nil {
		c.refuse(w, r, err)
		return
	}
	line, err := newTimeline(r.Context(), q)
	if err != nil {
		c.refuse(w, r, err)
		return
	}
	heads, unreadable := q.Peek(r.Context(), headsShown)
	if unreadable != nil && !errors.Is(unreadable, spool.ErrCorrupt) {
		c.refuse(w, r, unreadable)
		return
	}
	v := struct {
		page
		Live       *queueView
		Timeline   *timeline
		Heads      []peeked
		Unreadable error
		Settings   []setting
		Modified   int64
	}{c.page(q.Name()), live, line, nil, unreadable, settingsOf(live.Meta), live.ModifiedAt.UnixNano()}
	for _, d := range heads {
		v.Heads = append(v.Heads, peeked{d, headOf(d.Body)})
	}
	v.Done = done(r)
	c.render(w, http.StatusOK, "queue", v)
}

// done says what the change before has done: pages are answered to changes by a redirect, so that they can be loaded
// again.
func done(r *http.Request) string {
	n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
	switch what := r.FormValue("done"); {
	case what == "settings":
		return "The settings are changed."
	case what == "purge":
		return "Everything in the queue is gone."
	case what == "rewind" && err == nil && n == 1:
		return "1 message is back."
	case what == "rewind" && err == nil:
		return countText(n) + " messages are back."
	}
	return ""
}

// instantFormats are what a browser's input and the links of the timeline send.
var instantFormats = []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04"}

// instant reads a time; without a zone it is UTC.
func instant(text string) (time.Time, bool) {
	for _, f := range instantFormats {
		if t, err := time.Parse(f, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
