package seglog

import (
	"sync"
	"sync/atomic"

	"github.com/spoolmq/spool/store"
)

const (
	minRing  = 2 * pageSize
	newRing  = 64 << 10 // what a ring begins with: it grows as frames fill it, so an idle spool costs little
	maxRing  = 1 << 20
	ringStep = 16 // bytes leave the window in steps of one part in ringStep
)

// A ring holds the newest bytes of the log: frames are written to the file from it, and fresh records are read from it.
// Byte p of the stream stands at buf[p mod len(buf)].
//
// It has one writer, the caller of Append, and any number of readers. Readers copy what lies in the window [low, high).
// The writer fills bytes outside the window without a lock and moves the ends of the window under it: low before bytes
// are overwritten, high after they are written.
//
// Invariant: the bytes from the last page boundary to the end of the log stand in buf, in the window or not.
type ring struct {
	max int    // largest size, a power of two; immutable
	buf []byte // a power of two; replaced by the writer, under mu

	mu        sync.RWMutex
	low, high store.Position // guarded by mu; the window is empty while low > high
	lost      atomic.Uint64  // as low, for a look without mu
}

// makeRing returns a ring that grows to at least size bytes.
func makeRing(size int) *ring {
	r := &ring{max: minRing}
	for r.max < size {
		r.max *= 2
	}
	r.buf = make([]byte, min(newRing, r.max))
	return r
}

// load makes the ring hold b, less than a page that ends at end, and nothing else.
func (r *ring) load(end store.Position, b []byte) {
	r.low, r.high = end-store.Position(len(b)), end
	r.lost.Store(uint64(r.low))
	r.put(r.low, b)
}

// begin makes the ring as large as it may be to take a frame of n bytes at pos, the end of the log, without giving up
// what it holds.
func (r *ring) begin(pos store.Position, n int) {
	keep := min(r.low, pageFloor(pos))
	size := len(r.buf)
	for size < r.max && pageCeil(pos+store.Position(n))-keep > store.Position(size) {
		size *= 2
	}
	if size == len(r.buf) {
		return
	}
	grown := ring{buf: make([]byte, size)}
	for p := keep; p < pos; {
		piece := r.piece(p, pos)
		grown.put(p, piece)
		p += store.Position(len(piece))
	}
	r.mu.Lock()
	r.buf = grown.buf
	r.mu.Unlock()
}

// evict takes what stands in the place of the bytes below to out of the window.
func (r *ring) evict(to store.Position) {
	size := store.Position(len(r.buf))
	if to <= r.low+size {
		return
	}
	low := to - size + size/ringStep
	r.lost.Store(uint64(low))
	r.mu.Lock()
	r.low = low
	r.mu.Unlock()
}

// put copies b to position pos. Caller has evicted what stands there.
func (r *ring) put(pos store.Position, b []byte) {
	n := copy(r.buf[pos&store.Position(len(r.buf)-1):], b)
	copy(r.buf, b[n:])
}

// zero fills [from, to). Caller has evicted what stands there.
func (r *ring) zero(from, to store.Position) {
	for from < to {
		piece := r.piece(from, to)
		clear(piece)
		from += store.Position(len(piece))
	}
}

// piece returns the bytes from position from on that stand side by side, at most those below to, and at least one.
func (r *ring) piece(from, to store.Position) []byte {
	at := from & store.Position(len(r.buf)-1)
	return r.buf[at:min(at+(to-from), store.Position(len(r.buf)))]
}

// publish lets readers have what was put below high.
func (r *ring) publish(high store.Position) {
	r.mu.Lock()
	r.high = high
	r.mu.Unlock()
}

// record appends the record at pos to dst if the window holds all of it. It is not verified.
func (r *ring) record(pos store.Position, dst []byte) ([]byte, bool) {
	if uint64(pos) < r.lost.Load() {
		return dst, false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if pos < r.low || pos+store.RecordOverhead > r.high {
		return dst, false
	}
	var envelope [store.RecordOverhead]byte
	r.copyTo(envelope[:], pos)
	n, err := store.RecordLen(envelope[:])
	if err != nil || store.Position(n) > r.high-pos {
		return dst, false
	}
	first := r.piece(pos, pos+store.Position(n))
	dst = append(dst, first...)
	return append(dst, r.buf[:n-len(first)]...), true
}

// span appends the bytes [from, to) to dst if the window holds all of them.
func (r *ring) span(from, to store.Position, dst []byte) ([]byte, bool) {
	if uint64(from) < r.lost.Load() {
		return dst, false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if from < r.low || to > r.high {
		return dst, false
	}
	first := r.piece(from, to)
	dst = append(dst, first...)
	return append(dst, r.buf[:int(to-from)-len(first)]...), true
}

// copyTo fills b with the bytes at pos. Caller holds mu.
func (r *ring) copyTo(b []byte, pos store.Position) {
	n := copy(b, r.buf[pos&store.Position(len(r.buf)-1):])
	copy(b[n:], r.buf)
}

func pageFloor(p store.Position) store.Position { return p &^ (pageSize - 1) }
func pageCeil(p store.Position) store.Position  { return (p + pageSize - 1) &^ (pageSize - 1) }

// extend makes b longer by n bytes, whose contents are left to the caller to write.
func extend(b []byte, n int) []byte {
	if n <= cap(b)-len(b) {
		return b[:len(b)+n]
	}
	return append(b, make([]byte, n)...)
}
