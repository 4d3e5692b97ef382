package history

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const mostLines = 60 // of one message

// text is a call with its arguments and what it returned.
func (l *Log) text(o *Op) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v", o.Verb)
	if o.Queue != None {
		fmt.Fprintf(&b, " %s", l.queues[o.Queue].name)
	}
	switch o.Verb {
	case Send:
		for i, m := range o.Sent {
			if i == 3 {
				fmt.Fprintf(&b, " … %d in all", len(o.Sent))
				break
			}
			fmt.Fprintf(&b, " %q", m.Body)
			if m.Delay != 0 {
				fmt.Fprintf(&b, " delay %v", time.Duration(m.Delay))
			}
		}
	case Receive:
		fmt.Fprintf(&b, " max %d wait %v visibility %v", o.Max, time.Duration(o.Wait), time.Duration(o.Visibility))
	case Delete:
		fmt.Fprintf(&b, " %s", o.Receipt)
	case Visibility, Release:
		fmt.Fprintf(&b, " %s by %v", o.Receipt, time.Duration(o.For))
	case Rewind:
		fmt.Fprintf(&b, " to %s: %d", instant(o.To), o.N)
	case Create, SetMeta, Found:
		fmt.Fprintf(&b, " %+v", *o.Settings)
	case Look:
		fmt.Fprintf(&b, ": %+v", o.Counts)
	case Crash:
		if o.Power {
			b.WriteString(" of the machine")
		} else {
			b.WriteString(" of the process")
		}
	}
	if o.Error != "" {
		fmt.Fprintf(&b, ": %s", o.Error)
	}
	return b.String()
}

// line is a call as a line of a report.
func (l *Log) line(o *Op) string {
	end := "…"
	switch o.outcome {
	case OK:
		end = instant(o.end)
	case Refused, Barred:
		end = instant(o.end) + " refused"
	case Unknown:
		end = instant(o.end) + " unknown"
	}
	solo := ""
	if o.solo {
		solo = " (alone)"
	}
	return fmt.Sprintf("  %s … %s  #%d %v%s\n", instant(o.begin), end, o.Actor, l.text(o), solo)
}

// excerpt is the history of one message up to a call, and the states that it may have been in then.
func (l *Log) excerpt(t *track, failed *Op, configs []config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "history of %q in %s, ID %s:\n", t.body, t.source, t.id)
	concerns := func(o *Op) bool {
		if slices.ContainsFunc(t.own, func(e event) bool { return e.op == o }) {
			return true
		}
		if o.Verb == Crash {
			return true
		}
		if o.Queue != t.queue && o.Queue != t.target {
			return false
		}
		switch o.Verb {
		case Rewind, Purge, SetMeta, Drop, Missing, Create:
			return !o.without()
		}
		return o.Verb == Receive && o.outcome == Unknown
	}
	var lines []string
	set := map[QueueID]*Op{} // what each queue was set to when the message was sent
	for _, o := range l.ops {
		if o.call < t.send.call && (o.Verb == Create || o.Verb == SetMeta) && concerns(o) {
			set[o.Queue] = o
		}
	}
	for _, o := range l.ops {
		if o.call < t.send.call && set[o.Queue] != o || !concerns(o) && o != failed {
			continue
		}
		line := l.line(o)
		for i := range o.Got {
			if d := &o.Got[i]; d.Body == t.body {
				line += fmt.Sprintf("      %s enqueued %s first %s visible %s receives %d rewinds %d receipt %s", d.ID,
					instant(d.Enqueued), instant(d.FirstReceived), instant(d.Visible), d.Receives, d.Rewinds, d.Receipt)
				if d.Origin != nil {
					line += fmt.Sprintf(" from %+v", *d.Origin)
				}
				line += "\n"
			}
		}
		if o == failed {
			line = "->" + line[2:]
		}
		lines = append(lines, line)
		if o == failed {
			break
		}
	}
	if n := len(lines) - mostLines; n > 0 {
		lines = append([]string{fmt.Sprintf("  … %d calls\n", n)}, lines[n:]...)
	}
	for _, line := range lines {
		b.WriteString(line)
	}
	for i, cfg := range configs {
		if i == 8 {
			fmt.Fprintf(&b, "  … %d states in all\n", len(configs))
			break
		}
		fmt.Fprintf(&b, "  it was %v\n", &cfg.s)
	}
	return b.String()
}

func instant(ns int64) string {
	switch ns {
	case 0:
		return "-"
	case never:
		return "?"
	}
	return time.Unix(0, ns).UTC().Format("02T15:04:05.000000000")
}

func spanText(s span) string {
	if s.lo == s.hi {
		return instant(s.lo)
	}
	return instant(s.lo) + ".." + instant(s.hi)
}
