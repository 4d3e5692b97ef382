package badgerkv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spoolmq/spool/store"
)

// Bounds of what an index adds to the memory of its process, in MB.
const (
	memoryBound = 64  // live on the heap after 100 MB were written; RssAnon of an opened index of 100 MB, all of it read
	floodBound  = 192 // RssAnon while 100 MB are written without a pause: the heap before the next collection (GOGC=100)
)

// TestMemory writes 100 MB in one process, and opens and reads them all in another.
func TestMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("RssAnon is read from /proc/self/status")
	}
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	dir := t.TempDir()
	var live, peak, opened int
	if _, err := fmt.Sscan(runChild(t, "memory write", dir), &live, &peak); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(runChild(t, "memory read", dir), &opened); err != nil {
		t.Fatal(err)
	}
	t.Logf("100 MB written: %d MB live, RssAnon grew by up to %d MB; opened and read: by up to %d MB", live, peak, opened)
	if live >= memoryBound || opened >= memoryBound || peak >= floodBound {
		t.Errorf("live %d, peak %d, opened %d MB, want below %d, %d, %d", live, peak, opened, memoryBound, floodBound, memoryBound)
	}
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

// liveAtRest is what lives on the heap when compactions have ended, or after 5 seconds.
func liveAtRest() uint64 {
	var m runtime.MemStats
	for range 50 {
		runtime.GC()
		runtime.ReadMemStats(&m)
		if m.HeapAlloc>>20 < memoryBound {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return m.HeapAlloc
}

// watchRSS returns a function that tells how far RssAnon has been above what it was at the call, in MB.
func watchRSS() func() int64 {
	base := rssAnon()
	var peak, stop atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for stop.Load() == 0 {
			peak.Store(max(peak.Load(), rssAnon()))
			time.Sleep(2 * time.Millisecond)
		}
	}()
	return func() int64 {
		stop.Store(1)
		<-done
		return (peak.Load() - base) >> 10
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

func init() {
	childTasks["memory write"] = func(args []string) error {
		ix, err := Open(args[0], Options{})
		if err != nil {
			return err
		}
		peak := watchRSS()
		if err := writeMB(ix, 100); err != nil {
			return err
		}
		grown := peak()
		fmt.Println(liveAtRest()>>20, grown)
		// Nothing is left to compact, so that the other process measures what reading takes.
		return errors.Join(ix.db.Flatten(1), ix.Close())
	}
	childTasks["memory read"] = func(args []string) error {
		peak := watchRSS()
		ix, err := Open(args[0], Options{})
		if err != nil {
			return err
		}
		n, err := readAll(ix)
		if err != nil {
			return err
		}
		if want := 100 * 256; n != want {
			return fmt.Errorf("%d entries, want %d", n, want)
		}
		fmt.Println(peak())
		return ix.Close()
	}
}
