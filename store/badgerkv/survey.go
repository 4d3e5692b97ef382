package badgerkv

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
)

const (
	walExt      = ".mem"
	vlogExt     = ".vlog"
	discardName = "DISCARD"
)

// A file of Badger's with a number in its name.
type file struct {
	id   uint64
	path string
	size int64
}

// A survey is what lies in the directory of an index that is not open.
type survey struct {
	dir      string
	tables   map[uint64]file
	logs     []file // write-ahead logs, oldest first
	vlogs    []file
	values   []file // value files
	manifest bool
	cut      cut // found by verifyLogs
}

// A cut is where the logs are to end: at an offset of one of them, without those behind it.
type cut struct {
	log int   // position in survey.logs
	at  int64 // 0 when the logs are to stay as they are
}

func takeSurvey(dir string) (*survey, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("badgerkv: %w", err)
	}
	s := &survey{dir: dir, tables: map[uint64]file{}}
	for _, e := range names {
		fi, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("badgerkv: %w", err)
		}
		if err := s.add(fi); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(s.logs, func(a, b file) int { return cmp.Compare(a.id, b.id) })
	return s, nil
}

// longest is a bound of Badger's files, in bytes: a table of a few MB, a log of twice memTableSize, a manifest of some hundred
// bytes a table. Badger and verifyTable read them, or map them, whole.
const longest = 256 << 20

func (s *survey) add(fi fs.FileInfo) error {
	f := file{path: filepath.Join(s.dir, fi.Name()), size: fi.Size()}
	switch {
	case !fi.Mode().IsRegular():
		return corrupt(f.path, 0, "is no regular file")
	case f.size > longest && filepath.Ext(fi.Name()) != valueExt:
		return corrupt(f.path, 0, "%d bytes long, want at most %d", f.size, longest)
	}
	var err error
	switch ext := filepath.Ext(fi.Name()); {
	case fi.Name() == badger.ManifestFilename:
		s.manifest = true
	case ext == walExt:
		f.id, err = fileNumber(f.path)
		s.logs = append(s.logs, f)
	case ext == vlogExt:
		f.id, err = fileNumber(f.path)
		s.vlogs = append(s.vlogs, f)
	case ext == valueExt:
		f.id, err = fileNumber(f.path)
		s.values = append(s.values, f)
	default:
		var ok bool
		if f.id, ok = table.ParseFileID(fi.Name()); ok {
			s.tables[f.id] = f
		}
	}
	return err
}

// fileNumber parses a name as strictly as Badger, whose Open fails on others.
func fileNumber(path string) (uint64, error) {
	base := filepath.Base(path)
	id, err := strconv.ParseUint(strings.TrimSuffix(base, filepath.Ext(base)), 10, 31)
	if err != nil {
		return 0, corrupt(path, 0, "no file of Badger's has this name")
	}
	return id, nil
}

// count is how many files the index will have open for what is there.
func (s *survey) count() int { return len(s.tables) + len(s.logs) + len(s.vlogs) + len(s.values) }

// cutLogs makes the logs end where they are to, durably: Badger gives the versions of what is cut off to others.
func (s *survey) cutLogs() error {
	if s.cut.at == 0 {
		return nil
	}
	for _, f := range s.logs[s.cut.log+1:] {
		if err := os.Remove(f.path); err != nil {
			return fmt.Errorf("badgerkv: %w", err)
		}
	}
	s.logs = s.logs[:s.cut.log+1]
	path := s.logs[s.cut.log].path
	if err := os.Truncate(path, s.cut.at); err != nil {
		return fmt.Errorf("badgerkv: %w", err)
	}
	if err := errors.Join(syncFile(path), syncDir(s.dir)); err != nil {
		return fmt.Errorf("badgerkv: %w", err)
	}
	return nil
}

// removeEmpty removes logs of no length. A process that died while Badger created or removed one leaves such a file, and
// Badger's Open fails on it. There is nothing in them, and what should have been is noticed by verify.
func (s *survey) removeEmpty() error {
	for _, f := range slices.Concat(s.logs, s.vlogs) {
		if f.size > 0 {
			continue
		}
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("badgerkv: %w", err)
		}
	}
	return nil
}
