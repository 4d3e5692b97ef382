package seglog

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/spoolmq/spool/store"
)

// Options change how a log uses its directory. The zero value is what a spool uses.
type Options struct {
	// SegmentSize is how many bytes of frames every segment holds, rounded up to whole pages. 0 means that segments
	// grow from 1 MB to 32 MB while traffic fills them quickly. Tests set it: a log with tiny segments must do the same.
	SegmentSize int64

	// RingSize is the largest size of the ring that frames are written from and fresh records are read from, rounded
	// up to a power of two. 0 means 1 MB.
	RingSize int

	// Logger gets what is worth knowing and has no caller to be told. nil means that nobody is told.
	Logger *slog.Logger

	// Found is called by Open when it knows where the log ends, before it changes anything. The log can be read then, and
	// nothing else. An error is what Open answers, with every file as it was. nil means that nobody wants to look.
	Found func(*Log) error

	// Step is called before each named action (see Steps), by several goroutines. Tests kill the process there.
	Step func(name string)

	files vfs // nil means the operating system's
}

// withDefaults returns o with every field set.
func (o Options) withDefaults() Options {
	if o.SegmentSize > 0 {
		o.SegmentSize = (o.SegmentSize + pageSize - 1) &^ (pageSize - 1)
	}
	if o.RingSize <= 0 {
		o.RingSize = maxRing
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.files == nil {
		o.files = osFS{}
	}
	return o
}

// A Log is a store.Log on local files.
type Log struct {
	dir   string     // of the spool; immutable
	o     Options    // immutable
	files vfs        // immutable
	info  store.Info // immutable
	lock  io.Closer  // held from Open to Close

	segs  segments
	ring  *ring
	stage stage
	ahead readahead
	space space // taking and giving up files

	start       atomic.Uint64 // written under marking
	end         atomic.Uint64 // segs.tail.pos, for those who only look
	synced      atomic.Uint64 // segs.durable.pos, likewise
	room        atomic.Int64  // segs.room(false), likewise
	reserveRoom atomic.Int64  // segs.room(true), likewise
	reserveMost int64         // of each part of the reserve; immutable after Open

	appending struct {
		header [store.FrameHeaderSize]byte // scratch; owned by the caller of Append
		use    uint64                      // of the segment that was begun last; likewise
	}
	syncing struct {
		// mu is held over every fdatasync of frames. Of two at the same time only one would be told that pages were
		// lost, and the other would report them as safe.
		mu sync.Mutex
	}
	marking struct {
		mu     sync.Mutex
		marker *marker // guarded by mu
	}

	closed  atomic.Bool
	failure atomic.Pointer[error] // the first I/O error of a write or sync; set once

	syncs   atomic.Int64
	written atomic.Int64
}

// Info tells what the log was found to be when it was opened.
func (l *Log) Info() store.Info { return l.info }

// Start is the lowest position still kept.
func (l *Log) Start() store.Position { return store.Position(l.start.Load()) }

// End is the position that the next frame will get.
func (l *Log) End() store.Position { return store.Position(l.end.Load()) }

// Synced is the position below which everything is on stable storage.
func (l *Log) Synced() store.Position { return store.Position(l.synced.Load()) }

// Room returns how many bytes of frames fit with certainty, however they are divided.
func (l *Log) Room() int64 { return l.room.Load() }

// Boundaries returns the bases of the segments, lowest first.
func (l *Log) Boundaries() []store.Position {
	l.segs.mu.Lock()
	defer l.segs.mu.Unlock()
	at := make([]store.Position, len(l.segs.list))
	for i, s := range l.segs.list {
		at[i] = s.base
	}
	return at
}

// Size is what the log occupies.
func (l *Log) Size() store.Size {
	l.segs.mu.Lock()
	defer l.segs.mu.Unlock()
	size := store.Size{
		Live:      int64(l.segs.tail.pos - l.Start()),
		Allocated: markFile + 3*pageSize, // MARK, and a block each for FORMAT, KEY and LOCK
		Syncs:     l.syncs.Load(),
		Written:   l.written.Load(),
	}
	if l.stage.to != nil {
		size.Allocated += stageSize
	}
	for _, s := range l.segs.files() {
		size.Allocated += s.size
		size.Segments++
	}
	return size
}

// Close releases everything. It writes nothing, so a process that dies in it leaves what one that dies before it leaves:
// a log that was marked clean if the caller did so, otherwise one to be recovered. The lock goes last.
func (l *Log) Close() error {
	if l.closed.Swap(true) {
		return store.ErrClosed
	}
	l.space.stop()
	l.space.mu.Lock()
	defer l.space.mu.Unlock()
	l.syncing.mu.Lock()
	defer l.syncing.mu.Unlock()
	l.marking.mu.Lock()
	defer l.marking.mu.Unlock()
	err := l.marking.marker.file.Close()
	l.stage.mu.Lock()
	defer l.stage.mu.Unlock()
	if l.stage.to != nil {
		err = errors.Join(err, l.stage.to.Close())
	}
	l.segs.mu.Lock()
	all := l.segs.files()
	l.segs.mu.Unlock()
	for _, s := range all {
		err = errors.Join(err, s.close())
	}
	return errors.Join(err, l.lock.Close())
}

// Home returns nil while the directory is the one that was opened. When it was moved, removed or replaced, nothing may be
// done by the names of its files any more.
func (l *Log) Home() error {
	if lock, ok := l.lock.(heldLock); ok {
		return lock.held()
	}
	return nil // a file system of tests
}

// usable returns nil while calls may be made: the log is neither closed nor failed.
func (l *Log) usable() error {
	if l.closed.Load() {
		return store.ErrClosed
	}
	if err := l.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// fail makes the log failed for ever and returns the first failure. Nothing is written or synced after it: what the
// kernel does with the pages of a failed write or sync is not known.
func (l *Log) fail(err error) error {
	if l.failure.CompareAndSwap(nil, &err) {
		l.o.Logger.Error("log failed", "dir", l.dir, "err", err)
	}
	return *l.failure.Load()
}

// write is WriteAt, counted.
func (l *Log) write(f vfile, b []byte, at int64) error {
	l.written.Add(int64(len(b)))
	_, err := f.WriteAt(b, at)
	return err
}

func (l *Log) logDir() string   { return filepath.Join(l.dir, "log") }
func (l *Log) step(name string) { l.o.step(name) }

// unpin gives a segment back after a read.
func (l *Log) unpin(s *segment) {
	surplus, freed := l.segs.unpin(s)
	if surplus != nil {
		if err := surplus.Close(); err != nil {
			l.o.Logger.Warn("closing a segment", "err", err)
		}
	}
	if freed {
		l.space.wake()
	}
}

// errBeyond is the answer to a position that the log has not reached: whoever had it from somewhere has it wrong.
func (l *Log) errBeyond(p store.Position) error {
	return &store.CorruptError{File: l.logDir(), Offset: int64(p), Reason: fmt.Sprintf("position %d, the log ends at %d", p, l.End())}
}
