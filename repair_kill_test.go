package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

func init() { children["repair"] = repairChild }

// repairChild repairs until it comes to its step.
func repairChild() {
	orders := killOrders{Step: os.Getenv("SPOOL_TEST_STEP"), Nth: 1}
	if n := os.Getenv("SPOOL_TEST_NTH"); n != "" {
		fmt.Sscan(n, &orders.Nth)
	}
	stepOptions(&orders)
	repair := spool.Repair
	if os.Getenv("SPOOL_TEST_RENAME") == "true" {
		repair = spool.RepairByRename
	}
	if _, err := repair(context.Background(), os.Getenv("SPOOL_TEST_DIR"), os.Getenv("SPOOL_TEST_TO")); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("repaired")
}

// TestRepairKill kills a process that repairs at each kill point of it. The original is there afterwards, down to the last
// byte, and repaired again it gives the same as if nothing had happened.
func TestRepairKill(t *testing.T) {
	base := t.TempDir()
	damaged := filepath.Join(base, "damaged")
	repairDamaged(t, damaged, 200)
	good := filepath.Join(base, "good")
	if _, err := spool.Repair(t.Context(), damaged, good); err != nil {
		t.Fatal(err)
	}
	want := repairTells(t, good)
	for _, how := range []string{"in place", "in place, by renaming", "into another directory"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			kills := 0
			for _, step := range spool.Steps() {
				part, _, _ := strings.Cut(step, ":")
				nths := []int{1}
				switch {
				case part == "repair":
					if step == "repair:traded" && how != "in place" || step == "repair:aside" && how != "in place, by renaming" {
						continue
					}
				case part == "append" && step != "append:piece" && step != "append:stage": // a repair has no small frames
					nths = []int{2, 3}
				case part == "prepare" || step == "roll:switch" || step == "sync:done" || step == "mark:write":
				default:
					continue
				}
				for _, nth := range nths {
					repairKilled(t, damaged, how, step, nth, want)
					kills++
				}
			}
			t.Logf("%d kills", kills)
		})
	}
}

// repairKilled kills one process.
func repairKilled(t *testing.T, damaged, how, step string, nth int, want []string) {
	t.Helper()
	what := fmt.Sprintf("%s, killed at %s %d", how, step, nth)
	parent := t.TempDir()
	dir := filepath.Join(parent, "spool")
	if err := copySpool(damaged, dir); err != nil {
		t.Fatal(err)
	}
	to := dir
	if how == "into another directory" {
		to = filepath.Join(parent, "other")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=repair", "SPOOL_TEST_DIR="+dir, "SPOOL_TEST_TO="+to, "SPOOL_TEST_STEP="+step,
		fmt.Sprint("SPOOL_TEST_NTH=", nth), fmt.Sprint("SPOOL_TEST_RENAME=", how == "in place, by renaming"))
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); len(out) > 0 || !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Errorf("%s: the process ended with %v\n%s", what, err, out)
		return
	}
	if *killControl { // what a repair would do that does not keep the original
		for _, name := range originals(t, parent, damaged) {
			if err := os.RemoveAll(filepath.Join(name, "log")); err != nil {
				t.Fatal(err)
			}
		}
	}
	kept := originals(t, parent, damaged)
	if len(kept) != 1 {
		t.Errorf("%s: %d directories hold the original, want 1: %v", what, len(kept), kept)
		return
	}
	from := dir
	if _, err := os.Stat(dir); err != nil {
		from = kept[0] // in the middle of two renames
	}
	if _, err := os.Stat(to); err != nil || to == dir {
		if _, err := spool.Repair(t.Context(), from, to); err != nil {
			t.Errorf("%s: Repair of %s = %v", what, filepath.Base(from), err)
			return
		}
	}
	if got := repairTells(t, to); !slices.Equal(got, want) {
		t.Errorf("%s: repaired again:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if again := originals(t, parent, damaged); len(again) != 1 {
		t.Errorf("%s: repaired again, %d directories hold the original, want 1: %v", what, len(again), again)
	}
}

// originals returns the directories in parent with every file of a spool in them as it is there. LOCK tells who had it open.
func originals(t *testing.T, parent, of string) (dirs []string) {
	t.Helper()
	all, err := os.ReadDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if dir := filepath.Join(parent, e.Name()); e.IsDir() && sameFiles(t, of, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func sameFiles(t *testing.T, of, dir string) bool {
	t.Helper()
	for _, f := range damageFiles(t, of) {
		was, err := os.ReadFile(filepath.Join(of, f.name))
		if err != nil {
			t.Fatal(err)
		}
		if is, err := os.ReadFile(filepath.Join(dir, f.name)); f.name != "LOCK" && (err != nil || !bytes.Equal(is, was)) {
			return false
		}
	}
	return true
}

// repairDamaged makes a spool with n messages in some states, closes it, and flips a bit in the body of one.
func repairDamaged(t *testing.T, dir string, n int) {
	t.Helper()
	ctx := t.Context()
	s, err := spool.Open(dir, spool.WithDurability(spool.Written))
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.CreateQueue(ctx, "dead", spool.Meta{})
	must(err)
	q, err := s.CreateQueue(ctx, "q", spool.Meta{VisibilityTimeout: time.Hour, Rewind: time.Hour, DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 1}})
	must(err)
	body := make([]byte, 10_000)
	for i := range n {
		copy(body, fmt.Sprintf("message %06d ", i))
		_, err := q.Send(ctx, spool.Message{Body: body})
		must(err)
	}
	ds, err := q.ReceiveBatch(ctx, 30)
	must(err)
	for i, d := range ds {
		switch i % 3 {
		case 0:
			must(d.Delete(ctx))
		case 1:
			must(d.Release(ctx, 0)) // into the dead-letter queue
		}
	}
	must(s.Close())
	for _, f := range damageFiles(t, dir) {
		data, err := os.ReadFile(filepath.Join(dir, f.name))
		must(err)
		if at := bytes.Index(data, fmt.Appendf(nil, "message %06d ", n/2)); at >= 0 {
			data[at+100] ^= 1
			must(damageWrite(filepath.Join(dir, f.name), data))
			return
		}
	}
	t.Fatal("the message to be damaged was not found")
}

// repairTells returns what a spool has, line by line, and closes it.
func repairTells(t *testing.T, dir string) (lines []string) {
	t.Helper()
	s, err := spool.Open(dir)
	if err != nil {
		t.Errorf("Open: %v", err)
		return nil
	}
	defer s.Close()
	for _, q := range s.Queues() {
		a, err := q.Attributes(t.Context())
		if err != nil {
			t.Error(err)
		}
		lines = append(lines, fmt.Sprintf("%s: %d active, %d inactive, %d delayed, %d rewindable", q.Name(), a.Active, a.Inactive, a.Delayed, a.Rewindable))
		list, err := q.Peek(t.Context(), spool.MaxBatch)
		if err != nil {
			t.Error(err)
		}
		for _, d := range list {
			lines = append(lines, fmt.Sprintf("%s %.14s %d %d", d.ID, d.Body, len(d.Body), d.EnqueuedAt.UnixNano()))
		}
	}
	return lines
}
