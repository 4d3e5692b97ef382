package seglog

import (
	"fmt"
	"path/filepath"
	"slices"
)

// A claim is a place in a file that names the spool which the file is of. A checksum verifies it: it is no damage, but
// the file may have come from another directory.
type claim struct {
	file  string
	at, n int64
	id    [16]byte
}

// identify decides which spool this is, and tells of what names another one. KEY, FORMAT, MARK and the segments have a voice
// each, the segments that of most of them: any number of files may have been put there. When the voices are even, MARK
// counts most and then the segments: the messages are theirs. A key that is not of this spool is a lost one.
func (s *Survey) identify() {
	var voices [][16]byte // those that count most first
	if len(s.slots) > 0 {
		voices = append(voices, s.slots[0].id)
	}
	if id, ok := s.mostSegments(); ok {
		voices = append(voices, id)
	}
	for _, name := range []string{formatName, keyName} {
		path := filepath.Join(s.dir, name)
		if i := slices.IndexFunc(s.claims, func(c claim) bool { return c.file == path }); i >= 0 {
			voices = append(voices, s.claims[i].id)
		}
	}
	most := 0
	was := s.who.id // what KEY says
	for _, id := range voices {
		n := 0
		for _, other := range voices {
			if other == id {
				n++
			}
		}
		if n > most {
			most, s.who.id = n, id
		}
	}
	if s.keyed && was != s.who.id {
		s.who.key, s.keyed = [32]byte{}, false
	}
	for _, c := range s.claims {
		if c.id != s.who.id {
			s.fault(c.file, c.at, c.n, fmt.Sprintf("of spool %x, want %x", c.id, s.who.id))
		}
	}
}

// mostSegments returns the spool that most segments name.
func (s *Survey) mostSegments() (id [16]byte, ok bool) {
	count := map[[16]byte]int{}
	for _, p := range s.pieces {
		if p.bad == nil {
			if count[p.id]++; count[p.id] > count[id] {
				id = p.id
			}
		}
	}
	return id, len(count) > 0
}
