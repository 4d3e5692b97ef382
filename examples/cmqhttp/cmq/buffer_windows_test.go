package cmq_test

import "syscall"

// smallBuffer keeps what a socket takes before its reader does.
func smallBuffer(fd uintptr) {
	syscall.SetsockoptInt(syscall.Handle(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
}
