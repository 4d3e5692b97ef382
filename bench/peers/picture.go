package main

import (
	"image/color"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// styles are the colours (Okabe and Ito's, which everybody can tell apart) and shapes of the systems, in the order of the
// report. Spool is the second one.
var (
	colours = []color.Color{
		color.Gray{0x80}, color.RGBA{0xD5, 0x5E, 0x00, 0xFF}, color.RGBA{0x00, 0x72, 0xB2, 0xFF}, color.RGBA{0x00, 0x9E, 0x73, 0xFF},
		color.RGBA{0x56, 0xB4, 0xE9, 0xFF}, color.RGBA{0xCC, 0x79, 0xA7, 0xFF}, color.RGBA{0xE6, 0x9F, 0x00, 0xFF},
		color.RGBA{0x99, 0x22, 0x22, 0xFF}, color.Black,
	}
	shapes = []draw.GlyphDrawer{
		draw.PlusGlyph{}, draw.CircleGlyph{}, draw.SquareGlyph{}, draw.PyramidGlyph{}, draw.TriangleGlyph{}, draw.BoxGlyph{},
		draw.RingGlyph{}, draw.CrossGlyph{}, draw.BoxGlyph{},
	}
)

func glyph(i int, system string) draw.GlyphStyle {
	g := draw.GlyphStyle{Color: colours[i%len(colours)], Shape: shapes[i%len(shapes)], Radius: vg.Points(4)}
	if system == "spool" {
		g.Radius = vg.Points(6)
	}
	return g
}

const (
	width   = 26 * vg.Centimeter
	beside  = 0.28                // part of the horizontal axis that the legend takes, at its right end
	legends = 4.6 * vg.Centimeter // its width
)

// empty returns a plot with logarithmic horizontal scale and room for a legend on its right.
func empty(title string) *plot.Plot {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.Title.Text = title
	p.Title.TextStyle.Font.Size, p.Title.Padding = vg.Points(14), vg.Points(8)
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Legend.Top, p.Legend.Left, p.Legend.Padding = true, true, vg.Points(3)
	p.Add(plotter.NewGrid())
	return p
}

// save writes the picture. labels is what the axis on the left takes; from low to high is what the marks take of the one below.
func save(p *plot.Plot, file string, low, high float64, labels, height vg.Length) error {
	p.X.Min, p.X.Max = low, low*math.Pow(high/low, 1/(1-beside))
	p.Legend.XOffs = width - labels - legends
	return p.Save(width, height, file)
}

// pictures draws what was measured: the ratios to the limit, for rates and for latencies, and each curve.
func (r *report) pictures(dir string) error {
	for _, p := range []struct {
		file, title string
		pick        func(work) bool
	}{
		{"rate.svg", "Messages a second, as a part of the limit (right is better)", func(w work) bool { return w.Curve == "" && !w.Less }},
		{"wake.svg", "Wake-up of a blocked receive, as a multiple of the limit (left is better)", func(w work) bool { return w.ID == "W6" }},
		{"storage.svg", "Memory, opening, disk, as a multiple of the limit (left is better)", func(w work) bool { return w.ID == "W7" || w.ID == "W9" }},
	} {
		all := slices.DeleteFunc(r.measured(), func(w work) bool { return !p.pick(w) })
		if err := r.ratios(filepath.Join(dir, p.file), p.title, all); err != nil {
			return err
		}
	}
	for _, c := range []struct{ curve, title, x string }{
		{"backlog", "One producer and one consumer beside a backlog, written", "messages in the backlog"},
		{"size", "Sends of 8 producers by size, durable", "bytes a message"},
		{"workers", "Producers and as many consumers, durable", "producers, consumers"},
		{"queues", "Sends of 64 producers to many queues, durable", "queues"},
	} {
		all := slices.DeleteFunc(r.measured(), func(w work) bool { return w.Curve != c.curve })
		for _, unit := range []struct{ name, file string }{{"msg/s", "rate"}, {"p50-µs", "latency"}} {
			if err := r.curve(filepath.Join(dir, c.curve+"-"+unit.file+".svg"), c.title, c.x, unit.name, all); err != nil {
				return err
			}
		}
	}
	return nil
}

// A figure of a work that a line is drawn for.
type figure struct {
	work work
	unit string
}

// lines are the figures that are drawn of works, from the bottom up: the first one, and of what is stored each.
func lines(all []work) (drawn []figure) {
	for _, w := range slices.Backward(all) {
		units := w.Units[:1]
		if w.ID == "W7" || w.ID == "W9" {
			units = w.Units
		}
		for _, unit := range slices.Backward(units) {
			drawn = append(drawn, figure{w, unit})
		}
	}
	return drawn
}

// ratios draws a line for each figure and a mark for each system on it, on a logarithmic scale with the limit at 1.
func (r *report) ratios(file, title string, works []work) error {
	all := lines(works)
	if len(all) == 0 {
		return nil
	}
	p := empty(title)
	var names []string
	for _, f := range all {
		name := strings.ReplaceAll(f.work.Name, "/", ", ")
		if len(all) > len(works) {
			name += ", " + f.unit
		}
		names = append(names, name)
	}
	low, high := 0.9, 1.1
	for i, system := range r.Systems {
		var marks plotter.XYs
		for j, f := range all {
			if ratio, ok := r.ratio(f.work, system, f.unit); ok && ratio > 0 {
				marks = append(marks, plotter.XY{X: ratio, Y: float64(j)})
				low, high = min(low, ratio), max(high, ratio)
			}
		}
		if len(marks) == 0 {
			continue
		}
		s, err := plotter.NewScatter(marks)
		if err != nil {
			return err
		}
		s.GlyphStyle = glyph(i, system)
		p.Add(s)
		p.Legend.Add(system, s)
	}
	p.NominalY(names...)
	p.Y.Min, p.Y.Max = -0.5, float64(len(all))-0.5
	return save(p, file, low/1.3, high*1.3, 7*vg.Centimeter, vg.Length(4+len(all))*vg.Centimeter)
}

// at is where on its curve a system's work was: not at a backlog that it did not have.
func (r *report) at(w work, system string) float64 {
	n, ok := r.median(w, system, "backlog")
	if asked := w.Asked["backlog"]; ok && n < asked {
		return n
	}
	return float64(w.X)
}

// curve draws a line for each system, on logarithmic scales.
func (r *report) curve(file, title, x, unit string, all []work) error {
	p := empty(title)
	p.X.Label.Text, p.Y.Label.Text = x, unit
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	low, high := math.Inf(1), 0.0
	for i, system := range r.Systems {
		var points plotter.XYs
		for _, w := range all {
			if f, ok := r.median(w, system, unit); ok && f > 0 {
				x := r.at(w, system)
				points = append(points, plotter.XY{X: x, Y: f})
				low, high = min(low, x), max(high, x)
			}
		}
		if len(points) == 0 {
			continue
		}
		line, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Color, marks.GlyphStyle = colours[i%len(colours)], glyph(i, system)
		if system == "spool" {
			line.Width = vg.Points(2)
		}
		p.Add(line, marks)
		p.Legend.Add(system, line, marks)
	}
	if high == 0 {
		return nil
	}
	return save(p, file, low, max(high, 10*low), 2*vg.Centimeter, 14*vg.Centimeter)
}
