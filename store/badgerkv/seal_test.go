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

// sealGolden is the seal of version 0x0102030405060708. It never changes.
const sealGolden = "73706f6f6c69647801000000" + "437eee6f" + "0807060504030201"

func TestSealGolden(t *testing.T) {
	b := encodeSeal(0x0102030405060708)
	if got := hex.EncodeToString(b[:]); got != sealGolden {
		t.Errorf("encodeSeal = %s, want %s", got, sealGolden)
	}
	got, err := decodeSeal("x", b[:])
	if err != nil || got != 0x0102030405060708 {
		t.Errorf("decodeSeal = %#x, %v", got, err)
	}
}

func TestSealDamage(t *testing.T) {
	b := encodeSeal(42)
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if v, err := decodeSeal("x", b[:]); !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("byte %d, bit %d: decodeSeal = %d, %v, want %v", i, bit, v, err, store.ErrCorrupt)
			}
			b[i] ^= 1 << bit
		}
	}
	for n := range len(b) {
		if _, err := decodeSeal("x", b[:n]); !errors.Is(err, store.ErrCorrupt) {
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
