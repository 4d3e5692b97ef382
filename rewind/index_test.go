package rewind

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"unsafe"
)

// check reports what is wrong with the index itself: order, and First that never decreases.
func (x *Index) check(t testing.TB) {
	t.Helper()
	var last *Block
	n := 0
	x.Ascend(nil, func(b *Block) bool {
		if last != nil && (b.Number <= last.Number || b.First < last.First) {
			t.Errorf("block %d of %d follows block %d of %d", b.Number, b.First, last.Number, last.First)
		}
		last, n = b, n+1
		return true
	})
	if n != x.Len() {
		t.Errorf("Len() = %d, Ascend visits %d", x.Len(), n)
	}
}

// blocks is the model of an index: a plain sorted slice.
type blocks []*Block

// find is the definition of Find: the first block whose last possible message is not before t. A block's messages may be as
// late as the next block's First; the last block's may be of any time.
func (m blocks) find(t int64) *Block {
	for i, b := range m {
		if i+1 == len(m) || m[i+1].First >= t {
			return b
		}
	}
	return nil
}

func (m blocks) deleted(from *Block) (n int) {
	for _, b := range m {
		if from == nil || b.Number >= from.Number {
			n += b.Deleted
		}
	}
	return n
}

// driveIndex performs the operations in data on an index and on the model.
func driveIndex(t testing.TB, data []byte) {
	var x Index
	var m blocks
	number, first := uint64(0), int64(-20)
	for len(data) >= 2 {
		op, arg := data[0], int(data[1])
		data = data[2:]
		switch op % 8 {
		default: // the common case: a new block at the end
			number += uint64(op>>4) % 3
			first += int64(arg % 4)
			if len(m) > 0 && number <= m[len(m)-1].Number {
				number = m[len(m)-1].Number + 1
			}
			m = append(m, x.Insert(number, first))
		case 4:
			if len(m) > 0 {
				i := arg % len(m)
				if op >= 128 {
					i = 0 // blocks go from the old end
				}
				x.Remove(&Block{Number: m[i].Number, First: m[i].First}) // another block like it
				compare(t, &x, m, first)
				x.Remove(m[i])
				x.Remove(m[i])
				m = slices.Delete(m, i, i+1)
			}
		case 5: // the owner's assignment
			if len(m) > 0 {
				m[arg%len(m)].Deleted = arg
			}
		case 6: // into a gap
			if len(m) > 0 {
				i := arg % len(m)
				b := m[i]
				x.Remove(b)
				if again := x.Insert(b.Number, b.First); again == b || again.Deleted != 0 {
					t.Fatalf("Insert after Remove = %v", again)
				} else {
					m[i] = again
				}
				if b = m[i]; x.Insert(b.Number, b.First) != b {
					t.Fatalf("Insert of block %d again gave another one", b.Number)
				}
			}
		case 7:
			x.Trim()
		}
		x.check(t)
		compare(t, &x, m, first)
	}
}

func compare(t testing.TB, x *Index, m blocks, end int64) {
	t.Helper()
	if x.Len() != len(m) {
		t.Fatalf("Len() = %d, want %d", x.Len(), len(m))
	}
	for at := end - 30; at < end+3; at++ {
		got, want := x.Find(at), m.find(at)
		if got != want {
			t.Fatalf("Find(%d) = %v, want %v", at, got, want)
		}
		if got, want := x.Deleted(got), m.deleted(want); got != want {
			t.Fatalf("Deleted from %d on = %d, want %d", at, got, want)
		}
		if got != nil {
			var seen blocks
			x.Ascend(got, func(b *Block) bool { seen = append(seen, b); return len(seen) < 3 })
			i := slices.Index(m, got)
			if !slices.Equal(seen, m[i:min(i+3, len(m))]) {
				t.Fatalf("Ascend from %v = %v", got, seen)
			}
		}
	}
	if got, want := x.Deleted(nil), m.deleted(nil); got != want {
		t.Fatalf("Deleted(nil) = %d, want %d", got, want)
	}
}

func TestIndexModel(t *testing.T) {
	r := random(t)
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	for range rounds {
		driveIndex(t, noise(r, 500))
	}
}

func noise(r *rand.Rand, n int) []byte {
	data := make([]byte, 1+r.IntN(n))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0, 0, 1, 5, 7, 4, 1, 6, 0, 132, 0, 7, 0})
	f.Fuzz(func(t *testing.T, data []byte) { driveIndex(t, data[:min(len(data), 400)]) })
}

func TestZeroIndex(t *testing.T) {
	var x Index
	x.Remove(nil)
	x.Remove(&Block{})
	x.Ascend(nil, func(*Block) bool { t.Error("Ascend visits a block"); return true })
	if x.Find(0) != nil || x.Deleted(nil) != 0 || x.Len() != 0 {
		t.Error("a zero index holds something")
	}
}

// TestSharedFirst has blocks that were all enqueued at one instant, block 0 at the instant sought among them.
func TestSharedFirst(t *testing.T) {
	var x Index
	var b [5]*Block
	for i, first := range []int64{10, 20, 20, 20, 30} {
		b[i] = x.Insert(uint64(i), first)
	}
	for at, want := range map[int64]int{0: 0, 10: 0, 11: 0, 20: 0, 21: 3, 30: 3, 31: 4, 1000: 4} {
		if got := x.Find(at); got != b[want] {
			t.Errorf("Find(%d) = block %d, want %d", at, got.Number, want)
		}
	}
}

// TestIndexMemory has 10,000 indexes, as many queues have: unused, with one block, and empty again.
func TestIndexMemory(t *testing.T) {
	const n = 10_000
	if size := unsafe.Sizeof(Index{}); size > 32 {
		t.Errorf("a zero index takes %d bytes", size)
	}
	indexes := make([]Index, n)
	before := heap()
	each := func() int64 { return (heap() - before) / n }
	for i := range indexes {
		indexes[i].Find(1)
		indexes[i].Trim()
	}
	if got := each(); got > 8 {
		t.Errorf("%d bytes an index that never had a block", got)
	}
	for i := range indexes {
		indexes[i].Insert(0, 1)
	}
	got := each()
	t.Logf("%d bytes an index with one block", got)
	if got > 300 {
		t.Errorf("%d bytes an index with one block", got)
	}
	for i := range indexes {
		indexes[i].Remove(indexes[i].Find(1))
		indexes[i].Trim()
	}
	if got := each(); got > 40 {
		t.Errorf("%d bytes an empty index after Trim", got)
	}
	runtime.KeepAlive(indexes)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestFindDoesNotAllocate(t *testing.T) {
	x := tenMillion()
	if got := testing.AllocsPerRun(10, func() { x.Deleted(x.Find(5000 * 1024)) }); got > 3 {
		t.Errorf("%v allocations to find and count, want at most the closures'", got)
	}
}

// tenMillion is the index of ten million messages, 1 µs apart.
func tenMillion() *Index {
	x := new(Index)
	for i := range 10_240 {
		x.Insert(uint64(i), int64(i)*1024*1000).Deleted = 1024
	}
	return x
}

// BenchmarkDeleted is the walk of a rewind of ten million messages.
func BenchmarkDeleted(b *testing.B) {
	x := tenMillion()
	b.ReportAllocs()
	for b.Loop() {
		if x.Deleted(nil) != 10_240*1024 {
			b.Fatal("wrong count")
		}
	}
}

func BenchmarkFind(b *testing.B) {
	x := tenMillion()
	b.ReportAllocs()
	at := int64(0)
	for b.Loop() {
		at = (at + 7_654_321_000) % (10_240 * 1024 * 1000)
		x.Find(at)
	}
}

func BenchmarkInsertRemove(b *testing.B) {
	x := tenMillion()
	b.ReportAllocs()
	n := uint64(x.Len())
	for b.Loop() {
		x.Insert(n, int64(n)*1024*1000)
		x.Remove(x.Find(0))
		n++
	}
}
