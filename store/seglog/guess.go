package seglog

import (
	"bytes"
	"encoding/binary"

	"github.com/spoolmq/spool/store"
)

// A lead is what frames of one salt tell of the segment they were written to.
type lead struct {
	low, high store.Position
	from      int64 // offset of the lowest
	epoch     uint32
}

// guess finds out what a header said that cannot be read. A frame's checksum begins with the salt, so the frame tells
// it. Files are used again: of several salts the one with the highest positions is the present one.
func (p *piece) guess(f vfile) error {
	w := excerpt{f: f, path: p.path}
	var magic [4]byte
	binary.LittleEndian.PutUint32(magic[:], store.FrameMagic)
	leads := map[uint32]*lead{}
	work := 16*p.length + store.MaxFrameSize
	for at := int64(0); ; {
		b, err := w.some(at)
		if err != nil {
			return err
		}
		if len(b) < store.FrameHeaderSize {
			break
		}
		i := bytes.Index(b[:len(b)-store.FrameHeaderSize+len(magic)], magic[:])
		if i < 0 {
			at += int64(len(b) - store.FrameHeaderSize + 1)
			continue
		}
		at += int64(i)
		h, salt, err := p.unsalted(&w, at, leads, &work)
		if err != nil {
			return err
		}
		if h.Size == 0 {
			at++
			continue
		}
		l := leads[salt]
		if l == nil {
			l = &lead{low: h.Pos, from: at}
			leads[salt] = l
		}
		l.high, l.epoch = max(l.high, h.Pos), max(l.epoch, h.Epoch)
		at += int64(h.Size)
	}
	var best *lead
	for salt, l := range leads {
		if best == nil || l.high > best.high {
			best = l
			p.header = header{base: l.low, prev: l.low, salt: salt, epoch: l.epoch, size: max(p.length, overhead+pageSize), kind: kindUsed}
			p.from = l.from
		}
	}
	p.guessed = best != nil
	return nil
}

// unsalted returns the header of the frame at an offset and the salt it was made with. Size is 0 when there is none: a
// salt fits any bytes, so the records have to verify, unless other frames have the same salt.
func (p *piece) unsalted(w *excerpt, at int64, leads map[uint32]*lead, work *int64) (h store.FrameHeader, salt uint32, err error) {
	b, err := w.bytes(at, store.FrameHeaderSize)
	if err != nil || len(b) < store.FrameHeaderSize {
		return h, 0, err
	}
	salt = saltOf(binary.LittleEndian.Uint32(b[4:]), b[8:store.FrameHeaderSize])
	h, bad := store.ParseFrameHeader(b, salt)
	if bad != nil || h.Synced > h.Pos || h.Records == 0 || at+int64(h.Size) > p.length {
		return store.FrameHeader{}, 0, nil
	}
	if leads[salt] != nil {
		return h, salt, nil
	}
	if *work -= int64(h.Size); *work < 0 {
		return store.FrameHeader{}, 0, nil
	}
	if b, err = w.bytes(at, int(h.Size)); err != nil {
		return h, 0, err
	}
	if store.CheckHeads(h, b[store.FrameHeaderSize:][:h.Payload], false) != nil {
		return store.FrameHeader{}, 0, nil
	}
	return h, salt, nil
}

// saltOf returns the value with which the CRC-32C of b has to begin to become sum: the table's highest bytes are all
// different, so each step can be taken back.
func saltOf(sum uint32, b []byte) uint32 {
	sum = ^sum
	for i := len(b) - 1; i >= 0; i-- {
		j := unstep[sum>>24]
		sum = (sum^store.Castagnoli[j])<<8 | uint32(j^b[i])
	}
	return ^sum
}

// unstep maps the highest byte of an element of the table to its index.
var unstep = func() (index [256]byte) {
	for i, v := range store.Castagnoli {
		index[v>>24] = byte(i)
	}
	return index
}()

// reach makes a guessed segment begin at a position, where the frame before it ends, if the file has room for that: its
// first frames were not found.
func (p *piece) reach(pos store.Position) {
	if missed := int64(p.base - pos); p.guessed && p.base > pos && missed <= p.from {
		p.base, p.from = pos, p.from-missed
	}
}
