//go:build !linux

package workload

import "time"

func processCPU(int) time.Duration { return -1 }

func privateMemory(int) int64 { return -1 }
