package memlog_test

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memlog"
	"github.com/spoolmq/spool/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testLog(t *testing.T) {
	var l *memlog.Log
	storetest.TestLog(t, storetest.LogHarness{
		Open: func(t testing.TB) (store.Log, func() store.Log) {
			l = memlog.New(memlog.Options{SegmentSize: 4096})
			return l, func() store.Log {
				l = l.Crash(func(n int64) int64 { return n })
				return l
			}
		},
		Full: func(full bool) {
			if full {
				l.SetCapacity(1)
			} else {
				l.SetCapacity(0)
			}
		},
		SegmentBytes: 4096,
	})
}

func TestLog(t *testing.T) { testLog(t) }

// TestBubble: simulation runs a log where time is virtual and nothing may come from outside.
func TestBubble(t *testing.T) {
	shared := payload(100, 1) // made outside
	synctest.Test(t, func(t *testing.T) {
		l := memlog.New(memlog.Options{})
		for range 1000 {
			if _, err := l.Append(shared); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(l.Sync(l.End()), l.Mark(1, true), l.Close()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
	})
}

// payload is one record with n bytes of body.
func payload(n int, mark byte) store.Payload {
	body := make([]byte, n)
	head := store.AppendRecordHead(nil, mark, nil, n, store.BodySum(body))
	return store.Payload{
		Parts: [][]byte{head, body}, Len: len(head) + n, Heads: crc32.Checksum(head, store.Castagnoli), Records: 1,
	}
}

// frames returns the type of the record in every frame.
func frames(t *testing.T, l *memlog.Log) string {
	t.Helper()
	var all []byte
	err := l.Replay(l.Start(), func(_ store.Position, p []byte) error {
		r, _, err := store.NextRecord(p)
		all = append(all, r.Type)
		return err
	})
	if err != nil {
		t.Fatalf("Replay: %v", err)
	}
	return string(all)
}

func TestCrash(t *testing.T) {
	l := memlog.New(memlog.Options{SegmentSize: 1000})
	for _, c := range []byte("abcdefgh") {
		if _, err := l.Append(payload(200, c)); err != nil {
			t.Fatal(err)
		}
		if c == 'c' {
			if err := errors.Join(l.Sync(l.End()), l.Mark(42, false)); err != nil {
				t.Fatal(err)
			}
		}
	}
	frame := int64(store.FrameSize(payload(200, 0).Len))
	for _, test := range []struct {
		keep int64
		want string
	}{{0, "abc"}, {frame - 1, "abc"}, {frame, "abcd"}, {3*frame + 7, "abcdef"}, {5 * frame, "abcdefgh"}, {99 * frame, "abcdefgh"}} {
		after := l.Crash(func(unsynced int64) int64 {
			if unsynced != 5*frame {
				t.Errorf("keep(%d), want %d", unsynced, 5*frame)
			}
			return test.keep
		})
		got := frames(t, after)
		if i := after.Info(); got != test.want || i.Epoch != 2 || i.Clean || i.Created || i.HighWater != 42 || i.Key != l.Info().Key {
			t.Errorf("keeping %d bytes: %q, epoch %d, clean %t, high water %d, want %q, 2, false, 42", test.keep, got, i.Epoch, i.Clean, i.HighWater, test.want)
		}
		if after.Synced() != after.End() {
			t.Errorf("keeping %d bytes: synced %d of %d", test.keep, after.Synced(), after.End())
		}
		if _, err := after.Append(payload(300, 'z')); err != nil || frames(t, after) != test.want+"z" {
			t.Errorf("keeping %d bytes: then Append = %v, %q", test.keep, err, frames(t, after))
		}
	}
	if got := frames(t, l); got != "abcdefgh" {
		t.Errorf("a crash changed the log it is a copy of to %q", got)
	}
}

func TestFail(t *testing.T) {
	own := errors.New("own")
	call := map[memlog.Op]func(l *memlog.Log) error{
		memlog.Append:        func(l *memlog.Log) error { _, err := l.Append(payload(10, 'x')); return err },
		memlog.AppendUnknown: func(l *memlog.Log) error { _, err := l.Append(payload(10, 'x')); return err },
		memlog.Sync:          func(l *memlog.Log) error { return l.Sync(l.End()) },
		memlog.Mark:          func(l *memlog.Log) error { return l.Mark(1, false) },
		memlog.Drop:          func(l *memlog.Log) error { return l.Drop(l.Boundaries()[1]) },
		memlog.Grow:          func(l *memlog.Log) error { return l.Grow(l.Room() + 1) },
	}
	for op, do := range call {
		t.Run(fmt.Sprint(op), func(t *testing.T) {
			l := memlog.New(memlog.Options{SegmentSize: 400})
			for _, c := range []byte("abc") {
				if _, err := l.Append(payload(200, c)); err != nil {
					t.Fatal(err)
				}
			}
			l.Fail(op, 1, own)
			if op == memlog.Sync || op == memlog.Drop {
				l.Fail(op, 0, own)
			} else if err := do(l); err != nil {
				t.Fatalf("the call before = %v", err)
			}
			before := frames(t, l)
			if err := do(l); !errors.Is(err, own) {
				t.Fatalf("the call that has to fail = %v, want %v", err, own)
			}
			after := frames(t, l)
			if written := after != before; written != (op == memlog.AppendUnknown) {
				t.Errorf("%q before, %q after", before, after)
			}
			_, err := l.Append(payload(10, 'y'))
			if failed := errors.Is(err, own); failed != (op != memlog.Grow) {
				t.Errorf("Append after the failure = %v", err)
			}
			if got := frames(t, l.Crash(func(int64) int64 { return 0 })); got != "" && op != memlog.Grow {
				t.Errorf("%q is durable, want nothing", got)
			}
		})
	}
}

func TestCapacity(t *testing.T) {
	l := memlog.New(memlog.Options{SegmentSize: 4096, Capacity: 20000})
	rng := rand.New(rand.NewPCG(1, 1))
	n := 0
	for {
		_, err := l.Append(payload(rng.IntN(500), 1))
		if errors.Is(err, store.ErrNoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if size := l.Size().Allocated; size > 20000 || n < 40 {
		t.Fatalf("%d frames in %d bytes, limit 20000", n, size)
	}
	if err := l.Drop(l.Boundaries()[2]); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(payload(500, 1)); err != nil {
		t.Fatalf("Append after Drop = %v", err)
	}
}

func BenchmarkAppendRead(b *testing.B) {
	for _, size := range []int{100, 1 << 10} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			l := memlog.New(memlog.Options{})
			p := payload(size, 1)
			dst := make([]byte, 0, 2*size)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				pos, err := l.Append(p)
				if err == nil {
					_, err = l.ReadRecord(pos+store.FrameHeaderSize, dst)
				}
				if err != nil {
					b.Fatal(err)
				}
				if i%1024 == 0 {
					at := l.Boundaries()
					l.Drop(at[len(at)-1])
				}
			}
		})
	}
}
