package badgerkv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spoolmq/spool/store"
)

// memoryBound is what a process may have in anonymous memory (RssAnon) that does nothing but use an index, at any time, in
// MB.
const memoryBound = 64

// TestMemory floods an index in one process, and opens and reads it in another.
func TestMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("RssAnon is read from /proc/self/status")
	}
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	dir := t.TempDir()
	for _, task := range []string{"memory write", "memory read"} {
		var peak, mb int
		if _, err := fmt.Sscan(runChild(t, task, dir), &peak, &mb); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d MB, RssAnon up to %d MB", task, mb, peak)
		if peak >= memoryBound {
			t.Errorf("%s: RssAnon was up to %d MB, want below %d", task, peak, memoryBound)
		}
	}
}

// A flood writes as checkpoints do: keys of 21 bytes, values of 4 to 30 KB under new keys, about 256 KB a batch, the keys
// before them removed after a sync. Each pass replaces a tenth of the keys.
type flood struct {
	keys    int
	current []atomic.Int64 // pass at which a key was written last and synced, -1 for none
	written int            // bytes
}

func newFlood(keys int) *flood {
	f := &flood{keys: keys, current: make([]atomic.Int64, keys)}
	for i := range f.current {
		f.current[i].Store(-1)
	}
	return f
}

func (f *flood) key(i int, pass int64) []byte {
	k := binary.BigEndian.AppendUint64([]byte("S0001"), uint64(i))
	return binary.BigEndian.AppendUint64(k, uint64(pass))
}

func (f *flood) value(i int, pass int64) []byte {
	v := make([]byte, 4<<10+(i*7919+int(pass)*104729)%(26<<10)&^7)
	for at := 0; at < len(v); at += 8 {
		binary.LittleEndian.PutUint64(v[at:], uint64(at+i)*0x9e3779b97f4a7c15)
	}
	return v
}

func (f *flood) run(ix store.Index, passes int) error {
	for pass := range int64(passes) {
		var done []int
		var old, batch []store.Change
		size := 0
		for i := int(pass) % 10; i < f.keys; i += 10 {
			c := store.Change{Key: f.key(i, pass), Value: f.value(i, pass)}
			batch = append(batch, c)
			size += len(c.Value)
			if before := f.current[i].Load(); before >= 0 {
				old = append(old, store.Change{Key: f.key(i, before)})
			}
			if done = append(done, i); size < 256<<10 && i+10 < f.keys {
				continue
			}
			if err := ix.Apply(batch); err != nil {
				return err
			}
			f.written += size
			batch, size = nil, 0
		}
		if err := ix.Sync(); err != nil {
			return err
		}
		for _, i := range done {
			f.current[i].Store(pass)
		}
		if err := ix.Apply(old); err != nil {
			return err
		}
	}
	return nil
}

// read gets keys in no order until stop is set.
func (f *flood) read(ix store.Index, stop *atomic.Bool) error {
	r := rand.New(rand.NewPCG(1, 2))
	for !stop.Load() {
		i := r.IntN(f.keys)
		pass := f.current[i].Load()
		if pass < 0 {
			continue
		}
		got, err := ix.Get(f.key(i, pass))
		if errors.Is(err, store.ErrNotFound) && f.current[i].Load() != pass {
			continue // removed since
		}
		if err != nil || !bytes.Equal(got, f.value(i, pass)) {
			return fmt.Errorf("key %d of pass %d: %d bytes, %w", i, pass, len(got), err)
		}
		time.Sleep(100 * time.Microsecond)
	}
	return nil
}

// writeMB writes n MB as values of 4 KB under keys in no order, 1 MB a batch, 4 MB a sync.
func writeMB(ix store.Index, n int) error {
	value := bytes.Repeat([]byte("0123456789abcdef"), 256)
	batch := make([]store.Change, 256)
	for mb := range n {
		for i := range batch {
			key := (mb*len(batch) + i) * 7919 % 1_000_003
			batch[i] = store.Change{Key: fmt.Appendf(nil, "%09d", key), Value: value}
		}
		if err := ix.Apply(batch); err != nil {
			return err
		}
		if mb%4 == 3 {
			if err := ix.Sync(); err != nil {
				return err
			}
		}
	}
	return nil
}

// readAll reads an index page by page and returns how many entries it has.
func readAll(ix store.Index) (n int, err error) {
	const limit = 500
	for from := []byte(nil); ; {
		page, err := ix.Scan(from, nil, limit)
		if err != nil {
			return n, err
		}
		n += len(page)
		if len(page) < limit {
			return n, nil
		}
		from = append(page[len(page)-1].Key, 0)
	}
}

// watchRSS returns a function that tells the highest RssAnon since the call, in MB.
func watchRSS() func() int64 {
	var peak, stop atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for stop.Load() == 0 {
			peak.Store(max(peak.Load(), rssAnon()))
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return func() int64 {
		stop.Store(1)
		<-done
		return peak.Load() >> 10
	}
}

// rssAnon is the anonymous memory of this process in KB.
func rssAnon() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Keys and passes of the flood in TestMemory: 140 MB in use, 420 MB written.
const memoryKeys, memoryPasses = 8000, 30

func init() {
	childTasks["memory write"] = func(args []string) error {
		ix, err := Open(args[0], Options{})
		if err != nil {
			return err
		}
		peak := watchRSS()
		f := newFlood(memoryKeys)
		var stop atomic.Bool
		reading := make(chan error, 1)
		go func() { reading <- f.read(ix, &stop) }()
		err = f.run(ix, memoryPasses)
		stop.Store(true)
		if err = errors.Join(err, <-reading, ix.Close()); err != nil {
			return err
		}
		fmt.Println(peak(), f.written>>20)
		return nil
	}
	childTasks["memory read"] = func(args []string) error {
		peak := watchRSS()
		ix, err := Open(args[0], Options{})
		if err != nil {
			return err
		}
		n, size := 0, 0
		for from := []byte(nil); n < memoryKeys; {
			page, err := ix.Scan(from, nil, 100)
			if err != nil || len(page) == 0 {
				return fmt.Errorf("%d entries, %w, want %d", n, err, memoryKeys)
			}
			for _, e := range page {
				size += len(e.Value)
			}
			n += len(page)
			from = append(page[len(page)-1].Key, 0)
		}
		if err := ix.Close(); err != nil {
			return err
		}
		fmt.Println(peak(), size>>20)
		return nil
	}
}
