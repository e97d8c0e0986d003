// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"slices"

	"github.com/go-analyze/charts"
)

// bar is a height, or why there is none. Both are empty if none was wanted.
type bar struct {
	height float64
	why    string
}

// series is one bar at each size.
type series struct {
	name, color string
	bars        []bar
}

// series are the bars of all programs in the chart of a figure, and of the floor.
func (r Report) series(f figure) []series {
	list := []series{{name: ours, color: "#0969da"}, {name: theirs, color: "#e16f24"}}
	for i := range list {
		list[i].bars = each(r.sizes(), func(s size) bar {
			text, values := f.cell(r.run(list[i].name, s))
			if len(values) == 0 {
				return bar{why: text}
			}
			return bar{height: values[0]}
		})
	}
	if !f.chart.floor {
		return list
	}
	return append(list, series{least, "#8c959f", each(r.sizes(), func(s size) bar {
		if floor := r.floor(s); floor != nil {
			return bar{height: median(floor.sums())}
		}
		return bar{}
	})})
}

// scale is the range of heights, in whole powers of ten. It is logarithmic, as heights differ by a thousand. The
// library has no such scale, so it gets how many powers of ten a bar is above the lowest.
type scale struct{ low, high float64 }

func scaleOf(list []series) scale {
	lowest, highest := math.Inf(1), math.Inf(-1)
	for _, b := range slices.Concat(each(list, func(s series) []bar { return s.bars })...) {
		if b.height > 0 {
			lowest, highest = min(lowest, math.Log10(b.height)), max(highest, math.Log10(b.height))
		}
	}
	if lowest > highest {
		return scale{0, 1}
	}
	low := math.Floor(lowest)
	if lowest-low < 0.1 { // so short a bar would not be seen
		low--
	}
	return scale{low, max(math.Ceil(highest), low+1)}
}

// add adds a series to a chart. The library asks for labels by height alone: the reason why there is no bar stands on
// one that is not seen.
func (s scale) add(all charts.BarSeriesList, one series, write func(float64) string) charts.BarSeriesList {
	const unseen = 1e-6
	labels := map[float64]string{}
	var heights []float64
	for i, b := range one.bars {
		height, label := charts.GetNullValue(), b.why
		switch {
		case b.height > 0:
			height, label = math.Log10(b.height)-s.low, write(b.height)
		case b.why != "":
			height = unseen * float64(i+1)
		}
		labels[height] = label
		heights = append(heights, height)
	}
	return append(all, charts.BarSeries{Name: one.name, Values: heights, Label: charts.SeriesLabel{
		Show: charts.Ptr(true), FontStyle: charts.FontStyle{FontSize: 8},
		LabelFormatter: func(_ int, _ string, height float64) (string, *charts.LabelStyle) { return labels[height], nil },
	}})
}

// draw draws the chart of a figure as SVG.
func (r Report) draw(f figure) []byte {
	all := r.series(f)
	scale := scaleOf(all)
	var list charts.BarSeriesList
	for _, one := range all {
		list = scale.add(list, one, f.write)
	}
	o := charts.NewBarChartOptionWithSeries(list)
	o.Theme = charts.GetTheme(charts.ThemeLight).WithSeriesColors(each(all, func(s series) charts.Color { return charts.ColorFromHex(s.color) }))
	o.Title = charts.TitleOption{Text: f.chart.title}
	o.Legend = charts.LegendOption{Offset: charts.OffsetStr{Top: "24", Left: "80"}}
	o.CategoryAxis = charts.CategoryAxisOption{Title: "Services x endpoints", Labels: each(r.sizes(), func(s size) string {
		return thousands(s.services) + " x " + thousands(s.endpoints)
	})}
	o.ValueAxis[0] = charts.ValueAxisOption{
		Title: f.chart.axis + ", logarithmic", Min: charts.Ptr(0.0), Max: charts.Ptr(scale.high - scale.low), LabelCount: int(scale.high-scale.low) + 1,
		RangeValuePaddingScale: charts.Ptr(0.0), ValueFormatter: func(v float64) string { return f.write(math.Pow(10, v+scale.low)) },
	}
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: max(520, 120+120*len(r.sizes())), Height: 440})
	check(p.BarChart(o))
	return must(p.Bytes())
}
