package systems

import "syscall"

// withParent has a program killed when the thread that started it ends, at the latest when this process does.
func withParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
