package seglog

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"

	"github.com/spoolmq/spool/store"
)

// A Find is a record that Read has met. Its slices are valid during the call only.
type Find struct {
	store.Record
	Pos    store.Position // in the log; only of records in frames that verify
	File   string
	Offset int64
	Framed bool // it stands in a frame that verifies
	Rotten bool // its head is whole and its body is not; only of framed ones
}

// A Reader is what Read calls. All fields must be set. An error of Record ends the reading.
type Reader struct {
	Record    func(Find) error
	Frame     func() // a frame header verifies
	Fault     func(Fault)
	Plausible func(typ byte, head []byte) bool // tells a record head from other bytes
	Message   func(typ byte) bool              // a record of this type holds a message
	Progress  func(done int64) error           // bytes of Size that have been gone through; an error ends the reading
}

// A reading goes through the pieces of a survey.
type reading struct {
	*Survey
	Reader
	file   excerpt
	seg    *piece
	pos    store.Position // end of the last frame
	before order
	end    store.Position // of the frames of seg at the latest
	exact  bool           // they go on until there
	shown  store.Position // of the last staged frame that was found behind damage in seg
	done   int64          // bytes of pieces that are behind
	upTo   store.Position
}

// Read goes through every frame of the log below upTo, in order, and on behind what is damaged: the next frame is
// searched by its magic and salted checksum, and in what lies between records are searched by their own. The checksum of
// a record has no salt, so a body may hold what looks like one: behind a record whose length cannot be trusted only
// messages are taken, nothing that changes or ends one. Frames and records are met once, in the order of the log.
//
// Memory is bounded by the largest frame (64 MiB), work by sixteen times what is damaged.
func (s *Survey) Read(upTo store.Position, v Reader) error {
	r := &reading{Survey: s, Reader: v, before: order{any: true}, upTo: upTo}
	r.pos = s.mark.start
	for i, p := range s.pieces {
		if p.base >= upTo {
			break
		}
		end, exact := r.endOf(i)
		if i > 0 || s.marked {
			p.reach(r.pos)
		}
		if p.base > r.pos && (i > 0 || s.marked) {
			r.Fault(Fault{filepath.Join(s.dir, logName), 0, int64(p.base - r.pos), fmt.Sprintf("positions %d to %d are in no file", r.pos, p.base)})
			r.before.any = true
		}
		if err := r.segment(p, end, exact); err != nil {
			return err
		}
		r.done += p.length
		if err := r.Progress(r.done); err != nil {
			return err
		}
	}
	if s.marked && r.pos < min(s.mark.durable.pos, upTo) {
		r.Fault(Fault{filepath.Join(s.dir, logName), 0, int64(s.mark.durable.pos - r.pos),
			fmt.Sprintf("ends at position %d, and was durable to %d", r.pos, s.mark.durable.pos)})
	}
	return nil
}

// endOf tells where the frames of a piece end at the latest, and whether they are known to go on until there.
func (r *reading) endOf(i int) (end store.Position, exact bool) {
	p := r.pieces[i]
	end = p.limit()
	if p.guessed {
		end = math.MaxUint64
	}
	if i+1 < len(r.pieces) {
		next := r.pieces[i+1]
		if next.base < end || next.base == end {
			return min(next.base, r.upTo), next.prev == p.base || next.guessed || p.guessed && next.prev <= p.base
		}
	}
	return min(end, r.upTo), r.upTo <= end
}

// segment reads the frames of one piece, which end at end, or anywhere before when that is not exact.
func (r *reading) segment(p *piece, end store.Position, exact bool) error {
	f, err := p.open(r.files)
	if err != nil {
		return err
	}
	defer p.close()
	r.seg, r.file = p, excerpt{f: f, path: p.path, buf: r.file.buf[:0]}
	if p.base > r.pos {
		r.pos = p.base
	}
	r.end, r.exact, r.shown = end, exact, 0
	at := p.from + int64(r.pos-p.base)
	if _, reason, err := r.frame(at, end); err != nil {
		return err
	} else if reason != "" && !p.guessed {
		at = max(min(at, pageSize), at-max(0, p.size-p.length)) // what is missing may have been before it
	}
	for r.pos < end {
		r.show(r.pos, at, end, r.before)
		h, reason, err := r.frame(at, end)
		if err != nil {
			return err
		}
		if reason == "" {
			if at, err = r.take(h, at); err != nil || at < 0 {
				return err
			}
			continue
		}
		next, err := r.behind(at + 1)
		if err != nil {
			return err
		}
		if d := r.mark.durable.pos; next < 0 && !exact && (d <= r.pos || d > end) {
			return nil // this is where the log ends, or where a file is missing
		}
		if at, err = r.gap(at, at, next, reason); err != nil || next < 0 {
			return err
		}
	}
	return nil
}

// behind returns the offset of the first frame from an offset on that stands in the file or was staged, -1 when there is none.
// What is at r.pos itself is not looked for in the stage.
func (r *reading) behind(at int64) (int64, error) {
	next, err := r.search(at, r.end)
	if err != nil {
		return 0, err
	}
	pos, ok := r.stage.next(r.seg.salt, max(r.pos+1, r.mark.durable.pos, r.shown+1), r.end)
	if staged := r.seg.offset(pos); ok && (next < 0 || staged < next) && r.show(pos, staged, r.end, order{any: true, epoch: r.before.epoch}) {
		next, r.shown = staged, pos
	}
	return next, nil
}

// show makes the frame at a position appear at an offset of the piece, if one that continues before was staged, and tells
// whether there is one. Like Open it does so only where the file has another one, or none, and not where the log is durable.
func (r *reading) show(pos store.Position, at int64, end store.Position, before order) bool {
	h, b, ok := r.stage.frame(r.seg.salt, pos, end)
	if !ok || pos < r.mark.durable.pos || before.next(h) != nil {
		return false
	}
	if there, err := r.file.bytes(at, len(b)); err == nil && !bytes.Equal(there, b) {
		r.file.f = r.seg.patch(at, b)
		r.file.buf = r.file.buf[:0]
		r.seg.length = max(r.seg.length, at+int64(len(b)))
	}
	return true
}

// frame looks at the header at an offset. reason says why what stands there is no frame.
func (r *reading) frame(at int64, end store.Position) (h store.FrameHeader, reason string, err error) {
	b, err := r.file.bytes(at, store.FrameHeaderSize)
	if err != nil {
		return h, "", err
	}
	h, bad := store.ParseFrameHeader(b, r.seg.salt)
	switch {
	case bad != nil:
		return h, bad.Error(), nil
	case h.Pos < r.pos || h.Pos >= end || store.Position(h.Size) > end-h.Pos:
		return h, fmt.Sprintf("frame says it is at position %d with %d bytes, want one from %d to %d", h.Pos, h.Size, r.pos, end), nil
	case at+int64(h.Size) > r.seg.length:
		return h, fmt.Sprintf("frame of %d bytes, the file has %d of it", h.Size, r.seg.length-at), nil
	}
	return h, "", nil
}

// take hands on the records of a frame and returns where the next one begins, -1 when there is none.
func (r *reading) take(h store.FrameHeader, at int64) (int64, error) {
	r.Frame()
	if h.Pos > r.pos && !r.before.any {
		r.Fault(Fault{r.seg.path, at, 0, fmt.Sprintf("positions %d to %d are missing here", r.pos, h.Pos)})
		r.before.any = true
	}
	if err := r.before.next(h); err != nil {
		r.Fault(Fault{r.seg.path, at, store.FrameHeaderSize, err.Error()})
		r.before = order{crc: h.CRC, epoch: max(h.Epoch, r.before.epoch)}
	}
	r.epoch = max(r.epoch, h.Epoch)
	b, err := r.file.bytes(at, int(h.Size))
	if err != nil {
		return 0, err
	}
	next := at + int64(h.Size)
	if err := r.Progress(r.done + next); err != nil {
		return 0, err
	}
	payload := b[store.FrameHeaderSize:][:h.Payload]
	if bad := store.CheckHeads(h, payload, false); bad != nil {
		if next, err = r.after(h, at, at+store.FrameHeaderSize); err != nil {
			return 0, err
		}
		return r.gap(at, at, next, bad.Error())
	}
	r.pos = h.Pos + store.Position(h.Size)
	off, rotten := int64(store.FrameHeaderSize), int64(0) // rotten is where the last records begin to be
	for len(payload) > 0 {
		rec, rest, err := store.NextRecord(payload)
		if err != nil {
			return 0, err // the heads have just been verified
		}
		bad := rec.Verify()
		if bad == nil {
			rotten = 0
		} else {
			r.Fault(Fault{r.seg.path, at + off, int64(rec.Size()), bad.Error()})
			rotten = cmp.Or(rotten, at+off)
		}
		if err := r.Record(Find{rec, h.Pos + store.Position(off), r.seg.path, at + off, true, bad != nil}); err != nil {
			return 0, err
		}
		off += int64(rec.Size())
		payload = rest
	}
	if rotten == 0 {
		return next, nil
	}
	// Bytes may be missing in the body: then what comes next stands earlier than it should.
	if ok, err := r.follows(next); err != nil || ok || r.pos >= r.end {
		return next, err
	}
	found, err := r.after(h, at, rotten)
	if err != nil {
		return 0, err
	}
	if ok, err := r.follows(next); err != nil {
		return 0, err
	} else if ok { // it was staged
		return next, r.salvage(rotten, at+store.FrameHeaderSize, next)
	}
	return r.gap(rotten, at, found, "the frame behind is not where it should be")
}

// follows tells whether the frame that is expected stands at an offset.
func (r *reading) follows(at int64) (bool, error) {
	h, reason, err := r.frame(at, r.end)
	return reason == "" && h.Pos == r.pos, err
}

// after returns the offset of the frame behind a damaged one at an offset. Where that one ends is not certain: bytes may be
// missing in it. The next one is searched from another offset on.
func (r *reading) after(h store.FrameHeader, at, search int64) (int64, error) {
	r.pos = h.Pos + store.FrameHeaderSize
	next, err := r.behind(search)
	if r.pos = h.Pos + store.Position(h.Size); err == nil && next < 0 && !r.exact {
		next = at + int64(h.Size)
	}
	return next, err
}

// search returns the offset of the next frame from one on, -1 when there is none.
func (r *reading) search(at int64, end store.Position) (int64, error) {
	var magic [4]byte
	binary.LittleEndian.PutUint32(magic[:], store.FrameMagic)
	for {
		b, err := r.file.some(at)
		if err == nil {
			err = r.Progress(r.done + at)
		}
		if err != nil || len(b) < store.FrameHeaderSize {
			return -1, err
		}
		i := bytes.Index(b[:len(b)-store.FrameHeaderSize+len(magic)], magic[:])
		if i < 0 {
			at += int64(len(b) - store.FrameHeaderSize + 1)
			continue
		}
		at += int64(i)
		if _, reason, err := r.frame(at, end); err != nil || reason == "" {
			return at, err
		}
		at++
	}
}

// gap reports what lies from an offset to the next frame, or to the end, and takes the records in it. A frame was
// expected, or has begun, at another offset. It returns next.
func (r *reading) gap(from, at, next int64, reason string) (int64, error) {
	to := next
	if next < 0 {
		end := r.end
		if !r.exact {
			end = min(end, r.mark.durable.pos)
		}
		to = r.seg.offset(end)
		r.pos = max(r.pos, end)
	}
	to = min(to, r.seg.length)
	r.Fault(Fault{r.seg.path, from, max(0, to-from), reason})
	r.before.any = true
	return next, r.salvage(from, at+store.FrameHeaderSize, to)
}

// offset is where position p should stand.
func (p *piece) offset(pos store.Position) int64 {
	return p.from + int64(min(pos-p.base, math.MaxInt32<<8))
}

// salvage hands on the records between two offsets that verify. One begins at begin, if nothing has been moved.
func (r *reading) salvage(at, begin, to int64) error {
	work := 16*max(0, to-at) + store.MaxFrameSize
	trusted := false // at is where a record begins
	for looks := 1; at+store.RecordOverhead <= to; looks++ {
		if looks%scanSize == 0 {
			if err := r.Progress(r.done + at); err != nil {
				return err
			}
		}
		trusted = trusted || at == begin
		rec, ok, err := r.record(at, to, trusted, &work)
		if err != nil {
			return err
		}
		if !ok {
			trusted = false
			at++
			continue
		}
		if err := r.Record(Find{Record: rec, File: r.seg.path, Offset: at}); err != nil {
			return err
		}
		at += int64(rec.Size())
	}
	return nil
}

// record returns the record at an offset if one stands there. Bound: work, bytes that may still be looked at in vain.
func (r *reading) record(at, to int64, trusted bool, work *int64) (rec store.Record, ok bool, err error) {
	b, err := r.file.bytes(at, store.RecordOverhead)
	if err != nil {
		return rec, false, err
	}
	n, bad := store.RecordLen(b)
	typ, head := byte(0), 0
	if bad == nil {
		typ, head = b[4], int(b[5])|int(b[6])<<8|int(b[7])<<16
	}
	if bad != nil || int64(n) > to-at || !trusted && !r.Message(typ) || *work < int64(head) {
		return rec, false, nil
	}
	if b, err = r.file.bytes(at, store.RecordOverhead+head); err != nil || len(b) < store.RecordOverhead+head {
		return rec, false, err
	}
	*work -= int64(head)
	if !r.Plausible(typ, b[store.RecordOverhead:]) || *work < int64(n) {
		return rec, false, nil
	}
	*work -= int64(n)
	if b, err = r.file.bytes(at, n); err != nil {
		return rec, false, err
	}
	rec, _, bad = store.NextRecord(b)
	return rec, bad == nil && rec.Verify() == nil, nil
}

// An excerpt shows parts of a file through one buffer.
type excerpt struct {
	f    vfile
	path string
	buf  []byte // bytes of the file from at on
	at   int64
}

// bytes returns n bytes from an offset on, fewer at the end of the file. They are valid until the next call.
func (w *excerpt) bytes(at int64, n int) ([]byte, error) {
	if at < w.at || at+int64(n) > w.at+int64(len(w.buf)) {
		if cap(w.buf) < n || cap(w.buf) < scanSize {
			w.buf = make([]byte, 0, max(n, scanSize))
		}
		got, err := readUpTo(w.f, w.buf[:cap(w.buf)], at)
		if w.at, w.buf = at, w.buf[:got]; err != nil {
			w.buf = w.buf[:0]
			return nil, fmt.Errorf("read %s at %d: %w", w.path, at, err)
		}
	}
	b := w.buf[at-w.at:]
	return b[:min(n, len(b))], nil
}

// some returns what is at hand from an offset on, at least a frame header unless the file ends.
func (w *excerpt) some(at int64) ([]byte, error) {
	if b, err := w.bytes(at, store.FrameHeaderSize); err != nil || len(b) < store.FrameHeaderSize {
		return b, err
	}
	return w.buf[at-w.at:], nil
}
