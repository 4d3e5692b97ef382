package limit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/spoolmq/spool/bench/workload"
)

// Format: a segment is a sequence of records, each a header of 13 bytes and, of a message, its body. The first header of
// kind 0 ends it.
//
//	byte kind | uint32 length of the body | uint64 number of the message, from 1, ascending    (big endian)
const (
	headerSize = 13

	kindEnd     = 0
	kindMessage = 1
	kindAck     = 2

	segmentSize = 64 << 20
	spares      = 2       // Bound: dead segments kept to be used again
	recent      = 8 << 20 // Bound: bytes of bodies kept in memory until they are received
)

// Files is a raw file with group commit: fdatasync before the answer at Fsync, write alone at Written. Its segments
// are fallocated, and used again when nothing in them is live.
func Files(level workload.Level) workload.System {
	return files("raw file", level, allocate, segmentSize)
}

// Growing is the same with segments that grow with what is written.
func Growing(level workload.Level) workload.System {
	return files("growing file", level, func(*os.File, int64) error { return nil }, segmentSize)
}

func files(name string, level workload.Level, prepare func(*os.File, int64) error, segment int64) workload.System {
	config := "write and fdatasync for a group of calls"
	if level == workload.Written {
		config = "write for a group of calls, no fsync"
	}
	return workload.System{Name: name, Config: fmt.Sprintf("%s, segments of %d MB", config, segment>>20), Level: level, Batch: 1024,
		Open: func(dir string) (workload.Store, error) {
			f := &File{dir: dir, sync: level == workload.Fsync, prepare: prepare, segment: segment}
			if err := f.recover(); err != nil {
				return nil, errors.Join(err, f.closeFiles())
			}
			return f, nil
		}}
}

// A File is a queue in segmented files.
type File struct {
	dir     string
	sync    bool
	prepare func(f *os.File, size int64) error
	segment int64 // bytes of a segment

	// Owned by the leader of the group that is being written.
	end     int64 // of what is written in the last segment
	written *segment

	mu struct {
		sync.Mutex
		next     *group // collects calls while another group is written
		leading  bool   // a group is being written
		err      error  // of a write, for all later calls
		last     uint64 // number of the last message
		queue    []item // messages to be received, from head on
		head     int
		held     int // bytes of bodies in queue
		waiters  []*waiter
		segments []*segment // the last one is written to
		free     []*segment
		buf      []byte // of an earlier group, to be used again; may be nil
		names    int    // of segments so far
		syncs    int64
	}
}

type segment struct {
	f    *os.File
	live int // messages that are not acknowledged; guarded by File.mu
}

type item struct {
	number uint64
	seg    *segment
	at     int64 // of the body
	size   int
	body   []byte // part of its group's buffer; nil: it has to be read
}

type waiter struct{ handed chan item } // holds one

// A group is the calls that share a write.
type group struct {
	buf   []byte
	sends []item // at is in buf
	at    int64  // of buf in its segment
	acks  []*segment
	turn  chan struct{} // closed when its leader may begin; nil if it need not wait
	done  chan struct{} // closed when err is set; nil if nobody but the leader is in it
	err   error
}

// Producer implements workload.Store.
func (f *File) Producer(int) (workload.Producer, error) { return &end{f: f}, nil }

// Consumer implements workload.Store.
func (f *File) Consumer(int) (workload.Consumer, error) { return &end{f: f}, nil }

// An end is a producer or a consumer.
type end struct {
	f     *File
	items []item // of the Receive that is under way
}

// Send implements workload.Producer.
func (e *end) Send(_ context.Context, bodies [][]byte) error { return e.f.commit(bodies, nil) }

// Delete implements workload.Consumer.
func (e *end) Delete(_ context.Context, ms []workload.Message) error { return e.f.commit(nil, ms) }

// Close implements both.
func (*end) Close() error { return nil }

// Syncs is the number of fdatasyncs.
func (f *File) Syncs() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.syncs
}

// Waiting is the number of blocked receives.
func (f *File) Waiting() (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.mu.waiters), nil
}

// commit adds a call to the next group and returns when that is written, and synced if need be. The first call of a
// group leads it: it waits for the group before, writes for everybody and wakes them.
func (f *File) commit(bodies [][]byte, acks []workload.Message) error {
	f.mu.Lock()
	if f.mu.err != nil {
		defer f.mu.Unlock()
		return f.mu.err
	}
	g := f.mu.next
	follow := g != nil
	if !follow {
		g = &group{buf: f.mu.buf[:0]}
		f.mu.next, f.mu.buf = g, nil
	}
	f.add(g, bodies, acks)
	if follow {
		if g.done == nil {
			g.done = make(chan struct{})
		}
		f.mu.Unlock()
		<-g.done
		return g.err
	}
	if f.mu.leading {
		g.turn = make(chan struct{})
		f.mu.Unlock()
		<-g.turn
		f.mu.Lock()
	}
	f.mu.leading = true
	f.mu.next = nil
	g.err = f.mu.err
	f.mu.Unlock()
	if g.err == nil {
		g.err = f.write(g)
	}
	f.mu.Lock()
	if g.err == nil {
		f.apply(g)
	}
	f.mu.err = g.err
	f.mu.leading = false
	if f.mu.next != nil {
		close(f.mu.next.turn)
	}
	f.mu.Unlock()
	if g.done != nil {
		close(g.done)
	}
	return g.err
}

// add appends a call's records to a group. Caller holds mu.
func (f *File) add(g *group, bodies [][]byte, acks []workload.Message) {
	for _, body := range bodies {
		f.mu.last++
		g.buf = appendHeader(g.buf, kindMessage, f.mu.last, len(body))
		it := item{number: f.mu.last, at: int64(len(g.buf)), size: len(body)}
		g.sends = append(g.sends, it)
		g.buf = append(g.buf, body...)
	}
	for i := range acks {
		g.buf = appendHeader(g.buf, kindAck, acks[i].ID, 0)
		g.acks = append(g.acks, acks[i].Handle.(*segment))
	}
}

func appendHeader(buf []byte, kind byte, number uint64, size int) []byte {
	buf = append(buf, kind)
	buf = binary.BigEndian.AppendUint32(buf, uint32(size))
	return binary.BigEndian.AppendUint64(buf, number)
}

// write writes a group. Only one leader at a time is here.
func (f *File) write(g *group) error {
	if f.written == nil || f.end+int64(len(g.buf))+headerSize > f.segment {
		if err := f.roll(int64(len(g.buf)) + headerSize); err != nil {
			return err
		}
	}
	if _, err := f.written.f.WriteAt(g.buf, f.end); err != nil {
		return err
	}
	g.at = f.end
	for i := range g.sends {
		g.sends[i].seg = f.written
		g.sends[i].at += g.at
	}
	f.end += int64(len(g.buf))
	if f.sync {
		return datasync(f.written.f)
	}
	return nil
}

// apply makes a group's messages receivable. Caller holds mu.
func (f *File) apply(g *group) {
	if f.sync {
		f.mu.syncs++
	}
	keep := false
	for _, it := range g.sends {
		it.seg.live++
		if wait := len(f.mu.waiters) > 0; wait || f.mu.held+it.size <= recent {
			from := it.at - g.at
			it.body = g.buf[from : from+int64(it.size) : from+int64(it.size)]
			keep = true
			if wait {
				f.mu.waiters[0].handed <- it
				f.mu.waiters = slices.Delete(f.mu.waiters, 0, 1)
				continue
			}
			f.mu.held += it.size
		}
		f.mu.queue = append(f.mu.queue, it)
	}
	for _, seg := range g.acks {
		seg.live--
	}
	if !keep {
		f.mu.buf = g.buf
	}
}

// Receive implements workload.Consumer.
func (e *end) Receive(ctx context.Context, into []workload.Message) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	f := e.f
	f.mu.Lock()
	if f.mu.head == len(f.mu.queue) {
		w := &waiter{handed: make(chan item, 1)}
		f.mu.waiters = append(f.mu.waiters, w)
		f.mu.Unlock()
		select {
		case it := <-w.handed:
			return 1, it.read(&into[0])
		case <-ctx.Done():
			return f.leave(ctx, w, into)
		}
	}
	e.items = append(e.items[:0], f.mu.queue[f.mu.head:min(f.mu.head+len(into), len(f.mu.queue))]...)
	f.mu.head += len(e.items)
	for _, it := range e.items {
		f.mu.held -= len(it.body)
	}
	if f.mu.head == len(f.mu.queue) {
		clear(f.mu.queue)
		f.mu.queue, f.mu.head = f.mu.queue[:0], 0
	}
	f.mu.Unlock()
	for i := range e.items {
		if err := e.items[i].read(&into[i]); err != nil {
			return 0, err
		}
	}
	return len(e.items), nil
}

// leave ends a waiting receive, unless it has been handed a message.
func (f *File) leave(ctx context.Context, w *waiter, into []workload.Message) (int, error) {
	f.mu.Lock()
	f.mu.waiters = slices.DeleteFunc(f.mu.waiters, func(o *waiter) bool { return o == w })
	f.mu.Unlock()
	select {
	case it := <-w.handed:
		return 1, it.read(&into[0])
	default:
		return 0, ctx.Err()
	}
}

func (it *item) read(m *workload.Message) error {
	*m = workload.Message{Body: it.body, ID: it.number, Handle: it.seg}
	if m.Body == nil {
		m.Body = make([]byte, it.size)
		if _, err := it.seg.f.ReadAt(m.Body, it.at); err != nil {
			return fmt.Errorf("message %d: %w", it.number, err)
		}
	}
	return nil
}

var errTorn = errors.New("a segment ends within a record")

// scan calls each for every record of a segment.
func scan(r io.Reader, each func(kind byte, number uint64, at int64, size int)) error {
	var h [headerSize]byte
	for at := int64(0); ; {
		switch _, err := io.ReadFull(r, h[:]); {
		case err == io.EOF || err == nil && h[0] == kindEnd:
			return nil
		case err != nil:
			return errors.Join(errTorn, err)
		}
		size := int(binary.BigEndian.Uint32(h[1:]))
		at += headerSize
		each(h[0], binary.BigEndian.Uint64(h[5:]), at, size)
		if n, err := io.CopyN(io.Discard, r, int64(size)); err != nil {
			return errors.Join(errTorn, fmt.Errorf("%d of %d bytes: %w", n, size, err))
		}
		at += int64(size)
	}
}
