package workload

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const sector = 512

// Format: fields of /sys/dev/block/MAJOR:MINOR/stat, counted from 0 (Documentation/block/stat.rst of the kernel).
const (
	sectorsWritten = 6
	flushRequests  = 15
)

func deviceOf(dir string) Device {
	none := Device{Written: -1, Flushes: -1}
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return none
	}
	text, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev))))
	if err != nil {
		return none
	}
	fields := strings.Fields(string(text))
	at := func(i int, unit int64) int64 {
		if i >= len(fields) {
			return -1
		}
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return -1
		}
		return n * unit
	}
	return Device{Written: at(sectorsWritten, sector), Flushes: at(flushRequests, 1)}
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

func allocated(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * sector
	}
	return info.Size()
}
