package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/examples/cmqhttp/cmq"
	"github.com/spoolmq/spool/examples/cmqhttp/internal/wire"
)

// With this variable the test binary is the server, its arguments the server's.
const childEnv = "SPOOL_CMQHTTP_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// A process is a server that a test has started.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	addr string
	rest chan string // what it has logged after it was listening, when it has ended
}

var listening = regexp.MustCompile(`msg=listening addr=(\S+)`)

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0], args...), rest: make(chan string, 1)}
	p.cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := p.cmd.StderrPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() })
	r := bufio.NewReader(out)
	for p.addr == "" {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("the server ended: %s, %v", line, err)
		}
		if m := listening.FindStringSubmatch(line); m != nil {
			p.addr = m[1]
		}
	}
	go func() {
		text, _ := io.ReadAll(r) // ends when the process does
		p.rest <- string(text)
	}()
	return p
}

// end waits for the process and returns what it has logged.
func (p *process) end() (log string, err error) {
	p.t.Helper()
	log = <-p.rest
	return log, p.cmd.Wait()
}

func (p *process) client() *wire.Client {
	return &wire.Client{Addr: p.addr, ID: "id", Key: "secret"}
}

func (p *process) do(c *wire.Conn, action string, args ...string) wire.Answer {
	p.t.Helper()
	a, err := c.Do(action, args...)
	if err != nil || a.Code != 0 {
		p.t.Fatalf("%s: %s, %v", action, a.Raw, err)
	}
	return a
}

// A server that is killed in the middle of traffic has lost nothing that it has acknowledged: every message that was sent
// comes, and none that was deleted.
func TestKill(t *testing.T) {
	const (
		cycles  = 4
		workers = 6
	)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := filepath.Join(t.TempDir(), "data")
	book := &ledger{live: map[string]bool{}, unsure: map[string]bool{}, deleted: map[string]bool{}}
	for cycle := range cycles {
		p := start(t, "-dir", dir, "-listen", "127.0.0.1:0", "-keys", "id:secret")
		if cycle == 0 {
			c := dial(t, p)
			p.do(c, "CreateQueue", "queueName", "q", "visibilityTimeout", "4") // a disk may take a second for a sync
		}
		acknowledged := make(chan struct{}, 1)
		var traffic sync.WaitGroup
		for w := range workers {
			c := dial(t, p)
			traffic.Go(func() { book.work(t, c, fmt.Sprintf("%d-%d", cycle, w), acknowledged) })
		}
		for range 50 + rng.IntN(300) {
			<-acknowledged
		}
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		p.end()
		done := make(chan struct{})
		go func() { traffic.Wait(); close(done) }()
		for open := true; open; {
			select {
			case <-acknowledged:
			case <-done:
				open = false
			}
		}
	}
	p := start(t, "-dir", dir, "-listen", "127.0.0.1:0", "-keys", "id:secret")
	c := dial(t, p)
	book.drain(p, c)
	t.Logf("%d messages acknowledged and not deleted, %d deleted, %d unknown", len(book.live), len(book.deleted), len(book.unsure))
}

func dial(t *testing.T, p *process) *wire.Conn {
	t.Helper()
	c, err := p.client().Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(3 * time.Minute))
	return c
}

// A ledger knows what the server has acknowledged.
type ledger struct {
	mu      sync.Mutex
	live    map[string]bool // sent, not deleted
	unsure  map[string]bool // a send or deletion of it was not answered
	deleted map[string]bool
}

// move puts a body from where it is known to another set.
func (l *ledger) move(body string, to map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.live, body)
	delete(l.unsure, body)
	if l.deleted[body] {
		return
	}
	to[body] = true
}

// work sends two messages for each that it deletes, until the server is gone.
func (l *ledger) work(t *testing.T, c *wire.Conn, name string, acknowledged chan<- struct{}) {
	for i := 0; ; i++ {
		args := []string{"queueName", "q"}
		for j := range 2 {
			body := fmt.Sprintf("%s-%d-%d", name, i, j)
			args = append(args, fmt.Sprintf("msgBody.%d", j), body)
			l.move(body, l.unsure)
		}
		if !l.acknowledge(t, c, "BatchSendMessage", args, nil) {
			return
		}
		for j := range 2 {
			l.move(args[3+2*j], l.live)
		}
		acknowledged <- struct{}{}
		var got wire.Answer
		if !l.acknowledge(t, c, "ReceiveMessage", []string{"queueName", "q", "pollingWaitSeconds", "3"}, &got) {
			return
		}
		body := got.Text("msgBody")
		l.move(body, l.unsure)
		if !l.acknowledge(t, c, "DeleteMessage", []string{"queueName", "q", "receiptHandle", got.Text("receiptHandle")}, nil) {
			return
		}
		l.move(body, l.deleted)
		acknowledged <- struct{}{}
	}
}

// acknowledge is false when the server is gone.
func (l *ledger) acknowledge(t *testing.T, c *wire.Conn, action string, args []string, to *wire.Answer) bool {
	a, err := c.Do(action, args...)
	if err == nil && a.Code != 0 {
		t.Errorf("%s: %s", action, a.Raw)
	}
	if to != nil {
		*to = a
	}
	return err == nil && a.Code == 0
}

// drain receives everything and compares it with what is known.
func (l *ledger) drain(p *process, c *wire.Conn) {
	t := p.t
	seen := map[string]bool{}
	for {
		a, err := c.Do("BatchReceiveMessage", "queueName", "q", "numOfMsg", "16", "pollingWaitSeconds", "6") // longer than a lease
		if err != nil {
			t.Fatal(err)
		}
		if a.Code == 7000 {
			break
		}
		for _, m := range a.Objects("msgInfoList") {
			body := m.Text("msgBody")
			if seen[body] || l.deleted[body] || !l.live[body] && !l.unsure[body] {
				t.Errorf("received %s: seen before %v, deleted %v, sent %v", body, seen[body], l.deleted[body], l.live[body] || l.unsure[body])
			}
			seen[body] = true
			p.do(c, "DeleteMessage", "queueName", "q", "receiptHandle", m.Text("receiptHandle"))
		}
	}
	for body := range l.live {
		if !seen[body] {
			t.Errorf("%s was acknowledged and is lost", body)
		}
	}
}

// SIGTERM answers those who wait, closes the spool and exits with 0; the next server finds everything.
func TestTerminate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, "-dir", dir, "-listen", "127.0.0.1:0", "-keys", "other:key, id:secret")
	if status, text := get(t, "http://"+p.addr+"/healthz"); status != 200 || text != "ok\n" {
		t.Errorf("healthz is %d %q", status, text)
	}
	c, slashes := dial(t, p), p.client()
	p.do(c, "CreateQueue", "queueName", "q")
	slashes.Path = "//v2/index.php"
	other, err := slashes.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	p.do(other, "SendMessage", "queueName", "q", "msgBody", "x")
	p.do(c, "ReceiveMessage", "queueName", "q")
	if err := c.Send("ReceiveMessage", "queueName", "q", "pollingWaitSeconds", "20"); err != nil {
		t.Fatal(err)
	}
	live, err := http.Get("http://" + p.addr + "/console/queues/q/events")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Body.Close()
	if line, err := bufio.NewReader(live.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "data: ") {
		t.Errorf("the live page begins with %q, %v", line, err)
	}
	p.do(other, "GetQueueAttributes", "queueName", "q") // the server has met the wait, or meets it while it stops
	began := time.Now()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Skipf("no signals here: %v", err)
	}
	if a, err := c.Answer(); err == nil && a.Code != 7000 {
		t.Errorf("%s, want 7000 or a closed connection", a.Raw)
	}
	if log, err := p.end(); err != nil || strings.Contains(log, "level=ERROR") {
		t.Errorf("%v: %s", err, log)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the end took %v", took)
	}
	p = start(t, "-dir", dir, "-listen", "127.0.0.1:0", "-keys", "id:secret")
	if a := p.do(dial(t, p), "GetQueueAttributes", "queueName", "q"); a.Int("inactiveMsgNum") != 1 {
		t.Errorf("%s, want one inactive message", a.Raw)
	}
}

func get(t *testing.T, url string) (status int, text string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

// The console is there at a loopback address; elsewhere it needs a login, and the API is served without it.
func TestConsole(t *testing.T) {
	s, err := spool.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	api, err := cmq.New(s, cmq.Options{Keys: map[string]string{"id": "secret"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		addr, login string
		status      int
		answer, log string
	}{
		{"127.0.0.1:8080", "", 200, "There is no queue.", ""},
		{"127.0.0.1:8080", "ops:secret", 401, "a user and a password", ""},
		{"[::]:8080", "", 200, `"code":4000`, "level=WARN msg=\"there is no console"}, // the API's answer, with the status that it always has
		{"[::]:8080", "ops:secret", 401, "a user and a password", ""},
	} {
		var log strings.Builder
		pages, err := openConsole(s, c.addr, c.login, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/console/", nil)
		r.Host = "localhost:8080"
		w := httptest.NewRecorder()
		route(api, pages).ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.answer) {
			t.Errorf("%+v: %d %s", c, w.Code, w.Body)
		}
		if strings.Contains(log.String(), "\n") != (c.log != "") || !strings.Contains(log.String(), c.log) {
			t.Errorf("%+v: the log has %q", c, log.String())
		}
		if pages != nil {
			pages.Close()
		}
	}
}

func TestUsage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("# who may\nid:secret:with:colons\n\nother:x\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := readKeys("@" + file)
	if err != nil || len(keys) != 2 || keys["id"] != "secret:with:colons" || keys["other"] != "x" {
		t.Errorf("readKeys = %v, %v", keys, err)
	}
	for _, args := range [][]string{
		{}, {"-keys", ""}, {"-keys", "id"}, {"-keys", "id:"}, {"-keys", ":hidden"}, {"-keys", "a:hidden,a:hidden"},
		{"-keys", "@" + file + "x"}, {"-keys", "a:b", "more"}, {"-nonsense"},
	} {
		var said strings.Builder
		if code := run(t.Context(), args, &said); code != exitUsage || !strings.Contains(said.String(), "-keys") || strings.Contains(said.String(), "hidden") {
			t.Errorf("%q: exit code %d, %s", args, code, said.String())
		}
	}
}

// A port that is taken and a directory that is in use end the program with a reason.
func TestFailedStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	var said strings.Builder
	if code := run(t.Context(), []string{"-dir", dir, "-listen", l.Addr().String(), "-keys", "a:b"}, &said); code != exitFailed || !strings.Contains(said.String(), "level=ERROR") {
		t.Errorf("exit code %d, %s", code, said.String())
	}
	if err := os.WriteFile(filepath.Join(dir, "other"), nil, 0o600); err == nil {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		o := &options{dir: filepath.Join(dir, "other"), keys: map[string]string{"a": "b"}}
		if err := serve(ctx, o, nil); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("serve in a file: %v", err)
		}
	}
}
