package spool

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// TestStorm: very many delays end at one instant. The counters are right at once, and calls on this queue and on others
// wait for milliseconds at most.
func TestStorm(t *testing.T) {
	n := 30_000
	if *backlogSize > 0 {
		n = *backlogSize
	}
	for name, options := range map[string][]Option{"in memory": {WithoutPaging}, "put out": {WithPaging(0, 64<<20)}} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.TempDir(), append(options, WithDurability(Written))...)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			q, err := s.CreateQueue(t.Context(), "storm", Meta{})
			if err != nil {
				t.Fatal(err)
			}
			other, err := s.CreateQueue(t.Context(), "other", Meta{})
			if err != nil {
				t.Fatal(err)
			}
			due := time.Now().Add(200*time.Millisecond + time.Duration(n)*2*time.Microsecond)
			last := due // no delay ends later
			batch := make([]Message, MaxBatch)
			for i := 0; i < n; i += len(batch) {
				batch = batch[:min(len(batch), n-i)]
				delay := max(time.Until(due), time.Millisecond)
				for j := range batch {
					batch[j] = Message{Body: []byte("storm"), Delay: delay}
				}
				if _, err := q.SendBatch(t.Context(), batch); err != nil {
					t.Fatal(err)
				}
				if end := time.Now().Add(delay); end.After(last) {
					last = end
				}
			}
			stop := make(chan struct{})
			var beside sync.WaitGroup
			waits := make([][]time.Duration, 2)
			for i, x := range []*Queue{q, other} {
				beside.Go(func() {
					for {
						began := time.Now()
						if _, err := x.Send(t.Context(), Message{Body: []byte("beside"), Delay: time.Hour}); err != nil {
							t.Error(err)
							return
						}
						waits[i] = append(waits[i], time.Since(began))
						select {
						case <-stop:
							return
						default:
						}
					}
				})
			}
			if _, err := q.Receive(t.Context(), Wait(time.Minute)); err != nil {
				t.Fatal(err)
			}
			for time.Until(last) > -time.Millisecond {
				if _, err := q.Peek(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
			}
			began := time.Now()
			a, err := q.Attributes(t.Context())
			took := time.Since(began)
			close(stop)
			beside.Wait()
			if err != nil || a.Active != int64(n-1) || a.Inactive != 1 {
				t.Errorf("Attributes = %+v, %v, want %d active", a, err, n-1)
			}
			for i, name := range []string{"this queue", "another queue"} {
				slices.Sort(waits[i])
				t.Logf("%d delays: Attributes %v; Send on %s: p99 %v, longest %v of %d", n, took, name,
					waits[i][len(waits[i])*99/100], waits[i][len(waits[i])-1], len(waits[i]))
			}
		})
	}
}
