package seglog

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spoolmq/spool/store"
)

// A Fault is a part of a file that is not what was written, or that is not there.
type Fault struct {
	File   string
	Offset int64 // bytes from the file's start
	Length int64 // bytes that could not be read as they should; 0 when that is not known
	Reason string
}

// A Survey reads a log that nobody has open, whole or damaged, and changes nothing: neither the epoch nor any byte of a
// file. It holds the lock from TakeSurvey to Close, so Open answers store.ErrLocked meanwhile. A directory without LOCK
// has never been opened, or has lost the file; then there is nothing to hold. One goroutine uses it.
type Survey struct {
	dir    string
	files  vfs
	lock   io.Closer
	claims []claim
	who    identity // zero where no file says it
	keyed  bool     // who.key is what KEY says
	slots  []mark   // of MARK, those that are valid, the newest first
	mark   mark
	marked bool // a slot of MARK is valid
	stage  leftovers
	pieces []*piece
	epoch  uint32
	faults []Fault
}

// A piece is a segment file that may hold frames, with what is known of it.
type piece struct {
	*segment
	from    int64 // offset of its first frame
	length  int64 // of the file
	guessed bool  // the header was found out from the frames
	bad     error // why the header cannot be read
}

// readFS is the file system of the operating system for one who writes nothing.
type readFS struct{ osFS }

// OpenFile opens a file for reading. What is no regular file reads as an empty one: as damage.
func (readFS) OpenFile(name string, _ int) (vfile, error) {
	if regular(name) != nil {
		return nothing{}, nil
	}
	return osFS{}.OpenFile(name, os.O_RDONLY)
}

// nothing is an empty file.
type nothing struct{ vfile }

func (nothing) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
func (nothing) Size() (int64, error)              { return 0, nil }
func (nothing) Close() error                      { return nil }

// Lock takes a lock file that is there, and leaves the pid in it alone.
func (readFS) Lock(name string) (io.Closer, error) {
	f, err := openRegular(name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(lockRefused(f, name, err), f.Close())
	}
	return heldLock{f}, nil
}

// TakeSurvey reads all of the log in dir but its frames. It fails with store.ErrLocked while somebody has it open, with
// store.ErrNotStore when nothing in dir is of a spool, or only what a creation has left that was cut short, and with
// store.ErrFormatVersion when a newer version made it. What is damaged is no error but a Fault.
func TakeSurvey(dir string) (*Survey, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Survey{dir: dir, files: readFS{}}
	if err := s.recognize(); err != nil {
		return nil, err
	}
	if s.lock, err = s.files.Lock(filepath.Join(dir, lockName)); err != nil {
		return nil, err
	}
	if err = s.unfinished(); err == nil {
		err = s.take()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// take first finds out which spool this is, and then keeps what is of it.
func (s *Survey) take() error {
	if err := errors.Join(s.readNames(), s.readMark(), s.readSegments()); err != nil {
		return err
	}
	s.identify()
	s.chooseMark()
	stage, err := readStage(s.files, s.dir, s.mark)
	if err != nil {
		return err
	}
	s.stage = stage
	if err := s.choosePieces(); err != nil {
		return err
	}
	return s.settle()
}

// Close gives the lock up. It may be called again.
func (s *Survey) Close() error {
	lock := s.lock
	if s.lock = nil; lock == nil {
		return nil
	}
	return lock.Close()
}

// Info tells what a Log would, as far as it is known. The epoch is the highest that any file names, not a new one.
func (s *Survey) Info() store.Info {
	return store.Info{SpoolID: s.who.id, Key: s.who.key, Epoch: s.epoch, HighWater: s.mark.highWater, Clean: s.marked && s.mark.clean}
}

// Keyed tells whether the key of Info is that of the spool; otherwise it is zero.
func (s *Survey) Keyed() bool { return s.keyed }

// Start is the lowest position of the log, if that is known.
func (s *Survey) Start() store.Position { return s.mark.start }

// Segments is the number of files that may hold frames.
func (s *Survey) Segments() int { return len(s.pieces) }

// Size is how many bytes Read goes through at most.
func (s *Survey) Size() (n int64) {
	for _, p := range s.pieces {
		n += p.length
	}
	return n
}

// Faults are what is wrong with the files as far as it shows without reading the frames.
func (s *Survey) Faults() []Fault { return s.faults }

func (s *Survey) fault(file string, at, n int64, reason string) {
	s.faults = append(s.faults, Fault{file, at, n, reason})
}

// recognize answers store.ErrNotStore unless dir has something of a spool.
func (s *Survey) recognize() error {
	entries, err := s.files.List(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case formatName, keyName, markName:
			return nil
		case logName:
			if inner, err := s.files.List(filepath.Join(s.dir, logName)); err == nil && len(inner) > 0 {
				return nil
			}
		}
	}
	return fmt.Errorf("%s has no file of a spool: %w", s.dir, store.ErrNotStore)
}

// unfinished answers store.ErrNotStore for what a creation has left that was cut short: Open makes it anew.
func (s *Survey) unfinished() error {
	made, err := inspect(s.files, s.dir)
	if made || err != nil || refuseUsed(s.files, s.dir) != nil {
		return nil
	}
	return fmt.Errorf("%s has the beginning of a spool, which Open will make anew: %w", s.dir, store.ErrNotStore)
}

// small reads a small file. What is missing is a fault, and answered as nil.
func (s *Survey) small(name string, limit int) (path string, b []byte, err error) {
	path = filepath.Join(s.dir, name)
	b, err = readFile(s.files, path, limit)
	if errors.Is(err, fs.ErrNotExist) {
		s.fault(path, 0, 0, "missing")
		return path, nil, nil
	}
	return path, b, err
}

// readNames reads FORMAT and KEY.
func (s *Survey) readNames() error {
	path, b, err := s.small(keyName, keySize)
	if err != nil {
		return err
	}
	if b != nil {
		who, err := decodeKey(b)
		switch {
		case errors.Is(err, store.ErrFormatVersion):
			return fmt.Errorf("%s: %w", path, err)
		case err != nil:
			s.fault(path, 0, int64(len(b)), err.Error())
		default:
			s.who, s.keyed = who, true
			s.claims = append(s.claims, claim{path, 0, keySize, who.id})
		}
	}
	path, b, err = s.small(formatName, formatLimit)
	if err != nil || b == nil {
		return err
	}
	id, err := decodeFormat(b)
	switch {
	case errors.Is(err, store.ErrFormatVersion):
		return fmt.Errorf("%s: %w", path, err)
	case err != nil:
		s.fault(path, 0, int64(len(b)), err.Error())
	default:
		s.claims = append(s.claims, claim{path, 0, int64(len(b)), id})
	}
	return nil
}

// readMark reads both slots of MARK. A slot that a crash has torn is no fault while the other one is whole.
func (s *Survey) readMark() error {
	path, b, err := s.small(markName, markFile)
	if err != nil || b == nil {
		return err
	}
	var bad []Fault
	for at := int64(0); at < markFile; at += pageSize {
		slot := b[min(at, int64(len(b))):min(at+pageSize, int64(len(b)))]
		m, err := decodeMark(slot)
		switch {
		case errors.Is(err, store.ErrFormatVersion):
			return fmt.Errorf("%s: %w", path, err)
		case err != nil:
			bad = append(bad, Fault{path, at, int64(len(slot)), err.Error()})
		default:
			s.slots = append(s.slots, m)
			s.claims = append(s.claims, claim{path, at, markSize, m.id})
		}
	}
	slices.SortFunc(s.slots, func(a, b mark) int { return cmp.Compare(b.number, a.number) })
	if len(s.slots) == 0 || s.slots[0].clean && s.slots[0].number > 1 {
		s.faults = append(s.faults, bad...)
	}
	return nil
}

// chooseMark takes the newest slot of this spool.
func (s *Survey) chooseMark() {
	if i := slices.IndexFunc(s.slots, func(m mark) bool { return m.id == s.who.id }); i >= 0 {
		s.mark, s.marked = s.slots[i], true
	}
	s.epoch = s.mark.epoch
}

// readSegments finds the files of the log and reads their headers.
func (s *Survey) readSegments() error {
	dir := filepath.Join(s.dir, logName)
	entries, err := s.files.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		s.fault(dir, 0, 0, "missing")
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		n, ok := segmentNumber(e.Name(), segmentSuffix)
		if !ok || !e.Type().IsRegular() {
			continue
		}
		p := &piece{segment: &segment{path: filepath.Join(dir, e.Name()), number: n}}
		if err := s.readPiece(p); err != nil {
			return err
		}
		s.pieces = append(s.pieces, p)
	}
	return nil
}

// readPiece reads the header of a segment.
func (s *Survey) readPiece(p *piece) error {
	f, err := s.files.OpenFile(p.path, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	if p.length, err = f.Size(); err != nil {
		return err
	}
	b := make([]byte, headerSize)
	n, err := readUpTo(f, b, 0)
	if err != nil {
		return fmt.Errorf("read %s at 0: %w", p.path, err)
	}
	p.header, p.bad = decodeHeader(b[:n])
	if errors.Is(p.bad, store.ErrFormatVersion) {
		return fmt.Errorf("%s: %w", p.path, p.bad)
	}
	if p.bad == nil {
		s.claims = append(s.claims, claim{p.path, 0, headerSize, p.id})
		p.from = offset(p.base, p.base)
	}
	return nil
}

// choosePieces keeps the segments in which frames of the log may be. One whose header is whole and names another spool
// holds none: its frames verify like ours, so nothing in it is looked at.
func (s *Survey) choosePieces() error {
	var kept []*piece
	for _, p := range s.pieces {
		switch {
		case p.bad != nil:
			s.fault(p.path, 0, headerSize, p.bad.Error())
			if err := s.guess(p); err != nil {
				return err
			}
		case p.id != s.who.id:
			continue
		case p.length != p.size:
			s.fault(p.path, min(p.length, p.size), max(0, p.size-p.length), fmt.Sprintf("%d bytes long, want %d", p.length, p.size))
		}
		s.epoch = max(s.epoch, p.epoch)
		if p.kind == kindUsed && (!s.marked || p.limit() > s.mark.start && (p.guessed || p.base >= s.mark.start)) {
			kept = append(kept, p)
		}
	}
	s.pieces = kept
	return nil
}

// guess finds out the header of a segment.
func (s *Survey) guess(p *piece) error {
	f, err := s.files.OpenFile(p.path, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	return p.guess(f)
}

// Check tells what Open would say, and where the log ends. It is nil for a log that Open takes, torn by a crash or not.
// The error is a *store.CorruptError for damage.
func (s *Survey) Check() (end store.Position, err error) {
	if len(s.faults) > 0 && !s.marked {
		f := s.faults[0]
		return 0, &store.CorruptError{File: f.File, Offset: f.Offset, Reason: f.Reason}
	}
	l := &Log{dir: s.dir, files: s.files, o: Options{}.withDefaults()}
	r := &recovery{l: l, m: s.mark, stage: s.stage, scan: scanner{files: s.files}}
	defer r.leave()
	if r.chain, err = readChain(s.files, l.logDir(), r.m); err != nil {
		return 0, err
	}
	if err := r.findEnd(); err != nil {
		return 0, err
	}
	return r.end.pos, r.compare()
}
