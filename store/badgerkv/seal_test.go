package badgerkv

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/spoolmq/spool/store"
)

// Seals of version 0x0102030405060708, in format 1 and as they are written. They never change.
const (
	sealGolden1 = "73706f6f6c69647801000000" + "437eee6f" + "0807060504030201"
	sealGolden  = "73706f6f6c69647802000000" + "13027c3c" + "0807060504030201"
)

func TestSealGolden(t *testing.T) {
	b := encodeSeal(0x0102030405060708)
	if got := hex.EncodeToString(b[:]); got != sealGolden {
		t.Errorf("encodeSeal = %s, want %s", got, sealGolden)
	}
	for i, golden := range []string{sealGolden1, sealGolden} {
		b, err := hex.DecodeString(golden)
		must(t, err)
		got, format, err := decodeSeal("x", b)
		if err != nil || got != 0x0102030405060708 || format != uint32(i+1) {
			t.Errorf("decodeSeal(%s) = %#x, %d, %v", golden, got, format, err)
		}
	}
}

func TestSealDamage(t *testing.T) {
	b := encodeSeal(42)
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if v, _, err := decodeSeal("x", b[:]); !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("byte %d, bit %d: decodeSeal = %d, %v, want %v", i, bit, v, err, store.ErrCorrupt)
			}
			b[i] ^= 1 << bit
		}
	}
	for n := range len(b) {
		if _, _, err := decodeSeal("x", b[:n]); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%d bytes: %v, want %v", n, err, store.ErrCorrupt)
		}
	}
}

func TestSealOfNewerVersion(t *testing.T) {
	dir := t.TempDir()
	must(t, mustOpen(t, dir).Close())
	b := encodeSeal(0)
	binary.LittleEndian.PutUint32(b[sealFormatA:], sealFormat+1)
	binary.LittleEndian.PutUint32(b[sealCRCA:], sealCRC(b[:]))
	must(t, os.WriteFile(filepath.Join(dir, sealName), b[:], 0o600))
	if _, err := Open(dir, Options{}); !errors.Is(err, store.ErrFormatVersion) {
		t.Errorf("Open = %v, want %v", err, store.ErrFormatVersion)
	}
}
