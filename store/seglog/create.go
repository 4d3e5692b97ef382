package seglog

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spoolmq/spool/store"
)

// create makes a spool in a directory that holds nothing, or what an earlier creation left.
//
//	create:key      the directory and LOCK exist
//	create:mark     KEY is written
//	create:segment  MARK is written: epoch 0, everything at position 0
//	create:format   the first segment is written
//	create:rename   all of them are durable, and so is FORMAT under its passing name
//	create:sync     FORMAT may have its name
//
// A directory left at any of these steps but the last is made anew: there is no FORMAT in it, and no frame.
// Commit point: the rename to FORMAT, with the sync of the directory.
func create(dir string, o *Options) error {
	var who identity
	rand.Read(who.id[:])
	rand.Read(who.key[:])
	return createAs(dir, who, mark{id: who.id}, o)
}

// createAs is create with a given identity and first slot of MARK.
func createAs(dir string, who identity, first mark, o *Options) error {
	if err := refuseUsed(o.files, dir); err != nil {
		return err
	}
	if err := clearLeft(o.files, dir); err != nil {
		return err
	}
	o.step(stepCreateKey)
	if err := writeFile(o.files, filepath.Join(dir, keyName), encodeKey(who)); err != nil {
		return err
	}
	o.step(stepCreateMark)
	slots := append(encodeMark(first), make([]byte, pageSize)...)
	if err := writeFile(o.files, filepath.Join(dir, markName), slots); err != nil {
		return err
	}
	o.step(stepCreateSegment)
	if err := createFirst(filepath.Join(dir, logName), who, o); err != nil {
		return err
	}
	o.step(stepCreateFormat)
	passing := filepath.Join(dir, passingName)
	if err := writeFile(o.files, passing, encodeFormat(who.id)); err != nil {
		return err
	}
	if err := o.files.SyncDir(dir); err != nil {
		return err
	}
	o.step(stepCreateRename)
	if err := o.files.Rename(passing, filepath.Join(dir, formatName)); err != nil {
		return err
	}
	o.step(stepCreateSync)
	return o.files.SyncDir(dir)
}

// createFirst makes the directory of the log and its first segment, durably.
func createFirst(dir string, who identity, o *Options) error {
	if err := o.files.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	size := int64(minSize)
	if o.SegmentSize > 0 {
		size = o.SegmentSize + overhead
	}
	f, err := o.files.OpenFile(segmentPath(dir, 1, segmentSuffix), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	err = f.Allocate(size)
	if err == nil {
		_, err = f.WriteAt(encodeHeader(header{id: who.id, size: size, salt: newSalt(0), kind: kindUsed, use: 1}), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return o.files.SyncDir(dir)
}

// refuseUsed returns a *store.CorruptError when the directory has been a spool with something in it: then FORMAT was lost,
// and perhaps more. A segment with a frame in it, or one that cannot be read, is not what a creation leaves.
func refuseUsed(v vfs, dir string) error {
	lost := func(why string) error {
		return &store.CorruptError{File: filepath.Join(dir, formatName), Reason: "missing, and " + why}
	}
	for _, name := range []string{indexName, indexMarker} {
		if _, err := v.Stat(filepath.Join(dir, name)); err == nil {
			return lost(name + " is there")
		}
	}
	b, err := readFile(v, filepath.Join(dir, markName), markFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for at := 0; at < len(b); at += pageSize {
		if m, err := decodeMark(b[at:]); err == nil && m.durable.pos > 0 {
			return lost(fmt.Sprintf("%s tells of a log up to position %d", markName, m.durable.pos))
		}
	}
	left, err := listLeft(v, dir)
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := refuseFrames(v, path); err != nil {
			return err
		}
	}
	return nil
}

// listLeft returns the files in the directory of the log that an earlier creation has left.
func listLeft(v vfs, dir string) (paths []string, err error) {
	dir = filepath.Join(dir, logName)
	entries, err := v.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	return paths, err
}

// clearLeft removes the segments of an earlier creation.
func clearLeft(v vfs, dir string) error {
	left, err := listLeft(v, dir)
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := v.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// refuseFrames returns a *store.CorruptError when the segment holds a frame.
func refuseFrames(v vfs, path string) error {
	seg := &segment{path: path}
	f, err := seg.open(v)
	if err != nil {
		return err
	}
	defer seg.close()
	b := make([]byte, headerSize)
	n, err := readUpTo(f, b, 0)
	if err != nil {
		return err
	}
	lost := filepath.Join(filepath.Dir(filepath.Dir(path)), formatName)
	if len(bytes.Trim(b[:n], "\x00")) == 0 {
		blank, err := zeroed(f)
		if err == nil && !blank {
			err = &store.CorruptError{File: lost, Reason: "missing, and " + path + " is not empty"}
		}
		return err
	}
	if seg.header, err = decodeHeader(b[:n]); err != nil {
		return unreadable(path, err)
	}
	if seg.kind == kindPrepared {
		return nil
	}
	s := scanner{files: v}
	if err := s.enter(seg); err != nil {
		return err
	}
	found, err := s.search(seg.base)
	if err == nil && found.end > seg.base {
		return &store.CorruptError{File: lost, Reason: "missing, and " + path + " holds frames"}
	}
	return err
}

// zeroed tells whether a file holds nothing but zeros.
func zeroed(f vfile) (bool, error) {
	b := make([]byte, scanSize)
	for at := int64(0); ; at += int64(len(b)) {
		n, err := readUpTo(f, b, at)
		if err != nil || n == 0 {
			return true, err
		}
		if len(bytes.Trim(b[:n], "\x00")) > 0 {
			return false, nil
		}
	}
}
