package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

// TestNamesAreNoPaths: a name that looks like a path, or like nothing, is refused, and no file is touched.
func TestNamesAreNoPaths(t *testing.T) {
	base := t.TempDir()
	s, err := spool.Open(filepath.Join(base, "spool"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	files := func() (names []string) {
		err := filepath.WalkDir(base, func(path string, _ os.DirEntry, err error) error {
			if path == filepath.Join(base, "spool", "log") {
				return filepath.SkipDir // segments are prepared there
			}
			names = append(names, path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	before := fmt.Sprint(files())
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/etc/passwd", `a\b`, "C:", "C:x", "a\x00b", "a\nb", "~", "a.", "a b", "ä", "\xff",
		"-rf", "$(x)", strings.Repeat("a", 65), strings.Repeat("a", 1<<20)} {
		what := fmt.Sprintf("%.40q", name)
		_, err := s.CreateQueue(bg, name, spool.Meta{})
		wantArgument(t, "CreateQueue of "+what, err)
		_, err = s.OpenQueue(bg, name, spool.Meta{})
		wantArgument(t, "OpenQueue of "+what, err)
		_, err = s.CreateQueue(bg, "q", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: name, MaxReceives: 1}})
		wantArgument(t, "CreateQueue with the dead-letter queue "+what, err)
		if _, err := s.Queue(name); !errors.Is(err, spool.ErrQueueNotFound) {
			t.Errorf("Queue(%s) = %v, want ErrQueueNotFound", what, err)
		}
		if err := s.DeleteQueue(bg, name); !errors.Is(err, spool.ErrQueueNotFound) {
			t.Errorf("DeleteQueue(%s) = %v, want ErrQueueNotFound", what, err)
		} else if len(err.Error()) > 1000 {
			t.Errorf("the error about %s has %d bytes", what, len(err.Error()))
		}
	}
	if after := fmt.Sprint(files()); after != before {
		t.Errorf("there are other files:\n%s\nbefore:\n%s", after, before)
	}
}

// A secret is what must not be told of: bodies, and attributes with them. It collects what is told.
type secret struct {
	t    *testing.T
	log  bytes.Buffer
	errs int
}

const secretWord = "xyzzy-plugh"

func (x *secret) message() spool.Message {
	return spool.Message{Body: []byte(strings.Repeat(secretWord+" ", 20)), Attributes: map[string]string{"key": secretWord}}
}

// failed notes an error, which must be there and must not tell.
func (x *secret) failed(what string, err error) {
	x.t.Helper()
	if err == nil {
		x.t.Errorf("%s answers nil", what)
		return
	}
	x.errs++
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		if strings.Contains(text, secretWord) || strings.Contains(text, fmt.Sprintf("%x", secretWord)) {
			x.t.Errorf("%s tells of the body: %.300s", what, text)
		}
	}
}

func (x *secret) open(dir string) (*spool.Spool, error) {
	h := slog.NewTextHandler(&x.log, &slog.HandlerOptions{Level: slog.LevelDebug - 8})
	return spool.Open(dir, spool.WithLogger(slog.New(h)), spool.WithSizes(16<<10, 16<<10), spool.WithSlack(0))
}

// TestBodiesAreNotTold makes calls fail in all ways that are to hand, of messages that anybody would recognize, on a spool that
// is whole, full of dead letters, damaged, repaired, and closed: neither an error nor a line of the log tells of a body.
func TestBodiesAreNotTold(t *testing.T) {
	x := &secret{t: t}
	dir := filepath.Join(t.TempDir(), "spool")
	s, err := x.open(dir)
	if err != nil {
		t.Fatal(err)
	}
	x.refusals(s)
	q, err := s.CreateQueue(bg, "q", spool.Meta{VisibilityTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if _, err := q.Send(bg, x.message()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Checkpoint(), s.Clean(), s.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = q.Send(bg, x.message())
	x.failed("Send after Close", err)

	hits := x.damage(dir)
	report, err := spool.Verify(bg, dir)
	if err != nil || report.OK() {
		t.Fatalf("Verify = %+v, %v, want damage", report, err)
	}
	x.failed("Verify", report.Err())
	if s, err = x.open(dir); err != nil {
		x.failed("Open", err)
	} else {
		x.receiveAll(s)
		s.Clean()
		s.Close()
	}
	repaired, err := spool.Repair(bg, dir, dir+"-repaired")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []spool.Report{report, repaired} {
		if strings.Contains(fmt.Sprintf("%+v %v", r, r), secretWord) {
			t.Error("a report tells of a body")
		}
	}
	if strings.Contains(x.log.String(), secretWord) {
		t.Errorf("the log tells of a body:\n%.2000s", x.log.String())
	}
	t.Logf("%d errors, %d bytes of log, %d places damaged", x.errs, x.log.Len(), hits)
	if x.errs < 20 || x.log.Len() == 0 {
		t.Errorf("%d errors and %d bytes of log, want more to look at", x.errs, x.log.Len())
	}
}

// refusals are calls that fail because of what they ask for.
func (x *secret) refusals(s *spool.Spool) {
	m := x.message()
	q, err := s.CreateQueue(bg, "small", spool.Meta{MaxMessageSize: 100, MaxMessages: 1})
	if err != nil {
		x.t.Fatal(err)
	}
	fits := spool.Message{Body: []byte(secretWord)}
	if _, err := q.Send(bg, fits); err != nil {
		x.t.Fatal(err)
	}
	send := func(what string, m ...spool.Message) {
		x.t.Helper()
		_, err := q.SendBatch(bg, m)
		x.failed(what, err)
		_, err = q.Send(bg, m[0])
		x.failed(what, err)
	}
	send("too large", m)
	send("full", fits)
	send("full", fits, fits)
	send("a delay of never", spool.Message{Body: fits.Body, Delay: 1 << 62})
	send("a negative delay", spool.Message{Body: fits.Body, Delay: -5})
	send("an attribute without a key", spool.Message{Body: fits.Body, Attributes: map[string]string{"": secretWord}})
	send("attributes that are too long", spool.Message{Body: fits.Body, Attributes: map[string]string{"k": strings.Repeat(secretWord, 10_000)}})
	many := map[string]string{}
	for i := range 65 {
		many[fmt.Sprint(i)] = secretWord
	}
	send("too many attributes", spool.Message{Body: fits.Body, Attributes: many})
	ended, cancel := context.WithCancel(bg)
	cancel()
	_, err = q.Send(ended, fits)
	x.failed("a context that has ended", err)
	x.failed("a batch that is too large", func() error {
		big := make([]spool.Message, spool.MaxBatch)
		for i := range big {
			big[i].Body = bytes.Repeat([]byte(secretWord), 2000)
		}
		_, err := q.SendBatch(bg, big)
		return err
	}())
	_, err = q.ReceiveBatch(bg, 0)
	x.failed("a receive of none", err)
	d, err := q.Receive(bg)
	if err != nil {
		x.t.Fatal(err)
	}
	x.failed("a negative extension", d.Extend(bg, -1))
	if err := d.Delete(bg); err != nil {
		x.t.Fatal(err)
	}
	x.failed("a second delete", d.Delete(bg))
	x.failed("a batch of deletes", q.DeleteBatch(bg, []string{d.Receipt, "x"}))
	if err := s.DeleteQueue(bg, "small"); err != nil {
		x.t.Fatal(err)
	}
	send("a queue that is gone", fits)
}

// damage changes a byte in the middle of every second body of the log.
func (x *secret) damage(dir string) (hits int) {
	names, err := filepath.Glob(filepath.Join(dir, "log", "*"))
	if err != nil {
		x.t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			x.t.Fatal(err)
		}
		word := []byte(secretWord + " " + secretWord)
		for at := 0; ; {
			i := bytes.Index(b[at:], word)
			if i < 0 {
				break
			}
			if at += i; hits%2 == 0 {
				b[at+len(secretWord)] ^= 1
			}
			hits++
			at += 15 * len(secretWord)
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			x.t.Fatal(err)
		}
	}
	return hits
}

// receiveAll receives until nothing is left that can be read.
func (x *secret) receiveAll(s *spool.Spool) {
	q, err := s.Queue("q")
	if err != nil {
		x.t.Error(err)
		return
	}
	for range 300 {
		d, err := q.Receive(bg)
		switch {
		case errors.Is(err, spool.ErrNoMessage):
			return
		case err != nil:
			x.failed("Receive", err)
		default:
			_ = d.Release(bg, time.Hour) // it is enough that it was read
		}
	}
}
