package seglog

import "io"

// A patch is what belongs at an offset of a file and is not there yet.
type patch struct {
	at int64
	b  []byte
}

// A patched file reads as if its patches were in it, zeros before those that lie behind its end.
type patched struct {
	vfile
	patches []patch
}

func (f *patched) ReadAt(b []byte, at int64) (int, error) {
	n, err := f.vfile.ReadAt(b, at)
	if err != nil && err != io.EOF {
		return n, err
	}
	for _, p := range f.patches {
		lo, hi := max(at, p.at), min(at+int64(len(b)), p.at+int64(len(p.b)))
		if lo < hi {
			if end := int(hi - at); end > n {
				clear(b[n:end])
				n = end
			}
			copy(b[lo-at:hi-at], p.b[lo-p.at:])
		}
	}
	if n == len(b) {
		err = nil
	}
	return n, err
}

// patch makes the open file of a segment read as if b stood at an offset, and returns it.
func (s *segment) patch(at int64, b []byte) vfile {
	s.opening.Lock()
	defer s.opening.Unlock()
	f, ok := s.file.(*patched)
	if !ok {
		f = &patched{vfile: s.file}
		s.file = f
	}
	f.patches = append(f.patches, patch{at, b})
	return f
}

// patches returns the file of a segment and what is to be written there, if it has patches.
func (s *segment) patches() (vfile, []patch) {
	s.opening.Lock()
	defer s.opening.Unlock()
	if f, ok := s.file.(*patched); ok {
		return f.vfile, f.patches
	}
	return nil, nil
}

// mend forgets patches that have been written.
func (s *segment) mend() {
	s.opening.Lock()
	defer s.opening.Unlock()
	if f, ok := s.file.(*patched); ok {
		s.file = f.vfile
	}
}
