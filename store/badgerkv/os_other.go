//go:build !unix || aix

package badgerkv

import "io/fs"

// lockDir does nothing: Badger's own lock here is a file that cannot be probed without taking it.
func lockDir(string) (unlock func(), err error) { return func() {}, nil }

// noDescriptors is false: there is no such limit.
func noDescriptors(error) bool { return false }

// requireDescriptors does nothing: there is no such limit.
func requireDescriptors(int) error { return nil }

// allocated is the apparent size; holes count.
func allocated(fi fs.FileInfo) int64 { return fi.Size() }

// syncDir does nothing: a directory cannot be synced, the file system journals its entries.
func syncDir(string) error { return nil }
