package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memlog"
	"github.com/spoolmq/spool/store/seglog"
)

var commitSeed = flag.Uint64("commit.seed", 0, "seed of the random tests of the committer; 0 draws one")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func commitRandom(t testing.TB) *rand.Rand {
	seed := *commitSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-commit.seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 2))
}

// A watched log checks what the committer asks of it, and can be made to wait.
type watched struct {
	store.Log
	t testing.TB

	append  func() // called before each Append
	sync    func() // called before each Sync
	parts   func([][]byte)
	appends atomic.Int64
	syncs   atomic.Int64
	writing atomic.Bool
	syncing atomic.Bool
}

func (w *watched) Append(p store.Payload) (store.Position, error) {
	if w.writing.Swap(true) {
		w.t.Error("two Appends at a time")
	}
	defer w.writing.Store(false)
	if w.append != nil {
		w.append()
	}
	w.appends.Add(1)
	if need, room := int64(store.FrameSize(p.Len)), w.ReserveRoom(); need > room {
		w.t.Errorf("frame of %d bytes, Room is %d", need, room)
	}
	if err := store.CheckHeads(store.FrameHeader{Heads: p.Heads, Records: p.Records}, bytes.Join(p.Parts, nil), true); err != nil {
		w.t.Errorf("payload: %v", err)
	}
	if w.parts != nil {
		w.parts(p.Parts)
	}
	return w.Log.Append(p)
}

func (w *watched) Sync(upTo store.Position) error {
	if w.syncing.Swap(true) {
		w.t.Error("two Syncs at a time")
	}
	defer w.syncing.Store(false)
	if w.sync != nil {
		w.sync()
	}
	w.syncs.Add(1)
	return w.Log.Sync(upTo)
}

// newCommitter returns a committer on a log in memory.
func newCommitter(t testing.TB, level store.Level, o memlog.Options) (*store.Committer, *watched, *revealed) {
	log := &watched{Log: memlog.New(o), t: t}
	r := &revealed{t: t, log: log, level: level}
	return store.NewCommitter(log, store.CommitterOptions{Level: level, Reveal: r.reveal, Failed: r.fail, Dirty: func() {}}), log, r
}

// revealed notes what a committer reveals.
type revealed struct {
	t      testing.TB
	log    store.Log
	level  store.Level
	mu     sync.Mutex
	at     map[uint64]store.Position // by first: where the record lies; filled under the queue's lock
	order  []uint64
	shown  map[uint64]bool
	failed []error
}

// visible tells whether something has been revealed.
func (r *revealed) visible(first uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shown[first]
}

func (r *revealed) hide(first uint64, pos store.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil {
		r.at = map[uint64]store.Position{}
	}
	r.at[first] = pos
}

func (r *revealed) reveal(hs []store.Hidden) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range hs {
		pos, known := r.at[h.First]
		if !known && h.N > 0 { // hide follows Hide
			r.t.Errorf("revealed %d, which was not hidden", h.First)
		}
		if pos >= r.log.End() || r.level == store.AtSynced && pos >= r.log.Synced() {
			r.t.Errorf("revealed %d at %d, the log is written to %d and synced to %d", h.First, pos, r.log.End(), r.log.Synced())
		}
		r.order = append(r.order, h.First)
		if r.shown == nil {
			r.shown = map[uint64]bool{}
		}
		r.shown[h.First] = true
	}
}

func (r *revealed) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, err)
}

// add appends one record of its own call.
func add(t testing.TB, c *store.Committer, head, body string) store.Position {
	t.Helper()
	n := int64(store.RecordSize(len(head), len(body)))
	if err := c.Admit(n); err != nil {
		t.Fatal(err)
	}
	return begun(c, n, head, body)
}

func begun(c *store.Committer, n int64, head, body string) store.Position {
	c.Begin()
	defer c.End(n)
	return c.Add(7, []byte(head), store.BodySum([]byte(body)), []byte(body))
}

// records returns heads and bodies of a log in order, with their positions.
func records(t testing.TB, l store.Log) (list []string, at []store.Position) {
	t.Helper()
	err := l.Replay(l.Start(), func(pos store.Position, payload []byte) error {
		pos += store.FrameHeaderSize
		for len(payload) > 0 {
			r, rest, err := store.NextRecord(payload)
			if err != nil {
				return err
			}
			if err := r.Verify(); err != nil {
				return err
			}
			list, at = append(list, string(r.Head)+"|"+string(r.Body)), append(at, pos)
			pos += store.Position(r.Size())
			payload = rest
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list, at
}

// ---- order ---------------------------------------------------------------------------------------------------------

// TestOrder: the order in which calls append, under whatever lock, is the log's order, and positions are where records
// can be read.
func TestOrder(t *testing.T) {
	c, log, _ := newCommitter(t, store.AtSynced, memlog.Options{SegmentSize: 4096})
	var queue sync.Mutex
	var want []string
	var at []store.Position
	var group sync.WaitGroup
	for g := range 16 {
		group.Go(func() {
			for i := range 50 {
				head, body := fmt.Sprintf("%d.%d", g, i), fmt.Sprint("body of ", g, i)
				n := int64(store.RecordSize(len(head), len(body)))
				if err := c.Admit(n); err != nil {
					t.Error(err)
					return
				}
				queue.Lock()
				pos := begun(c, n, head, body)
				want, at = append(want, head+"|"+body), append(at, pos)
				queue.Unlock()
				if err := c.Wait(pos, store.Level(i%2)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	got, pos := records(t, log)
	if !slices.Equal(got, want) || !slices.Equal(pos, at) {
		t.Errorf("the log does not have the %d records in the order they were appended, or %d elsewhere", len(want), len(got))
	}
	commits, n := c.Counts()
	if n != 800 || commits != log.appends.Load() || commits > 800 {
		t.Errorf("Counts = %d frames, %d records, want %d, 800", commits, n, log.appends.Load())
	}
	for i, p := range at {
		raw, err := log.ReadRecord(p, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, _, err := store.NextRecord(raw)
		if err != nil || string(r.Head)+"|"+string(r.Body) != want[i] {
			t.Errorf("record at %d is %q, %v, want %q", p, r.Head, err, want[i])
		}
	}
}

// TestRecordsOfACallShareAFrame: all of them survive, or none.
func TestRecordsOfACallShareAFrame(t *testing.T) {
	c, log, _ := newCommitter(t, store.AtWritten, memlog.Options{})
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := range 30 {
				n := int64(3 * store.RecordSize(8, 0))
				if err := c.Admit(n); err != nil {
					t.Error(err)
					return
				}
				c.Begin()
				var pos store.Position
				for part := range 3 {
					pos = c.Add(1, fmt.Appendf(nil, "%02d %02d %02d", g, i, part)[:8], 0)
				}
				c.End(n)
				if err := c.Wait(pos, store.AtWritten); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	err := log.Replay(0, func(pos store.Position, payload []byte) error {
		for part := 0; len(payload) > 0; part++ {
			r, rest, err := store.NextRecord(payload)
			if err != nil {
				return err
			}
			if want := byte('0' + part%3); r.Head[7] != want {
				t.Errorf("record %d of the frame at %d is part %c, want %c", part, pos, r.Head[7], want)
			}
			if payload = rest; len(rest) == 0 && part%3 != 2 {
				t.Errorf("the frame at %d ends with part %d", pos, part%3)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestBoundary: replay from a boundary meets every record appended later, and begins with a frame.
func TestBoundary(t *testing.T) {
	c, log, _ := newCommitter(t, store.AtWritten, memlog.Options{})
	var boundaries []store.Position
	for i := range 20 {
		boundaries = append(boundaries, c.Boundary())
		if c.Appended() != c.Boundary() {
			t.Errorf("Appended = %d with nothing open, Boundary = %d", c.Appended(), c.Boundary())
		}
		first := add(t, c, "first", "")
		if c.Boundary() > first {
			t.Errorf("Boundary = %d above a record at %d that is not written", c.Boundary(), first)
		}
		last := add(t, c, "last", fmt.Sprint(i))
		if c.Appended() <= last || c.Boundary() > first {
			t.Errorf("Appended = %d, Boundary = %d with records at %d and %d", c.Appended(), c.Boundary(), first, last)
		}
		if err := c.Wait(last, store.AtWritten); err != nil {
			t.Fatal(err)
		}
	}
	for i, b := range boundaries {
		n := 0
		if err := log.Replay(b, func(store.Position, []byte) error { n++; return nil }); err != nil || n != 20-i {
			t.Errorf("replay from boundary %d = %d frames, %v, want %d", b, n, err, 20-i)
		}
	}
}

// ---- two stages ----------------------------------------------------------------------------------------------------

// TestWrittenDoesNotWaitForSync: while a sync runs for as long as it likes, calls that need no sync go on.
func TestWrittenDoesNotWaitForSync(t *testing.T) {
	for _, level := range []store.Level{store.AtWritten, store.AtSynced} {
		synctest.Test(t, func(t *testing.T) {
			c, log, _ := newCommitter(t, level, memlog.Options{})
			held := make(chan struct{})
			log.sync = func() { <-held }
			done := make(chan error, 8)
			for range 3 {
				pos := add(t, c, "durable", "")
				go func() { done <- c.Wait(pos, store.AtSynced) }()
				synctest.Wait() // the first is in Sync, the others wait for it
			}
			for i := range 100 {
				if err := c.Wait(add(t, c, "written", fmt.Sprint(i)), store.AtWritten); err != nil {
					t.Fatal(err)
				}
			}
			// Nor do those that gather while another one is written.
			write := make(chan struct{})
			log.append = func() { <-write }
			quick := make(chan error, 3)
			for i := range 3 {
				pos := add(t, c, "written", "")
				go func() { quick <- c.Wait(pos, store.AtWritten) }()
				synctest.Wait()
				if i == 1 {
					pos := add(t, c, "durable", "")
					go func() { done <- c.Wait(pos, store.AtSynced) }()
					synctest.Wait()
				}
			}
			close(write)
			synctest.Wait()
			if n := len(quick); n != 3 {
				t.Errorf("%d of 3 calls that need no sync are answered while one runs", n)
			}
			if n := len(done); n != 0 || log.syncs.Load() != 0 {
				t.Errorf("%d durable calls were answered while the sync was running", n)
			}
			close(held)
			for range 4 {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			if n := log.syncs.Load(); n > 2 {
				t.Errorf("%d syncs, want at most 2", n)
			}
		})
	}
}

// TestOneSyncCoversAll: everything written before a sync begins is done when it ends; what comes later is not.
func TestOneSyncCoversAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log, _ := newCommitter(t, store.AtSynced, memlog.Options{})
		turn := make(chan struct{})
		log.sync = func() { <-turn }
		var done atomic.Int64
		wait := func(pos store.Position) {
			go func() {
				if err := c.Wait(pos, store.AtSynced); err != nil {
					t.Error(err)
				}
				if log.Synced() <= pos {
					t.Errorf("record at %d is answered, the log is synced to %d", pos, log.Synced())
				}
				done.Add(1)
			}()
			synctest.Wait()
		}
		wait(add(t, c, "first", "")) // its sync waits for its turn
		for range 40 {
			pos := add(t, c, "more", "")
			if err := c.Wait(pos, store.AtWritten); err != nil { // each a frame of its own
				t.Fatal(err)
			}
			wait(pos)
		}
		last := c.Appended() - 1
		turn <- struct{}{}
		synctest.Wait()
		if n := done.Load(); n != 1 {
			t.Errorf("%d calls are answered after the first sync, want 1", n)
		}
		wait(last) // comes late, and waits like the others
		if n := done.Load(); n != 1 {
			t.Errorf("%d calls are answered while the second sync runs, want 1", n)
		}
		turn <- struct{}{}
		synctest.Wait()
		if n := done.Load(); n < 41 {
			t.Errorf("%d calls are answered after the second sync, want all that were there when it began", n)
		}
		if commits, _ := c.Counts(); commits != 41 || log.syncs.Load() != 2 {
			t.Errorf("%d frames, %d syncs, want 41 and 2", commits, log.syncs.Load())
		}
		close(turn)
		synctest.Wait()
		if n := done.Load(); n != 42 {
			t.Errorf("%d calls are answered in the end, want 42", n)
		}
	})
}

// TestDurableCallsGather: durable calls that come while a sync runs go out as one frame, and one more sync.
func TestDurableCallsGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log, _ := newCommitter(t, store.AtSynced, memlog.Options{})
		turn := make(chan struct{})
		log.sync = func() { <-turn }
		var done atomic.Int64
		for range 50 {
			pos := add(t, c, "durable", "")
			go func() {
				if err := c.Wait(pos, store.AtSynced); err != nil {
					t.Error(err)
				}
				done.Add(1)
			}()
			synctest.Wait()
		}
		close(turn)
		synctest.Wait()
		if commits, _ := c.Counts(); done.Load() != 50 || commits != 2 || log.syncs.Load() != 2 {
			t.Errorf("%d calls answered, %d frames, %d syncs, want 50, 2, 2", done.Load(), commits, log.syncs.Load())
		}
	})
}

// TestGatheringLeaderWrites: a leader that lets others come before its sync writes what they bring, and nobody writes beside
// it.
func TestGatheringLeaderWrites(t *testing.T) {
	gathered := 0
	for range 30 {
		synctest.Test(t, func(t *testing.T) {
			log := &watched{Log: memlog.New(memlog.Options{}), t: t}
			var dirty atomic.Pointer[func()]
			c := store.NewCommitter(log, store.CommitterOptions{Level: store.AtSynced, Reveal: func([]store.Hidden) {}, Dirty: func() {
				if f := dirty.Swap(nil); f != nil {
					(*f)()
				}
			}})
			answered := make(chan error, 10)
			var calls atomic.Int64 // one more when a frame is written, which may be after held is closed
			call := func(level store.Level, turns int) {
				calls.Add(1)
				go func() {
					for range turns {
						runtime.Gosched()
					}
					answered <- c.Wait(add(t, c, "x", ""), level)
				}()
			}
			log.sync = func() { time.Sleep(time.Millisecond) }
			for range 3 { // the second sync wakes two
				call(store.AtSynced, 0)
				synctest.Wait()
			}
			time.Sleep(time.Second)

			held := make(chan struct{})
			goesOn := func() { // the first frame is written, and its leader goes on to the sync
				var once sync.Once
				log.append = func() {
					once.Do(func() { call(store.AtWritten, 0) })
					<-held
				}
				call(store.AtSynced, 100)
			}
			dirty.Store(&goesOn)
			call(store.AtSynced, 0)
			synctest.Wait()
			if log.writing.Load() {
				gathered++
			}
			close(held)
			for n := int64(0); n < calls.Load(); n++ {
				if err := <-answered; err != nil {
					t.Error(err)
				}
			}
			if err := log.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	if gathered == 0 {
		t.Error("no leader has written what came while it waited")
	}
}

// TestBuffersAreUsedAgain: two groups take turns for ever, the one that gathers and the one that is written. Also when
// both are through before the next call comes.
func TestBuffersAreUsedAgain(t *testing.T) {
	c, log, _ := newCommitter(t, store.AtWritten, memlog.Options{})
	buffers := map[*byte]bool{}
	log.parts = func(parts [][]byte) { buffers[&parts[0][0]] = true }
	wait := func(pos store.Position) {
		if err := c.Wait(pos, store.AtWritten); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		var beside store.Position
		log.append = func() {
			log.append = nil
			beside = add(t, c, "2", "beside it")
		}
		wait(add(t, c, "1", "the first"))
		wait(beside)
	}
	if log.appends.Load() != 40 || len(buffers) != 2 {
		t.Errorf("%d frames were made in %d buffers, want 40 in 2", log.appends.Load(), len(buffers))
	}
}

// TestNobodyIsForgotten: calls that join a group while another one is written are led by one of them, whatever it and
// the others wait for.
func TestNobodyIsForgotten(t *testing.T) {
	levels := []store.Level{store.AtWritten, store.AtSynced}
	for i := range 1 << 7 { // the leader of the first group, a later sync or none, five calls of the second group
		synctest.Test(t, func(t *testing.T) {
			bit := func(n int) store.Level { return levels[i>>n&1] }
			c, log, _ := newCommitter(t, bit(6), memlog.Options{})
			write, stable := make(chan struct{}), make(chan struct{})
			log.append = func() { <-write }
			log.sync = func() { <-stable }
			var answered atomic.Int64
			call := func(level store.Level) {
				pos := add(t, c, "x", "")
				go func() {
					if err := c.Wait(pos, level); err != nil {
						t.Error(err)
					}
					if level == store.AtSynced && log.Synced() <= pos || log.End() <= pos {
						t.Errorf("record at %d answered at level %d, written to %d, synced to %d", pos, level, log.End(), log.Synced())
					}
					answered.Add(1)
				}()
				synctest.Wait()
			}
			call(bit(0)) // is in Append
			for n := 1; n < 6; n++ {
				call(bit(n))
			}
			for range 2 { // the first group, and the second unless it waits for a sync
				select {
				case write <- struct{}{}:
				default:
				}
				synctest.Wait()
			}
			written := int64(0)
			for n := range 6 {
				if bit(n) == store.AtWritten {
					written++
				}
			}
			if n := answered.Load(); n != written {
				t.Errorf("%07b: %d calls answered, %d want no sync", i, n, written)
			}
			close(stable)
			close(write)
			synctest.Wait()
			if n := answered.Load(); n != 6 {
				t.Errorf("%07b: %d of 6 calls answered", i, n)
			}
		})
	}
}

// TestHandOver: 64 callers at both levels. None is lost, none is woken early.
func TestHandOver(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 60
	}
	for _, level := range []store.Level{store.AtWritten, store.AtSynced} {
		c, log, r := newCommitter(t, level, memlog.Options{})
		var queue sync.Mutex
		var next uint64
		var group sync.WaitGroup
		for g := range 64 {
			group.Go(func() {
				for i := range rounds {
					n := int64(store.RecordSize(4, 0))
					if err := c.Admit(n); err != nil {
						t.Error(err)
						return
					}
					queue.Lock()
					first := next
					next++
					c.Begin()
					pos := c.Add(1, []byte("head"), 0)
					r.hide(first, pos)
					c.Hide("owner", first, 1)
					c.End(n)
					queue.Unlock()
					want := store.Level((g + i) % 2)
					if err := c.Wait(pos, want); err != nil {
						t.Error(err)
					}
					if want >= level && !r.visible(first) {
						t.Errorf("record at %d answered at level %d, and not revealed", pos, want)
					}
					if pos >= log.End() || want == store.AtSynced && pos >= log.Synced() {
						t.Errorf("record at %d answered at level %d, the log is written to %d, synced to %d", pos, want, log.End(), log.Synced())
					}
				}
			})
		}
		group.Wait()
		if err := c.Sync(); err != nil {
			t.Error(err)
		}
		if _, n := c.Counts(); n != int64(64*rounds) {
			t.Errorf("%d records written, want %d", n, 64*rounds)
		}
		r.complete(next)
	}
}

// complete checks that everything was revealed, once and in order.
func (r *revealed) complete(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, first := range r.order {
		if first != uint64(i) {
			r.t.Fatalf("revealed %d as number %d", first, i)
		}
	}
	if uint64(len(r.order)) != n {
		r.t.Errorf("%d revealed, want %d", len(r.order), n)
	}
}

// TestReveal: what is hidden is revealed at the committer's level, before the call that waits for it is answered.
func TestReveal(t *testing.T) {
	for _, level := range []store.Level{store.AtWritten, store.AtSynced} {
		synctest.Test(t, func(t *testing.T) {
			c, log, r := newCommitter(t, level, memlog.Options{})
			turn := make(chan struct{})
			log.sync = func() { <-turn }
			n := int64(store.RecordSize(4, 0))
			send := func(first uint64) (pos store.Position) {
				if err := c.Admit(n); err != nil {
					t.Fatal(err)
				}
				c.Begin()
				pos = c.Add(1, []byte("head"), 0)
				r.hide(first, pos)
				c.Hide("owner", first, 1)
				c.End(n)
				return pos
			}
			for i := range uint64(3) {
				if err := c.Wait(send(i), store.AtWritten); err != nil {
					t.Fatal(err)
				}
			}
			want := 3
			if level == store.AtSynced {
				want = 0
			}
			if len(r.order) != want {
				t.Errorf("level %d: %d revealed when written, want %d", level, len(r.order), want)
			}
			answered := make(chan int, 1)
			go func() {
				if err := c.Wait(send(3), store.AtSynced); err != nil {
					t.Error(err)
				}
				answered <- len(r.order)
			}()
			turn <- struct{}{}
			if got := <-answered; got != 4 {
				t.Errorf("level %d: %d revealed when a durable call is answered, want 4", level, got)
			}
			r.complete(4)
		})
	}
}

// TestSeen: only the very message that somebody has already is not shown to others: not one of another queue that has the
// same number, and not the batch that it came with.
func TestSeen(t *testing.T) {
	c, _, r := newCommitter(t, store.AtWritten, memlog.Options{})
	const room = 100
	call := func(more func(pos store.Position)) store.Position {
		if err := c.Admit(room); err != nil {
			t.Fatal(err)
		}
		c.Begin()
		defer c.End(room)
		pos := c.Add(1, []byte("head"), 0)
		more(pos)
		return pos
	}
	for _, x := range []struct {
		n    int
		seen string
	}{{1, "a"}, {1, "b"}, {2, "a"}} {
		var first uint64
		call(func(pos store.Position) {
			first = uint64(pos)
			r.hide(first, pos)
			c.Hide("a", first, x.n)
		})
		pos := call(func(store.Position) { c.Seen(x.seen, first) })
		if err := c.Wait(pos, store.AtWritten); err != nil {
			t.Fatal(err)
		}
		if got, want := r.visible(first), x.n > 1 || x.seen != "a"; got != want {
			t.Errorf("of %d messages of a the first one, seen of %s, is shown: %t, want %t", x.n, x.seen, got, want)
		}
	}
}

// TestRevealComesFirst: nobody is answered before what he sent is visible.
func TestRevealComesFirst(t *testing.T) {
	for _, level := range []store.Level{store.AtWritten, store.AtSynced} {
		synctest.Test(t, func(t *testing.T) {
			held, answered := make(chan struct{}), make(chan error, 3)
			c := store.NewCommitter(memlog.New(memlog.Options{}), store.CommitterOptions{Level: level,
				Reveal: func([]store.Hidden) { <-held }, Dirty: func() {}})
			var at []store.Position
			for i := range uint64(3) {
				c.Begin()
				at = append(at, c.Add(1, nil, 0))
				c.Hide("owner", i, 1)
				c.End(0)
			}
			for _, pos := range at {
				go func() { answered <- c.Wait(pos, level) }()
				synctest.Wait()
			}
			if n := len(answered); n != 0 {
				t.Errorf("level %d: %d calls are answered before the reveal", level, n)
			}
			close(held)
			for range at {
				if err := <-answered; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// ---- room ----------------------------------------------------------------------------------------------------------

// TestAdmitBlocksLargeGroups: what gathers stays below 4 MB, but for one call that is larger by itself.
func TestAdmitBlocksLargeGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log, _ := newCommitter(t, store.AtWritten, memlog.Options{})
		const mb = 1 << 20
		if err := c.Admit(3 * mb); err != nil {
			t.Fatal(err)
		}
		var admitted atomic.Int64
		errs := make(chan error, 2)
		for range 2 {
			go func() {
				errs <- c.Admit(2 * mb)
				admitted.Add(1)
			}()
		}
		synctest.Wait()
		if admitted.Load() != 0 {
			t.Error("5 MB were admitted to one group")
		}
		if !c.TryAdmit(mb/2, store.Reserve) && log.Room() > 4*mb {
			t.Error("TryAdmit = false where there is room")
		}
		c.Forgo(3 * mb)
		synctest.Wait()
		if admitted.Load() == 0 {
			t.Error("nobody is admitted after Forgo")
		}
		for range 2 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
			c.Forgo(2 * mb)
		}
		synctest.Wait()

		// One call alone may be larger, and those behind it go on when its group is under way.
		body := make([]byte, 6*mb)
		n := int64(store.RecordSize(1, len(body)))
		if err := c.Admit(n); err != nil {
			t.Fatal(err)
		}
		go func() { errs <- c.Admit(mb) }()
		synctest.Wait()
		if len(errs) != 0 {
			t.Error("a call joined a group of 6 MB")
		}
		held := make(chan struct{})
		log.append = func() { <-held }
		c.Begin()
		pos := c.Add(1, []byte{1}, store.BodySum(body), body)
		c.End(n)
		done := make(chan error, 1)
		go func() { done <- c.Wait(pos, store.AtWritten) }()
		synctest.Wait() // it is being written
		if err := <-errs; err != nil {
			t.Error(err)
		}
		close(held)
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.Forgo(mb)
	})
}

// TestWake: a channel is sent to when the level is reached and not before, and when it never will be.
func TestWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log, _ := newCommitter(t, store.AtSynced, memlog.Options{})
		written, synced := make(chan struct{}, 1), make(chan struct{}, 1)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		record := func() store.Position {
			must(c.Admit(100))
			c.Begin()
			pos := c.Add(1, []byte("record"), 0)
			c.Wake(written, store.AtWritten)
			c.Wake(synced, store.AtSynced)
			c.End(100)
			return pos
		}
		pos := record()
		if len(written)+len(synced) != 0 {
			t.Error("woken before anything is written")
		}
		must(c.Wait(pos, store.AtWritten))
		if len(written) != 1 || len(synced) != 0 {
			t.Errorf("written: %d and %d woken, want the one that waits for that", len(written), len(synced))
		}
		must(c.Wait(pos, store.AtSynced))
		if len(synced) != 1 {
			t.Error("synced, and not woken")
		}
		<-written
		<-synced
		pos = record()
		log.append = func() { c.Fail(errors.New("broken")) }
		if c.Wait(pos, store.AtWritten) == nil {
			t.Error("Wait = nil after a failure")
		}
		if len(written) != 1 || len(synced) != 1 {
			t.Error("not woken by a failure")
		}
	})
}

// TestTryAdmit: it takes what is at hand, and never grows the log.
func TestTryAdmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log, _ := newCommitter(t, store.AtWritten, memlog.Options{SegmentSize: 4096})
		const overhead = store.FrameHeaderSize + store.FrameAlign
		if c.TryAdmit(4097-overhead, store.Reserve) {
			t.Error("TryAdmit took more than Room")
		}
		if !c.TryAdmit(4096-overhead, store.Reserve) {
			t.Error("TryAdmit did not take all of Room")
		}
		if c.TryAdmit(0, store.Reserve) {
			t.Error("TryAdmit took room twice")
		}
		if room := log.Room(); room != 4096 {
			t.Errorf("Room = %d after TryAdmit, want 4096", room)
		}
		c.Forgo(4096 - overhead)
		pos := begun(c, 0, "not admitted", "") // whatever is open
		held := make(chan struct{})
		log.append = func() { <-held }
		done := make(chan error, 1)
		go func() { done <- c.Wait(pos, store.AtWritten) }()
		synctest.Wait()
		if !c.TryAdmit(100, store.Reserve) {
			t.Error("TryAdmit waits for a write")
		}
		c.Forgo(100)
		close(held)
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.Fail(errors.New("broken"))
		if c.TryAdmit(1, store.Reserve) {
			t.Error("TryAdmit = true after a failure")
		}
	})
}

// TestNoSpace: a call that finds no room is refused and changes nothing.
func TestNoSpace(t *testing.T) {
	c, log, r := newCommitter(t, store.AtWritten, memlog.Options{SegmentSize: 4096, Capacity: 3 * 4096})
	mem := log.Log.(*memlog.Log)
	written := 0
	for ; ; written++ {
		n := int64(store.RecordSize(1, 1000))
		if err := c.Admit(n); err != nil {
			if !errors.Is(err, store.ErrNoSpace) {
				t.Fatal(err)
			}
			break
		}
		if err := c.Wait(begun(c, n, "x", string(make([]byte, 1000))), store.AtWritten); err != nil {
			t.Fatal(err)
		}
	}
	if written < 6 {
		t.Errorf("%d records of 1 KB in 12 KB", written)
	}
	if err := c.Err(); err != nil || len(r.failed) != 0 {
		t.Errorf("a refusal stopped the committer: %v", err)
	}
	mem.SetCapacity(0)
	if err := c.Wait(add(t, c, "room again", ""), store.AtWritten); err != nil {
		t.Error(err)
	}
	if got, _ := records(t, log); len(got) != written+1 {
		t.Errorf("%d records, want %d", len(got), written+1)
	}
}

// A pursed log notes what it is asked for, and gives it.
type pursed struct {
	store.Log
	room, reserve int64
	asked         string
}

func (p *pursed) Room() int64        { return p.room }
func (p *pursed) ReserveRoom() int64 { return max(p.room, p.reserve) }

func (p *pursed) Grow(n int64) error {
	p.room, p.asked = n, "grow"
	return nil
}

func (p *pursed) Draw(n int64, all bool) error {
	p.room, p.reserve, p.asked = n, n, fmt.Sprintf("draw all=%t", all)
	return nil
}

// TestPurses: what stores more draws on nothing but the file system, what stores less on a part of the reserve, and what
// makes room on all of it.
func TestPurses(t *testing.T) {
	for _, test := range []struct {
		purse   store.Purse
		reserve int64 // there is already
		want    string
	}{
		{store.Ordinary, 0, "grow"},
		{store.Ordinary, 1 << 20, "grow"},
		{store.Reserve, 0, "draw all=false"},
		{store.Reserve, 1 << 20, ""},
		{store.Cleaner, 0, "draw all=true"},
		{store.Cleaner, 1 << 20, ""},
	} {
		log := &pursed{Log: memlog.New(memlog.Options{}), reserve: test.reserve}
		c := store.NewCommitter(log, store.CommitterOptions{Reveal: func([]store.Hidden) {}, Dirty: func() {}})
		if got, want := c.TryAdmit(100, test.purse), test.want == ""; got != want {
			t.Errorf("purse %d beside a reserve of %d bytes: TryAdmit = %t, want %t", test.purse, test.reserve, got, want)
		} else if got {
			c.Forgo(100)
		}
		if err := c.AdmitFrom(100, test.purse); err != nil || log.asked != test.want {
			t.Errorf("purse %d beside a reserve of %d bytes: the log is asked to %q, want %q: %v", test.purse, test.reserve, log.asked, test.want, err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRoomIsNeverExceeded drives calls of all sizes through tiny segments; the watched log compares each frame with Room.
func TestRoomIsNeverExceeded(t *testing.T) {
	rng := commitRandom(t)
	c, log, _ := newCommitter(t, store.AtWritten, memlog.Options{SegmentSize: 4096})
	var group sync.WaitGroup
	for range 8 {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 3))
		group.Go(func() {
			for range 200 {
				size := rng.IntN(300)
				if rng.IntN(10) == 0 {
					size = rng.IntN(9000)
				}
				n := int64(store.RecordSize(1, size))
				if err := c.Admit(n); err != nil {
					t.Error(err)
					return
				}
				if rng.IntN(4) == 0 {
					c.Forgo(n)
					continue
				}
				if err := c.Wait(begun(c, n, "x", string(make([]byte, size))), store.AtWritten); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	records(t, log)
}

// ---- bodies --------------------------------------------------------------------------------------------------------

// TestRoomIsGivenBack: when everything has been written, all the room that calls have taken is free again.
func TestRoomIsGivenBack(t *testing.T) {
	const all = 4<<20 - store.FrameHeaderSize - store.FrameAlign // of a group
	for level := range store.AtSynced + 1 {
		c, _, _ := newCommitter(t, level, memlog.Options{SegmentSize: 16 << 20})
		free := func(after string) {
			if !c.TryAdmit(all, store.Ordinary) {
				t.Fatalf("after %s: no room for a whole group, though nothing is under way", after)
			}
			c.Forgo(all)
		}
		free("nothing")
		if err := c.Wait(add(t, c, "head", "body"), level); err != nil {
			t.Fatal(err)
		}
		free("a call")
		if err := c.Admit(1000); err != nil {
			t.Fatal(err)
		}
		c.Forgo(1000)
		free("room that was not used")
		if err := c.Admit(1000); err != nil {
			t.Fatal(err)
		}
		c.Begin()
		c.End(1000)
		free("a call without records")
		first, second := add(t, c, "one", "frame"), add(t, c, "for", "two")
		if err := errors.Join(c.Wait(first, level), c.Wait(second, level)); err != nil {
			t.Fatal(err)
		}
		free("two calls in one frame")
	}
}

// TestHugeBodies: large bodies are not copied, small ones may be, and all arrive.
func TestHugeBodies(t *testing.T) {
	c, log, _ := newCommitter(t, store.AtWritten, memlog.Options{})
	rng := commitRandom(t)
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	bodies := [][][]byte{{noise(16 << 20)}, {noise(40), noise(3 << 20)}, {noise(1 << 10)}, {noise(1<<10 + 1), noise(7), noise(5000)}, {nil}, {}}
	need := int64(0)
	for _, b := range bodies {
		need += int64(store.RecordSize(4, len(bytes.Join(b, nil))))
	}
	parts := map[*byte]bool{}
	log.parts = func(list [][]byte) {
		for _, p := range list {
			if len(p) > 0 {
				parts[&p[0]] = true
			}
		}
	}
	if err := c.Admit(need); err != nil {
		t.Fatal(err)
	}
	c.Begin()
	var at []store.Position
	for i, b := range bodies {
		at = append(at, c.Add(3, binary.LittleEndian.AppendUint32(nil, uint32(i)), store.BodySum(b...), b...))
	}
	c.End(need)
	if err := c.Wait(at[len(at)-1], store.AtWritten); err != nil {
		t.Fatal(err)
	}
	for i, b := range bodies {
		raw, err := log.ReadRecord(at[i], nil)
		if err != nil {
			t.Fatal(err)
		}
		if r, _, err := store.NextRecord(raw); err != nil || !bytes.Equal(r.Body, bytes.Join(b, nil)) {
			t.Errorf("body %d is not what was added: %v", i, err)
		}
		for _, p := range b {
			if len(p) > 1<<10 && !parts[&p[0]] {
				t.Errorf("a part of %d bytes of body %d was copied", len(p), i)
			}
		}
	}
	// A written group keeps nothing of the caller's.
	for _, b := range bodies {
		for _, p := range b {
			clear(p)
		}
	}
	if err := c.Wait(add(t, c, "next", "group"), store.AtWritten); err != nil {
		t.Fatal(err)
	}
	if got, _ := records(t, log); len(got) != len(bodies)+1 || got[len(bodies)] != "next|group" {
		t.Errorf("%d records, want %d", len(got), len(bodies)+1)
	}
}

// TestExactFit: frames that end exactly at a segment's end, and those around it, on files as in memory.
func TestExactFit(t *testing.T) {
	const segment = 4096
	overhead := store.FrameHeaderSize + store.RecordSize(1, 0)
	sizes := []int{}
	for d := -17; d <= 17; d++ {
		sizes = append(sizes, segment-overhead+d, 100)
	}
	logs := map[string]store.Log{"memory": memlog.New(memlog.Options{SegmentSize: segment})}
	dir := t.TempDir()
	onFiles, err := seglog.Open(dir, seglog.Options{SegmentSize: segment})
	if err != nil {
		t.Fatal(err)
	}
	logs["files"] = onFiles
	for name, l := range logs {
		log := &watched{Log: l, t: t}
		c := store.NewCommitter(log, store.CommitterOptions{Level: store.AtSynced, Reveal: func([]store.Hidden) {}, Dirty: func() {}})
		var want []string
		for i, size := range sizes {
			body := bytes.Repeat([]byte{byte(i)}, size)
			want = append(want, "h|"+string(body))
			if err := c.Wait(add(t, c, "h", string(body)), store.Level(i%2)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if err := c.Sync(); err != nil {
			t.Fatal(err)
		}
		if got, _ := records(t, log); !slices.Equal(got, want) {
			t.Errorf("%s: the log does not have what was written", name)
		}
		if name == "files" {
			if err := errors.Join(log.Mark(1, true), log.Close()); err != nil {
				t.Fatal(err)
			}
			again, err := seglog.Open(dir, seglog.Options{SegmentSize: segment})
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := records(t, again); !slices.Equal(got, want) {
				t.Error("the log that was opened again does not have what was written")
			}
			if err := again.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// ---- failures ------------------------------------------------------------------------------------------------------

var errBroken = errors.New("broken for the test")

// TestFailStop: after the first error of the log every call that waits gets it, and every later one; what was written or
// synced before stays so; nobody hangs (the bubble would tell).
func TestFailStop(t *testing.T) {
	for name, op := range map[string]memlog.Op{"Append": memlog.Append, "AppendUnknown": memlog.AppendUnknown, "Sync": memlog.Sync} {
		for _, level := range []store.Level{store.AtWritten, store.AtSynced} {
			t.Run(fmt.Sprintf("%s/%d", name, level), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { failStop(t, op, level) })
			})
		}
	}
}

func failStop(t *testing.T, op memlog.Op, level store.Level) {
	c, log, r := newCommitter(t, level, memlog.Options{})
	durable := add(t, c, "durable", "")
	if err := c.Wait(durable, store.AtSynced); err != nil {
		t.Fatal(err)
	}
	written := add(t, c, "written", "")
	if err := c.Wait(written, store.AtWritten); err != nil {
		t.Fatal(err)
	}
	log.Log.(*memlog.Log).Fail(op, 0, errBroken)
	held := make(chan struct{})
	log.append = func() {
		if op != memlog.Sync {
			<-held
		}
	}
	log.sync = func() { <-held }

	errs := make(chan error, 100)
	calls := 0
	call := func(f func() error) {
		calls++
		go func() { errs <- f() }()
		synctest.Wait()
	}
	call(func() error { return c.Wait(written, store.AtSynced) }) // is in Sync
	for i := range 10 {
		pos := add(t, c, "later", "")
		call(func() error { return c.Wait(pos, store.Level(i%2)) })
	}
	call(c.Sync)
	if err := c.Admit(4<<20 - 10000); err != nil {
		t.Fatal(err)
	}
	call(func() error { return c.Admit(1 << 20) }) // waits for its turn
	close(held)
	synctest.Wait()
	failed := 0
	for range calls {
		if err := <-errs; errors.Is(err, errBroken) {
			failed++
		} else if err != nil {
			t.Errorf("a waiting call got %v", err)
		}
	}
	if op == memlog.Sync && failed < 6 || op != memlog.Sync && failed < 10 {
		t.Errorf("%d of %d waiting calls got the error", failed, calls)
	}
	used := log.appends.Load() + log.syncs.Load()
	for what, err := range map[string]error{
		"Admit": c.Admit(10), "Sync": c.Sync(), "Err": c.Err(),
		"Wait for a new record at written": c.Wait(begun(c, 0, "new", ""), store.AtWritten),
		"Wait for a new record at synced":  c.Wait(begun(c, 0, "new", ""), store.AtSynced),
	} {
		if !errors.Is(err, errBroken) {
			t.Errorf("%s = %v after the failure", what, err)
		}
	}
	if op == memlog.Sync {
		if err := c.Wait(written, store.AtSynced); !errors.Is(err, errBroken) {
			t.Errorf("Wait for a record that was not synced = %v", err)
		}
	}
	if err := c.Wait(durable, store.AtSynced); err != nil {
		t.Errorf("what was synced before answers %v", err)
	}
	if err := c.Wait(written, store.AtWritten); err != nil {
		t.Errorf("what was written before answers %v", err)
	}
	if len(r.failed) != 1 || !errors.Is(r.failed[0], errBroken) {
		t.Errorf("Failed was called with %v, want once", r.failed)
	}
	if n := log.appends.Load() + log.syncs.Load(); n != used {
		t.Errorf("the log was called %d times after it failed", n-used)
	}
	c.Fail(errors.New("another error"))
	if err := c.Err(); !errors.Is(err, errBroken) || len(r.failed) != 1 {
		t.Errorf("Err = %v after a second failure", err)
	}
}

// TestNothingIsRevealedByAFailure: a send whose write failed is not shown to anybody.
func TestNothingIsRevealedByAFailure(t *testing.T) {
	for _, op := range []memlog.Op{memlog.Append, memlog.AppendUnknown, memlog.Sync} {
		for _, level := range []store.Level{store.AtWritten, store.AtSynced} {
			if op == memlog.Sync && level == store.AtWritten {
				continue // it is revealed when it is written
			}
			c, log, r := newCommitter(t, level, memlog.Options{})
			log.Log.(*memlog.Log).Fail(op, 0, errBroken)
			c.Begin()
			pos := c.Add(1, nil, 0)
			r.hide(1, pos)
			c.Hide("owner", 1, 1)
			c.End(0)
			if err := c.Wait(pos, level); !errors.Is(err, errBroken) {
				t.Errorf("Wait = %v", err)
			}
			if len(r.order) != 0 {
				t.Errorf("op %d, level %d: revealed %v", op, level, r.order)
			}
		}
	}
}

// TestFailFromOutside: whoever finds the log broken stops the committer, also while it writes.
func TestFailFromOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log, r := newCommitter(t, store.AtSynced, memlog.Options{})
		held := make(chan struct{})
		log.append = func() { <-held }
		errs := make(chan error, 3)
		for range 3 {
			pos := add(t, c, "x", "")
			go func() { errs <- c.Wait(pos, store.AtSynced) }()
			synctest.Wait()
		}
		c.Fail(errBroken)
		synctest.Wait()
		close(held)
		for range 3 {
			if err := <-errs; !errors.Is(err, errBroken) {
				t.Errorf("Wait = %v", err)
			}
		}
		if len(r.failed) != 1 || log.syncs.Load() != 0 {
			t.Errorf("Failed was called %d times, the log synced %d times, want 1 and 0", len(r.failed), log.syncs.Load())
		}
	})
}

// ---- at random -----------------------------------------------------------------------------------------------------

// busy returns a function that takes a while.
func busy(d time.Duration) func() {
	return func() {
		for from := time.Now(); time.Since(from) < d; {
			runtime.Gosched()
		}
	}
}

// TestCommitAtRandom makes every sort of call from many goroutines and compares the log with what they appended. With
// a failure somewhere, what was answered must be there.
func TestCommitAtRandom(t *testing.T) {
	rng := commitRandom(t)
	rounds := 24
	if testing.Short() {
		rounds = 8
	}
	for i := range rounds {
		commitAtRandom(t, rand.New(rand.NewPCG(rng.Uint64(), 4)), store.Level(i%2), i%3 == 2)
	}
}

func commitAtRandom(t *testing.T, rng *rand.Rand, level store.Level, fails bool) {
	o := memlog.Options{}
	if rng.IntN(2) == 0 {
		o.SegmentSize = 4096
	}
	c, log, r := newCommitter(t, level, o)
	mem := log.Log.(*memlog.Log)
	if rng.IntN(2) == 0 { // syncs that are worth gathering for
		log.append, log.sync = busy(20*time.Microsecond), busy(200*time.Microsecond)
	}
	if fails {
		mem.Fail([]memlog.Op{memlog.Append, memlog.AppendUnknown, memlog.Sync}[rng.IntN(3)], rng.IntN(40), errBroken)
	}
	var queue sync.Mutex
	var want []string
	var at []store.Position
	var next uint64
	var durable, written atomic.Uint64 // highest answered
	raise := func(to *atomic.Uint64, pos store.Position) {
		for have := to.Load(); uint64(pos) > have && !to.CompareAndSwap(have, uint64(pos)); have = to.Load() {
		}
	}
	one := func(rng *rand.Rand) {
		switch rng.IntN(12) {
		case 0:
			if err := c.Sync(); err != nil && !errors.Is(err, errBroken) {
				t.Error(err)
			}
			return
		case 1:
			if b, a := c.Boundary(), c.Appended(); b > a {
				t.Errorf("Boundary = %d, Appended later = %d", b, a)
			}
			return
		}
		bodies := make([]string, 1+rng.IntN(3))
		need := int64(0)
		for i := range bodies {
			size := rng.IntN(200)
			if rng.IntN(8) == 0 {
				size = rng.IntN(6000)
			}
			bodies[i] = string(bytes.Repeat([]byte{byte(rng.Uint32())}, size))
			need += int64(store.RecordSize(8, size))
		}
		if rng.IntN(3) == 0 {
			if !c.TryAdmit(need, store.Reserve) {
				return
			}
		} else if err := c.Admit(need); err != nil {
			if !errors.Is(err, errBroken) {
				t.Error(err)
			}
			return
		}
		if rng.IntN(6) == 0 {
			c.Forgo(need)
			return
		}
		queue.Lock()
		c.Begin()
		first, pos := next, store.Position(0)
		for _, body := range bodies {
			head := binary.BigEndian.AppendUint64(nil, next)
			pos = c.Add(2, head, store.BodySum([]byte(body)), []byte(body))
			want, at = append(want, string(head)+"|"+body), append(at, pos)
			r.hide(next, pos)
			next++
		}
		for seq := first; seq < next; seq++ {
			c.Hide("owner", seq, 1)
		}
		c.End(need)
		queue.Unlock()
		asked := store.Level(rng.IntN(2))
		err := c.Wait(pos, asked)
		switch {
		case err != nil && !(fails && errors.Is(err, errBroken)):
			t.Errorf("Wait = %v", err)
		case err == nil && asked == store.AtSynced:
			raise(&durable, pos+1)
		case err == nil:
			raise(&written, pos+1)
		}
	}
	var group sync.WaitGroup
	for range 12 {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 5))
		group.Go(func() {
			for range 40 {
				one(rng)
			}
		})
	}
	group.Wait()
	if !fails {
		if err := c.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	got, pos := records(t, log)
	if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) || !slices.Equal(pos, at[:len(pos)]) {
		t.Fatalf("the log's %d records are not the first of the %d appended", len(got), len(want))
	}
	if !fails && len(got) != len(want) {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
	if end := uint64(log.End()); written.Load() > end || durable.Load() > uint64(log.Synced()) {
		t.Errorf("answered to %d written and %d synced, the log is written to %d and synced to %d", written.Load(), durable.Load(), end, log.Synced())
	}
	if !fails {
		r.complete(next)
	}
	kept := mem.Crash(func(int64) int64 { return 0 })
	survived, _ := records(t, kept)
	if len(survived) > len(want) || !slices.Equal(survived, want[:len(survived)]) {
		t.Error("after a crash the log is no prefix of what was appended")
	}
}

// TestGrowFails: an I/O error while the log grows stops the committer, a want of space does not.
func TestGrowFails(t *testing.T) {
	for _, c := range []struct {
		fault error
		stops bool
	}{{syscall.EIO, true}, {store.ErrNoSpace, false}} {
		log := memlog.New(memlog.Options{SegmentSize: 4096})
		var failed error
		commit := store.NewCommitter(log, store.CommitterOptions{Reveal: func([]store.Hidden) {}, Dirty: func() {},
			Failed: func(err error) { failed = err }})
		log.Fail(memlog.Grow, 0, c.fault)
		if err := commit.Admit(1 << 20); !errors.Is(err, c.fault) {
			t.Errorf("Admit = %v, want %v", err, c.fault)
		}
		if err := commit.Err(); (err != nil) != c.stops || (failed != nil) != c.stops {
			t.Errorf("after %v: the committer's error is %v, its owner was told of %v; want one: %t", c.fault, err, failed, c.stops)
		}
		if err := commit.Admit(1); (err != nil) != c.stops {
			t.Errorf("after %v: Admit = %v", c.fault, err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}
}
