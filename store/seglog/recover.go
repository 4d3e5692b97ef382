package seglog

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spoolmq/spool/store"
)

const rewriteStep = 256 << 10

// A recovery finds where the log ends, and makes the answer durable.
//
// The side file says that everything below S is durable. From S on frames are read, bodies included, to the first one
// that does not verify, at E. A power loss leaves any subset of what was not synced, so that is where the log ends,
// unless something says that more was durable: every frame holds the synced position known when it was built, and
// frames behind E tell too. The highest of these is D. E < D is damage, not a crash.
type recovery struct {
	l     *Log
	m     mark
	chain *chain
	scan  scanner
	stage leftovers
	first int            // index in the chain of the segment that S lies in
	at    int            // of the one that E lies in
	end   tail           // E
	epoch uint32         // the highest of any frame or segment
	junk  store.Position // frames behind E in its segment end here
}

// recover opens the log as the files say it is. What the caller finds in it comes first: a log with damage before its end
// is left as it is, torn end included.
//
//	recover:remove  nothing has changed
//	recover:stage   MARK is durable as it was read, and so are segments that took the place of others; files of which no byte is
//	                needed are gone; the end is where it was
//	recover:zero    frames that were staged are in their segments as well; the end is where it was
//	recover:sync    frames behind the end are gone; the end is where it was
//	recover:mark    everything below the end is durable, whatever has been in the page cache only, or was believed to be durable
//	                after a sync that failed: it has been written again, with the same bytes
//	recover:done    the mark says so, with the new epoch, and the log is no longer marked clean
//
// Commit point: the mark. Every step before it finds the same end when it is done again.
func (l *Log) recover() error {
	r := &recovery{l: l, m: l.marking.marker.last, scan: scanner{files: l.files}}
	defer r.leave()
	var err error
	if r.chain, err = readChain(l.files, l.logDir(), r.m); err != nil {
		return err
	}
	if r.stage, err = readStage(l.files, l.dir, r.m); err != nil {
		return err
	}
	if err := r.findEnd(); err != nil {
		return err
	}
	if err := r.compare(); err != nil {
		return err
	}
	if err := r.begin(); err != nil {
		return err
	}
	if l.o.Found != nil {
		if err := l.o.Found(l); err != nil {
			return err
		}
	}
	return r.settle()
}

// leave closes the files that are no longer needed: all but those that belong to the log.
func (r *recovery) leave() {
	if r.chain == nil {
		return
	}
	for _, s := range slices.Concat(r.chain.list, r.chain.beyond, r.chain.emptied, r.chain.idle) {
		if s.pins == 0 {
			if f := s.detach(); f != nil {
				f.Close()
			}
		}
	}
}

// findEnd reads the frames from S on, each from its segment or else from the stage.
func (r *recovery) findEnd() error {
	list := r.chain.list
	r.first = r.chain.find(r.m.durable.base)
	r.at = r.first
	r.end = r.m.durable
	r.epoch = r.m.epoch
	for _, s := range list {
		r.epoch = max(r.epoch, s.epoch)
	}
	if s := list[r.first]; r.end.pos > r.upTo(r.first) {
		return s.corrupt(s.limit(), fmt.Sprintf("ends at %d, and the log is durable to %d", r.upTo(r.first), r.end.pos))
	}
	if err := r.scan.enter(list[r.at]); err != nil {
		return err
	}
	before := order{crc: r.end.crc, epoch: r.m.epoch}
	for {
		if r.at+1 < len(list) && list[r.at+1].base == r.end.pos {
			r.at++
			if err := r.scan.enter(list[r.at]); err != nil {
				return err
			}
		}
		h, err := r.frame(before)
		if bad := (*badFrame)(nil); errors.As(err, &bad) {
			return nil
		}
		if err != nil {
			return err
		}
		before = order{crc: h.CRC, epoch: h.Epoch}
		r.epoch = max(r.epoch, h.Epoch)
		r.end = tail{pos: r.end.pos + store.Position(h.Size), crc: h.CRC, base: list[r.at].base}
	}
}

// frame returns the header of the frame at the end found so far, of which everything verifies. The error is a *badFrame
// when there is none.
func (r *recovery) frame(before order) (store.FrameHeader, error) {
	seg, to := r.chain.list[r.at], r.upTo(r.at)
	h, payload, err := r.scan.frame(r.end.pos, to)
	next := before
	if err == nil {
		err = next.next(h)
	}
	if err == nil {
		if e := store.CheckHeads(h, payload, true); e != nil {
			err = &badFrame{e.Error()}
		}
	}
	if bad := (*badFrame)(nil); !errors.As(err, &bad) {
		return h, err
	}
	staged, b, ok := r.stage.frame(seg.salt, r.end.pos, to)
	if !ok || before.next(staged) != nil {
		return h, err
	}
	seg.patch(offset(seg.base, r.end.pos), b)
	return staged, nil
}

// upTo is the highest position at which frames of list[i] can end.
func (r *recovery) upTo(i int) store.Position {
	list := r.chain.list
	if i+1 < len(list) {
		return list[i+1].base
	}
	return list[i].limit()
}

// compare finds out whether the end is an honest one.
func (r *recovery) compare() error {
	seg := r.chain.list[r.at]
	if r.m.clean {
		return r.compareClean(seg)
	}
	// A header that cannot be read is damage, and what the file held is not known.
	if len(r.chain.damaged) > 0 {
		return r.chain.damaged[0].corrupt()
	}
	found, err := r.scan.search(r.end.pos)
	if err != nil {
		return err
	}
	r.junk = found.end
	durable := found.synced
	staged := func(h store.FrameHeader) { durable = max(durable, h.Synced) }
	r.stage.each(seg.salt, r.end.pos, staged)
	for _, s := range slices.Concat(r.chain.list[r.at+1:], r.chain.beyond) {
		if err := r.scan.enter(s); err != nil {
			return err
		}
		found, err := r.scan.search(s.base)
		if err != nil {
			return err
		}
		durable = max(durable, found.synced)
		r.stage.each(s.salt, r.end.pos, staged)
	}
	if r.end.pos < durable {
		return seg.corrupt(r.end.pos, fmt.Sprintf("no frame that verifies at position %d, and the log was durable to %d", r.end.pos, durable))
	}
	return nil
}

// compareClean verifies that a log that was closed cleanly ends exactly where it did then.
func (r *recovery) compareClean(seg *segment) error {
	r.junk = r.end.pos
	if r.end.pos != r.m.durable.pos {
		return r.chain.list[r.first].corrupt(r.m.durable.pos, "a frame behind the end of a log that was closed cleanly")
	}
	if _, _, err := r.scan.frame(r.end.pos, seg.limit()); err == nil {
		return seg.corrupt(r.end.pos, "a frame behind the end of a log that was closed cleanly")
	}
	for _, s := range slices.Concat(r.chain.list[r.at+1:], r.chain.beyond) {
		return s.corrupt(s.base, "a segment behind the end of a log that was closed cleanly")
	}
	return nil
}

// settle makes what was found durable, and takes away what must not be found later.
func (r *recovery) settle() error {
	l := r.l
	l.step(stepRecoverRemove)
	if err := l.remark(); err != nil {
		return err
	}
	if len(r.chain.emptied) > 0 {
		if err := r.syncAll(); err != nil { // the segments that have their place
			return err
		}
	}
	spare, err := r.clear()
	if err != nil {
		return err
	}
	l.step(stepRecoverStage)
	if err := r.unstage(); err != nil {
		return err
	}
	l.step(stepRecoverZero)
	seg := r.chain.list[r.at]
	f, err := seg.open(l.files)
	if err != nil {
		return err
	}
	if r.junk > r.end.pos {
		if err := writeZeros(f, offset(seg.base, r.end.pos), offset(seg.base, r.junk)); err != nil {
			return fmt.Errorf("clear %s at %d: %w", seg.path, offset(seg.base, r.end.pos), err)
		}
	}
	l.step(stepRecoverSync)
	if !r.m.clean {
		if err := r.syncAll(); err != nil {
			return err
		}
	}
	l.segs.spares = spare
	l.step(stepRecoverMark)
	if err := l.mark(r.m.start, 0, false); err != nil {
		return err
	}
	l.step(stepRecoverDone)
	return nil
}

// unstage writes the frames that were staged to their segments.
func (r *recovery) unstage() error {
	l := r.l
	for i, s := range r.chain.list[:r.at+1] {
		f, patches := s.patches()
		for _, p := range patches {
			if err := l.write(f, p.b, p.at); err != nil {
				return fmt.Errorf("write %d bytes to %s at %d: %w", len(p.b), s.path, p.at, err)
			}
		}
		s.mend()
		if patches != nil && i < r.at {
			l.unpin(s)
		}
	}
	return nil
}

// clear removes the files of which no byte is needed, but for the largest spare and the reserve.
func (r *recovery) clear() (spare []*segment, err error) {
	l := r.l
	gone := r.chain.passing
	for _, d := range r.chain.damaged {
		gone = append(gone, d.path)
	}
	for _, s := range slices.Concat(r.chain.list[r.at+1:], r.chain.beyond, r.chain.emptied) {
		gone = append(gone, s.path)
	}
	had := int64(0)
	for _, s := range slices.Concat(r.chain.list, r.chain.beyond, r.chain.emptied, r.chain.idle) {
		had += s.size
	}
	l.sizeReserve(had)
	most, reserve := l.reserveMost+min(l.reserveMost, maxShared), int64(0)
	var pieces []*segment
	slices.SortStableFunc(r.chain.idle, func(a, b *segment) int { return bySize(b, a) })
	for _, s := range r.chain.idle {
		asReserve := l.piece(s) && reserve < most
		if !asReserve && (len(spare) == quietSpares || !l.standard(s)) {
			gone = append(gone, s.path)
			continue
		}
		if err := r.sync(s); err != nil {
			return nil, err
		}
		if asReserve {
			reserve += s.size
			pieces = append(pieces, s)
			continue
		}
		spare = append(spare, s)
	}
	for _, s := range slices.Concat(r.chain.list[r.at+1:], r.chain.beyond, r.chain.idle) {
		if f := s.detach(); f != nil {
			if err := f.Close(); err != nil {
				return nil, err
			}
		}
	}
	for _, path := range gone {
		if err := l.files.Remove(path); err != nil {
			return nil, err
		}
	}
	l.enlarge(pieces...)
	return spare, l.files.SyncDir(l.logDir()) // a spare may have been given its name after the clean mark
}

// syncAll makes durable what may not be yet: what lies from the durable position on. It is written once more before: after a
// sync that failed the page cache may hold it as if it were on disk, and another sync would do nothing. A process that dies
// here has changed no byte.
func (r *recovery) syncAll() error {
	for i := r.first; i <= r.at; i++ {
		s := r.chain.list[i]
		from, to := int64(0), offset(s.base, min(r.upTo(i), r.end.pos)) // the header as well
		if i == r.first {
			from = offset(s.base, r.m.durable.pos)
		}
		if err := r.rewrite(s, from, to); err != nil {
			return fmt.Errorf("write %s again from %d to %d: %w", s.path, from, to, err)
		}
		if err := r.sync(s); err != nil {
			return err
		}
	}
	return nil
}

// rewrite writes the bytes of a segment from one offset to another as they are.
func (r *recovery) rewrite(s *segment, from, to int64) error {
	f, err := s.open(r.l.files)
	if err != nil {
		return err
	}
	b := make([]byte, min(rewriteStep, max(0, to-from)))
	for at := from; at < to; at += int64(len(b)) {
		b = b[:min(int64(len(b)), to-at)]
		if n, err := readUpTo(f, b, at); err != nil {
			return err
		} else if n < len(b) {
			return io.ErrUnexpectedEOF
		}
		if err := r.l.write(f, b, at); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) sync(s *segment) error {
	f, err := s.open(r.l.files)
	if err == nil {
		r.l.syncs.Add(1)
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("sync %s: %w", s.path, err)
	}
	return nil
}

// begin makes the log ready to be read, and to be appended to once it is settled: the head of the page that is written next
// is in the ring.
func (r *recovery) begin() error {
	l := r.l
	l.info.Epoch = r.epoch + 1
	if l.info.Epoch == 0 {
		return fmt.Errorf("epoch %d was the last one", r.epoch)
	}
	seg := r.chain.list[r.at]
	l.segs.list = r.chain.list[:r.at+1]
	l.segs.tail, l.segs.durable = r.end, r.end
	l.segs.hold(seg)
	for _, s := range r.chain.list[:r.at] {
		if _, patches := s.patches(); patches != nil {
			l.segs.hold(s) // until they are written: another open file would not have them
		}
	}
	f, err := seg.open(l.files)
	if err != nil {
		return err
	}
	head := make([]byte, r.end.pos-max(pageFloor(r.end.pos), seg.base))
	n, err := readUpTo(f, head, offset(seg.base, r.end.pos)-int64(len(head)))
	if err != nil {
		return fmt.Errorf("read %s: %w", seg.path, err)
	}
	if n < len(head) {
		return seg.corrupt(r.end.pos, fmt.Sprintf("file ends %d bytes early", len(head)-n))
	}
	l.ring.load(r.end.pos, head)
	l.start.Store(uint64(r.m.start))
	l.end.Store(uint64(r.end.pos))
	l.synced.Store(uint64(r.end.pos))
	l.stage.written.Store(uint64(r.end.pos))
	l.setRooms()
	l.space.number = r.chain.number
	l.appending.use = r.chain.use
	return nil
}
