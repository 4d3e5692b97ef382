package store_test

import (
	"testing"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memlog"
)

// TestDirtyAgainAfterSync writes while a sync runs: whoever keeps the log stable must be told of it, because later
// writes find the log unsynced already and say nothing.
func TestDirtyAgainAfterSync(t *testing.T) {
	log := &watched{Log: memlog.New(memlog.Options{}), t: t}
	told := 0
	c := store.NewCommitter(log, store.CommitterOptions{Dirty: func() { told++ }})
	write := func() {
		if err := c.Wait(add(t, c, "head", "body"), store.AtWritten); err != nil {
			t.Fatal(err)
		}
	}
	write()
	log.sync = write
	if err := c.Sync(); err != nil {
		t.Fatal(err)
	}
	if told != 2 {
		t.Errorf("told %d times that something is not synced, want 2", told)
	}
	log.sync = nil
	if err := c.Sync(); err != nil || told != 2 {
		t.Errorf("Sync = %v; told %d times, want 2", err, told)
	}
}
