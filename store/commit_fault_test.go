package store_test

import (
	"errors"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memlog"
)

// TestWakeOfAFailure: who asks to be told when a record is stable, of a committer that has failed, is told at once.
func TestWakeOfAFailure(t *testing.T) {
	c, _, _ := newCommitter(t, store.AtSynced, memlog.Options{})
	fault := errors.New("for the test")
	if err := c.Admit(100); err != nil {
		t.Fatal(err)
	}
	c.Fail(fault)
	told := make(chan struct{}, 1)
	c.Begin()
	pos := c.Add(1, []byte("head"), 0)
	c.Wake(told, store.AtSynced)
	c.End(100)
	<-told
	if err := c.Wait(pos, store.AtSynced); !errors.Is(err, fault) {
		t.Errorf("Wait = %v, want %v", err, fault)
	}
}

// TestFailureTellsReceivers: who asked to be told when a record is stable, in the group that gathers while another one is
// written, is told when the committer fails: nobody will write that group.
func TestFailureTellsReceivers(t *testing.T) {
	c, log, _ := newCommitter(t, store.AtSynced, memlog.Options{})
	fault := errors.New("for the test")
	told := make(chan struct{}, 1)
	pos := add(t, c, "head", "body")
	log.append = func() {
		if err := c.Admit(100); err != nil {
			t.Fatal(err)
		}
		c.Begin()
		c.Add(1, []byte("head"), 0)
		c.Wake(told, store.AtSynced)
		c.End(100)
		c.Fail(fault)
	}
	if err := c.Wait(pos, store.AtSynced); !errors.Is(err, fault) {
		t.Errorf("Wait = %v, want %v", err, fault)
	}
	select {
	case <-told:
	default:
		t.Error("a receiver is not told of the failure")
	}
}

// TestFailedWhileHandedOver: a committer fails between the moment at which somebody is made a leader and the one at which
// he leads. Nothing is written or synced then, and everybody is told.
func TestFailedWhileHandedOver(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that who is handed the lead runs after who hands it over
	for _, level := range []store.Level{store.AtWritten, store.AtSynced} {
		fault := errors.New("for the test")
		log := &watched{Log: memlog.New(memlog.Options{}), t: t}
		var c *store.Committer
		failed := false
		c = store.NewCommitter(log, store.CommitterOptions{Level: store.AtSynced, Dirty: func() {
			if !failed {
				failed = true
				c.Fail(fault)
			}
		}})
		// While the first frame is being written others wait: for the next one to be written, or for this one to be stable.
		others := make(chan error, 2)
		own := add(t, c, "head", "body")
		var at [2]store.Position
		for i := range at {
			at[i] = add(t, c, "head", "body")
		}
		entered := false
		log.append = func() {
			if entered {
				t.Error("a frame was written after the failure")
			}
			entered = true
			for _, pos := range at {
				if level == store.AtWritten {
					pos = add(t, c, "head", "body")
				}
				go func() { others <- c.Wait(pos, level) }()
			}
			for range 100 {
				runtime.Gosched() // until they sleep
			}
		}
		if err := c.Wait(own, store.AtWritten); err != nil {
			t.Errorf("Wait of what was written = %v", err)
		}
		for range at {
			if err := <-others; !errors.Is(err, fault) {
				t.Errorf("level %d: Wait = %v, want %v", level, err, fault)
			}
		}
		if n := log.syncs.Load(); n != 0 {
			t.Errorf("%d syncs", n)
		}
	}
}

func TestSyncDirMissing(t *testing.T) {
	if err := store.SyncDir(filepath.Join(t.TempDir(), "missing")); err == nil && runtime.GOOS != "windows" {
		t.Error("SyncDir of a directory that is not there answers nil")
	}
}
