package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/spoolmq/spool/store"
)

// Format: STAGE holds small frames until they go to their segment, many of them in one write. It is mapped into memory,
// so what is copied there survives the death of the process like what was written, without a system call. Byte p of the
// stream stands at p mod stageSize. Nothing says which bytes count: a frame in it is taken where the segment has none,
// and only if it verifies there, with the salt of the segment, its position, the checksum of the frame before it and an
// epoch that is not lower. After power loss it may hold anything that it ever held, or not be there.
//
// Every byte that is reported to be on stable storage is in its segment: a sync begins with what is staged. So the file
// is never synced, and a log that was closed cleanly does not look at it.
const (
	stageName = "STAGE"
	stageSize = 64 << 10
	stageMost = 4 << 10 // larger frames are written at once: a system call costs less than to copy them
)

// A mapping is a file in memory that everybody sees who reads the file.
type mapping interface {
	// Put copies b to an offset. A fault of the memory is an error.
	Put(b []byte, at int64) error
	Close() error
}

// A stage is where frames wait for their segment.
//
// Invariant: what is staged and not yet written is the end of the log, lies in the last segment, and stands in the ring's
// window.
type stage struct {
	mu      sync.Mutex     // held while frames are staged or written
	to      mapping        // nil when every frame is written at once; immutable after Open
	warm    store.Position // guarded by mu; the end of the last frames that this process has written
	written atomic.Uint64  // changed under mu; the position below which all is in segments
}

// openStage makes the stage ready. Without it the log is slower and no less safe, so what is in its way is no error.
func (l *Log) openStage() {
	to, err := l.files.Map(filepath.Join(l.dir, stageName), stageSize)
	if err != nil {
		if !errors.Is(err, errors.ErrUnsupported) {
			l.o.Logger.Warn("frames are written one by one", "dir", l.dir, "err", err)
		}
		return
	}
	l.stage.to = to
}

// mostStaged is how many bytes may be staged, or written together with what is: so many that the ring keeps them, with the
// rest of the pages that they begin and end in. Caller holds stage.mu.
func (l *Log) mostStaged() int {
	return min(stageSize, len(l.ring.buf)-len(l.ring.buf)/8-2*pageSize)
}

// stageFrame puts header, parts and padding into the ring and the stage. Caller holds stage.mu.
func (l *Log) stageFrame(pos, end store.Position, parts [][]byte) error {
	l.step(stepAppendStage)
	l.ring.begin(pos, int(end-pos))
	l.ring.evict(end)
	at := pos
	for i := -1; i <= len(parts); i++ {
		b := l.appending.header[:]
		switch {
		case i == len(parts):
			b = padding[:end-at]
		case i >= 0:
			b = parts[i]
		}
		l.ring.put(at, b)
		if err := l.stage.put(at, b); err != nil {
			return err
		}
		at += store.Position(len(b))
	}
	return nil
}

var padding [store.FrameAlign]byte

// put copies b, which is not longer than a frame that is staged, to position pos.
func (s *stage) put(pos store.Position, b []byte) error {
	at := int64(pos % stageSize)
	n := min(int64(len(b)), stageSize-at)
	if n > 0 {
		if err := s.to.Put(b[:n], at); err != nil {
			return err
		}
	}
	if b = b[n:]; len(b) > 0 {
		return s.to.Put(b, 0)
	}
	return nil
}

// clearStage makes a stage of which everything is on stable storage read as zeros.
func (l *Log) clearStage() error {
	l.stage.mu.Lock()
	defer l.stage.mu.Unlock()
	if l.stage.to == nil {
		return nil
	}
	if err := l.stage.to.Put(make([]byte, stageSize), 0); err != nil {
		return l.fail(fmt.Errorf("clear the stage: %w", err))
	}
	return nil
}

// flush writes what is staged to its segment.
//
//	flush:write  the frames are in the stage, and the segment has nothing or part of them
//	flush:done   both have them; the stage may be used for others
func (l *Log) flush() error {
	l.stage.mu.Lock()
	defer l.stage.mu.Unlock()
	l.segs.mu.Lock()
	seg, end := l.segs.last(), l.segs.tail.pos
	l.segs.mu.Unlock()
	return l.writeStaged(seg, end)
}

// writeStaged is flush. All that is staged lies below pos, the end of the log. Caller holds stage.mu.
func (l *Log) writeStaged(seg *segment, pos store.Position) error {
	from := store.Position(l.stage.written.Load())
	if from >= pos {
		return nil
	}
	if err := l.usable(); err != nil {
		return err
	}
	w, last, err := l.frameWriter(seg, pos, pos)
	if err == nil {
		l.ring.evict(last)
		l.ring.zero(pos, last)
		l.step(stepFlushWrite)
		err = w.flush(last)
	}
	if err != nil {
		return l.fail(fmt.Errorf("write %d bytes to %s at %d: %w", pos-from, seg.path, offset(seg.base, from), err))
	}
	l.wrote(pos)
	l.step(stepFlushDone)
	return nil
}

// wrote notes that all below end is in segments. Caller holds stage.mu.
func (l *Log) wrote(end store.Position) {
	l.stage.warm = end
	l.stage.written.Store(uint64(end))
}

// inFile returns up to where a segment's file may be read for what stands at pos, of frames that end at to: what is
// staged goes there first when it is wanted.
func (l *Log) inFile(pos, to store.Position) (store.Position, error) {
	if pos >= store.Position(l.stage.written.Load()) {
		if err := l.flush(); err != nil {
			return 0, err
		}
	}
	return min(to, store.Position(l.stage.written.Load())), nil
}

// leftovers is what a process that did not close its log has left in the stage. It is nil when there is none.
type leftovers []byte

// readStage reads the stage, unless the log was closed cleanly. A shorter file was left behind in the making: it has no frame.
func readStage(v vfs, dir string, m mark) (leftovers, error) {
	if m.clean {
		return nil, nil
	}
	b, err := readFile(v, filepath.Join(dir, stageName), stageSize)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) < stageSize {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return b[:stageSize], nil
}

// bytes returns a copy of n bytes at pos.
func (s leftovers) bytes(pos store.Position, n int) []byte {
	at := int(pos % stageSize)
	b := append(make([]byte, 0, n), s[at:min(at+n, stageSize)]...)
	return append(b, s[:n-len(b)]...)
}

// frame returns the frame at pos of a segment, header included, if there is one that ends at or below to and all of it
// verifies.
func (s leftovers) frame(salt uint32, pos, to store.Position) (h store.FrameHeader, b []byte, ok bool) {
	if s == nil {
		return h, nil, false
	}
	if at := pos % stageSize; binary.LittleEndian.Uint32(s[at:]) != store.FrameMagic {
		return h, nil, false
	}
	h, err := store.ParseFrameHeader(s.bytes(pos, store.FrameHeaderSize), salt)
	if err != nil || h.Pos != pos || h.Synced > pos || h.Size > stageMost || pos+store.Position(h.Size) > to {
		return h, nil, false
	}
	b = s.bytes(pos, int(h.Size))
	return h, b, store.CheckHeads(h, b[store.FrameHeaderSize:][:h.Payload], true) == nil
}

// each calls f for every frame header of a segment that lies at from or behind.
func (s leftovers) each(salt uint32, from store.Position, f func(store.FrameHeader)) {
	for at := store.Position(0); at+4 <= store.Position(len(s)); at += store.FrameAlign {
		if binary.LittleEndian.Uint32(s[at:]) != store.FrameMagic {
			continue
		}
		h, err := store.ParseFrameHeader(s.bytes(at, store.FrameHeaderSize), salt)
		if err == nil && h.Pos%stageSize == at && h.Pos >= from && h.Synced <= h.Pos {
			f(h)
		}
	}
}

// next returns the position of the first frame of a segment that verifies, at from or behind and below to.
func (s leftovers) next(salt uint32, from, to store.Position) (pos store.Position, ok bool) {
	s.each(salt, from, func(h store.FrameHeader) {
		if _, _, whole := s.frame(salt, h.Pos, to); whole && (!ok || h.Pos < pos) {
			pos, ok = h.Pos, true
		}
	})
	return pos, ok
}
