// Package bench measures spool through its public API, each time beside what bounds it. Nothing imports it; it consists of
// benchmarks:
//
//	go test -run '^$' -bench LongPoll ./bench   # the wake-up of a blocked Receive (W6), in under 20 s
//	go test -run '^$' -bench . ./bench          # W1 to W12, in under 10 minutes
//	make bench-baseline                         # the same six times, kept as bench/baseline.txt
//	make bench-compare                          # the same against what was kept
//	make bench-peers                            # the same loads on other systems
//
// W1 to W3 send, W4 drains, W5 does both at the same time, W6 wakes a receiver, W7 weighs a backlog and opens it, W8 delays, W9
// counts the bytes of the disk, W10 rewinds, W11 starts and stops timers, W12 idles. The comment of each benchmark says
// what is measured.
//
// What has a limit is measured beside it, in turn, within one run, and x-limit is the ratio of the two: a disk shared
// with others may be ten times as slow an hour later, and the ratio stays. The limit is a raw file with group commit, for
// what is in memory a Go channel or Go's timers (package limit). It is the straightforward way to do the same, not
// physics: some rows go past it.
//
// Every run reads back what it sent. If a message was lost, doubled or changed, or if there were fewer fsyncs than the
// answers promise, the benchmark fails and has no figure (package workload).
//
// Flags, behind the package: -spool.full measures ten million messages too, -spool.rounds how many runs of each system
// the medians are taken from (3), and -spool.scale makes counts and times smaller, to try a change out.
package bench
