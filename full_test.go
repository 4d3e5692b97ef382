package spool_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

// smallDisk mounts a tmpfs of a size, as mount spells it, and returns a directory for a spool on it.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("a small disk needs root and Linux's tmpfs")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("mounting a tmpfs: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return filepath.Join(dir, "spool")
}

// smallLoop is smallDisk with an ext4 on a loop device.
func smallLoop(t *testing.T, size string) string {
	t.Helper()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("a small ext4 needs root and Linux's loop devices")
	}
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	for _, args := range [][]string{{"truncate", "-s", size, image}, {"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("a small ext4 needs mkfs.ext4 and a loop device: %s: %v: %s", args[0], err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return filepath.Join(dir, "spool")
}

var fullControl = flag.Bool("spool.full.control", false, "a control: TestFullDisk takes a refused send for a stored one, and must fail")

// TestFullDisk: a full disk refuses sends with nothing stored, lets everything be received and deleted, and takes as much
// again when that has made room, without a reopen.
func TestFullDisk(t *testing.T) {
	for _, c := range []struct {
		system, size string
		disk         func(t *testing.T, size string) string
		body         int
		options      []spool.Option
	}{
		{"tmpfs", "24m", smallDisk, 10_000, nil}, {"tmpfs", "48m", smallDisk, 10_000, nil}, {"tmpfs", "64m", smallDisk, 10_000, nil},
		{"ext4", "48m", smallLoop, 60_000, nil}, {"ext4", "64m", smallLoop, 60_000, nil},
		// There is room for an index, and later there is not: what is only there must still be found.
		{"tmpfs", "240m", smallDisk, 10_000, []spool.Option{spool.WithPaging(0, 1<<40), spool.WithDurability(spool.Written), spool.WithSizes(0, 4<<20)}},
	} {
		t.Run(c.system+"/"+c.size, func(t *testing.T) {
			if testing.Short() && c.system == "ext4" {
				t.Skip("an ext4 takes a while to fill")
			}
			if c.system == "ext4" {
				t.Parallel() // it waits for syncs
			}
			ctx, options := context.Background(), c.options
			dir := c.disk(t, c.size)
			s, err := spool.Open(dir, options...)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			q, err := s.CreateQueue(ctx, "q", spool.Meta{})
			if err != nil {
				t.Fatal(err)
			}
			stored := fillDisk(t, q, c.body)
			for i := range stored {
				d, err := q.Receive(ctx)
				if err != nil {
					t.Fatalf("Receive %d of %d on a full disk = %v", i+1, stored, err)
				}
				if err := d.Delete(ctx); err != nil {
					t.Fatalf("Delete %d of %d on a full disk = %v", i+1, stored, err)
				}
			}
			if a, err := q.Attributes(ctx); err != nil || a.Active+a.Inactive+a.Delayed != 0 || a.Sent != int64(stored) {
				t.Fatalf("Attributes = %+v, %v, want nothing left of %d", a, err, stored)
			}
			if again := healDisk(t, q, c.body, stored*3/4); again < stored*3/4 {
				t.Fatalf("%d messages stored after all were deleted, %d before", again, stored)
			}
			before, err := q.Attributes(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = spool.Open(dir, options...); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if q, err = s.Queue("q"); err != nil {
				t.Fatal(err)
			}
			if after, err := q.Attributes(ctx); err != nil || after.Active != before.Active || after.Sent != before.Sent {
				t.Fatalf("Attributes = %+v, %v, before the reopen %+v", after, err, before)
			}
		})
	}
}

// TestFullDiskPurge: where small messages have filled the disk, and receives and deletes have used up their part of the reserve,
// Purge and DeleteQueue go on, and sends after them.
func TestFullDiskPurge(t *testing.T) {
	ctx := context.Background()
	s, err := spool.Open(smallDisk(t, "32m"), spool.WithDurability(spool.Written))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	batch := make([]spool.Message, 100)
	for i := range batch {
		batch[i].Body = make([]byte, 50)
	}
	q, err := s.CreateQueue(ctx, "q", spool.Meta{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateQueue(ctx, "other", spool.Meta{}); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = q.SendBatch(ctx, batch)
	}
	for until := time.Now().Add(time.Second); err != nil && time.Now().Before(until); {
		d, refused := q.Receive(ctx, spool.Wait(0))
		if refused == nil {
			refused = d.Delete(ctx)
		}
		switch {
		case refused == nil:
			until = time.Now().Add(time.Second)
		case errors.Is(refused, spool.ErrNoMessage):
			t.Skip("all of it could be received and deleted")
		case !errors.Is(refused, spool.ErrNoSpace):
			t.Fatal(refused)
		}
	}
	if err := q.Purge(ctx); err != nil {
		t.Fatalf("Purge = %v", err)
	}
	if err := s.DeleteQueue(ctx, "other"); err != nil {
		t.Errorf("DeleteQueue = %v", err)
	}
	for until := time.Now().Add(time.Minute); ; runtime.Gosched() {
		if _, err = q.SendBatch(ctx, batch); err == nil {
			break
		}
		if !errors.Is(err, spool.ErrNoSpace) || time.Now().After(until) {
			t.Fatalf("SendBatch after a Purge = %v", err)
		}
	}
}

// TestFullDiskCleaned: on a full disk the log is cleaned, however small it is. What stays of it may be in every segment.
func TestFullDiskCleaned(t *testing.T) {
	ctx := context.Background()
	s, err := spool.Open(smallDisk(t, "48m"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	q, err := s.CreateQueue(ctx, "q", spool.Meta{})
	if err != nil {
		t.Fatal(err)
	}
	stored, kept := fillDisk(t, q, 10_000), int64(0)
	for i := range stored {
		d, err := q.Receive(ctx, spool.Visibility(time.Hour))
		if kept++; err == nil && i%10 > 0 {
			kept--
			err = d.Delete(ctx)
		}
		if err != nil {
			t.Fatalf("message %d of %d on a full disk: %v", i+1, stored, err)
		}
	}
	again := healDisk(t, q, 10_000, stored/2)
	if again < stored/2 {
		t.Errorf("%d messages stored after nine of ten were deleted, %d before", again, stored)
	}
	if a, err := q.Attributes(ctx); err != nil || a.Active != int64(again) || a.Inactive != kept {
		t.Errorf("Attributes = %+v, %v, want %d active and %d inactive", a, err, again, kept)
	}
}

// TestFullDiskFront: on a full disk space that deletions have made comes back although the front of the log is live: messages
// that are not due yet, more than a segment of them.
func TestFullDiskFront(t *testing.T) {
	for _, c := range []struct {
		size     string
		front, n int // bytes of a message there, and how many there are
		body     int
	}{
		{"48m", 4_000, 100, 10_000}, {"48m", 1_000, 4_000, 10_000}, {"48m", 2_000_000, 3, 10_000}, {"640m", 4_000, 15_000, 100_000},
	} {
		t.Run(fmt.Sprintf("%s/%d of %d", c.size, c.n, c.front), func(t *testing.T) {
			ctx := context.Background()
			s, err := spool.Open(smallDisk(t, c.size), spool.WithDurability(spool.Written))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			q, err := s.CreateQueue(ctx, "q", spool.Meta{MaxMessageSize: 4 << 20})
			if err != nil {
				t.Fatal(err)
			}
			for range c.n {
				if _, err := q.Send(ctx, spool.Message{Body: make([]byte, c.front), Delay: 24 * time.Hour}); err != nil {
					t.Fatal(err)
				}
			}
			stored := fillDisk(t, q, c.body)
			for i := range stored {
				d, err := q.Receive(ctx)
				if err == nil {
					err = d.Delete(ctx)
				}
				if err != nil {
					t.Fatalf("message %d of %d on a full disk: %v", i+1, stored, err)
				}
			}
			if again := healDisk(t, q, c.body, stored/2); again < stored/2 {
				t.Errorf("%d messages stored after all but the first were deleted, %d before", again, stored)
			}
			if a, err := q.Attributes(ctx); err != nil || a.Delayed != int64(c.n) {
				t.Errorf("Attributes = %+v, %v, want %d delayed", a, err, c.n)
			}
		})
	}
}

// fillDisk sends bodies of a size until the disk is full and returns how many messages are stored.
func fillDisk(t *testing.T, q *spool.Queue, body int) (n int) {
	t.Helper()
	for ; ; n++ {
		_, err := q.Send(context.Background(), spool.Message{Body: make([]byte, body)})
		if errors.Is(err, spool.ErrNoSpace) {
			if *fullControl {
				n++
			}
			return n
		}
		if err != nil {
			t.Fatalf("Send %d = %v, want nil or ErrNoSpace", n, err)
		}
	}
}

// healDisk sends bodies of a size until want messages are stored; the space of the deleted ones comes back while it does.
func healDisk(t *testing.T, q *spool.Queue, body, want int) (n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); n < want && time.Now().Before(deadline); {
		_, err := q.Send(context.Background(), spool.Message{Body: make([]byte, body)})
		switch {
		case err == nil:
			n++
		case errors.Is(err, spool.ErrNoSpace):
			runtime.Gosched() // the keeper gives segments back within a second or so
		default:
			t.Fatalf("Send %d = %v, want nil or ErrNoSpace", n, err)
		}
	}
	return n
}

// TestFullDiskRepair: without the room for it a repair is refused, in place and into another directory, and leaves the
// damaged spool down to the last byte, and nothing else. With room it is made.
func TestFullDiskRepair(t *testing.T) {
	for system, disk := range map[string]func(*testing.T, string) string{"tmpfs": smallDisk, "ext4": smallLoop} {
		t.Run(system, func(t *testing.T) {
			dir := disk(t, "64m")
			parent := filepath.Dir(dir)
			other, filler := filepath.Join(parent, "other"), filepath.Join(parent, "filler")
			repairDamaged(t, dir, 2000)
			was := filepath.Join(t.TempDir(), "was")
			if err := copySpool(dir, was); err != nil {
				t.Fatal(err)
			}
			before := parentOf(t, dir)
			for _, free := range []int{0, 100 << 10, 3 << 20, 12 << 20} {
				fillBut(t, filler, free)
				for _, to := range []string{dir, other} {
					if _, err := spool.Repair(t.Context(), dir, to); !errors.Is(err, spool.ErrNoSpace) {
						t.Errorf("Repair to %s with %d bytes free = %v, want ErrNoSpace", filepath.Base(to), free, err)
					}
					if err := os.Remove(filler); err != nil {
						t.Fatal(err)
					}
					if after := parentOf(t, dir); !slices.Equal(after, before) {
						t.Errorf("%v after it, want %v", after, before)
					}
					if !sameFiles(t, was, dir) {
						t.Error("the damaged spool has changed")
					}
					fillBut(t, filler, free)
				}
				if err := os.Remove(filler); err != nil {
					t.Fatal(err)
				}
			}
			report, err := spool.Repair(t.Context(), dir, dir)
			if err != nil || report.LostCount != 1 || !sameFiles(t, was, report.Kept) {
				t.Errorf("Repair with room = %v, %d lost, the original in %q", err, report.LostCount, report.Kept)
			}
		})
	}
}

// parentOf lists what is beside a directory.
func parentOf(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}

// fillBut makes a file that leaves about so many bytes of a disk.
func fillBut(t *testing.T, name string, free int) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, block := 0, make([]byte, 64<<10)
	for err == nil {
		var n int
		n, err = f.Write(block)
		size += n
	}
	if err := errors.Join(f.Truncate(int64(max(0, size-free))), f.Sync()); err != nil {
		t.Fatal(err)
	}
}
