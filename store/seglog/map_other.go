//go:build !linux

package seglog

import "errors"

// mapFile does not map: whether what is copied into a mapping survives the death of the process, and is seen by who reads
// the file, was looked into on Linux only.
func mapFile(string, int64) (mapping, error) { return nil, errors.ErrUnsupported }
