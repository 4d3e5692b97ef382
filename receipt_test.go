package spool

import "testing"

// TestDeletesAreRemembered: of more deletions than the memory holds the latest ones are told from messages that are gone,
// the eldest of them too.
func TestDeletesAreRemembered(t *testing.T) {
	var m memory
	for n := range uint64(3*recentDeletes + 7) {
		m.add(delivery{queue: 1, seq: n, nonce: n + 1})
		if n%1000 != 0 && n%recentDeletes > 1 && n%recentDeletes < recentDeletes-2 {
			continue
		}
		for _, back := range []uint64{0, 1, recentDeletes / 2, recentDeletes - 1} {
			if back > n {
				break
			}
			d := delivery{queue: 1, seq: n - back, nonce: n - back + 1}
			if got := m.reason(d); got != Deleted {
				t.Fatalf("after %d deletions the one %d before the latest is %s, want %s", n+1, back, got, Deleted)
			}
			if d.nonce--; m.reason(d) != Stale {
				t.Errorf("an earlier receipt of it is %s, want %s", m.reason(d), Stale)
			}
			if d.queue++; m.reason(d) != Gone {
				t.Errorf("a receipt of another queue is %s, want %s", m.reason(d), Gone)
			}
		}
	}
}
