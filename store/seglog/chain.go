package seglog

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spoolmq/spool/store"
)

// A chain is the files of the log, sorted by what they can hold.
type chain struct {
	list    []*segment // from the one at the log start on, each continuing the one before it
	beyond  []*segment // behind a gap: what was written after a segment whose header never reached the disk
	idle    []*segment // hold nothing: prepared, or below the log start
	damaged []damage   // cannot be read
	passing []string   // paths of files that never became segments
	emptied []*segment // given up without a frame for another with the same base
	number  uint64     // one more than the highest of any file
	use     uint64     // the highest of any header
}

// A damage is a segment file whose header cannot be read or whose size is not what it says.
type damage struct {
	path   string
	reason string
}

func (d damage) corrupt() error {
	return &store.CorruptError{File: d.path, Reason: d.reason}
}

// readChain reads the header of every segment file and puts those in use in order.
func readChain(v vfs, dir string, m mark) (*chain, error) {
	c := &chain{number: 1}
	entries, err := v.List(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &store.CorruptError{File: dir, Reason: "missing"}
	}
	if err != nil {
		return nil, err
	}
	var used []*segment
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if n, ok := segmentNumber(e.Name(), passingSuffix); ok {
			c.passing = append(c.passing, path)
			c.number = max(c.number, n+1)
			continue
		}
		n, ok := segmentNumber(e.Name(), segmentSuffix)
		if !ok {
			continue // not ours; it is in nobody's way
		}
		c.number = max(c.number, n+1)
		seg := &segment{path: path, number: n}
		bad, err := readHeader(v, seg, m)
		c.use = max(c.use, seg.use)
		switch {
		case err != nil:
			return nil, err
		case bad != "":
			c.damaged = append(c.damaged, damage{path: path, reason: bad})
		case seg.kind == kindPrepared || seg.base < m.start:
			c.idle = append(c.idle, seg)
		default:
			used = append(used, seg)
		}
	}
	slices.SortFunc(used, func(a, b *segment) int { return cmp.Or(cmp.Compare(a.base, b.base), cmp.Compare(b.use, a.use)) })
	return c, c.link(dir, used, m)
}

// readHeader reads the header of a segment file. bad says why it cannot be used, if it cannot.
func readHeader(v vfs, seg *segment, m mark) (bad string, err error) {
	f, err := v.OpenFile(seg.path, os.O_RDWR)
	if err != nil {
		return "", err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return "", err
	}
	b := make([]byte, headerSize)
	n, err := readUpTo(f, b, 0)
	if err != nil {
		return "", fmt.Errorf("read %s at 0: %w", seg.path, err)
	}
	seg.header, err = decodeHeader(b[:n])
	switch {
	case errors.Is(err, store.ErrFormatVersion):
		return "", fmt.Errorf("%s: %w", seg.path, err)
	case err != nil:
		return err.Error(), nil
	case seg.id != m.id:
		return fmt.Sprintf("of spool %x, want %x", seg.id, m.id), nil
	case size != seg.size:
		return fmt.Sprintf("%d bytes long, want %d", size, seg.size), nil
	}
	return "", nil
}

// link finds the segments that continue each other from the log start on. Headers of the others were written later than
// one that is missing: after a power loss at most that of the segment before them was not yet synced.
func (c *chain) link(dir string, used []*segment, m mark) error {
	for i, seg := range used {
		switch {
		case i > 0 && seg.base == used[i-1].base:
			if seg.use == used[i-1].use {
				return seg.corrupt(seg.base, fmt.Sprintf("begins at position %d like %s", seg.base, used[i-1].path))
			}
			c.emptied = append(c.emptied, seg)
		case len(c.list) == 0 && seg.base == m.start:
			c.list = append(c.list, seg)
		case len(c.list) > 0 && len(c.beyond) == 0 && c.continues(seg):
			c.list = append(c.list, seg)
		default:
			c.beyond = append(c.beyond, seg)
		}
	}
	if c.find(m.durable.base) < 0 {
		return c.missing(dir, m)
	}
	return nil
}

// continues tells whether seg is the one written after the last of the list.
func (c *chain) continues(seg *segment) bool {
	last := c.list[len(c.list)-1]
	return seg.prev == last.base && seg.base <= last.limit()
}

// find returns the index of the segment with this base, -1 when the chain does not reach it.
func (c *chain) find(base store.Position) int {
	return slices.IndexFunc(c.list, func(s *segment) bool { return s.base == base })
}

// missing says which segment the chain needs and does not have.
func (c *chain) missing(dir string, m mark) error {
	if len(c.damaged) > 0 {
		return c.damaged[0].corrupt()
	}
	if len(c.list) == 0 {
		return &store.CorruptError{File: dir, Reason: fmt.Sprintf("no segment begins at the log start %d", m.start)}
	}
	last := c.list[len(c.list)-1]
	return &store.CorruptError{File: dir, Reason: fmt.Sprintf(
		"no segment follows the one at %d, and the log reaches to one at %d", last.base, m.durable.base)}
}
