package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/badgerkv"
)

// Format: the index. It caches the log: whatever is wrong with it, it is thrown away and made anew. Keys begin with a
// letter and are big endian, so that they sort. A checkpoint writes beside the one before it and never over it: a key
// ends with the turn in which its record was written, which never comes again, or with what is as good. A value is
// version u8, payload, CRC-32C u32.
//
//	C                          checkpoint: spool id, replay from u64, last queue id uv, its position uv, turn uv, pages uv
//	D                          there may be records that no checkpoint tells of
//	L | page u32 | turn u64    queues of the checkpoint: n uv, n × (queue uv, turn uv)
//	Q | queue u32 | turn u64   queue: a SNAPSHOT's fields, position uv, basis uv, blocks uv
//	B | queue u32 | page u64 | turn u64        stubs of its blocks: see encodeStub
//	S | queue u32 | block u64 | turn u64       state of a block: see encodeState
//	P | queue u32 | block u64 | edition u64    places of its messages: see encodePlaces
//
// Every parent tells which records below it count, so a missing, older or newer one is noticed. Records that nobody
// tells of are what a checkpoint that died left behind, and are removed before the next one is begun.
const (
	shelfVersion = 4

	keyCheckpoint = 'C'
	keyDraft      = 'D'
	keyList       = 'L'
	keyQueue      = 'Q'
	keyBlocks     = 'B'
	keyState      = 'S'
	keyPlaces     = 'P'

	pageQueues = 4096 // queues of a page
	pageBlocks = 2048 // blocks of a page
	scanPage   = 256  // entries of one Scan
	strayPage  = 32   // entries of one Scan of blocks
	applyBytes = 256 << 10
)

// errShelf says that the index is not what a checkpoint left.
var errShelf = errors.New("the index is not usable")

// A shelf is the spool's index with the rules for when it may be believed.
type shelf struct {
	make   func() (store.Index, error) // opens what is there, or makes an empty one
	home   func() error                // why nothing may be done by the names of files any more; nil when nobody can know
	dir    string                      // of the index; empty when it is in memory
	marker string                      // a file: while it is there the index may be believed
	disk   store.Log
	log    *slog.Logger
	step   stepper

	index   store.Index    // nil until there has been a checkpoint
	at      store.Position // replay from here on: the last checkpoint's
	turn    uint64         // of the latest record
	told    uint64         // of the latest record that the checkpoint tells of which was there at Open
	batch   []store.Change // collected, not yet applied
	size    int
	most    int      // bytes of batch: applyBytes, fewer in tests
	draft   bool     // keyDraft is there
	strays  bool     // there may be records of a time before Open that no checkpoint tells of
	pending [][]byte // keys that the next checkpoint makes superfluous
	old     [][]byte // keys that are superfluous
	loose   bool     // blocks have ended in this checkpoint before it told of them: nobody tells of their records
	pages   int
	page    uint64 // turn of the pages
	reads   atomic.Int64

	trust  sync.Mutex // held while the marker is made, or removed for good
	failed bool       // guarded by trust; the index has not what it should have, and is not believed again
}

func newShelf(dir string, disk store.Log, log *slog.Logger) *shelf {
	sh := &shelf{dir: filepath.Join(dir, "index"), marker: filepath.Join(dir, "index.ok"), disk: disk, log: log, most: applyBytes}
	sh.make = func() (store.Index, error) {
		return badgerkv.Open(sh.dir, badgerkv.Options{Logger: log, Home: sh.home})
	}
	return sh
}

func key(letter byte, parts ...uint64) []byte {
	k := []byte{letter}
	for i, p := range parts {
		if i == 0 {
			k = binary.BigEndian.AppendUint32(k, uint32(p))
		} else {
			k = binary.BigEndian.AppendUint64(k, p)
		}
	}
	return k
}

func wrap(payload []byte) []byte {
	v := append(make([]byte, 0, len(payload)+5), shelfVersion)
	v = append(v, payload...)
	return binary.LittleEndian.AppendUint32(v, crc32.Checksum(v, store.Castagnoli))
}

func unwrap(v []byte) (*decoder, error) {
	if len(v) < 5 || v[0] != shelfVersion {
		return nil, errShelf
	}
	body, sum := v[:len(v)-4], binary.LittleEndian.Uint32(v[len(v)-4:])
	if crc32.Checksum(body, store.Castagnoli) != sum {
		return nil, errShelf
	}
	return &decoder{b: body[1:]}, nil
}

// put adds a record to the batch. It is there also when put answers an error: the next flush tries again.
func (sh *shelf) put(k, payload []byte) error {
	if !sh.draft {
		sh.draft = true
		sh.add(key(keyDraft), nil)
	}
	sh.add(k, payload)
	if sh.size < sh.most {
		return nil
	}
	return sh.flush()
}

func (sh *shelf) add(k, payload []byte) {
	sh.batch = append(sh.batch, store.Change{Key: k, Value: wrap(payload)})
	sh.size += len(payload) + len(k) + 64
}

func (sh *shelf) flush() error {
	if err := sh.index.Apply(sh.batch); err != nil {
		return err // without room all of it is applied later: its blocks count as saved
	}
	clear(sh.batch)
	sh.batch, sh.size = sh.batch[:0], 0
	return nil
}

// putAll puts records, all of them also when one answers an error.
func (sh *shelf) putAll(changes []store.Change) (err error) {
	for _, c := range changes {
		if e := sh.put(c.Key, c.Value); err == nil {
			err = e
		}
	}
	return err
}

// discard removes a key once the next checkpoint stands.
func (sh *shelf) discard(k []byte) { sh.pending = append(sh.pending, k) }

// supersede discards what the index has of a block in place of which it gets something else. In a replay no checkpoint tells
// of what the replay itself has saved: that is removed soon.
func (sh *shelf) supersede(queue uint32, number uint64, was, now shelved, replaying bool) {
	if was.state > 0 {
		sh.remove(key(keyState, uint64(queue), number, was.state), replaying && was.state > sh.told)
	}
	if was.places > 0 && was.places != now.places {
		sh.remove(key(keyPlaces, uint64(queue), number, uint64(was.places)), replaying && was.spilled)
	}
}

func (sh *shelf) remove(k []byte, soon bool) {
	if soon {
		sh.old = append(sh.old, k)
		return
	}
	sh.discard(k)
}

// next is a turn that never was.
func (sh *shelf) next() uint64 {
	sh.turn++
	return sh.turn
}

// load brings in what the index has, and returns where replay begins: the log's start when there is nothing to believe.
//
// What becomes of an index that is lost or damaged, or is yet to be made:
//
//	step                                     dies here: the next Open
//	1 it cannot be believed (index:refused)  finds the same
//	2 its marker is removed, durably         does not look at the index, and replays the log from its start
//	  (index:distrusted)
//	3 the log is replayed (index:replayed)   likewise
//	4 by the next checkpoint, or before by   likewise
//	  the replay when memory does not
//	  suffice (replay:spilled): the
//	  directory is removed (index:removed),
//	  and made with an empty index
//	  (index:made)
//	5 its first checkpoint, synced           likewise
//	  (checkpoint:recorded)
//	6 the marker, durably (index:believed)   that checkpoint; before the sync of the directory one of the two
func (sh *shelf) load(r *replay) store.Position {
	if sh == nil {
		return r.spool.disk.Start()
	}
	sh.at = sh.disk.Start()
	if _, err := os.Stat(sh.marker); err != nil || sh.dir == "" {
		return sh.at
	}
	err := sh.open()
	if err == nil {
		err = sh.read(r)
	}
	if err == nil {
		return sh.at
	}
	return sh.refuse(r, err)
}

// refuse has the log replayed from its start, because the index cannot be believed.
func (sh *shelf) refuse(r *replay, err error) store.Position {
	sh.log.Warn("index not used, replaying the log instead", "error", err)
	sh.step.at(stepIndexRefused)
	sh.drop()
	sh.step.at(stepIndexDistrusted)
	*r = replay{spool: r.spool, shelf: sh, queues: map[uint32]*Queue{}}
	r.spool.pager.used.Store(0)
	return sh.disk.Start()
}

func (sh *shelf) open() error {
	index, err := sh.make()
	if err == nil {
		sh.index = index
	}
	return err
}

// drop gives the index up: it is made anew by the next checkpoint.
func (sh *shelf) drop() {
	if sh.index != nil {
		if err := sh.index.Close(); err != nil {
			sh.log.Warn("closing the index", "error", err)
		}
		sh.index = nil
	}
	sh.at, sh.old, sh.pending, sh.batch, sh.size = sh.disk.Start(), nil, nil, nil, 0
	sh.draft, sh.strays = false, false
	if err := sh.distrust(); err != nil {
		sh.log.Warn("removing the index's marker", "error", err)
	}
}

// atHome returns nil while the directory is the one that was opened.
func (sh *shelf) atHome() error {
	if sh.home == nil {
		return nil
	}
	return sh.home()
}

// forsake is distrust for good: a checkpoint that is under way does not make the index believed again.
func (sh *shelf) forsake() error {
	sh.trust.Lock()
	defer sh.trust.Unlock()
	sh.failed = true
	return sh.distrust()
}

// distrust says durably that the index must not be believed any more.
func (sh *shelf) distrust() error {
	if sh.dir == "" {
		return nil
	}
	if err := sh.atHome(); err != nil {
		return err
	}
	if err := os.Remove(sh.marker); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return store.SyncDir(filepath.Dir(sh.marker))
}

// fresh makes an empty index.
func (sh *shelf) fresh() error {
	if sh.dir == "" {
		return sh.open()
	}
	if err := os.RemoveAll(sh.dir); err != nil {
		return err
	}
	sh.step.at(stepIndexRemoved)
	if err := sh.open(); err != nil {
		return err
	}
	sh.step.at(stepIndexMade)
	return nil
}

// believe says durably that the index may be believed from now on, unless it has been forsaken.
func (sh *shelf) believe() error {
	sh.trust.Lock()
	defer sh.trust.Unlock()
	if sh.failed {
		return fmt.Errorf("%w: the index has failed", errSuspended)
	}
	if _, err := os.Stat(sh.marker); err == nil || sh.dir == "" {
		return nil
	}
	f, err := os.OpenFile(sh.marker, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := store.SyncDir(filepath.Dir(sh.marker)); err != nil {
		return err
	}
	sh.step.at(stepIndexBelieved)
	return nil
}

// read brings the last checkpoint into r.
func (sh *shelf) read(r *replay) error {
	d, err := sh.get(key(keyCheckpoint))
	if err != nil {
		return err
	}
	id := sh.disk.Info().SpoolID
	if string(d.take(16)) != string(id[:]) {
		return fmt.Errorf("%w: it belongs to another spool", errShelf)
	}
	from := store.Position(d.u64())
	r.lastID, r.idPos = uint32(d.uv()), store.Position(d.uv())
	sh.page = d.uv()
	sh.turn, sh.told, sh.pages = sh.page, sh.page, int(d.uv())
	if d.done() != nil || from < sh.disk.Start() || from > sh.disk.End() {
		return fmt.Errorf("%w: checkpoint at %d, log from %d to %d", errShelf, from, sh.disk.Start(), sh.disk.End())
	}
	for page := range sh.pages {
		if err := sh.readPage(r, page); err != nil {
			return err
		}
	}
	sh.at = from
	if _, err := sh.index.Get(key(keyDraft)); err == nil {
		sh.draft, sh.strays = true, true
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

func (sh *shelf) readPage(r *replay, page int) error {
	d, err := sh.get(key(keyList, uint64(page), sh.page))
	if err != nil {
		return err
	}
	for range d.count(2) {
		id, turn := uint32(d.uv()), d.uv()
		if d.bad {
			break
		}
		if err := sh.readQueue(r, id, turn); err != nil {
			return err
		}
	}
	if d.done() != nil {
		return errShelf
	}
	return nil
}

func (sh *shelf) readQueue(r *replay, id uint32, turn uint64) error {
	d, err := sh.get(key(keyQueue, uint64(id), turn))
	if err != nil {
		return err
	}
	var m snapshotRecord
	m.decode(d)
	q := newQueue(r.spool, "", newState(id, Meta{}, 0))
	q.restore(&m)
	q.included, q.basis, q.saved = store.Position(d.uv()), store.Position(d.uv()), turn
	n := d.uv()
	if d.done() != nil || m.queue != id {
		return errShelf
	}
	if q.included > sh.disk.End() {
		return fmt.Errorf("%w: queue at %d, log to %d", errShelf, q.included, sh.disk.End())
	}
	q.st.replaying = true
	r.high = max(r.high, m.at)
	r.queues[id] = q
	return sh.readStubs(q, n)
}

// readStubs reads what is known of a queue's n blocks, and the bodies of those that are needed at once.
func (sh *shelf) readStubs(q *Queue, n uint64) error {
	last := int64(-1)
	for ; n > 0; q.savedPages++ {
		d, err := sh.get(key(keyBlocks, uint64(q.id), uint64(q.savedPages), q.saved))
		if err != nil {
			return err
		}
		for range min(pageBlocks, n) {
			b, now, err := q.st.readStub(d)
			if err != nil || int64(b.number) <= last {
				return errors.Join(err, errShelf)
			}
			last = int64(b.number)
			if !now {
				continue
			}
			if err := sh.bring(q, b); err != nil {
				return err
			}
		}
		if d.done() != nil {
			return errShelf
		}
		n -= min(pageBlocks, n)
	}
	return nil
}

// readStub reads what is known of a block into a new one that is away. now tells that it is to be brought in at once.
func (st *state) readStub(d *decoder) (b *block, now bool, err error) {
	number, b := d.uv(), &block{}
	now = decodeStub(d, b)
	if d.bad || number >= awayBit>>blockBits || b.away.last < b.away.first || b.away.held < b.total() || b.saved.generation > st.history.Generation() {
		return nil, false, errShelf
	}
	b.number, b.generation = number, b.saved.generation
	b.owner = st.summary(number >> summaryBits)
	b.owner.hold(b)
	st.out++
	b.rewind = st.index.Insert(number, b.away.first)
	return b, now, nil
}

// bring brings the body of a block in that is away. Caller is alone with the queue.
func (sh *shelf) bring(q *Queue, b *block) error {
	in, err := sh.fetch(q.id, b.number, b.saved)
	if err == nil {
		q.st.install(b, in)
	}
	return err
}

// fetch reads the body of a block. It may be called from any goroutine while the index is there.
func (sh *shelf) fetch(queue uint32, number uint64, at shelved) (*body, error) {
	in := newBody()
	d, err := sh.get(key(keyState, uint64(queue), number, at.state))
	if err == nil {
		err = decodeState(d, in)
	}
	if err != nil {
		return nil, fmt.Errorf("state of block %d of queue %d: %w", number, queue, err)
	}
	d, err = sh.get(key(keyPlaces, uint64(queue), number, uint64(at.places)))
	if err == nil {
		err = decodePlaces(d, &in.places, uint64(at.places))
	}
	if err == nil {
		err = in.fits(at)
	}
	if err != nil {
		return nil, fmt.Errorf("places of block %d of queue %d: %w", number, queue, err)
	}
	return in, nil
}

// scan calls f for each entry with from ≤ key < to, in order.
func (sh *shelf) scan(from, to []byte, page int, f func(store.Entry) error) error {
	for {
		entries, err := sh.index.Scan(from, to, page)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := f(e); err != nil {
				return err
			}
		}
		if len(entries) < page {
			return nil
		}
		from = append(entries[len(entries)-1].Key, 0)
	}
}

func (sh *shelf) get(k []byte) (*decoder, error) {
	v, err := sh.index.Get(k)
	if err != nil {
		return nil, err
	}
	sh.reads.Add(1)
	return unwrap(v)
}
