package seglog

import (
	"fmt"

	"github.com/spoolmq/spool/store"
)

// Sync returns nil when everything appended before the call and below upTo is on stable storage.
//
//	sync:older    both unsynced segments are on disk in part
//	sync:current  the older one is durable to its end, and the synced position may stand there
//	sync:done     all that was appended before the call is durable, and the next Open finds it
//
// Invariant: the synced position moves in file order. A frame is reported durable only when every frame before it is.
func (l *Log) Sync(upTo store.Position) error {
	if err := l.usable(); err != nil {
		return err
	}
	if l.Synced() >= upTo {
		return nil
	}
	l.syncing.mu.Lock()
	defer l.syncing.mu.Unlock()

	l.segs.mu.Lock()
	seg, at := l.segs.last(), l.segs.tail
	l.segs.mu.Unlock()
	l.step(stepSyncOlder)
	if err := l.syncOlderLocked(); err != nil {
		return l.fail(err)
	}
	l.step(stepSyncCurrent)
	if l.Synced() >= min(upTo, at.pos) {
		return nil
	}
	if err := l.syncSegment(seg, at); err != nil {
		return l.fail(err)
	}
	return nil
}

// syncThrough makes a place durable at which a segment begins: everything below it, and the header of that segment. A
// synced position that has only reached the place says nothing about the header.
func (l *Log) syncThrough(base store.Position) error {
	l.syncing.mu.Lock()
	defer l.syncing.mu.Unlock()
	if l.Synced() > base {
		return nil
	}
	l.segs.mu.Lock()
	seg, at := l.segs.last(), l.segs.tail
	l.segs.mu.Unlock()
	if err := l.syncOlderLocked(); err != nil {
		return l.fail(err)
	}
	if err := l.syncSegment(seg, at); err != nil {
		return l.fail(err)
	}
	return nil
}

// syncOlder makes the last segment but one durable.
func (l *Log) syncOlder() error {
	l.syncing.mu.Lock()
	defer l.syncing.mu.Unlock()
	return l.syncOlderLocked()
}

// syncOlderLocked is syncOlder. Caller holds syncing.mu.
func (l *Log) syncOlderLocked() error {
	l.segs.mu.Lock()
	older := l.segs.older
	var at tail
	if older != nil {
		at = older.end
	}
	l.segs.mu.Unlock()
	if older == nil {
		return nil
	}
	return l.syncSegment(older, at)
}

// syncSegment makes seg durable up to at, the end of a frame in it. Caller holds syncing.mu, and every segment before is
// durable.
func (l *Log) syncSegment(seg *segment, at tail) error {
	if err := l.usable(); err != nil {
		return err // another sync has failed while this one waited
	}
	if store.Position(l.stage.written.Load()) < at.pos {
		if err := l.flush(); err != nil {
			return err
		}
	}
	f, err := seg.open(l.files)
	if err == nil {
		l.syncs.Add(1)
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("sync %s: %w", seg.path, err)
	}
	l.step(stepSyncDone)

	l.segs.mu.Lock()
	l.segs.durable = at
	l.synced.Store(uint64(at.pos))
	done := l.segs.older == seg && seg.end == at
	if done {
		l.segs.older = nil
	}
	l.segs.mu.Unlock()
	if done {
		l.unpin(seg)
	}
	return nil
}
