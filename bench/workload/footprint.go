package workload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

// A Footprint is what a backlog takes of memory, in bytes a message, and how long a store that has one takes to open.
type Footprint struct {
	Heap, Private                 float64       // Go's heap, and all memory that belongs to no file
	HeapReopened, PrivateReopened float64       // the same after the store was closed and opened again
	Open                          time.Duration // until the first message was received
	Stored                        int64
}

// Keep stores n messages of size bytes, fewer if the system's Bound passes, and weighs them.
func Keep(ctx context.Context, sys System, dir string, n, size int) (Footprint, error) {
	stock, err := NewBacklog(ctx, sys, dir, size)
	if err != nil {
		return Footprint{}, err
	}
	f, err := stock.keep(n)
	return f, errors.Join(err, stock.Close())
}

func (b *Backlog) keep(n int) (f Footprint, err error) {
	heap, private := memory(b.run.st)
	weigh := func() (float64, float64) {
		h, p := memory(b.run.st)
		return float64(h-heap) / float64(f.Stored), float64(p-private) / float64(f.Stored)
	}
	if err := b.Store(n); err != nil {
		return f, err
	}
	f.Stored = b.Stored()
	f.Heap, f.Private = weigh()
	if f.Open, err = b.reopen(); err != nil {
		return f, err
	}
	f.HeapReopened, f.PrivateReopened = weigh()
	return f, b.ReadBack()
}

// reopen closes the store and tells how long it takes to open it and to receive a message.
func (b *Backlog) reopen() (time.Duration, error) {
	if err := b.run.st.Close(); err != nil {
		return 0, err
	}
	start := time.Now()
	st, err := b.run.sys.Open(b.run.dir)
	if err != nil {
		b.run.st = closed{}
		return 0, err
	}
	b.run.st = st
	c, err := st.Consumer(0)
	if err != nil {
		return 0, err
	}
	into := make([]Message, 1)
	_, err = c.Receive(b.run.ctx, into)
	took := time.Since(start)
	if err == nil {
		err = errors.Join(b.Took(into[0].Body), c.Delete(b.run.ctx, into))
	}
	return took, errors.Join(err, c.Close())
}

// memory is what a store's process holds when everything has been freed that can be. What a server of its own has of Go's
// heap is nothing.
func memory(st Store) (heap, private int64) {
	if o, ok := st.(Outside); ok {
		return 0, PrivateMemory(o.PID())
	}
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), PrivateMemory(os.Getpid())
}

// Wear is what messages cost the disk.
type Wear struct {
	Device float64       // bytes that the device has written for a message, whoever wrote them
	Disk   int64         // bytes that are left when all messages have been deleted and the disk has come to rest
	Within time.Duration // after the last deletion, since when they were no more than allowed; longest: they are more
	Stored int64
}

const (
	restStep    = 100 * time.Millisecond
	restCalm    = 3 * time.Second
	restLongest = 30 * time.Second
)

// Use stores n messages, fewer if the system's Bound passes, from so many producers, one by one, deletes all of them, and
// waits until the disk usage has not changed for 3 s, at most 30 s. It counts everybody's writes: let nothing else run.
func Use(ctx context.Context, sys System, dir string, n, size, producers int, allowed int64) (Wear, error) {
	before := DeviceOf(dir).Written
	if before < 0 {
		return Wear{}, fmt.Errorf("%w: what the device has written is not known here", ErrCannot)
	}
	stock, err := NewBacklog(ctx, sys, dir, size)
	if err != nil {
		return Wear{}, err
	}
	w := Wear{}
	err = func() error {
		if err := errors.Join(stock.StoreBy(n, producers, 1), SyncDir(dir)); err != nil {
			return err
		}
		w.Stored = stock.Stored()
		w.Device = float64(DeviceOf(dir).Written-before) / float64(w.Stored)
		if err := stock.ReadBack(); err != nil {
			return err
		}
		w.Disk, w.Within, err = rest(dir, allowed)
		return err
	}()
	return w, errors.Join(err, stock.Close())
}

func rest(dir string, allowed int64) (disk int64, within time.Duration, err error) {
	start := time.Now()
	within = restLongest
	for changed := start; time.Since(start) < restLongest && time.Since(changed) < restCalm; time.Sleep(restStep) {
		now, err := DiskUsage(dir)
		if err != nil {
			return 0, 0, err
		}
		if now != disk {
			disk, changed = now, time.Now()
		}
		if disk > allowed {
			within = restLongest
		} else {
			within = min(within, time.Since(start))
		}
	}
	return disk, within, nil
}
