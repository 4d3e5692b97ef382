package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
)

// maxLine is the length of the longest line in bytes: the largest body that a queue can be set to take.
const maxLine = 16 << 20

// A source is the input. It can be read as often as one likes, and is the same each time.
type source struct {
	name  string
	open  func() (io.ReadCloser, error)
	lines int
	sum   string // SHA-256 of the whole, in hex
}

// openInput finds the input and reads it once, so that everything wrong with it is known before anything is sent.
func openInput(o *options, stdin io.Reader) (*source, error) {
	s := &source{name: o.in}
	file := o.in
	switch info, err := os.Stat(o.in); {
	case o.in == "":
		s.name = "the almanac"
	case o.in == "-":
		s.name = "standard input"
		file, err = keep(o.dir, stdin)
		if err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s is a directory", o.in)
	case !info.Mode().IsRegular(): // a pipe with a name
		pipe, err := os.Open(o.in)
		if err != nil {
			return nil, err
		}
		defer pipe.Close()
		if file, err = keep(o.dir, pipe); err != nil {
			return nil, err
		}
	}
	s.open = func() (io.ReadCloser, error) {
		if file == "" {
			return io.NopCloser(bytes.NewReader(almanac)), nil
		}
		return os.Open(file)
	}
	whole := sha256.New()
	r, err := s.open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for _, err := range lines(io.TeeReader(r, whole)) {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		s.lines++
	}
	s.sum = hex.EncodeToString(whole.Sum(nil))
	return s, nil
}

// keep copies what can be read only once to a file beside the spool, for a later run that goes on. A copy that is there
// already is that of an earlier run, and counts.
func keep(dir string, r io.Reader) (path string, err error) {
	path = dir + "-input.txt"
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return path, err
	}
	err = writeAtomically(path, func(w io.Writer) error { _, err := io.Copy(w, r); return err })
	if err != nil {
		return "", fmt.Errorf("keeping the input: %w", err)
	}
	return path, nil
}

// lines yields the lines of r without their newline. A line is valid until the next one. A last line without a newline
// counts; what follows the last newline counts only if it is not empty.
func lines(r io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		br := bufio.NewReaderSize(r, 64<<10)
		var line []byte
		for number := 1; ; {
			part, err := br.ReadSlice('\n')
			if err == nil {
				part = part[:len(part)-1]
			}
			line = append(line, part...)
			if len(line) > maxLine {
				yield(nil, fmt.Errorf("line %d is longer than %d bytes, the largest message", number, maxLine))
				return
			}
			switch {
			case errors.Is(err, bufio.ErrBufferFull):
				continue
			case errors.Is(err, io.EOF):
				if len(line) > 0 {
					yield(line, nil)
				}
				return
			case err != nil:
				yield(nil, err)
				return
			}
			if !yield(line, nil) {
				return
			}
			line = line[:0]
			number++
		}
	}
}

// writeAtomically makes path hold what write wrote, on stable storage, or leaves it as it was.
func writeAtomically(path string, write func(io.Writer) error) error {
	f, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 64<<10)
	err = write(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
