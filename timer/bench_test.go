package timer

import (
	"math/rand/v2"
	"testing"
	"time"
)

const million = 1_000_000

// fill returns a wheel with a million timers, 1 µs apart, due in 30 s and later, and their handles in order.
func fill() (*Wheel, []Handle) {
	w := new(Wheel)
	w.Advance(start, 1, nil)
	handles := make([]Handle, million)
	for i := range handles {
		handles[i] = w.Schedule(start+30e9+int64(i)*1000, uint64(i))
	}
	return w, handles
}

// BenchmarkStart fills wheels with a million timers each.
func BenchmarkStart(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	random := make([]int64, million)
	for i := range random {
		random[i] = start + r.Int64N(int64(time.Hour))
	}
	b.Run("in order", func(b *testing.B) {
		benchmarkStart(b, func(i int) int64 { return start + 30e9 + int64(i)*1000 })
	})
	b.Run("random", func(b *testing.B) {
		benchmarkStart(b, func(i int) int64 { return random[i] })
	})
}

func benchmarkStart(b *testing.B, at func(int) int64) {
	b.ReportAllocs()
	w := new(Wheel)
	for i := range b.N {
		if i%million == 0 {
			b.StopTimer()
			w = new(Wheel)
			w.Advance(start, 1, nil)
			b.StartTimer()
		}
		w.Schedule(at(i%million), uint64(i))
	}
}

// BenchmarkStop empties wheels of a million timers.
func BenchmarkStop(b *testing.B) {
	order := make([]int, million)
	for i := range order {
		order[i] = i
	}
	b.Run("in order", func(b *testing.B) { benchmarkStop(b, order) })
	b.Run("random", func(b *testing.B) { benchmarkStop(b, rand.New(rand.NewPCG(1, 1)).Perm(million)) })
}

// benchmarkStop lays the handles out in the order they are used: where an owner finds them is its own affair.
func benchmarkStop(b *testing.B, order []int) {
	type pair struct {
		h  Handle
		id uint32
	}
	var w *Wheel
	pairs := make([]pair, million)
	for i := range b.N {
		if i%million == 0 {
			b.StopTimer()
			full, handles := fill()
			for k, j := range order {
				pairs[k] = pair{handles[j], uint32(j)}
			}
			w = full
			b.StartTimer()
		}
		p := pairs[i%million]
		w.Cancel(p.h, uint64(p.id))
	}
}

// BenchmarkExpire lets a million timers come due, with a look at the clock every 10 µs; each is moved to lower levels on the way.
func BenchmarkExpire(b *testing.B) {
	n := 0
	var w *Wheel
	now := start
	for n < b.N {
		if w == nil || w.Len() == 0 {
			b.StopTimer()
			w, _ = fill()
			now = start + 30e9 - 10e6
			b.StartTimer()
		}
		now += 10_000
		for w.Advance(now, 1024, func(uint64, int64) { n++ }) {
		}
	}
}

// BenchmarkCascade measures one call of Advance that moves 1,024 timers of a slot with a million to a lower level.
func BenchmarkCascade(b *testing.B) {
	var w *Wheel
	now := start
	more := false
	for range b.N {
		if !more {
			b.StopTimer()
			w = new(Wheel)
			w.Advance(start, 1, nil)
			r := rand.New(rand.NewPCG(1, 1))
			for id := range uint64(million) {
				w.Schedule(start+1<<40+r.Int64N(1<<30), id)
			}
			now, _ = w.Wake()
			b.StartTimer()
		}
		more = w.Advance(now, 1024, nil)
	}
}

// BenchmarkIdle is an Advance in which nothing is due, beside a million timers, and the question when to wake.
func BenchmarkIdle(b *testing.B) {
	w, _ := fill()
	now := start
	for range b.N {
		now += 1
		w.Advance(now, 1024, nil)
		w.Wake()
	}
}

// BenchmarkAfterFunc is what the runtime's timers cost, for comparison.
func BenchmarkAfterFunc(b *testing.B) {
	stop := func(timers []*time.Timer, order []int) {
		for _, i := range order {
			timers[i].Stop()
		}
	}
	order := rand.New(rand.NewPCG(1, 1)).Perm(million)
	timers := make([]*time.Timer, million)
	b.Run("start", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			if i > 0 && i%million == 0 {
				b.StopTimer()
				stop(timers, order)
				b.StartTimer()
			}
			timers[i%million] = time.AfterFunc(time.Hour+time.Duration(i%million)*time.Microsecond, func() {})
		}
		b.StopTimer()
		stop(timers[:min(b.N, million)], sorted(min(b.N, million)))
	})
	for _, kind := range []string{"in order", "random"} {
		b.Run("stop "+kind, func(b *testing.B) {
			order := order
			if kind == "in order" {
				order = sorted(million)
			}
			for i := range b.N {
				if i%million == 0 {
					b.StopTimer()
					for j := range timers {
						timers[j] = time.AfterFunc(time.Hour+time.Duration(j)*time.Microsecond, func() {})
					}
					b.StartTimer()
				}
				timers[order[i%million]].Stop()
			}
			b.StopTimer()
			stop(timers, order)
		})
	}
}

func sorted(n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	return order
}
