//go:build !linux

package systems

import "syscall"

func withParent() *syscall.SysProcAttr { return nil }
