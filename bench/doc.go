// Package bench measures spool through its public API. Nothing imports it; it consists of benchmarks:
//
//	go test -run '^$' -bench LongPoll ./bench
//
// The first line of each benchmark's comment says what is measured, and every run reads back what it sent.
package bench
