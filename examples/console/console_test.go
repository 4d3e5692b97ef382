package console_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/examples/console"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const loopback = "127.0.0.1:8080"

// A site is a console and what a browser would do with it. It belongs into a synctest bubble: time is virtual.
type site struct {
	t       *testing.T
	spool   *spool.Spool
	console *console.Console
	login   string
}

func newSite(t *testing.T, o console.Options) *site {
	t.Helper()
	s, err := spool.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	if o.Listen == "" {
		o.Listen = loopback
	}
	c, err := console.Handler(s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		s.Close()
	})
	return &site{t: t, spool: s, console: c}
}

// in runs a test in a bubble.
func in(t *testing.T, o console.Options, test func(*testing.T, *site)) {
	synctest.Test(t, func(t *testing.T) { test(t, newSite(t, o)) })
}

func (s *site) queue(name string, meta spool.Meta) *spool.Queue {
	s.t.Helper()
	q, err := s.spool.CreateQueue(context.Background(), name, meta)
	if err != nil {
		s.t.Fatal(err)
	}
	return q
}

func (s *site) send(q *spool.Queue, bodies ...string) {
	s.t.Helper()
	for _, body := range bodies {
		if _, err := q.Send(context.Background(), spool.Message{Body: []byte(body)}); err != nil {
			s.t.Fatal(err)
		}
	}
}

// handle receives and deletes n messages.
func (s *site) handle(q *spool.Queue, n int) {
	s.t.Helper()
	for range n {
		d, err := q.Receive(context.Background(), spool.Wait(0))
		if err == nil {
			err = d.Delete(context.Background())
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *site) do(r *http.Request) *httptest.ResponseRecorder {
	if r.Host == "example.com" { // httptest's
		r.Host = loopback
	}
	if user, password, ok := strings.Cut(s.login, ":"); ok {
		r.SetBasicAuth(user, password)
	}
	w := httptest.NewRecorder()
	s.console.ServeHTTP(w, r)
	return w
}

// get loads a page that must have a status, and returns it.
func (s *site) get(path string, status int) string {
	s.t.Helper()
	w := s.do(httptest.NewRequest("GET", path, nil))
	if w.Code != status {
		s.t.Fatalf("GET %s: %d, want %d: %s", path, w.Code, status, w.Body)
	}
	return w.Body.String()
}

// post sends a form as a browser on the console's own page does. A change is answered by a redirect, which is followed.
func (s *site) post(path string, status int, form url.Values) string {
	s.t.Helper()
	r := httptest.NewRequest("POST", path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "http://"+loopback)
	w := s.do(r)
	if w.Code != status {
		s.t.Fatalf("POST %s: %d, want %d: %s", path, w.Code, status, w.Body)
	}
	if w.Code == http.StatusSeeOther {
		return s.get(w.Header().Get("Location"), 200)
	}
	return w.Body.String()
}

var field = regexp.MustCompile(`<input[^>]* name="([^"]*)"[^>]* value="([^"]*)"`)

// form is what stands in the inputs of a page.
func form(page string) url.Values {
	v := url.Values{}
	for _, m := range field.FindAllStringSubmatch(page, -1) {
		v.Set(m[1], m[2])
	}
	return v
}

func (s *site) attributes(q *spool.Queue) spool.Attributes {
	s.t.Helper()
	a, err := q.Attributes(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *site) has(page string, wants ...string) {
	s.t.Helper()
	for _, want := range wants {
		if !strings.Contains(page, want) {
			s.t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}

func TestList(t *testing.T) {
	in(t, console.Options{}, func(t *testing.T, s *site) {
		s.has(s.get("/console/", 200), "There is no queue.")
		jobs := s.queue("jobs", spool.Meta{Rewind: time.Hour})
		for i := range 130 {
			s.queue(fmt.Sprintf("q-%03d", i), spool.Meta{})
		}
		time.Sleep(time.Second) // between two samples
		for range 30 {          // a message every two seconds, half of which are handled
			s.send(jobs, "a", "b")
			s.handle(jobs, 1)
			time.Sleep(2 * time.Second)
		}
		synctest.Wait()
		page := s.get("/console/?q=JOB", 200)
		s.has(page, `href="/console/queues/jobs"`, `<td class="n">30</td><td class="n">0</td><td class="n">0</td><td class="n">30</td>`,
			"<td class=\"n\">1.0</td><td class=\"n\">0.5</td><td class=\"n\">0.5</td>", "<polyline", `<td class="n">30 s</td>`, "1 queue.")
		if page := s.get("/console/", 200); strings.Count(page, "<tr>") != 101 {
			t.Errorf("%d rows, want 100 and the head", strings.Count(page, "<tr>"))
		} else {
			s.has(page, "131 queues.", `href="/console/?q=&amp;after=q-098"`)
		}
		s.has(s.get("/console/?after=q-098", 200), "q-099", "q-129")
		if w := s.do(httptest.NewRequest("GET", "/console", nil)); w.Code != 301 || w.Header().Get("Location") != "/console/" {
			t.Errorf("/console: %d to %s", w.Code, w.Header().Get("Location"))
		}
	})
}

// The samples are bounded, and those of a queue that is made again begin again.
func TestSamples(t *testing.T) {
	in(t, console.Options{}, func(t *testing.T, s *site) {
		q := s.queue("q", spool.Meta{})
		time.Sleep(time.Hour)
		synctest.Wait()
		points := func() int {
			m := regexp.MustCompile(`l-active" points="([^"]*)"`).FindStringSubmatch(s.get("/console/queues/q", 200))
			if m == nil {
				return 0
			}
			return len(strings.Fields(m[1]))
		}
		if n := points(); n != 150 {
			t.Errorf("%d points after an hour, want 150", n)
		}
		if err := s.spool.DeleteQueue(t.Context(), q.Name()); err != nil {
			t.Fatal(err)
		}
		s.queue("q", spool.Meta{})
		if n := points(); n != 0 {
			t.Errorf("%d points of a queue that was just made", n)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := points(); n < 2 || n > 3 {
			t.Errorf("%d points after 5 s, want 2 or 3", n)
		}
	})
}

// Whatever is in a message or an address is shown, not run.
func TestEscaping(t *testing.T) {
	in(t, console.Options{}, func(t *testing.T, s *site) {
		const hostile = `<script>alert("1")</script>`
		q := s.queue("q", spool.Meta{MaxMessageSize: 1 << 20})
		for _, m := range []spool.Message{
			{Body: []byte(hostile), Attributes: map[string]string{hostile: hostile}},
			{Body: []byte("\x00\xff\xfe<b>")},
			{Body: []byte("bell \x07 right-to-left \u202e end")},
			{Body: []byte(strings.Repeat("ü", 300))},
			{Body: bytes.Repeat([]byte{0x80}, 1<<20)},
		} {
			if _, err := q.Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		pages := []string{
			s.get("/console/queues/q", 200),
			s.get("/console/queues/"+url.PathEscape(hostile), 404),
			s.get("/console/?q="+url.QueryEscape(hostile)+"&after="+url.QueryEscape(hostile), 200),
			s.get("/console/queues/q?done="+url.QueryEscape(hostile)+"&n=7", 200),
			s.get("/console/queues/q/rewind?to="+url.QueryEscape(hostile), 400),
			s.get("/console/"+url.PathEscape(hostile), 404),
			s.post("/console/queues/q/settings", 422, url.Values{"visibilityTimeout": {hostile}}),
		}
		for _, page := range pages {
			if strings.Contains(page, "<script>") || strings.Contains(page, "\u202e") || strings.Contains(page, "\x00") {
				t.Errorf("not escaped: %s", page)
			}
		}
		s.has(pages[0], "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;", "00000000  00 ff fe 3c 62 3e", "bell � right-to-left � end",
			strings.Repeat("ü", 120)+"</pre>", "and 360 bytes more", "and 1048456 bytes more")
		if len(pages[0]) > 100_000 {
			t.Errorf("the page has %d bytes", len(pages[0]))
		}
		if a := s.attributes(q); a.Received != 0 || a.Active != 5 {
			t.Errorf("looking at messages received them: %+v", a)
		}
	})
}

// A rewind without JavaScript: a click on the timeline, the question, the answer.
func TestRewind(t *testing.T) {
	in(t, console.Options{}, func(t *testing.T, s *site) {
		q := s.queue("q", spool.Meta{Rewind: time.Hour})
		for i := range 6 { // at 0, 10 … 50 minutes
			s.send(q, fmt.Sprint("message ", i))
			s.handle(q, 1)
			time.Sleep(10 * time.Minute)
		}
		time.Sleep(time.Second) // the first one is out of the window now
		page := s.get("/console/queues/q", 200)
		s.has(page, "by the time at which they were sent: 5.")
		links := regexp.MustCompile(`href="(/console/queues/q/rewind\?to=[^"]*)"><title>[^:]*:\d\d:\d\d UTC: (\d+) here, (\d+) from here on`).FindAllStringSubmatch(page, -1)
		if len(links) != 60 {
			t.Fatalf("%d bars, want 60", len(links))
		}
		total, chosen := 0, ""
		for _, l := range links {
			if l[2] != "0" {
				total++
			}
			if l[2] == "1" && l[3] == "3" {
				chosen = l[1]
			}
		}
		if total != 5 || chosen == "" {
			t.Fatalf("%d bars have messages, want 5; the one of the last three: %q", total, chosen)
		}
		page = s.get(chosen, 200)
		s.has(page, "brings back <b>3</b> of 5 deleted")
		if a := s.attributes(q); a.Active != 0 {
			t.Fatalf("the question was taken for the answer: %d are active", a.Active)
		}
		page = s.post("/console/queues/q/rewind", 303, form(page))
		s.has(page, "3 messages are back.", "message 3", "message 5")
		if a := s.attributes(q); a.Active != 3 || a.Rewindable != 2 {
			t.Errorf("%d active, %d rewindable, want 3 and 2", a.Active, a.Rewindable)
		}
		time.Sleep(3 * time.Second)
		s.has(s.get(links[0][1], 200), "brings back <b>2</b> of 2") // the window has not moved past it

		for _, to := range []string{"", "yesterday", "2026-13-01T00:00:00"} {
			s.get("/console/queues/q/rewind?to="+to, 400)
			s.post("/console/queues/q/rewind", 400, url.Values{"to": {to}})
		}
		early := time.Now().Add(-2 * time.Hour).UTC().Format("2006-01-02T15:04:05")
		s.has(s.get("/console/queues/q/rewind?to="+early, 422), "invalid rewind time: allowed from")
		s.post("/console/queues/q/rewind", 422, url.Values{"to": {early}})
		s.queue("off", spool.Meta{})
		s.has(s.get("/console/queues/off", 200), "are not kept")
		s.get("/console/queues/off/rewind?to="+early, 422)
	})
}

// The instant that the form proposes is one that can be rewound to.
func TestProposedInstant(t *testing.T) {
	in(t, console.Options{}, func(t *testing.T, s *site) {
		q := s.queue("q", spool.Meta{Rewind: time.Hour})
		for range 90 {
			s.send(q, "x")
			s.handle(q, 1)
			to := form(s.get("/console/queues/q", 200)).Get("to")
			s.get("/console/queues/q/rewind?to="+to, 200)
			time.Sleep(time.Minute + 100*time.Millisecond)
		}
	})
}

func TestPurge(t *testing.T) {
	in(t, console.Options{}, func(t *testing.T, s *site) {
		q := s.queue("q", spool.Meta{Rewind: time.Hour})
		s.send(q, "a", "b", "c")
		s.handle(q, 1)
		s.has(s.get("/console/queues/q/purge", 200), "2 active, 0 inactive, 0 delayed and 1 rewindable messages")
		s.post("/console/queues/q/purge", 422, nil)
		s.post("/console/queues/q/purge", 422, url.Values{"name": {"Q"}})
		if a := s.attributes(q); a.Active != 2 {
			t.Fatalf("%d are active, want 2", a.Active)
		}
		s.has(s.post("/console/queues/q/purge", 303, url.Values{"name": {"q"}}), "Everything in the queue is gone.")
		if a := s.attributes(q); a.Active+a.Rewindable != 0 {
			t.Errorf("left: %+v", a)
		}
		s.get("/console/queues/none/purge", 404)
		s.post("/console/queues/none/purge", 404, url.Values{"name": {"none"}})
	})
}

func TestSettings(t *testing.T) {
	in(t, console.Options{}, func(t *testing.T, s *site) {
		s.queue("dead", spool.Meta{})
		meta := spool.Meta{VisibilityTimeout: 90 * time.Second, Retention: 36 * time.Hour, Rewind: time.Hour, Delay: 1500 * time.Millisecond}
		q := s.queue("q", meta)
		f := form(s.get("/console/queues/q", 200))
		for name, want := range map[string]string{"visibilityTimeout": "1m30s", "retention": "1d12h", "rewind": "1h", "delay": "1.5s", "maxMessages": "100000000", "deadLetter": ""} {
			if f.Get(name) != want {
				t.Errorf("%s is %q, want %q", name, f.Get(name), want)
			}
		}
		before := q.Meta()
		s.post("/console/queues/q/settings", 303, f)
		if q.Meta() != before {
			t.Errorf("the form as it was made %+v of %+v", q.Meta(), before)
		}
		time.Sleep(time.Second)
		s.post("/console/queues/q/settings", 303, form(s.get("/console/queues/q", 200)))
		s.post("/console/queues/q/settings", 409, f) // ModifiedAt has moved

		f = form(s.get("/console/queues/q", 200))
		for name, value := range map[string]string{"visibilityTimeout": "2d", "retention": "4d1h30m", "pollingWait": "20", "deadLetter": "dead", "maxReceives": "3", "maxAge": "30m"} {
			f.Set(name, value)
		}
		s.has(s.post("/console/queues/q/settings", 303, f), "The settings are changed.", `value="4d1h30m"`, `value="dead"`)
		got := q.Meta()
		if got.VisibilityTimeout != 48*time.Hour || got.Retention != 97*time.Hour+30*time.Minute || got.PollingWait != 20*time.Second ||
			*got.DeadLetter != (spool.DeadLetter{Queue: "dead", MaxReceives: 3, MaxAge: 30 * time.Minute}) {
			t.Errorf("the queue is set to %+v, %+v", got, got.DeadLetter)
		}
		for name, wrong := range map[string]string{"retention": "0.5s", "rewind": "5d", "visibilityTimeout": "soon", "maxMessages": "1.5", "maxMessageSize": "99999999999999999999", "deadLetter": "none", "delay": "1d-1h"} {
			f := form(s.get("/console/queues/q", 200))
			f.Set(name, wrong)
			s.post("/console/queues/q/settings", 422, f)
		}
		if now := q.Meta(); *now.DeadLetter != *got.DeadLetter || now.Retention != got.Retention {
			t.Errorf("refused, and yet %+v", now)
		}
	})
}

// A page of another site cannot make the browser change anything.
func TestCrossOrigin(t *testing.T) {
	in(t, console.Options{}, func(t *testing.T, s *site) {
		q := s.queue("q", spool.Meta{})
		s.send(q, "x")
		for _, h := range [][2]string{
			{"Origin", "http://evil.example"}, {"Origin", "null"}, {"Origin", "http://127.0.0.1:9090"},
			{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"},
		} {
			r := httptest.NewRequest("POST", "/console/queues/q/purge", strings.NewReader("name=q"))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set(h[0], h[1])
			if w := s.do(r); w.Code != http.StatusForbidden {
				t.Errorf("%s: %s: %d, want 403", h[0], h[1], w.Code)
			}
		}
		for _, path := range []string{"settings", "rewind", "purge"} {
			if w := s.do(httptest.NewRequest("GET", "/console/queues/q/"+path+"?name=q&to=2026-01-01T00:00:00Z", nil)); w.Code == http.StatusSeeOther {
				t.Errorf("a GET of %s changes the queue", path)
			}
		}
		if a := s.attributes(q); a.Active != 1 {
			t.Errorf("%d are active, want 1", a.Active)
		}
		r := httptest.NewRequest("POST", "/console/queues/q/purge", strings.NewReader("name=q"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		if w := s.do(r); w.Code != http.StatusSeeOther {
			t.Errorf("the console's own page: %d, want 303", w.Code)
		}
	})
}

func TestHeaders(t *testing.T) {
	in(t, console.Options{}, func(t *testing.T, s *site) {
		s.queue("q", spool.Meta{})
		for _, path := range []string{"/console/", "/console/queues/q", "/console/nothing", "/console/live.js", "/console/style.css", "/console/icon.svg"} {
			w := s.do(httptest.NewRequest("GET", path, nil))
			policy := w.Header().Get("Content-Security-Policy")
			if !strings.Contains(policy, "default-src 'none'; script-src 'self';") || strings.Contains(policy, "unsafe") || w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: %v", path, w.Header())
			}
			if body := w.Body.String(); regexp.MustCompile(`(?i)<script(>|[^>]*>[^<])| on[a-z]+=| style=|<style`).MatchString(body) && strings.Contains(body, "<html") {
				t.Errorf("%s has script or style in it: %s", path, body)
			}
		}
	})
}

// Names that lead here from elsewhere are refused where there is no login.
func TestHost(t *testing.T) {
	in(t, console.Options{}, func(t *testing.T, s *site) {
		for host, want := range map[string]int{
			"127.0.0.1:8080": 200, "localhost:8080": 200, "LOCALHOST": 200, "[::1]:8080": 200, "127.9.9.9": 200, "[::ffff:127.0.0.1]:1": 200,
			"evil.example:8080": 403, "192.168.0.1:8080": 403, "localhost.evil.example": 403, "": 403, "[::]:80": 403,
		} {
			r := httptest.NewRequest("GET", "/console/", nil)
			r.Host = host
			if w := s.do(r); w.Code != want {
				t.Errorf("host %q: %d, want %d", host, w.Code, want)
			}
		}
	})
}

func TestLogin(t *testing.T) {
	in(t, console.Options{Listen: "[::]:8080", Login: "ops:sec:ret"}, func(t *testing.T, s *site) {
		q := s.queue("q", spool.Meta{})
		s.send(q, "x")
		ask := func(method, path string) int {
			r := httptest.NewRequest(method, path, strings.NewReader("name=q"))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Host = "queues.example:8080"
			return s.do(r).Code
		}
		for _, login := range []string{"", "ops:", ":sec:ret", "ops:wrong", "ops:sec", "root:sec:ret"} {
			s.login = login
			for _, path := range []string{"/console/", "/console/queues/q", "/console/events", "/console/live.js", "/console/nothing"} {
				if got := ask("GET", path); got != http.StatusUnauthorized {
					t.Errorf("login %q: %s answers %d", login, path, got)
				}
			}
			if got := ask("POST", "/console/queues/q/purge"); got != http.StatusUnauthorized {
				t.Errorf("login %q: purge answers %d", login, got)
			}
		}
		if a := s.attributes(q); a.Active != 1 {
			t.Errorf("%d are active, want 1", a.Active)
		}
		s.login = "ops:sec:ret"
		if got := ask("GET", "/console/"); got != 200 {
			t.Errorf("with the login: %d", got)
		}
	})
}

func TestOptions(t *testing.T) {
	for _, listen := range []string{"", "0.0.0.0:80", "[::]:80", ":8080", "192.168.0.1:80", "example.com:80", "/run/socket"} {
		if _, err := console.Handler(nil, console.Options{Listen: listen}); !errors.Is(err, console.ErrNoLogin) {
			t.Errorf("listening at %q without a login: %v, want ErrNoLogin", listen, err)
		}
	}
	for _, o := range []console.Options{{Prefix: "console"}, {Prefix: "/console/"}, {Prefix: "/{x}"}, {Interval: -1}, {Login: "user"}, {Login: "user:"}, {Login: ":password"}} {
		o.Listen = loopback
		if _, err := console.Handler(nil, o); err == nil || errors.Is(err, console.ErrNoLogin) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	in(t, console.Options{Prefix: "/a/b"}, func(t *testing.T, s *site) {
		s.queue("q", spool.Meta{})
		s.has(s.get("/a/b/", 200), `href="/a/b/queues/q"`, `src="/a/b/live.js"`)
		for path, want := range map[string]bool{"/a/b": true, "/a/b/": true, "/a/b/x": true, "/a/bc": false, "/": false} {
			if got := s.console.Serves(httptest.NewRequest("GET", path, nil)); got != want {
				t.Errorf("Serves(%s) = %v", path, got)
			}
		}
	})
}

// A live page gets a part of itself after each sample, until the browser goes away or the console is closed.
func TestEvents(t *testing.T) {
	for _, end := range []string{"the browser leaves", "the console is closed", "the queue is deleted"} {
		t.Run(end, func(t *testing.T) {
			in(t, console.Options{Interval: time.Second}, func(t *testing.T, s *site) {
				q := s.queue("q", spool.Meta{})
				synctest.Wait() // the first sample is taken
				ctx, leave := context.WithCancel(t.Context())
				r, w := io.Pipe()
				ended := make(chan struct{})
				go func() {
					req := httptest.NewRequestWithContext(ctx, "GET", "/console/queues/q/events", nil)
					req.Host = loopback
					s.console.ServeHTTP(&pipeWriter{w: w, header: http.Header{}}, req)
					w.Close()
					close(ended)
				}()
				events := make(chan string)
				go func() {
					defer close(events)
					var b bytes.Buffer
					for buf := make([]byte, 4096); ; {
						n, err := r.Read(buf)
						b.Write(buf[:n])
						for {
							e, rest, ok := strings.Cut(b.String(), "\n\n")
							if !ok {
								break
							}
							b = *bytes.NewBufferString(rest)
							events <- e
						}
						if err != nil {
							return
						}
					}
				}()
				for i := range 3 {
					e := <-events
					for line := range strings.Lines(e) {
						if !strings.HasPrefix(line, "data: ") {
							t.Fatalf("event %d has the line %q", i, line)
						}
					}
					s.has(e, fmt.Sprintf("<dt>Active</dt><dd>%d</dd>", i))
					s.send(q, "x")
				}
				switch end {
				case "the browser leaves":
					leave()
				case "the console is closed":
					s.console.Close()
				case "the queue is deleted":
					if err := s.spool.DeleteQueue(t.Context(), "q"); err != nil {
						t.Fatal(err)
					}
				}
				for range events { // none but what was on its way
				}
				<-ended
				leave()
			})
		})
	}
}

// pipeWriter is a ResponseWriter whose reader is elsewhere.
type pipeWriter struct {
	w      *io.PipeWriter
	header http.Header
}

func (p *pipeWriter) Header() http.Header         { return p.header }
func (p *pipeWriter) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p *pipeWriter) WriteHeader(int)             {}
func (p *pipeWriter) Flush()                      {}

// Live pages are limited, and one that ends makes room.
func TestManyLivePages(t *testing.T) {
	in(t, console.Options{}, func(t *testing.T, s *site) {
		ctx, leave := context.WithCancel(t.Context())
		for range 64 {
			go func() {
				r := httptest.NewRequestWithContext(ctx, "GET", "/console/events", nil)
				s.do(r)
			}()
		}
		synctest.Wait()
		if w := s.do(httptest.NewRequest("GET", "/console/events", nil)); w.Code != http.StatusServiceUnavailable {
			t.Errorf("live page 65: %d, want 503", w.Code)
		}
		leave()
		synctest.Wait()
		ctx, leave = context.WithCancel(t.Context())
		leave()
		if w := s.do(httptest.NewRequestWithContext(ctx, "GET", "/console/events", nil)); w.Code != 200 {
			t.Errorf("after they have gone: %d, want 200", w.Code)
		}
	})
}

func TestClosedSpool(t *testing.T) {
	var log bytes.Buffer
	in(t, console.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, s *site) {
		q := s.queue("q", spool.Meta{})
		s.send(q, "x")
		s.post("/console/queues/q/purge", 303, url.Values{"name": {"q"}})
		s.has(log.String(), "change=purge queue=q")
		s.spool.Close()
		s.get("/console/queues/q", 503)
		time.Sleep(time.Minute) // the sampler goes on
		s.console.Close()
		s.console.Close()
	})
}
