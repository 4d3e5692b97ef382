package seglog

import (
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
)

// loses makes m what a power loss leaves of it: of each directory a prefix of its pending changes, as file systems do
// that keep a journal, or any of them; of each file any of the sectors that were written since its last sync.
func (m *memFS) loses(rng *rand.Rand) *memFS {
	kept := map[string]int{}
	for _, p := range m.pending {
		kept[filepath.Dir(p.name)]++
	}
	for _, dir := range slices.Sorted(maps.Keys(kept)) {
		kept[dir] = rng.IntN(kept[dir] + 1)
	}
	journal := rng.IntN(2) == 0
	for _, p := range m.pending {
		dir := filepath.Dir(p.name)
		if journal && kept[dir] > 0 || !journal && rng.IntN(2) == 0 {
			m.apply(m.durable, p)
		}
		kept[dir]--
	}
	m.pending = nil
	m.entries = maps.Clone(m.durable)
	grain := []int64{512, pageSize, 64 << 10}[rng.IntN(3)]
	keep := []float64{0, 0.5, 0.9, 1}[rng.IntN(4)]
	for _, name := range slices.Sorted(maps.Keys(m.entries)) {
		m.entries[name].lose(rng, grain, keep)
	}
	return m
}

// lose keeps each grain of the dirty parts with probability keep.
func (n *memNode) lose(rng *rand.Rand, grain int64, keep float64) {
	after := slices.Clone(n.synced)
	if len(n.data) > len(after) && rng.IntN(2) == 0 {
		after = append(after, make([]byte, len(n.data)-len(after))...)
	}
	for _, s := range n.dirty {
		for from := s.from - s.from%grain; from < s.to; from += grain {
			if rng.Float64() < keep {
				lo, hi := max(from, s.from), min(from+grain, s.to, int64(len(after)))
				if lo < hi {
					copy(after[lo:hi], n.data[lo:hi])
				}
			}
		}
	}
	n.data, n.synced, n.dirty = after, slices.Clone(after), nil
}
