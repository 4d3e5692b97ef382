package seglog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/spoolmq/spool/store"
)

// A patient is a log that is closed, or whose machine has died, and what it held.
type patient struct {
	files    *memFS
	o        Options
	h        *history
	evidence []evidence
}

// An evidence is a place in a file that says up to where the log was durable.
type evidence struct {
	file     string
	from, to int64
	durable  store.Position
}

// makePatient makes a log of several segments, some dropped before, that ends with a clean close or a crash.
func makePatient(t *testing.T, clean bool) *patient {
	p := &patient{files: newMemFS(), o: Options{SegmentSize: 4096}, h: newHistory()}
	p.o.files = p.files
	l := openTest(t, "/spool", p.o)
	defer closeDead(l)
	step := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 24 {
		if i == 10 {
			p.h.start = l.Boundaries()[2]
			step(l.Drop(p.h.start))
		}
		if i == 16 {
			step(l.Mark(9, false))
		}
		step(p.h.append(l, 300+(i*i*97)%1400))
		step(l.Sync(l.End()))
		p.h.synced = l.End()
		if i > 16 {
			seg := l.segs.last()
			from := offset(seg.base, p.h.last())
			p.evidence = append(p.evidence, evidence{seg.path, from, from + store.FrameHeaderSize, p.h.last()})
		}
	}
	last := l.marking.marker.last
	p.evidence = append(p.evidence, evidence{"/spool/MARK", 0, 0, last.durable.pos})
	if clean {
		step(l.Mark(10, true))
	}
	p.files = p.files.killed()
	return p
}

// last is the position of the last frame.
func (h *history) last() store.Position {
	var pos store.Position
	for at := range h.at {
		pos = max(pos, at)
	}
	return pos
}

// known is the position up to which an untouched part of the files says that the log is durable.
func (p *patient) known(file string, from, to int64) store.Position {
	var known store.Position
	for _, e := range p.evidence {
		if e.file != file || to <= e.from || e.to <= from {
			known = max(known, e.durable)
		}
	}
	return known
}

// TestDamageBesideMark: a log that was closed cleanly and has lost its end is told from one whose end a crash has torn, also
// when one slot of MARK is damaged as well.
func TestDamageBesideMark(t *testing.T) {
	p := makePatient(t, true)
	end := p.evidence[len(p.evidence)-2] // the last frame
	for slot := range 2 {
		files := p.files.copy()
		clear(files.entries["/spool/MARK"].data[slot*pageSize:][:pageSize])
		clear(files.entries[end.file].data[end.from:])
		if !p.treat(t, files, fmt.Sprintf("slot %d and the end of the log zeroed", slot), 0, true) {
			t.Errorf("slot %d and the end of the log zeroed: nothing told", slot)
		}
	}
}

// TestDamage changes every part of every file. What was there must be there, or an error must tell.
func TestDamage(t *testing.T) {
	for _, state := range []string{"closed", "killed", "killed, its stage lost"} {
		t.Run(state, func(t *testing.T) {
			clean := state == "closed"
			p := makePatient(t, clean)
			if strings.HasSuffix(state, "lost") {
				delete(p.files.entries, "/spool/"+stageName) // everything is in segments
			}
			rng := rand.New(rand.NewPCG(seedFor(t), 5))
			told, same, stride := 0, 0, int64(1)
			if testing.Short() {
				stride = 4 // of the places
			}
			try := func(file string, what string, from, to int64, change func(n *memNode)) {
				files := p.files.copy()
				node := files.entries[file]
				before := bytes.Clone(node.data)
				change(node)
				if bytes.Equal(before, node.data) {
					return
				}
				if p.treat(t, files, fmt.Sprintf("%s: %s at %d", file, what, from), p.known(file, from, to), clean) {
					told++
				} else {
					same++
				}
			}
			for _, file := range p.files.files() {
				size := int64(len(p.files.entries[file].data))
				for at := int64(0); at < size; at += stride * (1 + rng.Int64N(min(250, 1+size/64))) {
					try(file, "a flipped bit", at, at+1, func(n *memNode) { n.data[at] ^= 1 << rng.IntN(8) })
				}
				for at := 512 * rng.Int64N(stride); at < size; at += 512 * stride {
					to := min(at+512, size)
					try(file, "a zeroed sector", at, to, func(n *memNode) { clear(n.data[at:to]) })
					try(file, "noise", at, to, func(n *memNode) {
						for i := at; i < to; i++ {
							n.data[i] = byte(rng.Uint32())
						}
					})
					try(file, "a cut", at, size, func(n *memNode) { n.data = n.data[:at+rng.Int64N(to-at)] })
					if at%pageSize < 512*stride {
						to := min(at+pageSize, size)
						try(file, "a zeroed page", at, to, func(n *memNode) { clear(n.data[at:to]) })
					}
				}
				files := p.files.copy()
				delete(files.entries, file)
				p.treat(t, files, file+": removed", p.known(file, 0, size), clean)
			}
			if least := 100 / int(stride); told < least || same < least {
				t.Errorf("%d damages were told and %d did not matter: this tests little", told, same)
			}
		})
	}
}

// treat opens a damaged log and tells whether the damage was told. Without that everything that is known to have been
// durable must be there; after a clean close everything.
func (p *patient) treat(t *testing.T, files *memFS, what string, known store.Position, clean bool) bool {
	t.Helper()
	o := p.o
	o.files = files
	before := files.copy()
	l, err := Open("/spool", o)
	if err != nil {
		if !errors.Is(err, store.ErrCorrupt) {
			t.Fatalf("%s: Open = %v, want a *CorruptError", what, err)
		}
		for name, n := range before.entries {
			if after := files.entries[name]; after == nil || !bytes.Equal(after.data, n.data) {
				t.Fatalf("%s: Open answered %v and changed %s", what, err, name)
			}
		}
		return true
	}
	defer l.Close()
	if l.Start() > p.h.start || l.End() < known || clean && l.End() != p.h.synced {
		t.Fatalf("%s: from %d to %d, was from %d to %d, known to be durable to %d", what, l.Start(), l.End(), p.h.start, p.h.synced, known)
	}
	told := false
	for pos, i := range p.h.at {
		if pos < p.h.start || pos >= l.End() {
			continue
		}
		got, err := l.ReadRecord(pos+store.FrameHeaderSize, nil)
		if err != nil && !errors.Is(err, store.ErrCorrupt) || err == nil && string(got) != p.h.frames[i] {
			t.Fatalf("%s: ReadRecord = %d bytes, %v, want what was written or a *CorruptError", what, len(got), err)
		}
		told = told || err != nil
	}
	from := p.h.start
	err = l.Replay(from, func(pos store.Position, payload []byte) error {
		if pos != from || string(payload) != p.h.frames[p.h.at[pos]] && !told {
			t.Fatalf("%s: frame at %d, want the one at %d", what, pos, from)
		}
		from += store.Position(store.FrameSize(len(payload)))
		return nil
	})
	if err != nil && !errors.Is(err, store.ErrCorrupt) || err == nil && from != l.End() {
		t.Fatalf("%s: Replay = %v, up to %d of %d", what, err, from, l.End())
	}
	return told || err != nil
}
