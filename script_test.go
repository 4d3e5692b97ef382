package spool_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
)

var scriptUpdate = flag.Bool("update", false, "write what the scripts in testdata/scripts answer into them")

// TestScripts plays testdata/scripts/*.txt: commands, a line of four dashes, what they answer, an empty line. They are
// meant to be read. Time is virtual and shown as what has passed since the script began; IDs are shown as m1, m2, … and
// receipts as r1, r2, … in the order in which they are first seen. The commands are the methods of script.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/scripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			synctest.Test(t, func(t *testing.T) { got = playScript(t, string(text)) })
			if *scriptUpdate {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want := strings.Split(string(text), "\n")
			for i, line := range strings.Split(got, "\n") {
				if i >= len(want) || line != want[i] {
					t.Fatalf("%s:%d: got %q, want %q\n\n%s", file, i+1, line, append(want, "the end")[min(i, len(want))], got)
				}
			}
		})
	}
}

// A script is a spool under virtual time and the names of what has been seen.
type script struct {
	t        *testing.T
	s        *spool.Spool
	begun    time.Time
	messages []string // IDs; m1 is the first
	receipts []string // r1 is the first
	waiters  []*scriptWaiter
}

type scriptWaiter struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	answer func() string // valid after done
}

// playScript returns the text with the answers that were given.
func playScript(t *testing.T, text string) string {
	s, err := spool.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	sc := &script{t: t, s: s, begun: time.Now()}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for _, w := range sc.waiters {
			w.cancel()
			<-w.done
		}
	}()
	var out strings.Builder
	var block []string
	recorded := false // within the recorded answers of a block
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		switch {
		case recorded:
			recorded = line != ""
			if !recorded {
				out.WriteString("\n")
			}
		case line == "----":
			out.WriteString("----\n")
			for _, command := range block {
				out.WriteString(sc.run(command))
			}
			block, recorded = nil, true
		default:
			out.WriteString(line + "\n")
			if line != "" && !strings.HasPrefix(line, "#") {
				block = append(block, line)
			}
		}
	}
	if len(block) > 0 {
		t.Fatalf("commands without ----: %q", block)
	}
	return out.String()
}

// run answers one command, and what receivers in the background got by then.
func (sc *script) run(command string) string {
	words := strings.Fields(command)
	a := scriptArgs{t: sc.t, named: map[string]string{}}
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			a.named[k] = v
		} else {
			a.plain = append(a.plain, w)
		}
	}
	verbs := map[string]func(scriptArgs) string{
		"create": sc.create, "set": sc.set, "drop": sc.drop, "send": sc.send, "receive": sc.receive, "wait": sc.wait, "cancel": sc.cancel,
		"delete": sc.delete, "extend": sc.extend, "release": sc.release, "rewind": sc.rewind, "peek": sc.peek, "purge": sc.purge,
		"show": sc.show, "sleep": sc.sleep,
	}
	do := verbs[words[0]]
	if do == nil {
		sc.t.Fatalf("unknown command %q", command)
	}
	answer := do(a)
	synctest.Wait()
	for _, w := range slices.Clone(sc.waiters) {
		select {
		case <-w.done:
			answer += w.name + " " + w.answer()
			sc.waiters = slices.DeleteFunc(sc.waiters, func(o *scriptWaiter) bool { return o == w })
		default:
		}
	}
	return answer
}

type scriptArgs struct {
	t     *testing.T
	plain []string
	named map[string]string
}

func (a scriptArgs) duration(name string) time.Duration {
	if a.named[name] == "" {
		return 0
	}
	d, err := time.ParseDuration(a.named[name])
	if err != nil {
		a.t.Fatal(err)
	}
	return d
}

func (a scriptArgs) number(name string) int {
	n, err := strconv.Atoi(a.named[name])
	if err != nil && a.named[name] != "" {
		a.t.Fatal(err)
	}
	return n
}

func (sc *script) queue(a scriptArgs) *spool.Queue {
	q, err := sc.s.Queue(a.plain[0])
	if err != nil {
		sc.t.Fatal(err)
	}
	return q
}

// answer is one line: what is said when err is nil, or the sentinel that err answers to.
func (sc *script) answer(err error, format string, args ...any) string {
	if err == nil {
		return fmt.Sprintf(format, args...) + "\n"
	}
	var re *spool.RewindRangeError
	if errors.As(err, &re) {
		return fmt.Sprintf("ErrInvalidRewindTime: allowed from %s to %s\n", sc.time(re.Earliest), sc.time(re.Latest))
	}
	return failure(err) + "\n"
}

func (sc *script) time(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Sub(sc.begun).String()
}

func scriptName(known *[]string, prefix, s string) string {
	i := slices.Index(*known, s)
	if i < 0 {
		i = len(*known)
		*known = append(*known, s)
	}
	return prefix + strconv.Itoa(i+1)
}

func (sc *script) receipt(a scriptArgs) string {
	var n int
	if _, err := fmt.Sscanf(a.plain[1], "r%d", &n); err != nil || n < 1 || n > len(sc.receipts) {
		sc.t.Fatalf("no receipt %s", a.plain[1])
	}
	return sc.receipts[n-1]
}

// create Q [visibility=] [retention=] [rewind=] [delay=] [wait=] [max=] [deadletter=Q [receives=] [age=]]
func (sc *script) create(a scriptArgs) string {
	var m spool.Meta
	a.patch(&m)
	_, err := sc.s.CreateQueue(context.Background(), a.plain[0], m)
	return sc.answer(err, "%s created", a.plain[0])
}

// set Q, as create
func (sc *script) set(a scriptArgs) string {
	return sc.answer(sc.queue(a).SetMeta(context.Background(), a.patch), "%s set", a.plain[0])
}

func (a scriptArgs) patch(m *spool.Meta) {
	for name, d := range map[string]*time.Duration{
		"visibility": &m.VisibilityTimeout, "retention": &m.Retention, "rewind": &m.Rewind, "delay": &m.Delay, "wait": &m.PollingWait,
	} {
		if _, ok := a.named[name]; ok {
			*d = a.duration(name)
		}
	}
	if _, ok := a.named["max"]; ok {
		m.MaxMessages = int64(a.number("max"))
	}
	if q := a.named["deadletter"]; q != "" {
		m.DeadLetter = &spool.DeadLetter{Queue: q, MaxReceives: a.number("receives"), MaxAge: a.duration("age")}
	}
}

// drop Q
func (sc *script) drop(a scriptArgs) string {
	return sc.answer(sc.s.DeleteQueue(context.Background(), a.plain[0]), "%s deleted", a.plain[0])
}

// send Q BODY... [delay=]: more than one body is a batch
func (sc *script) send(a scriptArgs) string {
	var ms []spool.Message
	for _, body := range a.plain[1:] {
		ms = append(ms, spool.Message{Body: []byte(body), Delay: a.duration("delay")})
	}
	ids, err := sc.queue(a).SendBatch(context.Background(), ms)
	for i, id := range ids {
		ids[i] = scriptName(&sc.messages, "m", id)
	}
	return sc.answer(err, "%s", strings.Join(ids, " "))
}

func (sc *script) options(a scriptArgs) (n int, opts []spool.ReceiveOption) {
	if _, ok := a.named["wait"]; ok {
		opts = append(opts, spool.Wait(a.duration("wait")))
	}
	if _, ok := a.named["visibility"]; ok {
		opts = append(opts, spool.Visibility(a.duration("visibility")))
	}
	return max(1, a.number("n")), opts
}

// receive Q [n=] [wait=] [visibility=]
func (sc *script) receive(a scriptArgs) string {
	n, opts := sc.options(a)
	begun := time.Now()
	got, err := sc.queue(a).ReceiveBatch(context.Background(), n, opts...)
	waited := ""
	if d := time.Since(begun); d > 0 {
		waited = fmt.Sprintf("after %v: ", d)
	}
	return waited + sc.deliveries(got, err)
}

func (sc *script) deliveries(got []*spool.Delivery, err error) string {
	if err != nil {
		return sc.answer(err, "")
	}
	var b strings.Builder
	for _, d := range got {
		fmt.Fprintf(&b, "%s %q sent at %s", scriptName(&sc.messages, "m", d.ID), d.Body, sc.time(d.EnqueuedAt))
		if d.Receipt != "" {
			fmt.Fprintf(&b, ", receipt %s until %s", scriptName(&sc.receipts, "r", d.Receipt), sc.time(d.VisibleAt))
		}
		fmt.Fprintf(&b, ", receives %d", d.Receives)
		if d.Rewinds > 0 {
			fmt.Fprintf(&b, ", rewinds %d", d.Rewinds)
		}
		if o := d.DeadLetter; o != nil {
			fmt.Fprintf(&b, ", was %s in %s sent at %s, %s after %d receives", scriptName(&sc.messages, "m", o.ID), o.Queue, sc.time(o.EnqueuedAt), o.Reason, o.Receives)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// wait Q as=NAME [n=] [wait=] [visibility=]: a receive in the background; its answer comes with the command that ends it
func (sc *script) wait(a scriptArgs) string {
	n, opts := sc.options(a)
	q := sc.queue(a)
	ctx, cancel := context.WithCancel(context.Background())
	w := &scriptWaiter{name: a.named["as"], cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		got, err := q.ReceiveBatch(ctx, n, opts...)
		at := time.Now()
		w.answer = func() string { return fmt.Sprintf("at %s: %s", sc.time(at), sc.deliveries(got, err)) }
	}()
	synctest.Wait()
	sc.waiters = append(sc.waiters, w)
	return fmt.Sprintf("%s waits\n", w.name)
}

// cancel NAME: ends the context of a receive in the background
func (sc *script) cancel(a scriptArgs) string {
	for _, w := range sc.waiters {
		if w.name == a.plain[0] {
			w.cancel()
		}
	}
	return ""
}

// delete Q RECEIPT
func (sc *script) delete(a scriptArgs) string {
	return sc.answer(sc.queue(a).Delete(context.Background(), sc.receipt(a)), "deleted")
}

// extend Q RECEIPT for=
func (sc *script) extend(a scriptArgs) string {
	d := a.duration("for")
	return sc.answer(sc.queue(a).ChangeVisibility(context.Background(), sc.receipt(a), d), "leased until %s", sc.time(time.Now().Add(d)))
}

// release Q RECEIPT
func (sc *script) release(a scriptArgs) string {
	return sc.answer(sc.queue(a).ChangeVisibility(context.Background(), sc.receipt(a), 0), "released")
}

// rewind Q to=TIME
func (sc *script) rewind(a scriptArgs) string {
	n, err := sc.queue(a).Rewind(context.Background(), sc.begun.Add(a.duration("to")))
	return sc.answer(err, "%d restored", n)
}

// peek Q
func (sc *script) peek(a scriptArgs) string {
	got, err := sc.queue(a).Peek(context.Background(), spool.MaxBatch)
	if err == nil && len(got) == 0 {
		return "nothing\n"
	}
	return sc.deliveries(got, err)
}

// purge Q
func (sc *script) purge(a scriptArgs) string {
	return sc.answer(sc.queue(a).Purge(context.Background()), "purged")
}

// show Q: the counters
func (sc *script) show(a scriptArgs) string {
	t, err := sc.queue(a).Attributes(context.Background())
	return sc.answer(err, "active %d, inactive %d, delayed %d, rewindable %d; sent %d, received %d, deleted %d; oldest %s, next due %s",
		t.Active, t.Inactive, t.Delayed, t.Rewindable, t.Sent, t.Received, t.Deleted, sc.time(t.Oldest), sc.time(t.NextDue))
}

// sleep D
func (sc *script) sleep(a scriptArgs) string {
	d, err := time.ParseDuration(a.plain[0])
	if err != nil {
		sc.t.Fatal(err)
	}
	time.Sleep(d)
	synctest.Wait()
	return fmt.Sprintf("now %s\n", sc.time(time.Now()))
}
