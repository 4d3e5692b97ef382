package seglog

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/spoolmq/spool/store"
)

const (
	segmentSuffix = ".seg"
	passingSuffix = ".tmp" // of a file that is not yet a segment
	maxIdleFiles  = 8      // Bound: open files beside the two that are written, the prepared one and those being read
)

// A segment is a file of frames.
type segment struct {
	header        // changed only by roll, while nobody else knows the segment
	number uint64 // of the file; immutable
	path   string // immutable
	blank  bool   // immutable; its space was allocated by this process and nothing but frames was ever written there

	opening sync.Mutex
	file    vfile // guarded by opening; nil when closed; stays while pins > 0
	over    bool  // guarded by opening; never opened again

	pins     int  // guarded by segs.mu; the file is not closed, reused or removed while > 0
	reserved bool // guarded by segs.mu; drawn from the reserve: not for everybody
	shared   bool // guarded by segs.mu; from its shared part
	dropped  bool // guarded by segs.mu; below the log start, waits for its last pin
	end      tail // guarded by segs.mu; of the last frame, once a later segment is written
}

// segmentPath names the file with a number.
func segmentPath(dir string, number uint64, suffix string) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", number, suffix))
}

// segmentNumber is the inverse of segmentPath for one of the suffixes.
func segmentNumber(name, suffix string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, err == nil && fmt.Sprintf("%016x", n) == digits
}

// open returns the open file. Caller has pinned the segment.
func (s *segment) open(v vfs) (vfile, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.over {
		return nil, fs.ErrClosed
	}
	if s.file == nil {
		f, err := v.OpenFile(s.path, os.O_RDWR)
		if err != nil {
			return nil, err
		}
		s.file = f
	}
	return s.file, nil
}

// close closes the file for good.
func (s *segment) close() error {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.over = true
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}

// isOver tells whether the file is closed for good.
func (s *segment) isOver() bool {
	s.opening.Lock()
	defer s.opening.Unlock()
	return s.over
}

// corrupt says that what stands at position p is not what was written.
func (s *segment) corrupt(p store.Position, reason string) error {
	return &store.CorruptError{File: s.path, Offset: offset(s.base, p), Reason: reason}
}

// segments is what a log knows of its files. Memory only: no I/O happens under mu.
type segments struct {
	mu      sync.Mutex
	list    []*segment // guarded by mu; in use, lowest first, never empty; the last one is written
	older   *segment   // guarded by mu; the one before the last while it is not known to be synced
	next    *segment   // guarded by mu; prepared, nil when there is none
	spares  []*segment // guarded by mu; dropped files to be used again; Bound: maxSpares
	reserve []*segment // guarded by mu; prepared, for when there is no space; Bound: maxShared, maxOwn and a piece
	shared  int64      // guarded by mu; bytes of the reserve that are not for who makes room alone
	retired []*segment // guarded by mu; dropped files that are still read, and files that could not be given up
	idle    []*segment // guarded by mu; open and not pinned, the longest unused first; Bound: maxIdleFiles
	tail    tail       // guarded by mu; the end of the log
	durable tail       // guarded by mu; everything below is on stable storage
}

// last is the segment that is written. Caller holds mu.
func (s *segments) last() *segment { return s.list[len(s.list)-1] }

// room is what fits with certainty, however it is divided into frames: if none of them opens the next segment, they fit
// the rest of this one; otherwise all that are left fit the next. What was drawn from the reserve counts only for those
// who may draw on it. Caller holds mu.
func (s *segments) room(reserved bool) (room int64) {
	if seg := s.last(); reserved || !seg.reserved {
		room = int64(seg.limit() - s.tail.pos)
	}
	if s.next != nil && (reserved || !s.next.reserved) {
		room = max(room, s.next.capacity())
	}
	return room
}

// find returns the index of the segment that holds position p, -1 when it is below the start. Caller holds mu.
func (s *segments) find(p store.Position) int {
	return sort.Search(len(s.list), func(i int) bool { return s.list[i].base > p }) - 1
}

// upTo returns where the frames of list[i] end. Caller holds mu.
func (s *segments) upTo(i int) store.Position {
	if i+1 < len(s.list) {
		return s.list[i+1].base
	}
	return s.tail.pos
}

// pin keeps the segment that holds position p, and tells where its frames end. It returns nil when p is below the start.
func (s *segments) pin(p store.Position) (*segment, store.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(p)
	if i < 0 {
		return nil, 0
	}
	s.hold(s.list[i])
	return s.list[i], s.upTo(i)
}

// hold adds a pin. Caller holds mu.
func (s *segments) hold(seg *segment) {
	if seg.pins == 0 {
		if i := slices.Index(s.idle, seg); i >= 0 {
			s.idle = slices.Delete(s.idle, i, i+1)
		}
	}
	seg.pins++
}

// unpin takes a pin back. It returns a file that is one too many to stay open, for the caller to close, and whether a
// dropped segment has become free.
func (s *segments) unpin(seg *segment) (surplus io.Closer, freed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seg.pins--; seg.pins > 0 {
		return nil, false
	}
	if seg.dropped {
		return nil, true
	}
	s.idle = append(s.idle, seg)
	if len(s.idle) <= maxIdleFiles {
		return nil, false
	}
	surplus = s.idle[0].detach()
	s.idle = slices.Delete(s.idle, 0, 1)
	return surplus, false
}

// detach takes the file away, for the caller to close. Caller holds segs.mu, and no pin is left.
func (s *segment) detach() io.Closer {
	s.opening.Lock()
	defer s.opening.Unlock()
	f := s.file
	s.file = nil
	if f == nil {
		return nil // a pin whose open failed
	}
	return f
}

// files returns every segment there is. Caller holds mu.
func (s *segments) files() []*segment {
	all := slices.Concat(s.list, s.spares, s.reserve, s.retired)
	if s.next != nil {
		all = append(all, s.next)
	}
	return all
}
