package main

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Format of the journal, append-only, one entry a line:
//
//	quickstart 1 INPUT-SHA-256 LINES             first line: whose results these are
//	result ID RELEASE ENQUEUED-NS NUMBER SUM WORDS    a message was handled
//	fixed REWIND-TO-NS EXPECTED                  the wrong release is out of use; the queue is to be rewound
//	rewound                                      and it has been
//	finished                                     the results are published
//
// A line is true when its newline is there. A last line without one was cut by a crash and is dropped.
type journal struct {
	mu       sync.Mutex
	f        *os.File
	results  map[string]entry // by message ID, so that handling a message twice is the same as once
	rewindTo time.Time        // zero until fixed
	expected int64            // how many messages the rewind brings back
	rewound  bool
	finished bool
}

// An entry is what became of one message.
type entry struct {
	id       string
	release  int
	enqueued time.Time
	row
}

func (e entry) String() string {
	return fmt.Sprintf("result %s %d %d %v", e.id, e.release, e.enqueued.UnixNano(), e.row)
}

// openJournal reads what earlier runs on the same input left at path, or begins a new journal there.
func openJournal(path string, text *source) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{f: f, results: map[string]entry{}}
	if err := j.replay(fmt.Sprintf("quickstart 1 %s %d", text.sum, text.lines)); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return j, nil
}

func (j *journal) replay(header string) error {
	all, err := io.ReadAll(j.f)
	if err != nil {
		return err
	}
	whole := all[:bytes.LastIndexByte(all, '\n')+1]
	if err := j.f.Truncate(int64(len(whole))); err != nil {
		return err
	}
	if _, err := j.f.Seek(int64(len(whole)), io.SeekStart); err != nil {
		return err
	}
	if len(whole) == 0 {
		return j.append(header)
	}
	for i, line := range strings.Split(strings.TrimSuffix(string(whole), "\n"), "\n") {
		switch {
		case i == 0 && line != header:
			return errors.New("was begun with another input; take a fresh -dir, or the same -in as before")
		case i > 0 && j.apply(line) != nil:
			return fmt.Errorf("line %d: %w", i+1, j.apply(line))
		}
	}
	return nil
}

func (j *journal) apply(line string) error {
	kind, rest, _ := strings.Cut(line, " ")
	switch kind {
	case "result":
		var e entry
		var enqueued int64
		var sum string
		if _, err := fmt.Sscanf(rest, "%s %d %d %d %s %d", &e.id, &e.release, &enqueued, &e.number, &sum, &e.words); err != nil {
			return err
		}
		if n, err := hex.Decode(e.sum[:], []byte(sum)); err != nil || n != len(e.sum) {
			return fmt.Errorf("%q is not a SHA-256", sum)
		}
		e.enqueued = time.Unix(0, enqueued)
		j.results[e.id] = e
	case "fixed":
		var to int64
		if _, err := fmt.Sscanf(rest, "%d %d", &to, &j.expected); err != nil {
			return err
		}
		j.rewindTo = time.Unix(0, to)
	case "rewound":
		j.rewound = true
	case "finished":
		j.finished = true
	default:
		return fmt.Errorf("unknown entry %q", kind)
	}
	return nil
}

// record keeps the entries on stable storage. A message that the same or a later release has handled already is left
// out: a second delivery changes nothing.
func (j *journal) record(entries []entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var news []string
	for _, e := range entries {
		if old, there := j.results[e.id]; !there || old.release < e.release {
			news = append(news, e.String())
			j.results[e.id] = e
		}
	}
	if len(news) == 0 {
		return nil
	}
	return j.append(news...)
}

// append writes lines and waits until they are on stable storage.
func (j *journal) append(lines ...string) error {
	if _, err := io.WriteString(j.f, strings.Join(lines, "\n")+"\n"); err != nil {
		return err
	}
	return j.f.Sync()
}

// handled is the number of messages that have a result, right or wrong.
func (j *journal) handled() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.results)
}

// firstWrong is when the first of the messages was sent that the given release handled.
func (j *journal) firstWrong(release int) (first time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.results {
		if e.release == release && (first.IsZero() || e.enqueued.Before(first)) {
			first = e.enqueued
		}
	}
	return first
}

// recordFixed keeps that the wrong release is out of use and that the queue is to be rewound.
func (j *journal) recordFixed(to time.Time, expected int64) error {
	j.rewindTo, j.expected = to, expected
	return j.append(fmt.Sprintf("fixed %d %d", to.UnixNano(), expected))
}

func (j *journal) recordRewound() error {
	j.rewound = true
	return j.append("rewound")
}

// rows is the results in the order of the input.
func (j *journal) rows() []row {
	rows := make([]row, 0, len(j.results))
	for _, e := range j.results {
		rows = append(rows, e.row)
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.number, b.number) })
	return rows
}

func (j *journal) finish() error {
	if j.finished {
		return nil
	}
	j.finished = true
	return j.append("finished")
}

func (j *journal) close() error { return j.f.Close() }
