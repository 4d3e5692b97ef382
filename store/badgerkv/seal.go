package badgerkv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spoolmq/spool/store"
)

// The seal says up to which version the index was synced, and which format it has.
//
// Format: one record of 24 bytes in the file SEAL, little endian, overwritten in place (a sector is written whole):
//
//	offset  0  magic "spoolidx"
//	        8  format version, uint32, 2
//	       12  CRC-32C of bytes 0 to 12 and 16 to 24
//	       16  synced version, uint64
const (
	sealName    = "SEAL"
	sealMagic   = "spoolidx"
	sealFormat  = 2 // 1 is that of indexes without value files, which are read as well
	sealSize    = 24
	sealFormatA = 8
	sealCRCA    = 12
	sealSyncedA = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeSeal(synced uint64) [sealSize]byte {
	var b [sealSize]byte
	copy(b[:], sealMagic)
	binary.LittleEndian.PutUint32(b[sealFormatA:], sealFormat)
	binary.LittleEndian.PutUint64(b[sealSyncedA:], synced)
	binary.LittleEndian.PutUint32(b[sealCRCA:], sealCRC(b[:]))
	return b
}

func decodeSeal(path string, b []byte) (synced uint64, format uint32, err error) {
	if len(b) != sealSize || string(b[:len(sealMagic)]) != sealMagic {
		return 0, 0, corrupt(path, 0, "not a seal (%d bytes)", len(b))
	}
	if got, want := binary.LittleEndian.Uint32(b[sealCRCA:]), sealCRC(b); got != want {
		return 0, 0, corrupt(path, sealCRCA, "checksum %08x, want %08x", got, want)
	}
	if format = binary.LittleEndian.Uint32(b[sealFormatA:]); format > sealFormat {
		err = fmt.Errorf("badgerkv: %s: format %d, newest known is %d: %w", path, format, sealFormat, store.ErrFormatVersion)
		return 0, 0, err
	}
	return binary.LittleEndian.Uint64(b[sealSyncedA:]), format, nil
}

func sealCRC(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:sealCRCA], castagnoli), castagnoli, b[sealSyncedA:sealSize])
}

// readSeal returns the synced version; found is false when there is no seal. The seal of an older format gets the present
// one, before anything is written that only this one has.
func readSeal(dir string) (synced uint64, found bool, err error) {
	path := filepath.Join(dir, sealName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("badgerkv: %w", err)
	}
	synced, format, err := decodeSeal(path, b)
	if err == nil && format < sealFormat {
		err = writeSeal(dir, synced)
	}
	return synced, true, err
}

// writeSeal makes the seal durable. The caller syncs the directory when the file is new.
func writeSeal(dir string, synced uint64) error {
	f, err := os.OpenFile(filepath.Join(dir, sealName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("badgerkv: %w", err)
	}
	b := encodeSeal(synced)
	_, err = f.WriteAt(b[:], 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("badgerkv: seal: %w", err)
	}
	return nil
}
