package seglog

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/spoolmq/spool/store"
)

// Mark makes the side information durable.
//
//	mark:write  the newer slot says what the Mark before said
//	mark:done   it says what this one says
//
// A slot torn in between is not valid, and the other one counts. A clean Mark is made twice, so that both slots tell it, and
// clears the stage: nobody looks for anything there any more.
// Commit point: the newer valid slot of MARK.
func (l *Log) Mark(highWater int64, clean bool) error {
	if err := l.usable(); err != nil {
		return err
	}
	if clean && l.Synced() != l.End() {
		return fmt.Errorf("clean mark of a log synced to %d that ends at %d", l.Synced(), l.End())
	}
	slots := 1
	if clean {
		slots = 2 // when one of them rots, the other still tells where the log ends
		if err := l.clearStage(); err != nil {
			return err
		}
	}
	for range slots {
		if err := l.mark(l.Start(), highWater, clean); err != nil {
			return err
		}
	}
	return nil
}

// mark writes a slot with everything that is known to be durable.
func (l *Log) mark(start store.Position, highWater int64, clean bool) error {
	l.marking.mu.Lock()
	defer l.marking.mu.Unlock()
	l.segs.mu.Lock()
	m := mark{epoch: l.info.Epoch, start: start, durable: l.segs.durable, highWater: highWater, clean: clean}
	l.segs.mu.Unlock()
	m.durable.base = max(m.durable.base, start) // the segment that ends at the start may be going
	if err := l.Home(); err != nil {
		return l.fail(fmt.Errorf("mark: %w", err)) // without its lock file the directory may be somebody else's too
	}
	l.step(stepMarkWrite)
	l.syncs.Add(1)
	l.written.Add(pageSize)
	if err := l.marking.marker.write(m); err != nil {
		return l.fail(fmt.Errorf("mark: %w", err))
	}
	l.step(stepMarkDone)
	return nil
}

// remark makes what MARK says durable. A process that was killed may have left it in the page cache only, and what it gives
// up is not given up before.
func (l *Log) remark() error {
	l.marking.mu.Lock()
	defer l.marking.mu.Unlock()
	if err := l.Home(); err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	l.syncs.Add(1)
	if err := l.marking.marker.again(); err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	return nil
}

// Drop gives up everything below before.
//
//	drop:mark     nothing has changed
//	drop:files    the new start is durable; the files below it hold nothing any more, and the next Open takes them so
//	drop:recycle  likewise
//	drop:remove   likewise
//
// Commit point: the log start in MARK. Until it is durable no byte below is overwritten or unlinked.
func (l *Log) Drop(before store.Position) error {
	if err := l.usable(); err != nil {
		return err
	}
	if before <= l.Start() {
		return nil
	}
	if !slices.Contains(l.Boundaries(), before) {
		return fmt.Errorf("drop before %d, which no segment begins at", before)
	}
	if err := l.syncThrough(before); err != nil {
		return err
	}
	l.step(stepDropMark)
	if err := l.mark(before, 0, false); err != nil {
		return err
	}
	l.step(stepDropFiles)

	l.segs.mu.Lock()
	i := l.segs.find(before)
	gone := l.segs.list[:i:i]
	l.segs.list = slices.Clone(l.segs.list[i:])
	for _, s := range gone {
		s.dropped = true
	}
	l.segs.idle = slices.DeleteFunc(l.segs.idle, func(s *segment) bool { return s.dropped })
	l.segs.retired = append(l.segs.retired, gone...)
	l.start.Store(uint64(before))
	l.segs.mu.Unlock()
	l.ahead.forget(before)
	l.space.starved.Store(false)
	l.reclaim()
	return l.usable()
}

// reclaim takes the files of dropped segments that nobody reads any more. The last reader of one has the goroutine call
// it.
func (l *Log) reclaim() {
	l.space.mu.Lock()
	defer l.space.mu.Unlock()
	if l.usable() != nil {
		return
	}
	l.segs.mu.Lock()
	var free []*segment
	l.segs.retired = slices.DeleteFunc(l.segs.retired, func(s *segment) bool {
		if s.pins > 0 {
			return false
		}
		free = append(free, s)
		return true
	})
	l.segs.mu.Unlock()
	for i, s := range free {
		err := l.giveUp(s)
		if noDescriptors(err) {
			l.retire(free[i:]...) // no fault of the disk
			l.o.Logger.Warn("giving up segments", "dir", l.dir, "err", err)
			return
		}
		if err != nil {
			l.fail(err)
			return
		}
	}
	if len(free) > 0 {
		l.fillReserve() // before anybody else takes what has become free
	}
}

// retire keeps files that hold nothing and could not be given up. The next Drop tries again.
func (l *Log) retire(segs ...*segment) {
	l.segs.mu.Lock()
	defer l.segs.mu.Unlock()
	l.segs.retired = append(l.segs.retired, segs...)
}

// removeAll removes segments that hold nothing. When one cannot be, it and those behind it are retired.
func (l *Log) removeAll(segs ...*segment) error {
	for i, s := range segs {
		if err := l.remove(s); err != nil {
			l.retire(segs[i:]...)
			return err
		}
	}
	return nil
}

// remove unlinks a segment that holds nothing, durably. It may be called again when it has failed.
func (l *Log) remove(s *segment) error {
	l.step(stepDropRemove)
	if err := s.close(); err != nil {
		return fmt.Errorf("close %s: %w", s.path, err)
	}
	if err := l.files.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", s.path, err)
	}
	if err := l.files.SyncDir(l.logDir()); err != nil {
		return fmt.Errorf("remove %s: %w", s.path, err)
	}
	return nil
}
