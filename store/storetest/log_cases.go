package storetest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spoolmq/spool/store"
)

func logEmpty(u *logUnderTest) {
	info := u.Info()
	if info.Epoch != 1 || !info.Created || info.Clean || info.SpoolID == [16]byte{} || info.Key == [32]byte{} {
		u.t.Fatalf("Info of a new log: epoch %d, created %t, clean %t", info.Epoch, info.Created, info.Clean)
	}
	if u.Start() != u.End() || u.Synced() != u.End() || u.Room() <= 0 {
		u.t.Fatalf("new log from %d to %d, synced %d, room %d", u.Start(), u.End(), u.Synced(), u.Room())
	}
	u.compareFrom(u.End(), nil)
}

func logRecords(u *logUnderTest) {
	for i := range 300 {
		f := u.append(store.RecordOverhead+u.rng.IntN(900), 1+u.rng.IntN(8))
		u.check(f)
		if i%10 == 0 {
			u.sync()
		}
	}
	u.append(0, 0) // a frame without records is one
}

func logExactFit(u *logUnderTest) {
	for _, last := range []int64{0, 8, 56, 64, 1024} {
		for range 3 {
			if left := u.left(); left > last+store.FrameHeaderSize+store.RecordOverhead {
				u.append(size(left-last), 2) // leaves exactly so much
			}
			if last >= store.FrameHeaderSize+store.RecordOverhead+7 {
				u.append(size(last)-7, 1) // with padding up to the very end
			}
			u.append(40, 1)
		}
		if u.reopen != nil {
			if left := u.left(); left > 0 {
				u.append(size(left), 1)
			}
			u.again(last%16 == 0)
			u.compare()
		}
	}
}

// left is what the segment that is written has left.
func (u *logUnderTest) left() int64 {
	at := u.Boundaries()
	return u.h.SegmentBytes - int64(u.End()-at[len(at)-1])
}

func logBigFrames(u *logUnderTest) {
	for _, n := range []int64{u.h.SegmentBytes + 8, 3*u.h.SegmentBytes - 8, 1 << 20, 3<<20 + 24, 9 << 20} {
		u.check(u.append(size(n), 5))
		u.append(30, 1)
		u.sync()
	}
	if u.reopen != nil {
		u.again(false)
	}
}

func logRefused(u *logUnderTest) {
	f := u.append(500, 3)
	u.sync()
	var corrupt *store.CorruptError
	for _, pos := range []store.Position{f.pos + 1, f.end(), f.end() + 1000} {
		out, err := u.ReadRecord(pos, []byte("dst"))
		if !errors.As(err, &corrupt) || string(out) != "dst" {
			u.t.Fatalf("ReadRecord(%d) = %q, %v, want %q and a *CorruptError", pos, out, err, "dst")
		}
	}
	for _, pos := range []store.Position{f.end(), f.end() + 1000} {
		if out, err := u.ReadSpan(pos, pos+100, []byte("dst")); err != nil || string(out) != "dst" {
			u.t.Fatalf("ReadSpan(%d) behind the end = %q, %v, want %q, nil", pos, out, err, "dst")
		}
	}
	if out, err := u.ReadSpan(f.pos+50, f.pos+50, nil); err != nil || len(out) > 0 {
		u.t.Fatalf("ReadSpan of nothing = %q, %v", out, err)
	}
	for _, pos := range []store.Position{f.pos + 8, f.end() + 8} {
		u.wants("Replay", u.Replay(pos, nothing), store.ErrCorrupt)
	}
	own := errors.New("own")
	u.wants("Replay", u.Replay(f.pos, func(store.Position, []byte) error { return own }), own)
	p, _ := u.frame(100, 1)
	p.Len++
	if _, err := u.Append(p); err == nil {
		u.t.Fatal("Append of a payload that is not as long as it says succeeded")
	}
	if _, err := u.Append(store.Payload{Parts: [][]byte{make([]byte, store.MaxFrameSize)}, Len: store.MaxFrameSize}); err == nil {
		u.t.Fatal("Append of a payload above the limit succeeded")
	}
	u.append(10+store.RecordOverhead, 1)
	if err := u.Mark(1, true); err == nil {
		u.t.Fatal("a clean Mark of an unsynced log succeeded")
	}
	if err := u.Drop(f.end()); err == nil {
		u.t.Fatal("Drop at a place that no segment begins at succeeded")
	}
	u.append(20, 1) // none of it has failed the log
}

// logRoom: whatever fits Room fits, however it is divided, when no more space can be had.
func logRoom(u *logUnderTest) {
	for round := range 60 {
		want := u.rng.Int64N(4*u.h.SegmentBytes) + 1
		if err := u.Grow(want); err != nil || u.Room() < want {
			u.t.Fatalf("Grow(%d) = %v, Room %d", want, err, u.Room())
		}
		u.h.Full(true)
		for left := u.Room() &^ (store.FrameAlign - 1); left >= store.FrameHeaderSize+store.RecordOverhead; {
			n := store.RecordOverhead + u.rng.IntN(size(left)-store.RecordOverhead+1)
			if round%2 == 0 {
				n = min(n, store.RecordOverhead+u.rng.IntN(200))
			}
			f := u.append(n, 1)
			left -= int64(f.end() - f.pos)
			if u.Room() < left {
				u.t.Fatalf("Room %d after a frame of %d, want at least %d", u.Room(), f.end()-f.pos, left)
			}
		}
		u.h.Full(false)
	}
}

func logFull(u *logUnderTest) {
	u.append(200, 1)
	u.sync()
	u.h.Full(true)
	before, room := u.Size().Allocated, u.Room()
	u.wants("Grow", u.Grow(room+1), store.ErrNoSpace)
	u.wants("Grow", u.Grow(1<<30), store.ErrNoSpace)
	if err := u.Grow(room); err != nil {
		u.t.Fatalf("Grow(%d) with as much room = %v", room, err)
	}
	if after := u.Size().Allocated; after != before || u.Room() != room {
		u.t.Fatalf("after ErrNoSpace %d bytes allocated, room %d, want %d, %d", after, u.Room(), before, room)
	}
	p, _ := u.frame(size(room+8), 1)
	_, err := u.Append(p)
	u.wants("Append beyond Room", err, store.ErrNoSpace)
	u.append(size(room), 1)
	u.h.Full(false)
	u.append(size(room+8), 1)
}

func logReplayFrom(u *logUnderTest) {
	for range 120 {
		u.append(store.RecordOverhead+u.rng.IntN(int(u.h.SegmentBytes)/2), 3)
	}
	for i, f := range u.frames {
		u.compareFrom(f.pos, u.frames[i:])
	}
	u.compareFrom(u.End(), nil)
	seen := 0
	err := u.Replay(u.Start(), func(pos store.Position, payload []byte) error { // what is appended meanwhile is left out
		seen++
		u.append(40, 1)
		return nil
	})
	if err != nil || seen != 120 {
		u.t.Fatalf("Replay beside Append = %d frames, %v, want 120", seen, err)
	}
}

func logDrop(u *logUnderTest) {
	for round := range 12 {
		for len(u.Boundaries()) < 4 {
			u.append(store.RecordOverhead+u.rng.IntN(int(u.h.SegmentBytes)), 2)
		}
		gone := u.frames[0]
		at := u.Boundaries()
		u.drop(at[1+round%3])
		_, err := u.ReadRecord(gone.pos+store.FrameHeaderSize, nil)
		u.wants("ReadRecord of what is dropped", err, store.ErrGone)
		_, err = u.ReadSpan(gone.pos, gone.end(), nil)
		u.wants("ReadSpan of what is dropped", err, store.ErrGone)
		u.wants("Replay of what is dropped", u.Replay(gone.pos, nothing), store.ErrGone)
		u.drop(u.Start())
		u.compare()
		if round%4 == 3 && u.reopen != nil {
			u.again(round%8 == 3)
			u.compare()
		}
	}
	if n := u.Size().Segments; n > len(u.Boundaries())+3 {
		u.t.Fatalf("%d files for %d segments", n, len(u.Boundaries()))
	}
}

func logDropWhileReading(u *logUnderTest) {
	for len(u.Boundaries()) < 6 {
		u.append(300, 2)
	}
	want, n := slices.Clone(u.frames), 0
	at := u.Boundaries()
	err := u.Replay(u.Start(), func(pos store.Position, payload []byte) error {
		if n == 1 {
			u.drop(at[2])
			for range 40 {
				u.append(200, 1) // into recycled space, if there is any
			}
		}
		if !bytes.Equal(payload, want[n].payload) {
			u.t.Fatalf("frame %d changed while it was read", n)
		}
		n++
		return nil
	})
	if err != nil && !errors.Is(err, store.ErrGone) {
		u.t.Fatalf("Replay = %v, want nil or %v", err, store.ErrGone)
	}
}

func logReadsBesideAppends(u *logUnderTest) {
	var mu sync.Mutex
	var done atomic.Bool
	var readers sync.WaitGroup
	frames := []logFrame{u.append(100, 1)}
	var reads atomic.Int64
	for i := range 4 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(i)))
			for !done.Load() {
				mu.Lock()
				f := frames[max(0, len(frames)-1-rng.IntN(1+rng.IntN(len(frames))))]
				mu.Unlock()
				err := checkSpan(u.Log, []logFrame{f}, rng)
				if err != nil && !errors.Is(err, store.ErrGone) {
					u.t.Error(err)
					done.Store(true)
					return
				}
				got, err := u.ReadRecord(f.pos+store.FrameHeaderSize, nil)
				reads.Add(1)
				if errors.Is(err, store.ErrGone) && f.pos < u.Start() {
					continue
				}
				if err != nil || !bytes.Equal(got, f.payload) {
					u.t.Errorf("ReadRecord beside Append = %d bytes, %v, want %d", len(got), err, len(f.payload))
					done.Store(true)
					return
				}
				_ = u.Room() + int64(u.Synced()) + u.Size().Live
			}
		})
	}
	for i := 0; (i < 1500 || reads.Load() < 1000) && !done.Load(); i++ {
		f := u.append(store.RecordOverhead+u.rng.IntN(700), 1)
		mu.Lock()
		frames = append(frames, f)
		mu.Unlock()
		if i%50 == 0 {
			u.sync()
		}
		if at := u.Boundaries(); i%200 == 199 && len(at) > 8 {
			u.drop(at[4])
		}
	}
	done.Store(true)
	readers.Wait()
}

func logReopen(u *logUnderTest) {
	if u.reopen == nil {
		u.t.Skip("the content does not outlive the log")
	}
	for _, high := range []int64{100, 300, 200} {
		u.append(600, 3)
		if err := u.Mark(high, false); err != nil {
			u.t.Fatal(err)
		}
		u.again(high == 300)
		u.compare()
	}
	if high := u.Info().HighWater; high != 300 {
		u.t.Fatalf("HighWater = %d, want 300", high)
	}
	u.again(true)
	u.again(true)
}

func logClosed(u *logUnderTest) {
	f := u.append(100, 1)
	if err := u.Close(); err != nil {
		u.t.Fatal(err)
	}
	u.closed = true
	p, _ := u.frame(50, 1)
	_, err := u.Append(p)
	u.wants("Append", err, store.ErrClosed)
	_, err = u.ReadSpan(f.pos, f.end(), nil)
	u.wants("ReadSpan", err, store.ErrClosed)
	_, err = u.ReadRecord(f.pos+store.FrameHeaderSize, nil)
	u.wants("ReadRecord", err, store.ErrClosed)
	u.wants("Replay", u.Replay(f.pos, nothing), store.ErrClosed)
	u.wants("Sync", u.Sync(f.end()), store.ErrClosed)
	u.wants("Grow", u.Grow(1<<20), store.ErrClosed)
	u.wants("Mark", u.Mark(1, false), store.ErrClosed)
	u.wants("Drop", u.Drop(u.Start()), store.ErrClosed)
	u.wants("Close", u.Close(), store.ErrClosed)
}

// logModel does random things and compares.
func logModel(u *logUnderTest) {
	seed := *logSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	u.t.Logf("-log.seed=%d", seed)
	u.rng = rand.New(rand.NewPCG(seed, 1))
	for range 1500 {
		switch n := u.rng.IntN(100); {
		case n < 60:
			u.append(store.RecordOverhead+u.rng.IntN(1+u.rng.IntN(int(u.h.SegmentBytes))), 1+u.rng.IntN(5))
		case n < 65:
			u.append(max(size(u.left()), store.RecordOverhead), 2) // often an exact fit
		case n < 66:
			u.append(store.RecordOverhead+u.rng.IntN(10*int(u.h.SegmentBytes)), 2)
		case n < 80:
			u.sync()
		case n < 85:
			if err := u.Mark(int64(n), false); err != nil {
				u.t.Fatal(err)
			}
		case n < 92:
			if err := u.Grow(u.rng.Int64N(3 * u.h.SegmentBytes)); err != nil {
				u.t.Fatal(err)
			}
		case n < 95:
			at := u.Boundaries()
			u.drop(at[u.rng.IntN(len(at))])
		case n < 97 && u.reopen != nil:
			u.again(n == 96)
		default:
			if i := u.rng.IntN(len(u.frames) + 1); i < len(u.frames) {
				u.compareFrom(u.frames[i].pos, u.frames[i:])
				u.check(u.frames[i])
			}
		}
	}
}
