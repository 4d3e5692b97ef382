package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Of two copies of a segment the one that holds more is taken, whatever they are called, and the other one is told of.
func TestRepairOldCopy(t *testing.T) {
	for _, name := range []string{"0000000000000000.seg", "00000000000000f0.seg"} {
		for _, header := range []string{"whole", "old lost", "new lost", "both lost"} {
			dir, _ := repairOne(t, 5)
			path := filepath.Join(dir, "log", "0000000000000001.seg")
			old := filepath.Join(dir, "log", name)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s := shelfOpen(t, dir)
			for i := 5; i < 10; i++ {
				m := Message{Body: fmt.Appendf(nil, "message %02d x", i)}
				if _, err := shelfQueue(t, s, "orders").Send(context.Background(), m); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(s.Close(), os.WriteFile(old, b, 0o600)); err != nil {
				t.Fatal(err)
			}
			lose := func(b []byte) []byte { clear(b[:4096]); return b }
			if header == "old lost" || header == "both lost" {
				repairEdit(t, old, lose)
			}
			if header == "new lost" || header == "both lost" {
				repairEdit(t, path, lose)
			}
			to := filepath.Join(t.TempDir(), "repaired")
			r, err := Repair(context.Background(), dir, to)
			if err != nil || !repairReason(r, old, "is not used") || repairReason(r, path, "is not used") || r.LostCount != 0 {
				t.Errorf("%s, headers %s: Repair = %+v, %v", name, header, r, err)
			}
			if got := fmt.Sprint(repairBodies(t, to, "orders")); got != repairNumbered(0, 10) {
				t.Errorf("%s, headers %s: %s, want %s", name, header, got, repairNumbered(0, 10))
			}
			if v, err := Verify(context.Background(), dir); err != nil || v.OK() {
				t.Errorf("%s, headers %s: Verify = %+v, %v", name, header, v, err)
			}
		}
	}
}
