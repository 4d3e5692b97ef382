package workload

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
)

const (
	stampSize = 12 // Format: uint32 producer, uint64 number, big endian; random bytes follow
	contents  = 64 // different random contents

	chunkBits = 16
	maxChunks = 4096 // Bound: 268 million messages of one producer
)

// MinSize is the smallest body that a Book can make.
const MinSize = stampSize

// A Book writes the bodies of a run and ticks off what comes back. A body names its producer and its number, the rest
// of it is random and follows from the number: a message that is lost, doubled, changed or made up is noticed.
// Fill may be called by one goroutine for each producer, Take by any number of them at the same time.
type Book struct {
	size    int
	content [contents][]byte
	pages   []page
	taken   atomic.Int64
}

type page struct {
	sent atomic.Uint64
	seen [maxChunks]atomic.Pointer[chunk] // one bit for each number
}

type chunk [1 << chunkBits / 64]atomic.Uint64

// NewBook returns a book for so many producers, with bodies of size bytes, at least MinSize.
func NewBook(producers, size int) *Book {
	if size < MinSize {
		panic(fmt.Sprintf("workload: bodies of %d bytes, want at least %d", size, MinSize))
	}
	b := &Book{size: size, pages: make([]page, producers)}
	random := rand.NewChaCha8([32]byte{})
	for i := range b.content {
		b.content[i] = make([]byte, size-stampSize)
		random.Read(b.content[i])
	}
	return b
}

// Fill writes the next body of a producer into body, which has the book's size. Its message counts as sent from now
// on.
func (b *Book) Fill(producer int, body []byte) {
	number := b.pages[producer].sent.Load()
	binary.BigEndian.PutUint32(body, uint32(producer))
	binary.BigEndian.PutUint64(body[4:], number)
	copy(body[stampSize:], b.content[number%contents])
	b.pages[producer].sent.Store(number + 1)
}

// Number is the number of a body among those of its producer.
func Number(body []byte) uint64 { return binary.BigEndian.Uint64(body[4:]) }

// Take ticks off a body that came back. Its error says what is wrong with it.
func (b *Book) Take(body []byte) error {
	if len(body) != b.size {
		return fmt.Errorf("a body of %d bytes came back, %d were sent", len(body), b.size)
	}
	producer, number := binary.BigEndian.Uint32(body), Number(body)
	if uint64(producer) >= uint64(len(b.pages)) || number >= b.pages[producer].sent.Load() {
		return fmt.Errorf("message %d of producer %d came back, which was not sent", number, producer)
	}
	if !bytes.Equal(body[stampSize:], b.content[number%contents]) {
		return fmt.Errorf("message %d of producer %d came back changed", number, producer)
	}
	word, bit := b.pages[producer].word(number), uint64(1)<<(number%64)
	if word.Or(bit)&bit != 0 {
		return fmt.Errorf("message %d of producer %d came back twice", number, producer)
	}
	b.taken.Add(1)
	return nil
}

func (p *page) word(number uint64) *atomic.Uint64 {
	at := &p.seen[number>>chunkBits]
	c := at.Load()
	if c == nil {
		at.CompareAndSwap(nil, new(chunk))
		c = at.Load()
	}
	return &c[number%(1<<chunkBits)/64]
}

// Sent is how many messages were filled in.
func (b *Book) Sent() (n int64) {
	for i := range b.pages {
		n += int64(b.pages[i].sent.Load())
	}
	return n
}

// Taken is how many came back.
func (b *Book) Taken() int64 { return b.taken.Load() }

// Missing is nil when everything that was sent has come back. Nobody may send or take meanwhile.
func (b *Book) Missing() error {
	for i := range b.pages {
		p := &b.pages[i]
		for number := uint64(0); number < p.sent.Load(); number += 64 {
			unseen := ^p.word(number).Load()
			if left := p.sent.Load() - number; left < 64 {
				unseen &= 1<<left - 1
			}
			if unseen != 0 {
				return fmt.Errorf("%d of %d messages are missing, the first is %d of producer %d",
					b.Sent()-b.Taken(), b.Sent(), number+uint64(bits.TrailingZeros64(unseen)), i)
			}
		}
	}
	return nil
}

// Again makes everything that was sent expected once more.
func (b *Book) Again() {
	for i := range b.pages {
		clear(b.pages[i].seen[:])
	}
	b.taken.Store(0)
}
