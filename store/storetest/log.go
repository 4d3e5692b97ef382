package storetest

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/spoolmq/spool/store"
)

// logSeed repeats a run of the random test of a log.
var logSeed = flag.Uint64("log.seed", 0, "seed of the random log test; 0 takes a new one")

// A LogHarness tells the suite how to get a log.
type LogHarness struct {
	// Open returns an empty log. reopen opens the content of the log that was returned last again, which has been
	// closed; it is nil when the content cannot outlive the log. The suite closes what it got last.
	Open func(t testing.TB) (l store.Log, reopen func() store.Log)

	// Full makes the disk of the log that was opened last full, or not full any more.
	Full func(full bool)

	SegmentBytes int64 // of frames, that a segment holds
}

// TestLog holds an implementation of store.Log to its contract.
func TestLog(t *testing.T, h LogHarness) {
	tests := []struct {
		name string
		run  func(*logUnderTest)
	}{
		{"Empty", logEmpty},
		{"Records", logRecords},
		{"ExactFit", logExactFit},
		{"BigFrames", logBigFrames},
		{"Refused", logRefused},
		{"Room", logRoom},
		{"Full", logFull},
		{"ReplayFrom", logReplayFrom},
		{"Drop", logDrop},
		{"DropWhileReading", logDropWhileReading},
		{"ReadsBesideAppends", logReadsBesideAppends},
		{"Reopen", logReopen},
		{"Closed", logClosed},
		{"Model", logModel},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			u := &logUnderTest{t: t, h: h, rng: rand.New(rand.NewPCG(1, 2))}
			u.Log, u.reopen = h.Open(t)
			u.first = u.Start()
			test.run(u)
			if u.closed {
				return
			}
			u.compare()
			if err := u.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// A logFrame is what the suite knows of a frame.
type logFrame struct {
	pos     store.Position
	payload []byte
	records []int // offsets in payload
}

func (f logFrame) end() store.Position {
	return f.pos + store.Position(store.FrameSize(len(f.payload)))
}

// logUnderTest is a log beside the frames that it should hold.
type logUnderTest struct {
	store.Log
	t      *testing.T
	h      LogHarness
	reopen func() store.Log
	rng    *rand.Rand
	first  store.Position
	frames []logFrame // from Start on
	closed bool
}

// frame makes a payload of exactly n bytes with up to the given number of records. Parts are cut at odd places.
func (u *logUnderTest) frame(n, records int) (store.Payload, logFrame) {
	p := store.Payload{Len: n}
	var f logFrame
	for left := n; left > 0; p.Records++ {
		size := left
		if records--; records > 0 && left >= 4*store.RecordOverhead {
			size = store.RecordOverhead + u.rng.IntN(left-2*store.RecordOverhead)
		}
		if left < store.RecordOverhead {
			u.t.Fatalf("payload of %d bytes leaves %d for a record", n, left)
		}
		head := make([]byte, min(u.rng.IntN(30), size-store.RecordOverhead))
		body := make([]byte, size-store.RecordOverhead-len(head))
		for i := 0; i+8 <= len(body); i += 8 {
			binary.LittleEndian.PutUint64(body[i:], u.rng.Uint64())
		}
		f.records = append(f.records, len(f.payload))
		rec := store.AppendRecordHead(nil, byte(u.rng.IntN(9)), head, len(body), store.BodySum(body))
		p.Heads = crc32.Update(p.Heads, store.Castagnoli, rec)
		p.Parts = append(p.Parts, rec, body[:len(body)/3], nil, body[len(body)/3:])
		f.payload = append(append(f.payload, rec...), body...)
		left -= size
	}
	return p, f
}

// size is the payload that makes a frame of n bytes.
func size(n int64) int { return int(n) - store.FrameHeaderSize }

// append appends a frame with a payload of n bytes.
func (u *logUnderTest) append(n, records int) logFrame {
	u.t.Helper()
	p, f := u.frame(n, records)
	end := u.End()
	pos, err := u.Append(p)
	if err != nil {
		u.t.Fatalf("Append of %d bytes at %d: %v", n, end, err)
	}
	f.pos = pos
	if pos != end || u.End() != f.end() {
		u.t.Fatalf("Append of %d bytes = %d, End %d, want %d, %d", n, pos, u.End(), end, f.end())
	}
	u.frames = append(u.frames, f)
	return f
}

// sync makes everything durable.
func (u *logUnderTest) sync() {
	u.t.Helper()
	if err := u.Sync(u.End()); err != nil || u.Synced() != u.End() {
		u.t.Fatalf("Sync(%d) = %v, Synced %d", u.End(), err, u.Synced())
	}
}

// check reads every record of a frame, and some bytes from somewhere in it on.
func (u *logUnderTest) check(f logFrame) {
	u.t.Helper()
	i, _ := slices.BinarySearchFunc(u.frames, f.pos, func(f logFrame, pos store.Position) int { return cmp.Compare(f.pos, pos) })
	if err := checkSpan(u.Log, u.frames[i:], u.rng); err != nil {
		u.t.Fatal(err)
	}
	for _, at := range f.records {
		pos := f.pos + store.FrameHeaderSize + store.Position(at)
		r, _, err := store.NextRecord(f.payload[at:])
		if err != nil {
			u.t.Fatal(err)
		}
		got, err := u.ReadRecord(pos, []byte("prefix"))
		if want := f.payload[at:][:r.Size()]; err != nil || !bytes.Equal(got, append([]byte("prefix"), want...)) {
			u.t.Fatalf("ReadRecord(%d) = %d bytes, %v, want %d bytes, nil", pos, len(got), err, 6+len(want))
		}
	}
}

// checkSpan reads some bytes from somewhere in a frame's payload on, and compares them with what is known of the frames,
// of which the first is that one.
func checkSpan(l store.Log, frames []logFrame, rng *rand.Rand) error {
	f := frames[0]
	at := rng.IntN(len(f.payload) + 1)
	n := rng.IntN(len(f.payload) - at + 300)
	from := f.pos + store.FrameHeaderSize + store.Position(at)
	out, err := l.ReadSpan(from, from+store.Position(n), []byte("prefix"))
	got, ok := bytes.CutPrefix(out, []byte("prefix"))
	if err != nil || !ok || len(got) > n || len(got) < min(n, len(f.payload)-at) {
		return fmt.Errorf("ReadSpan of %d bytes at %d = %d bytes, %w, want at least the %d of the frame, behind a prefix", n, from, len(out), err, min(n, len(f.payload)-at))
	}
	for _, f := range frames {
		begin, end := max(from, f.pos+store.FrameHeaderSize), min(from+store.Position(len(got)), f.pos+store.FrameHeaderSize+store.Position(len(f.payload)))
		if begin < end && !bytes.Equal(got[begin-from:end-from], f.payload[begin-f.pos-store.FrameHeaderSize:end-f.pos-store.FrameHeaderSize]) {
			return fmt.Errorf("ReadSpan of %d bytes at %d has other bytes from %d on than were appended", n, from, begin)
		}
		if f.pos >= from+store.Position(n) {
			break
		}
	}
	return nil
}

// compare replays the log and reads every record.
func (u *logUnderTest) compare() {
	u.t.Helper()
	u.compareFrom(u.Start(), u.frames)
	for _, f := range u.frames {
		u.check(f)
	}
	end := u.first
	if len(u.frames) > 0 {
		end = u.frames[len(u.frames)-1].end()
	}
	if at := u.Boundaries(); u.End() != end || at[0] != u.Start() || !slices.IsSorted(at) || at[len(at)-1] > end {
		u.t.Fatalf("Start %d, End %d, Boundaries %d, want End %d", u.Start(), u.End(), at, end)
	}
	if live := u.Size().Live; live != int64(u.End()-u.Start()) {
		u.t.Fatalf("Size().Live = %d, from %d to %d", live, u.Start(), u.End())
	}
}

func (u *logUnderTest) compareFrom(from store.Position, want []logFrame) {
	u.t.Helper()
	i := 0
	err := u.Replay(from, func(pos store.Position, payload []byte) error {
		if i == len(want) || pos != want[i].pos || !bytes.Equal(payload, want[i].payload) {
			u.t.Fatalf("Replay(%d): frame %d of %d at %d, %d bytes, is not the one appended", from, i, len(want), pos, len(payload))
		}
		i++
		return nil
	})
	if err != nil || i != len(want) {
		u.t.Fatalf("Replay(%d) = %d frames, %v, want %d", from, i, err, len(want))
	}
}

// drop drops before a boundary, in the model too.
func (u *logUnderTest) drop(before store.Position) {
	u.t.Helper()
	if err := u.Drop(before); err != nil || u.Start() != before || u.Synced() < before {
		u.t.Fatalf("Drop(%d) = %v, Start %d, Synced %d", before, err, u.Start(), u.Synced())
	}
	u.frames = slices.DeleteFunc(u.frames, func(f logFrame) bool { return f.pos < before })
	u.first = before
}

// again closes and opens the log.
func (u *logUnderTest) again(clean bool) {
	u.t.Helper()
	before := u.Info()
	if clean {
		u.sync()
		if err := u.Mark(0, true); err != nil {
			u.t.Fatalf("Mark: %v", err)
		}
	}
	if err := u.Close(); err != nil {
		u.t.Fatalf("Close: %v", err)
	}
	u.Log = u.reopen()
	after := u.Info()
	if after.SpoolID != before.SpoolID || after.Key != before.Key || after.Epoch <= before.Epoch || after.Clean != clean || after.Created {
		u.t.Fatalf("after reopening epoch %d, clean %t, created %t, want above %d, %t, false, and the same id and key",
			after.Epoch, after.Clean, after.Created, before.Epoch, clean)
	}
	if u.Synced() != u.End() {
		u.t.Fatalf("after reopening Synced %d, End %d", u.Synced(), u.End())
	}
}

func (u *logUnderTest) wants(what string, err, want error) {
	u.t.Helper()
	if !errors.Is(err, want) {
		u.t.Fatalf("%s = %v, want %v", what, err, want)
	}
}

func nothing(store.Position, []byte) error { return nil }
