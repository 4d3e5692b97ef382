package badgerkv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"testing"

	"github.com/spoolmq/spool/store"
)

// A logBuilder writes logs as Badger does, and such as it never would.
type logBuilder []byte

func newLog() logBuilder { return make(logBuilder, logHeaderSize) }

func (b logBuilder) raw(meta byte, key, value []byte) logBuilder {
	start := len(b)
	b = append(b, meta, 0)
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = binary.AppendUvarint(b, uint64(len(value)))
	b = binary.AppendUvarint(b, 0)
	b = append(append(b, key...), value...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func (b logBuilder) entry(version uint64) logBuilder {
	return b.raw(logEntry, binary.BigEndian.AppendUint64([]byte("kkey"), math.MaxUint64-version), []byte("value"))
}

func (b logBuilder) end(version uint64) logBuilder {
	key := binary.BigEndian.AppendUint64([]byte("!badger!txn"), math.MaxUint64-version)
	return b.raw(logEnd, key, strconv.AppendUint(nil, version, 10))
}

func (b logBuilder) txn(version uint64) logBuilder {
	return b.entry(version).entry(version).end(version)
}

func (b logBuilder) read() (*logReader, error) {
	lr := &logReader{path: "log", crc: crc32.New(castagnoli), at: logHeaderSize}
	return lr, lr.readAll(bytes.NewReader(b), int64(len(b)))
}

func TestReadLog(t *testing.T) {
	encrypted := newLog().txn(1)
	encrypted[logKeyID-1] = 1
	long := binary.AppendUvarint(append(newLog().txn(1), logEntry, 0), 12)
	tests := []struct {
		name        string
		log         logBuilder
		first, last uint64
		corrupt     bool
	}{
		{name: "no bytes", log: nil},
		{name: "half a header", log: newLog()[:11]},
		{name: "header", log: newLog()},
		{name: "zeros", log: append(newLog(), make([]byte, 1000)...)},
		{name: "one", log: newLog().txn(7), first: 7, last: 7},
		{name: "three and zeros", log: append(newLog().txn(7).txn(8).txn(9), make([]byte, 99)...), first: 7, last: 9},
		{name: "open at the end", log: newLog().txn(7).entry(8), first: 7, last: 7},
		{name: "gap", log: newLog().txn(7).txn(9), corrupt: true},
		{name: "backwards", log: newLog().txn(7).txn(6), corrupt: true},
		{name: "end of nothing", log: newLog().end(7), corrupt: true},
		{name: "end of another", log: newLog().entry(7).end(8), corrupt: true},
		{name: "two in one", log: newLog().entry(7).entry(8).end(8), corrupt: true},
		{name: "outside", log: newLog().txn(7).raw(0, make([]byte, 12), []byte("v")), corrupt: true},
		{name: "short key", log: newLog().raw(logEntry, make([]byte, 7), []byte("v")), corrupt: true},
		{name: "long key", log: newLog().raw(logEntry, make([]byte, longestStoredKey+1), []byte("v")), corrupt: true},
		{name: "long value, cut", log: binary.AppendUvarint(long, MaxValue+1), first: 1, last: 1},
		{name: "long value, whole", log: newLog().raw(logEntry, make([]byte, 12), make([]byte, MaxValue+1)), corrupt: true},
		{name: "8 GB", log: append(binary.AppendUvarint(long, 8<<30), 0), corrupt: true},
		{name: "overflow", log: append(newLog(), "\x40\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"...), corrupt: true},
		{name: "encrypted", log: encrypted, corrupt: true},
	}
	for _, test := range tests {
		got, err := test.log.read()
		if errors.Is(err, store.ErrCorrupt) != test.corrupt || (err != nil && !test.corrupt) {
			t.Errorf("%s: readLog = %v, want corrupt = %v", test.name, err, test.corrupt)
		}
		if err == nil && (got.first != test.first || got.last != test.last) {
			t.Errorf("%s: versions %d to %d, want %d to %d", test.name, got.first, got.last, test.first, test.last)
		}
	}
}

// TestReadLogCut: a log cut anywhere holds the transactions that are whole.
func TestReadLogCut(t *testing.T) {
	ends := []int{logHeaderSize}
	b := newLog()
	for v := range uint64(4) {
		b = b.txn(v + 1)
		ends = append(ends, len(b))
	}
	for n := range len(b) + 1 {
		want := uint64(0)
		for v := 1; v < len(ends) && ends[v] <= n; v++ {
			want = uint64(v)
		}
		if got, err := b[:n].read(); err != nil || got.last != want {
			t.Fatalf("cut to %d of %d: last version %d, %v, want %d", n, len(b), got.last, err, want)
		}
	}
}

// FuzzReadLog: whatever is in a log, reading it ends, and what it finds is dense.
func FuzzReadLog(f *testing.F) {
	f.Add([]byte(newLog().txn(1).txn(2)))
	f.Add([]byte(newLog().txn(3).entry(4)))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := logBuilder(b).read()
		if err == nil && (got.first > got.last || (got.first == 0) != (got.last == 0)) {
			t.Errorf("versions %d to %d", got.first, got.last)
		}
	})
}

// TestLogOfBadger: what Badger writes reads as what was applied.
func TestLogOfBadger(t *testing.T) {
	dir := t.TempDir()
	ix := mustOpen(t, dir)
	defer func() { must(t, ix.Close()) }()
	must(t, history{1000}.write(ix, 0, 17))
	s, err := takeSurvey(dir)
	must(t, err)
	if len(s.logs) != 1 {
		t.Fatalf("logs are %v, want one", s.logs)
	}
	got, err := readLog(s.logs[0], nil)
	must(t, err)
	if fmt.Sprint(got.first, got.last) != "1 17" {
		t.Errorf("versions %d to %d, want 1 to 17", got.first, got.last)
	}
}
