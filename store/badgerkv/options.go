package badgerkv

import (
	"strconv"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
)

// Badger holds keys, pointers and values of up to inlineLimit bytes. It keeps up to eight buffers of two table sizes for
// building tables, builds as many at a time as a compaction has room for, allocates 3 MB beside for each, and has two
// memtables more than wait. So its memory grows with the bytes that a compaction takes in: small tables. Highest RssAnon in
// MB of a process that only writes and reads an index, as fast as it can (GOGC=100, two cores):
//
//	 20,000 keys, values of 4 to 30 KB, written 4 times (1.3 GB)      25
//	200,000 keys, values of 6 KB, written 3 times (3.6 GB)            51
//	200,000 keys, values of 350 bytes, written 3 times                38
//	a million keys, values of 40 bytes, in order and in none   49 and 78
//
// The price of small tables is a descriptor for every 2 MB, which requireDescriptors looks after.
const (
	memTableSize   = 1 << 20
	baseLevelSize  = 4 << 20 // of the first level below that is in use
	levelRatio     = 4       // between the sizes of levels
	maxLevels      = 7
	valueThreshold = 128 << 10 // longer values would go to Badger's own value log; at most 15 % of a memtable
)

// tableSizes returns the sizes of tables and of the blocks in them, in bytes. A block that outgrows its buffer, because of a
// key of MaxKey, gets one of twice the length.
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
// memTableSize has to hold the log of an index of format 1, whose values were all in Badger.
func badgerOptions(dir string, log badger.Logger) badger.Options {
	tableSize, blockSize := tableSizes()
	o := badger.DefaultOptions(dir)
	o.Logger = log
	o.MemTableSize = memTableSize
	o.NumMemtables = 1 // waiting ones; with 0 Badger's writer misses its wake-up
	o.BaseTableSize = int64(tableSize)
	o.TableSizeMultiplier = 1
	o.NumLevelZeroTables = 1 // Flatten leaves this many there when there is nothing below
	o.NumLevelZeroTablesStall = levelZeroStall
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
	o.NumCompactors = 0 // compact.go does their work
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
