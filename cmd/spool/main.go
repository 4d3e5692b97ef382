// Command spool looks at a spool that no process has open, and repairs one that is damaged.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/spoolmq/spool"
)

const usage = `Usage:

	spool verify [-json] DIR            read all of the spool in DIR and say what is damaged; nothing is changed
	spool stats [-json] DIR             the same, and print the queues
	spool repair [-json] [-to TO] DIR   write what is whole into TO, a directory that is missing or empty;
	                                    without -to in the place of DIR, which stays as DIR.damaged-1

No process may have the spool open. With -json the report goes to standard output as one JSON object.

Exit status: 0 nothing is damaged; 1 damage was found (and repaired, by repair); 2 the command line is wrong;
3 anything else: the spool is in use, DIR is no spool, the disk cannot be read or is full.
`

// The exit statuses.
const (
	exitOK      = 0
	exitDamaged = 1
	exitUsage   = 2
	exitError   = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	c := command{out: os.Stdout, err: os.Stderr, bar: terminal(os.Stderr)}
	status := c.run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}

// A command is where the output of one run goes.
type command struct {
	out, err io.Writer
	bar      bool // err is a terminal
}

// run executes a command line without the program's name and returns the exit status.
func (c *command) run(ctx context.Context, args []string) int {
	if len(args) > 0 && (args[0] == "help" || args[0] == "-h" || args[0] == "--help") {
		fmt.Fprint(c.out, usage)
		return exitOK
	}
	if len(args) == 0 {
		fmt.Fprint(c.err, usage)
		return exitUsage
	}
	verb := args[0]
	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	asJSON := flags.Bool("json", false, "")
	to := ""
	switch verb {
	case "repair":
		flags.StringVar(&to, "to", "", "")
	case "verify", "stats":
	default:
		return c.misuse(fmt.Errorf("there is no command %q", verb))
	}
	if err := flags.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(c.out, usage)
		return exitOK
	} else if err != nil {
		return c.misuse(err)
	}
	if flags.NArg() != 1 {
		return c.misuse(fmt.Errorf("%s takes one directory, not %d", verb, flags.NArg()))
	}
	dir := flags.Arg(0)
	report, err := c.check(ctx, verb, dir, to)
	if err != nil {
		fmt.Fprintln(c.err, err)
		return exitError
	}
	if err := c.print(verb, report, *asJSON); err != nil {
		fmt.Fprintln(c.err, err)
		return exitError
	}
	if !report.OK() {
		return exitDamaged
	}
	return exitOK
}

func (c *command) misuse(err error) int {
	fmt.Fprintf(c.err, "spool: %v\n\n%s", err, usage)
	return exitUsage
}

// check does the work of a command.
func (c *command) check(ctx context.Context, verb, dir, to string) (spool.Report, error) {
	progress, done := c.progress(verb)
	defer done()
	if verb != "repair" {
		return spool.Verify(ctx, dir, spool.WithProgress(progress))
	}
	if to == "" {
		to = dir
	}
	return spool.Repair(ctx, dir, to, spool.WithProgress(progress))
}

// progress shows a bar on a terminal, and nothing elsewhere.
func (c *command) progress(verb string) (show func(done, total int64), end func()) {
	if !c.bar {
		return func(int64, int64) {}, func() {}
	}
	bar := progressbar.NewOptions64(1, progressbar.OptionSetWriter(c.err), progressbar.OptionSetDescription(verb),
		progressbar.OptionSetWidth(30), progressbar.OptionShowBytes(true), progressbar.OptionClearOnFinish(),
		progressbar.OptionThrottle(100*time.Millisecond))
	_ = bar.RenderBlank() // a bar that cannot be drawn is no reason to stop
	return func(done, total int64) {
			bar.ChangeMax64(max(total, 1))
			_ = bar.Set64(done)
		}, func() {
			_ = bar.Clear()
		}
}

// print writes a report.
func (c *command) print(verb string, r spool.Report, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(c.out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	p := &printer{w: c.out}
	p.f("%s: %d frames with %d records in %d segments, %d bytes read\n", r.Dir, r.Frames, r.Records, r.Segments, r.Bytes)
	if r.Index != "" {
		p.f("index: %s\n", r.Index)
	}
	if verb != "verify" {
		p.f("%-40s %12s %12s %12s %12s\n", "queue", "active", "inactive", "delayed", "rewindable")
		for _, q := range r.Queues {
			p.f("%-40s %12d %12d %12d %12d\n", q.Name, q.Active, q.Inactive, q.Delayed, q.Rewindable)
		}
	}
	for _, d := range r.Damages {
		p.f("damaged: %s at offset %d, %d bytes: %s\n", d.File, d.Offset, d.Length, d.Reason)
	}
	if more := r.DamageCount - int64(len(r.Damages)); more > 0 {
		p.f("damaged: %d more places\n", more)
	}
	for _, l := range r.Lost {
		p.f("lost: message %s of queue %s (%s at offset %d)\n", l.ID, l.Queue, l.File, l.Offset)
	}
	if more := r.LostCount - int64(len(r.Lost)); more > 0 {
		p.f("lost: %d more messages\n", more)
	}
	for _, n := range r.Notes {
		p.f("note: %s\n", n)
	}
	switch {
	case r.Kept != "":
		p.f("repaired; the original is in %s\n", r.Kept)
	case verb == "repair":
		p.f("repaired\n")
	case r.OK():
		p.f("nothing is damaged\n")
	}
	return p.err
}

// A printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// terminal tells whether a file is one.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
