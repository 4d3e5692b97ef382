// Package limit holds what spool is compared with in every run: the straightforward way to do the same and nothing
// else. A segmented file with a group commit by hand stands for what has to be on disk, a Go channel and Go's timers for
// what has not. They have no leases, no receipts, no counters and no recovery from a crash.
package limit
