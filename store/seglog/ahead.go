package seglog

import (
	"sync"

	"github.com/spoolmq/spool/store"
)

const (
	windowCount = 4         // Bound: sequential readers that are served at a time
	windowSize  = 256 << 10 // Bound: read at a time for one of them
	windowGap   = 64 << 10  // a read that begins at most so far behind the end of another continues it
	recentEnds  = 8         // Bound: reads that are remembered
)

// A readahead serves sequential readers from large reads. A read that continues an earlier one gets a window; reads
// that jump about never do, so they leave the windows of others alone.
//
// Invariant: a window's bytes lie below the end the log had when they were read. Such bytes never change, so a window is
// right as long as the log keeps its positions, and ReadRecord refuses those it does not keep before it looks here.
type readahead struct {
	mu     sync.Mutex
	ends   [recentEnds]store.Position // guarded by mu; where reads ended lately, 0 for none
	oldest int                        // guarded by mu; index into ends
	clock  uint64                     // guarded by mu; counts uses of windows
	all    [windowCount]window
}

// A window is what has been read ahead for one reader.
type window struct {
	low, high store.Position // guarded by readahead.mu; what the reader has, or is about to have
	used      uint64         // guarded by readahead.mu

	mu   sync.Mutex     // held while bytes are read or copied; taken before readahead.mu
	from store.Position // guarded by mu; of buf[0]
	buf  []byte         // guarded by mu
}

// record appends the record at pos to dst, if a reader that gets a window is there. It is not verified. The segment's
// frames end at to.
func (r *readahead) record(seg *segment, f vfile, to, pos store.Position, dst []byte) ([]byte, bool) {
	w := r.pick(pos)
	if w == nil {
		return dst, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if out, ok := w.copy(pos, dst); ok {
		return out, true
	}
	if cap(w.buf) == 0 {
		w.buf = make([]byte, windowSize)
	}
	w.buf = w.buf[:min(windowSize, to-pos)]
	n, err := readUpTo(f, w.buf, offset(seg.base, pos))
	if err != nil {
		n = 0 // the read without a window meets it again and reports it
	}
	w.from, w.buf = pos, w.buf[:n]
	r.mu.Lock()
	w.low, w.high = pos, pos+store.Position(n)
	r.mu.Unlock()
	return w.copy(pos, dst)
}

// copy appends the record at pos to dst if the window holds all of it. Caller holds mu.
func (w *window) copy(pos store.Position, dst []byte) ([]byte, bool) {
	if pos < w.from || pos >= w.from+store.Position(len(w.buf)) {
		return dst, false
	}
	rest := w.buf[pos-w.from:]
	n, err := store.RecordLen(rest)
	if err != nil || n > len(rest) {
		return dst, false
	}
	return append(dst, rest[:n]...), true
}

// pick returns the window of the reader that a read at pos belongs to, nil when there is none.
func (r *readahead) pick(pos store.Position) *window {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock++
	least := &r.all[0]
	for i := range r.all {
		w := &r.all[i]
		if w.high > 0 && w.low <= pos && pos <= w.high+windowGap {
			w.used = r.clock
			return w
		}
		if w.used < least.used {
			least = w
		}
	}
	for i, end := range r.ends {
		if end > 0 && end <= pos && pos-end <= windowGap {
			r.ends[i] = 0
			least.low, least.high, least.used = pos, pos, r.clock
			return least
		}
	}
	return nil
}

// note remembers a read of [from, to) without a window.
func (r *readahead) note(from, to store.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.all {
		if w := &r.all[i]; w.low == from && w.high > 0 {
			w.high = max(w.high, to) // a record larger than the window: its reader is still there
			return
		}
	}
	r.ends[r.oldest] = to
	r.oldest = (r.oldest + 1) % recentEnds
}

// forget gives the memory of windows below start back.
func (r *readahead) forget(start store.Position) {
	for i := range r.all {
		w := &r.all[i]
		w.mu.Lock()
		if w.from < start {
			w.from, w.buf = 0, nil
			r.mu.Lock()
			w.low, w.high = 0, 0
			r.mu.Unlock()
		}
		w.mu.Unlock()
	}
}
