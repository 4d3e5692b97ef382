//go:build unix && !aix

package badgerkv

import "golang.org/x/sys/unix"

func limitDescriptors(n int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	setLimit(&limit.Cur, n)
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}

// setLimit bridges that limits are signed on some systems.
func setLimit[T int64 | uint64](limit *T, n int) { *limit = T(n) }
