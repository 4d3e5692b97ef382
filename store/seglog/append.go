package seglog

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/spoolmq/spool/store"
)

// Append writes one frame.
//
//	append:stage  nothing of a small frame is in the stage
//	append:write  nothing of a large frame is in the file
//	append:piece  some pages of it are; the next Open finds a frame that does not verify, and drops it
//	append:done   all of it is in the stage or the file; the next Open finds it unless power is lost
//
// A payload that Room does not cover makes the log grow, and answers Grow's error with nothing written.
func (l *Log) Append(p store.Payload) (store.Position, error) {
	if err := l.usable(); err != nil {
		return 0, err
	}
	size, err := frameSize(p)
	if err != nil {
		return 0, err
	}
	seg, at, err := l.place(size)
	if err != nil {
		return 0, err
	}
	crc := store.PutFrameHeader(l.appending.header[:], store.FrameHeader{
		Size: uint32(size), Payload: uint32(p.Len), Pos: at.pos, Synced: l.Synced(), Prev: at.crc,
		Epoch: l.info.Epoch, Heads: p.Heads, Records: p.Records,
	}, seg.salt)
	end := at.pos + store.Position(size)
	l.stage.mu.Lock()
	defer l.stage.mu.Unlock()
	most := l.mostStaged()
	if end-store.Position(l.stage.written.Load()) > store.Position(most) {
		if err := l.writeStaged(seg, at.pos); err != nil {
			return 0, err
		}
	}
	if l.stage.to != nil && size <= min(stageMost, most) {
		err = l.stageFrame(at.pos, end, p.Parts)
	} else {
		err = l.writeFrame(seg, at.pos, end, p.Parts)
	}
	if err != nil {
		return 0, l.fail(fmt.Errorf("write %d bytes to %s at %d: %w", size, seg.path, offset(seg.base, at.pos), err))
	}
	l.step(stepAppendDone)
	l.ring.publish(end)
	l.advance(tail{pos: end, crc: crc, base: seg.base})
	return at.pos, nil
}

// frameSize returns the size of the frame for p. What it refuses is a fault of the caller.
func frameSize(p store.Payload) (int, error) {
	n := 0
	for _, part := range p.Parts {
		n += len(part)
	}
	if n != p.Len {
		return 0, fmt.Errorf("payload of %d bytes says it has %d", n, p.Len)
	}
	if n > store.MaxFrameSize-store.FrameHeaderSize {
		return 0, fmt.Errorf("payload of %d bytes, limit %d", n, store.MaxFrameSize-store.FrameHeaderSize)
	}
	return store.FrameSize(n), nil
}

// place returns the segment that the next frame goes to, and the tail before it. It rolls when the frame does not fit.
func (l *Log) place(size int) (*segment, tail, error) {
	for {
		l.segs.mu.Lock()
		seg, next, at := l.segs.last(), l.segs.next, l.segs.tail
		l.segs.mu.Unlock()
		if at.pos+store.Position(size) <= seg.limit() {
			return seg, at, nil
		}
		if next == nil || next.capacity() < int64(size) {
			if err := l.Grow(int64(size)); err != nil {
				return nil, tail{}, err
			}
			continue
		}
		if err := l.roll(at); err != nil {
			return nil, tail{}, l.fail(err)
		}
	}
}

// roll begins to write the prepared segment.
//
//	roll:sync    the log is as it was
//	roll:header  the last segment but one is durable; the next one still says that it holds nothing
//	roll:switch  it has a header and no frame: the next Open goes on writing there, or does without it
//	roll:done    likewise
//
// The header's page is made durable by the same sync as the first frame. Until then the file may read as what it was
// before, prepared or below the log start, and the frame in it was never reported to be safe.
func (l *Log) roll(at tail) error {
	if err := l.flush(); err != nil {
		return err
	}
	l.step(stepRollSync)
	if err := l.syncOlder(); err != nil {
		return err
	}
	l.segs.mu.Lock()
	seg, next := l.segs.last(), l.segs.next
	l.segs.next = nil
	l.segs.hold(next)
	l.segs.mu.Unlock()

	empty := seg.base == at.pos
	h := next.header
	h.kind, h.base, h.prev, h.epoch = kindUsed, at.pos, seg.base, l.info.Epoch
	if empty {
		h.prev = seg.prev
	}
	h.salt = newSalt(next.salt)
	l.appending.use++
	h.use = l.appending.use
	l.step(stepRollHeader)
	if err := l.writeHeader(next, h, empty); err != nil {
		l.segs.mu.Lock()
		l.segs.retired = append(l.segs.retired, next) // Close finds it there
		l.segs.mu.Unlock()
		return fmt.Errorf("write header of %s: %w", next.path, err)
	}
	l.step(stepRollSwitch)
	if empty {
		return l.replace(next, h)
	}
	l.switchTo(next, h, at)
	l.step(stepRollDone)
	return nil
}

// writeHeader makes a segment say that it is in use.
func (l *Log) writeHeader(s *segment, h header, durably bool) error {
	f, err := s.open(l.files)
	if err != nil {
		return err
	}
	if err := l.write(f, encodeHeader(h), 0); err != nil || !durably {
		return err
	}
	l.syncs.Add(1)
	return f.Sync()
}

// switchTo makes next the segment that is written.
func (l *Log) switchTo(next *segment, h header, at tail) {
	l.segs.mu.Lock()
	seg := l.segs.last()
	next.header = h
	seg.end = at
	l.segs.list = append(l.segs.list, next)
	synced := l.segs.durable.pos >= at.pos
	if !synced {
		l.segs.older = seg
	}
	l.setRooms()
	l.segs.mu.Unlock()
	if synced {
		l.unpin(seg)
	}
	l.rolled()
}

// replace gives up the last segment, which is empty and too small for the frame to come, for one with the same base.
// The header of the new one is durable, so at any time one of them is there to begin at that base, and the one that was
// begun later counts. The old one is removed, not recycled: what it says must not outlive the other. A Drop may be about to
// sync the old one: it is removed when no sync is under way, and none finds it later.
func (l *Log) replace(next *segment, h header) error {
	l.space.mu.Lock()
	defer l.space.mu.Unlock()
	l.syncing.mu.Lock()
	defer l.syncing.mu.Unlock()
	l.segs.mu.Lock()
	seg := l.segs.last()
	next.header = h
	l.segs.list = append(l.segs.list[:len(l.segs.list)-1:len(l.segs.list)-1], next)
	l.setRooms()
	l.segs.mu.Unlock()
	err := l.remove(seg)
	if !noDescriptors(err) {
		return err
	}
	l.segs.mu.Lock()
	seg.dropped = true // it is removed when there are descriptors again
	l.segs.retired = append(l.segs.retired, seg)
	l.segs.mu.Unlock()
	l.unpin(seg)
	return nil
}

// newSalt returns random bytes other than the salt before.
func newSalt(before uint32) uint32 {
	var b [4]byte
	for {
		rand.Read(b[:])
		if salt := binary.LittleEndian.Uint32(b[:]); salt != before {
			return salt
		}
	}
}

// writeFrame puts header, parts and padding into the ring and from there into the file, behind what is staged. A frame
// that is larger than the ring goes through it in pieces. Caller holds stage.mu.
func (l *Log) writeFrame(seg *segment, pos, end store.Position, parts [][]byte) error {
	w, last, err := l.frameWriter(seg, pos, end)
	if err != nil {
		return err
	}
	l.ring.begin(pos, int(end-pos))
	if err := w.add(l.appending.header[:]); err != nil {
		return err
	}
	for _, part := range parts {
		if err := w.add(part); err != nil {
			return err
		}
	}
	if last > w.written+store.Position(len(l.ring.buf)) {
		if err := w.flush(pageFloor(w.at)); err != nil {
			return err
		}
	}
	l.ring.evict(last)
	l.ring.zero(w.at, last)
	l.step(stepAppendWrite)
	if err := w.flush(last); err != nil {
		return err
	}
	l.wrote(end)
	return nil
}

// frameWriter prepares to write what is staged, up to pos, and frames from there up to end. last is where the writing
// ends: what follows the frames in their last page is zero. Pages that held something else before are written whole the
// first time, since parts of pages that are not in the page cache would have to be read first; the head of such a page is
// still in the ring. Caller holds stage.mu.
func (l *Log) frameWriter(seg *segment, pos, end store.Position) (w frameWriter, last store.Position, err error) {
	f, err := seg.open(l.files)
	if err != nil {
		return w, 0, err
	}
	from := store.Position(l.stage.written.Load())
	w = frameWriter{l: l, seg: seg, file: f, written: pageFloor(from), at: pos}
	last = pageCeil(end)
	if seg.blank || from == l.stage.warm && from != seg.base {
		w.written = from
		if seg.blank || last == pageCeil(from) {
			last = end // zeros follow already
		}
	}
	return w, last, nil
}

// A frameWriter moves frames through the ring.
type frameWriter struct {
	l       *Log
	seg     *segment
	file    vfile
	written store.Position // what is below is in the file
	at      store.Position // what is below is in the ring
}

func (w *frameWriter) add(b []byte) error {
	for len(b) > 0 {
		free := w.written + store.Position(len(w.l.ring.buf)) - w.at
		if free == 0 {
			if err := w.flush(pageFloor(w.at)); err != nil {
				return err
			}
			w.l.step(stepAppendPiece)
			continue
		}
		n := min(len(b), int(free))
		w.l.ring.evict(w.at + store.Position(n))
		w.l.ring.put(w.at, b[:n])
		w.at += store.Position(n)
		b = b[n:]
	}
	return nil
}

// flush writes the pages below to.
func (w *frameWriter) flush(to store.Position) error {
	for w.written < to {
		piece := w.l.ring.piece(w.written, to)
		at := pageSize + int64(w.written) - int64(pageFloor(w.seg.base))
		if err := w.l.write(w.file, piece, at); err != nil {
			return err
		}
		w.written += store.Position(len(piece))
	}
	return nil
}

// advance makes t the end of the log, and has the next segment prepared when this one is half full.
func (l *Log) advance(t tail) {
	l.segs.mu.Lock()
	l.segs.tail = t
	l.end.Store(uint64(t.pos))
	l.setRooms()
	seg := l.segs.last()
	want := l.segs.next == nil && !l.space.starved.Load() && int64(t.pos-seg.base) > seg.capacity()/2
	l.segs.mu.Unlock()
	if want {
		l.space.wake()
	}
}
