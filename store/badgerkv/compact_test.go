package badgerkv

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/spoolmq/spool/store"
)

// A smallFlood is n changes whose values all stay in Badger, each key written passes times, in no order of their keys.
type smallFlood struct{ n, passes, key, value int }

func (f smallFlood) change(i, pass int) store.Change {
	key := fmt.Sprintf("%09d", i*7919%f.n)
	key += strings.Repeat("-", max(0, f.key-len(key)))
	return store.Change{Key: []byte(key), Value: bytes.Repeat([]byte{byte(1 + i%7 + pass)}, f.value)}
}

// write applies batches of about 64 KB and calls applied after each.
func (f smallFlood) write(ix *Index, applied func() error) error {
	var batch []store.Change
	size := 0
	for i := range f.n * f.passes {
		c := f.change(i%f.n, i/f.n)
		batch = append(batch, c)
		if size += len(c.Key) + len(c.Value); size < 64<<10 && i < f.n*f.passes-1 {
			continue
		}
		if err := ix.Apply(batch); err != nil {
			return err
		}
		if err := applied(); err != nil {
			return err
		}
		batch, size = batch[:0], 0
	}
	return nil
}

// check reads a part of what the last pass wrote, and counts.
func (f smallFlood) check(ix *Index) error {
	for i := 0; i < f.n; i += 1 + f.n/500 {
		want := f.change(i, f.passes-1)
		if got, err := ix.Get(want.Key); err != nil || !bytes.Equal(got, want.Value) {
			return fmt.Errorf("Get(%.9q) = %.3v, %v, want %.3v", want.Key, got, err, want.Value)
		}
	}
	if n, err := readAll(ix); err != nil || n != f.n {
		return fmt.Errorf("%d entries, %v, want %d", n, err, f.n)
	}
	return nil
}

// boundedLevelZero returns a function that holds level 0 against its bound.
func boundedLevelZero(ix *Index) func() error {
	return func() error {
		if n := ix.db.Levels()[0].NumTables; n > levelZeroMost+3 {
			return fmt.Errorf("%d tables in level 0, want %d at most", n, levelZeroMost+3)
		}
		return nil
	}
}

// TestFloodOfSmallValues: no value is in a value file, so Badger takes everything as fast as it can be written, goes on
// without a compactor of its own, and level 0 is bounded. A crash in the middle, with its logs, changes nothing of that.
func TestFloodOfSmallValues(t *testing.T) {
	for name, f := range map[string]smallFlood{
		"tiny":         {n: 60_000, passes: 6, key: 9, value: 20},
		"inline":       {n: 50_000, passes: 3, key: 9, value: inlineLimit},
		"longest keys": {n: 500, passes: 2, key: MaxKey, value: 1},
	} {
		if testing.Short() && name == "tiny" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir, crashed := filepath.Join(t.TempDir(), "idx"), filepath.Join(t.TempDir(), "crashed")
			ix := mustOpen(t, dir)
			must(t, f.write(ix, boundedLevelZero(ix)))
			must(t, f.check(ix))
			must(t, copyDir(dir, crashed))
			must(t, ix.Close())

			ix = mustOpen(t, crashed)
			must(t, f.check(ix))
			must(t, f.write(ix, boundedLevelZero(ix)))
			must(t, f.check(ix))
			if below := len(ix.db.Tables()) - ix.db.Levels()[0].NumTables; below == 0 {
				t.Error("no table below level 0: nothing was compacted")
			}
			must(t, ix.Close())
		})
	}
}

// TestCompactionWithoutSpace: when there is room to write but not to compact, writing goes on, and the compaction is made
// up for when there is room again.
func TestCompactionWithoutSpace(t *testing.T) {
	room := &space{MinFree}
	ix, err := Open(t.TempDir(), room.options())
	must(t, err)
	defer func() { must(t, ix.Close()) }()
	f := smallFlood{n: 150_000, passes: 1, key: 9, value: inlineLimit}
	must(t, f.write(ix, func() error { return nil }))
	if n := ix.db.Levels()[0].NumTables; n <= levelZeroMost {
		t.Fatalf("%d tables in level 0 without room for a compaction, want more than %d", n, levelZeroMost)
	}
	room.free = MinFree << 3
	must(t, ix.Apply([]store.Change{set("a", "1"), {Key: []byte("a")}}))
	if n := ix.db.Levels()[0].NumTables; n > 2 {
		t.Errorf("%d tables in level 0 with room for a compaction, want those of the memtables that wait", n)
	}
	must(t, f.check(ix))
}

func TestCompactionDue(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		tables      int
		size, below int64
		want        bool
	}{
		{0, 0, 0, false},
		{levelZeroLeast - 1, 6 * mb, 0, false},
		{levelZeroLeast, 8 * mb, 0, true},
		{levelZeroLeast, 8 * mb, 32 * mb, true},
		{levelZeroLeast, 8 * mb, 33 * mb, false},
		{levelZeroMost - 1, 1, 33 * mb, false},
		{levelZeroMost, 1, 33 * mb, true},
	} {
		levels := []badger.LevelInfo{{NumTables: c.tables, Size: c.size}, {Size: c.below / 2}, {Size: c.below - c.below/2}}
		if got := compactionDue(levels); got != c.want {
			t.Errorf("compactionDue(%d tables of %d bytes above %d) = %v, want %v", c.tables, c.size, c.below, got, c.want)
		}
	}
}

// Batches of turns: batch i sets the keys of block i%turnBlocks to i, in two transactions, and then the key "last" to i.
const turnKeys, turnBlocks = 1000, 30

func turnKey(block, j int) []byte {
	return fmt.Appendf(nil, "%09d", (block*turnKeys+j)*7919%(turnKeys*turnBlocks))
}

func turnValue(i int) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, inlineLimit-8), uint64(i))
}

func turnBatch(i int) []store.Change {
	var batch []store.Change
	for j := range turnKeys {
		batch = append(batch, store.Change{Key: turnKey(i%turnBlocks, j), Value: turnValue(i)})
	}
	return append(batch, store.Change{Key: []byte("last"), Value: turnValue(i)})
}

// lastTurn returns the last batch that is there whole, after making sure that all before it are.
func lastTurn(ix *Index) (int, error) {
	value, err := ix.Get([]byte("last"))
	if err != nil {
		return 0, err
	}
	last := int(binary.BigEndian.Uint64(value[inlineLimit-8:]))
	for block := range turnBlocks {
		want := last - (last-block+turnBlocks)%turnBlocks
		for j := range turnKeys {
			value, err := ix.Get(turnKey(block, j))
			if err != nil {
				return 0, fmt.Errorf("key %d of block %d: %w", j, block, err)
			}
			got := int(binary.BigEndian.Uint64(value[inlineLimit-8:]))
			if got != want && (got != last+1 || got%turnBlocks != block) { // one more may be there in part
				return 0, fmt.Errorf("key %d of block %d is of batch %d, want %d; the last is %d", j, block, got, want, last)
			}
		}
	}
	return last, nil
}

// TestKillCompacting kills a process in its first compaction, a little later each time. What it had synced is there.
func TestKillCompacting(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "idx")
	ix := mustOpen(t, dir)
	for i := range turnBlocks {
		must(t, ix.Apply(turnBatch(i)))
	}
	must(t, ix.Close())
	synced := turnBlocks - 1
	for _, delay := range []string{"0s", "2ms", "5ms", "10ms", "20ms", "40ms", "80ms"} {
		out, err := childCommand(t, "turns", dir, delay).Output()
		lines := strings.Fields(string(out))
		if err == nil {
			t.Fatalf("the writer ended by itself: %q", out)
		}
		if len(lines) > 0 { // else its first batch led to a compaction
			synced, err = strconv.Atoi(lines[len(lines)-1])
			must(t, err)
		}
		ix := mustOpen(t, dir)
		if last, err := lastTurn(ix); err != nil || last < synced {
			t.Errorf("after %v: batch %d is the last, %v, want %d or later", delay, last, err, synced)
		}
		must(t, ix.Close())
	}
}

// A killer is a log that kills its process some time after the first compaction began.
type killer struct {
	slog.Handler
	delay time.Duration
}

func (killer) Enabled(context.Context, slog.Level) bool { return true }

func (k killer) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if strings.HasPrefix(a.Value.String(), "Attempting to compact") {
			time.AfterFunc(k.delay, func() {
				if self, err := os.FindProcess(os.Getpid()); err == nil {
					self.Kill()
				}
			})
		}
		return true
	})
	return nil
}

func init() {
	childTasks["turns"] = func(args []string) error {
		delay, err := time.ParseDuration(args[1])
		if err != nil {
			return err
		}
		ix, err := Open(args[0], Options{Logger: slog.New(killer{slog.DiscardHandler, delay})})
		if err != nil {
			return err
		}
		i, err := lastTurn(ix)
		if err != nil {
			return err
		}
		for i++; ; i++ {
			if err := ix.Apply(turnBatch(i)); err != nil {
				return err
			}
			if err := ix.Sync(); err != nil {
				return err
			}
			if _, err := fmt.Println(i); err != nil {
				return err
			}
		}
	}
}
