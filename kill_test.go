package spool_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

// A child process opens the spool, tells what it finds, then works on it from several goroutines until it is killed.
// Each goroutine has queues of its own and makes one call at a time; it writes what it is going to do into a pipe before
// the call, and the answer after it. So when it dies, everything acknowledged is known, at most one call a goroutine is
// not, and what the next process finds must be the one state or the other: all of a call or nothing of it.

var (
	killCycles  = flag.Int("spool.kill.cycles", 0, "kills of TestKill for each durability (0: 20)")
	killControl = flag.Bool("spool.kill.control", false, "a control: the end of the log is lost with each kill of TestKill, which must fail")
	killSeed    = flag.Uint64("spool.kill.seed", 0, "seed of TestKill; 0 draws one")
)

const (
	killWorkers  = 6
	killReceives = 3 // Meta.DeadLetter.MaxReceives
	killLease    = time.Hour
)

func init() { children["kill"] = killChild }

func TestKill(t *testing.T) {
	cycles := *killCycles
	if cycles == 0 {
		cycles = max(6, fewer(20))
	}
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64() >> 16
	}
	for i, name := range []string{"fsync", "written", "fsync, small segments", "written, small segments"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("-spool.kill.seed=%d", seed)
			k := &killer{t: t, dir: t.TempDir(), durability: spool.Durability(i % 2), small: i >= 2, rng: rand.New(rand.NewPCG(seed, uint64(i)))}
			for range killWorkers {
				k.workers = append(k.workers, &killTrack{possible: []*killState{{Visibility: 1}}})
			}
			for c := range cycles {
				k.cycle(c)
			}
			k.finish()
			t.Logf("%d kills, %d before the state was told, %d calls acknowledged, %d in flight (%d of them found done)", cycles, k.early, k.acknowledged, k.inFlight, k.done)
		})
	}
}

// ---- what is written into the pipe ----

type killOp struct {
	Verb     string
	Bodies   []string `json:",omitempty"` // send: see killBody
	Delayed  bool     `json:",omitempty"` // send
	Max      int      `json:",omitempty"` // receive
	Short    bool     `json:",omitempty"` // receive: the lease is over at once
	Receipts []string `json:",omitempty"` // delete, release, extend
	To       int64    `json:",omitempty"` // rewind: ns
	Number   int      `json:",omitempty"` // setmeta: seconds of visibility
}

type killAnswer struct {
	Messages []killMessage `json:",omitempty"`
	Restored int64         `json:",omitempty"`
}

type killMessage struct {
	Body     string
	Enq      int64 `json:",omitempty"`
	Receives int   `json:",omitempty"`
	Rewinds  int   `json:",omitempty"`
	Receipt  string

	state string // active, inactive, delayed or rewindable; parent only
}

// killFound is what a process finds of one worker's queues.
type killFound struct {
	Active, Inactive, Delayed, Rewindable int64
	Sent, Received, Deleted               int64
	Visibility                            int
	Peek                                  []killMessage
	Dead                                  []string
	Temp                                  bool
	TempActive                            int64
}

type killEvent struct {
	Worker int
	Op     *killOp     `json:",omitempty"` // before the call
	Answer *killAnswer `json:",omitempty"` // after it
	Found  *killFound  `json:",omitempty"`
	Ready  bool        `json:",omitempty"` // everything has been told
	Over   bool        `json:",omitempty"` // the spool is closed, as ordered
	Closed bool        `json:",omitempty"` // the call was refused: the spool is being closed
	Err    string      `json:",omitempty"` // a call failed
}

// killOrders is what the parent tells a child.
type killOrders struct {
	Dir        string
	Durability spool.Durability
	Small      bool
	Receives   bool // durable, too
	Seed       uint64
	Next       [killWorkers]int      // number of the next body
	Receipts   [killWorkers][]string // good ones, of earlier processes
	Close      time.Duration         // close the spool after that long, and wait to be killed; 0 = never
	Step       string                // die at this kill point, when it is reached for the Nth time; empty = do not
	Nth        int64
	Linger     time.Duration // at the step, before it dies: what others may do meanwhile, they do
}

// ---- the state of one worker's queues, and what calls do to it ----

type killState struct {
	Messages                []killMessage
	Dead                    []string
	Sent, Received, Deleted int64
	Visibility              int
	Temp                    bool
	TempSent                int64
}

func (s *killState) clone() *killState {
	c := *s
	c.Messages, c.Dead = slices.Clone(s.Messages), slices.Clone(s.Dead)
	return &c
}

func (s *killState) count(state string) (n int64) {
	for _, m := range s.Messages {
		if m.state == state {
			n++
		}
	}
	return n
}

// apply makes a call. With an answer it checks that the answer is right and learns from it; without one the call died.
func (s *killState) apply(op *killOp, a *killAnswer) error {
	switch op.Verb {
	case "send":
		for _, b := range op.Bodies {
			m := killMessage{Body: b, state: "active"}
			if op.Delayed {
				m.state = "delayed"
			}
			s.Messages = append(s.Messages, m)
			s.Sent++
		}
	case "receive":
		n := 0
		for i := range s.Messages {
			m := &s.Messages[i]
			if m.state != "active" || n == op.Max {
				continue
			}
			m.Receives++
			m.state, m.Receipt = "inactive", ""
			s.Received++
			if a != nil {
				if n >= len(a.Messages) {
					return fmt.Errorf("received %d messages, want more", n)
				}
				got := a.Messages[n]
				if got.Body != m.Body || got.Receives != m.Receives || got.Rewinds != m.Rewinds || m.Enq != 0 && m.Enq != got.Enq {
					return fmt.Errorf("received %+v, want %+v", got, *m)
				}
				m.Enq, m.Receipt = got.Enq, got.Receipt
			}
			n++
			if op.Short {
				s.leaseEnds(m)
			}
		}
		if a != nil && len(a.Messages) != n {
			return fmt.Errorf("received %d messages, want %d", len(a.Messages), n)
		}
	case "delete", "release", "extend":
		for _, r := range op.Receipts {
			i := slices.IndexFunc(s.Messages, func(m killMessage) bool { return m.Receipt == r })
			if i < 0 || s.Messages[i].state != "inactive" {
				return fmt.Errorf("%s by a receipt of nothing", op.Verb)
			}
			m := &s.Messages[i]
			switch op.Verb {
			case "delete":
				m.state = "rewindable"
				s.Deleted++
			case "release":
				s.leaseEnds(m)
			}
		}
	case "rewind":
		n := int64(0)
		for i := range s.Messages {
			if m := &s.Messages[i]; m.state == "rewindable" && m.Enq >= op.To {
				m.state, m.Receives, m.Receipt = "active", 0, ""
				m.Rewinds++
				n++
			}
		}
		if a != nil && a.Restored != n {
			return fmt.Errorf("rewind restored %d, want %d", a.Restored, n)
		}
	case "purge":
		s.Messages = nil
	case "purgedead":
		s.Dead = nil
	case "setmeta":
		s.Visibility = op.Number
	case "create":
		s.Temp, s.TempSent = true, 0
	case "sendtemp":
		s.TempSent++
	case "drop":
		s.Temp, s.TempSent = false, 0
	}
	s.Messages = slices.DeleteFunc(s.Messages, func(m killMessage) bool { return m.state == "dead" })
	return nil
}

func (s *killState) leaseEnds(m *killMessage) {
	m.state, m.Receipt = "active", ""
	if m.Receives >= killReceives {
		m.state = "dead"
		s.Dead = append(s.Dead, m.Body)
	}
}

// differs says what a process found that is not this state, or "".
func (s *killState) differs(f *killFound) string {
	for _, c := range []struct {
		name      string
		got, want int64
	}{
		{"Active", f.Active, s.count("active")},
		{"Inactive", f.Inactive, s.count("inactive")},
		{"Delayed", f.Delayed, s.count("delayed")},
		{"Rewindable", f.Rewindable, s.count("rewindable")},
		{"Sent", f.Sent, s.Sent},
		{"Received", f.Received, s.Received},
		{"Deleted", f.Deleted, s.Deleted},
		{"Visibility", int64(f.Visibility), int64(s.Visibility)},
		{"active in temp", f.TempActive, s.TempSent},
	} {
		if c.got != c.want {
			return fmt.Sprintf("%s = %d, want %d", c.name, c.got, c.want)
		}
	}
	if f.Temp != s.Temp {
		return fmt.Sprintf("temp exists: %v, want %v", f.Temp, s.Temp)
	}
	got, want := slices.Sorted(slices.Values(f.Dead)), slices.Sorted(slices.Values(s.Dead))
	if !slices.Equal(got, want) {
		return fmt.Sprintf("%d dead letters %v, want %d %v", len(got), got, len(want), want)
	}
	i := 0
	for _, m := range s.Messages {
		if m.state != "active" {
			continue
		}
		g := f.Peek[i]
		i++
		if g.Body != m.Body || g.Receives != m.Receives || g.Rewinds != m.Rewinds || m.Enq != 0 && m.Enq != g.Enq {
			return fmt.Sprintf("active message %d is %+v, want %+v", i-1, g, m)
		}
	}
	return ""
}

// ---- the parent ----

// A killTrack is what the parent knows of one worker.
type killTrack struct {
	possible []*killState // more than one until a process has told which
	op       *killOp      // in flight
	next     int
	receipts []string
	found    bool // by the present process
}

type killer struct {
	t          *testing.T
	dir        string
	durability spool.Durability
	small      bool
	rng        *rand.Rand
	workers    []*killTrack
	power      *killPower // nil: the process dies, otherwise its machine
	step       string     // the next process dies at this kill point; empty: it dies at any time
	nth        int64      // when it reaches the step for the nth time
	linger     time.Duration
	late       bool // the last process was killed because it did not reach the step

	early, acknowledged, inFlight, done int
	history                             []string
}

// A killPower is a disk that loses its power, and gets it back.
type killPower struct {
	lose func(pid int) error // after the process has been stopped: what it has said by then was true before
	back func() error
	lost atomic.Bool
}

func (k *killer) fatalf(format string, args ...any) {
	k.t.Helper()
	k.t.Fatalf("%s\n\nlast events:\n%s", fmt.Sprintf(format, args...), strings.Join(k.history[max(0, len(k.history)-40):], "\n"))
}

func (k *killer) cycle(c int) {
	orders := killOrders{Dir: k.dir, Durability: k.durability, Small: k.small, Receives: k.power != nil, Seed: k.rng.Uint64(), Step: k.step, Nth: k.nth, Linger: k.linger}
	for i, w := range k.workers {
		w.found = false
		orders.Next[i], orders.Receipts[i] = w.next, w.receipts
	}
	if k.rng.IntN(3) == 0 && (k.step == "" || k.rng.IntN(3) == 0) { // dies while it closes, or after
		orders.Close = 1 + time.Duration(k.rng.IntN(int(60*time.Millisecond)))
	}
	text, err := json.Marshal(orders)
	if err != nil {
		k.t.Fatal(err)
	}
	if *killControl {
		killTail(k.t, k.dir)
	}
	if strings.HasPrefix(k.step, "index:") && k.rng.IntN(2) == 0 {
		breakIndex(k.t, k.dir, k.rng)
	} else if strings.HasPrefix(k.step, "index:") || k.rng.IntN(6) == 0 {
		if _, err := dropIndex(k.dir); err != nil {
			k.t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=kill")
	cmd.Stdin = bytes.NewReader(text)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, in, err := os.Pipe()
	if err != nil {
		k.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout = in
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	defer cmd.Wait() // it is killed by then; after a failure it lives on and holds its files
	defer cmd.Process.Kill()
	in.Close()

	// Most processes are let tell what they found and work for a while; some die while they start.
	kill := func() {
		if p := k.power; p != nil && !p.lost.Swap(true) {
			if err := p.lose(cmd.Process.Pid); err != nil {
				k.t.Errorf("power loss: %v", err)
			}
		}
		cmd.Process.Kill()
	}
	k.late = false
	timer := time.AfterFunc(time.Minute, kill)
	if c > 0 && k.step == "" && k.rng.IntN(4) == 0 {
		timer.Reset(time.Duration(k.rng.IntN(int(40 * time.Millisecond))))
	}
	work := orders.Close + time.Duration(k.rng.IntN(int(80*time.Millisecond)))
	if k.rng.IntN(8) == 0 {
		work *= 5
	}
	ready := false
	k.history = append(k.history, fmt.Sprintf("-- cycle %d", c))
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break // what is cut off was not acknowledged
		}
		var e killEvent
		if err := json.Unmarshal(line, &e); err != nil {
			k.fatalf("cycle %d: %v in %.200q", c, err, line)
		}
		if len(line) > 400 {
			line = append(line[:400], '\n')
		}
		k.history = append(k.history, strings.TrimSuffix(string(line), "\n"))
		if e.Ready {
			ready = true
			if k.step != "" {
				work = stepPatience
			}
			timer.Reset(work)
		}
		if e.Over && k.step != "" {
			timer.Reset(0) // it will not come to its step
		}
		k.event(c, e)
	}
	k.late = k.step != "" && !timer.Stop()
	timer.Stop()
	kill()
	err = cmd.Wait()
	if p := k.power; p != nil {
		if err := p.back(); err != nil {
			k.t.Fatalf("power back: %v", err)
		}
		p.lost.Store(false)
	}
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != -1 || stderr.Len() > 0 {
		k.fatalf("cycle %d: child ended by itself: %v\n%s", c, err, stderr.String())
	}
	if !ready {
		k.early++
	}
	for _, w := range k.workers {
		if w.op == nil {
			continue
		}
		k.inFlight++
		for _, part := range killParts(w.op) {
			with := w.possible[0].clone()
			if err := with.apply(part, nil); err != nil {
				k.fatalf("cycle %d: in flight: %v", c, err)
			}
			w.possible = append(w.possible, with)
		}
		w.op = nil
	}
}

// killTail loses the last 2,000 bytes of the log.
func killTail(t *testing.T, dir string) {
	t.Helper()
	var last damageFile
	var newest time.Time
	for _, f := range damageFiles(t, dir) {
		info, err := os.Stat(filepath.Join(dir, f.name))
		if err != nil || damageIndexDir(f.name) || f.size < 16<<10 || info.ModTime().Before(newest) {
			continue
		}
		last, newest = f, info.ModTime()
	}
	if last.size == 0 {
		return
	}
	name := filepath.Join(dir, last.name)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	end := len(bytes.TrimRight(data, "\x00"))
	clear(data[max(0, end-2000):end])
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// killParts is what a call that died may have done, if it did anything. A batch of receives or of deletes is not
// promised to be atomic, everything else is.
func killParts(op *killOp) (parts []*killOp) {
	switch op.Verb {
	case "receive":
		for n := range op.Max {
			part := *op
			part.Max = n + 1
			parts = append(parts, &part)
		}
	case "delete":
		for set := 1; set < 1<<len(op.Receipts); set++ {
			part := killOp{Verb: op.Verb}
			for i, r := range op.Receipts {
				if set>>i&1 == 1 {
					part.Receipts = append(part.Receipts, r)
				}
			}
			parts = append(parts, &part)
		}
	default:
		parts = append(parts, op)
	}
	return parts
}

func (k *killer) event(c int, e killEvent) {
	w := k.workers[e.Worker]
	switch {
	case e.Err != "" && k.power != nil && k.power.lost.Load(): // as it should be
	case e.Err != "":
		k.fatalf("cycle %d: worker %d: %s", c, e.Worker, e.Err)
	case e.Found != nil:
		k.settle(c, e.Worker, e.Found)
		w.found = true
	case e.Op != nil:
		w.op = e.Op
		w.next += len(e.Op.Bodies)
		w.receipts = slices.DeleteFunc(w.receipts, func(r string) bool { return slices.Contains(e.Op.Receipts, r) })
		if e.Op.Verb == "purge" {
			w.receipts = nil
		}
	case e.Closed:
		w.op = nil
	case e.Answer != nil:
		k.acknowledged++
		if err := w.possible[0].apply(w.op, e.Answer); err != nil {
			k.fatalf("cycle %d: worker %d: %v", c, e.Worker, err)
		}
		switch w.op.Verb {
		case "receive":
			if !w.op.Short {
				for _, m := range e.Answer.Messages {
					w.receipts = append(w.receipts, m.Receipt)
				}
			}
		case "extend":
			w.receipts = append(w.receipts, w.op.Receipts...)
		}
		w.op = nil
	}
}

// settle finds out which of the possible states is the real one.
func (k *killer) settle(c, worker int, f *killFound) {
	w := k.workers[worker]
	var why []string
	for i, s := range w.possible {
		diff := s.differs(f)
		if diff == "" {
			w.possible = []*killState{s}
			k.done += min(i, 1)
			for j, n := 0, 0; j < len(s.Messages); j++ {
				if m := &s.Messages[j]; m.state == "active" {
					m.Enq = f.Peek[n].Enq
					n++
				}
			}
			return
		}
		why = append(why, diff)
	}
	k.fatalf("cycle %d: worker %d finds what cannot be: %s", c, worker, strings.Join(why, "; with the call in flight: "))
}

// finish opens the spool here, twice, the second time after a clean Close, and takes everything out of it.
func (k *killer) finish() {
	for range 2 {
		s, err := killOpen(k.dir, k.durability, k.small)
		if err != nil {
			k.fatalf("Open at the end: %v", err)
		}
		for i := range k.workers {
			f, err := killLook(s, i)
			if err != nil {
				k.fatalf("at the end: %v", err)
			}
			k.settle(-1, i, f)
		}
		if err := s.Close(); err != nil {
			k.fatalf("Close: %v", err)
		}
	}
	s, err := killOpen(k.dir, k.durability, k.small)
	if err != nil {
		k.t.Fatal(err)
	}
	defer s.Close()
	for i, w := range k.workers {
		q, err := s.Queue(fmt.Sprintf("work%d", i))
		if err != nil {
			continue
		}
		state := w.possible[0]
		for _, r := range w.receipts { // those of all processes that have died
			if err := q.Delete(context.Background(), r); err != nil {
				k.fatalf("at the end: delete in %s: %v", q.Name(), err)
			}
			if err := state.apply(&killOp{Verb: "delete", Receipts: []string{r}}, nil); err != nil {
				k.fatalf("at the end: %v", err)
			}
		}
		if _, err := q.Rewind(context.Background(), time.Now().Add(-killLease)); err != nil {
			k.fatalf("at the end: %v", err)
		}
		if err := state.apply(&killOp{Verb: "rewind"}, nil); err != nil {
			k.fatalf("at the end: %v", err)
		}
		want := state.count("active")
		for d, err := range q.Deliveries(context.Background(), spool.Wait(0), spool.Visibility(killLease)) {
			if err != nil {
				k.fatalf("at the end: %v", err)
			}
			m, err := killSee(d)
			if err != nil {
				k.fatalf("at the end: %v", err)
			}
			if err := state.apply(&killOp{Verb: "receive", Max: 1}, &killAnswer{Messages: []killMessage{m}}); err != nil {
				k.fatalf("at the end: %v", err)
			}
			want--
		}
		if want != 0 {
			k.fatalf("at the end: %d messages of %s are missing", want, q.Name())
		}
	}
}

// ---- the child ----

// killBody makes a body of its name alone: "work3-17-1200" is 1200 bytes or as long as its name.
func killBody(name string) []byte {
	var w, n, size int
	fmt.Sscanf(name, "work%d-%d-%d", &w, &n, &size)
	body := append([]byte(name), '\n')
	for x := uint32(w*7919 + n); len(body) < size; x = x*1664525 + 1013904223 {
		body = append(body, byte(x>>24))
	}
	return body
}

func killSee(d *spool.Delivery) (killMessage, error) {
	name, _, _ := strings.Cut(string(d.Body[:min(len(d.Body), 64)]), "\n")
	if !bytes.Equal(d.Body, killBody(name)) {
		return killMessage{}, fmt.Errorf("body %.80q of %d bytes was never sent", d.Body, len(d.Body))
	}
	return killMessage{Body: name, Enq: d.EnqueuedAt.UnixNano(), Receives: d.Receives, Rewinds: d.Rewinds, Receipt: d.Receipt}, nil
}

// killOpen opens a spool; a small one moves through many segments and checkpoints, which take gigabytes otherwise.
func killOpen(dir string, d spool.Durability, small bool, more ...spool.Option) (*spool.Spool, error) {
	options := append(more, spool.WithDurability(d))
	if small {
		options = append(options, spool.WithSizes(64<<10, 100<<10))
	}
	return spool.Open(dir, options...)
}

func killLook(s *spool.Spool, worker int) (*killFound, error) {
	ctx := context.Background()
	f := &killFound{Visibility: 1}
	q, err := s.Queue(fmt.Sprintf("work%d", worker))
	if errors.Is(err, spool.ErrQueueNotFound) {
		return f, nil // never got that far
	}
	if err != nil {
		return nil, err
	}
	a, err := q.Attributes(ctx)
	if err != nil {
		return nil, err
	}
	f.Active, f.Inactive, f.Delayed, f.Rewindable = a.Active, a.Inactive, a.Delayed, a.Rewindable
	f.Sent, f.Received, f.Deleted, f.Visibility = a.Sent, a.Received, a.Deleted, int(a.VisibilityTimeout/time.Second)
	if n, err := q.RewindPreview(ctx, time.Now().Add(-killLease)); err != nil || n != a.Rewindable {
		return nil, fmt.Errorf("RewindPreview = %d, %v, want %d", n, err, a.Rewindable)
	}
	peek, err := q.Peek(ctx, spool.MaxBatch)
	if err != nil {
		return nil, err
	}
	if int64(len(peek)) != a.Active {
		return nil, fmt.Errorf("Peek sees %d of %d active", len(peek), a.Active)
	}
	for _, d := range peek {
		m, err := killSee(d)
		if err != nil {
			return nil, err
		}
		f.Peek = append(f.Peek, m)
	}
	dead, err := s.Queue(fmt.Sprintf("dead%d", worker))
	if err != nil {
		return nil, err
	}
	if peek, err = dead.Peek(ctx, spool.MaxBatch); err != nil {
		return nil, err
	}
	for _, d := range peek {
		m, err := killSee(d)
		if err != nil {
			return nil, err
		}
		if o := d.DeadLetter; o == nil || o.Queue != q.Name() || o.Receives < killReceives || o.Reason != "max-receives" {
			return nil, fmt.Errorf("dead letter %s has origin %+v", m.Body, o)
		}
		f.Dead = append(f.Dead, m.Body)
	}
	temp, err := s.Queue(fmt.Sprintf("temp%d", worker))
	if err == nil {
		f.Temp = true
		a, err := temp.Attributes(ctx)
		if err != nil {
			return nil, err
		}
		f.TempActive = a.Active
	}
	return f, nil
}

func killChild() {
	var orders killOrders
	if text, err := io.ReadAll(os.Stdin); err != nil || json.Unmarshal(text, &orders) != nil {
		fmt.Fprintln(os.Stderr, "no orders")
		os.Exit(2)
	}
	var mu sync.Mutex
	tell := func(e killEvent) {
		line, err := json.Marshal(e)
		if err != nil {
			panic(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
			os.Exit(3)
		}
	}
	fail := func(worker int, err error) {
		tell(killEvent{Worker: worker, Err: err.Error()})
		select {} // until killed
	}
	more := stepOptions(&orders)
	if orders.Receives {
		more = append(more, spool.WithDurableReceives())
	}
	s, err := killOpen(orders.Dir, orders.Durability, orders.Small, more...)
	if err != nil {
		fail(0, err)
	}
	var workers [killWorkers]*killWorker
	for i := range killWorkers {
		f, err := killLook(s, i)
		if err != nil {
			fail(i, err)
		}
		tell(killEvent{Worker: i, Found: f})
		w := &killWorker{n: i, huge: orders.Step == "append:piece", next: orders.Next[i], receipts: orders.Receipts[i], temp: f.Temp, active: int(f.Active), deleted: int(f.Rewindable), dead: len(f.Dead)}
		w.rng = rand.New(rand.NewPCG(orders.Seed, uint64(i)))
		w.tell = func(e killEvent) { e.Worker = i; tell(e) }
		workers[i] = w
		if err := w.open(s); err != nil {
			fail(i, err)
		}
	}
	tell(killEvent{Ready: true})
	for i, w := range workers {
		go func() {
			for {
				if err := w.step(); errors.Is(err, spool.ErrClosed) {
					tell(killEvent{Worker: i, Closed: true})
					return
				} else if err != nil {
					fail(i, err)
				}
			}
		}()
	}
	if orders.Close > 0 {
		time.Sleep(orders.Close)
		if err := s.Close(); err != nil {
			fail(0, fmt.Errorf("Close: %w", err))
		}
		tell(killEvent{Over: true})
	}
	select {}
}

type killWorker struct {
	n, next  int
	huge     bool // some sends are large
	receipts []string
	enq      []int64 // instants to rewind to
	temp     bool
	active   int // about; so are the next two
	deleted  int
	dead     int

	s    *spool.Spool
	q, d *spool.Queue
	rng  *rand.Rand
	tell func(killEvent)
}

func (w *killWorker) open(s *spool.Spool) (err error) {
	w.s = s
	if w.d, err = s.OpenQueue(context.Background(), fmt.Sprintf("dead%d", w.n), spool.Meta{}); err != nil {
		return err
	}
	w.q, err = s.OpenQueue(context.Background(), fmt.Sprintf("work%d", w.n), spool.Meta{
		VisibilityTimeout: time.Second, Rewind: 24 * time.Hour,
		DeadLetter: &spool.DeadLetter{Queue: w.d.Name(), MaxReceives: killReceives},
	})
	return err
}

// step makes one call.
func (w *killWorker) step() error {
	ctx := context.Background()
	op, a := &killOp{}, &killAnswer{}
	some := func(n int) []string { // takes good receipts away
		n = min(n, len(w.receipts))
		w.rng.Shuffle(len(w.receipts), func(i, j int) { w.receipts[i], w.receipts[j] = w.receipts[j], w.receipts[i] })
		taken := slices.Clone(w.receipts[:n])
		w.receipts = w.receipts[n:]
		return taken
	}
	full := w.active+w.deleted > 850 // Bound: a process tells all it finds by one Peek
	switch v := w.rng.IntN(100); {
	case full:
		op.Verb = "purge"
	case v < 30:
		op.Verb = "send"
		n, size := 1, 1+w.rng.IntN(300)
		switch w.rng.IntN(8) {
		case 0, 1, 2:
			n = 1 + w.rng.IntN(20)
		case 3:
			n, size = 1+w.rng.IntN(4), 1+w.rng.IntN(60_000)
			if w.huge && w.rng.IntN(4) == 0 {
				n, size = 20, 60_000 // more than the ring of the log holds
			}
		case 4:
			n, size = 1+w.rng.IntN(3), w.rng.IntN(5000)
		}
		op.Delayed = w.rng.IntN(12) == 0
		for range n {
			op.Bodies = append(op.Bodies, fmt.Sprintf("work%d-%d-%d", w.n, w.next, size))
			w.next++
		}
	case v < 60:
		op.Verb, op.Max, op.Short = "receive", 1+w.rng.IntN(8), w.rng.IntN(3) == 0
	case v < 80 && len(w.receipts) > 0:
		op.Verb, op.Receipts = "delete", some(1+w.rng.IntN(6))
	case v < 85 && len(w.receipts) > 0:
		op.Verb, op.Receipts = "release", some(1)
	case v < 88 && len(w.receipts) > 0:
		op.Verb, op.Receipts = "extend", some(1)
	case v < 93:
		op.Verb, op.To = "rewind", time.Now().Add(-killLease).UnixNano()
		if len(w.enq) > 0 {
			op.To = w.enq[w.rng.IntN(len(w.enq))]
		}
	case v == 93 && w.rng.IntN(3) == 0:
		op.Verb = "purge"
	case v == 94 || w.dead >= 700:
		op.Verb = "purgedead"
	case v < 97:
		op.Verb, op.Number = "setmeta", 1+w.rng.IntN(1000)
	case !w.temp:
		op.Verb = "create"
	case v == 97:
		op.Verb = "drop"
	default:
		op.Verb = "sendtemp"
	}
	w.tell(killEvent{Op: op})
	var err error
	switch op.Verb {
	case "send":
		var ms []spool.Message
		for _, b := range op.Bodies {
			m := spool.Message{Body: killBody(b)}
			if op.Delayed {
				m.Delay = killLease
			}
			ms = append(ms, m)
		}
		if len(ms) == 1 {
			_, err = w.q.Send(ctx, ms[0])
		} else {
			_, err = w.q.SendBatch(ctx, ms)
		}
		if !op.Delayed {
			w.active += len(ms)
		}
	case "receive":
		visibility := killLease
		if op.Short {
			visibility = 1
		}
		var got []*spool.Delivery
		got, err = w.q.ReceiveBatch(ctx, op.Max, spool.Wait(0), spool.Visibility(visibility))
		if errors.Is(err, spool.ErrNoMessage) {
			err = nil
		}
		for _, d := range got {
			m, err := killSee(d)
			if err != nil {
				return err
			}
			a.Messages = append(a.Messages, m)
			if w.enq = append(w.enq, m.Enq); len(w.enq) > 50 {
				w.enq = w.enq[1:]
			}
			switch {
			case op.Short && m.Receives >= killReceives:
				w.dead++
				w.active--
			case !op.Short:
				w.receipts = append(w.receipts, d.Receipt)
				w.active--
			}
		}
	case "delete":
		if len(op.Receipts) == 1 {
			err = w.q.Delete(ctx, op.Receipts[0])
		} else {
			err = w.q.DeleteBatch(ctx, op.Receipts)
		}
		w.deleted += len(op.Receipts)
	case "release":
		err = w.q.ChangeVisibility(ctx, op.Receipts[0], 0)
		w.active++
	case "extend":
		err = w.q.ChangeVisibility(ctx, op.Receipts[0], 2*killLease)
		w.receipts = append(w.receipts, op.Receipts...)
	case "rewind":
		a.Restored, err = w.q.Rewind(ctx, time.Unix(0, op.To))
		w.active += int(a.Restored)
		w.deleted -= int(a.Restored)
	case "purge":
		err = w.q.Purge(ctx)
		w.receipts, w.active, w.deleted = nil, 0, 0
	case "purgedead":
		err = w.d.Purge(ctx)
		w.dead = 0
	case "setmeta":
		err = w.q.SetMeta(ctx, func(m *spool.Meta) { m.VisibilityTimeout = time.Duration(op.Number) * time.Second })
	case "create":
		_, err = w.s.CreateQueue(ctx, fmt.Sprintf("temp%d", w.n), spool.Meta{})
		w.temp = true
	case "drop":
		err = w.s.DeleteQueue(ctx, fmt.Sprintf("temp%d", w.n))
		w.temp = false
	case "sendtemp":
		var temp *spool.Queue
		if temp, err = w.s.Queue(fmt.Sprintf("temp%d", w.n)); err == nil {
			_, err = temp.Send(ctx, spool.Message{Body: []byte("x")})
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", op.Verb, err)
	}
	w.tell(killEvent{Answer: a})
	return nil
}
