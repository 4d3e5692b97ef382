package rewind

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"
)

// ErrDisorder is what Restore refuses: events that no sequence of Add and Trim leaves behind.
var ErrDisorder = errors.New("rewind: events out of order")

// An Event is one rewind or drop of a queue. A rewind brings back what is deleted and was enqueued at Instant or later; a
// drop ends what is deleted and was enqueued at Instant or earlier.
type Event struct {
	Generation uint64 // 1 for a queue's first event, one more for each next
	Instant    int64  // ns since the epoch
	At         int64  // when it happened, ns since the epoch; never decreases with Generation
	Pos        uint64 // log position of its record; never decreases with Generation
	Drop       bool
}

// meets reports whether e decides a deleted message that was enqueued at the given instant.
func (e Event) meets(enqueuedAt int64) bool {
	if e.Drop {
		return enqueuedAt <= e.Instant
	}
	return e.Instant <= enqueuedAt
}

func (e Event) outcome() Outcome {
	if e.Drop {
		return Dropped
	}
	return Restored
}

// An Outcome is what became of a deleted message.
type Outcome uint8

const (
	Kept     Outcome = iota // it is still deleted
	Restored                // a rewind has brought it back
	Dropped                 // a drop has ended it: it is gone
)

func (o Outcome) String() string {
	switch o {
	case Kept:
		return "kept"
	case Restored:
		return "restored"
	case Dropped:
		return "dropped"
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}

// A History is the list of a queue's events that some block has yet to be brought up to date with. The zero History is that
// of a new queue. It is not safe for concurrent use.
//
// Bound: the owner trims. Above 1,024 events it brings the oldest blocks up to date, and trims then.
type History struct {
	generation uint64 // of the newest event ever added

	// Invariant: generations are consecutive and end with generation. The elements are immutable, and so is the array they
	// are in as far as it is filled: slices of it are handed out.
	events []Event
}

// Generation returns the generation of the newest event, and 0 if there has never been one.
func (h *History) Generation() uint64 { return h.generation }

// Len returns the number of events.
func (h *History) Len() int { return len(h.events) }

// Events returns all events, oldest first. The caller must not write to the slice; it never changes.
func (h *History) Events() []Event { return slices.Clip(h.events) }

// Add appends an event and returns it with its generation, the next one. REQUIRES: at and pos are not below those of the
// event before.
func (h *History) Add(instant, at int64, pos uint64, drop bool) Event {
	h.generation++
	e := Event{Generation: h.generation, Instant: instant, At: at, Pos: pos, Drop: drop}
	h.events = append(h.events, e)
	return e
}

// Since returns the events with Generation > gen and Pos < before, oldest first. The caller must not write to the slice; it
// never changes. Replay gives the position of its record as before, and so applies only what that record saw.
func (h *History) Since(gen, before uint64) []Event {
	n := len(h.events)
	if n == 0 || h.events[n-1].Pos >= before {
		n = sort.Search(n, func(i int) bool { return h.events[i].Pos >= before })
	}
	return h.events[min(h.upTo(gen), n):n:n]
}

// upTo returns the number of events with Generation <= gen.
func (h *History) upTo(gen uint64) int {
	trimmed := h.generation - uint64(len(h.events))
	switch {
	case gen <= trimmed:
		return 0
	case gen >= h.generation:
		return len(h.events)
	}
	return int(gen - trimmed)
}

// A Span says what became of all deleted messages of a block that were enqueued from From to To, both included.
type Span struct {
	From, To int64
	Outcome  Outcome
	Event    Event // what decided; zero if Kept
}

// Spans tells what became of the deleted messages of a block of generation gen that were enqueued between first and last, both
// included: for each the first event with Generation > gen and Pos < before that meets it decides. It appends to spans the parts of
// that range, disjoint and together all of it, and returns the result, the earliest of them first. One part alone means that no
// message of the block needs to be looked at. first > last gives none.
//
// A rewind decides the upper part of what is still open and a drop the lower part, so what is open stays one range, and
// there is at most one span for each event and one for what is kept.
func (h *History) Spans(spans []Span, gen, before uint64, first, last int64) []Span {
	if first > last {
		return spans
	}
	begin, rest := len(spans), Span{first, last, Kept, Event{}}
	for _, e := range h.Since(gen, before) {
		lower, upper := e.meets(rest.From), e.meets(rest.To)
		switch {
		case lower && !upper: // a drop
			spans = append(spans, Span{rest.From, e.Instant, Dropped, e})
			rest.From = e.Instant + 1
		case upper && !lower: // a rewind
			spans = append(spans, Span{e.Instant, rest.To, Restored, e})
			rest.To = e.Instant - 1
		}
		if lower && upper {
			rest.Outcome, rest.Event = e.outcome(), e
			break
		}
	}
	spans = append(spans, rest)
	slices.SortFunc(spans[begin:], func(a, b Span) int { return cmp.Compare(a.From, b.From) })
	return spans
}

// Trim forgets the events with Generation <= oldest. REQUIRES: no block with deletions is of an older generation.
func (h *History) Trim(oldest uint64) {
	switch n := h.upTo(oldest); n {
	case 0:
	case len(h.events):
		h.events = nil
	default: // a copy, because the array would stay in memory as a whole
		h.events = slices.Clone(h.events[n:])
	}
}

// Restore replaces the history by the one that Generation and Events told of when it was stored. It keeps no reference to
// events. It returns an error that is ErrDisorder, and changes nothing, if they do not belong together.
func (h *History) Restore(gen uint64, events []Event) error {
	if uint64(len(events)) > gen {
		return fmt.Errorf("%w: %d events up to generation %d", ErrDisorder, len(events), gen)
	}
	first := gen - uint64(len(events)) + 1
	for i, e := range events {
		if want := first + uint64(i); e.Generation != want {
			return fmt.Errorf("%w: event %d is of generation %d, want %d", ErrDisorder, i, e.Generation, want)
		}
		if i > 0 && (e.Pos < events[i-1].Pos || e.At < events[i-1].At) {
			return fmt.Errorf("%w: generation %d at position %d, time %d, after position %d, time %d", ErrDisorder,
				e.Generation, e.Pos, e.At, events[i-1].Pos, events[i-1].At)
		}
	}
	h.generation, h.events = gen, slices.Clone(events)
	return nil
}
