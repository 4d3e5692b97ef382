package spool

import (
	"sync"

	"github.com/spoolmq/spool/store"
)

const (
	spanBytes = 128 << 10 // Bound: of the log, read at a time for one batch
	spanGap   = 4 << 10   // records further apart do not share a read
	spanHead  = 64        // a SEND's head has less; a record with a longer one is read by itself if it is the last
)

// A span is a piece of the log that holds several messages of one batch: consumers that drain a queue side by side then
// neither share a buffer nor call the operating system for each message. One goroutine uses it.
type span struct {
	from store.Position
	buf  []byte // Bound: spanBytes
}

var spans = sync.Pool{New: func() any { return new(span) }}

func newSpan() *span { return spans.Get().(*span) }

func (s *span) free() {
	s.buf = s.buf[:0]
	spans.Put(s)
}

// load reads the first of the grants together with those that lie close behind it. Where there are none, or the read
// fails, the span is empty.
func (s *span) load(log store.Log, grants []grant) {
	s.from, s.buf = grants[0].pos, s.buf[:0]
	least, to, n := s.from, s.from, 0
	for i := range grants {
		g := &grants[i]
		end := g.pos + store.Position(store.RecordSize(0, g.size))
		if g.message != nil || g.pos < least || g.pos > least+spanGap || end+spanHead > s.from+spanBytes {
			break
		}
		least, to = end, end+spanHead
		n++
	}
	if n < 2 {
		return
	}
	if buf, err := log.ReadSpan(s.from, to, s.buf); err == nil {
		s.buf = buf
	}
}

// record returns the record at pos if the span holds all of it and it is whole. It is part of the span.
func (s *span) record(pos store.Position) (store.Record, bool) {
	if pos < s.from || pos-s.from >= store.Position(len(s.buf)) {
		return store.Record{}, false
	}
	r, _, err := store.NextRecord(s.buf[pos-s.from:])
	return r, err == nil && r.Verify() == nil
}

// fetch returns the message of the first grant: what was given with it, or what is read, from a span if there is one. What is
// not whole there is read by itself: then it is known where the damage is, or that the message has moved.
func (q *Queue) fetch(near *span, grants []grant) (stored, error) {
	g := &grants[0]
	if g.message != nil {
		return *g.message, nil
	}
	if near != nil {
		r, ok := near.record(g.pos)
		if !ok {
			near.load(q.spool.disk, grants)
			r, ok = near.record(g.pos)
		}
		if ok {
			if m, err := q.parse(r, g.pos, g.seq, g.size); err == nil {
				return m.clone(r.Body), nil
			}
		}
	}
	return q.find(g.pos, g.seq, g.size)
}
