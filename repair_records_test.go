package spool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spoolmq/spool/rewind"
	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/seglog"
)

// A told record is one of a log that was never written like that: what is left when others are lost.
type told struct {
	typ  byte
	head interface{ encode(*encoder) }
	body string
}

// repairRecords makes a closed spool with a log of these records, each in a frame of its own.
func repairRecords(t *testing.T, records ...told) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "spool")
	if err := seglog.Plant(dir, seglog.Seed{ID: [16]byte{1}, Key: [32]byte{2}, Epoch: 6}); err != nil {
		t.Fatal(err)
	}
	log, err := seglog.Open(dir, seglog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	out := scribe{log: log}
	for _, r := range records {
		if err = out.keep(rebuilt(r.typ, r.head, []byte(r.body))); err == nil {
			err = out.flush()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{log.Sync(log.End()), log.Mark(0, true), log.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// repairTold repairs such a spool, opens it and hands it on.
func repairTold(t *testing.T, dir string, f func(Report, *Spool)) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "repaired")
	r, err := Repair(context.Background(), dir, to)
	if err != nil {
		t.Fatal(err)
	}
	s := shelfOpen(t, to)
	checkAll(t, s)
	f(r, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func toldQueue(id uint32, name string, at int64, dead string) told {
	m := Meta{Rewind: 48 * time.Hour}.withDefaults()
	if dead != "" {
		m.DeadLetter = &DeadLetter{Queue: dead, MaxReceives: 3}
	}
	return told{recordQueue, &queueRecord{queue: id, change: queueCreated, at: at, name: name, meta: m, floors: floors{expired: math.MinInt64}}, ""}
}

func toldNoted(t *testing.T, r Report, text string) {
	t.Helper()
	if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, text) }) {
		t.Errorf("notes %q, want one with %q", r.Notes, text)
	}
}

// A lost rewind leaves what it brought back rewindable, says so, and the next one has its place.
func TestRepairLostRewind(t *testing.T) {
	at := time.Now().UnixNano()
	dir := repairRecords(t, toldQueue(1, "a", at, ""),
		told{recordSend, &sendRecord{queue: 1, seq: 0, at: at, epoch: 1}, "body"},
		told{recordDelete, &deleteRecord{queue: 1, at: at, items: []erased{{0, true}}}, ""},
		told{recordSend, &sendRecord{queue: 1, seq: 1, at: at + 1, epoch: 1, generation: 2}, "body"})
	repairTold(t, dir, func(r Report, s *Spool) {
		toldNoted(t, r, "2 rewinds")
		q := shelfQueue(t, s, "a")
		if n := q.st.history.Generation(); n != 2 || r.Queues[0].Rewindable != 1 || r.Queues[0].Active != 1 {
			t.Errorf("generation %d, %+v", n, r.Queues)
		}
		if n, err := q.Rewind(context.Background(), time.Unix(0, at)); err != nil || n != 1 {
			t.Errorf("Rewind = %d, %v", n, err)
		}
	})
}

// Of two queues of one name the earlier one was deleted, whatever is left of it.
func TestRepairLostDeletion(t *testing.T) {
	at := time.Now().UnixNano()
	dir := repairRecords(t, toldQueue(1, "a", at, ""),
		told{recordSend, &sendRecord{queue: 1, seq: 0, at: at, epoch: 1}, "of the first"}, toldQueue(2, "A", at, ""),
		told{recordSend, &sendRecord{queue: 2, seq: 0, at: at, epoch: 1}, "of the second"})
	repairTold(t, dir, func(r Report, s *Spool) {
		toldNoted(t, r, "deleted and made again")
		d, err := shelfQueue(t, s, "A").Receive(context.Background())
		if err != nil || string(d.Body) != "of the second" || len(s.Queues()) != 1 {
			t.Errorf("Receive = %+v, %v, queues %v", d, err, s.Queues())
		}
	})
}

// Settings that exclude each other, because a change between them is lost, end the earlier one's.
func TestRepairLostSettings(t *testing.T) {
	at := time.Now().UnixNano()
	dir := repairRecords(t, toldQueue(1, "c", at, ""), toldQueue(2, "b", at, "c"), toldQueue(3, "a", at-1, "b"), toldQueue(4, "d", at, "lost"))
	repairTold(t, dir, func(r Report, s *Spool) {
		toldNoted(t, r, "queue a has no dead-letter queue")
		toldNoted(t, r, "queue lost, the dead-letter queue of d, is lost")
		if shelfQueue(t, s, "a").Meta().DeadLetter != nil || shelfQueue(t, s, "b").Meta().DeadLetter == nil || shelfQueue(t, s, "lost").target != nil {
			t.Error("other dead-letter queues than expected")
		}
	})
}

// A queue of which no record tells the settings keeps its messages as long as can be, and what was deleted in it and is rewindable.
func TestRepairLostWindow(t *testing.T) {
	at := time.Now().UnixNano()
	dir := repairRecords(t, told{recordSend, &sendRecord{queue: 3, seq: 0, at: at, epoch: 1}, "body"},
		told{recordDelete, &deleteRecord{queue: 3, at: at, items: []erased{{0, true}}}, ""})
	repairTold(t, dir, func(r Report, s *Spool) {
		if m := shelfQueue(t, s, "recovered-3").Meta(); m.Retention != maxRetention || m.Rewind != maxRetention {
			t.Errorf("Retention = %v, Rewind = %v, want %v", m.Retention, m.Rewind, maxRetention)
		}
		if n, err := shelfQueue(t, s, "recovered-3").Rewind(context.Background(), time.Unix(0, at)); err != nil || n != 1 {
			t.Errorf("Rewind = %d, %v; want 1", n, err)
		}
	})
}

// Of two queues that have one name still when all is read the later one keeps it; the other one is there under another.
func TestRepairTwoOfAName(t *testing.T) {
	at := time.Now().UnixNano()
	dir := repairRecords(t, toldQueue(2, "a", at, ""), told{recordSend, &sendRecord{queue: 2, seq: 0, at: at, epoch: 1}, "of the second"},
		toldQueue(1, "A", at, ""), told{recordSend, &sendRecord{queue: 1, seq: 0, at: at, epoch: 1}, "of the first"})
	repairTold(t, dir, func(r Report, s *Spool) {
		for name, body := range map[string]string{"a": "of the second", "recovered-1": "of the first"} {
			if d, err := shelfQueue(t, s, name).Receive(context.Background()); err != nil || string(d.Body) != body {
				t.Errorf("Receive from %s = %+v, %v", name, d, err)
			}
		}
	})
}

// The id of a queue that a repair makes was never that of another one, also when only the number of ids tells of that.
func TestRepairIDs(t *testing.T) {
	at := time.Now().UnixNano()
	dir := repairRecords(t, toldQueue(1, "a", at, "lost"), told{recordIDs, &ids{9}, ""})
	repairTold(t, dir, func(r Report, s *Spool) {
		if q := shelfQueue(t, s, "lost"); q.id != 10 {
			t.Errorf("the dead-letter queue that was made again has id %d, want 10", q.id)
		}
	})
}

// The time of a repaired spool is not behind that of the original, which no record may tell.
func TestRepairClock(t *testing.T) {
	at := time.Now().UnixNano()
	dir := repairRecords(t, toldQueue(1, "a", at, ""))
	high := at + int64(time.Hour)
	log, err := seglog.Open(dir, seglog.Options{})
	if err == nil {
		err = errors.Join(log.Mark(high, true), log.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	repairTold(t, dir, func(r Report, s *Spool) {
		if now := s.now(); now < high {
			t.Errorf("the time is %v, before the original's %v", time.Unix(0, now), time.Unix(0, high))
		}
	})
}

// A message that is deleted behind a snapshot stays so: the rewinds in it are older, wherever their records stood.
func TestRepairSnapshotPositions(t *testing.T) {
	at := time.Now().UnixNano()
	snapshot := &snapshotRecord{queue: 1, at: at + 2, name: "a", meta: Meta{Rewind: 48 * time.Hour}.withDefaults(), next: 1, lastAt: at,
		floors: floors{expired: math.MinInt64}, generation: 1, events: []rewind.Event{{Generation: 1, Instant: at, At: at + 1, Pos: 1 << 40}}}
	dir := repairRecords(t, toldQueue(1, "a", at, ""),
		told{recordSend, &sendRecord{queue: 1, seq: 0, at: at, epoch: 1}, "body"}, told{recordSnapshot, snapshot, ""},
		told{recordDelete, &deleteRecord{queue: 1, at: at + 3, items: []erased{{0, true}}}, ""})
	repairTold(t, dir, func(r Report, s *Spool) {
		if r.Queues[0].Rewindable != 1 || r.Queues[0].Active != 0 {
			t.Errorf("%+v", r.Queues)
		}
	})
}

// A message that has moved is lost in neither queue while one of its two bodies is whole.
func TestRepairLetters(t *testing.T) {
	at := time.Now().UnixNano()
	for rotten := range 2 {
		letter := &deadLetterRecord{source: 2, sourceSeq: 0, to: sendRecord{queue: 1, seq: 0, at: at + 1, epoch: 1},
			origin: originRecord{queue: "a", id: "x", enqueuedAt: at, receives: 3, reason: "max-receives"}}
		dir := repairRecords(t, toldQueue(1, "dead", at, ""), toldQueue(2, "a", at, "dead"),
			told{recordSend, &sendRecord{queue: 2, seq: 0, at: at, epoch: 1}, "the body"}, told{recordDeadLetter, letter, "the body"})
		repairEdit(t, repairSegment(t, dir, "the body"), func(b []byte) []byte {
			i := bytes.Index(b, []byte("the body"))
			if rotten == 1 {
				i = bytes.LastIndex(b, []byte("the body"))
			}
			b[i] ^= 1
			return b
		})
		repairTold(t, dir, func(r Report, s *Spool) {
			n := [2]int64{r.Queues[0].Active, r.Queues[1].Active} // a, dead
			if want := [2]int64{int64(rotten), 1 - int64(rotten)}; n != want || r.LostCount != 0 || r.DamageCount != 1 {
				t.Errorf("body %d rotten: active %v, want %v; %+v", rotten, n, want, r)
			}
		})
	}
}

// A message that the log has twice is lost only when both bodies are: the cleaner was at work when its copy was hit.
func TestRepairCopies(t *testing.T) {
	at := time.Now().UnixNano()
	for rotten, lost := range map[string]int64{"the first": 0, "the copy": 0, "the": 1} {
		dir := repairRecords(t, toldQueue(1, "a", at, ""), told{recordSend, &sendRecord{queue: 1, seq: 0, at: at, epoch: 1}, "the first"},
			told{recordCopy, &copyRecord{queue: 1, seq: 0, at: at, epoch: 1, state: entry{kind: active}}, "the copy"})
		repairEdit(t, repairSegment(t, dir, "the first"), func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(rotten), bytes.ToUpper([]byte(rotten))) })
		repairTold(t, dir, func(r Report, s *Spool) {
			if r.LostCount != lost || r.Queues[0].Active != 1-lost {
				t.Errorf("%q rotten: %d lost, want %d; %+v", rotten, r.LostCount, lost, r.Queues)
			}
		})
	}
}

// A message whose body has rotted is lost to nobody when it was purged, had expired, or would have by the latest record, though
// its end has no record of its own.
func TestRepairRottenAndOver(t *testing.T) {
	at := time.Now().UnixNano()
	settings := func(change byte, at int64, f floors) told {
		return told{recordQueue, &queueRecord{queue: 1, change: change, at: at, name: "a", meta: Meta{}.withDefaults(), floors: f}, ""}
	}
	for name, c := range map[string]struct {
		last told
		lost int64
	}{
		"here":         {settings(queueSet, at+1, floors{expired: at - 1}), 1},
		"purged":       {settings(queuePurged, at+1, floors{purged: 1, expired: math.MinInt64}), 0},
		"not purged":   {settings(queuePurged, at+1, floors{purged: 0, expired: math.MinInt64}), 1},
		"expired":      {settings(queueSet, at+1, floors{expired: at}), 0},
		"over by now":  {settings(queueSet, at+int64(defaultRetention), floors{expired: math.MinInt64}), 0},
		"not yet over": {settings(queueSet, at+int64(defaultRetention)-1, floors{expired: math.MinInt64}), 1},
	} {
		dir := repairRecords(t, toldQueue(1, "a", at, ""), told{recordSend, &sendRecord{queue: 1, seq: 0, at: at, epoch: 1}, "the body"}, c.last)
		repairEdit(t, repairSegment(t, dir, "the body"), func(b []byte) []byte { b[bytes.Index(b, []byte("the body"))] ^= 1; return b })
		repairTold(t, dir, func(r Report, s *Spool) {
			if r.LostCount != c.lost || int64(len(r.Lost)) != c.lost || r.DamageCount != 1 {
				t.Errorf("%s: %d lost, want %d; %+v", name, r.LostCount, c.lost, r)
			}
		})
	}
}

// What lies outside of frames and is older than what stands before it was there before: a file is used again.
func TestRepairStale(t *testing.T) {
	at := time.Now().UnixNano()
	for _, age := range []time.Duration{0, time.Minute} {
		dir := repairRecords(t, toldQueue(1, "a", at, ""), told{recordSend, &sendRecord{queue: 1, seq: 0, at: at, epoch: 1}, "the body"},
			told{recordDelete, &deleteRecord{queue: 1, at: at - int64(age), items: []erased{{0, false}}}, ""},
			told{recordSend, &sendRecord{queue: 1, seq: 1, at: at, epoch: 1}, "the last"})
		repairEdit(t, repairSegment(t, dir, "the body"), func(b []byte) []byte {
			magic := binary.LittleEndian.AppendUint32(nil, store.FrameMagic)
			i := bytes.Index(b, []byte("the body"))
			b[i+bytes.Index(b[i:], magic)] ^= 1
			return b
		})
		repairTold(t, dir, func(r Report, s *Spool) {
			if n := r.Queues[0].Active; n != map[bool]int64{true: 1, false: 2}[age == 0] || r.DamageCount != 1 {
				t.Errorf("a delete %v older: %d active, %+v", age, n, r)
			}
		})
	}
}

// Damage that no checksum of the log shows is found as well.
func TestVerifyWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := shelfStart(t, dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := Verify(context.Background(), dir)
	if err != nil || !good.OK() || good.Index != "whole" || good.Bytes == 0 || good.Records == 0 {
		t.Fatalf("Verify = %+v, %v", good, err)
	}
	values, err := filepath.Glob(filepath.Join(dir, "index", "*.val"))
	if err != nil || len(values) == 0 {
		t.Fatal(values, err)
	}
	for _, name := range values {
		repairEdit(t, name, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	}
	if r, err := Verify(context.Background(), dir); err != nil || r.DamageCount != 1 || r.Index != "damaged" {
		t.Errorf("with a damaged index Verify = %+v, %v", r, err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "index.ok")); err != nil {
		t.Fatal(err)
	}
	if r, err := Verify(context.Background(), dir); err != nil || !r.OK() || r.Index != "none" {
		t.Errorf("with an index that is not looked at Verify = %+v, %v", r, err)
	}

	mark, err := os.ReadFile(filepath.Join(dir, "MARK"))
	if err != nil {
		t.Fatal(err)
	}
	s = shelfOpen(t, dir)
	shelfSend(t, s, "idle", 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	repairEdit(t, filepath.Join(dir, "MARK"), func([]byte) []byte { return mark })
	if r, err := Verify(context.Background(), dir); err != nil || r.OK() {
		t.Errorf("with frames behind the end Verify = %+v, %v", r, err)
	}
}

// What the log tells of queues must fit together, though every record of it is whole.
func TestVerifyQueues(t *testing.T) {
	at := time.Now().UnixNano()
	for text, records := range map[string][]told{
		"has the dead-letter queue \"lost\", which is not there": {toldQueue(1, "a", at, "lost")},
		"queue 2 has records but no beginning": {toldQueue(1, "a", at, ""),
			{recordSend, &sendRecord{queue: 2, seq: 0, at: at, epoch: 1}, "body"}},
	} {
		r, err := Verify(context.Background(), repairRecords(t, records...))
		if err != nil || r.DamageCount != 1 || !strings.Contains(r.Damages[0].Reason, text) {
			t.Errorf("Verify = %+v, %v; want one damage, %q", r, err, text)
		}
	}
}

// TestDamagesAreCounted: a report lists so many damages and counts all of them.
func TestDamagesAreCounted(t *testing.T) {
	var r Report
	for range 2 { // one is told of twice; of a file as a whole there may be several
		r.damage("whole", 0, 0, "missing")
		r.damage("whole", 0, 0, "of another spool")
		r.damage("file", 1, 1, "reason")
		r.damage("file", 1, 1, "known")
	}
	for i := range maxDamages {
		r.damage("file", int64(i+2), 1, "reason")
	}
	if r.DamageCount != maxDamages+3 || len(r.Damages) != maxDamages {
		t.Errorf("%d damages, %d of them listed; want %d and %d", r.DamageCount, len(r.Damages), maxDamages+3, maxDamages)
	}
}

// What there was no room to follow is lost as well, and counted.
func TestLossesAreCounted(t *testing.T) {
	m := newMender(&checkup{}, nil)
	m.more = 5
	m.weighLosses(nil)
	if m.report.LostCount != 5 || len(m.report.Lost) != 0 {
		t.Errorf("%d lost, %d of them listed; want 5 and none", m.report.LostCount, len(m.report.Lost))
	}
}
