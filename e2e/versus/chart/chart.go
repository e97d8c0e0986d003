// SPDX-License-Identifier: Apache-2.0

// Package chart draws bars in groups as SVG. It knows neither what is measured nor where the drawing goes.
package chart

import (
	"fmt"
	"math"
	"strings"
)

// Bars are bars in groups. Their heights are on a logarithmic scale: what differs by a thousand has to be on one page.
type Bars struct {
	Title  string
	Across string // what the groups are
	Up     string // what the heights are
	Groups []string
	Series []Series
	// Format writes a height, at a bar and at the axis.
	Format func(float64) string
}

// Series is one bar in each group.
type Series struct {
	Name  string
	Color string
	Bars  []Bar
}

// Bar is a height, or why there is none.
type Bar struct {
	Height float64 // 0: there is none
	Why    string  // there is none. Empty: nobody wanted one
}

// The sizes of the drawing, in pixels.
const (
	barWidth  = 34
	barGap    = 4
	groupGap  = 36
	plotHigh  = 300
	left      = 84
	right     = 20
	top       = 76
	bottom    = 64
	leastWide = 520
	textSize  = 12
	tickShort = 4
)

// The colours of what is no bar.
const (
	ink  = "#24292f"
	pale = "#d8dee4"
	dim  = "#57606a"
)

// SVG is the drawing.
func (b Bars) SVG() string {
	d := drawing{bars: b, scale: b.scale()}
	wide := max(left+right+len(b.Groups)*d.groupWidth(), leastWide)
	high := top + plotHigh + bottom
	d.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="%d" role="img">`,
		wide, high, wide, high, textSize)
	d.add(`<title>%s</title>`, escape(b.Title))
	d.add(`<rect width="%d" height="%d" fill="#ffffff"/>`, wide, high)
	d.text(place{left, top - 52, "start"}, ink, `font-size="16" font-weight="bold"`, b.Title)
	d.legend()
	d.axis(wide - right)
	for g := range b.Groups {
		d.group(g)
	}
	d.text(place{(left + wide - right) / 2, high - 14, "middle"}, dim, "", b.Across)
	d.add(`</svg>`)
	return d.out.String()
}

// scale is the range of heights that the drawing has, in whole powers of ten.
type scale struct{ low, high float64 }

func (b Bars) scale() scale {
	low, high := math.Inf(1), math.Inf(-1)
	for _, s := range b.Series {
		for _, bar := range s.Bars {
			if bar.Height > 0 {
				low, high = min(low, math.Log10(bar.Height)), max(high, math.Log10(bar.Height))
			}
		}
	}
	if low > high {
		return scale{0, 1}
	}
	s := scale{math.Floor(low), math.Ceil(high)}
	if low-s.low < 0.1 { // a bar so short would not be seen
		s.low--
	}
	return scale{s.low, max(s.high, s.low+1)}
}

// y is where a height is on the page.
func (s scale) y(height float64) int {
	part := (math.Log10(height) - s.low) / (s.high - s.low)
	return top + plotHigh - int(math.Round(part*plotHigh))
}

type drawing struct {
	bars  Bars
	scale scale
	out   strings.Builder
}

func (d *drawing) add(format string, values ...any) {
	fmt.Fprintf(&d.out, format+"\n", values...)
}

// place is where a text is, and which part of it: start, middle or end.
type place struct {
	x, y   int
	anchor string
}

func (d *drawing) text(at place, color, more, text string) {
	if more != "" {
		more = " " + more
	}
	d.add(`<text x="%d" y="%d" text-anchor="%s" fill="%s"%s>%s</text>`, at.x, at.y, at.anchor, color, more, escape(text))
}

func (d *drawing) groupWidth() int { return len(d.bars.Series)*(barWidth+barGap) - barGap + groupGap }

// legend says which colour is whose.
func (d *drawing) legend() {
	const box, letter, between = 12, 7, 28
	x := left
	for _, s := range d.bars.Series {
		d.add(`<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`, x, top-38, box, box, s.Color)
		d.text(place{x + box + tickShort, top - 28, "start"}, ink, "", s.Name)
		x += box + len(s.Name)*letter + between
	}
}

// axis draws a line for each power of ten.
func (d *drawing) axis(end int) {
	for power := d.scale.low; power <= d.scale.high; power++ {
		height := math.Pow(10, power)
		y := d.scale.y(height)
		d.add(`<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s"/>`, left-tickShort, y, end, y, pale)
		d.text(place{left - 2*tickShort, y + tickShort, "end"}, dim, "", d.bars.Format(height))
	}
	middle := top + plotHigh/2
	d.text(place{16, middle, "middle"}, dim, fmt.Sprintf(`transform="rotate(-90 16 %d)"`, middle), d.bars.Up)
}

func (d *drawing) group(g int) {
	x := left + groupGap/2 + g*d.groupWidth()
	floor := top + plotHigh
	for i, s := range d.bars.Series {
		if g < len(s.Bars) {
			d.bar(x+i*(barWidth+barGap), s.Color, s.Bars[g])
		}
	}
	middle := x + (d.groupWidth()-groupGap)/2
	d.text(place{middle, floor + 20, "middle"}, ink, "", d.bars.Groups[g])
}

func (d *drawing) bar(x int, color string, b Bar) {
	floor, middle := top+plotHigh, x+barWidth/2
	if b.Height > 0 {
		y := d.scale.y(b.Height)
		d.add(`<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`, x, y, barWidth, floor-y, color)
		d.text(place{middle, y - tickShort, "middle"}, ink, `font-size="10"`, d.bars.Format(b.Height))
		return
	}
	if b.Why != "" {
		y := floor - 2*tickShort
		d.text(place{middle + tickShort, y, "start"}, color, fmt.Sprintf(`font-size="11" transform="rotate(-90 %d %d)"`, middle+tickShort, y), b.Why)
	}
}

func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(text)
}
