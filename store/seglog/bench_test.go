package seglog

import (
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/spoolmq/spool/store"
)

// records is a payload of n records with bodies of the given size.
func records(n, size int) store.Payload {
	body := make([]byte, size)
	sum := store.BodySum(body)
	p := store.Payload{Records: uint32(n)}
	var all []byte
	for range n {
		head := store.AppendRecordHead(nil, 1, make([]byte, 24), size, sum)
		p.Heads = crc32.Update(p.Heads, store.Castagnoli, head)
		all = append(append(all, head...), body...)
	}
	p.Parts, p.Len = [][]byte{all}, len(all)
	return p
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 64 << 10} {
		for _, synced := range []bool{false, true} {
			b.Run(fmt.Sprintf("size=%d/sync=%t", size, synced), func(b *testing.B) {
				l := openTest(b, b.TempDir(), Options{})
				defer l.Close()
				p := records(1, size)
				b.SetBytes(int64(p.Len))
				b.ReportAllocs()
				for b.Loop() {
					pos, err := l.Append(p)
					if err == nil && synced {
						err = l.Sync(pos + 1)
					}
					if at := l.Boundaries(); err == nil && len(at) > 4 {
						err = l.Drop(at[1]) // as a queue that is consumed does
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkReplay(b *testing.B) {
	for _, perFrame := range []int{1, 1000} {
		b.Run(fmt.Sprintf("1M×100B/records=%d", perFrame), func(b *testing.B) {
			l := openTest(b, b.TempDir(), Options{})
			defer l.Close()
			p := records(perFrame, 100)
			for range 1_000_000 / perFrame {
				if _, err := l.Append(p); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(l.End()))
			for b.Loop() {
				if err := l.Replay(0, func(store.Position, []byte) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReadRecord(b *testing.B) {
	for _, size := range []int{100, 1 << 10} {
		l := openTest(b, b.TempDir(), Options{})
		p := records(1, size)
		var at []store.Position
		for l.End() < 64<<20 {
			pos, err := l.Append(p)
			if err != nil {
				b.Fatal(err)
			}
			at = append(at, pos+store.FrameHeaderSize)
		}
		cold := len(at) * 9 / 10
		for name, index := range map[string]func(i int) int{
			"ring":       func(i int) int { return len(at) - 1 - i%100 },
			"sequential": func(i int) int { return i % cold },
			"random":     func(i int) int { return i * 7919 * 31 % cold },
		} {
			b.Run(fmt.Sprintf("%s/size=%d", name, size), func(b *testing.B) {
				b.ReportAllocs()
				dst := make([]byte, 0, 2*size)
				for i := 0; b.Loop(); i++ {
					if _, err := l.ReadRecord(at[index(i)], dst); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens an empty log.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		l, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		l.Close()
	}
}
