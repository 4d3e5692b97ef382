package spool

import "time"

// Stats tells what a spool occupies and does. Counts of work are since Open. LiveBytes and DeadBytes are estimates: of 1,024
// messages in sequence of which some are gone the others count with the average of all.
type Stats struct {
	Queues int

	Messages      int64 // active, inactive and delayed ones, and those whose send is under way
	Rewindable    int64
	LiveBytes     int64 // about the bodies and attributes of undeleted and rewindable messages, and 64 bytes for each
	LogBytes      int64 // log from the first byte that is kept to its end
	DeadBytes     int64 // LogBytes without LiveBytes
	DiskBytes     int64 // allocated for log, prepared segments and index
	IndexBytes    int64 // the index's part of DiskBytes
	MemoryBytes   int64 // an estimate of what blocks, entries and timers take, buffers included
	Segments      int
	Commits       int64 // frames written
	Records       int64 // records in them
	Fsyncs        int64
	WrittenBytes  int64     // handed to the operating system for the log, padding included
	Waiting       int       // blocked receives
	NextDue       time.Time // when the next delay or lease of any queue ends; zero if none
	RecordsCommit float64   // records a commit, on average
}

// liveOverhead is what the space contract counts for a message beside its content.
const liveOverhead = 64

// Stats returns a snapshot. It looks at every queue in turn, so the figures of two queues may be an instant apart, and takes
// them as they are: what has only just fallen due may still be counted as before. After Close everything is zero.
func (s *Spool) Stats() Stats {
	if s.life.calls.Add(1) >= closing {
		s.leave()
		return Stats{}
	}
	defer s.leave()
	size := s.disk.Size()
	st := Stats{LogBytes: size.Live, DiskBytes: size.Allocated, Segments: size.Segments, Fsyncs: size.Syncs, WrittenBytes: size.Written}
	st.Commits, st.Records = s.commit.Counts()
	if st.Commits > 0 {
		st.RecordsCommit = float64(st.Records) / float64(st.Commits)
	}
	st.IndexBytes = s.keeper.indexSize.Load()
	st.DiskBytes += st.IndexBytes
	next := int64(never)
	for _, q := range s.snapshotQueues() {
		q.visit(func(*state) { q.addStats(&st, &next) })
		st.Queues++
		st.MemoryBytes += queueBytes
	}
	if next != never {
		st.NextDue = instantTime(next)
	}
	st.DeadBytes = max(0, st.LogBytes-st.LiveBytes)
	return st
}

// addStats adds one queue to the figures. Caller holds mu.
func (q *Queue) addStats(to *Stats, next *int64) {
	st := q.st
	to.Messages += st.count[active] + st.count[inactive] + st.count[moving] + st.count[delayed] + st.count[hidden] + st.count[pending]
	to.Rewindable += st.count[rewindable]
	to.Waiting += q.waiters.n
	to.MemoryBytes += st.memory()
	to.LiveBytes += st.live()
	if at, ok := st.wheel.Next(); ok {
		*next = min(*next, at)
	}
}

// queueBytes is what a queue takes in memory without blocks and timers, about.
const queueBytes = 512

// live estimates the bytes that the space contract counts for a queue's messages: a block that is gone in part counts
// with the average of its messages.
func (st *state) live() (n int64) {
	st.each(func(s *summary) bool { return s.total() == 0 }, func(b *block) bool {
		n += b.live()
		return true
	})
	return n
}

// live estimates the bytes that the space contract counts for a block's messages.
func (b *block) live() int64 {
	n := int64(b.total())
	if n == 0 {
		return 0
	}
	at := b.stub()
	return n*liveOverhead + at.bytes*n/int64(max(1, at.held))
}
