package spool_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

// A spool is built and closed, or its process killed; then a copy of it is damaged somewhere and opened again. Allowed
// are the same answers as without the damage, or ErrCorrupt: at Open, or at the call that meets it. Never a panic, never
// less without a word, and nothing deleted. What is damaged in the index must not show at all.
//
// The copies are judged in child processes, which may die of it.

var (
	damageCount = flag.Int("spool.damage.count", 0, "damages of TestDamage (0: 150)")
	damageSeed  = flag.Uint64("spool.damage.seed", 0, "seed of TestDamage; 0 draws one")
	damageForge = flag.Bool("spool.damage.control", false, "a control: what TestDamage changes has right checksums; when it notices all of that, it fails")
	damageOnly  = flag.Int("spool.damage.only", -1, "make only this damage of the seed, and keep the copy")
)

func init() {
	children["damage build"] = damageBuildChild
	children["damage judge"] = damageJudgeChild
}

const damageLease = time.Hour

// A damageJob is what a child is told: which copy, and what is allowed.
type damageJob struct {
	Dir      string
	Receipts string // file of queues and receipts that were good
	Small    bool   // see killOpen
	Crashed  bool   // the tail may be lost
	Index    bool   // only the index was touched
	Format   bool   // the file that says what the directory is was touched
	Want     *damageAnswers
}

// A damageVerdict is its answer.
type damageVerdict struct {
	How       string // "same", "corrupt at Open", "corrupt at a call"
	Violation string
	Answers   *damageAnswers // without Want
}

// damageAnswers is what a spool says of itself: facts by name, and what can be received in order.
type damageAnswers struct {
	Facts map[string]string
	Taken map[string][]string // by queue
}

func TestDamage(t *testing.T) {
	count := *damageCount
	if count == 0 {
		count = fewer(150)
	}
	seed := *damageSeed
	if seed == 0 {
		seed = rand.Uint64() >> 16
	}
	t.Logf("-spool.damage.seed=%d", seed)

	type original struct {
		name    string
		dir     string
		small   bool
		crashed bool
		want    *damageAnswers
	}
	originals := []*original{{name: "closed"}, {name: "killed", crashed: true}, {name: "small segments", small: true}, {name: "small segments, killed", small: true, crashed: true}}
	var building sync.WaitGroup
	for _, o := range originals {
		o.dir = filepath.Join(t.TempDir(), o.name)
		building.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"=damage build", "SPOOL_TEST_DIR="+o.dir, fmt.Sprintf("SPOOL_TEST_KILL=%v", o.crashed), fmt.Sprintf("SPOOL_TEST_SMALL=%v", o.small))
			out, err := cmd.CombinedOutput()
			if exit := (*exec.ExitError)(nil); len(out) > 0 || o.crashed && (!errors.As(err, &exit) || exit.ExitCode() != -1) || !o.crashed && err != nil {
				t.Errorf("building %s: %v\n%s", o.name, err, out)
			}
		})
	}
	building.Wait()
	if t.Failed() {
		t.FailNow()
	}
	judges := make(chan *damageJudge, 2)
	for range cap(judges) {
		j := &damageJudge{}
		judges <- j
		t.Cleanup(func() { j.stop() })
	}
	for _, o := range originals { // undamaged first
		j := <-judges
		copied := filepath.Join(t.TempDir(), o.name)
		damageCopy(t, o.dir, copied)
		v, err := j.judge(damageJob{Dir: copied, Receipts: o.dir + ".receipts", Small: o.small, Crashed: o.crashed})
		if err != nil || v.Violation != "" || v.How != "same" {
			t.Fatalf("%s, undamaged: %+v, %v", o.name, v, err)
		}
		o.want = v.Answers
		judges <- j
		t.Logf("%s: files %.600v", o.name, fmt.Sprint(damageFiles(t, o.dir)))
	}

	var mu sync.Mutex
	tally := map[string]int{}
	var all sync.WaitGroup
	for i := range count {
		if *damageOnly >= 0 && i != *damageOnly {
			continue
		}
		j := <-judges
		all.Go(func() {
			defer func() { judges <- j }()
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			o := originals[rng.IntN(len(originals))]
			dir, err := os.MkdirTemp(damageTemp(), "spool-damage-")
			if err != nil {
				t.Error(err)
				return
			}
			if *damageOnly >= 0 {
				t.Logf("kept in %s", dir)
			} else {
				defer os.RemoveAll(dir)
			}
			copied := filepath.Join(dir, "spool")
			damageCopy(t, o.dir, copied)
			job := damageJob{Dir: copied, Receipts: o.dir + ".receipts", Small: o.small, Crashed: o.crashed, Want: o.want}
			what := ""
			if *damageForge {
				what = damageForged(t, rng, &job)
			} else {
				what = damageSome(t, rng, &job)
			}
			before := damageFiles(t, copied)
			v, err := j.judge(job)
			if err != nil {
				t.Errorf("damage %d of %s spool, %s: %v", i, o.name, what, err)
				return
			}
			if v.Violation == "" && v.How == "corrupt at Open" {
				v.Violation = damageLost(before, damageFiles(t, copied))
			}
			if v.Violation != "" && !*damageForge {
				t.Errorf("damage %d of %s spool, %s: %s", i, o.name, what, v.Violation)
			}
			mu.Lock()
			defer mu.Unlock()
			kind := "log"
			if job.Index {
				kind = "index"
			}
			tally[kind+" "+v.How]++
			if *damageForge && v.Violation == "" {
				t.Logf("damage %d of %s spool, %s: not noticed", i, o.name, what)
				tally["not noticed"]++
			}
		})
	}
	all.Wait()
	if *damageForge && tally["not noticed"] == 0 {
		t.Errorf("all of %d changes without an error were noticed", count)
	}
	t.Logf("%v", tally)
}

// TestDamageLeavesAll: an Open that answers ErrCorrupt has changed nothing, not even what it would have done without the
// damage: unfinished files stay, and so does what says whether the spool was closed cleanly.
func TestDamageLeavesAll(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "closed")
	s, err := spool.Open(dir, spool.WithoutPaging)
	if err != nil {
		t.Fatal(err)
	}
	q, err := s.CreateQueue(t.Context(), "q", spool.Meta{})
	for range 20 {
		_, e := q.Send(t.Context(), spool.Message{Body: []byte("body")})
		err = errors.Join(err, e)
	}
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	killed := filepath.Join(parent, "killed")
	damageCopy(t, dir, killed)
	if s, err = spool.Open(killed, spool.WithoutPaging); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	damageCopy(t, killed, killed+" copy")
	for _, dir := range []string{dir, killed + " copy"} {
		name := filepath.Join(dir, "log", "0000000000000001.seg")
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		data[bytes.Index(data[4096:], []byte("SPOL"))+4096+8]++ // a frame's size
		passing := filepath.Join(dir, "log", "00000000000000ff.tmp")
		if err := errors.Join(damageWrite(name, data), damageWrite(passing, make([]byte, 100))); err != nil {
			t.Fatal(err)
		}
		before := damageContents(t, dir)
		if _, err := spool.Open(dir, spool.WithoutPaging); !errors.Is(err, spool.ErrCorrupt) {
			t.Errorf("%s: Open = %v, want %v", dir, err, spool.ErrCorrupt)
		}
		for name, was := range before {
			if is := damageContents(t, dir)[name]; is != was && name != "LOCK" {
				t.Errorf("%s: Open answered ErrCorrupt and made %d bytes of the %d of %s", dir, len(is), len(was), name)
			}
		}
	}
}

func damageContents(t *testing.T, root string) map[string]string {
	all := map[string]string{}
	for _, f := range damageFiles(t, root) {
		data, err := os.ReadFile(filepath.Join(root, f.name))
		if err != nil {
			t.Error(err)
		}
		all[f.name] = string(data)
	}
	return all
}

// ---- making damage ----

// damageTemp is a folder whose fsync costs nothing, if there is one.
func damageTemp() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// damageFile is a file's place below the spool's directory.
type damageFile struct {
	name  string
	size  int64
	index bool
}

func (f damageFile) String() string { return fmt.Sprintf("%s:%d", f.name, f.size) }

// damageIndexDir says whether dir is where the index lives: Badger has a MANIFEST.
func damageIndexDir(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "MANIFEST"))
	return err == nil
}

// dropIndex deletes the index of a spool that nobody has open. It must not make a difference.
func dropIndex(dir string) (dropped bool, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() || !damageIndexDir(path) {
			return err
		}
		dropped = true
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		return filepath.SkipDir
	})
	return dropped, err
}

func damageFiles(t *testing.T, root string) (files []damageFile) {
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		files = append(files, damageFile{name, info.Size(), damageIndexDir(filepath.Dir(path))})
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return files
}

// damageLost says which file outside the index is gone or shorter.
func damageLost(before, after []damageFile) string {
	for _, b := range before {
		if b.index {
			continue
		}
		i := slices.IndexFunc(after, func(a damageFile) bool { return a.name == b.name })
		if i < 0 || after[i].size < b.size {
			return fmt.Sprintf("ErrCorrupt, but %v is gone or shorter: %v", b, after)
		}
	}
	return ""
}

func damageCopy(t *testing.T, from, to string) {
	if err := copySpool(from, to); err != nil {
		t.Error(err)
	}
}

// copySpool copies a directory. What is copied while a spool is open and idle is what its process would leave behind if
// it were killed.
func copySpool(from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if passing(err) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if e.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		data, err := os.ReadFile(path)
		if passing(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return damageWrite(target, data)
	})
}

// passing tells whether a file is not there that a log has prepared meanwhile, which gave it another name.
func passing(err error) bool {
	gone := (*fs.PathError)(nil)
	return errors.As(err, &gone) && errors.Is(err, fs.ErrNotExist) && filepath.Ext(gone.Path) == ".tmp"
}

// damageWrite writes a file and leaves out what is zero.
func damageWrite(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	const block = 64 << 10
	zero := make([]byte, block)
	for at := 0; at < len(data); at += block {
		if b := data[at:min(at+block, len(data))]; !bytes.Equal(b, zero[:len(b)]) {
			if _, err := f.WriteAt(b, int64(at)); err != nil {
				return err
			}
		}
	}
	return f.Truncate(int64(len(data)))
}

// damageSome damages one place of the job's copy and says what it did.
func damageSome(t *testing.T, rng *rand.Rand, job *damageJob) string {
	files := damageFiles(t, job.Dir)
	if i := slices.IndexFunc(files, func(f damageFile) bool { return f.index }); i >= 0 && rng.IntN(25) == 0 {
		job.Index = true
		if err := os.RemoveAll(filepath.Join(job.Dir, filepath.Dir(files[i].name))); err != nil {
			t.Error(err)
		}
		return "index directory deleted"
	}
	index := rng.IntN(3) == 0
	files = slices.DeleteFunc(files, func(f damageFile) bool { return f.index != index })
	if len(files) == 0 {
		return "nothing: there is no index"
	}
	f := files[rng.IntN(len(files))]
	job.Index = f.index
	job.Format = strings.Contains(strings.ToUpper(f.name), "FORMAT")
	path := filepath.Join(job.Dir, f.name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return ""
	}
	if rng.IntN(10) == 0 || len(data) == 0 {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
		return f.String() + " deleted"
	}
	// Somewhere, with a liking for places where something is written.
	at := rng.IntN(len(data))
	for try := 0; data[at] == 0 && try < 50; try++ {
		at = rng.IntN(len(data))
	}
	what := ""
	switch rng.IntN(6) {
	case 0, 1:
		bit := rng.IntN(8)
		data[at] ^= 1 << bit
		what = fmt.Sprintf("bit %d of byte %d flipped", bit, at)
	case 2:
		n := min(len(data)-at, 1+rng.IntN(64))
		for i := range n {
			data[at+i] = byte(rng.Uint32())
		}
		what = fmt.Sprintf("%d bytes at %d made random", n, at)
	case 3:
		size := []int{512, 4096, 65536}[rng.IntN(3)]
		at -= at % size
		n := min(len(data)-at, size)
		clear(data[at : at+n])
		what = fmt.Sprintf("%d bytes at %d zeroed", n, at)
	case 4:
		size := []int{512, 4096, 65536}[rng.IntN(3)]
		at -= at % size
		n := min(len(data)-at, size)
		data = slices.Concat(data[:at], data[at+n:])
		what = fmt.Sprintf("%d bytes at %d cut out", n, at)
	case 5:
		data = data[:at]
		what = fmt.Sprintf("cut at %d", at)
	}
	if err := damageWrite(path, data); err != nil {
		t.Error(err)
	}
	return f.String() + ": " + what
}

// damageForged changes the job's copy through the library, so that all checksums are right, and says what it did.
func damageForged(t *testing.T, rng *rand.Rand, job *damageJob) (what string) {
	ctx := t.Context()
	s, err := killOpen(job.Dir, spool.Written, job.Small)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer func() {
		if err := errors.Join(err, s.Close()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}()
	var q *spool.Queue
	if q, err = s.Queue([]string{"dead", "large", "small", "work"}[rng.IntN(4)]); err != nil {
		return ""
	}
	switch rng.IntN(4) {
	case 0:
		what = "a message of " + q.Name() + " deleted"
		var d *spool.Delivery
		if d, err = q.Receive(ctx); err == nil {
			err = d.Delete(ctx)
		}
	case 1:
		what = "a message sent to " + q.Name()
		_, err = q.Send(ctx, spool.Message{Body: []byte("forged")})
	case 2:
		what = "a message of " + q.Name() + " received"
		_, err = q.Receive(ctx, spool.Visibility(100*damageLease))
	case 3:
		what = q.Name() + " purged"
		err = q.Purge(ctx)
	}
	return what
}

// ---- the child that builds ----

// damageBuildChild makes a spool with some of everything: three lives, several segments, blocks in every state. A fourth
// one ends by a kill.
func damageBuildChild() {
	dir := os.Getenv("SPOOL_TEST_DIR")
	if err := damageBuild(dir, os.Getenv("SPOOL_TEST_SMALL") == "true", os.Getenv("SPOOL_TEST_KILL") == "true"); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func damageBuild(dir string, small, kill bool) error {
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(1, 1))
	text := make([]byte, 1<<20)
	for i := range text {
		text[i] = byte(rng.Uint32())
	}
	body := func(size int) []byte {
		at := rng.IntN(len(text) - size)
		return text[at : at+size]
	}
	var receipts []string
	defer func() { os.WriteFile(dir+".receipts", []byte(strings.Join(receipts, "\n")), 0o600) }()
	lives := 3
	if kill {
		lives++
	}
	for life := range lives {
		last := kill && life == lives-1
		s, err := killOpen(dir, spool.Written, small)
		if err != nil {
			return err
		}
		var qs []*spool.Queue
		for _, name := range []string{"tail", "dead", "large", "small", "work"} {
			meta := spool.Meta{VisibilityTimeout: damageLease, Rewind: 24 * time.Hour}
			if name == "work" {
				meta.DeadLetter = &spool.DeadLetter{Queue: "dead", MaxReceives: 2}
			}
			q, err := s.OpenQueue(ctx, name, meta)
			if err != nil {
				return err
			}
			qs = append(qs, q)
		}
		tail, large, little, work := qs[0], qs[2], qs[3], qs[4]
		nLarge, nSmall := 90, 10
		if last {
			nLarge, nSmall = 20, 4
		}
		for range nLarge {
			if _, err := large.Send(ctx, spool.Message{Body: body(1 + rng.IntN(30_000)), Attributes: map[string]string{"life": fmt.Sprint(life)}}); err != nil {
				return err
			}
		}
		for range nSmall {
			var ms []spool.Message
			for range 60 {
				ms = append(ms, spool.Message{Body: body(1 + rng.IntN(200))})
			}
			if _, err := little.SendBatch(ctx, ms); err != nil {
				return err
			}
			if _, err := work.SendBatch(ctx, ms[:10]); err != nil {
				return err
			}
		}
		for i := range 5 {
			if _, err := little.Send(ctx, spool.Message{Body: body(50), Delay: time.Duration(i+2) * time.Hour}); err != nil {
				return err
			}
		}
		for _, q := range []*spool.Queue{large, little, work} {
			got, err := q.ReceiveBatch(ctx, 120)
			if err != nil {
				return err
			}
			for i, d := range got {
				switch i % 8 {
				case 0:
					receipts = append(receipts, q.Name()+" "+d.Receipt)
				case 1:
					err = d.Extend(ctx, 2*damageLease)
				case 2, 3:
					err = d.Release(ctx, 0)
				default:
					err = d.Delete(ctx)
				}
				if err != nil {
					return err
				}
			}
			if _, err := q.Rewind(ctx, got[len(got)/2].EnqueuedAt); err != nil {
				return err
			}
			if got, err = q.ReceiveBatch(ctx, 60); err != nil {
				return err
			}
			for i, d := range got {
				if i%2 == 0 {
					err = d.Delete(ctx)
				} else {
					err = d.Release(ctx, 0)
				}
				if err != nil {
					return err
				}
			}
		}
		if last {
			// Everything up to here is known to be durable before the tail begins.
			if err := s.Sync(ctx); err != nil {
				return err
			}
			for i := range 12 {
				if i < 2 {
					time.Sleep(1200 * time.Millisecond)
				}
				if _, err := tail.Send(ctx, spool.Message{Body: fmt.Appendf(nil, "tail %d", i)}); err != nil {
					return err
				}
			}
			if err := os.WriteFile(dir+".receipts", []byte(strings.Join(receipts, "\n")), 0o600); err != nil {
				return err
			}
			self, err := os.FindProcess(os.Getpid())
			if err == nil {
				err = self.Kill()
			}
			if err != nil {
				return err
			}
			select {}
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	return nil
}

// ---- the child that judges ----

// A damageJudge is a child process, begun when needed.
type damageJudge struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr bytes.Buffer
}

func (j *damageJudge) stop() {
	if j.cmd != nil {
		j.in.Close()
		j.cmd.Process.Kill()
		j.cmd.Wait()
		j.cmd = nil
	}
}

// judge asks the child. An error means that it died or hung.
func (j *damageJudge) judge(job damageJob) (v damageVerdict, err error) {
	if j.cmd == nil {
		j.cmd = exec.Command(os.Args[0])
		j.cmd.Env = append(os.Environ(), childEnv+"=damage judge")
		j.stderr.Reset()
		j.cmd.Stderr = &j.stderr
		if j.in, err = j.cmd.StdinPipe(); err != nil {
			return v, err
		}
		out, err := j.cmd.StdoutPipe()
		if err != nil {
			return v, err
		}
		j.out = bufio.NewReader(out)
		if err := j.cmd.Start(); err != nil {
			return v, err
		}
	}
	line, err := json.Marshal(job)
	if err != nil {
		return v, err
	}
	if _, err := j.in.Write(append(line, '\n')); err != nil {
		return v, err
	}
	hung := time.AfterFunc(60*time.Second, func() { j.cmd.Process.Signal(syscall.SIGQUIT) })
	defer hung.Stop()
	line, err = j.out.ReadBytes('\n')
	if err == nil {
		return v, json.Unmarshal(line, &v)
	}
	j.in.Close()
	err = j.cmd.Wait()
	j.cmd = nil
	text := j.stderr.String()
	return v, fmt.Errorf("the process died: %v\n%s", err, text[:min(len(text), 6000)])
}

func damageJudgeChild() {
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var job damageJob
		if err := json.Unmarshal(line, &job); err != nil {
			panic(err)
		}
		line, err = json.Marshal(damageOpenAndJudge(job))
		if err != nil {
			panic(err)
		}
		if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
			return
		}
	}
}

// damageRun is one judgement: the answers so far, over as many openings as it takes.
type damageRun struct {
	receipts string
	got      *damageAnswers
	errs     map[string]int // ErrCorrupt at calls, by queue
	rotten   map[string]int // those of receives among them
	stopped  bool           // the spool refuses everything after an ErrCorrupt
}

func damageOpenAndJudge(job damageJob) (v damageVerdict) {
	v.How = "same"
	run := &damageRun{got: &damageAnswers{Facts: map[string]string{}, Taken: map[string][]string{}}, errs: map[string]int{}, rotten: map[string]int{}, receipts: job.Receipts}
	// A damaged index may be met late: then the spool stops with ErrCorrupt and the next Open makes a new one.
	for attempt := 0; ; attempt++ {
		s, err := killOpen(job.Dir, spool.Written, job.Small)
		switch {
		case err == nil:
		case job.Index:
			v.Violation = fmt.Sprintf("Open with a damaged index: %v", err)
			return v
		case errors.Is(err, spool.ErrCorrupt), job.Format && (errors.Is(err, spool.ErrFormatVersion) || errors.Is(err, spool.ErrInvalidArgument)):
			v.How = "corrupt at Open"
			var ce *spool.CorruptError
			if errors.Is(err, spool.ErrCorrupt) && (!errors.As(err, &ce) || ce.File == "" || ce.Reason == "") {
				v.Violation = fmt.Sprintf("%v does not say where", err)
			}
			if again, e := killOpen(job.Dir, spool.Written, job.Small); e == nil {
				again.Close()
				v.Violation = fmt.Sprintf("%v, but the next Open takes it as it is", err)
			}
			return v
		default:
			v.Violation = fmt.Sprintf("Open: %v", err)
			return v
		}
		run.stopped = false
		err = run.ask(s)
		if cerr := s.Close(); err == nil && cerr != nil {
			err = run.corrupt("Close", cerr)
		}
		if err != nil {
			v.Violation = err.Error()
			return v
		}
		if run.stopped {
			v.How = "corrupt at a call"
			if job.Index && attempt < 3 {
				continue
			}
		}
		break
	}
	if job.Want == nil {
		v.Answers = run.got
		return v
	}
	if len(run.errs) > 0 {
		v.How = "corrupt at a call"
	}
	if job.Index { // each of its errors was answered by a new index
		clear(run.errs)
		clear(run.rotten)
	}
	v.Violation = run.compare(job)
	return v
}

// corrupt takes note of an explicit error. It returns any other one.
func (r *damageRun) corrupt(queue string, err error) error {
	if errors.Is(err, spool.ErrCorrupt) || len(r.errs) > 0 && errors.Is(err, spool.ErrStoreFailed) {
		r.errs[queue]++
		return nil
	}
	return fmt.Errorf("%s: %w", queue, err)
}

// ask asks everything. It returns an error for what is neither an answer nor ErrCorrupt.
func (r *damageRun) ask(s *spool.Spool) error {
	ctx := context.Background()
	fact := func(name, value string) {
		if _, known := r.got.Facts[name]; !known {
			r.got.Facts[name] = value
		}
	}
	var names []string
	for _, q := range s.Queues() {
		names = append(names, q.Name())
	}
	fact("queues", strings.Join(names, " "))
	text, err := os.ReadFile(r.receipts)
	if err != nil {
		return err
	}
	for _, name := range names {
		q, err := s.Queue(name)
		if err != nil {
			r.stopped = true
			return r.corrupt(name, err)
		}
		if a, err := q.Attributes(ctx); err == nil {
			line, err := json.Marshal(a)
			if err != nil {
				return err
			}
			fact(name+" attributes", string(line))
		} else if err := r.corrupt(name, err); err != nil {
			return err
		}
		if peek, err := q.Peek(ctx, spool.MaxBatch); err == nil {
			var all []string
			for _, d := range peek {
				all = append(all, damageSee(d))
			}
			fact(name+" peek", strings.Join(all, "\n"))
		} else if err := r.corrupt(name, err); err != nil {
			return err
		}
		for i, line := range strings.Split(string(text), "\n") {
			if own, receipt, _ := strings.Cut(line, " "); own == name {
				if err := q.ChangeVisibility(ctx, receipt, 5*damageLease); err == nil {
					fact(fmt.Sprintf("%s receipt %d", name, i), "good")
				} else if failure(err) != "" && errors.Is(err, spool.ErrInvalidReceipt) {
					fact(fmt.Sprintf("%s receipt %d", name, i), failure(err))
				} else if err := r.corrupt(name, err); err != nil {
					return err
				}
			}
		}
		if n, err := q.Rewind(ctx, time.Now().Add(-damageLease)); err == nil {
			fact(name+" rewind", fmt.Sprint(n))
		} else if err := r.corrupt(name, err); err != nil {
			return err
		}
		for bad := 0; ; {
			d, err := q.Receive(ctx, spool.Wait(0), spool.Visibility(damageLease))
			if errors.Is(err, spool.ErrNoMessage) {
				break
			}
			if err == nil {
				r.got.Taken[name] = append(r.got.Taken[name], damageSee(d))
				continue
			}
			if err := r.corrupt(name, err); err != nil {
				return err
			}
			r.rotten[name]++
			if bad++; bad > 5000 {
				r.stopped = true
				break
			}
		}
	}
	if r.stopped {
		return nil
	}
	for name := range r.errs { // did it stop for good?
		if q, err := s.Queue(name); err == nil {
			if _, err := q.Attributes(ctx); err != nil {
				r.stopped = true
			}
		}
	}
	return nil
}

func damageSee(d *spool.Delivery) string {
	return fmt.Sprintf("%s %d bytes %#x %v sent %d receives %d rewinds %d dead %v", d.ID, len(d.Body), crc32.ChecksumIEEE(d.Body), d.Attributes, d.EnqueuedAt.UnixNano(), d.Receives, d.Rewinds, d.DeadLetter != nil)
}

// compare says what is less than it was without an error having said so.
func (r *damageRun) compare(job damageJob) string {
	lost := func(name string) bool { return job.Crashed && strings.HasPrefix(name, "tail") }
	for name, want := range job.Want.Facts {
		queue, _, _ := strings.Cut(name, " ")
		got, asked := r.got.Facts[name]
		switch {
		case got == want, lost(name), !asked && r.errs[queue] > 0:
		case r.errs[queue] > 0 && strings.HasSuffix(name, "attributes"):
			return fmt.Sprintf("%s: %s beside %d errors, want %s", name, got, r.errs[queue], want)
		default:
			return fmt.Sprintf("%s: %.2000s, want %.2000s (%d errors)", name, got, want, r.errs[queue])
		}
	}
	for name, want := range job.Want.Taken {
		i := 0
		got := r.got.Taken[name]
		for _, w := range want {
			if i < len(got) && got[i] == w {
				i++
			}
		}
		switch missing := len(want) - len(got); {
		case i < len(got):
			return fmt.Sprintf("%s gave %s, which is not what comes after %d others", name, got[i], i)
		case missing > r.rotten[name] && !r.stopped && !lost(name):
			return fmt.Sprintf("%s: %d messages of %d are missing, and %d errors", name, missing, len(want), r.rotten[name])
		}
	}
	return ""
}
