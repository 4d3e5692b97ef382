package spool_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
)

// TestRoomForMoves: a call with a large batch meets dead letters that are due and larger than a group of commits. It must
// not hold room in the log that the moves wait for. A deadlock ends the bubble.
func TestRoomForMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		s, err := spool.OpenMemory()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		dead, err := s.CreateQueue(ctx, "dead", spool.Meta{})
		if err != nil {
			t.Fatal(err)
		}
		q, err := s.CreateQueue(ctx, "q", spool.Meta{MaxMessageSize: 1 << 20,
			DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 1}})
		if err != nil {
			t.Fatal(err)
		}
		batch := make([]spool.Message, 15)
		for i := range batch {
			batch[i].Body = make([]byte, 1<<20)
		}
		const rounds = 3
		for range rounds {
			if _, err := q.SendBatch(ctx, batch); err != nil {
				t.Fatal(err)
			}
			if ds, err := q.ReceiveBatch(ctx, len(batch), spool.Visibility(time.Second)); err != nil || len(ds) != len(batch) {
				t.Fatalf("ReceiveBatch = %d, %v, want %d", len(ds), err, len(batch))
			}
			time.Sleep(time.Second) // the next call finds the leases over, or the worker is at it
		}
		synctest.Wait()
		if a, err := dead.Attributes(ctx); err != nil || a.Active != rounds*int64(len(batch)) {
			t.Fatalf("Attributes of dead = %+v, %v, want %d active", a, err, rounds*len(batch))
		}
	})
}
