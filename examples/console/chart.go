package console

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spoolmq/spool"
)

// A chart is what has happened to a queue lately, in the coordinates of an SVG.
type chart struct {
	Width, Height    int
	Active, Inactive string // points of a line
	Most             int64  // what the height stands for
	Since            time.Duration
	Enough           bool // two points at least
}

// draw makes lines of the points. The right end is the latest; the left is where the earliest will be when all points
// that are kept are there.
func draw(points []point, width, height int) chart {
	c := chart{Width: width, Height: height, Most: 1, Enough: len(points) > 1}
	if !c.Enough {
		return c
	}
	for _, p := range points {
		c.Most = max(c.Most, p.active, p.inactive)
	}
	var active, inactive strings.Builder
	for i, p := range points {
		x := float64(width) * float64(maxPoints-len(points)+i) / (maxPoints - 1)
		y := func(n int64) float64 { return 1 + float64(height-2)*(1-float64(n)/float64(c.Most)) }
		fmt.Fprintf(&active, "%.1f,%.1f ", x, y(p.active))
		fmt.Fprintf(&inactive, "%.1f,%.1f ", x, y(p.inactive))
	}
	c.Active, c.Inactive = active.String(), inactive.String()
	c.Since = points[len(points)-1].at.Sub(points[0].at).Round(time.Second)
	return c
}

// A timeline is what a rewind would bring back, by the time at which it was sent.
type timeline struct {
	Width, Height    int
	Earliest, Latest time.Time
	Proposed         time.Time // a whole second
	Total            int64
	Bars             []bar
}

type bar struct {
	From   time.Time // a rewind to here brings back this bar and all after it
	Count  int64     // sent in this bar
	After  int64     // in this bar and after it
	X, Y   int
	Height int
}

const (
	barCount = 60
	barWidth = 15
	barsHigh = 90
)

// newTimeline looks at the window of a rewind in equal parts. It is nil when rewinding is off.
func newTimeline(ctx context.Context, q *spool.Queue) (*timeline, error) {
	earliest, latest, err := q.RewindRange()
	if errors.Is(err, spool.ErrRewindDisabled) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t := &timeline{Width: barCount * barWidth, Height: barsHigh, Earliest: earliest, Latest: latest, Bars: make([]bar, barCount)}
	part := latest.Sub(earliest) / barCount
	leeway := part / 10 // the window moves on before the first bar is clicked
	for i := range t.Bars {
		b := &t.Bars[i]
		b.X = i * barWidth
		b.From = earliest.Add(max(time.Duration(i)*part, leeway))
		if b.After, b.From, err = preview(ctx, q, b.From); err != nil {
			return nil, err
		}
	}
	t.Total = t.Bars[0].After
	most := int64(1)
	for i := range t.Bars {
		b := &t.Bars[i]
		b.Count = b.After
		if i+1 < len(t.Bars) {
			b.Count = max(0, b.After-t.Bars[i+1].After) // messages may have been rewound between two previews
		}
		most = max(most, b.Count)
	}
	t.Proposed = t.propose(part)
	for i := range t.Bars {
		b := &t.Bars[i]
		if b.Count > 0 {
			b.Height = max(3, int(int64(barsHigh)*b.Count/most))
		}
		b.Y = barsHigh - b.Height
	}
	return t, nil
}

// propose returns where to begin: at the first bar that has messages, and not so early that the window has left the
// instant behind when it is chosen.
func (t *timeline) propose(part time.Duration) time.Time {
	to := t.Latest.Add(-time.Second)
	if i := slices.IndexFunc(t.Bars, func(b bar) bool { return b.Count > 0 }); i > 0 {
		to = t.Bars[i].From
	} else if i == 0 {
		to = t.Earliest.Add(part / 2)
	}
	return to.Truncate(time.Second)
}

// preview counts what a rewind would bring back, and says to when. The window of a queue that keeps messages for a moment
// only may have left an instant behind by then; it is moved to where the window begins.
func preview(ctx context.Context, q *spool.Queue, to time.Time) (int64, time.Time, error) {
	n, err := q.RewindPreview(ctx, to)
	if e := (*spool.RewindRangeError)(nil); errors.As(err, &e) && to.Before(e.Earliest) {
		to = e.Earliest.Add(e.Latest.Sub(e.Earliest) / 2)
		n, err = q.RewindPreview(ctx, to)
	}
	return n, to, err
}
