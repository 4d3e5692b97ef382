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
// the version after the newest one known: what was flushed just before a crash is in a table and still in its log.
func (s *survey) verifyLogs(newest uint64) (uint64, error) {
	for _, f := range s.logs {
		r, err := readLog(f)
		if err != nil {
			return 0, err
		}
		if r.first > newest+1 {
			return 0, corrupt(f.path, logHeaderSize, "begins at version %d, everything before ends at %d", r.first, newest)
		}
		newest = max(newest, r.last)
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
}

// errLogEnd says that no whole entry follows.
var errLogEnd = errors.New("end of log")

func readLog(f file) (*logReader, error) {
	r, err := os.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("badgerkv: %w", err)
	}
	defer r.Close()
	lr := &logReader{path: f.path, crc: crc32.New(castagnoli), at: logHeaderSize}
	return lr, lr.readAll(r, f.size)
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

// next reads one entry and follows the transactions.
func (lr *logReader) next() error {
	meta, key, value, err := lr.entry()
	if err != nil {
		return err
	}
	version := math.MaxUint64 - binary.BigEndian.Uint64(key[len(key)-versionSize:])
	switch {
	case meta&logEnd != 0:
		err = lr.end(value)
	case meta&logEntry == 0:
		err = corrupt(lr.path, lr.at, "entry outside of a transaction")
	case lr.open == 0:
		lr.open = version
	case lr.open != version:
		err = corrupt(lr.path, lr.at, "entry of version %d in transaction %d", version, lr.open)
	}
	lr.at += lr.read
	return err
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
func (lr *logReader) entry() (meta byte, key, value []byte, err error) {
	lr.crc.Reset()
	lr.read = 0
	meta, err = lr.ReadByte()
	if err != nil {
		return 0, nil, nil, err
	}
	if _, err = lr.ReadByte(); err != nil { // user meta
		return 0, nil, nil, err
	}
	var lengths [3]uint64 // key, value, expiry
	for i := range lengths {
		if lengths[i], err = lr.uvarint(); err != nil {
			return 0, nil, nil, err
		}
	}
	if lengths[0] == 0 {
		return 0, nil, nil, errLogEnd // zeros, where nothing has been written yet
	}
	if lengths[0] < versionSize || lengths[0] > uint64(longestStoredKey) || lengths[1] > MaxValue {
		return 0, nil, nil, corrupt(lr.path, lr.at, "entry with a key of %d bytes and a value of %d", lengths[0], lengths[1])
	}
	body, err := lr.body(int(lengths[0] + lengths[1]))
	if err != nil {
		return 0, nil, nil, err
	}
	return meta, body[:lengths[0]], body[lengths[0]:], nil
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
