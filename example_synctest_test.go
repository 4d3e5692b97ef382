package spool_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
)

// A consumer's code is tested in a synctest bubble: time stands still while anything runs and leaps when everything
// waits, so an hour of retries takes no time, and nothing depends on how fast the machine is.
func TestRetriesForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := spool.OpenMemory()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		ctx := t.Context()
		q, err := s.CreateQueue(ctx, "jobs", spool.Meta{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Send(ctx, spool.Message{Body: []byte("call")}); err != nil {
			t.Fatal(err)
		}

		start := time.Now()
		for attempt := 1; attempt <= 4; attempt++ {
			d, err := q.Receive(ctx, spool.Wait(24*time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			if d.Receives != attempt {
				t.Errorf("Receives = %d, want %d", d.Receives, attempt)
			}
			if err := d.Release(ctx, 15*time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		d, err := q.Receive(ctx, spool.Wait(24*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Delete(ctx); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(start); got < time.Hour || got > time.Hour+time.Second {
			t.Errorf("four retries took %v, want an hour", got)
		}
	})
}
