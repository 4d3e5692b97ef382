package spool_test

import (
	"testing"

	"github.com/spoolmq/spool"
)

// TestAllocations: what a call allocates is what its caller gets, and little beside.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s, err := spool.Open(t.TempDir(), spool.WithDurability(spool.Written), spool.WithoutPaging)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	q, err := s.CreateQueue(t.Context(), "q", spool.Meta{})
	if err != nil {
		t.Fatal(err)
	}
	const runs = 500
	ctx, body := t.Context(), make([]byte, 100)
	got := make([]*spool.Delivery, 0, runs+1)
	for _, c := range []struct {
		name string
		most float64
		f    func() error
	}{
		{"Send", 1, func() error { _, err := q.Send(ctx, spool.Message{Body: body}); return err }},
		{"Receive", 3, func() error { d, err := q.Receive(ctx); got = append(got, d); return err }},
		{"Delete", 0, func() error { d := got[len(got)-1]; got = got[:len(got)-1]; return d.Delete(ctx) }},
	} {
		n := testing.AllocsPerRun(runs, func() {
			if err := c.f(); err != nil {
				t.Fatal(c.name, err)
			}
		})
		if n > c.most {
			t.Errorf("%s allocates %v times, want at most %v", c.name, n, c.most)
		}
	}
}
