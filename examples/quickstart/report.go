package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/spoolmq/spool"
)

// A progress shows how the work goes: as a bar on a terminal, as a line a second elsewhere.
// It is for one goroutine.
type progress struct {
	out   io.Writer
	lines int
	bar   *progressbar.ProgressBar // nil when out is no terminal
	last  time.Time                // of the last plain line
}

func newProgress(out io.Writer, lines int) *progress {
	p := &progress{out: out, lines: lines, last: time.Now()}
	if f, ok := out.(*os.File); ok && lines > 0 {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			p.bar = progressbar.NewOptions(2*lines, progressbar.OptionSetWriter(out),
				progressbar.OptionSetWidth(30), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
		}
	}
	return p
}

// update shows the state of the queue. What is to be done is a deletion for each line, and for each message rewound one
// more; how many those are is known once it has happened.
func (p *progress) update(a spool.Attributes, j *journal) {
	doing := "handling"
	if j.rewound {
		doing = "handling again"
	}
	if p.bar != nil {
		if j.rewound {
			p.bar.ChangeMax64(int64(p.lines) + j.expected)
		}
		p.bar.Describe(fmt.Sprintf("%-14s", doing))
		_ = p.bar.Set64(a.Deleted) // cannot be drawn: not worth stopping for
		return
	}
	if time.Since(p.last) < time.Second {
		return
	}
	p.last = time.Now()
	fmt.Fprintf(p.out, "%s: sent %d of %d, deleted %d; active %d, inactive %d, delayed %d\n",
		doing, a.Sent, p.lines, a.Deleted, a.Active, a.Inactive, a.Delayed)
}

// note prints a line of its own.
func (p *progress) note(format string, args ...any) {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintf(p.out, format+"\n", args...)
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}

// report prints the table that ends a run.
func report(ctx context.Context, out io.Writer, w *work, found verdict) error {
	a, err := w.q.Attributes(ctx)
	if err != nil {
		return err
	}
	rewound := w.journal.expected
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t)
	fmt.Fprintf(t, "sent\t%d\tlines of %s\n", a.Sent, w.text.name)
	fmt.Fprintf(t, "received\t%d\tdeliveries\n", a.Received)
	fmt.Fprintf(t, "redelivered\t%d\tof them after a retry or the end of a lease\n", a.Received-a.Sent-rewound)
	fmt.Fprintf(t, "rewound\t%d\tmessages brought back\n", rewound)
	fmt.Fprintf(t, "lost\t%d\tlines without a result\n", found.lost)
	fmt.Fprintf(t, "wrong\t%d\tresults that are not what the line gives\n", found.wrong)
	slices.Sort(w.waits)
	fmt.Fprintf(t, "p50\t%v\tfrom send to first receive, in this run\n", percentile(w.waits, 50))
	fmt.Fprintf(t, "p99\t%v\n", percentile(w.waits, 99))
	fmt.Fprintf(t, "\nqueue\t%s\n", w.q.Name())
	fmt.Fprintf(t, "active\t%d\n", a.Active)
	fmt.Fprintf(t, "inactive\t%d\n", a.Inactive)
	fmt.Fprintf(t, "delayed\t%d\n", a.Delayed)
	fmt.Fprintf(t, "rewindable\t%d\n", a.Rewindable)
	fmt.Fprintf(t, "deleted\t%d\tdeletions since the queue was created\n", a.Deleted)
	fmt.Fprintf(t, "visibility\t%v\n", a.VisibilityTimeout)
	fmt.Fprintf(t, "retention\t%v\n", a.Retention)
	fmt.Fprintf(t, "rewind\t%v\n", a.Rewind)
	fmt.Fprintf(t, "max message\t%d\tbytes\n", a.MaxMessageSize)
	fmt.Fprintf(t, "max messages\t%d\n", a.MaxMessages)
	fmt.Fprintf(t, "created\t%s\n", a.CreatedAt.Format(time.RFC3339))
	fmt.Fprintf(t, "\nlost %d, wrong %d\n", found.lost, found.wrong)
	return t.Flush()
}

// percentile is the value that p percent of the sorted durations do not exceed; "-" if there are none.
func percentile(sorted []time.Duration, p int) any {
	if len(sorted) == 0 {
		return "-"
	}
	return sorted[(len(sorted)*p+99)/100-1].Round(time.Microsecond)
}
