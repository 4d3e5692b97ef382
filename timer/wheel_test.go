package timer

import (
	"math"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"
)

const start = int64(1_800_000_000_000_000_000) // in 2027

// all advances to now to the end and returns the ids handed out, sorted.
func all(t testing.TB, w *Wheel, now int64) (ids []uint64) {
	t.Helper()
	for w.Advance(now, 100, func(id uint64, at int64) { ids = append(ids, id) }) {
	}
	if err := w.check(); err != nil {
		t.Fatalf("Advance(%d): %v", now, err)
	}
	slices.Sort(ids)
	return ids
}

func TestZeroWheel(t *testing.T) {
	var w Wheel
	if w.Len() != 0 || w.Cancel(0, 0) || w.Cancel(1, 0) || w.At(1) != 0 {
		t.Error("a zero wheel holds something")
	}
	if _, ok := w.Next(); ok {
		t.Error("Next() = true")
	}
	if _, ok := w.Wake(); ok {
		t.Error("Wake() = true")
	}
	if w.Advance(start, 1, nil) {
		t.Error("Advance() = true")
	}
	w.Trim()
}

// TestHandlesNeverGiven asks for timers that have never been, in memory that is there and beyond it.
func TestHandlesNeverGiven(t *testing.T) {
	var w Wheel
	given := w.Schedule(start, 0)
	for h := range Handle(2 * chunkLen) {
		if h != given && (w.At(h) != 0 || w.Cancel(h, 0)) {
			t.Errorf("timer %d is pending, only %d was scheduled", h, given)
		}
	}
	if got := w.Len(); got != 1 {
		t.Errorf("Len() = %d, want 1", got)
	}
}

func TestExactToTheNanosecond(t *testing.T) {
	for _, d := range []int64{0, 1, 2, 63, 64, 65, 4095, 4096, 4097, 1e6, 30e9, 1 << 35, 1<<35 - 1, int64(3650 * 24 * time.Hour),
		math.MaxInt64 - start - 1} {
		for _, origin := range []int64{math.MinInt64, start - 1<<40, start - 64, start - 2} {
			var w Wheel
			w.Advance(origin, 1, nil)
			at := start + d
			w.Schedule(at-1, 1)
			w.Schedule(at, 2)
			w.Schedule(at+1, 3)
			for i, now := range []int64{at - 2, at - 1, at, at + 1} {
				var want []uint64
				if i > 0 {
					want = []uint64{uint64(i)}
				}
				if got := all(t, &w, now); !slices.Equal(got, want) {
					t.Errorf("from %d, around %d: Advance(%d) = %v, want %v", origin, at, now, got, want)
				}
			}
		}
	}
}

func TestTimeDoesNotGoBack(t *testing.T) {
	var w Wheel
	all(t, &w, start)
	w.Schedule(start+10, 1)
	if got := all(t, &w, start-1e9); got != nil {
		t.Errorf("Advance to before the present = %v, want none", got)
	}
	w.Schedule(start-5, 2)
	if at, _ := w.Wake(); at != start-5 {
		t.Errorf("Wake() = %d, want %d", at, start-5)
	}
	if got := all(t, &w, start-5); !slices.Equal(got, []uint64{2}) {
		t.Errorf("Advance(Wake()) = %v, want [2]", got)
	}
	if got := all(t, &w, start+10); !slices.Equal(got, []uint64{1}) {
		t.Errorf("Advance = %v, want [1]", got)
	}
	all(t, &w, start+20)
	w.Schedule(start+15, 3)
	if got := all(t, &w, start); !slices.Equal(got, []uint64{3}) {
		t.Errorf("Advance with the present at %d = %v, want [3]: an earlier now counts as the present", start+20, got)
	}
	w.Trim()
	w.Schedule(start+15, 4)
	if got := all(t, &w, start); !slices.Equal(got, []uint64{4}) {
		t.Errorf("Advance after Trim with the present at %d = %v, want [4]: it is kept", start+20, got)
	}
}

// TestEmptyTimeIsFree goes a week, then ten years, with one far timer, and asks how often the wheel wants to be woken.
func TestEmptyTimeIsFree(t *testing.T) {
	var w Wheel
	all(t, &w, start)
	far := start + int64(3650*24*time.Hour)
	w.Schedule(far, 1)
	if at, ok := w.Wake(); at != far || !ok {
		t.Errorf("Wake() = %d, %v, want %d: a timer that is alone needs one wake-up", at, ok, far)
	}
	if w.Advance(start+int64(7*24*time.Hour), 1, nil) {
		t.Error("a week in which nothing is due took more than one step")
	}
	if got := all(t, &w, far); !slices.Equal(got, []uint64{1}) {
		t.Errorf("Advance(far) = %v", got)
	}
}

// TestWake lives from one Wake to the next: every timer comes at its very nanosecond, and the number of calls is bounded.
func TestWake(t *testing.T) {
	r := random(t)
	for _, spread := range []int64{1, 100, 1e6, 1e9, int64(3650 * 24 * time.Hour)} {
		const n = 20_000
		var w Wheel
		all(t, &w, start)
		for id := range uint64(n) {
			w.Schedule(start+1+r.Int64N(spread), id)
		}
		wakes, got, last := 0, 0, start
		for {
			now, ok := w.Wake()
			if !ok {
				break
			}
			if now < last {
				t.Fatalf("Wake() = %d after %d", now, last)
			}
			for w.Advance(now, 64, func(_ uint64, at int64) {
				if got++; at != now {
					t.Fatalf("timer of %d at %d", at, now)
				}
			}) {
			}
			last = now
			wakes++
		}
		if got != n || wakes*10 > n*22+100 {
			t.Errorf("spread %d: %d timers with %d wakes, want %d with at most %d", spread, got, wakes, n, n*22/10+10)
		}
	}
}

// TestWakeIsExactForFew has as many timers in one far slot as Wake looks through, then one more.
func TestWakeIsExactForFew(t *testing.T) {
	var w Wheel
	all(t, &w, start)
	at := start&^(1<<36-1) + 5<<36
	for id := range uint64(short) {
		w.Schedule(at+10-int64(id), id)
	}
	if got, _ := w.Wake(); got != at+3 {
		t.Errorf("Wake() = %d with %d timers, want %d", got, w.Len(), at+3)
	}
	w.Schedule(at+10, short)
	if got, _ := w.Wake(); got != at {
		t.Errorf("Wake() = %d with %d timers, want the begin of their slot, %d", got, w.Len(), at)
	}
}

// TestEachTimerMovesOnce advances into the middle of a slot: what is not due yet goes to its final place in one move.
func TestEachTimerMovesOnce(t *testing.T) {
	const n = 1000
	var w Wheel
	all(t, &w, start)
	at := start&^(1<<36-1) + 5<<36
	for id := range uint64(n) {
		w.Schedule(at+1e9+int64(id), id)
	}
	calls := 1
	for w.Advance(at+1e9-1, 1, nil) {
		calls++
	}
	if calls > n+1 {
		t.Errorf("%d moves for %d timers", calls-1, n)
	}
}

// TestStepsAreBounded puts very many timers into one slot: however they have to be moved or handed out, no call does more than
// its limit, and the calls in between are answered right.
func TestStepsAreBounded(t *testing.T) {
	const n, limit = 100_000, 1000
	var w Wheel
	all(t, &w, start)
	at := start + 30e9
	var cancelled Handle
	for id := range uint64(n) {
		cancelled = w.Schedule(at+int64(id%2), id)
	}
	steps := func(now int64) (calls, got int) {
		for more := true; more; calls++ {
			before := got
			more = w.Advance(now, limit, func(uint64, int64) { got++ })
			if got-before > limit {
				t.Fatalf("Advance handed out %d, limit %d", got-before, limit)
			}
			if next, ok := w.Next(); more && calls%20 == 0 && (!ok || next != at && next != at+1) {
				t.Fatalf("Next() in mid-step = %d, %v", next, ok)
			}
		}
		return calls, got
	}
	moved := 0
	for now, _ := w.Wake(); now < at; now, _ = w.Wake() {
		calls, got := steps(now)
		if got != 0 {
			t.Fatalf("Advance(%d) handed out %d early", now, got)
		}
		if calls < n/limit {
			t.Errorf("Advance(%d) moved %d timers in %d calls of %d", now, n, calls, limit)
		}
		if moved++; moved > levels {
			t.Fatalf("moved %d times", moved)
		}
	}
	if calls, got := steps(at); got != n/2 || calls < got/limit {
		t.Errorf("Advance(at) = %d in %d calls, want %d", got, calls, n/2)
	}
	if !w.Cancel(cancelled, n-1) {
		t.Error("Cancel = false")
	}
	if calls, got := steps(at + 1); got != n/2-1 || calls < got/limit {
		t.Errorf("Advance(at+1) = %d in %d calls, want %d", got, calls, n/2-1)
	}
}

// TestCancelWhileDraining cancels the head, the middle and the end of the list that an interrupted Advance left behind, and
// schedules earlier and later ones.
func TestCancelWhileDraining(t *testing.T) {
	var w Wheel
	all(t, &w, start)
	handles := make(map[uint64]Handle)
	for id := range uint64(100) {
		handles[id] = w.Schedule(start+1<<30+int64(id), id)
	}
	now := start + 1<<30 + 49
	out := 0
	if !w.Advance(now, 10, func(id uint64, _ int64) { delete(handles, id); out++ }) || w.draining == 0 {
		t.Fatal("Advance was not interrupted")
	}
	var list []Handle
	for h := w.draining; h != 0; h = w.timer(h).next {
		list = append(list, h)
	}
	cancelled := 0
	for _, h := range []Handle{list[0], list[len(list)-1], list[len(list)/2]} {
		id := w.timer(h).id
		if !w.Cancel(h, id) {
			t.Fatalf("Cancel(%d) = false", h)
		}
		delete(handles, id)
		cancelled++
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
	}
	handles[200] = w.Schedule(start, 200)
	handles[201] = w.Schedule(now+1, 201)
	if at, _ := w.Next(); at != start {
		t.Errorf("Next() = %d, want %d", at, start)
	}
	var want []uint64
	for id, h := range handles {
		if w.At(h) <= now {
			want = append(want, id)
		}
	}
	slices.Sort(want)
	if got := all(t, &w, now); !slices.Equal(got, want) {
		t.Errorf("Advance = %v, want %v", got, want)
	}
	if got := w.Len(); got != len(handles)-len(want) {
		t.Errorf("Len() = %d, want %d", got, len(handles)-len(want))
	}
}

// TestRescheduleFromDue has a timer that comes back for the past for ever: the others are still handed out.
func TestRescheduleFromDue(t *testing.T) {
	var w Wheel
	all(t, &w, start)
	for id := range uint64(100) {
		w.Schedule(start+int64(id), id)
	}
	got := make(map[uint64]bool)
	for range 300 {
		if !w.Advance(start+200, 1, func(id uint64, at int64) {
			got[id] = true
			w.Schedule(start-1, 1000+id)
		}) {
			t.Fatal("Advance = false with timers due")
		}
	}
	for id := range uint64(100) {
		if !got[id] {
			t.Errorf("timer %d starves", id)
		}
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestMemory(t *testing.T) {
	if size := unsafe.Sizeof(Wheel{}); size != 16 {
		t.Errorf("a zero wheel takes %d bytes, want 16", size)
	}
	if size := unsafe.Sizeof(timer{}) + unsafe.Sizeof(int64(0)); size != 24 {
		t.Errorf("a timer and its instant take %d bytes, want 24", size)
	}
	const n = 1_000_000
	w := new(Wheel)
	w.Advance(start, 1, nil)
	handles := make([]Handle, 0, n)
	before := heap()
	for id := range uint64(n) {
		handles = append(handles, w.Schedule(start+int64(id)*1000, id))
	}
	each := float64(heap()-before) / n
	t.Logf("%.1f bytes a timer at %d pending", each, n)
	if each > 32 {
		t.Errorf("%.1f bytes a timer, want at most 32", each)
	}
	for id, h := range handles[:n-100] {
		w.Cancel(h, uint64(id))
	}
	if left := heap() - before; left > 200_000 {
		t.Errorf("%d bytes with 100 timers left of %d", left, n)
	}
	all(t, w, start+2e9)
	const noise = 32_000 // what the runtime and the tests may allocate beside
	if left := heap() - before; left > noise {
		t.Errorf("%d bytes with no timer left", left)
	}
	if w.Trim(); w.pending != nil {
		t.Error("Trim has left something behind")
	}
	runtime.KeepAlive(handles)
	runtime.KeepAlive(w)
}

// TestIdleWheels has 10,000 wheels, as many queues have, each with one timer, then with none.
func TestIdleWheels(t *testing.T) {
	const n = 10_000
	before := heap()
	wheels := make([]Wheel, n)
	each := func() int64 { return (heap() - before) / n }
	for i := range wheels {
		wheels[i].Advance(start, 1, nil)
	}
	if got := each(); got > 32 {
		t.Errorf("%d bytes a wheel that never had a timer", got)
	}
	for i := range wheels {
		wheels[i].Schedule(start+30e9, 1)
	}
	if got := each(); got > 1100 {
		t.Errorf("%d bytes a wheel with one timer", got)
	}
	for i := range wheels {
		wheels[i].Advance(start+30e9, 1, func(uint64, int64) {})
		wheels[i].Trim()
	}
	if got := each(); got > 32 {
		t.Errorf("%d bytes a wheel after Trim", got)
	}
	runtime.KeepAlive(wheels)
}

// TestAlmostEmpty is the common case: a queue with one message at a time. Nothing may be allocated for it.
func TestAlmostEmpty(t *testing.T) {
	var w Wheel
	now := start
	all(t, &w, now)
	w.Cancel(w.Schedule(now+30e9, 1), 1)
	got := testing.AllocsPerRun(1000, func() {
		h := w.Schedule(now+30e9, 1)
		w.Advance(now+500, 100, nil)
		w.Wake()
		w.Cancel(h, 1)
	})
	if got != 0 {
		t.Errorf("%v allocations a timer, want 0", got)
	}
}

// TestChunkBoundary schedules and cancels where the memory in use ends: that must not allocate each time.
func TestChunkBoundary(t *testing.T) {
	var w Wheel
	for w.pending == nil || w.room != 0 {
		w.Schedule(start, 1)
	}
	got := testing.AllocsPerRun(1000, func() { w.Cancel(w.Schedule(start, 2), 2) })
	if got != 0 {
		t.Errorf("%v allocations a timer, want 0", got)
	}
}
