package spool

import (
	"bytes"
	"encoding/binary"

	"github.com/spoolmq/spool/store"
)

// tidyIndex finds what a checkpoint that died in an earlier life of the spool has left in the index, and removes
// it. It comes before anything is saved: then what is known of queues and blocks is what the last checkpoint
// tells of.
func (k *keeper) tidyIndex() error {
	sh := k.shelf
	if !sh.strays {
		return nil
	}
	queues := map[uint32]*Queue{}
	for _, q := range k.spool.snapshotQueues() {
		queues[q.id] = q
	}
	k.spool.set.RLock()
	for _, id := range k.spool.shed {
		queues[id] = nil // its records go when the next checkpoint stands
	}
	k.spool.set.RUnlock()
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
			q, known := queues[binary.BigEndian.Uint32(e.Key[1:])]
			if !known || q != nil && !q.knows(e.Key) {
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
