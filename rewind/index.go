package rewind

import (
	"github.com/google/btree"
)

// degree of the tree: up to 63 blocks a node. Nodes grow as they fill, so a small index is small.
const degree = 32

// A Block stands for 1,024 consecutive messages of one queue.
type Block struct {
	First   int64  // EnqueuedAt of its first message; immutable while it is in an index
	Number  uint64 // immutable while it is in an index
	Deleted int    // rewindable messages in it; the owner assigns it as it likes
}

// An Index maps enqueue times to the blocks of one queue. The zero Index is empty, ready for use, and allocates nothing
// before the first Insert. It is not safe for concurrent use.
//
// Invariant: First never decreases with Number, so the order by (First, Number) is the order by Number too, and a block's
// messages lie between its First and the First of the block behind it, both included.
type Index struct {
	tree  *btree.BTreeG[*Block]
	pivot Block // what searches compare with; here because a local one would escape
}

// Insert adds a block and returns it. REQUIRES: number and first are in the order of the blocks that are there; blocks may
// share a First. A block that is there already, with the same number and first, is returned as it is.
func (x *Index) Insert(number uint64, first int64) *Block {
	if x.tree == nil {
		// The usual free list takes 256 bytes and saves nothing worth it: a node is allocated once in 32 blocks.
		x.tree = btree.NewWithFreeListG(degree, less, btree.NewFreeListG[*Block](0))
	}
	x.pivot = Block{First: first, Number: number}
	if b, ok := x.tree.Get(&x.pivot); ok {
		return b
	}
	b := &Block{First: first, Number: number}
	x.tree.ReplaceOrInsert(b)
	return b
}

// Remove takes a block out of the index. One that is not in it, or nil, is left alone.
func (x *Index) Remove(b *Block) {
	if b == nil || x.tree == nil {
		return
	}
	if found, ok := x.tree.Get(b); ok && found == b {
		x.tree.Delete(b)
	}
}

// Find returns the first block that can hold a message with EnqueuedAt >= t, and nil if the index is empty. That is the last
// one with First < t, whose later messages may be of t already, or the very first one if there is none. The blocks
// before it hold no such message; the block returned need not hold one either.
func (x *Index) Find(t int64) (found *Block) {
	if x.tree == nil {
		return nil
	}
	// The pivot sorts before every block that begins at t but block 0, which is the right answer then.
	x.pivot = Block{First: t}
	x.tree.DescendLessOrEqual(&x.pivot, func(b *Block) bool {
		found = b
		return false
	})
	if found == nil {
		found, _ = x.tree.Min()
	}
	return found
}

// Ascend calls f for the blocks from the given one on, in order, until f returns false; nil is the first block. f may change
// Deleted; it must not change the index.
func (x *Index) Ascend(from *Block, f func(*Block) bool) {
	if x.tree == nil {
		return
	}
	if from == nil {
		x.tree.Ascend(f)
		return
	}
	x.tree.AscendGreaterOrEqual(from, f)
}

// Deleted returns the number of deleted messages in the blocks from the given one on; nil is the first block. It looks at
// each of them once.
func (x *Index) Deleted(from *Block) (n int) {
	x.Ascend(from, func(b *Block) bool {
		n += b.Deleted
		return true
	})
	return n
}

// Len returns the number of blocks.
func (x *Index) Len() int {
	if x.tree == nil {
		return 0
	}
	return x.tree.Len()
}

// Trim gives the memory of an empty index back; with blocks in it it does nothing. An index that becomes empty keeps less
// than 1 KB, because the next block of a busy queue is near; an owner that goes idle calls Trim.
func (x *Index) Trim() {
	if x.Len() == 0 {
		*x = Index{}
	}
}

func less(a, b *Block) bool {
	return a.First < b.First || a.First == b.First && a.Number < b.Number
}
