package limit

import "github.com/spoolmq/spool/bench/workload"

// Small is Files with segments of 4 KB.
func Small(level workload.Level) workload.System { return files("small files", level, allocate, 4<<10) }
