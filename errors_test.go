package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spoolmq/spool/store"
)

func TestCodeOf(t *testing.T) {
	missing := &ArgumentError{Name: "Meta.DeadLetter.Queue", Value: "x", Limit: "an existing queue", cause: ErrQueueNotFound}
	receipt := &ReceiptError{Stale}
	for _, c := range []struct {
		err  error
		is   error
		code int
	}{
		{nil, nil, 0},
		{ErrNoMessage, ErrNoMessage, 7000},
		{ErrQueueNotFound, ErrQueueNotFound, 4440},
		{ErrQueueExists, ErrQueueExists, 4460},
		{ErrInvalidArgument, ErrInvalidArgument, 4000},
		{badArgument("max", 0, "[1, 1024]"), ErrInvalidArgument, 4000},
		{missing, ErrInvalidArgument, 4000},
		{missing, ErrQueueNotFound, 4000},
		{ErrMessageTooLarge, ErrMessageTooLarge, 4400},
		{ErrQueueFull, ErrQueueFull, 4410},
		{ErrBatchTooLarge, ErrBatchTooLarge, 4470},
		{ErrInvalidReceipt, ErrInvalidReceipt, 4430},
		{receipt, ErrInvalidReceipt, 4430},
		{ErrBatchPartial, ErrBatchPartial, 6010},
		{&BatchError{Failed: []ItemError{{1, "r", receipt}}, total: 2}, ErrBatchPartial, 6010},
		{&BatchError{Failed: []ItemError{{0, "r", receipt}}, total: 1}, ErrBatchPartial, 6020},
		{&BatchError{Failed: []ItemError{{0, "r", receipt}, {1, "s", receipt}}, total: 2}, ErrBatchPartial, 6020},
		{&BatchError{Failed: []ItemError{{0, "r", receipt}}}, ErrBatchPartial, 6010},
		{&BatchError{}, ErrBatchPartial, 6010},
		{ErrRewindDisabled, ErrRewindDisabled, 6050},
		{ErrInvalidRewindTime, ErrInvalidRewindTime, 4000},
		{&RewindRangeError{}, ErrInvalidRewindTime, 4000},
		{ErrClosed, ErrClosed, 6000},
		{ErrLocked, ErrLocked, 6000},
		{ErrCorrupt, ErrCorrupt, 6000},
		{&CorruptError{}, ErrCorrupt, 6000},
		{ErrFormatVersion, ErrFormatVersion, 6000},
		{ErrNoSpace, ErrNoSpace, 6000},
		{ErrStoreFailed, ErrStoreFailed, 6000},
		{context.Canceled, context.Canceled, 6000},
		{context.DeadlineExceeded, context.DeadlineExceeded, 6000},
		{errors.New("other"), nil, 6000},
	} {
		wrapped := c.err
		if c.err != nil {
			wrapped = fmt.Errorf("twice: %w", fmt.Errorf("once: %w", c.err))
		}
		for _, err := range []error{c.err, wrapped} {
			if got := CodeOf(err); got != c.code {
				t.Errorf("CodeOf(%v) = %d, want %d", err, got, c.code)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("errors.Is(%v, %v) = false, want true", err, c.is)
			}
		}
	}
}

// A sentinel answers to itself only.
func TestSentinelsDiffer(t *testing.T) {
	all := []error{ErrNoMessage, ErrQueueNotFound, ErrQueueExists, ErrInvalidArgument, ErrMessageTooLarge, ErrQueueFull,
		ErrBatchTooLarge, ErrInvalidReceipt, ErrBatchPartial, ErrRewindDisabled, ErrInvalidRewindTime, ErrClosed, ErrLocked,
		ErrCorrupt, ErrFormatVersion, ErrNoSpace, ErrStoreFailed}
	typed := []error{&ArgumentError{}, &ReceiptError{}, &BatchError{}, &RewindRangeError{}, &CorruptError{}}
	for _, err := range append(typed, all...) {
		n := 0
		for _, s := range all {
			if errors.Is(err, s) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%v answers to %d sentinels, want 1", err, n)
		}
	}
}

func TestReasonTexts(t *testing.T) {
	for reason, text := range map[Reason]string{Malformed: "Malformed", WrongQueue: "WrongQueue", Stale: "Stale",
		Expired: "Expired", Deleted: "Deleted", Gone: "Gone"} {
		if string(reason) != text {
			t.Errorf("Reason = %q, want %q", reason, text)
		}
		err := error(&ReceiptError{reason})
		if want := "spool: invalid receipt: " + text; err.Error() != want {
			t.Errorf("Error() = %q, want %q", err, want)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	long := strings.Repeat("ü", 1000)
	for _, c := range []struct {
		err  error
		want string
	}{
		{badArgument("name", "1a", "a letter"), `spool: invalid argument: name is "1a", want a letter`},
		{badArgument("Meta.Delay", -time.Second, "[0, Retention)"), `spool: invalid argument: Meta.Delay is -1s, want [0, Retention)`},
		{badArgument("name", long, "less"), `spool: invalid argument: name is "` + long[:128] + `"… (2000 bytes), want less`},
		{badArgument("name", "a\xff\n", "less"), `spool: invalid argument: name is "a\xff\n", want less`},
		{badArgument("x", nil, "y"), `spool: invalid argument: x is <nil>, want y`},
		{&BatchError{Failed: []ItemError{{3, "r", &ReceiptError{Expired}}, {4, "s", &ReceiptError{Gone}}}, total: 5},
			"spool: batch failed in part: 2 of 5, first at index 3: spool: invalid receipt: Expired"},
		{&BatchError{}, "spool: batch failed in part"},
		{&RewindRangeError{time.Unix(1, 1).UTC(), time.Unix(60, 0).UTC()},
			"spool: invalid rewind time: allowed from 1970-01-01T00:00:01.000000001Z to 1970-01-01T00:01:00Z"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("Error() = %s, want %s", got, c.want)
		}
	}
}

func TestStoreError(t *testing.T) {
	_, missing := os.Open(filepath.Join(t.TempDir(), "missing"))
	corrupt := &store.CorruptError{File: "log/7", Offset: 42, Reason: "checksum"}
	for _, c := range []struct {
		in   error
		is   error
		text string // part of the translated text
	}{
		{missing, ErrStoreFailed, "missing"},
		{fmt.Errorf("write: %w", syscall.EIO), ErrStoreFailed, "input/output error"},
		{store.ErrNotFound, ErrStoreFailed, "not found"},
		{store.ErrGone, ErrStoreFailed, "no longer kept"},
		{fmt.Errorf("%w: by process 17", store.ErrLocked), ErrLocked, "by process 17"},
		{fmt.Errorf("%w: 9", store.ErrFormatVersion), ErrFormatVersion, "9"},
		{fmt.Errorf("%w: %w", store.ErrNoSpace, syscall.ENOSPC), ErrNoSpace, "no space"},
		{store.ErrClosed, ErrClosed, "closed"},
		{fmt.Errorf("%w: /etc has hosts", store.ErrNotStore), ErrInvalidArgument, "/etc has hosts"},
		{fmt.Errorf("open: %w", corrupt), ErrCorrupt, "log/7 at offset 42"},
		{fmt.Errorf("%w: short", store.ErrCorrupt), ErrCorrupt, "short"},
	} {
		got := storeError(c.in)
		if !errors.Is(got, c.is) || !strings.Contains(got.Error(), c.text) || !strings.HasPrefix(got.Error(), "spool: ") {
			t.Errorf("storeError(%v) = %v, want %v with %q", c.in, got, c.is, c.text)
		}
		for _, leak := range []error{store.ErrNotFound, store.ErrGone, store.ErrLocked, store.ErrFormatVersion,
			store.ErrNoSpace, store.ErrClosed, store.ErrNotStore, fs.ErrNotExist, syscall.EIO, syscall.ENOSPC} {
			if errors.Is(got, leak) {
				t.Errorf("storeError(%v) leaks %v", c.in, leak)
			}
		}
		if path := (*fs.PathError)(nil); errors.As(got, &path) {
			t.Errorf("storeError(%v) leaks a PathError", c.in)
		}
		if again := storeError(got); again != got {
			t.Errorf("storeError twice = %v, want %v", again, got)
		}
	}
	if c := (*CorruptError)(nil); !errors.As(storeError(fmt.Errorf("open: %w", corrupt)), &c) || c != corrupt {
		t.Errorf("errors.As = %v, want %v", c, corrupt)
	}
	for _, as := range []error{nil, context.Canceled, fmt.Errorf("w: %w", context.DeadlineExceeded), ErrQueueFull, ErrClosed,
		fmt.Errorf("w: %w", ErrStoreFailed), &ReceiptError{Gone}, &BatchError{}} {
		if got := storeError(as); got != as {
			t.Errorf("storeError(%v) = %v, want it as it is", as, got)
		}
	}
}
