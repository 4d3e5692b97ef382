package rewind

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"testing"
)

// driveHistory performs the operations in data on a history and on a plain list that forgets nothing.
func driveHistory(t testing.TB, data []byte) {
	var h History
	var m []Event
	trimmed, at, pos := uint64(0), int64(0), uint64(0)
	var held, copied []Event // a slice handed out, and what it was
	for len(data) >= 4 {
		op, instant := data[0], int64(data[1]%16)
		low, high := int64(data[2]%16), int64(data[3]%16)
		gen := trimmed + uint64(data[2])%4
		before := pos + 2 - min(uint64(data[3])%8, pos)
		data = data[4:]
		switch op % 8 {
		default:
			if instant == 15 {
				instant = math.MaxInt64
			} else if instant == 14 {
				instant = math.MinInt64
			}
			at += int64(op>>4) % 2
			pos += uint64(op>>5) % 3
			e := h.Add(instant, at, pos, op >= 128)
			want := Event{uint64(len(m) + 1), instant, at, pos, op >= 128}
			if e != want {
				t.Fatalf("Add = %v, want %v", e, want)
			}
			m = append(m, e)
		case 5:
			if gen <= uint64(len(m)) {
				h.Trim(gen)
				trimmed = max(trimmed, gen)
			}
		case 6:
			var again History
			if err := again.Restore(h.Generation(), h.Events()); err != nil {
				t.Fatalf("Restore of its own events: %v", err)
			}
			h = again
		case 7:
			held = h.Since(gen, before)
			copied = slices.Clone(held)
		}
		if h.Generation() != uint64(len(m)) || !slices.Equal(h.Events(), m[trimmed:]) || h.Len() != len(m)-int(trimmed) {
			t.Fatalf("Generation() = %d, Events() = %v, want %d, %v", h.Generation(), h.Events(), len(m), m[trimmed:])
		}
		if !slices.Equal(held, copied) {
			t.Fatalf("a slice handed out changed from %v to %v", copied, held)
		}
		compareHistory(t, &h, m, max(gen, trimmed), before, min(low, high), max(low, high))
	}
}

func compareHistory(t testing.TB, h *History, m []Event, gen, before uint64, first, last int64) {
	t.Helper()
	var since []Event
	for _, e := range m {
		if e.Generation > gen && e.Pos < before {
			since = append(since, e)
		}
	}
	if got := h.Since(gen, before); !slices.Equal(got, since) {
		t.Fatalf("Since(%d, %d) = %v, want %v", gen, before, got, since)
	}
	spans := h.Spans(nil, gen, before, first, last)
	if len(spans) > len(since)+1 {
		t.Fatalf("Spans(%d, %d) = %d spans of %d events", gen, before, len(spans), len(since))
	}
	if !slices.IsSortedFunc(spans, func(a, b Span) int { return cmp.Compare(a.From, b.From) }) {
		t.Fatalf("Spans(%d, %d, %d, %d) = %v, which are not in order", gen, before, first, last, spans)
	}
	covered := int64(0)
	for _, s := range spans {
		covered += s.To - s.From + 1
	}
	if covered != last-first+1 {
		t.Fatalf("Spans(%d, %d, %d, %d) = %v, which overlap or leave a gap", gen, before, first, last, spans)
	}
	for at := first; at <= last; at++ {
		outcome, event := verdict(since, at)
		i := slices.IndexFunc(spans, func(s Span) bool { return s.From <= at && at <= s.To })
		if i < 0 || spans[i].Outcome != outcome || spans[i].Event != event {
			t.Fatalf("Spans(%d, %d, %d, %d) = %v, want %v at %d", gen, before, first, last, spans, outcome, at)
		}
	}
}

// verdict follows one message through the events, as section 6 of the design tells it.
func verdict(events []Event, enqueuedAt int64) (Outcome, Event) {
	for _, e := range events {
		if e.Drop && enqueuedAt <= e.Instant {
			return Dropped, e
		}
		if !e.Drop && e.Instant <= enqueuedAt {
			return Restored, e
		}
	}
	return Kept, Event{}
}

func TestHistoryModel(t *testing.T) {
	r := random(t)
	rounds := 200
	if testing.Short() {
		rounds = 40
	}
	for range rounds {
		driveHistory(t, noise(r, 1000))
	}
}

func FuzzHistory(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 5, 0, 15, 128, 3, 0, 15, 32, 9, 1, 12, 7, 0, 0, 9, 5, 0, 1, 3, 6, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) { driveHistory(t, data[:min(len(data), 4000)]) })
}

func TestRestoreRefusesDisorder(t *testing.T) {
	good := []Event{{Generation: 3, At: 5, Pos: 10}, {Generation: 4, At: 5, Pos: 10}, {Generation: 5, At: 6, Pos: 11}}
	change := func(f func([]Event)) []Event {
		events := slices.Clone(good)
		f(events)
		return events
	}
	bad := map[string]struct {
		gen    uint64
		events []Event
	}{
		"newer generation":   {6, good},
		"older generation":   {4, good},
		"generation 0":       {0, good},
		"gap":                {5, slices.Delete(slices.Clone(good), 1, 2)},
		"twice":              {5, change(func(e []Event) { e[1].Generation = 3 })},
		"first from below 1": {2, good},
		"generation zero":    {1, []Event{{Generation: 0}, {Generation: 1}}},
		"position back":      {5, change(func(e []Event) { e[2].Pos = 9 })},
		"time back":          {5, change(func(e []Event) { e[1].At = 4 })},
	}
	for name, c := range bad {
		h := History{}
		h.Add(1, 1, 1, false)
		if err := h.Restore(c.gen, c.events); !errors.Is(err, ErrDisorder) {
			t.Errorf("%s: Restore = %v, want ErrDisorder", name, err)
		}
		if h.Generation() != 1 || h.Len() != 1 {
			t.Errorf("%s: a refused Restore changed the history", name)
		}
	}
	var h History
	if err := h.Restore(5, good); err != nil || h.Add(1, 6, 11, true).Generation != 6 {
		t.Errorf("Restore = %v", err)
	}
	if err := h.Restore(1<<40, nil); err != nil || h.Generation() != 1<<40 || h.Len() != 0 {
		t.Errorf("Restore without events = %v", err)
	}
}

func TestRestoreKeepsNoReference(t *testing.T) {
	events := []Event{{Generation: 1, Instant: 7}}
	var h History
	if err := h.Restore(1, events); err != nil {
		t.Fatal(err)
	}
	events[0].Instant = 8
	if got := h.Events()[0].Instant; got != 7 {
		t.Errorf("Instant = %d after the caller changed its slice, want 7", got)
	}
}

func TestTrimGivesMemoryBack(t *testing.T) {
	var h History
	for i := range int64(100) {
		h.Add(i, i, uint64(i), false)
	}
	h.Trim(90)
	if got := cap(h.events); got > 16 {
		t.Errorf("capacity %d for 10 events", got)
	}
	if h.Trim(100); h.events != nil || h.Generation() != 100 {
		t.Errorf("an empty history keeps its array, or its generation is %d, want 100", h.Generation())
	}
}

// TestWholeBlock is the common case: one rewind brings back a block as a whole, and no message is looked at.
func TestWholeBlock(t *testing.T) {
	var h History
	h.Add(100, 150, 1, false)
	rewind := h.Add(10, 160, 2, false)
	buffer := make([]Span, 0, 4)
	got := h.Spans(buffer, 0, math.MaxUint64, 20, 60)
	if want := []Span{{20, 60, Restored, rewind}}; !slices.Equal(got, want) {
		t.Errorf("Spans = %v, want %v", got, want)
	}
	if got := h.Spans(buffer, 2, math.MaxUint64, 20, 60); len(got) != 1 || got[0].Outcome != Kept {
		t.Errorf("Spans of a block that is up to date = %v, want kept", got)
	}
	if got := h.Spans(buffer, 0, math.MaxUint64, 2, 1); len(got) != 0 {
		t.Errorf("Spans of no message = %v", got)
	}
	if n := testing.AllocsPerRun(100, func() { h.Spans(buffer, 0, math.MaxUint64, 20, 200) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestOutcomeString(t *testing.T) {
	for o, want := range map[Outcome]string{Kept: "kept", Restored: "restored", Dropped: "dropped", 9: "Outcome(9)"} {
		if got := o.String(); got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}

// BenchmarkSpans brings 10,240 blocks up to date with a history of 1,024 events, the most that is kept.
func BenchmarkSpans(b *testing.B) {
	const block = 1024 * 1000
	var h History
	for i := range 1024 {
		h.Add(int64(i)*10*block+500, int64(i), uint64(i), i%2 == 1)
	}
	buffer := make([]Span, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		for i := range int64(10_240) {
			buffer = h.Spans(buffer[:0], uint64(i%1024), math.MaxUint64, i*block, (i+1)*block)
		}
	}
}
