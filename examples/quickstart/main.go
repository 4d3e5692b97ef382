// Command quickstart is the main job of spool on real input, in one process and with nothing else installed.
//
// It sends every line of a text as a message to a queue in an embedded spool on disk, while several long-polling workers
// take the messages and write down the number, the SHA-256 and the word count of each line. For a while the workers go
// wrong: they write wrong results and delete the messages all the same. When that is noticed the queue is rewound to the
// moment the first wrongly handled message was sent, and the lines are handled again. The end is a table, and a file of
// results that is compared with the input by code that knows nothing of the queue.
//
// Stop it in any place, with Ctrl-C or with kill -9, and start it again with the same -dir: it goes on where it was.
//
// Usage:
//
//	quickstart [-in FILE] [-dir DIRECTORY] [-out FILE] [-workers N] [-visibility DURATION]
//
// The exit code is 0 when every line has its right result, 1 when not or when something failed, 2 for wrong usage and
// 130 after Ctrl-C.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/spoolmq/spool"
)

//go:embed almanac.txt
var almanac []byte

const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

const maxWorkers = 256

type options struct {
	in         string // "" is the almanac, "-" standard input
	dir        string
	out        string
	workers    int
	visibility time.Duration
}

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return exitUsage
	}
	found, err := do(o, stdin, stdout, stderr)
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(stderr, "quickstart: stopped; the same command with -dir %s goes on from here\n", o.dir)
		return exitInterrupted
	case err != nil:
		fmt.Fprintln(stderr, "quickstart:", err)
		return exitFailed
	case found.lost > 0 || found.wrong > 0:
		return exitFailed
	}
	return 0
}

// parse reads the flags and has said on stderr what is wrong with them when it returns an error.
func parse(args []string, stderr io.Writer) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.in, "in", "", "`file` of lines to send; - is standard input (default: an almanac that comes with the program)")
	f.StringVar(&o.dir, "dir", "", "`directory` of the spool, and the name of what is put beside it (default: a fresh temporary one)")
	f.StringVar(&o.out, "out", "", "`file` for the results (default: the name of -dir followed by -results.txt)")
	f.IntVar(&o.workers, "workers", 4, fmt.Sprintf("how many workers receive at the same time, 1 to %d", maxWorkers))
	f.DurationVar(&o.visibility, "visibility", 5*time.Second, "how long a received message belongs to its worker, 100ms to 12h")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	var err error
	switch {
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.workers < 1 || o.workers > maxWorkers:
		err = fmt.Errorf("-workers %d is not in 1 to %d", o.workers, maxWorkers)
	case o.visibility < 100*time.Millisecond || o.visibility > 12*time.Hour:
		err = fmt.Errorf("-visibility %v is not in 100ms to 12h", o.visibility)
	}
	if err != nil {
		fmt.Fprintln(stderr, "quickstart:", err)
		f.Usage()
	}
	return o, err
}

// do runs the whole job, or what is left of it when an earlier run on the same directory did not reach the end.
func do(o *options, stdin io.Reader, stdout, stderr io.Writer) (found verdict, err error) {
	if err := o.settle(); err != nil {
		return found, err
	}
	fmt.Fprintf(stdout, "spool   %s\nresults %s\n", o.dir, o.out)

	// Durability Fsync is the default: a message that was sent, and one that was deleted, stays so after a power cut.
	s, err := spool.Open(o.dir)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()

	// From here on the directory is ours: the files beside it have one writer.
	text, err := openInput(o, stdin)
	if err == nil {
		err = o.checkOut()
	}
	if err != nil {
		return found, err
	}
	j, err := openJournal(o.dir+"-journal.txt", text)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, j.close()) }()

	// Up to here Ctrl-C just ends the program. Now it ends the work in good order; a second one still ends the program.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop)

	q, err := s.OpenQueue(ctx, "lines", spool.Meta{
		VisibilityTimeout: o.visibility,
		MaxMessageSize:    maxLine,
		Retention:         30 * 24 * time.Hour,
		Rewind:            30 * 24 * time.Hour,
	})
	if err != nil {
		return found, err
	}
	if err := q.SetMeta(ctx, func(m *spool.Meta) { m.VisibilityTimeout = o.visibility }); err != nil {
		return found, err
	}

	w := &work{q: q, text: text, journal: j, show: newProgress(stderr, text.lines)}
	if !j.finished {
		if err := w.run(ctx, o.workers); err != nil {
			return found, err
		}
	}
	if err := publish(j, o.out); err != nil {
		return found, err
	}
	found, err = verify(text.open, o.out)
	if err != nil {
		return found, err
	}
	return found, report(ctx, stdout, w, found)
}

// settle fills in what was left open: a fresh directory, and the file beside it. Both become absolute.
func (o *options) settle() (err error) {
	if o.dir == "" {
		fresh, err := os.MkdirTemp("", "spool-quickstart-")
		if err != nil {
			return err
		}
		o.dir = filepath.Join(fresh, "spool")
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	if o.out == "" {
		o.out = o.dir + "-results.txt"
	}
	o.out, err = filepath.Abs(o.out)
	return err
}

// checkOut finds out before the work what would otherwise go wrong after it.
func (o *options) checkOut() error {
	if info, err := os.Stat(filepath.Dir(o.out)); err != nil {
		return fmt.Errorf("-out: %w", err)
	} else if !info.IsDir() {
		return fmt.Errorf("-out %s: %s is not a directory", o.out, filepath.Dir(o.out))
	}
	out, err := os.Stat(o.out)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("-out: %w", err)
	case out.IsDir():
		return fmt.Errorf("-out %s is a directory", o.out)
	}
	if in, err := os.Stat(o.in); err == nil && os.SameFile(in, out) {
		return fmt.Errorf("-out %s is the input", o.out)
	}
	return nil
}

// publish writes the results that the journal holds to out, unless an earlier run has done so.
func publish(j *journal, out string) error {
	if _, err := os.Stat(out); err == nil && j.finished {
		return nil
	}
	if err := writeResults(out, j.rows()); err != nil {
		return err
	}
	step("published")
	return j.finish()
}

// step is called at the places where a crash would be most awkward. Tests crash there.
var step = func(name string) {}
