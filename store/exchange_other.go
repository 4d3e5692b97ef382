//go:build !linux

package store

import "errors"

// Exchange always fails here: there is no such call.
func Exchange(_, _ string) error { return errors.ErrUnsupported }
