package badgerkv

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"
	"os"
	"strconv"
)

// Badger's write-ahead log, one file for each memtable that has not become a table yet, as of format 8. Badger stops at
// the first entry that does not verify and takes the rest for empty, so the logs are read here first.
//
//	file   = key id (uint64, 0: not encrypted), 12 random bytes, entries, zeros
//	entry  = meta, user meta, key length, value length, expiry (uvarints), key, value, CRC-32C of all before (big endian)
//	key    = stored key, MaxUint64 − version (uint64, big endian)
//
// A transaction is its entries, marked logEntry, and an entry marked logEnd whose value is the version in decimal.
const (
	logKeyID      = 8
	logHeaderSize = 20
	logEntry      = 1 << 6
	logEnd        = 1 << 7
	versionSize   = 8

	longestStoredKey = len(userPrefix) + MaxKey + versionSize
)

// verifyLogs reads the logs in order and returns the newest version in tables and logs. A log may begin anywhere up to
// the version after the newest one known: what was flushed just before a crash is in a table and still in its log. The
// logs end before a transaction of which a value was lost: a power failure may do that to what was not synced.
func (s *survey) verifyLogs(newest uint64, values *unsynced) (uint64, error) {
	for i, f := range s.logs {
		r, err := readLog(f, values)
		if err != nil {
			return 0, err
		}
		if r.first > newest+1 {
			return 0, corrupt(f.path, logHeaderSize, "begins at version %d, everything before ends at %d", r.first, newest)
		}
		newest = max(newest, r.last)
		if r.lost {
			s.cut = cut{log: i, at: r.start}
			break
		}
	}
	return newest, nil
}

// A logReader walks over one log.
type logReader struct {
	path string
	r    *bufio.Reader
	crc  hash.Hash32
	at   int64 // offset of the entry being read
	read int64 // bytes of it read so far

	first, last uint64 // versions of the complete transactions, 0 when there is none
	open        uint64 // version of the transaction being read, or 0
	start       int64  // its offset

	values *unsynced   // nil when values are not looked at
	each   func(entry) // is shown every entry; nil when nobody wants to see them
	lost   bool        // a value of the open transaction was lost; it and what follows do not count
}

// errLogEnd says that no whole entry follows.
var errLogEnd = errors.New("end of log")

func readLog(f file, values *unsynced) (*logReader, error) {
	lr, r, err := openLog(f, values)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return lr, lr.readAll(r, f.size)
}

func openLog(f file, values *unsynced) (*logReader, *os.File, error) {
	r, err := os.Open(f.path)
	if err != nil {
		return nil, nil, fmt.Errorf("badgerkv: %w", err)
	}
	return &logReader{path: f.path, crc: crc32.New(castagnoli), at: logHeaderSize, values: values}, r, nil
}

// readAll reads a log of the given size.
func (lr *logReader) readAll(r io.ReaderAt, size int64) error {
	if size < logHeaderSize {
		return nil // Badger takes it for empty.
	}
	var header [logHeaderSize]byte
	if _, err := r.ReadAt(header[:], 0); err != nil {
		return lr.readError(err)
	}
	if id := binary.BigEndian.Uint64(header[:logKeyID]); id != 0 {
		return corrupt(lr.path, 0, "encrypted with key %d", id)
	}
	lr.r = bufio.NewReaderSize(io.NewSectionReader(r, logHeaderSize, size-logHeaderSize), 64<<10)
	for {
		if err := lr.next(); err == errLogEnd {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// An entry is a change in a log, its key without the version.
type entry struct {
	meta, userMeta byte
	version        uint64
	key, value     []byte
}

// next reads one entry and follows the transactions.
func (lr *logReader) next() error {
	e, err := lr.entry()
	if err != nil {
		return err
	}
	switch {
	case e.meta&logEnd != 0:
		err = lr.end(e.value)
	case e.meta&logEntry == 0:
		err = corrupt(lr.path, lr.at, "entry outside of a transaction")
	case lr.open == 0:
		lr.open, lr.start = e.version, lr.at
	case lr.open != e.version:
		err = corrupt(lr.path, lr.at, "entry of version %d in transaction %d", e.version, lr.open)
	}
	if err == nil && lr.each != nil {
		lr.each(e)
	}
	if err == nil && lr.values != nil && e.userMeta == metaPointer {
		err = lr.value(e)
	}
	lr.at += lr.read
	return err
}

// value looks for the value of an entry. Where it is lost, the log ends for us before the transaction.
func (lr *logReader) value(e entry) error {
	whole, err := lr.values.whole(e.key, e.value, e.version)
	if err != nil || whole {
		return err
	}
	lr.lost = true
	return errLogEnd
}

// end completes a transaction.
func (lr *logReader) end(value []byte) error {
	version, err := strconv.ParseUint(string(value), 10, 64)
	if err != nil || version == 0 || version != lr.open {
		return corrupt(lr.path, lr.at, "end of version %q in transaction %d", value, lr.open)
	}
	if lr.last != 0 && version != lr.last+1 {
		return corrupt(lr.path, lr.at, "version %d follows %d", version, lr.last)
	}
	if lr.first == 0 {
		lr.first = version
	}
	lr.last, lr.open = version, 0
	return nil
}

// entry reads one entry. Lengths are held against the limits before anything is allocated; Badger allocates up to 8 GB.
func (lr *logReader) entry() (e entry, err error) {
	lr.crc.Reset()
	lr.read = 0
	for _, b := range []*byte{&e.meta, &e.userMeta} {
		if *b, err = lr.ReadByte(); err != nil {
			return e, err
		}
	}
	var lengths [3]uint64 // key, value, expiry
	for i := range lengths {
		if lengths[i], err = lr.uvarint(); err != nil {
			return e, err
		}
	}
	if lengths[0] == 0 {
		return e, errLogEnd // zeros, where nothing has been written yet
	}
	if lengths[0] < versionSize || lengths[0] > uint64(longestStoredKey) || lengths[1] > MaxValue {
		return e, corrupt(lr.path, lr.at, "entry with a key of %d bytes and a value of %d", lengths[0], lengths[1])
	}
	body, err := lr.body(int(lengths[0] + lengths[1]))
	if err != nil {
		return e, err
	}
	e.key, e.value = body[:lengths[0]-versionSize], body[lengths[0]:]
	e.version = math.MaxUint64 - binary.BigEndian.Uint64(body[len(e.key):])
	return e, nil
}

// body reads key and value and the checksum behind them.
func (lr *logReader) body(n int) ([]byte, error) {
	b := make([]byte, n+crc32.Size)
	m, err := io.ReadFull(lr.r, b)
	lr.read += int64(m)
	if err != nil {
		return nil, lr.readError(err)
	}
	lr.crc.Write(b[:n])
	if binary.BigEndian.Uint32(b[n:]) != lr.crc.Sum32() {
		return nil, errLogEnd
	}
	return b[:n], nil
}

// uvarint reads a length. One that does not fit makes Badger's Open fail.
func (lr *logReader) uvarint() (uint64, error) {
	v, err := binary.ReadUvarint(lr)
	if err != nil && err != errLogEnd {
		err = corrupt(lr.path, lr.at, "length: %v", err)
	}
	return v, err
}

// ReadByte is part of what binary.ReadUvarint needs.
func (lr *logReader) ReadByte() (byte, error) {
	b, err := lr.r.ReadByte()
	if err != nil {
		return 0, lr.readError(err)
	}
	lr.read++
	lr.crc.Write([]byte{b})
	return b, nil
}

// readError tells the end of the file from a disk that cannot be read.
func (lr *logReader) readError(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errLogEnd
	}
	return fmt.Errorf("badgerkv: %s at offset %d: %w", lr.path, lr.at, err)
}
