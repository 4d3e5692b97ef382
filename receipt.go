package spool

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
)

// Format: a receipt is 40 bytes in base64url without padding, 54 characters.
//
//	 0  u32  queue
//	 4  u64  sequence of the message
//	12  u64  nonce of the delivery: epoch << 40 | count, never used twice
//	20  u32  0
//	24       AES-128 CBC-MAC over bytes 0..23 and 8 fixed bytes, under a key of the spool
//
// CBC-MAC is a sound MAC for inputs of one fixed length (Bellare, Kilian, Rogaway 1994). HMAC-SHA256 costs six times as
// much here, which is more than the rest of a delete's checks together.
//
// An ID is 16 bytes in base64url, 22 characters: queue u32, epoch u32, sequence u64. The epoch makes sure that no ID is
// given out twice, even when a power loss takes the end of a log.
const (
	receiptPlain = 24
	receiptSize  = receiptPlain + aes.BlockSize
	idSize       = 16

	nonceBits = 40 // Bound: 10^12 deliveries between two Opens, 8 million Opens; the highest bit is voided's
)

var (
	receiptText = base64.RawURLEncoding.EncodedLen(receiptSize)
	idText      = base64.RawURLEncoding.EncodedLen(idSize)
)

// delivery names one delivery of one message: what a receipt says.
type delivery struct {
	queue uint32
	seq   uint64
	nonce uint64
}

// A sealer makes and opens receipts. It is safe for concurrent use.
type sealer struct {
	block   cipher.Block
	scratch sync.Pool // *sealScratch: what is handed to an interface escapes
}

type sealScratch struct {
	raw [receiptSize]byte
	mac [aes.BlockSize]byte
	id  [idSize]byte
}

func newSealer(key [32]byte) *sealer {
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		panic("spool: AES refuses a key of 16 bytes: " + err.Error()) // it cannot
	}
	return &sealer{block: block, scratch: sync.Pool{New: func() any { return new(sealScratch) }}}
}

// sum computes the MAC of raw[:receiptPlain] into mac.
func (s *sealer) sum(x *sealScratch) {
	s.block.Encrypt(x.mac[:], x.raw[:aes.BlockSize])
	for i, c := range x.raw[aes.BlockSize:receiptPlain] {
		x.mac[i] ^= c
	}
	for i := receiptPlain - aes.BlockSize; i < aes.BlockSize; i++ {
		x.mac[i] ^= 's'
	}
	s.block.Encrypt(x.mac[:], x.mac[:])
}

// seal returns a message's ID and the receipt of one delivery. They share one allocation.
func (s *sealer) seal(d delivery, epoch uint32) (id, receipt string) {
	x := s.scratch.Get().(*sealScratch)
	putDelivery(&x.raw, d)
	s.sum(x)
	copy(x.raw[receiptPlain:], x.mac[:])
	putID(&x.id, d.queue, epoch, d.seq)
	var text [128]byte
	base64.RawURLEncoding.Encode(text[:], x.id[:])
	base64.RawURLEncoding.Encode(text[idText:], x.raw[:])
	s.scratch.Put(x)
	both := string(text[:idText+receiptText])
	return both[:idText], both[idText:]
}

// open returns what a receipt says, or ok = false when this spool has not made it.
func (s *sealer) open(receipt string) (d delivery, ok bool) {
	if len(receipt) != receiptText {
		return delivery{}, false
	}
	x := s.scratch.Get().(*sealScratch)
	defer s.scratch.Put(x)
	var text [64]byte
	n := copy(text[:], receipt)
	if m, err := base64.RawURLEncoding.Strict().Decode(x.raw[:], text[:n]); err != nil || m != receiptSize {
		return delivery{}, false
	}
	s.sum(x)
	if subtle.ConstantTimeCompare(x.mac[:], x.raw[receiptPlain:]) != 1 {
		return delivery{}, false
	}
	le := binary.LittleEndian
	return delivery{le.Uint32(x.raw[0:]), le.Uint64(x.raw[4:]), le.Uint64(x.raw[12:])}, true
}

// A claim is what a receipt says.
type claim struct {
	delivery
	ours bool // this spool has made the receipt
}

func (s *sealer) claim(receipt string) claim {
	d, ok := s.open(receipt)
	return claim{d, ok}
}

// claims opens receipts and appends what they say.
func (s *sealer) claims(to []claim, receipts []string) []claim {
	to = slices.Grow(to, len(receipts))
	for _, receipt := range receipts {
		to = append(to, s.claim(receipt))
	}
	return to
}

func putDelivery(raw *[receiptSize]byte, d delivery) {
	le := binary.LittleEndian
	le.PutUint32(raw[0:], d.queue)
	le.PutUint64(raw[4:], d.seq)
	le.PutUint64(raw[12:], d.nonce)
	le.PutUint32(raw[20:], 0)
}

func putID(raw *[idSize]byte, queue, epoch uint32, seq uint64) {
	binary.BigEndian.PutUint32(raw[0:], queue)
	binary.BigEndian.PutUint32(raw[4:], epoch)
	binary.BigEndian.PutUint64(raw[8:], seq)
}

// messageID returns the ID of a message.
func messageID(queue, epoch uint32, seq uint64) string {
	var raw [idSize]byte
	putID(&raw, queue, epoch, seq)
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// messageIDs returns the IDs of n messages in sequence. They share one string.
func messageIDs(queue, epoch uint32, first uint64, n int) []string {
	var raw [idSize]byte
	var one [2 * idSize]byte
	var text strings.Builder
	text.Grow(n * idText)
	for i := range n {
		putID(&raw, queue, epoch, first+uint64(i))
		text.Write(base64.RawURLEncoding.AppendEncode(one[:0], raw[:]))
	}
	all, ids := text.String(), make([]string, n)
	for i := range ids {
		ids[i] = all[i*idText : (i+1)*idText]
	}
	return ids
}

// recentDeletes is how many deletions are remembered at least, so that a second delete learns that it is one.
const recentDeletes = 4096

// A memory holds the latest deletions of a spool, in a ring. It is safe for concurrent use.
type memory struct {
	mu   sync.Mutex
	ring []delivery // guarded by mu; Bound: recentDeletes
	at   int        // guarded by mu
}

func (m *memory) add(d delivery) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.ring) < recentDeletes {
		m.ring = append(m.ring, d)
		return
	}
	m.ring[m.at] = d
	m.at = (m.at + 1) % recentDeletes
}

// reason tells of a message that is not here whether this delivery deleted it, or a later one did.
func (m *memory) reason(d delivery) Reason {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := Gone
	for _, x := range m.ring {
		switch {
		case x == d:
			return Deleted
		case x.queue == d.queue && x.seq == d.seq && x.nonce > d.nonce:
			r = Stale
		}
	}
	return r
}
