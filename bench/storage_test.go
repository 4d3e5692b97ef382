package bench

import (
	"errors"
	"testing"

	"github.com/spoolmq/spool/bench/limit"
	"github.com/spoolmq/spool/bench/subject"
	"github.com/spoolmq/spool/bench/workload"
)

// BenchmarkW7 stores messages of 100 bytes and tells what each of them takes of memory, before and after the store was
// closed and opened again, and how long that takes until the first message is received. The limit is the raw file,
// which keeps a place in memory for each message and reads all of itself when it is opened.
func BenchmarkW7(b *testing.B) {
	sizes(b, func(b *testing.B, n int) {
		figures := series{}
		dirs := newScratch(b)
		for b.Loop() {
			for range *rounds {
				bound := keep(b, limit.Files(workload.Fsync), dirs.next(), n, "limit-", figures)
				own := keep(b, subject.Spool(workload.Fsync), dirs.next(), n, "", figures)
				figures.add("x-limit-open", own.Open.Seconds()/bound.Open.Seconds())
			}
		}
		figures.report(b)
	})
}

func keep(b *testing.B, sys workload.System, dir string, n int, prefix string, figures series) workload.Footprint {
	b.Helper()
	f, err := workload.Keep(background, sys, dir, n, smallBody)
	must(b, err)
	figures.add(prefix+"heap-B/msg", f.Heap)
	figures.add(prefix+"private-B/msg", f.Private)
	figures.add(prefix+"heap-B/msg-reopened", f.HeapReopened)
	figures.add(prefix+"private-B/msg-reopened", f.PrivateReopened)
	figures.add(prefix+"open-ms", millis(f.Open))
	return f
}

// contract is what a spool in which nothing is live may hold on disk, in bytes.
const contract = 192 << 20

// BenchmarkW9 sends messages of 1 KB from 64 producers, durably, and tells how many bytes the device has written for each;
// what is prepared ahead is part of that. Then it deletes all of them and tells what the disk holds when it has come
// to rest, at most 30 s later, and since when that is within the contract. The device's counter has everybody's writes:
// let nothing else run.
func BenchmarkW9(b *testing.B) {
	figures := series{}
	dirs := newScratch(b)
	for b.Loop() {
		for range *rounds {
			bound := wear(b, limit.Files(workload.Fsync), dirs.next(), "limit-", figures)
			own := wear(b, subject.Spool(workload.Fsync), dirs.next(), "", figures)
			figures.add("x-limit", own.Device/bound.Device)
		}
	}
	figures.report(b)
}

func wear(b *testing.B, sys workload.System, dir, prefix string, figures series) workload.Wear {
	b.Helper()
	w, err := workload.Use(background, sys, dir, scaled(200_000), bodySize, 64, contract)
	if errors.Is(err, workload.ErrCannot) {
		b.Skip(err)
	}
	must(b, err)
	figures.add(prefix+"device-B/msg", w.Device)
	figures.add(prefix+"disk-MB", float64(w.Disk)/(1<<20))
	figures.add(prefix+"within-contract-s", w.Within.Seconds())
	return w
}
