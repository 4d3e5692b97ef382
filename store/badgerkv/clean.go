package badgerkv

import (
	"errors"

	"github.com/spoolmq/spool/store"
)

// Cleaning gives space back: what is still in use in a value file is moved behind the newest, and the next Sync removes
// the file. Files of which nothing is in use are removed without that.
//
// Bound: value files take at most 1.5 times what is in use, cleanSlack, and what was applied since the last Sync.
const (
	cleanSlack = 16 << 20 // bytes not in use that are left alone
	cleanRate  = 4        // bytes looked through for each byte that Apply writes or removes
	cleanPeek  = 128      // bytes read of a record to see whether it is in use
)

// clean goes on with cleaning for a number of bytes. Without space it gives up until the next Apply: it needs some before
// it gives any back.
func (w *writer) clean(budget int64) error {
	err := w.cleanSome(budget)
	if errors.Is(err, store.ErrNoSpace) {
		w.abort()
		w.ix.values.victim = nil // what was moved last has not been
		return nil
	}
	return err
}

func (w *writer) cleanSome(budget int64) error {
	vs := w.ix.values
	for budget > 0 {
		if vs.victim == nil {
			if vs.victim = vs.wasteful(); vs.victim == nil {
				break
			}
			vs.walked = valueHeaderSize
		}
		n, err := w.cleanRecord(vs.victim)
		if err != nil {
			return err
		}
		vs.walked += n
		budget -= n
	}
	return w.commit()
}

// wasteful returns the file to be cleaned next: the one with the least in use. It returns nil while there is no need to.
func (vs *values) wasteful() (least *valueFile) {
	var size, live int64
	for _, f := range vs.files {
		if f.live == 0 && f != vs.active {
			continue // the next Sync removes it
		}
		size += f.end
		live += f.live
		if f != vs.active && (least == nil || f.live*least.end < least.live*f.end) {
			least = f
		}
	}
	if size-live <= live/2+vs.slack {
		return nil
	}
	return least
}

// cleanRecord moves the next record of a file, if it is in use, and returns its length.
func (w *writer) cleanRecord(f *valueFile) (int64, error) {
	vs := w.ix.values
	if vs.walked >= f.end || f.live == 0 {
		return 0, w.cleaned(f)
	}
	head := make([]byte, min(cleanPeek, f.end-vs.walked))
	if _, err := f.f.ReadAt(head, vs.walked); err != nil {
		return 0, err
	}
	k, v, ok := recordLengths(head)
	n := int64(recordHeaderSize + k + v)
	if !ok || n > f.end-vs.walked {
		return 0, corrupt(f.f.Name(), vs.walked, "record of %d and %d bytes, the file ends at %d", k, v, f.end)
	}
	key := head[recordHeaderSize:]
	if k <= len(key) {
		key = key[:k]
	} else {
		key = make([]byte, k)
		if _, err := f.f.ReadAt(key, vs.walked+recordHeaderSize); err != nil {
			return 0, err
		}
	}
	p, err := w.ix.find(key)
	if err != nil || p.file != f.number || int64(p.at) != vs.walked {
		return n, err
	}
	value, err := readValue(f.f, p, key)
	if err == nil {
		err = w.change(key, value)
	}
	return n, err
}

// cleaned ends the cleaning of a file.
func (w *writer) cleaned(f *valueFile) error {
	if err := w.commit(); err != nil {
		return err
	}
	w.ix.values.victim = nil
	if f.live != 0 {
		return corrupt(f.f.Name(), f.end, "%d bytes are in use and nothing leads to them", f.live)
	}
	return nil
}
