// Package systems has what a program could use instead of spool, each as a workload.System: set up as its documentation
// advises for the level that it is said to have.
package systems

import (
	"fmt"
	"os/exec"
	"slices"

	"github.com/spoolmq/spool/bench/limit"
	"github.com/spoolmq/spool/bench/subject"
	"github.com/spoolmq/spool/bench/workload"
)

// A Kind is a system at all the levels it has.
type Kind struct {
	Name   string
	Server string // the program it needs; empty: it runs in the process
	At     func(workload.Level) (workload.System, bool)
}

// Kinds are all of them, the limits first and spool second.
func Kinds() []Kind {
	return []Kind{
		{Name: "limit", At: limits},
		{Name: "spool", At: func(l workload.Level) (workload.System, bool) { return subject.Spool(l), true }},
		{Name: "jetstream", At: onDisk(jetStream)},
		{Name: "badger", At: onDisk(plainBadger)},
		{Name: "badger-packed", At: onDisk(packedBadger)},
		{Name: "dque", At: onDisk(dQue)},
		{Name: "sqlite-mattn", At: onDisk(mattn)},
		{Name: "sqlite-modernc", At: onDisk(modernc)},
		{Name: "redis", Server: "redis-server", At: onDisk(redisStream)},
		{Name: "beanstalkd", Server: "beanstalkd", At: onDisk(beanstalkd)},
	}
}

// Named returns one of them.
func Named(name string) (Kind, error) {
	kinds := Kinds()
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return Kind{}, fmt.Errorf("there is no system %q", name)
	}
	return kinds[i], nil
}

// Missing says why a kind cannot run here; nil if it can.
func (k Kind) Missing() error {
	if k.Server == "" {
		return nil
	}
	if _, err := exec.LookPath(k.Server); err != nil {
		return fmt.Errorf("%s is not installed", k.Server)
	}
	return nil
}

func limits(l workload.Level) (workload.System, bool) {
	if l == workload.Memory {
		return limit.Channel(), true
	}
	return limit.Files(l), true
}

func onDisk(at func(durable bool) workload.System) func(workload.Level) (workload.System, bool) {
	return func(l workload.Level) (workload.System, bool) {
		if l == workload.Memory {
			return workload.System{}, false
		}
		sys := at(l == workload.Fsync)
		sys.Level = l
		if l == workload.Fsync {
			sys.Quick = at(false).Open
		}
		return sys, true
	}
}

// choose is a condition as an expression.
func choose[T any](condition bool, yes, no T) T {
	if condition {
		return yes
	}
	return no
}
