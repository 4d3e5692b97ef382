package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/badgerkv"
)

// Format: the index. It caches the log: whatever is wrong with it, it is thrown away and made anew. Keys begin with a
// letter and are big endian, so that they sort; a record's key ends with the log position that it includes, so that a
// checkpoint writes beside the one before it and never over it. A value is version u8, payload, CRC-32C u32.
//
//	C                          checkpoint: spool id, replay from u64, last queue id uv, its position uv, pages uv
//	L | page u32 | pos u64     queues of the checkpoint: n uv, n × (queue uv, pos uv)
//	Q | queue u32 | pos u64    queue: a SNAPSHOT's fields, basis uv, blocks uv
//	B | queue u32 | page u64 | pos u64     its blocks: n × (block uv, state pos uv, places uv)
//	S | queue u32 | block u64 | pos u64    state of a block: see encodeState
//	P | queue u32 | block u64 | edition u64    places of its messages: see encodePlaces
//
// Every parent tells which records below it count, so a missing, older or newer one is noticed. Records that nobody
// tells of are what a checkpoint that died left behind, and are removed.
const (
	shelfVersion = 2

	keyCheckpoint = 'C'
	keyList       = 'L'
	keyQueue      = 'Q'
	keyBlocks     = 'B'
	keyState      = 'S'
	keyPlaces     = 'P'

	pageQueues = 4096 // queues of a page
	pageBlocks = 4096 // blocks of a page
	scanPage   = 256  // entries of one Scan
	applyBytes = 256 << 10
)

// errShelf says that the index is not what a checkpoint left.
var errShelf = errors.New("the index is not usable")

// A shelf is the spool's index with the rules for when it may be believed.
type shelf struct {
	dir    string // of the index
	marker string // a file: while it is there the index may be believed
	disk   store.Log
	log    *slog.Logger

	index store.Index    // nil until there has been a checkpoint
	at    store.Position // replay from here on: the last checkpoint's
	batch []store.Change // collected, not yet applied
	size  int
	old   [][]byte // keys that the next checkpoint makes superfluous
	pages int
	page  store.Position // key of the pages
}

func newShelf(dir string, disk store.Log, o options) *shelf {
	return &shelf{dir: filepath.Join(dir, "index"), marker: filepath.Join(dir, "index.ok"), disk: disk, log: o.logger}
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

// put adds a record to the batch.
func (sh *shelf) put(k, payload []byte) error {
	sh.batch = append(sh.batch, store.Change{Key: k, Value: wrap(payload)})
	sh.size += len(payload) + len(k) + 64
	if sh.size < applyBytes {
		return nil
	}
	return sh.flush()
}

func (sh *shelf) flush() error {
	err := sh.index.Apply(sh.batch)
	clear(sh.batch)
	sh.batch, sh.size = sh.batch[:0], 0
	return err
}

// discard removes a key once the next checkpoint stands.
func (sh *shelf) discard(k []byte) { sh.old = append(sh.old, k) }

// load brings in what the index has, and returns where replay begins: the log's start when there is nothing to believe.
func (sh *shelf) load(r *replay) (store.Position, error) {
	if sh == nil {
		return r.spool.disk.Start(), nil
	}
	sh.at = sh.disk.Start()
	if _, err := os.Stat(sh.marker); err != nil {
		return sh.at, nil
	}
	err := sh.open()
	if err == nil {
		err = sh.read(r)
	}
	if err == nil {
		return sh.at, nil
	}
	sh.log.Warn("index not used, replaying the log instead", "error", err)
	sh.drop()
	*r = replay{spool: r.spool, queues: map[uint32]*Queue{}}
	return sh.disk.Start(), nil
}

func (sh *shelf) open() error {
	index, err := badgerkv.Open(sh.dir, badgerkv.Options{Logger: sh.log})
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
	sh.at, sh.old, sh.batch, sh.size = sh.disk.Start(), nil, nil, 0
	if err := os.Remove(sh.marker); err != nil && !errors.Is(err, os.ErrNotExist) {
		sh.log.Warn("removing the index's marker", "error", err)
	}
}

// fresh makes an empty index.
func (sh *shelf) fresh() error {
	if err := os.RemoveAll(sh.dir); err != nil {
		return err
	}
	return sh.open()
}

// believe says durably that the index may be believed from now on.
func (sh *shelf) believe() error {
	if _, err := os.Stat(sh.marker); err == nil {
		return nil
	}
	f, err := os.OpenFile(sh.marker, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return store.SyncDir(filepath.Dir(sh.marker))
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
	sh.page, sh.pages = from, int(d.uv())
	if d.done() != nil || from < sh.disk.Start() || from > sh.disk.End() {
		return fmt.Errorf("%w: checkpoint at %d, log from %d to %d", errShelf, from, sh.disk.Start(), sh.disk.End())
	}
	for page := range sh.pages {
		if err := sh.readPage(r, page); err != nil {
			return err
		}
	}
	sh.at = from
	return sh.strays(r)
}

func (sh *shelf) readPage(r *replay, page int) error {
	d, err := sh.get(key(keyList, uint64(page), uint64(sh.page)))
	if err != nil {
		return err
	}
	for range d.count(2) {
		id, pos := uint32(d.uv()), d.uv()
		if d.bad {
			break
		}
		if err := sh.readQueue(r, id, store.Position(pos)); err != nil {
			return err
		}
	}
	if d.done() != nil {
		return errShelf
	}
	return nil
}

func (sh *shelf) readQueue(r *replay, id uint32, pos store.Position) error {
	d, err := sh.get(key(keyQueue, uint64(id), uint64(pos)))
	if err != nil {
		return err
	}
	var m snapshotRecord
	m.decode(d)
	q := newQueue(r.spool, newState(id, "", Meta{}, 0))
	q.restore(&m)
	q.basis, q.included, q.saved = store.Position(d.uv()), pos, pos
	if pos > sh.disk.End() {
		return fmt.Errorf("%w: queue at %d, log to %d", errShelf, pos, sh.disk.End())
	}
	n := d.uv()
	if d.done() != nil || m.queue != id {
		return errShelf
	}
	q.st.replaying = true
	r.high = max(r.high, m.at)
	r.queues[id] = q
	want, err := sh.readList(q, n)
	if err != nil {
		return err
	}
	return sh.readBlocks(q, want)
}

// readList reads which of a queue's n blocks are where.
func (sh *shelf) readList(q *Queue, n uint64) (want []shelved, err error) {
	for ; uint64(len(want)) < n; q.savedPages++ {
		d, err := sh.get(key(keyBlocks, uint64(q.id), uint64(q.savedPages), uint64(q.saved)))
		if err != nil {
			return nil, err
		}
		for range min(pageBlocks, n-uint64(len(want))) {
			want = append(want, shelved{d.uv(), store.Position(d.uv()), int(d.uv())})
			if d.bad {
				return nil, errShelf
			}
		}
		if d.done() != nil {
			return nil, errShelf
		}
	}
	return want, nil
}

// shelved is what a queue's record says of a block.
type shelved struct {
	number uint64
	state  store.Position
	places int
}

// readBlocks reads the blocks of a queue in one walk over states and one over places.
func (sh *shelf) readBlocks(q *Queue, want []shelved) error {
	i := 0
	err := sh.walk(keyState, q.id, func(number, pos uint64, d *decoder) (used bool, err error) {
		if i == len(want) || number != want[i].number || pos != uint64(want[i].state) {
			return false, nil
		}
		i++
		b := q.st.ensure(number << blockBits)
		b.included, b.saved = store.Position(pos), store.Position(pos)
		return true, decodeState(d, b)
	})
	if err != nil || i < len(want) {
		return errors.Join(err, errShelfIf(i < len(want)))
	}
	i = 0
	err = sh.walk(keyPlaces, q.id, func(number, edition uint64, d *decoder) (used bool, err error) {
		if i == len(want) || number != want[i].number || edition != uint64(want[i].places) {
			return false, nil
		}
		i++
		b := q.st.block(number)
		b.savedPlaces = int(edition)
		if err := decodePlaces(d, &b.places, edition); err != nil {
			return true, err
		}
		first, _ := b.places.span()
		b.rewind = q.st.index.Insert(number, first)
		return true, b.fits()
	})
	return errors.Join(err, errShelfIf(err == nil && i < len(want)))
}

func errShelfIf(bad bool) error {
	if bad {
		return fmt.Errorf("%w: records are missing", errShelf)
	}
	return nil
}

// walk calls f for each block record of a kind, in order; those that it does not use are superfluous.
func (sh *shelf) walk(letter byte, queue uint32, f func(number, last uint64, d *decoder) (bool, error)) error {
	return sh.scan(key(letter, uint64(queue)), key(letter, uint64(queue)+1), func(e store.Entry) error {
		if len(e.Key) != 21 {
			return errShelf
		}
		d, err := unwrap(e.Value)
		if err != nil {
			return err
		}
		used, err := f(binary.BigEndian.Uint64(e.Key[5:]), binary.BigEndian.Uint64(e.Key[13:]), d)
		if err == nil && !used {
			sh.discard(e.Key)
		}
		return err
	})
}

// scan calls f for each entry with from ≤ key < to, in order.
func (sh *shelf) scan(from, to []byte, f func(store.Entry) error) error {
	for {
		entries, err := sh.index.Scan(from, to, scanPage)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := f(e); err != nil {
				return err
			}
		}
		if len(entries) < scanPage {
			return nil
		}
		from = append(entries[len(entries)-1].Key, 0)
	}
}

// strays finds what checkpoints that died have left behind: pages and queue records that this one does not name, and all
// records of queues that it does not know.
func (sh *shelf) strays(r *replay) error {
	known := func(k []byte, pos store.Position) bool { return bytes.HasSuffix(k, key(0, 0, uint64(pos))[5:]) }
	err := sh.scan(key(keyList), key(keyList+1), func(e store.Entry) error {
		if !known(e.Key, sh.page) {
			sh.discard(e.Key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, letter := range []byte{keyQueue, keyBlocks} {
		err := sh.scan(key(letter), key(letter+1), func(e store.Entry) error {
			if len(e.Key) < 13 {
				return errShelf
			}
			if q := r.queues[binary.BigEndian.Uint32(e.Key[1:])]; q == nil || !known(e.Key, q.saved) {
				sh.discard(e.Key)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	ids := slices.Sorted(maps.Keys(r.queues))
	next := uint64(0)
	for _, id := range append(ids, math.MaxUint32) {
		if uint64(id) > next {
			if err := sh.discardRange(next, uint64(id)); err != nil {
				return err
			}
		}
		next = uint64(id) + 1
	}
	return nil
}

func (sh *shelf) get(k []byte) (*decoder, error) {
	v, err := sh.index.Get(k)
	if err != nil {
		return nil, err
	}
	return unwrap(v)
}
