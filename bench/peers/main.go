// Peers measures spool beside what a program could use instead: the same loads on each, as durable as the row says. In each
// round the systems run in turn, each in a process of its own, so that drift of the machine hits all alike. The
// medians go into a table and pictures:
//
//	make bench-peers
//
// The figures of all rounds are kept in peers.json beside the table, as soon as they are there; -draw makes table and pictures
// of it again, also of a run that was stopped.
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
	var c choice
	all := regexp.MustCompile("")
	flag.TextVar(&c.systems, "systems", all, "regular expression: the systems to measure")
	flag.TextVar(&c.curves, "curve-systems", all, "regular expression: of these, the systems that curves are measured of")
	flag.TextVar(&c.works, "works", all, "regular expression: the loads to measure, as they are printed")
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
	if err := run(o, &c, *out, *draw); err != nil {
		log.Fatal(err)
	}
}

func run(o options, c *choice, out string, draw bool) error {
	kept := filepath.Join(out, "peers.json")
	r := new(report)
	if draw {
		text, err := os.ReadFile(kept)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, r); err != nil {
			return fmt.Errorf("%s: %w", kept, err)
		}
	} else {
		if err := os.MkdirAll(out, 0o755); err != nil {
			return err
		}
		var err error
		if r, err = measure(o, c, func(r *report) error { return r.keep(kept) }); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(out, "peers.md"), r.markdown(), 0o644); err != nil {
		return err
	}
	return r.pictures(out)
}
