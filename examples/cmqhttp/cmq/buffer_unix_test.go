//go:build unix

package cmq_test

import "syscall"

// smallBuffer keeps what a socket takes before its reader does.
func smallBuffer(fd uintptr) {
	syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
}
