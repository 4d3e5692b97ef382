package spool_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

// The target's Delay, MaxMessageSize and MaxMessages do not apply; its Retention and Rewind do, from the move on.
func TestRuleTargetOfDeadLetters(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 1, 0, spool.Meta{VisibilityTimeout: 5 * sec})
		dead.set(func(m *spool.Meta) {
			m.Delay, m.MaxMessageSize, m.MaxMessages, m.Retention, m.Rewind = sec, 1, 1, 10*sec, 10*sec
		})
		dead.send("x", spool.NoDelay)
		q.send("long")
		q.send("longer")
		q.receive("long")
		q.receive("longer")
		time.Sleep(5 * sec)
		dead.counts(3, 0, 0, 0)
		_, err := dead.Send(bg, spool.Message{Body: []byte("y")})
		wantErr(t, "Send", err, spool.ErrQueueFull)
		time.Sleep(5 * sec)
		dead.counts(2, 0, 0, 0) // "x" expired
		d := dead.receive("long", spool.Visibility(time.Hour))
		if dead.delete(d); d.DeadLetter == nil {
			t.Errorf("DeadLetter = nil, want the origin")
		}
		dead.rewind(d.EnqueuedAt, 1)
		if d := dead.receive("long", spool.Visibility(time.Hour)); d.Rewinds != 1 || d.DeadLetter == nil || d.DeadLetter.Queue != "q" {
			t.Errorf("Receive = %+v, want it rewound once, with its origin", d)
		}
		time.Sleep(5*sec - wakeLate)
		dead.counts(1, 1, 0, 0)
		time.Sleep(2 * wakeLate)
		dead.counts(0, 0, 0, 0)
	})
}

func TestCase41Bindings(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 1, 0, spool.Meta{})
		other := s.create("other", spool.Meta{})
		bind := func(name string) func(*spool.Meta) {
			return func(m *spool.Meta) { m.DeadLetter = &spool.DeadLetter{Queue: name, MaxReceives: 1} }
		}
		missing := func(what string, err error) {
			t.Helper()
			wantArgument(t, what, err)
			wantErr(t, what, err, spool.ErrQueueNotFound)
		}
		for _, name := range []string{"none", "Dead", "", "1x", "no such", "dead\x00", "名", strings.Repeat("d", 65)} {
			missing("SetMeta", other.SetMeta(bg, bind(name)))
			_, err := s.CreateQueue(bg, "new", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: name, MaxReceives: 1}})
			missing("CreateQueue", err)
			_, err = s.OpenQueue(bg, "new", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: name, MaxReceives: 1}})
			missing("OpenQueue", err)
		}
		for name, bad := range map[string]spool.DeadLetter{
			"no limit": {Queue: "dead"}, "a count below 0": {Queue: "dead", MaxReceives: -1},
			"a count above 1000": {Queue: "dead", MaxReceives: 1001}, "a negative age": {Queue: "dead", MaxReceives: 1, MaxAge: -1},
			"an age of Retention": {Queue: "dead", MaxAge: 96 * time.Hour}, "a bad name": {Queue: "1", MaxReceives: 1},
			"no name": {MaxReceives: 1}, "a source as target": {Queue: "q", MaxReceives: 1},
		} {
			_, err := s.CreateQueue(bg, "new", spool.Meta{DeadLetter: &bad})
			wantArgument(t, "CreateQueue with "+name, err)
			wantArgument(t, "SetMeta with "+name, other.SetMeta(bg, func(m *spool.Meta) { m.DeadLetter = &bad }))
		}
		wantArgument(t, "SetMeta with itself", other.SetMeta(bg, bind("other")))
		_, err := s.CreateQueue(bg, "new", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: "new", MaxReceives: 1}})
		wantArgument(t, "CreateQueue with itself", err)
		wantArgument(t, "SetMeta of a target", dead.SetMeta(bg, bind("other")))
		wantArgument(t, "SetMeta with a target that is a source", other.SetMeta(bg, bind("q")))
		_, err = s.Spool.Queue("new")
		wantErr(t, "Queue", err, spool.ErrQueueNotFound)
		if other.Meta().DeadLetter != nil || dead.Meta().DeadLetter != nil {
			t.Errorf("a refused DeadLetter is set")
		}

		err = s.DeleteQueue(bg, "dead")
		if wantArgument(t, "DeleteQueue of a target", err); err == nil || !strings.Contains(err.Error(), `q`) {
			t.Errorf("DeleteQueue = %v, want it to name q", err)
		}
		other.set(bind("dead"))
		q.set(func(m *spool.Meta) { m.DeadLetter = nil })
		wantArgument(t, "DeleteQueue of a target", s.DeleteQueue(bg, "dead"))
		if err := errors.Join(s.DeleteQueue(bg, "other"), s.DeleteQueue(bg, "dead")); err != nil {
			t.Errorf("DeleteQueue of a target that nobody binds = %v", err)
		}
		missing("SetMeta", q.SetMeta(bg, bind("dead")))
	})
}

// A target is observed up to the instant, though nobody looks at the source.
func TestRuleTargetSeesMoves(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q, dead := deadPair(s, 1, 20*sec, spool.Meta{VisibilityTimeout: 10 * sec})
		start := time.Now()
		q.send("b")
		q.send("a")
		d := q.receive("b", spool.Visibility(15*sec))
		q.receive("a")
		time.Sleep(5 * sec)
		dead.send("sent between")
		time.Sleep(5 * sec)
		dead.counts(2, 0, 0, 0)
		if err := dead.Purge(bg); err != nil {
			t.Fatal(err)
		}
		dead.counts(0, 0, 0, 0)
		q.counts(0, 1, 0, 0)
		if err := d.Extend(bg, 15*sec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15*sec - 1)
		dead.none()
		time.Sleep(time.Nanosecond)
		m := dead.receive("b")
		wantSoon(t, "EnqueuedAt", m.EnqueuedAt, start.Add(25*sec))
		if m.DeadLetter.Reason != "max-receives" {
			t.Errorf("Reason = %s, want max-receives: both are due", m.DeadLetter.Reason)
		}
	})
}

// A move is in exactly one queue, also after reopening.
func TestCase41MovesSurviveReopening(t *testing.T) {
	onDisks(t, func(t *testing.T, reopen func() *caseSpool) {
		s := reopen()
		q, dead := deadPair(s, 1, 0, spool.Meta{Rewind: time.Hour})
		id := q.send("m")
		d := q.receive("m")
		if err := d.Release(bg, 0); err != nil {
			t.Fatal(err)
		}
		moved, err := dead.Peek(bg, 1)
		if err != nil || len(moved) != 1 {
			t.Fatalf("Peek = %q, %v, want m", bodiesOf(moved), err)
		}
		q.send("due while closed")
		q.receive("due while closed", spool.Visibility(time.Microsecond))
		s = reopen()
		q, dead = s.get("q"), s.get("dead")
		q.counts(0, 0, 0, 0)
		dead.counts(2, 0, 0, 0)
		q.refused(d.Receipt, spool.Gone)
		m := dead.receive("m")
		if m.ID != moved[0].ID || !m.EnqueuedAt.Equal(moved[0].EnqueuedAt) || m.DeadLetter == nil || m.DeadLetter.ID != id ||
			m.DeadLetter.Reason != "max-receives" || m.DeadLetter.Receives != 1 {
			t.Errorf("Receive = %+v, want it as it was", m)
		}
		dead.receive("due while closed")
		wantArgument(t, "DeleteQueue of a target", s.DeleteQueue(bg, "dead"))
	})
}
