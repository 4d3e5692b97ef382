package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/spoolmq/spool/bench/peers/systems"
	"github.com/spoolmq/spool/bench/workload"
)

// A report is everything that was measured.
type report struct {
	Options  options
	Date     string
	Machine  string
	Versions map[string]string // by system
	Systems  []string          // in the order of the columns, the limit first
	Missing  map[string]string // why a system is not among them
	Outcomes map[string]map[string][]outcome
}

// machine names the machine as far as the figures depend on it.
func machine() string {
	cpu := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel := ""
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = ", kernel " + strings.TrimSpace(string(text))
	}
	return fmt.Sprintf("%d cores (%s), %s%s, %s", runtime.NumCPU(), cpu, runtime.GOOS, kernel, runtime.Version())
}

// modules are where the systems that are libraries come from.
var modules = map[string]string{
	"jetstream": "github.com/nats-io/nats-server/v2", "badger": "github.com/dgraph-io/badger/v4",
	"badger-packed": "github.com/dgraph-io/badger/v4", "dque": "github.com/joncrlsn/dque",
	"sqlite-mattn": "github.com/mattn/go-sqlite3", "sqlite-modernc": "modernc.org/sqlite",
}

func versions(names []string) map[string]string {
	found := map[string]string{}
	info, _ := debug.ReadBuildInfo()
	for _, name := range names {
		if kind, err := systems.Named(name); err == nil && kind.Server != "" {
			if text, err := exec.Command(kind.Server, "-v").Output(); err == nil {
				found[name] = strings.TrimSpace(string(text))
			}
			continue
		}
		for _, m := range info.Deps {
			if m.Path == modules[name] {
				found[name] = m.Version
			}
		}
	}
	return found
}

func (r *report) add(w work, system string, out outcome) {
	if r.Outcomes[w.Name] == nil {
		r.Outcomes[w.Name] = map[string][]outcome{}
	}
	r.Outcomes[w.Name][system] = append(r.Outcomes[w.Name][system], out)
}

// keep writes the figures to a file. Whoever stops the program finds there those that were kept last.
func (r *report) keep(file string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// median is the middle of a figure over the rounds; false if no round has one.
func (r *report) median(w work, system, unit string) (float64, bool) {
	var all []float64
	for _, out := range r.Outcomes[w.Name][system] {
		if f, ok := out.Figures[unit]; ok {
			all = append(all, f)
		}
	}
	return workload.Median(all), len(all) > 0
}

// ratio is the median of the ratios to the limit in the same round.
func (r *report) ratio(w work, system, unit string) (float64, bool) {
	var all []float64
	bounds := r.Outcomes[w.Name]["limit"]
	for i, out := range r.Outcomes[w.Name][system] {
		if i >= len(bounds) {
			break
		}
		f, ok := out.Figures[unit]
		if bound := bounds[i].Figures[unit]; ok && bound > 0 {
			all = append(all, f/bound)
		}
	}
	return workload.Median(all), len(all) > 0
}

// measured are the works of the report that have outcomes.
func (r *report) measured() []work {
	return slices.DeleteFunc(works(r.Options), func(w work) bool { return r.Outcomes[w.Name] == nil })
}

// number writes a figure with three digits that count.
func number(f float64) string {
	switch a := math.Abs(f); {
	case a >= 1e6:
		return strconv.FormatFloat(f/1e6, 'f', 2, 64) + " M"
	case a >= 1e4:
		return strconv.FormatFloat(f/1e3, 'f', 1, 64) + " k"
	case a >= 100:
		return strconv.FormatFloat(f, 'f', 0, 64)
	case a >= 1:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'g', 2, 64)
}

// markdown writes the tables.
func (r *report) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# spool beside other systems\n\nWritten by `make bench-peers` on %s: %s.\n", r.Date, r.Machine)
	fmt.Fprintf(&b, "Medians of %s rounds", r.rounds(false))
	if n := r.rounds(true); n != "0" {
		fmt.Fprintf(&b, " (curves: %s)", n)
	}
	if r.Options.Scale != 1 {
		fmt.Fprintf(&b, " **at %g of the counts and times: a trial, not a measurement**", r.Options.Scale)
	}
	b.WriteString(`. The limit is a raw file with group commit, for what is in memory a Go channel, and for delays
Go's timers. Behind each figure stands its ratio to the limit, the median of the ratios within a round. What a load does
stands in ` + "`bench/workload`" + `; what was sent was received again and compared in every run.

`)
	r.table(&b, "load", r.measured(), "")
	for _, curve := range []string{"backlog", "size", "workers", "queues"} {
		r.table(&b, curve, r.measured(), curve)
	}
	r.fewer(&b)
	r.notes(&b)
	return b.Bytes()
}

// rounds says how many there were of the curves or of the table: of a run that was stopped, not of all loads the same number.
func (r *report) rounds(curves bool) string {
	var all []int
	for _, w := range r.measured() {
		if (w.Curve != "") == curves {
			all = append(all, len(r.Outcomes[w.Name]["limit"]))
		}
	}
	if len(all) == 0 {
		return "0"
	}
	least, most := slices.Min(all), slices.Max(all)
	return choose(least < most, fmt.Sprintf("%d to %d", least, most), strconv.Itoa(most))
}

// lacks says how many messages the figures of a work are about if they are fewer than was asked for.
func (r *report) lacks(w work, system string) string {
	for unit, asked := range w.Asked {
		if n, ok := r.median(w, system, unit); ok && n < asked {
			return fmt.Sprintf("%s %s of %s %s", system, number(n), number(asked), unit)
		}
	}
	return ""
}

// fewer is the footnote to the figures that are marked with an asterisk.
func (r *report) fewer(b *bytes.Buffer) {
	var notes []string
	for _, w := range r.measured() {
		var lacking []string
		for _, system := range r.Systems {
			if text := r.lacks(w, system); text != "" {
				lacking = append(lacking, text)
			}
		}
		if lacking != nil {
			notes = append(notes, fmt.Sprintf("- %s: %s\n", w.Name, strings.Join(lacking, ", ")))
		}
	}
	if notes != nil {
		fmt.Fprintf(b, "\\* On fewer messages than spool and the limit: other systems get %v to store what is only to be there, twice\n"+
			"that if it is to be drained, and %[1]v of a drain are measured. All that they have stored is compared.\n\n%[2]s\n", r.Options.duration(peerTime), strings.Join(notes, ""))
	}
}

// table writes the works of a curve, or those that are on none.
func (r *report) table(b *bytes.Buffer, head string, all []work, curve string) {
	all = slices.DeleteFunc(slices.Clone(all), func(w work) bool { return w.Curve != curve })
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(b, "| %s | %s |\n|---|%s\n", head, strings.Join(r.Systems, " | "), strings.Repeat("---|", len(r.Systems)))
	for _, w := range all {
		for _, unit := range w.Units {
			better := ""
			if w.Less {
				better = ", less is better"
			}
			fmt.Fprintf(b, "| %s %s (%s%s) |", strings.TrimPrefix(w.ID, "curve"), w.Name, unit, better)
			for _, system := range r.Systems {
				fmt.Fprintf(b, " %s |", r.entry(w, system, unit))
			}
			b.WriteByte('\n')
		}
	}
	b.WriteByte('\n')
}

func (r *report) entry(w work, system, unit string) string {
	f, ok := r.median(w, system, unit)
	if !ok {
		for _, out := range r.Outcomes[w.Name][system] {
			if out.Failed != "" {
				return "failed"
			}
		}
		return "–"
	}
	text := number(f)
	if ratio, ok := r.ratio(w, system, unit); ok && system != "limit" {
		text += " (" + strconv.FormatFloat(ratio, 'g', 2, 64) + " ×)"
	}
	if r.lacks(w, system) != "" {
		text += " \\*"
	}
	return text
}

// notes write how the systems are set up, that they are as durable as they say, and what is not in the tables.
func (r *report) notes(b *bytes.Buffer) {
	b.WriteString("## How each is set up\n\n")
	for _, name := range r.Systems {
		kind, err := systems.Named(name)
		if err != nil {
			continue // measured by another version of this program
		}
		fmt.Fprintf(b, "- **%s** %s\n", name, r.Versions[name])
		for _, level := range []workload.Level{workload.Written, workload.Fsync} {
			if sys, ok := kind.At(level); ok {
				fmt.Fprintf(b, "  - %s: %s\n", level, sys.Config)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Missing)) {
		fmt.Fprintf(b, "- %s is missing: %s\n", name, r.Missing[name])
	}
	r.flushes(b)
	r.fresh(b)
	b.WriteString(`
Not in the tables: rewind (W10), which no other embedded system has, the timers alone (W11) and the cost of idling (W12); they
are in ` + "`go test -bench . ./bench`" + `. "–" means that a system has no means for a load: batches, delays, several queues.
`)
	var failures []string
	for _, w := range r.measured() {
		for _, system := range r.Systems {
			for i, out := range r.Outcomes[w.Name][system] {
				if out.Failed != "" {
					failures = append(failures, fmt.Sprintf("- %s, %s, round %d: %s\n", w.Name, system, i+1, strings.ReplaceAll(out.Failed, "\n", "; ")))
				}
			}
		}
	}
	if len(failures) > 0 {
		b.WriteString("\n## Failures\n\nA run in which a message was lost, doubled or changed, or that was less durable than it said, has no figure.\n\n")
		b.WriteString(strings.Join(failures, ""))
	}
}

// flushes show that what is called durable is: with one producer each answer needs a flush of the device of its own.
func (r *report) flushes(b *bytes.Buffer) {
	for _, w := range r.measured() {
		if w.Name != "send/1-producer/fsync" {
			continue
		}
		b.WriteString("\nDevice flushes for each acknowledged send of one producer (the device counts those of the warm-up too, and everybody's):")
		for i, system := range r.Systems {
			n, ok := r.median(w, system, "flushes")
			messages, _ := r.median(w, system, "messages")
			if !ok || messages == 0 {
				continue
			}
			fmt.Fprintf(b, "%s %s %.1f", choose(i == 0, "", ","), system, n/messages)
		}
		b.WriteString(".\n")
	}
}

// fresh names the systems whose W4 and W5 are not prepared as the others' are.
func (r *report) fresh(b *bytes.Buffer) {
	var names []string
	for _, name := range r.Systems {
		kind, err := systems.Named(name)
		if err != nil {
			continue
		}
		if sys, ok := kind.At(workload.Fsync); ok && sys.Fresh {
			names = append(names, name)
		}
	}
	if names != nil {
		fmt.Fprintf(b, "\nW4 and W5 begin on the space of 128 MB of messages that were deleted, which spool and the limit use again. Left out, as it only takes\n"+
			"time: %s. Before a durable drain they store its backlog, and after sends and drains they read back the rest, as they do\n"+
			"when nothing is synced.\n", strings.Join(names, ", "))
	}
}

func choose(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}
