package console

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spoolmq/spool"
)

// maxForm is far more than any form of the console has.
const maxForm = 64 << 10

// A setting is a field of a queue's Meta in a form.
type setting struct {
	Name, Label, Value, Hint string
}

// A field is one of them: how it is shown and read. Meta's DeadLetter is there in both.
type field struct {
	name, label, hint string
	show              func(*spool.Meta) string
	read              func(*spool.Meta, string) error
}

// fields are in the order of the form.
var fields = []field{
	durationField("visibilityTimeout", "Visibility timeout", "how long a received message is hidden; up to 365d", func(m *spool.Meta) *time.Duration { return &m.VisibilityTimeout }),
	durationField("pollingWait", "Polling wait", "how long a receive waits by itself; up to 24h", func(m *spool.Meta) *time.Duration { return &m.PollingWait }),
	durationField("retention", "Retention", "how long a message lives; lowering it drops what is older, at once", func(m *spool.Meta) *time.Duration { return &m.Retention }),
	durationField("rewind", "Rewind", "how long a deleted message can be brought back, 0 for not at all; lowering it drops what is older, at once", func(m *spool.Meta) *time.Duration { return &m.Rewind }),
	durationField("delay", "Delay", "of a message that names none", func(m *spool.Meta) *time.Duration { return &m.Delay }),
	numberField("maxMessageSize", "Largest body", "bytes, up to 16777216", func(m *spool.Meta) *int { return &m.MaxMessageSize }),
	numberField("maxMessages", "Most messages", "up to 1000000000", func(m *spool.Meta) *int64 { return &m.MaxMessages }),
	{"deadLetter", "Dead-letter queue", "an existing queue; empty for none",
		func(m *spool.Meta) string { return m.DeadLetter.Queue },
		func(m *spool.Meta, text string) error { m.DeadLetter.Queue = text; return nil }},
	numberField("maxReceives", "… after receives", "1 to 1000; 0 for not by count", func(m *spool.Meta) *int { return &m.DeadLetter.MaxReceives }),
	durationField("maxAge", "… after an age of", "less than the retention; 0 for not by age", func(m *spool.Meta) *time.Duration { return &m.DeadLetter.MaxAge }),
}

func durationField(name, label, hint string, at func(*spool.Meta) *time.Duration) field {
	return field{name, label, hint,
		func(m *spool.Meta) string { return formatDuration(*at(m)) },
		func(m *spool.Meta, text string) (err error) { *at(m), err = parseDuration(text); return err },
	}
}

func numberField[T int | int64](name, label, hint string, at func(*spool.Meta) *T) field {
	return field{name, label, hint,
		func(m *spool.Meta) string { return strconv.FormatInt(int64(*at(m)), 10) },
		func(m *spool.Meta, text string) error {
			n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
			if *at(m) = T(n); err != nil || int64(T(n)) != n {
				return errors.New("is not an integer")
			}
			return nil
		},
	}
}

// settingsOf fills the form. It leaves meta's DeadLetter alone.
func settingsOf(meta spool.Meta) (s []setting) {
	if meta.DeadLetter == nil {
		meta.DeadLetter = new(spool.DeadLetter)
	}
	for _, f := range fields {
		s = append(s, setting{f.name, f.label, f.show(&meta), f.hint})
	}
	return s
}

// readSettings reads the form.
func readSettings(r *http.Request) (spool.Meta, error) {
	m := spool.Meta{DeadLetter: new(spool.DeadLetter)}
	for _, f := range fields {
		text := r.PostFormValue(f.name)
		if err := f.read(&m, text); err != nil {
			return m, fmt.Errorf("%s: %.50q %w", f.label, text, err)
		}
	}
	if m.DeadLetter.Queue == "" {
		m.DeadLetter = nil
	}
	return m, nil
}

// changeSettings sets a queue to what the form says, unless it was changed since the form was made.
func (c *Console) changeSettings(w http.ResponseWriter, r *http.Request) {
	q := c.form(w, r)
	if q == nil {
		return
	}
	want, err := readSettings(r)
	if err != nil {
		c.problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	a, err := q.Attributes(r.Context())
	if err == nil && strconv.FormatInt(a.ModifiedAt.UnixNano(), 10) != r.PostFormValue("modified") {
		c.problem(w, http.StatusConflict, "The settings were changed by somebody else meanwhile. Nothing was changed now: look at the queue again.")
		return
	}
	if err == nil {
		err = q.SetMeta(r.Context(), func(m *spool.Meta) { *m = want })
	}
	c.finish(w, r, q, err, "settings", 0)
}

// form returns the queue of a change whose form has been read, or answers why there is none.
func (c *Console) form(w http.ResponseWriter, r *http.Request) *spool.Queue {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		c.problem(w, http.StatusBadRequest, "The form could not be read.")
		return nil
	}
	return c.queue(w, r)
}

// finish answers a change: by the queue's page, or by what is wrong.
func (c *Console) finish(w http.ResponseWriter, r *http.Request, q *spool.Queue, err error, what string, n int64) {
	if err != nil {
		c.refuse(w, r, err)
		return
	}
	user, _, _ := r.BasicAuth()
	c.log.Info("console", "change", what, "queue", q.Name(), "messages", n, "user", user, "remote", r.RemoteAddr)
	http.Redirect(w, r, fmt.Sprintf("%s/queues/%s?done=%s&n=%d", c.prefix, q.Name(), what, n), http.StatusSeeOther)
}

// A question is what a page asks before something is done.
type question struct {
	page
	Name string
	To   string // of a rewind, exact
	At   time.Time
	spool.Attributes
	Count int64 // what a rewind would bring back
}

// rewindPage says what a rewind to an instant would bring back, and asks.
func (c *Console) rewindPage(w http.ResponseWriter, r *http.Request) {
	q := c.queue(w, r)
	if q == nil {
		return
	}
	to, ok := instant(r.FormValue("to"))
	if !ok {
		c.problem(w, http.StatusBadRequest, "The instant is not a time like 2026-01-31T12:00:00, in UTC.")
		return
	}
	n, err := q.RewindPreview(r.Context(), to)
	a, err2 := q.Attributes(r.Context())
	if err := errors.Join(err, err2); err != nil {
		c.refuse(w, r, err)
		return
	}
	c.render(w, http.StatusOK, "rewind", question{c.page("Rewind " + q.Name()), q.Name(), to.UTC().Format(time.RFC3339Nano), to, a, n})
}

func (c *Console) rewind(w http.ResponseWriter, r *http.Request) {
	q := c.form(w, r)
	if q == nil {
		return
	}
	to, ok := instant(r.PostFormValue("to"))
	if !ok {
		c.problem(w, http.StatusBadRequest, "The instant is not a time.")
		return
	}
	n, err := q.Rewind(r.Context(), to)
	c.finish(w, r, q, err, "rewind", n)
}

// purgePage asks for the name of the queue.
func (c *Console) purgePage(w http.ResponseWriter, r *http.Request) {
	q := c.queue(w, r)
	if q == nil {
		return
	}
	a, err := q.Attributes(r.Context())
	if err != nil {
		c.refuse(w, r, err)
		return
	}
	c.render(w, http.StatusOK, "purge", question{page: c.page("Purge " + q.Name()), Name: q.Name(), Attributes: a})
}

func (c *Console) purge(w http.ResponseWriter, r *http.Request) {
	q := c.form(w, r)
	if q == nil {
		return
	}
	if r.PostFormValue("name") != q.Name() {
		c.problem(w, http.StatusUnprocessableEntity, "The name that was typed is not the queue's. Nothing was purged.")
		return
	}
	c.finish(w, r, q, q.Purge(r.Context()), "purge", 0)
}
