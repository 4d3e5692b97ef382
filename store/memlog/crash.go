package memlog

import (
	"slices"

	"github.com/spoolmq/spool/store"
)

// An Op is a place at which a log can be made to fail.
type Op int

const (
	Append        Op = iota // nothing is written
	AppendUnknown           // the frame is written, and the caller is not told so
	Sync                    // the frames stay unsynced
	Grow                    // no space is taken; the log does not fail
	Mark                    // the mark stays what it was
	Drop                    // the start stays where it was
	ops
)

// faults says which calls fail.
type faults [ops]struct {
	after int // calls that still succeed
	err   error
}

// next counts a call of op and returns the error that it has to fail with.
func (f *faults) next(op Op) error {
	at := &f[op]
	if at.err == nil {
		return nil
	}
	if at.after > 0 {
		at.after--
		return nil
	}
	err := at.err
	at.err = nil
	return err
}

// Fail makes the call of op that comes after n more of them fail with err, once. All but Grow fail the log for good.
func (l *Log) Fail(op Op, n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults[op].after, l.faults[op].err = n, err
}

// Crash returns the log that the next Open would find if the machine died now: everything synced, and of the frames
// behind it as many as fit in keep(n) bytes, where n is how many there are. l may be closed or failed, and is as it was;
// faults and the clean flag after an Append are not taken over.
func (l *Log) Crash(keep func(unsynced int64) int64) *Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	synced := l.Synced()
	end := synced
	for most := synced + store.Position(keep(int64(l.End()-synced))); end < l.End(); {
		list := *l.list.Load()
		seg := list[find(list, end)]
		size, _, ok := frame(seg.below(l.End())[end-seg.base:])
		if !ok || end+store.Position(size) > most {
			break
		}
		end += store.Position(size)
	}

	info := l.info
	info.Epoch++
	info.Created = false
	info.HighWater = l.highWater
	info.Clean = l.clean
	after := newLog(l.o, info, l.Start())
	list := slices.Clone(*l.list.Load())
	if last := find(list, end); last > 0 && list[last].base == end && end != l.Start() {
		list = list[:last] // a segment whose first frame is lost
	} else {
		list = list[:last+1]
	}
	after.allocated = 0
	for i, s := range list {
		buf := make([]byte, len(s.buf))
		copy(buf, s.below(end))
		list[i] = &segment{base: s.base, buf: buf}
		after.allocated += int64(len(buf))
	}
	after.list.Store(&list)
	after.size = l.size
	after.end.Store(uint64(end))
	after.synced.Store(uint64(end))
	after.setRoom()
	return after
}
