package console_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/examples/console"
)

var screenshot = flag.String("console.screenshot", "", "make the picture of the README: `file` to write it to")

// A browser is a Chromium without a window, and a console that it looks at.
type browser struct {
	context.Context
	t     *testing.T
	spool *spool.Spool
	url   string

	mu         sync.Mutex
	complaints []string // guarded by mu; what the browser has refused to do, and dialogs
}

func newBrowser(t *testing.T, interval time.Duration) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("no Chromium in PATH (Debian: apt-get install chromium): the console is not looked at in a browser")
	}
	s, err := spool.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	c, err := console.Handler(s, console.Options{Listen: loopback, Interval: interval})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(c)
	flags := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(1200, 1000))
	ctx, stop := chromedp.NewExecAllocator(context.Background(), flags...)
	ctx, closeTab := chromedp.NewContext(ctx)
	ctx, giveUp := context.WithTimeout(ctx, 50*time.Second)
	b := &browser{Context: ctx, t: t, spool: s, url: server.URL}
	t.Cleanup(func() {
		giveUp()
		closeTab()
		stop()
		c.Close()
		server.CloseClientConnections()
		server.Close()
		s.Close()
	})
	err = chromedp.Listen(ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *cdplog.EventEntryAdded:
			b.complaints = append(b.complaints, e.Entry.Text)
		case *page.EventJavascriptDialogOpening:
			b.complaints = append(b.complaints, "a dialog: "+e.Message)
		}
	})
	if err == nil {
		_, err = chromedp.Call(ctx, cdplog.Enable, cdp.Empty{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *browser) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b, actions...); err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.t.Fatalf("%v; the browser said %q", err, b.complaints)
	}
}

// click clicks and waits for the page that it leads to.
func (b *browser) click(selector string) {
	b.t.Helper()
	if _, err := chromedp.RunResponse(b, chromedp.Click(selector)); err != nil {
		b.t.Fatalf("a click on %s: %v", selector, err)
	}
}

func (b *browser) text() string {
	b.t.Helper()
	text, err := chromedp.Run(b, chromedp.Text("body"))
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

func (b *browser) has(wants ...string) {
	b.t.Helper()
	text := b.text()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			b.t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
}

// content waits until the page has a text, which the live parts bring.
func (b *browser) content(want string) {
	b.t.Helper()
	b.run(chromedp.Poll[chromedp.Void](fmt.Sprintf("document.body.innerText.includes(%q)", want), chromedp.WithPollingInterval(20*time.Millisecond)))
}

func (b *browser) queue(name string, meta spool.Meta, handled, active int) *spool.Queue {
	b.t.Helper()
	q, err := b.spool.CreateQueue(b, name, meta)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := range handled + active {
		if _, err = q.Send(b, spool.Message{Body: fmt.Appendf(nil, "<script>alert(%d)</script>", i)}); err != nil {
			b.t.Fatal(err)
		}
	}
	for range handled {
		d, err := q.Receive(b, spool.Wait(0))
		if err == nil {
			err = d.Delete(b)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
	return q
}

// What a person does, with JavaScript and without it.
func TestBrowser(t *testing.T) {
	for _, scripts := range []bool{true, false} {
		t.Run(map[bool]string{true: "with JavaScript", false: "without JavaScript"}[scripts], func(t *testing.T) {
			b := newBrowser(t, 50*time.Millisecond)
			q := b.queue("jobs", spool.Meta{Rewind: time.Hour}, 7, 2)
			if _, err := chromedp.Call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !scripts}); err != nil {
				t.Fatal(err)
			}
			b.run(chromedp.Navigate(b.url + "/console/"))
			b.has("jobs", "1 queue.")
			if scripts {
				if _, err := q.Send(b, spool.Message{Body: []byte("live")}); err != nil {
					t.Fatal(err)
				}
				b.content("jobs\t3\t0\t0\t7")
			}
			b.click(`a[href$="/queues/jobs"]`)
			b.has("by the time at which they were sent: 7", "<script>alert(7)</script>")
			b.click(`form[action$="/rewind"] button`)
			b.has("brings back 7 of 7 deleted")
			b.click(`form[action$="/rewind"] button`)
			b.has("7 messages are back.")
			a, err := q.Attributes(b)
			if err != nil || a.Rewindable != 0 || a.Active < 9 {
				t.Fatalf("after the rewind: %+v, %v", a, err)
			}
			b.run(chromedp.SetValue("#visibilityTimeout", "2m"))
			b.click(`form.settings button`)
			b.has("The settings are changed.")
			if got := q.Meta().VisibilityTimeout; got != 2*time.Minute {
				t.Errorf("VisibilityTimeout is %v", got)
			}
			b.click(`a[href$="/purge"]`)
			b.run(chromedp.SendKeys(`input[name=name]`, "jobs"))
			b.click("button.danger")
			b.has("Everything in the queue is gone.")
			b.mu.Lock()
			defer b.mu.Unlock()
			if len(b.complaints) > 0 {
				t.Errorf("the browser complains: %q", b.complaints)
			}
		})
	}
}

// A page of another origin, opened in the same browser, cannot make the console change anything.
func TestBrowserCrossOrigin(t *testing.T) {
	b := newBrowser(t, time.Second)
	q := b.queue("jobs", spool.Meta{}, 0, 1)
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<form method="post" action="%s/console/queues/jobs/purge"><input name="name" value="jobs"><button>Win</button></form>`, b.url)
	}))
	defer evil.Close()
	for _, url := range []string{evil.URL, strings.Replace(evil.URL, "127.0.0.1", "localhost", 1)} {
		b.run(chromedp.Navigate(url))
		answer, err := chromedp.RunResponse(b, chromedp.Click("button"))
		if err != nil || answer.Status != http.StatusForbidden {
			t.Fatalf("%s: %+v, %v, want status 403", url, answer, err)
		}
	}
	if a, err := q.Attributes(b); err != nil || a.Active != 1 {
		t.Errorf("another origin has purged the queue: %+v, %v", a, err)
	}
	evil.CloseClientConnections()
}

// A queue at work can be drawn. With -console.screenshot it is the picture in the README, after twenty seconds of work.
func TestScreenshot(t *testing.T) {
	span := time.Second
	if *screenshot != "" {
		span = 20 * time.Second
	}
	b := newBrowser(t, span/150)
	q, err := b.spool.CreateQueue(b, "orders", spool.Meta{Rewind: span, VisibilityTimeout: 1500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n, end := 0, time.Now().Add(span); time.Now().Before(end); n++ {
		<-tick.C
		wave := 1 + n/40%5
		for i := range wave {
			body := fmt.Sprintf(`{"order":%d,"item":"lamp no. %d","count":%d}`, n*10+i, n%7, 1+i)
			if _, err := q.Send(b, spool.Message{Body: []byte(body), Attributes: map[string]string{"shop": "north"}}); err != nil {
				t.Fatal(err)
			}
		}
		ds, err := q.ReceiveBatch(b, 3, spool.Wait(0))
		if err != nil {
			continue
		}
		for i, d := range ds {
			if (n+i)%9 != 0 {
				d.Delete(b)
			}
		}
	}
	b.run(chromedp.Navigate(b.url+"/console/queues/orders"), chromedp.EmulateViewport(1000, 1050))
	text, err := chromedp.Run(b, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(text))
	if err != nil || picture.Bounds().Dx() != 1000 || picture.Bounds().Dy() != 1050 {
		t.Fatalf("the picture is no PNG of 1000×1050: %v", err)
	}
	if *screenshot != "" {
		if err := os.WriteFile(*screenshot, text, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s has %d bytes", *screenshot, len(text))
	}
}
