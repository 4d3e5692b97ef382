package spool_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/spoolmq/spool"
)

// TestRuleDescriptors: a receive whose message lies in a file that is not open needs no descriptor more than there are, and
// does not stop the spool when the process has none left.
func TestRuleDescriptors(t *testing.T) {
	q := onDisk(t, t.TempDir(), spool.WithSizes(64<<10, 1<<30), spool.WithDurability(spool.Written)).create("q", spool.Meta{})
	const n = 1000 // many more segments than stay open
	for range n {
		q.send(strings.Repeat("x", 1000))
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Skip(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &was)
	few := unix.Rlimit{Cur: 64, Max: was.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Skip(err)
	}
	for f, err := os.Open(os.DevNull); err == nil; f, err = os.Open(os.DevNull) {
		defer f.Close()
	}
	for i := range n / 2 {
		_, err := q.Receive(bg)
		if errors.Is(err, spool.ErrNoSpace) { // the log is to grow, which takes a descriptor
			if err = unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err == nil {
				_, err = q.Receive(bg)
			}
			err = errors.Join(err, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
		}
		if err != nil {
			t.Fatalf("Receive %d without a free descriptor = %v", i, err)
		}
	}
}
