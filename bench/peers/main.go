// Peers measures spool beside what a program could use instead: the same loads on each, as durable as the row says. In each
// round the systems run in turn, each in a process of its own, so that drift of the machine hits all alike. The
// medians go into a table and pictures:
//
//	make bench-peers
//
// The figures of all rounds are kept in peers.json beside the table; -draw makes table and pictures of it again.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
)

func main() {
	log.SetFlags(log.Ltime)
	o := options{}
	flag.IntVar(&o.Rounds, "rounds", 5, "rounds of the loads, of which the medians count")
	flag.IntVar(&o.CurveRounds, "curve-rounds", 3, "rounds of the curves")
	flag.Float64Var(&o.Scale, "scale", 1, "multiply counts and times by this; below 1 the figures mean little")
	flag.BoolVar(&o.Full, "full", false, "also measure backlogs of ten million")
	systems := flag.String("systems", ".", "regular expression: the systems to measure")
	curved := flag.String("curve-systems", ".", "regular expression: of these, the systems that curves are measured of")
	works := flag.String("works", ".", "regular expression: the loads to measure, as they are printed")
	out := flag.String("out", ".", "directory of the results")
	draw := flag.Bool("draw", false, "measure nothing: make the table and the pictures of what is in peers.json")
	one := flag.String("cell", "", "used by peers itself: measure one system once and print the figures")
	flag.Parse()

	if *one != "" {
		if err := answer(*one); err != nil {
			log.Fatal(err)
		}
		return
	}
	if err := run(o, *systems, *curved, *works, *out, *draw); err != nil {
		log.Fatal(err)
	}
}

func run(o options, systems, curved, works, out string, draw bool) error {
	kept := filepath.Join(out, "peers.json")
	var r *report
	if draw {
		text, err := os.ReadFile(kept)
		if err != nil {
			return err
		}
		r = new(report)
		if err := json.Unmarshal(text, r); err != nil {
			return fmt.Errorf("%s: %w", kept, err)
		}
	} else {
		system, err := regexp.Compile(systems)
		if err != nil {
			return err
		}
		curve, err := regexp.Compile(curved)
		if err != nil {
			return err
		}
		work, err := regexp.Compile(works)
		if err != nil {
			return err
		}
		r = measure(o, system, curve, work)
		text, err := json.MarshalIndent(r, "", "\t")
		if err != nil {
			return err
		}
		if err := os.MkdirAll(out, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(kept, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(out, "peers.md"), r.markdown(), 0o644); err != nil {
		return err
	}
	return r.pictures(out)
}
