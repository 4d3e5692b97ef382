package spool_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

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

// TestFullDisk: a full disk refuses sends with nothing stored, lets everything be received and deleted, and takes as much
// again when that has made room, without a reopen.
func TestFullDisk(t *testing.T) {
	for size, options := range map[string][]spool.Option{"24m": nil, "48m": nil, "64m": nil,
		// There is room for an index, and later there is not: what is only there must still be found.
		"240m": {spool.WithPaging(0, 1<<40), spool.WithDurability(spool.Written), spool.WithSizes(0, 4<<20)}} {
		t.Run(size, func(t *testing.T) {
			ctx := context.Background()
			dir := smallDisk(t, size)
			s, err := spool.Open(dir, options...)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			q, err := s.CreateQueue(ctx, "q", spool.Meta{})
			if err != nil {
				t.Fatal(err)
			}
			stored := fillDisk(t, q)
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
			if again := healDisk(t, q, stored*3/4); again < stored*3/4 {
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

const fullBody = 10_000

// fillDisk sends until the disk is full and returns how many messages are stored.
func fillDisk(t *testing.T, q *spool.Queue) (n int) {
	t.Helper()
	for ; ; n++ {
		_, err := q.Send(context.Background(), spool.Message{Body: make([]byte, fullBody)})
		if errors.Is(err, spool.ErrNoSpace) {
			return n
		}
		if err != nil {
			t.Fatalf("Send %d = %v, want nil or ErrNoSpace", n, err)
		}
	}
}

// healDisk sends until want messages are stored; the space of the deleted ones comes back while it does.
func healDisk(t *testing.T, q *spool.Queue, want int) (n int) {
	t.Helper()
	for tries := 0; n < want && tries < 1_000_000; tries++ {
		_, err := q.Send(context.Background(), spool.Message{Body: make([]byte, fullBody)})
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
