package spool

import (
	"context"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// TestMoveBesideCheckpoint: a checkpoint that is made after a dead letter was recorded, and before its source has let it
// go, must not say that the source has it still: the record lies before what the checkpoint includes.
func TestMoveBesideCheckpoint(t *testing.T) {
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "spool")
	var s *Spool
	made := make(chan error, 1)
	s, err := Open(dir, WithoutPaging, withStep(func(name string) {
		if name != stepMoveRecorded {
			return
		}
		go func() { made <- s.Checkpoint() }()
		for begun := time.Now(); len(made) == 0 && time.Since(begun) < 300*time.Millisecond; {
			runtime.Gosched() // it is made, or waits for the move
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dead, err := s.CreateQueue(ctx, "dead", Meta{})
	if err != nil {
		t.Fatal(err)
	}
	q, err := s.CreateQueue(ctx, "q", Meta{DeadLetter: &DeadLetter{Queue: "dead", MaxReceives: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.SendBatch(ctx, []Message{{Body: []byte("a")}, {Body: []byte("b")}}); err != nil {
		t.Fatal(err)
	}
	d, err := q.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Release(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if a, err := dead.Attributes(ctx); err != nil || a.Active != 1 {
		t.Fatalf("dead: %+v, %v", a, err)
	}
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	killed := cleanCopy(t, dir)
	again, err := Open(killed, WithoutPaging)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.keeper.shelf.index == nil {
		t.Error("the checkpoint was not used")
	}
	for name, want := range map[string]int64{"q": 1, "dead": 1} {
		q, err := again.Queue(name)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := q.Attributes(ctx); err != nil || a.Active+a.Inactive+a.Delayed != want {
			t.Errorf("%s after a crash: %d active, %d inactive, %v, want %d in all", name, a.Active, a.Inactive, err, want)
		}
	}
}

// TestSettingsBesideWhatIsDue: what falls due when new settings are about to be recorded is decided by the old ones: they
// are refused for the moment.
func TestSettingsBesideWhatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s, err := OpenMemory(WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		dead, err := s.CreateQueue(ctx, "dead", Meta{})
		if err != nil {
			t.Fatal(err)
		}
		q, err := s.CreateQueue(ctx, "q", Meta{DeadLetter: &DeadLetter{Queue: "dead", MaxReceives: 1}})
		if err == nil {
			_, err = q.Send(ctx, Message{Body: []byte("x")})
		}
		if err == nil {
			_, err = q.Receive(ctx, Visibility(time.Second))
		}
		if err == nil {
			err = s.commit.Admit(settingNeed)
		}
		if err != nil {
			t.Fatal(err)
		}
		s.clock.unset(q) // the clock is late
		time.Sleep(time.Second)
		meta := q.Meta()
		meta.DeadLetter = nil
		if _, done, err := q.replace(q.meta.Load(), meta, settingNeed); done || err != nil {
			t.Fatalf("replace = %t, %v; want that it does nothing", done, err)
		}
		s.commit.Forgo(settingNeed)
		if err := q.SetMeta(ctx, func(m *Meta) { m.DeadLetter = nil }); err != nil {
			t.Fatal(err)
		}
		if a, err := dead.Attributes(ctx); err != nil || a.Active != 1 {
			t.Errorf("%d dead letters, %v; want 1", a.Active, err)
		}
	})
}
