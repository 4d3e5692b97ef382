package seglog

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openTest opens a log and fails the test when that fails.
func openTest(t testing.TB, dir string, o Options) *Log {
	t.Helper()
	l, err := Open(dir, o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return l
}

// The sizes that every test runs with.
var shapes = map[string]Options{
	"tiny":  {SegmentSize: 4096, RingSize: 8192},
	"tinyW": {SegmentSize: 4096},
	"small": {SegmentSize: 64 << 10, RingSize: 16 << 10},
}

func TestLog(t *testing.T) {
	for name, o := range shapes {
		t.Run(name, func(t *testing.T) {
			var files *memFS
			storetest.TestLog(t, storetest.LogHarness{
				Open: func(t testing.TB) (store.Log, func() store.Log) {
					files = newMemFS()
					o.files = files
					return openTest(t, "/spool", o), func() store.Log { return openTest(t, "/spool", o) }
				},
				Full: func(full bool) {
					files.mu.Lock()
					defer files.mu.Unlock()
					files.full = full
				},
				SegmentBytes: o.SegmentSize,
			})
		})
	}
}

func TestLogOnDisk(t *testing.T) {
	files := &faultFS{vfs: osFS{}}
	o := Options{SegmentSize: 64 << 10, RingSize: 16 << 10, files: files}
	storetest.TestLog(t, storetest.LogHarness{
		Open: func(t testing.TB) (store.Log, func() store.Log) {
			dir := t.TempDir()
			return openTest(t, dir, o), func() store.Log { return openTest(t, dir, o) }
		},
		Full:         files.setFull,
		SegmentBytes: o.SegmentSize,
	})
}
