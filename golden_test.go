package spool

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spoolmq/spool/rewind"
	"github.com/spoolmq/spool/store"
)

// updating tells whether -update was given, which the scripts' test declares.
func updating() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

// golden compares an encoding with the one in testdata/golden. Those files are frozen: a difference is a change of the
// format, which needs a new version (STYLE: Formats).
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	text := []byte(strings.TrimRight(hex.Dump(got), "\n") + "\n")
	if updating() {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n"))) {
		t.Errorf("%s is\n%swant\n%s", name, text, want)
	}
}

// A coded is a record of the log or the index.
type coded interface {
	encode(*encoder)
	decode(*decoder)
}

var (
	exampleSend = sendRecord{queue: 3, seq: 1<<33 + 5, at: 0x0102030405060708, epoch: 300, generation: 2, delay: 5e9, attrs: 129}
	exampleMeta = Meta{VisibilityTimeout: 30 * time.Second, PollingWait: time.Second, MaxMessageSize: 64 << 10, Retention: 4 * day,
		Rewind: time.Hour, MaxMessages: 100_000_000, Delay: 1,
		DeadLetter: &DeadLetter{Queue: "dead", MaxReceives: 3, MaxAge: time.Minute}}
	exampleEvent = rewind.Event{Generation: 7, Instant: -5, At: 1e18, Pos: 1 << 40, Drop: true}
)

// examples are one of every record, all fields different.
func examples() map[string]coded {
	return map[string]coded{
		"send":       &exampleSend,
		"receive":    &receiveRecord{queue: 3, at: 1e18, due: 2e18, items: []received{{10, 1 << 40, 1}, {9, 1<<40 + 1, 300}, {1 << 40, 5, 2}}},
		"delete":     &deleteRecord{queue: 3, at: 1e18, items: []erased{{1000, true}, {999, false}, {5000, true}}},
		"visibility": &visibilityRecord{queue: 200, at: 1e18, seq: 77, change: visibilityReleased, due: 1e18 + 5},
		"rewind":     &rewindRecord{queue: 3, at: 1e18, generation: 9, instant: 1e18 - 1e9, restored: 1 << 20},
		"queue":      &queueRecord{queue: 3, change: queueCreated, at: 1e18, name: "orders", meta: exampleMeta, floors: floors{5, math.MinInt64}},
		"queue-set": &queueRecord{queue: 3, change: queueSet, at: 1e18, name: "orders", meta: Meta{Retention: day},
			floors: floors{1 << 30, 1e18}, drop: &exampleEvent},
		"deadletter": &deadLetterRecord{source: 4, sourceSeq: 1 << 20, to: exampleSend,
			origin: originRecord{"orders", "AAAAAwAAAAEAAAAAAAAABQ", 1e18 - 7, 3, reasonMaxReceives}},
		"snapshot": &snapshotRecord{queue: 3, at: 1e18, name: "orders", meta: exampleMeta, floors: floors{5, 6}, next: 1 << 35, lastAt: 99,
			sent: 100, received: 200, deleted: 50, created: 1, modified: 2, generation: 7,
			events: []rewind.Event{{Generation: 6, Instant: 1, At: 2, Pos: 3}, exampleEvent}},
		"copy": &copyRecord{queue: 3, seq: 1<<33 + 5, at: 1e18, epoch: 300, attrs: 129, state: entry{off: 5, kind: active}},
		"copy-letter": &copyRecord{queue: 200, seq: 5000, at: 1e18, epoch: 1, generation: 9,
			state:  entry{off: 5000 & blockMask, kind: inactive, due: 2e18, first: 1e18 + 1, base: 1e18 + 2, nonce: 1<<41 + 7, receives: 200, rewinds: 2},
			origin: &originRecord{"orders", "AAAAAwAAAAEAAAAAAAAABQ", 1e18 - 7, 3, reasonMaxAge}},
	}
}

func encoded(x coded) []byte {
	var e encoder
	x.encode(&e)
	return e
}

func TestGoldenRecords(t *testing.T) {
	for name, x := range examples() {
		b := encoded(x)
		golden(t, name, b)
		y := reflect.New(reflect.TypeOf(x).Elem()).Interface().(coded)
		d := &decoder{b: b}
		y.decode(d)
		if err := d.done(); err != nil || !reflect.DeepEqual(x, y) {
			t.Errorf("%s: decoded as %+v, %v, want %+v", name, y, err, x)
		}
		for n := range b {
			d := &decoder{b: b[:n]}
			reflect.New(reflect.TypeOf(x).Elem()).Interface().(coded).decode(d)
			if d.done() == nil {
				t.Errorf("%s: its first %d of %d bytes decode", name, n, len(b))
			}
		}
		d = &decoder{b: append(bytes.Clone(b), 0)}
		reflect.New(reflect.TypeOf(x).Elem()).Interface().(coded).decode(d)
		if d.done() == nil {
			t.Errorf("%s: decodes with a byte too many", name)
		}
	}
	var e encoder
	e.uv(70000)
	golden(t, "ids", e)
	var attrs encoder
	encodeAttributes(&attrs, map[string]string{"key": "value\x00"})
	golden(t, "attributes", attrs)
}

// TestGoldenTypes: numbers that stand in files.
func TestGoldenTypes(t *testing.T) {
	got := fmt.Sprint(recordSend, recordReceive, recordDelete, recordVisibility, recordRewind, recordQueue, recordDeadLetter, recordSnapshot, recordIDs, recordCopy,
		visibilityExtended, visibilityReleased, visibilityMoving, visibilityUnread, queueCreated, queueSet, queuePurged, queueDropped,
		gone, active, inactive, delayed, rewindable, shelfVersion, string([]byte{keyCheckpoint, keyDraft, keyList, keyQueue, keyBlocks, keyState, keyPlaces}))
	if want := "1 2 3 4 5 6 7 8 9 10 1 2 3 4 1 2 3 4 0 1 2 3 4 4CDLQBSP"; got != want {
		t.Errorf("numbers of the format are %s, want %s", got, want)
	}
}

// exampleBlock is a block with messages of every kind, some of whose sends have not reached their level.
func exampleBlock() *block {
	st := newState(3, exampleMeta, 0)
	b := st.ensure(5 << blockBits)
	at := int64(1e18)
	for off := range 70 {
		st.insert(b, off, place{store.Position(100000 + 300*off + off%7), 10 + off*off%1000, at + int64(off)*int64(off)})
	}
	st.insert(b, 75, place{1 << 40, 16 << 20, at + 1e15}) // five sequences are left out
	st.insert(b, 72, place{1 << 41, 5, at + 1e14})        // two messages were copied, one of them was not known
	st.insert(b, 10, place{1<<41 + 300, 110, at + 100})
	b.generation, b.ageMin = 6, at
	for off, k := range []kind{active, active, rewindable, inactive, delayed, hidden, pending, moving, pending, gone, active} {
		switch {
		case off == 0 || k == hidden:
		case k != gone:
			e := b.put(off)
			*e = entry{off: uint16(off), kind: k, due: 1e18 + 5e9, first: 1e18 + 1, base: 1e18 + 2, nonce: 1<<41 + uint64(off), receives: uint32(off), rewinds: 1}
			switch {
			case k == active || k == rewindable || off == 8:
				e.due = 0
			case k == moving:
				e.due = byReceives
			}
		}
		st.shift(b, off, gone, k)
	}
	return b
}

func TestGoldenIndex(t *testing.T) {
	b := exampleBlock()
	var state, pl encoder
	encodeState(&state, b, 2e18)
	golden(t, "index-state", state)
	encodePlaces(&pl, &b.places)
	golden(t, "index-places", pl)
	var stub encoder
	b.saved = shelved{state: 7, places: b.places.edition(), included: 1 << 33, generation: 3, count: [...]int16{active: 4, inactive: 2, delayed: 3, rewindable: 1}}
	encodeStub(&stub, b)
	golden(t, "index-stub", stub)
	known := &block{}
	d := &decoder{b: stub}
	number, now := d.uv(), decodeStub(d, known)
	if d.done() != nil || number != b.number || now != (b.dirty || b.unsettled()) || known.saved != b.saved || known.away != b.stub() || known.ageMin != b.ageMin {
		t.Errorf("stub is of %d, %t, %+v, want %d, %+v", number, now, known, b.number, b)
	}
	golden(t, "index-value", wrap([]byte("payload")))
	var keys []byte
	for _, k := range [][]byte{key(keyCheckpoint), key(keyDraft), key(keyList, 2, 1<<40+1), key(keyQueue, 3, 1<<40+2), key(keyBlocks, 3, 1, 1<<40+2),
		key(keyState, 3, 1<<30, 1<<40+3), key(keyPlaces, 3, 1<<30, 1024)} {
		keys = append(append(keys, byte(len(k))), k...)
	}
	golden(t, "index-keys", keys)

	got := newBlock(5, &summary{}, 0)
	if err := decodeState(&decoder{b: state}, got.body); err != nil {
		t.Fatal(err)
	}
	if err := decodePlaces(&decoder{b: pl}, &got.places, uint64(b.places.edition())); err != nil {
		t.Fatal(err)
	}
	if err := fitsItself(got.body); err != nil {
		t.Error(err)
	}
	if !reflect.DeepEqual(got.places, b.places) {
		t.Errorf("places are %+v, want %+v", got.places, b.places)
	}
	want := map[int]kind{0: active, 1: active, 2: rewindable, 3: inactive, 4: delayed, 5: active, 6: delayed, 7: inactive, 8: delayed, 10: active}
	kinds := map[int]kind{}
	for off := got.next(0); off >= 0; off = got.next(off + 1) {
		kinds[off] = got.kind(off)
		from, to := b.entry(off), got.entry(off)
		if (from == nil) != (to == nil) {
			t.Errorf("message %d: entry %v, want %v", off, to, from)
			continue
		}
		if from == nil {
			continue
		}
		w := *from
		w.kind = want[off]
		if from.kind == moving {
			w.due = 2e18
		}
		if *to != w {
			t.Errorf("message %d: entry %+v, want %+v", off, *to, w)
		}
	}
	if !maps.Equal(kinds, want) {
		t.Errorf("kinds are %v, want %v", kinds, want)
	}
	// What was read is encoded as it was.
	var again encoder
	encodeState(&again, got, 3e18)
	if !bytes.Equal(again, state) {
		t.Error("what was decoded is encoded differently")
	}
}

func TestGoldenReceipts(t *testing.T) {
	var key [32]byte
	for i := range key {
		key[i] = byte(i)
	}
	s := newSealer(key)
	id, receipt := s.seal(delivery{queue: 3, seq: 1<<33 + 5, nonce: 7<<nonceBits + 9}, 300)
	golden(t, "receipt", []byte(receipt))
	golden(t, "id", []byte(id))
	if d, ok := s.open(receipt); !ok || d != (delivery{3, 1<<33 + 5, 7<<nonceBits + 9}) {
		t.Errorf("open = %+v, %t", d, ok)
	}
	if got := messageID(3, 300, 1<<33+5); got != id {
		t.Errorf("messageID = %s, want %s", got, id)
	}
}

// TestReceiptEveryBit: no character of a receipt can change unnoticed, nor can it be opened with another key.
func TestReceiptEveryBit(t *testing.T) {
	s := newSealer([32]byte{1})
	_, receipt := s.seal(delivery{1, 2, 3}, 4)
	if _, ok := newSealer([32]byte{2}).open(receipt); ok {
		t.Error("another spool opens the receipt")
	}
	for i := range receipt {
		for c := range 256 {
			b := []byte(receipt)
			if b[i] == byte(c) {
				continue
			}
			b[i] = byte(c)
			if d, ok := s.open(string(b)); ok {
				t.Fatalf("character %d replaced by %q: open = %+v", i, c, d)
			}
		}
		if _, ok := s.open(receipt[:i]); ok {
			t.Errorf("the first %d characters are opened", i)
		}
	}
	for _, more := range []string{"A", "=", "\n", " "} {
		if _, ok := s.open(receipt + more); ok {
			t.Errorf("opened with %q behind it", more)
		}
	}
}

// ---- fuzz ----------------------------------------------------------------------------------------------------------

// fuzzRecord feeds a decoder whatever it likes: it does not panic, what it takes memory for is in the input, and what it
// accepts it says again.
func fuzzRecord(f *testing.F, fresh func() coded, memory func(coded) int) {
	for _, x := range examples() {
		f.Add(encoded(x))
	}
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		x := fresh()
		d := &decoder{b: bytes.Clone(b)}
		x.decode(d)
		if n := memory(x); n > 64*len(b) {
			t.Errorf("%d bytes for %d of input", n, len(b))
		}
		if d.done() != nil {
			return
		}
		again := fresh()
		d = &decoder{b: encoded(x)}
		again.decode(d)
		if err := d.done(); err != nil || !reflect.DeepEqual(x, again) {
			t.Errorf("%+v, encoded and decoded, is %+v, %v", x, again, err)
		}
	})
}

func nothing(coded) int { return 0 }

func FuzzSend(f *testing.F) { fuzzRecord(f, func() coded { return new(sendRecord) }, nothing) }
func FuzzReceive(f *testing.F) {
	fuzzRecord(f, func() coded { return new(receiveRecord) }, func(x coded) int { return 24 * cap(x.(*receiveRecord).items) })
}
func FuzzDelete(f *testing.F) {
	fuzzRecord(f, func() coded { return new(deleteRecord) }, func(x coded) int { return 16 * cap(x.(*deleteRecord).items) })
}
func FuzzVisibility(f *testing.F) {
	fuzzRecord(f, func() coded { return new(visibilityRecord) }, nothing)
}
func FuzzRewindRecord(f *testing.F) {
	fuzzRecord(f, func() coded { return new(rewindRecord) }, nothing)
}
func FuzzQueueRecord(f *testing.F) { fuzzRecord(f, func() coded { return new(queueRecord) }, nothing) }
func FuzzDeadLetter(f *testing.F) {
	fuzzRecord(f, func() coded { return new(deadLetterRecord) }, nothing)
}
func FuzzSnapshot(f *testing.F) {
	fuzzRecord(f, func() coded { return new(snapshotRecord) }, func(x coded) int { return 40 * cap(x.(*snapshotRecord).events) })
}

func FuzzCopy(f *testing.F) { fuzzRecord(f, func() coded { return new(copyRecord) }, nothing) }

// A boundedRecord is a list of bytes. As a control it takes memory for as many as the input says, and FuzzBound must fail.
type boundedRecord struct{ items []byte }

func (r *boundedRecord) encode(e *encoder) {
	e.uv(uint64(len(r.items)))
	*e = append(*e, r.items...)
}

func (r *boundedRecord) decode(d *decoder) {
	n := 0
	if os.Getenv("SPOOL_FUZZ_CONTROL") == "" {
		n = d.count(1)
	} else {
		n = int(d.uv() & (1<<20 - 1))
	}
	r.items = make([]byte, n)
	copy(r.items, d.take(uint64(n)))
}

func FuzzBound(f *testing.F) {
	fuzzRecord(f, func() coded { return new(boundedRecord) }, func(x coded) int { return cap(x.(*boundedRecord).items) })
}

// TestCopyKinds: a message is recorded anew when it is active, inactive, delayed or rewindable, and not otherwise.
func TestCopyKinds(t *testing.T) {
	for k := gone; k < kinds; k++ {
		d := &decoder{b: encoded(&copyRecord{seq: 1, state: entry{kind: k}})}
		new(copyRecord).decode(d)
		if ok := d.done() == nil; ok != (k == active || k == inactive || k == delayed || k == rewindable) {
			t.Errorf("kind %d decodes: %v", k, ok)
		}
	}
}

func FuzzAttributes(f *testing.F) {
	var e encoder
	encodeAttributes(&e, map[string]string{"a": "b", "c": ""})
	f.Add([]byte(e))
	f.Add(bytes.Repeat([]byte{0xff}, 20))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &decoder{b: bytes.Clone(b)}
		attrs := decodeAttributes(d)
		if len(attrs) > len(b) {
			t.Errorf("%d attributes of %d bytes", len(attrs), len(b))
		}
		if d.done() != nil {
			return
		}
		var e encoder
		encodeAttributes(&e, attrs)
		d = &decoder{b: e}
		if again := decodeAttributes(d); d.done() != nil || !maps.Equal(attrs, again) {
			t.Errorf("%v, encoded and decoded, is %v", attrs, again)
		}
	})
}

// fitsItself is fits without the check against what is known of the block.
func fitsItself(b *body) error {
	count, _ := b.counted()
	return b.fits(shelved{count: count})
}

// TestFits: a block whose records decode is refused when they do not belong together, or not to what is known of it.
func TestFits(t *testing.T) {
	var e encoder
	encodeState(&e, exampleBlock(), 2e18)
	read := func() (*body, shelved) {
		b := newBody()
		if err := decodeState(&decoder{b: e}, b); err != nil {
			t.Fatal(err)
		}
		b.places.n = 76
		count, _ := b.counted()
		return b, shelved{count: count}
	}
	if b, at := read(); b.fits(at) != nil {
		t.Fatalf("fits = %v for what was encoded", b.fits(at))
	}
	for name, damage := range map[string]func(b *body, at *shelved){
		"one active more":              func(_ *body, at *shelved) { at.count[active]++ },
		"one inactive less":            func(_ *body, at *shelved) { at.count[inactive]-- },
		"one delayed more":             func(_ *body, at *shelved) { at.count[delayed]++ },
		"one rewindable less":          func(_ *body, at *shelved) { at.count[rewindable]-- },
		"a lease of an active one":     func(b *body, at *shelved) { b.active.set(3); at.count[active]++ },
		"a delay of a deleted one":     func(b *body, at *shelved) { b.deleted.set(4); at.count[rewindable]++ },
		"active and deleted":           func(b *body, at *shelved) { b.active.set(2); at.count[active]++ },
		"deleted without an entry":     func(b *body, at *shelved) { b.deleted.set(60); at.count[rewindable]++ },
		"an entry of no kind":          func(b *body, at *shelved) { b.entries[2].kind = moving; at.count[inactive]-- },
		"entries out of order":         func(b *body, _ *shelved) { b.entries[3].off = b.entries[2].off },
		"an entry behind the messages": func(b *body, _ *shelved) { b.places.n = int(b.entries[len(b.entries)-1].off) },
		"a bit behind the messages":    func(b *body, at *shelved) { b.active.set(76); at.count[active]++ },
	} {
		b, at := read()
		if damage(b, &at); !errors.Is(b.fits(at), errShelf) {
			t.Errorf("%s: fits = %v, want %v", name, b.fits(at), errShelf)
		}
	}
}

func FuzzBlockState(f *testing.F) {
	var state encoder
	encodeState(&state, exampleBlock(), 2e18)
	f.Add([]byte(state))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 300))
	f.Fuzz(func(t *testing.T, b []byte) {
		x := newBlock(1, &summary{}, 0)
		err := decodeState(&decoder{b: b}, x.body)
		if cap(x.entries) > blockSize || cap(x.entries) > len(b)+64 {
			t.Errorf("%d entries of %d bytes", cap(x.entries), len(b))
		}
		x.places.n = blockSize
		if err != nil || fitsItself(x.body) != nil {
			return
		}
		var e encoder
		encodeState(&e, x, 0)
		y := newBlock(1, &summary{}, 0)
		if err := decodeState(&decoder{b: e}, y.body); err != nil {
			t.Fatal(err)
		}
		y.places.n = blockSize
		if !reflect.DeepEqual(x, y) {
			t.Errorf("decoded, encoded and decoded: %+v, want %+v", y, x)
		}
	})
}

func FuzzBlockPlaces(f *testing.F) {
	b := exampleBlock()
	var e encoder
	encodePlaces(&e, &b.places)
	f.Add([]byte(e), uint64(b.places.edition()))
	f.Add([]byte(e), uint64(1))
	f.Add([]byte{}, uint64(0))
	f.Add(bytes.Repeat([]byte{0xff}, 60), uint64(4))
	f.Fuzz(func(t *testing.T, b []byte, edition uint64) {
		var p places
		if err := decodePlaces(&decoder{b: b}, &p, edition); err != nil {
			return
		}
		n := int(edition % (2 * blockSize))
		if uint64(p.edition()) != edition || p.n != n || cap(p.moved) > len(b) || cap(p.data) > 2*len(b)+64 || len(p.anchors) != (n+anchorEvery-1)/anchorEvery {
			t.Errorf("%d places, %d bytes, %d anchors, of %d in %d bytes", p.n, cap(p.data), len(p.anchors), n, len(b))
		}
		var c cursor
		for off := range n { // whatever they say, they can be looked up
			c.get(&p, off)
		}
		var e encoder
		encodePlaces(&e, &p)
		var q places
		if err := decodePlaces(&decoder{b: e}, &q, edition); err != nil || !reflect.DeepEqual(p, q) {
			t.Errorf("decoded, encoded and decoded: %+v, %v, want %+v", q, err, p)
		}
	})
}

func FuzzReceipt(f *testing.F) {
	s := newSealer([32]byte{9})
	_, receipt := s.seal(delivery{1, 2, 3}, 4)
	f.Add(receipt)
	f.Add("")
	f.Add(strings.Repeat("A", receiptText))
	f.Fuzz(func(t *testing.T, text string) {
		d, ok := s.open(text)
		if !ok {
			return
		}
		if _, again := s.seal(d, 0); again != text {
			t.Errorf("%q is opened as %+v, whose receipt is %q", text, d, again)
		}
	})
}
