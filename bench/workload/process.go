package workload

import "time"

// ProcessCPU is the processor time that the threads of a process have used, -1 if that is not known.
func ProcessCPU(pid int) time.Duration { return processCPU(pid) }

// PrivateMemory is what a process has of memory that belongs to no file, in bytes, -1 if that is not known.
func PrivateMemory(pid int) int64 { return privateMemory(pid) }
