package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// repairReason tells whether a report has a damage of a file with a text in it.
func repairReason(r Report, file, text string) bool {
	for _, d := range r.Damages {
		if d.File == file && strings.Contains(d.Reason, text) {
			return true
		}
	}
	return false
}

// repairBodies returns the bodies of all messages in a queue that can be received, without the padding of repairOne.
func repairBodies(t *testing.T, dir, queue string) (bodies []string) {
	t.Helper()
	s := shelfOpen(t, dir)
	got, err := shelfQueue(t, s, queue).ReceiveBatch(context.Background(), MaxBatch, Wait(0))
	if err != nil && !errors.Is(err, ErrNoMessage) {
		t.Error(err)
	}
	for _, d := range got {
		bodies = append(bodies, strings.TrimRight(string(d.Body), "x"))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return bodies
}

// repairNumbered is what repairBodies gives for the messages of repairOne from one on.
func repairNumbered(from, to int) string {
	var bodies []string
	for i := from; i < to; i++ {
		bodies = append(bodies, fmt.Sprintf("message %02d ", i))
	}
	return fmt.Sprint(bodies)
}

// repairOther makes another spool with a queue of the same name: it has had more messages, and has one.
func repairOther(t *testing.T) (dir string) {
	t.Helper()
	dir, _ = repairOne(t, 20)
	s := shelfOpen(t, dir)
	q := shelfQueue(t, s, "orders")
	err := q.Purge(context.Background())
	if err == nil {
		_, err = q.Send(context.Background(), Message{Body: []byte("B last")})
	}
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func repairCopy(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A segment whose header is whole and names another spool is told of, and nothing of it is taken.
func TestRepairStraySegment(t *testing.T) {
	other := filepath.Join(repairOther(t), "log", "0000000000000001.seg")
	dir, _ := repairOne(t, 10)
	stray := filepath.Join(dir, "log", "00000000000000f0.seg")
	repairCopy(t, other, stray)
	to := filepath.Join(t.TempDir(), "repaired")
	r, err := Repair(context.Background(), dir, to)
	if err != nil || r.DamageCount != 1 || !repairReason(r, stray, "of spool ") || r.LostCount != 0 {
		t.Errorf("Repair = %+v, %v", r, err)
	}
	if got := fmt.Sprint(repairBodies(t, to, "orders")); got != repairNumbered(0, 10) {
		t.Errorf("%s, want %s", got, repairNumbered(0, 10))
	}
	if r, err := Verify(context.Background(), dir); err != nil || r.DamageCount != 1 || !repairReason(r, stray, "of spool ") {
		t.Errorf("Verify = %+v, %v", r, err)
	}
	if got := fmt.Sprint(repairBodies(t, dir, "orders")); got != repairNumbered(0, 10) {
		t.Errorf("without a repair %s, want %s", got, repairNumbered(0, 10))
	}
}

// Of a log of which one segment was replaced by that of another spool, all others come through, and the loss is told.
func TestRepairReplacedSegment(t *testing.T) {
	const n = 400
	other := filepath.Join(repairOther(t), "log", "0000000000000001.seg")
	dir, _ := repairOne(t, n)
	stray := repairSegment(t, dir, "message 200")
	was, err := os.ReadFile(stray)
	if err != nil {
		t.Fatal(err)
	}
	want := int64(n - bytes.Count(was, []byte("message ")))
	repairCopy(t, other, stray)
	to := filepath.Join(t.TempDir(), "repaired")
	r, err := Repair(context.Background(), dir, to)
	if err != nil || !repairReason(r, stray, "of spool ") || !repairReason(r, filepath.Join(dir, "log"), "are in no file") {
		t.Errorf("Repair = %+v, %v", r, err)
	}
	got := repairBodies(t, to, "orders")
	if int64(len(got)) != want || strings.Contains(fmt.Sprint(got), "B last") {
		t.Errorf("%d messages, want %d: %q", len(got), want, got)
	}
}

// KEY, or FORMAT, of another spool is the damaged one: MARK and the segments outvote it. A key that is not that of the spool
// is a lost one.
func TestRepairStrayNames(t *testing.T) {
	for _, strays := range [][]string{{"KEY"}, {"FORMAT"}, {"MARK"}, {"KEY", "FORMAT"}} {
		other, _ := repairOne(t, 1)
		dir, _ := repairOne(t, 5)
		var receipts []string
		for _, d := range []string{dir, other} {
			s := shelfOpen(t, d)
			got, err := shelfQueue(t, s, "orders").Receive(context.Background(), Visibility(time.Hour))
			if err = errors.Join(err, s.Close()); err != nil {
				t.Fatal(err)
			}
			receipts = append(receipts, got.Receipt)
		}
		for _, name := range strays {
			repairCopy(t, filepath.Join(other, name), filepath.Join(dir, name))
		}
		to := filepath.Join(t.TempDir(), "repaired")
		r, err := Repair(context.Background(), dir, to)
		if err != nil || len(r.Queues) != 1 || r.Queues[0].Active+r.Queues[0].Inactive != 5 {
			t.Fatalf("%v: Repair = %+v, %v", strays, r, err)
		}
		v, err := Verify(context.Background(), dir)
		for _, name := range strays {
			if file := filepath.Join(dir, name); !repairReason(r, file, "of spool ") || !repairReason(v, file, "of spool ") {
				t.Errorf("%v: Repair = %+v; Verify = %+v, %v", strays, r, v, err)
			}
		}
		for _, d := range r.Damages {
			if strings.HasSuffix(d.File, ".seg") {
				t.Errorf("%v: %+v", strays, d)
			}
		}
		s := shelfOpen(t, to)
		for i, receipt := range receipts {
			err := shelfQueue(t, s, "orders").Delete(context.Background(), receipt)
			if good := i == 0 && strays[0] != "KEY"; good != (err == nil) {
				t.Errorf("%v: Delete with receipt %d = %v", strays, i, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
