// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"

	"github.com/kube-ipvs/kube-ipvs/e2e/versus/chart"
)

// Plot is a drawing and the file that it belongs into.
type Plot struct {
	File  string
	Chart chart.Bars
}

// color is that of a program's bars. They differ in brightness too.
func color(program string) string {
	switch program {
	case Ours:
		return "#0969da"
	case Theirs:
		return "#e16f24"
	}
	return "#8c959f"
}

// Plots are all drawings of the report.
func (r Report) Plots() []Plot {
	series := func(program string, get func(Run) figure) chart.Series {
		return r.series(program, func(s size) figure { return row{get: get}.of(r.find(program, s)) })
	}
	start := func(run Run) figure { return median(run, Cold.took) }
	added := func(run Run) figure { return change(run, Added, func(c Change) []Seconds { return c.Took }) }
	memory := func(run Run) figure {
		if run.Steady == nil {
			return none("")
		}
		return number(float64(run.Steady.Resident) / (1 << 20))
	}
	return []Plot{
		{"cold-start.svg", r.bars("Cold start: from the process to the last row and an answer", "time", seconds,
			series(Ours, start), series(Theirs, start), r.series(Least, r.least))},
		{"one-change.svg", r.bars("One endpoint added: from the write to the API to the kernel (p50)", "time", seconds,
			series(Ours, added), series(Theirs, added))},
		{"memory.svg", r.bars("Resident memory", "MiB", mebibytes, series(Ours, memory), series(Theirs, memory))},
	}
}

func (r Report) bars(title, up string, format func(float64) string, series ...chart.Series) chart.Bars {
	b := chart.Bars{Title: title, Across: "Services x endpoints", Up: up + ", logarithmic", Format: format, Series: series}
	for _, s := range r.sizes() {
		b.Groups = append(b.Groups, fmt.Sprintf("%s x %s", thousands(s.services), thousands(s.endpoints)))
	}
	return b
}

func (r Report) series(name string, get func(size) figure) chart.Series {
	s := chart.Series{Name: name, Color: color(name)}
	for _, one := range r.sizes() {
		f := get(one)
		s.Bars = append(s.Bars, chart.Bar{Height: f.value, Why: f.why})
	}
	return s
}

// least is what the floor took at a size.
func (r Report) least(s size) figure {
	f := r.floor(s)
	if f == nil {
		return none("")
	}
	return number(Median(f.Sums()))
}
