package workload

import (
	"io/fs"
	"path/filepath"
)

// A Device is what the block device under a directory has been asked for since the machine was started, by everybody.
// A figure that is not known is -1.
type Device struct {
	Written int64 // bytes
	Flushes int64 // of its cache
}

// DeviceOf reads the counters of the device that holds dir. They are exact only after SyncDir, and tell of one program only
// while no other one writes.
func DeviceOf(dir string) Device { return deviceOf(dir) }

// SyncDir waits until the file system that holds dir has written what it was given, so that one run does not pay for the
// one before it. It does nothing on systems other than Linux.
func SyncDir(dir string) error { return syncDir(dir) }

// DiskUsage is what the files under dir occupy, in bytes.
func DiskUsage(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().IsRegular() {
			n += allocated(info)
		}
		return err
	})
	return n, err
}
