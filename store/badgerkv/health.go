package badgerkv

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spoolmq/spool/store"
)

// health is Badger's logger. Most of what goes wrong in Badger's goroutines is only logged, so an error that is logged is
// an error of the index, and the first one stays.
type health struct {
	log   *slog.Logger
	first atomic.Pointer[error]
}

// fail records err unless there was an error before, and returns the first one.
func (h *health) fail(err error) error {
	h.first.CompareAndSwap(nil, &err)
	return *h.first.Load()
}

func (h *health) err() error {
	if p := h.first.Load(); p != nil {
		return *p
	}
	return nil
}

// Errorf implements badger.Logger.
func (h *health) Errorf(format string, args ...any) {
	text := line(format, args)
	h.log.Error("badger", "text", text)
	_ = h.fail(fmt.Errorf("badgerkv: index failed: Badger: %s", text))
}

// Warningf implements badger.Logger.
func (h *health) Warningf(format string, args ...any) {
	h.log.Warn("badger", "text", line(format, args))
}

// Infof implements badger.Logger.
func (h *health) Infof(format string, args ...any) { h.log.Debug("badger", "text", line(format, args)) }

// Debugf implements badger.Logger. It is called on every write and its text is dropped.
func (h *health) Debugf(string, ...any) {}

func line(format string, args []any) string { return strings.TrimSpace(fmt.Sprintf(format, args...)) }

// guard runs f and makes an error of a panic: Badger panics on damaged tables, and reading a memory map whose disk fails
// is a fault. It reaches this goroutine only, which is why damage must be found before Badger's own goroutines meet it.
func guard(what string, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = corrupt("index", 0, "panic in %s: %.200v", what, p)
		}
	}()
	return f()
}

func corrupt(file string, offset int64, format string, args ...any) error {
	return &store.CorruptError{File: file, Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// openError tells what a failure of badger.Open means: an error of the operating system is passed on, whatever else
// Badger dislikes is in the files.
func openError(dir string, err error) error {
	var errno syscall.Errno
	switch {
	case strings.Contains(err.Error(), "Cannot acquire directory lock"):
		return fmt.Errorf("badgerkv: %s: %w", dir, store.ErrLocked)
	case errors.Is(err, store.ErrCorrupt):
		return err
	case errors.As(err, &errno) && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("badgerkv: open: %w", err)
	default:
		return corrupt(dir, 0, "Badger cannot open it: %.300v", err)
	}
}
