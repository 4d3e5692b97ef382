// Package memlog is the log of a spool in memory: for spools that need not outlive the process, and for simulation, where
// it can crash and fail on demand.
//
// It owns the frames and nothing else: no goroutine, no file, no channel and no pool, so it works inside a
// testing/synctest bubble. What would be on stable storage is what lies below the synced position.
//
// Bytes below the end of the log are never written again, and segments are given back to the garbage collector, not
// reused. So readers need no lock: they look at the end first, and whatever is below it stays as it is.
package memlog

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/spoolmq/spool/store"
)

const (
	firstSegment = 64 << 10 // each next one is twice as large
	maxSegment   = 1 << 20
	mostBytes    = 1 << 40 // Bound: capacity of one segment that Grow is asked for
)

// Options are what a log in memory can be made with. The zero value is what a spool uses.
type Options struct {
	SegmentSize int64    // capacity of every segment; 0 means 64 KB, doubling to 1 MB
	Capacity    int64    // bytes that all segments may take, store.ErrNoSpace beyond; 0 means no limit
	SpoolID     [16]byte // zero means random
	Key         [32]byte // zero means random
}

// A segment holds the frames from base on. Its bytes are written once.
type segment struct {
	base store.Position
	buf  []byte
}

func (s *segment) limit() store.Position { return s.base + store.Position(len(s.buf)) }

// A Log is a store.Log in memory.
type Log struct {
	o    Options
	info store.Info

	list   atomic.Pointer[[]*segment] // lowest first, never empty, the last one is written; replaced under mu
	start  atomic.Uint64              // written under mu
	end    atomic.Uint64              // written under mu, after the bytes below it
	synced atomic.Uint64
	room   atomic.Int64 // written under mu
	closed atomic.Bool

	mu        sync.Mutex
	next      []byte // guarded by mu; prepared by Grow, nil when there is none
	size      int64  // guarded by mu; of the next segment
	allocated int64  // guarded by mu; all segments and next
	highWater int64  // guarded by mu; what Mark was told
	clean     bool   // guarded by mu; the latest Mark was clean, and nothing has happened since
	failure   error  // guarded by mu; the first error of Append, Sync, Mark or Drop
	faults    faults // guarded by mu
	syncs     int64  // guarded by mu
	written   int64  // guarded by mu
}

// New returns an empty log.
func New(o Options) *Log {
	info := store.Info{SpoolID: o.SpoolID, Key: o.Key, Epoch: 1, Created: true}
	if info.SpoolID == [16]byte{} {
		rand.Read(info.SpoolID[:])
	}
	if info.Key == [32]byte{} {
		rand.Read(info.Key[:])
	}
	return newLog(o, info, 0)
}

// newLog returns a log without frames that begins at start.
func newLog(o Options, info store.Info, start store.Position) *Log {
	l := &Log{o: o, info: info, size: o.SegmentSize, highWater: info.HighWater}
	if l.size <= 0 {
		l.size = firstSegment
	}
	first := &segment{base: start, buf: make([]byte, l.size)}
	l.allocated = l.size
	l.list.Store(&[]*segment{first})
	l.start.Store(uint64(start))
	l.end.Store(uint64(start))
	l.synced.Store(uint64(start))
	l.setRoom()
	return l
}

// Info tells what the log knew when it was made.
func (l *Log) Info() store.Info { return l.info }

// Start is the lowest position still kept.
func (l *Log) Start() store.Position { return store.Position(l.start.Load()) }

// End is the position that the next frame will get.
func (l *Log) End() store.Position { return store.Position(l.end.Load()) }

// Synced is the position below which a crash loses nothing.
func (l *Log) Synced() store.Position { return store.Position(l.synced.Load()) }

// Room returns how many bytes of frames fit with certainty.
func (l *Log) Room() int64 { return l.room.Load() }

// ReserveRoom is Room: memory has no reserve.
func (l *Log) ReserveRoom() int64 { return l.Room() }

// Draw is Grow: memory has no reserve.
func (l *Log) Draw(n int64, _ bool) error { return l.Grow(n) }

// Left is Room: memory has no reserve.
func (l *Log) Left() int64 { return l.Room() }

// Boundaries returns the bases of the segments.
func (l *Log) Boundaries() []store.Position {
	list := *l.list.Load()
	at := make([]store.Position, len(list))
	for i, s := range list {
		at[i] = s.base
	}
	return at
}

// last is the segment that is written. Caller holds mu.
func (l *Log) last() *segment {
	list := *l.list.Load()
	return list[len(list)-1]
}

// setRoom works out what Room answers. Caller holds mu.
func (l *Log) setRoom() {
	l.room.Store(max(int64(l.last().limit()-l.End()), int64(len(l.next))))
}

// usable returns nil while calls may be made. Caller holds mu.
func (l *Log) usable() error {
	if l.closed.Load() {
		return store.ErrClosed
	}
	return l.failure
}

// Grow makes Room at least n.
func (l *Log) Grow(n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if err := l.faults.next(Grow); err != nil {
		return err
	}
	return l.grow(n)
}

// grow is Grow. Caller holds mu.
func (l *Log) grow(n int64) error {
	if l.Room() >= n {
		return nil
	}
	if n > mostBytes {
		return fmt.Errorf("segment of %d bytes, limit %d", n, int64(mostBytes))
	}
	size := max(n, l.size)
	others := l.allocated - int64(len(l.next))
	if l.o.Capacity > 0 && others+size > l.o.Capacity {
		size = n
	}
	if l.o.Capacity > 0 && others+size > l.o.Capacity {
		return fmt.Errorf("segment of %d bytes beside %d, capacity %d: %w", n, others, l.o.Capacity, store.ErrNoSpace)
	}
	l.next = make([]byte, size)
	l.allocated = others + size
	l.setRoom()
	return nil
}

// Append adds one frame.
func (l *Log) Append(p store.Payload) (store.Position, error) {
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
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return 0, err
	}
	if l.failure = l.faults.next(Append); l.failure != nil {
		return 0, l.failure
	}
	size := store.FrameSize(n)
	pos := l.End()
	if err := l.fit(pos, size); err != nil {
		return 0, err
	}
	seg := l.last()
	b := seg.buf[pos-seg.base:][:size]
	// Of the header only the lengths are kept: nothing in memory needs a checksum to be found or trusted.
	binary.LittleEndian.PutUint32(b[8:], uint32(size))
	binary.LittleEndian.PutUint32(b[12:], uint32(n))
	at := store.FrameHeaderSize
	for _, part := range p.Parts {
		at += copy(b[at:], part)
	}
	l.end.Store(uint64(pos) + uint64(size))
	l.written += int64(size)
	l.clean = false
	l.setRoom()
	if l.failure = l.faults.next(AppendUnknown); l.failure != nil {
		return 0, l.failure
	}
	return pos, nil
}

// fit begins a segment if the last one has no space for a frame. Caller holds mu.
func (l *Log) fit(pos store.Position, size int) error {
	if pos+store.Position(size) <= l.last().limit() {
		return nil
	}
	if len(l.next) < size {
		if err := l.grow(int64(size)); err != nil {
			return err
		}
	}
	list := append(slices.Clone(*l.list.Load()), &segment{base: pos, buf: l.next})
	l.next = nil
	l.list.Store(&list)
	if l.o.SegmentSize <= 0 {
		l.size = min(2*l.size, maxSegment)
	}
	return nil
}

// Sync makes everything appended survive a crash.
func (l *Log) Sync(upTo store.Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if l.Synced() >= upTo {
		return nil
	}
	l.syncs++
	if l.failure = l.faults.next(Sync); l.failure != nil {
		return l.failure
	}
	l.synced.Store(l.end.Load())
	return nil
}

// Mark keeps the time and the clean flag for the log that Crash returns.
func (l *Log) Mark(highWater int64, clean bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if l.failure = l.faults.next(Mark); l.failure != nil {
		return l.failure
	}
	if clean && l.Synced() != l.End() {
		return fmt.Errorf("clean mark of a log synced to %d that ends at %d", l.Synced(), l.End())
	}
	l.highWater = max(l.highWater, highWater)
	l.clean = clean
	return nil
}

// Drop gives up everything below before.
func (l *Log) Drop(before store.Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if before <= l.Start() {
		return nil
	}
	list := *l.list.Load()
	i := find(list, before)
	if i < 0 || list[i].base != before {
		return fmt.Errorf("drop before %d, which no segment begins at", before)
	}
	if l.failure = l.faults.next(Drop); l.failure != nil {
		return l.failure
	}
	for _, s := range list[:i] {
		l.allocated -= int64(len(s.buf))
	}
	l.synced.Store(max(l.synced.Load(), uint64(before)))
	l.start.Store(uint64(before))
	kept := slices.Clone(list[i:])
	l.list.Store(&kept)
	return nil
}

// find returns the index of the segment that holds position p, -1 when it is below the first.
func find(list []*segment, p store.Position) int {
	return sort.Search(len(list), func(i int) bool { return list[i].base > p }) - 1
}

// Size is what the log occupies.
func (l *Log) Size() store.Size {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(*l.list.Load())
	if l.next != nil {
		n++
	}
	return store.Size{
		Live: int64(l.End() - l.Start()), Allocated: l.allocated, Segments: n, Syncs: l.syncs, Written: l.written,
	}
}

// Close ends the log. Its contents stay for Crash.
func (l *Log) Close() error {
	if l.closed.Swap(true) {
		return store.ErrClosed
	}
	return nil
}

// SetCapacity changes how many bytes all segments may take: a disk that fills, or has room again. What is taken already
// stays.
func (l *Log) SetCapacity(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.o.Capacity = n
}
