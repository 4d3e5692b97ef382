package bench

import (
	"testing"
	"time"

	"github.com/spoolmq/spool/bench/limit"
	"github.com/spoolmq/spool/bench/subject"
	"github.com/spoolmq/spool/bench/workload"
)

// contract is what a spool in which nothing is live may hold on disk, in bytes.
const contract = 192 << 20

// BenchmarkW9 sends messages of 1 KB from 64 producers, durably, and tells how many bytes the device has written for each;
// what is prepared ahead is part of that. Then it deletes all of them and tells what the disk holds when it has come
// to rest, at most 30 s later, and since when that is within the contract. The device's counter has everybody's writes:
// let nothing else run.
func BenchmarkW9(b *testing.B) {
	figures := series{}
	dirs := newScratch(b)
	n := scaled(200_000)
	for b.Loop() {
		for range *rounds {
			bound := deviceBytes(b, limit.Files(workload.Fsync), dirs.next(), n, "limit-", figures)
			own := deviceBytes(b, subject.Spool(workload.Fsync), dirs.next(), n, "", figures)
			figures.add("x-limit", own/bound)
		}
	}
	figures.report(b)
}

// deviceBytes does W9 once on one system and returns the bytes for a message.
func deviceBytes(b *testing.B, sys workload.System, dir string, n int, prefix string, figures series) float64 {
	b.Helper()
	before := workload.DeviceOf(dir).Written
	if before < 0 {
		b.Skip("what the device has written is not known here")
	}
	st := open(b, sys, dir)
	stock := workload.NewBacklog(background, sys, st, bodySize)
	must(b, stock.StoreBy(n, 64, 1))
	must(b, workload.SyncDir(dir))
	each := float64(workload.DeviceOf(dir).Written-before) / float64(stock.Stored())
	figures.add(prefix+"device-B/msg", each)
	must(b, stock.ReadBack())
	disk, kept := rest(b, dir)
	figures.add(prefix+"disk-MB", float64(disk)/(1<<20))
	figures.add(prefix+"within-contract-s", kept.Seconds())
	must(b, st.Close())
	return each
}

// rest waits until what a directory holds has not changed for three seconds, but 30 s at most. It returns how much
// that is and when it came within the contract to stay there; 30 s if it is not.
func rest(b *testing.B, dir string) (disk int64, kept time.Duration) {
	b.Helper()
	const step, calm, longest = 100 * time.Millisecond, 3 * time.Second, 30 * time.Second
	start := time.Now()
	kept = longest
	for changed := start; time.Since(start) < longest && time.Since(changed) < calm; time.Sleep(step) {
		now, err := workload.DiskUsage(dir)
		must(b, err)
		if now != disk {
			disk, changed = now, time.Now()
		}
		if disk > contract {
			kept = longest
		} else {
			kept = min(kept, time.Since(start))
		}
	}
	return disk, kept
}
