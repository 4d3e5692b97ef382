package seglog

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/spoolmq/spool/store"
)

// formatVersion is the version of every file of this package. An older reader answers ErrFormatVersion to a newer one.
const formatVersion = 1

// An identity is what a spool is made with and keeps for life.
type identity struct {
	id  [16]byte // random
	key [32]byte // random, secret
}

// Format: FORMAT is three lines of text. The frame of it, three lines of which the last sums the others, is the same in
// all versions, so that damage is told from a newer version.
//
//	spool <version, decimal>
//	<spool id, 32 hexadecimal digits>
//	<CRC-32C of the lines above with their line ends, 8 hexadecimal digits>
const formatLimit = 256 // Bound: bytes of FORMAT that are looked at

func encodeFormat(id [16]byte) []byte {
	text := fmt.Sprintf("spool %d\n%x\n", formatVersion, id)
	return fmt.Appendf(nil, "%s%08x\n", text, crc32.Checksum([]byte(text), store.Castagnoli))
}

// decodeFormat returns the spool id. The error is store.ErrFormatVersion or says what is wrong.
func decodeFormat(b []byte) (id [16]byte, err error) {
	lines := strings.SplitAfter(string(b), "\n")
	if len(lines) != 4 || lines[3] != "" {
		return id, fmt.Errorf("%d bytes that are not three lines", len(b))
	}
	sum := fmt.Sprintf("%08x\n", crc32.Checksum([]byte(lines[0]+lines[1]), store.Castagnoli))
	if lines[2] != sum {
		return id, fmt.Errorf("checksum %.8q, want %.8q", lines[2], sum)
	}
	version, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(lines[0], "spool "), "\n"), 10, 32)
	if err != nil {
		return id, fmt.Errorf("version line %q", lines[0])
	}
	if err := checkVersion(uint32(version)); err != nil {
		return id, err
	}
	raw, err := hex.DecodeString(strings.TrimSuffix(lines[1], "\n"))
	if err != nil || len(raw) != len(id) {
		return id, fmt.Errorf("spool id %q", lines[1])
	}
	if id = [16]byte(raw); string(encodeFormat(id)) != string(b) {
		return id, fmt.Errorf("%q is written differently", b)
	}
	return id, nil
}

// Format: KEY, little endian.
//
//	 0  u32  magic
//	 4  u32  CRC-32C of bytes 8..63
//	 8  u32  version
//	12  u32  zero
//	16       spool id
//	32       key
const (
	keySize  = 64
	keyMagic = 0x594b5053 // "SPKY"
)

func encodeKey(i identity) []byte {
	b := make([]byte, keySize)
	copy(b[16:], i.id[:])
	copy(b[32:], i.key[:])
	seal(b, keyMagic)
	return b
}

// decodeKey is the inverse of encodeKey. The error is store.ErrFormatVersion or says what is wrong, without the key.
func decodeKey(b []byte) (identity, error) {
	if len(b) != keySize {
		return identity{}, fmt.Errorf("%d bytes, want %d", len(b), keySize)
	}
	if err := unseal(b, keyMagic); err != nil {
		return identity{}, err
	}
	if zero := binary.LittleEndian.Uint32(b[12:]); zero != 0 {
		return identity{}, fmt.Errorf("%#x, want 0", zero)
	}
	return identity{id: [16]byte(b[16:32]), key: [32]byte(b[32:64])}, nil
}

// seal fills in what the binary formats of this package begin with: magic, checksum of all behind it, version.
func seal(b []byte, magic uint32) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], magic)
	le.PutUint32(b[8:], formatVersion)
	le.PutUint32(b[4:], crc32.Checksum(b[8:], store.Castagnoli))
}

// unseal verifies what seal wrote.
func unseal(b []byte, magic uint32) error {
	le := binary.LittleEndian
	if m := le.Uint32(b[0:]); m != magic {
		return fmt.Errorf("magic %#x, want %#x", m, magic)
	}
	if sum := crc32.Checksum(b[8:], store.Castagnoli); sum != le.Uint32(b[4:]) {
		return fmt.Errorf("checksum %#x, want %#x", le.Uint32(b[4:]), sum)
	}
	return checkVersion(le.Uint32(b[8:]))
}

// checkVersion tells a newer version from damage. Caller has verified the checksum.
func checkVersion(v uint32) error {
	switch {
	case v > formatVersion:
		return fmt.Errorf("version %d, newest known %d: %w", v, formatVersion, store.ErrFormatVersion)
	case v == 0:
		return fmt.Errorf("version 0, want 1 to %d", formatVersion)
	}
	return nil
}
