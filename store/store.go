// Package store makes the changes of a spool durable.
//
// It owns two contracts and what stands between them. A [Log] keeps frames, one per group commit, in one dense stream of
// positions; it is the only truth. An [Index] keeps ordered keys; it is a cache of the log, and deleting it loses
// nothing. The [Committer] turns concurrent calls into frames. The package knows bytes, records and positions; it does
// not know what "visible" or "deleted" means.
package store

import (
	"errors"
	"fmt"
	"time"
)

// A Position is a byte offset in the endless stream of a log. Positions are dense: a frame at p of length n is followed
// by a frame at p+n. Every frame begins at a multiple of [FrameAlign].
type Position uint64

// A Log is an append-only sequence of frames on stable storage, or on what stands for it.
//
// Append, Sync, Grow, Mark and Drop may run at the same time as each other and as reads, but there is one caller of
// Append at a time, one of Sync at a time, one of Grow at a time, and one of Mark and Drop at a time. ReadRecord and
// ReadSpan may be called by any number of goroutines. After an error from Append, Sync, Mark or Drop the log is failed: the
// caller makes no further call than these and Close, and the log neither writes nor syncs anything again (a fsync that failed
// once is never tried a second time: the kernel may have dropped the pages).
type Log interface {
	// Info tells what the log was found to be when it was opened. It never changes afterwards.
	Info() Info

	// Start is the lowest position still kept. Replay begins there or later.
	Start() Position

	// End is the position that the next frame will get.
	End() Position

	// Room returns how many bytes of frames can be appended with certainty, whatever way they are divided into frames,
	// without taking any more space: what is left in the current segment, or all of a prepared next one, whichever is
	// more. It never blocks and is cheap: one atomic load.
	Room() int64

	// Grow makes Room at least n, taking space as needed. It answers ErrNoSpace, with nothing changed, when the space
	// is not there. It may block for as long as the allocation takes.
	Grow(n int64) error

	// ReserveRoom is Room for changes that make room in the end, and so may use the reserve: space set aside for when
	// there is none. It is at least Room.
	ReserveRoom() int64

	// Draw makes ReserveRoom at least n, from the reserve when there is no other space: from the part of it that is shared,
	// or from all. It answers ErrNoSpace, with nothing changed, when that does not cover n. It has Grow's one caller.
	Draw(n int64, all bool) error

	// Left returns how many bytes of frames, about, can be appended with what Draw may take from all of the reserve and not
	// from its shared part, if no other space comes.
	Left() int64

	// Append writes one frame and returns its position, which is the End before the call. When it returns nil the frame
	// survives the death of the process. Slices in p are read until it returns and not kept.
	// The caller has made sure that Room covers the frame (FrameSize(p.Len)).
	Append(p Payload) (Position, error)

	// Sync returns nil when everything appended before the call and below upTo is on stable storage.
	Sync(upTo Position) error

	// Synced is the position below which everything is known to be on stable storage.
	Synced() Position

	// ReadRecord appends the whole record that begins at pos (envelope, head and body, see Record) to dst and returns
	// the result. The record's checksum is verified; a record that does not verify answers a *CorruptError. A position
	// below Start answers ErrGone.
	ReadRecord(pos Position, dst []byte) ([]byte, error)

	// ReadSpan appends the bytes of the stream from one position up to another to dst and returns the result; fewer where
	// the log or a segment ends in between. They are not verified: whoever takes records out of them does so, and has
	// ReadRecord read those that do not verify. A position below Start answers ErrGone.
	ReadSpan(from, to Position, dst []byte) ([]byte, error)

	// Replay calls f for every frame from the one at position from to the end, in order. from must be a frame's
	// position, Start or End. The payload is valid during the call only. Frame headers and record heads have been
	// verified, bodies have not. A frame that does not verify ends it with a *CorruptError; an error of f ends it with
	// that error.
	Replay(from Position, f func(pos Position, payload []byte) error) error

	// Boundaries returns the base positions of the segments, lowest first, Start's first: a prefix of the log can be
	// dropped at these places. The last one is the segment that is being written.
	Boundaries() []Position

	// Mark makes the side information durable: the position up to which the log is known to be synced, the highest
	// time seen (ns since the Unix epoch), and, at the very end, that the log was closed cleanly. Commit point: the
	// log's durable position in the side file.
	Mark(highWater int64, clean bool) error

	// Drop gives up everything below before, which is one of Boundaries. The new start is durable before any byte is
	// overwritten or unlinked. Space is recycled or returned. A read under way is let finish.
	Drop(before Position) error

	// Size is what the log occupies.
	Size() Size

	// Close releases everything. It does not sync and does not mark: the caller has done so. It returns the first
	// error, and calls after it answer ErrClosed.
	Close() error
}

// Info is what a log knew when it was opened.
type Info struct {
	SpoolID   [16]byte // random, made with the log
	Key       [32]byte // secret, made with the log; receipts are sealed with keys derived from it
	Epoch     uint32   // raised durably by every Open before it returns; 1 at the first
	HighWater int64    // the highest time of the side file, ns since the Unix epoch
	Clean     bool     // the last Close was clean
	Created   bool     // this Open made it
}

// Size is what a log occupies.
type Size struct {
	Live      int64 // from Start to End, bytes
	Allocated int64 // all files, spare segments included, bytes
	Segments  int   // files
	Syncs     int64 // fdatasync calls since it was opened
	Written   int64 // bytes handed to the operating system since it was opened, padding included
}

// An Index is a set of ordered keys. It caches what the log says, so it may be lost but must never lie: a key that was
// applied and synced is there with its value, or an error tells.
//
// Apply, Sync and Close have one caller at a time; Get, Scan and Size may run beside them in any number.
type Index interface {
	// Apply makes all changes of the batch. A batch may be applied in parts if it dies in the middle: callers write
	// under new keys and refer to them only by a later batch. Slices belong to the index until it returns.
	Apply(batch []Change) error

	// Get returns the value of a key as a fresh slice, or ErrNotFound.
	Get(key []byte) ([]byte, error)

	// Scan returns up to limit entries with from ≤ key < to in order of their keys, as fresh slices; a nil to means no
	// upper end. No iterator stays open. Fewer than limit entries means there is none behind them.
	Scan(from, to []byte, limit int) ([]Entry, error)

	// Sync returns nil when everything applied before is on stable storage.
	Sync() error

	// Size is what the index occupies on disk, allocated bytes.
	Size() int64

	// Close releases everything; no call may follow.
	Close() error
}

// A Change sets a key to a value, or removes it when Value is nil. Values are not empty.
type Change struct{ Key, Value []byte }

// An Entry is a key and its value.
type Entry struct{ Key, Value []byte }

// Sentinels of the package. Errors are wrapped: use errors.Is.
var (
	ErrNotFound      = errors.New("not found")
	ErrGone          = errors.New("position is no longer kept")
	ErrClosed        = errors.New("closed")
	ErrLocked        = errors.New("directory is open already")
	ErrCorrupt       = errors.New("corrupt")
	ErrNoSpace       = errors.New("no space left on device")
	ErrFormatVersion = errors.New("written by a newer version")
	ErrNotStore      = errors.New("not a spool")
)

// A CorruptError says that what is stored is not what was written, and where. It answers errors.Is with ErrCorrupt.
// Nothing has been deleted.
type CorruptError struct {
	File   string // path of the file, or the name of the part where there is no file
	Offset int64  // bytes from the file's start
	Reason string // what was expected and what was found, without message bodies
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("corrupt: %s at offset %d: %s", e.File, e.Offset, e.Reason)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// BackgroundSync is the longest time that written frames stay unsynced in a spool whose level is Written.
const BackgroundSync = 50 * time.Millisecond
