package model

import (
	"slices"
	"testing"
	"time"
)

// The model is judged by the worked examples of the specification (section 3), nothing else.

var t0 = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// at is n seconds after t0.
func at(n float64) time.Time { return t0.Add(time.Duration(n * float64(time.Second))) }

type bench struct {
	*testing.T
	s *Spool
}

func newBench(t *testing.T) *bench { return &bench{t, New(t0)} }

func (b *bench) queue(name string, m Meta) *Queue {
	q, fail := b.s.Create(name, m, At(b.s.clock))
	if fail != OK {
		b.Fatal(fail)
	}
	return q
}

func (b *bench) send(q *Queue, body string, delay time.Duration) {
	if fails := q.CanSend([]Send{{Body: body, Delay: delay}}); len(fails) > 0 {
		b.Fatal(fails)
	}
	q.Send([]Send{{Body: body, Delay: delay}}, []string{body}, At(b.s.clock))
}

func (b *bench) receive(q *Queue, want string) *Receipt {
	b.Helper()
	got := q.Receive(1, 0, At(b.s.clock))
	if len(got) == 0 {
		if want != "" {
			b.Fatalf("received nothing, want %q", want)
		}
		return nil
	}
	if m := got[0].Message(); m.Body != want {
		b.Fatalf("received %q, want %q", m.Body, want)
	}
	return got[0]
}

func (b *bench) check(q *Queue, r *Receipt, want ...string) {
	b.Helper()
	if got := q.Check(r); !slices.Equal(got, want) {
		b.Errorf("receipt answers %q, want %q", got, want)
	}
}

func (b *bench) counts(q *Queue, active, inactive, delayed, rewindable int64) {
	b.Helper()
	got := [4]int64{q.Count(Active), q.Count(Inactive), q.Count(Delayed), q.Count(Rewindable)}
	if want := [4]int64{active, inactive, delayed, rewindable}; got != want {
		b.Errorf("%v: counts %v, want %v", b.s.clock.Sub(t0), got, want)
	}
}

func TestLapse(t *testing.T) { // cases 19, 22
	b := newBench(t)
	q := b.queue("q", Meta{Visibility: 10 * time.Second})
	b.send(q, "a", 0)
	b.send(q, "b", 0)
	r1 := b.receive(q, "a")
	b.s.Advance(at(10).Add(-1))
	b.check(q, r1)
	b.counts(q, 1, 1, 0, 0)
	b.s.Advance(at(10))
	b.check(q, r1, "Expired")
	b.counts(q, 2, 0, 0, 0)
	r2 := b.receive(q, "a")
	if m := r2.Message(); m.Receives != 2 || !m.First.Lo.Equal(t0) {
		t.Errorf("second delivery: %+v", m)
	}
	b.check(q, r1, "Stale")
	q.Delete(r2)
	b.check(q, r2, "Deleted")
	b.check(b.queue("other", Meta{}), r2, "WrongQueue")
}

func TestDelay(t *testing.T) { // case 27
	b := newBench(t)
	q := b.queue("q", Meta{})
	b.send(q, "late", 10*time.Second)
	b.send(q, "now", 0)
	b.s.Advance(at(9.999))
	b.counts(q, 1, 0, 1, 0)
	b.s.Advance(at(10))
	b.counts(q, 2, 0, 0, 0)
	b.receive(q, "late")
}

func TestRetention(t *testing.T) { // cases 7, 21, 29
	b := newBench(t)
	q := b.queue("q", Meta{Retention: time.Minute, Visibility: time.Hour})
	b.send(q, "a", 0)
	b.send(q, "b", 0)
	r := b.receive(q, "a")
	b.s.Advance(at(60).Add(-1))
	b.counts(q, 1, 1, 0, 0)
	b.s.Advance(at(60))
	b.counts(q, 0, 0, 0, 0)
	b.check(q, r, "Gone")
	b.send(q, "c", 0)
	b.s.Advance(at(65))
	q.SetMeta(Meta{Retention: 5 * time.Second}, At(at(65)))
	b.s.Advance(at(65))
	b.counts(q, 0, 0, 0, 0)
	q.SetMeta(Meta{}, At(at(65)))
	b.counts(q, 0, 0, 0, 0)
}

func TestRewind(t *testing.T) { // cases 30 to 35
	b := newBench(t)
	q := b.queue("q", Meta{Rewind: time.Minute})
	var rs []*Receipt
	for i, body := range []string{"m1", "m2", "m3"} {
		b.s.Advance(at(float64(10 * (i + 1))))
		b.send(q, body, 0)
		rs = append(rs, b.receive(q, body))
	}
	for _, i := range []int{1, 0, 2} {
		q.Delete(rs[i])
	}
	for _, c := range []struct {
		to   time.Time
		want string
	}{{at(-30), OK}, {at(-30).Add(-1), ErrInvalidRewindTime}, {at(30), OK}, {at(31), ErrInvalidRewindTime}, {time.Time{}, ErrInvalidRewindTime}} {
		if got := q.CanRewind(c.to, at(30)); got != c.want {
			t.Errorf("CanRewind(%v) = %q, want %q", c.to, got, c.want)
		}
	}
	if n := q.Rewind(at(20), at(30)); n != 2 {
		t.Errorf("rewind restored %d, want 2", n)
	}
	b.counts(q, 2, 0, 0, 1)
	if n := q.Rewind(at(20), at(30)); n != 0 {
		t.Errorf("second rewind restored %d", n)
	}
	r := b.receive(q, "m2")
	if m := r.Message(); m.Receives != 1 || m.Rewinds != 1 {
		t.Errorf("after a rewind: %+v", m)
	}
	b.check(q, rs[1], "Deleted")
	q.Delete(r)
	b.s.Advance(at(70).Add(-1))
	b.counts(q, 1, 0, 0, 2)
	b.s.Advance(at(70))
	b.counts(q, 1, 0, 0, 1)
	b.s.Advance(at(80))
	b.counts(q, 1, 0, 0, 0)
	q.Delete(b.receive(q, "m3"))
	b.counts(q, 0, 0, 0, 1)
	q.SetMeta(Meta{}, At(at(80)))
	q.SetMeta(Meta{Rewind: time.Minute}, At(at(80)))
	b.s.Advance(at(80))
	b.counts(q, 0, 0, 0, 0)
}

func TestDeadLetters(t *testing.T) { // cases 38, 40, 41
	b := newBench(t)
	dead := b.queue("dead", Meta{})
	q := b.queue("q", Meta{Visibility: 10 * time.Second, Rewind: time.Hour, DeadLetter: &DeadLetter{Queue: "dead", MaxReceives: 2, MaxAge: time.Minute}})
	for _, bad := range []*DeadLetter{{Queue: "q", MaxReceives: 1}, {Queue: "none", MaxReceives: 1}, {Queue: "dead"}} {
		if got := q.SetMeta(Meta{DeadLetter: bad}, At(t0)); got != ErrInvalidArgument {
			t.Errorf("SetMeta(%+v) = %q", bad, got)
		}
	}
	if b.s.Drop("dead") != ErrInvalidArgument || dead.SetMeta(Meta{DeadLetter: &DeadLetter{Queue: "q", MaxReceives: 1}}, At(t0)) != ErrInvalidArgument {
		t.Error("a bound queue was dropped or bound")
	}
	b.send(q, "a", 0)
	b.receive(q, "a")
	b.s.Advance(at(10))
	q.Delete(b.receive(q, "a"))
	q.Rewind(at(0), at(10))
	b.receive(q, "a")
	b.s.Advance(at(20))
	b.counts(q, 1, 0, 0, 0)
	r := b.receive(q, "a")
	b.s.Advance(at(30))
	b.counts(q, 0, 0, 0, 0)
	b.counts(dead, 1, 0, 0, 0)
	b.check(q, r, "Gone")
	c := b.s.Arrivals()[0]
	if err := dead.Arrived(c, "copy", at(30)); err != nil || c.Origin.Reasons[0] != "max-receives" || c.Origin.Receives != 2 {
		t.Errorf("copy %+v, %v", c.Origin, err)
	}
	// By age, counted from the end of the delay; a leased one when its lease ends.
	b.send(q, "b", 30*time.Second)
	b.s.Advance(at(120).Add(-1))
	b.counts(q, 1, 0, 0, 0)
	b.receive(q, "b")
	b.s.Advance(at(130).Add(-2))
	b.counts(q, 0, 1, 0, 0)
	b.s.Advance(at(130))
	b.counts(q, 0, 0, 0, 0)
	if c := b.s.Arrivals()[0]; c.Origin.Reasons[0] != "max-age" || !c.Enq.Lo.Equal(at(130).Add(-1)) {
		t.Errorf("copy %+v at %v", c.Origin, c.Enq)
	}
}

func TestFull(t *testing.T) { // case 10
	b := newBench(t)
	q := b.queue("q", Meta{MaxMessages: 2, Rewind: time.Hour})
	b.send(q, "a", 0)
	b.send(q, "b", time.Second)
	if got := q.CanSend([]Send{{Body: "c"}}); !slices.Equal(got, []string{ErrQueueFull}) {
		t.Errorf("CanSend = %q", got)
	}
	q.Delete(b.receive(q, "a"))
	b.send(q, "c", 0)
}

func TestNames(t *testing.T) { // case 3
	for name, want := range map[string]bool{"": false, "1a": false, "-a": false, "a b": false, "é": false, "a": true, "A-1_b": true} {
		if validName(name) != want {
			t.Errorf("validName(%q) = %v", name, !want)
		}
	}
}
