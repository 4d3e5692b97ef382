package spool

import (
	"encoding/hex"
	"reflect"
	"testing"
)

func TestCopyGolden(t *testing.T) {
	records := []copyRecord{
		{queue: 1, seq: 5, at: 0x1122334455667788, epoch: 3, attrs: 2, state: entry{off: 5, kind: active}},
		{queue: 300, seq: 5000, at: 7, epoch: 1, generation: 9, state: entry{off: 5000 & blockMask, kind: inactive, due: 1 << 40,
			first: 3, base: 4, nonce: 1<<40 | 6, receives: 200, rewinds: 2},
			origin: &originRecord{queue: "q", id: "id", enqueuedAt: 8, receives: 3, reason: reasonMaxAge}},
		{queue: 2, seq: 1, at: 7, epoch: 1, generation: 1, state: entry{off: 1, kind: rewindable, first: 5, nonce: 2, receives: 1}},
	}
	golden := []string{
		"010588776655443322110300020100" + "0000",
		"ac02882707000000000000000109" + "0002c801021f" + "0000000000010000" + "0300000000000000" + "0400000000000000" + "0600000000010000" +
			"0171" + "026964" + "0800000000000000" + "03" + "076d61782d616765",
		"02010700000000000000010100" + "0401000a" + "0500000000000000" + "0200000000000000",
	}
	for i, r := range records {
		var e encoder
		r.encode(&e)
		if got := hex.EncodeToString(e); got != golden[i] {
			t.Errorf("record %d is %s, want %s", i, got, golden[i])
		}
		var back copyRecord
		d := decoder{b: e}
		back.decode(&d)
		if err := d.done(); err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("record %d comes back as %+v, %v", i, back, err)
		}
		for n := range e {
			d := decoder{b: e[:n]}
			if back.decode(&d); d.done() == nil {
				t.Errorf("record %d decodes with %d of %d bytes", i, n, len(e))
			}
		}
	}
	bad := encoder{1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, byte(hidden), 0, 0, 0}
	d := decoder{b: bad}
	if new(copyRecord).decode(&d); d.done() == nil {
		t.Error("a hidden message decodes")
	}
}
