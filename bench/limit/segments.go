package limit

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	inUse = ".segment"
	spare = ".spare"
)

// recover reads the segments again: what is not acknowledged can be received. The next write begins a segment.
func (f *File) recover() error {
	names, err := filepath.Glob(filepath.Join(f.dir, "*"+inUse)) // in order
	if err != nil {
		return err
	}
	var acked []bool // by number; numbers are dense
	for _, name := range names {
		seg, err := openSegment(name)
		if err != nil {
			return err
		}
		f.mu.segments = append(f.mu.segments, seg)
		err = scan(bufio.NewReaderSize(seg.f, 1<<20), func(kind byte, number uint64, at int64, size int) {
			for uint64(len(acked)) <= number {
				acked = append(acked, false)
			}
			if kind == kindAck {
				acked[number] = true
				return
			}
			f.mu.last = max(f.mu.last, number)
			f.mu.queue = append(f.mu.queue, item{number: number, seg: seg, at: at, size: size})
		})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	live := f.mu.queue[:0]
	for _, it := range f.mu.queue {
		if !acked[it.number] {
			it.seg.live++
			live = append(live, it)
		}
	}
	f.mu.queue = live
	return f.recoverSpares(names)
}

func (f *File) recoverSpares(names []string) error {
	if len(names) > 0 {
		last := filepath.Base(names[len(names)-1])
		if _, err := fmt.Sscanf(last, "%d"+inUse, &f.mu.names); err != nil {
			return fmt.Errorf("%s: %w", last, err)
		}
	}
	free, err := filepath.Glob(filepath.Join(f.dir, "*"+spare))
	if err != nil {
		return err
	}
	for _, name := range free {
		seg, err := openSegment(name)
		if err != nil {
			return err
		}
		f.mu.free = append(f.mu.free, seg)
	}
	return nil
}

func openSegment(name string) (*segment, error) {
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &segment{f: file}, nil
}

// roll ends the segment that is written to and begins one for at least size bytes. Only one leader at a time is here.
func (f *File) roll(size int64) error {
	if err := f.terminate(); err != nil {
		return err
	}
	f.mu.Lock()
	dead := f.mu.segments
	for len(f.mu.segments) > 0 && f.mu.segments[0].live == 0 {
		f.mu.segments = f.mu.segments[1:]
	}
	dead = dead[:len(dead)-len(f.mu.segments)]
	f.mu.names++
	name := filepath.Join(f.dir, fmt.Sprintf("%08d", f.mu.names))
	f.mu.Unlock()
	for _, seg := range dead {
		if err := f.retire(seg); err != nil {
			return err
		}
	}
	seg, err := f.begin(name+inUse, max(size, f.segment))
	if err != nil {
		return err
	}
	f.written, f.end = seg, 0
	f.mu.Lock()
	f.mu.segments = append(f.mu.segments, seg)
	f.mu.Unlock()
	return nil
}

// terminate marks the end of the last segment: behind it may lie what it held in an earlier use.
func (f *File) terminate() error {
	if f.written == nil {
		return nil
	}
	_, err := f.written.f.WriteAt(make([]byte, headerSize), f.end)
	return err
}

// retire keeps a dead segment to be used again, or removes it.
func (f *File) retire(seg *segment) error {
	name := seg.f.Name()
	if len(f.mu.free) == spares {
		return errors.Join(seg.f.Close(), os.Remove(name))
	}
	// Under its new name it is opened anew: an os.File keeps the name it was opened by.
	kept := name[:len(name)-len(inUse)] + spare
	if err := errors.Join(seg.f.Close(), os.Rename(name, kept)); err != nil {
		return err
	}
	again, err := openSegment(kept)
	if err == nil {
		f.mu.free = append(f.mu.free, again)
	}
	return err
}

func (f *File) begin(name string, size int64) (*segment, error) {
	if n := len(f.mu.free); n > 0 && size == f.segment {
		old := f.mu.free[n-1]
		f.mu.free = f.mu.free[:n-1]
		if err := errors.Join(old.f.Close(), os.Rename(old.f.Name(), name)); err != nil {
			return nil, err
		}
		return openSegment(name)
	}
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.prepare(file, size); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &segment{f: file}, nil
}

// Close closes the files. Nobody may use f any more.
func (f *File) Close() error { return errors.Join(f.terminate(), f.closeFiles()) }

func (f *File) closeFiles() (err error) {
	for _, seg := range append(f.mu.segments, f.mu.free...) {
		err = errors.Join(err, seg.f.Close())
	}
	return err
}
