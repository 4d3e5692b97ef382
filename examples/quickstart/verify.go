package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strconv"
)

// Format of the results, one line for each line of the input, in its order:
//
//	number SHA-256-in-hex word-count
//
// Nothing in this file knows of the queue.

// A row is the result for one line of the input.
type row struct {
	number int
	sum    [sha256.Size]byte // of the line without its newline
	words  int
}

func rowOf(number int, line []byte) row {
	r := row{number: number, sum: sha256.Sum256(line)}
	for range bytes.FieldsSeq(line) {
		r.words++
	}
	return r
}

func (r row) String() string { return fmt.Sprintf("%d %x %d", r.number, r.sum, r.words) }

// writeResults writes the rows to path, all or nothing.
func writeResults(path string, rows []row) error {
	return writeAtomically(path, func(w io.Writer) error {
		for _, r := range rows {
			if _, err := fmt.Fprintln(w, r); err != nil {
				return err
			}
		}
		return nil
	})
}

// A verdict says what is wrong with a file of results. Zero is nothing.
type verdict struct {
	lost  int // lines of the input without a result
	wrong int // results that are not what the line gives, that are of no line, or that are there twice
}

// verify compares the results at path with the input.
func verify(open func() (io.ReadCloser, error), path string) (verdict, error) {
	var v verdict
	f, err := os.Open(path)
	if err != nil {
		return v, err
	}
	defer f.Close()
	results := map[int]string{}
	for line, err := range lines(f) {
		if err != nil {
			return v, err
		}
		first, _, _ := bytes.Cut(line, []byte(" "))
		number, err := strconv.Atoi(string(first))
		if _, twice := results[number]; err != nil || twice {
			v.wrong++
			continue
		}
		results[number] = string(line)
	}

	in, err := open()
	if err != nil {
		return v, err
	}
	defer in.Close()
	number := 0
	for line, err := range lines(in) {
		if err != nil {
			return v, err
		}
		number++
		got, there := results[number]
		switch {
		case !there:
			v.lost++
		case got != rowOf(number, line).String():
			v.wrong++
		}
		delete(results, number)
	}
	v.wrong += len(results)
	return v, nil
}
