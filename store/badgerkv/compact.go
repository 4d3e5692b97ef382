package badgerkv

import (
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// Badger runs without compactors of its own: they look for work twenty times a second each, for ever. Work comes from
// Apply alone, so Apply looks, after each transaction, and compacts before it goes on.
//
// A compaction merges everything into one level (badger.DB.Flatten). So that this costs a few bytes for each byte written,
// level 0 may grow to a part of what is below before it is due.
//
// Bound: level 0 has at most levelZeroMost tables, and the three that memtables become meanwhile: the one that is
// flushed, the one that waits and the one that a transaction fills. Each Open after a crash adds those of its logs, which
// are as many, until the next Apply. Without the space or the descriptors for a compaction, it has as many tables as
// MinFree and descriptorReserve leave room for.
const (
	levelZeroLeast = 4  // tables of level 0 before a compaction
	levelZeroMost  = 16 // tables of level 0 at which one is due however large the index is
	levelZeroPart  = 4  // between: due when level 0 has this part of the bytes below
)

// Bound on waiting: Badger's writer waits for its flusher, and the flusher for nobody, because level 0 never has
// levelZeroStall tables. With fewer it would wait for a compaction, which comes after the transaction: for ever.
const levelZeroStall = 1 << 30

// compact merges the tables of Badger when that is due, in the caller's goroutine and two or more of Badger's. It is called
// between transactions. Without the space or the descriptors it leaves everything as it is.
func (ix *Index) compact() error {
	levels := ix.db.Levels()
	if !compactionDue(levels) {
		return nil
	}
	var size int64
	tables := 0
	for _, l := range levels {
		size += l.Size
		tables += l.NumTables
	}
	// What is merged is removed when what it became is there: no more than everything once again.
	if requireFree(ix.dir, ix.opts, MinFree+size) != nil || requireDescriptors(descriptorReserve+tables) != nil {
		return nil
	}
	if err := ix.db.Flatten(1); err != nil {
		return fmt.Errorf("compaction: %w", err)
	}
	return nil
}

func compactionDue(levels []badger.LevelInfo) bool {
	n := levels[0].NumTables
	if n < levelZeroLeast || n >= levelZeroMost {
		return n >= levelZeroMost
	}
	var below int64
	for _, l := range levels[1:] {
		below += l.Size
	}
	return levels[0].Size*levelZeroPart >= below
}
