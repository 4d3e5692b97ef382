package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spoolmq/spool/bench/limit"
	"github.com/spoolmq/spool/bench/peers/systems"
	"github.com/spoolmq/spool/bench/workload"
)

// options say how much is measured.
type options struct {
	Rounds, CurveRounds int
	Scale               float64
	Full                bool
}

func (o options) count(n int) int { return max(100, int(float64(n)*o.Scale)) }

func (o options) duration(d time.Duration) time.Duration { return time.Duration(float64(d) * o.Scale) }

// A cell is one run: a work on a system.
type cell struct {
	System, Work string
	Options      options
}

// An outcome is what a run has shown, or why it has shown nothing.
type outcome struct {
	Figures figures `json:",omitempty"`
	Cannot  string  `json:",omitempty"` // the system has no means for it
	Failed  string  `json:",omitempty"`
}

const (
	cellTime  = 90 * time.Second        // the longest that one run may take
	afterKill = 5 * time.Second         // for the end of what a run that was killed has said
	peerTime  = 1200 * time.Millisecond // the Bound of other systems
)

// bound is the Bound of a system. Spool and the limit do all of a load, others what they can in a time: some would take
// minutes.
func (o options) bound(name string) time.Duration {
	if name == "limit" || name == "spool" {
		return 0
	}
	return o.duration(peerTime)
}

// answer measures one cell in this process and prints the outcome.
func answer(text string) error {
	var c cell
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "peers")
	if err != nil {
		return err
	}
	f, err := c.measure(dir)
	out := outcome{Figures: f}
	switch {
	case errors.Is(err, workload.ErrCannot):
		out = outcome{Cannot: err.Error()}
	case err != nil:
		out = outcome{Failed: err.Error()}
	}
	return errors.Join(os.RemoveAll(dir), json.NewEncoder(os.Stdout).Encode(out))
}

func (c cell) measure(dir string) (figures, error) {
	all := works(c.Options)
	i := slices.IndexFunc(all, func(w work) bool { return w.Name == c.Work })
	if i < 0 {
		return nil, fmt.Errorf("there is no load %q", c.Work)
	}
	sys, err := system(c.System, all[i])
	if err != nil {
		return nil, err
	}
	if err := workload.SyncDir(dir); err != nil {
		return nil, err
	}
	sys.Bound = c.Options.bound(c.System)
	return all[i].run(context.Background(), sys, dir)
}

// system is what a work is done with.
func system(name string, w work) (workload.System, error) {
	kind, err := systems.Named(name)
	if err != nil {
		return workload.System{}, err
	}
	if w.ID == "W8" && name == "limit" {
		return limit.Timers(), nil
	}
	sys, ok := kind.At(w.Level)
	if !ok {
		return workload.System{}, fmt.Errorf("%w: it is not in memory", workload.ErrCannot)
	}
	return sys, nil
}

// A choice is what is measured of all that could be.
type choice struct{ systems, curves, works regexp.Regexp }

// measure runs everything: in each round each work, in each work each system. After each work it has the report kept.
func measure(o options, c *choice, keep func(*report) error) (*report, error) {
	names, missing := available(o, &c.systems)
	r := &report{Options: o, Date: time.Now().UTC().Format(time.DateOnly), Machine: machine(), Versions: versions(names),
		Systems: names, Missing: missing, Outcomes: map[string]map[string][]outcome{}}
	for round := range max(o.Rounds, o.CurveRounds) {
		for _, w := range works(o) {
			rounds := o.Rounds
			if w.Curve != "" {
				rounds = o.CurveRounds
			}
			if round >= rounds || !c.works.MatchString(w.Name) && !c.works.MatchString(w.ID) {
				continue
			}
			for _, name := range names {
				if _, err := system(name, w); err != nil || w.Curve != "" && !c.curves.MatchString(name) {
					continue // it does not have the level, or its curves are not wanted
				}
				out := child(cell{System: name, Work: w.Name, Options: o})
				log.Printf("round %d of %d  %-45s %-15s %s", round+1, rounds, w.Name, name, out.tell(w))
				r.add(w, name, out)
			}
			r.Options.Rounds, r.Options.CurveRounds = min(o.Rounds, round+1), min(o.CurveRounds, round+1)
			if err := keep(r); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

func (o outcome) tell(w work) string {
	switch {
	case o.Failed != "":
		return "FAILED: " + o.Failed
	case o.Cannot != "":
		return "- " + o.Cannot
	}
	return number(o.Figures[w.Units[0]]) + " " + w.Units[0]
}

// child measures a cell in a process of its own.
func child(c cell) outcome {
	text, err := json.Marshal(c)
	if err != nil {
		return outcome{Failed: err.Error()}
	}
	ctx, cancel := context.WithTimeout(context.Background(), cellTime)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return outcome{Failed: err.Error()}
	}
	dir, err := os.MkdirTemp("", "peers")
	if err != nil {
		return outcome{Failed: err.Error()}
	}
	defer os.RemoveAll(dir) // what a run leaves that is killed
	cmd := exec.CommandContext(ctx, self, "-cell", string(text))
	cmd.Env, cmd.WaitDelay = append(os.Environ(), "TMPDIR="+dir), afterKill
	var said bytes.Buffer
	cmd.Stderr = &said
	printed, err := cmd.Output()
	if err != nil {
		return outcome{Failed: fmt.Sprintf("%v: %s", errors.Join(err, ctx.Err()), lastLines(said.String()))}
	}
	var out outcome
	if err := json.Unmarshal(printed, &out); err != nil {
		return outcome{Failed: fmt.Sprintf("%v: %s", err, printed)}
	}
	return out
}

// lastLines keeps the end of what a program said, where a panic does not hide it.
func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "panic:") || strings.HasPrefix(l, "fatal error:") }); i >= 0 {
		return lines[i]
	}
	return strings.Join(lines[max(0, len(lines)-3):], " ")
}

// available are the systems that can be measured here, and why the others are not. Without the limit there are no ratios, so
// it is always among them. Of the two drivers for SQLite the faster one is taken.
func available(o options, want *regexp.Regexp) (names []string, missing map[string]string) {
	missing = map[string]string{}
	for _, k := range systems.Kinds() {
		if err := k.Missing(); err != nil {
			missing[k.Name] = err.Error()
		} else if k.Name == "limit" || want.MatchString(k.Name) {
			names = append(names, k.Name)
		}
	}
	drivers := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.HasPrefix(name, "sqlite-") })
	if len(drivers) < 2 {
		return names, missing
	}
	slower := slices.MinFunc(drivers, func(a, b string) int { return cmp.Compare(trial(o, a), trial(o, b)) })
	missing[slower] = "the other driver is faster"
	return slices.DeleteFunc(names, func(name string) bool { return name == slower }), missing
}

// trial is how many messages a second go through a system in a short run.
func trial(o options, name string) float64 {
	out := child(cell{System: name, Work: "through/8-and-8/written", Options: options{Scale: min(o.Scale, 0.3)}})
	rate := out.Figures["msg/s"]
	log.Printf("trial: %s %s msg/s %s", name, number(rate), out.Failed)
	return rate
}
