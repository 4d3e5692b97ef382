package workload

import (
	"context"
	"strings"
	"time"
)

// A Row is one of the loads that systems are compared by.
type Row struct {
	ID    string // W1 to W5
	Name  string
	Load  Load
	Level Level
	Run   func(ctx context.Context, sys System, dir string, l Load) (Result, error)
}

const (
	bodySize = 1024
	dead     = 128 << 10 // messages: 128 MB, so that whole segments can be used again
)

// Rows are the loads W1 to W5: sends alone, drains, both together; each at its levels. Bodies have 1 KB. Drains
// take at least 100,000 messages, if the system has no Bound; drains and what is end to end run on a store that has
// space to use again, if it is one that uses it.
func Rows() []Row {
	var rows []Row
	add := func(id, name string, run func(context.Context, System, string, Load) (Result, error), l Load, levels ...Level) {
		l.Size, l.Warm, l.Measure = bodySize, time.Second, time.Second
		for _, level := range levels {
			rows = append(rows, Row{ID: id, Name: name + "/" + level.String(), Load: l, Level: level, Run: run})
		}
	}
	add("W1", "send/1-producer", Send, Load{Producers: 1, Batch: 1}, Fsync, Written)
	add("W2", "send/64-producers", Send, Load{Producers: 64, Batch: 1}, Fsync, Written)
	add("W3", "send/8-producers/batches-of-16", Send, Load{Producers: 8, Batch: 16}, Fsync)
	add("W3", "send/8-producers/batches-of-256", Send, Load{Producers: 8, Batch: 256}, Fsync)
	drain := Load{Consumers: 1, Batch: 1, Dead: dead, AtLeast: 100_000}
	drain.Backlog = 150_000
	add("W4", "drain/1-consumer", Drain, drain, Fsync)
	drain.Backlog = 1_000_000
	add("W4", "drain/1-consumer", Drain, drain, Written)
	drain.Consumers, drain.Batch = 8, 16
	add("W4", "drain/8-consumers/batches-of-16", Drain, drain, Fsync)
	add("W5", "through/8-and-8", Through, Load{Producers: 8, Consumers: 8, Batch: 1, Dead: dead}, Fsync, Written)
	add("W5", "through/8-and-8/batches-of-16", Through, Load{Producers: 8, Consumers: 8, Batch: 16, Dead: dead}, Fsync)
	return rows
}

// Scaled is the row with its counts and times multiplied by a factor.
func (r Row) Scaled(factor float64) Row {
	for _, n := range []*int{&r.Load.Dead, &r.Load.Backlog, &r.Load.AtLeast} {
		*n = int(float64(*n) * factor)
	}
	for _, d := range []*time.Duration{&r.Load.Warm, &r.Load.Measure} {
		*d = time.Duration(float64(*d) * factor)
	}
	return r
}

// Is tells whether the row has one of the IDs, or its name contains it.
func (r Row) Is(wanted ...string) bool {
	for _, w := range wanted {
		if r.ID == w || strings.Contains(r.Name, w) {
			return true
		}
	}
	return false
}
