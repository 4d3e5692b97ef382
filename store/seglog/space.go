package seglog

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spoolmq/spool/store"
)

const (
	minSize      = 1 << 20 // of a standard segment file
	maxSize      = 32 << 20
	freeShare    = 16               // a segment takes at most one part in freeShare of the free space
	quickFill    = 10 * time.Second // a segment filled faster than this makes the next one twice as large
	prewriteRate = 1 << 20          // bytes a second: above it, writing zeros ahead would take the disk from commits
	prewriteStep = 64 << 10         // larger pieces would leave large folios, into which small writes are slow
)

// A space takes files from the file system and gives them up. A goroutine prepares the next segment while the last one
// is filled: it starts in Open and ends in Close.
type space struct {
	mu     sync.Mutex // held while files are made or given up
	number uint64     // guarded by mu; of the next file
	ask    int64      // guarded by mu; what the latest Grow that had to take space wanted: the next ones will want it too

	size    atomic.Int64 // of a standard file
	began   atomic.Int64 // when the segment that is written was begun, ns since opened
	starved atomic.Bool  // there was no space for the next segment; a Drop or a roll makes it worth another try
	waiting atomic.Int32 // calls of Grow that wait for mu

	opened time.Time     // immutable
	signal chan struct{} // something to do; one element
	quit   chan struct{} // closed by stop
	done   chan struct{} // closed by the goroutine
}

// wake has the goroutine look for something to do. It never blocks.
func (s *space) wake() {
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// stop ends the goroutine and waits for it.
func (s *space) stop() {
	close(s.quit)
	<-s.done
}

func (l *Log) startSpace() {
	l.space.opened = time.Now()
	l.space.size.Store(minSize)
	l.space.signal = make(chan struct{}, 1)
	l.space.quit = make(chan struct{})
	l.space.done = make(chan struct{})
	go l.tend()
	if l.reserveMost > 0 {
		l.space.wake() // the reserve is filled
	}
}

// tend is the goroutine.
func (l *Log) tend() {
	defer close(l.space.done)
	thin := time.NewTimer(time.Hour)
	thin.Stop()
	defer thin.Stop()
	for {
		select {
		case <-l.space.quit:
			return
		case <-thin.C:
		case <-l.space.signal:
			l.reclaim()
			l.prepareAhead()
			l.space.mu.Lock()
			l.fillReserveAside()
			l.space.mu.Unlock()
		}
		again, err := l.thinSpares()
		if err != nil {
			l.o.Logger.Warn("removing spare segments", "dir", l.dir, "err", err)
		}
		if again > 0 {
			thin.Reset(again)
		}
	}
}

// rolled takes note that a segment is full: traffic that filled it quickly gets larger ones.
func (l *Log) rolled() {
	now := int64(time.Since(l.space.opened))
	size := l.space.size.Load()
	if now-l.space.began.Swap(now) < int64(quickFill) {
		size = min(2*size, maxSize)
	} else {
		size = max(size/2, minSize)
	}
	l.space.size.Store(size)
	l.space.starved.Store(false)
}

// prepareAhead prepares the next segment if the last one is half full.
func (l *Log) prepareAhead() {
	l.space.mu.Lock()
	defer l.space.mu.Unlock()
	l.segs.mu.Lock()
	seg, used := l.segs.last(), int64(l.segs.tail.pos-l.segs.last().base)
	want := l.segs.next == nil && used > seg.capacity()/2
	l.segs.mu.Unlock()
	if !want || l.usable() != nil {
		return
	}
	taken := time.Since(l.space.opened) - time.Duration(l.space.began.Load())
	slow := float64(used) < prewriteRate*taken.Seconds()
	n := min(l.space.ask, l.mostSize()-overhead)
	if l.o.SegmentSize > 0 {
		n = 0
	}
	if err := l.prepare(n, how{ahead: true, prewrite: slow}); err != nil {
		l.space.starved.Store(true)
		if !errors.Is(err, store.ErrNoSpace) && l.usable() == nil {
			l.o.Logger.Warn("preparing a segment", "dir", l.dir, "err", err)
		}
	}
}

// Grow makes Room at least n. It answers store.ErrNoSpace, with nothing changed and nothing left behind, when the space
// or a descriptor is not there.
func (l *Log) Grow(n int64) error {
	l.space.waiting.Add(1)
	l.space.mu.Lock()
	l.space.waiting.Add(-1)
	defer l.space.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if l.Room() >= n {
		return nil
	}
	return shortage(l.grow(n))
}

// shortage takes a want of descriptors for a want of space: it passes, and nothing is broken.
func shortage(err error) error {
	if noDescriptors(err) {
		return fmt.Errorf("%w: %v", store.ErrNoSpace, err)
	}
	return err
}

// grow is Grow when the room is less than n. Caller holds space.mu.
func (l *Log) grow(n int64) error {
	if n > maxSegmentSize-overhead {
		return fmt.Errorf("segment of %d bytes, limit %d", n, int64(maxSegmentSize-overhead))
	}
	least := n
	l.segs.mu.Lock()
	if next := l.segs.next; next != nil && next.reserved {
		least = max(n, next.capacity()) // somebody counts on it
	}
	l.segs.mu.Unlock()
	if err := l.prepare(least, how{}); err != nil {
		return err
	}
	l.space.ask = n
	l.space.starved.Store(false)
	l.space.wake() // there is space: the reserve may lack some
	return nil
}

// how is the way in which a segment is prepared.
type how struct {
	ahead    bool // nobody waits for it: it is of a standard size, or not made at all
	prewrite bool // zeros are written
}

// prepare makes next a segment that holds at least n bytes, and more than the present next. Caller holds space.mu.
func (l *Log) prepare(n int64, how how) error {
	least := n
	if how.ahead {
		least = max(n, (l.capacityFor(n)+overhead)/smallSpare-overhead)
	}
	seg := l.takeSpare(least)
	if seg == nil {
		var err error
		if seg, err = l.newSegment(n, how); err != nil {
			return err
		}
	}
	return l.install(seg)
}

// install makes a prepared segment the next one. Caller holds space.mu.
func (l *Log) install(seg *segment) error {
	if _, err := seg.open(l.files); err != nil {
		return errors.Join(err, l.remove(seg))
	}
	l.segs.mu.Lock()
	before := l.segs.next
	l.segs.next = seg
	if before != nil && before.reserved {
		l.segs.putBack(before)
		before = nil
	}
	l.setRooms()
	l.segs.mu.Unlock()
	if before == nil {
		return nil
	}
	err := l.giveUp(before)
	if err != nil {
		l.retire(before)
	}
	return err
}

// setRooms works out what Room and ReserveRoom answer. Caller holds segs.mu.
func (l *Log) setRooms() {
	l.room.Store(l.segs.room(false))
	l.reserveRoom.Store(l.segs.room(true))
}

// newSegment takes space for n bytes: a standard segment if that is enough and there is room for it. Caller holds
// space.mu.
func (l *Log) newSegment(n int64, how how) (*segment, error) {
	exact := wholePages(n)
	capacity := l.capacityFor(n)
	seg, err := l.create(capacity, how.prewrite)
	if err != nil && noSpace(err) && !how.ahead {
		dropped, dropErr := l.dropSpares()
		if dropErr != nil {
			return nil, dropErr
		}
		if dropped {
			seg, err = l.create(capacity, false)
		}
		for err != nil && noSpace(err) && capacity > exact {
			capacity = max(exact, wholePages(capacity/2))
			seg, err = l.create(capacity, false)
		}
	}
	if err != nil && noSpace(err) {
		return nil, fmt.Errorf("%s: segment of %d bytes: %w", l.logDir(), exact+overhead, store.ErrNoSpace)
	}
	return seg, err
}

// capacityFor returns the capacity of a new segment for at least n bytes.
func (l *Log) capacityFor(n int64) int64 {
	exact := wholePages(n)
	if l.o.SegmentSize > 0 {
		return max(exact, l.o.SegmentSize)
	}
	most := l.mostSize()
	size := l.space.size.Load()
	for size > most {
		size /= 2
	}
	for size-overhead < n && size <= most {
		size *= 2
	}
	if size > most {
		return exact
	}
	return size - overhead
}

// mostSize is how large a standard file may be now.
func (l *Log) mostSize() int64 {
	free, err := l.files.Free(l.dir)
	if err != nil {
		return maxSize // not known: traffic alone decides
	}
	return min(maxSize, max(free/freeShare, minSize))
}

// wholePages rounds up, to at least one page.
func wholePages(n int64) int64 { return (max(n, 1) + pageSize - 1) &^ (pageSize - 1) }

// standard tells whether a file of this size is worth keeping as a spare.
func (l *Log) standard(s *segment) bool {
	if l.o.SegmentSize > 0 {
		return s.capacity() == l.o.SegmentSize
	}
	return s.size >= minSize && s.size <= maxSize && s.size&(s.size-1) == 0
}

// create makes a file that can hold frames without taking any more space.
//
//	prepare:allocate  there is an empty file under a passing name; the next Open removes it
//	prepare:sync      likewise, of full size
//	prepare:rename    likewise, durable
//	prepare:done      it may have its name, and says that it holds nothing; the next Open keeps it as a spare
//
// Caller holds space.mu.
func (l *Log) create(capacity int64, prewrite bool) (*segment, error) {
	seg := &segment{number: l.space.number, blank: !prewrite, header: header{
		epoch: l.info.Epoch, id: l.info.SpoolID, size: capacity + overhead, kind: kindPrepared,
	}}
	seg.path = segmentPath(l.logDir(), seg.number, segmentSuffix)
	passing := segmentPath(l.logDir(), seg.number, passingSuffix)
	l.space.number++
	f, err := l.files.OpenFile(passing, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	err = l.fill(f, seg.header, prewrite)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(err, l.files.Remove(passing))
	}
	l.step(stepPrepareRename)
	if err := l.files.Rename(passing, seg.path); err != nil {
		return nil, errors.Join(err, l.files.Remove(passing))
	}
	if err := l.files.SyncDir(l.logDir()); err != nil {
		return nil, errors.Join(err, l.files.Remove(seg.path))
	}
	l.step(stepPrepareDone)
	return seg, nil
}

// fill gives a new file its space and its header, durably.
func (l *Log) fill(f vfile, h header, prewrite bool) error {
	l.step(stepPrepareAllocate)
	if err := f.Allocate(h.size); err != nil {
		return err
	}
	if prewrite {
		if err := l.prewrite(f, h.size); err != nil {
			return err
		}
	}
	if err := l.usable(); err != nil {
		return err
	}
	if err := l.write(f, encodeHeader(h), 0); err != nil {
		return err
	}
	l.step(stepPrepareSync)
	l.syncs.Add(1)
	return f.Sync()
}

// prewrite writes zeros, so that syncs of frames find blocks that hold data already. It ends early when somebody waits
// for space: the file is as good without.
func (l *Log) prewrite(f vfile, size int64) error {
	zeros := make([]byte, prewriteStep)
	for at := int64(0); at < size && l.space.waiting.Load() == 0 && !l.closed.Load(); at += prewriteStep {
		if err := l.write(f, zeros[:min(prewriteStep, size-at)], at); err != nil {
			return err
		}
	}
	return nil
}
