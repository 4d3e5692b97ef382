package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pretended is a report of two rounds: in the second one everything was twice as slow, and beanstalkd lost a message.
func pretended() *report {
	r := &report{Options: options{Rounds: 2, CurveRounds: 2, Scale: 1}, Systems: []string{"limit", "spool", "beanstalkd"},
		Missing: map[string]string{"redis": "redis-server is not installed"}, Outcomes: map[string]map[string][]outcome{}}
	for _, w := range works(r.Options) {
		for round := range 2 {
			for i, system := range r.Systems {
				out := outcome{Figures: figures{}}
				for _, unit := range append(w.Units, "p50-µs", "flushes", "messages") {
					out.Figures[unit] = 1000 / float64(1+round) * float64(3-i)
				}
				if round == 1 && system == "beanstalkd" {
					out = outcome{Failed: "1 of 7 messages are missing"}
				}
				r.add(w, system, out)
			}
		}
	}
	return r
}

func TestMarkdown(t *testing.T) {
	text := string(pretended().markdown())
	for _, want := range []string{
		"| W1 send/1-producer/fsync (msg/s) | 1500 | 1000 (0.67 ×) | 1000 (0.33 ×) |",
		"| W6 wake/idle/memory (p99-µs, less is better) |",
		"- redis is missing: redis-server is not installed",
		"- send/1-producer/fsync, beanstalkd, round 2: 1 of 7 messages are missing",
		"limit 1.0, spool 1.0",
		"-f 0 -z 16777216",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "a trial") {
		t.Error("it says that it is a trial")
	}
}

// drained is a report of a drain: spool did all of it, beanstalkd less, and the second round was stopped before it.
func drained(t *testing.T) *report {
	r := pretended()
	const name = "drain/1-consumer/fsync"
	for system, n := range map[string]float64{"limit": 100_000, "spool": 100_256, "beanstalkd": 12_340} {
		out := outcome{Figures: figures{"msg/s": 1000, "drained": n}}
		if r.Outcomes[name][system] == nil {
			t.Fatalf("there is no load %s", name)
		}
		r.Outcomes[name][system] = []outcome{out}
	}
	return r
}

// Figures that were taken on fewer messages than asked for are marked, and it says on how many. So is a run that was stopped.
func TestFewer(t *testing.T) {
	text := string(drained(t).markdown())
	for _, want := range []string{
		"| W4 drain/1-consumer/fsync (msg/s) | 1000 | 1000 (1 ×) | 1000 (1 ×) \\* |",
		"other systems get 1.2s to store",
		"- drain/1-consumer/fsync: beanstalkd 12.3 k of 100.0 k drained\n",
		"Medians of 1 to 2 rounds (curves: 2)",
		"time: beanstalkd.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	if text := string(pretended().markdown()); strings.Contains(text, "\\*") || !strings.Contains(text, "Medians of 2 rounds (curves: 2)") {
		t.Errorf("figures of two full rounds are marked:\n%s", text)
	}
}

// A point of a curve is where the system was, and no further than was asked for.
func TestAt(t *testing.T) {
	r := pretended()
	for backlog, want := range map[float64]float64{700: 700, 1200: 1000} {
		for _, w := range r.measured() {
			if w.Name == "backlog/1000/written" {
				r.Outcomes[w.Name]["spool"] = []outcome{{Figures: figures{"msg/s": 1, "backlog": backlog}}}
				if got := r.at(w, "spool"); got != want {
					t.Errorf("%v messages are at %v, want %v", backlog, got, want)
				}
			}
		}
	}
}

// Only other systems are bounded, and in proportion to all else.
func TestBound(t *testing.T) {
	for name, want := range map[string]time.Duration{"limit": 0, "spool": 0, "redis": peerTime / 2} {
		if got := (options{Scale: 0.5}).bound(name); got != want {
			t.Errorf("%s has a bound of %v, want %v", name, got, want)
		}
	}
}

func TestPictures(t *testing.T) {
	dir := t.TempDir()
	if err := pretended().pictures(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rate", "wake", "storage", "backlog-rate", "backlog-latency", "size-rate", "workers-rate", "queues-rate"} {
		text, err := os.ReadFile(filepath.Join(dir, name+".svg"))
		if err != nil || !strings.Contains(string(text), "beanstalkd") {
			t.Errorf("%s.svg: %d bytes, %v; want a picture with a legend", name, len(text), err)
		}
	}
	if err := new(report).pictures(t.TempDir()); err != nil {
		t.Errorf("of nothing: %v", err)
	}
}

func TestNumber(t *testing.T) {
	for f, want := range map[float64]string{1_234_567: "1.23 M", 23_456: "23.5 k", 1234: "1234", 12.34: "12.3", 0.01234: "0.012", 0: "0", -500: "-500"} {
		if got := number(f); got != want {
			t.Errorf("number(%v) = %q, want %q", f, got, want)
		}
	}
}

// The names of the loads are what a child process is asked for: they differ.
func TestWorks(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range works(options{Scale: 1, Full: true}) {
		if seen[w.Name] {
			t.Errorf("two loads are called %q", w.Name)
		}
		seen[w.Name] = true
		if len(w.Units) == 0 || w.run == nil {
			t.Errorf("%s has no unit or no load", w.Name)
		}
	}
}

// One cell, as a child process measures it.
func TestMeasure(t *testing.T) {
	for _, work := range []string{"send/1-producer/fsync", "wake/busy/written", "backlog/1M/written", "lateness/100k/written", "queues/10/fsync"} {
		f, err := cell{System: "spool", Work: work, Options: options{Scale: 0.001}}.measure(t.TempDir())
		if err != nil || len(f) == 0 {
			t.Errorf("%s = %v, %v", work, f, err)
		}
	}
}
