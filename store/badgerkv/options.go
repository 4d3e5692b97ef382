package badgerkv

import (
	"strconv"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
)

// Badger keeps up to eight buffers of two table sizes for building tables, builds as many at a time as a compaction has
// room for, allocates 3 MB beside for each, and has one memtable more than it is told. In MB, while 100 MB in values of
// 4 KB are written without a pause (TestMemory; GOGC=100, live heap right after, highest RssAnon):
//
//	memtable  table  level 0, base level, ratio   live         RssAnon
//	       8     32       5 tables, 10 MB, 10     202 to 266   217 to 230
//	       8      8       5 tables, 10 MB, 10     122          110 to 167
//	       4      4       5 tables, 10 MB, 10      69          120 to 150
//	       2      2       5 tables, 10 MB, 10      35 to 83     92 to 105
//	       2      2       3 tables,  4 MB,  4      35 to 93     93 to 119, 50 with GOMEMLIMIT=64MiB
//	       1      1       3 tables,  4 MB,  4      19 to 25     85 to 99
//
// The higher figures of the live heap are those of a compaction under way; at rest it is 35 to 46 in the line we use.
// Small tables and levels also keep a compaction far below MinFree. The price is a descriptor for every 2 MB, which
// requireDescriptors looks after, and the limit of 256 KB for a value.
const (
	memTableSize   = 2 << 20
	levelZero      = 3       // tables of level 0 that start a compaction
	baseLevelSize  = 4 << 20 // of the first level below that is in use
	levelRatio     = 4       // between the sizes of levels
	maxLevels      = 7
	valueThreshold = 256 << 10 // at most 15 % of a memtable, which is the largest transaction
)

// tableSizes returns the sizes of tables and of the blocks in them, in bytes. Blocks hold several values of a few KB: one
// that outgrows its buffer gets one of twice the length.
//
// With 32-bit integers, the memory in which Badger builds a table must never grow beyond its first piece, which is two
// table sizes rounded up to a power of two: the second piece is begun at the first one's place and overwrites it
// (ristretto 2.2, z.Allocator.Allocate: uint64((bufIdx+1)<<32) is 0), and the table is written damaged without a word; see
// also github.com/anyproto/anytype-heart/pull/871. So
// there a block takes any entry whole; then a table needs less than twice its size and two blocks.
func tableSizes() (table, block int) {
	if strconv.IntSize == 32 {
		return 5 << 19, 320 << 10
	}
	return 2 << 20, 32 << 10
}

// badgerOptions are the settings of every index. The value log stays empty: every value is shorter than the threshold.
func badgerOptions(dir string, log badger.Logger) badger.Options {
	tableSize, blockSize := tableSizes()
	o := badger.DefaultOptions(dir)
	o.Logger = log
	o.MemTableSize = memTableSize
	o.NumMemtables = 2
	o.BaseTableSize = int64(tableSize)
	o.TableSizeMultiplier = 1
	o.NumLevelZeroTables = levelZero
	o.BaseLevelSize = baseLevelSize
	o.LevelSizeMultiplier = levelRatio
	o.BlockSize = blockSize
	o.MaxLevels = maxLevels
	o.ValueThreshold = valueThreshold
	o.ValueLogFileSize = 1 << 20 // the least that Badger accepts
	o.Compression = options.None
	o.BlockCacheSize = 0
	o.IndexCacheSize = 0 // indexes are read from the map unless tables are encrypted
	o.NumVersionsToKeep = 1
	o.NumCompactors = 2
	o.DetectConflicts = false
	o.MetricsEnabled = false
	o.SyncWrites = false
	o.CompactL0OnClose = false
	// A block that went bad since Open ends a compaction early instead of giving it garbage to panic on.
	o.ChecksumVerificationMode = options.OnBlockRead
	return o
}

// tableOptions are those with which Badger opens a table under badgerOptions.
func tableOptions() table.Options {
	tableSize, blockSize := tableSizes()
	return table.Options{
		TableSize:          uint64(tableSize),
		BlockSize:          blockSize,
		BloomFalsePositive: 0.01,
		ChkMode:            options.NoVerification, // VerifyChecksum does it
		Compression:        options.None,
	}
}
