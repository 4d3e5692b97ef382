package spool

import (
	"bytes"
	"encoding/binary"
	"maps"

	"github.com/spoolmq/spool/store"
)

// tidy finds what a checkpoint that died in an earlier life of the spool, or a replay, has left in the index, and removes it. It
// comes before anything is saved: then what is known of queues and blocks is what the last checkpoint tells of. Of a queue
// that is gone the index has records until the next checkpoint stands: it is known as nil.
func (sh *shelf) tidy(known func() map[uint32]*Queue) error {
	if !sh.strays {
		return nil
	}
	queues := known()
	for _, letter := range []byte{keyList, keyQueue, keyBlocks, keyState, keyPlaces} {
		err := sh.scan(key(letter), key(letter+1), strayPage, func(e store.Entry) error {
			if len(e.Key) < 13 {
				return errShelf
			}
			if letter == keyList {
				if !endsWith(e.Key, sh.page) {
					sh.old = append(sh.old, e.Key)
				}
				return nil
			}
			q, there := queues[binary.BigEndian.Uint32(e.Key[1:])]
			if !there || q != nil && !q.knows(e.Key) {
				sh.old = append(sh.old, e.Key)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := sh.sweep(); err != nil {
		return err
	}
	sh.strays = false
	return nil
}

// knownQueues is what tidy needs.
func (s *Spool) knownQueues() map[uint32]*Queue {
	s.set.RLock()
	defer s.set.RUnlock()
	known := maps.Clone(s.byID)
	for _, id := range s.shed {
		known[id] = nil
	}
	return known
}

// knows tells whether a record of the index is what the last checkpoint tells of the queue. Nothing of it was saved since.
func (q *Queue) knows(k []byte) bool {
	q.hold()
	defer q.mu.Unlock()
	if q.dropped.Load() || k[0] == keyQueue || k[0] == keyBlocks {
		return q.dropped.Load() || endsWith(k, q.saved)
	}
	if len(k) != 21 {
		return false
	}
	number := binary.BigEndian.Uint64(k[5:])
	same := func(at shelved) bool {
		if k[0] == keyState {
			return endsWith(k, at.state)
		}
		return endsWith(k, uint64(at.places))
	}
	if b := q.st.block(number); b != nil && same(b.saved) {
		return true
	}
	for _, l := range q.st.left {
		if l.number == number && same(l.saved) {
			return true
		}
	}
	return false
}

func endsWith(k []byte, last uint64) bool {
	return bytes.HasSuffix(k, binary.BigEndian.AppendUint64(nil, last))
}
