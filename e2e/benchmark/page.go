// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/go-analyze/charts"
)

func (r Report) render(folder string) {
	replace(filepath.Join(folder, "README.md"), []byte(r.page()))
	for _, f := range figures() {
		if f.chart != nil {
			replace(filepath.Join(folder, f.chart.file), r.draw(f))
		}
	}
}

func (r Report) page() string {
	var w strings.Builder
	add := func(format string, values ...any) { fmt.Fprintf(&w, format+"\n", values...) }
	add("# Benchmarks\n")
	add("%s and the real %s, in IPVS mode, side by side: one after the other on a node whose kernel is new, against the same API server with the same objects, one and the same configuration file. `make bench` measures this anew; it wrote this page.\n", ours, theirs)
	add("A program counts only if it works. After each thing that was measured, the bench looks for every row in the kernel, asks through the first and the last Service with a client that is no pod, and reads the log for anything that failed. Of who does not pass there is no figure.\n")
	for _, f := range figures() {
		if f.chart != nil {
			add("![%s](%s)\n", f.chart.title, f.chart.file)
		}
	}
	if goals := slices.DeleteFunc(r.goals(), func(g goal) bool { return g.found == "" }); len(goals) > 0 {
		rows := each(goals, func(g goal) string { return fmt.Sprintf("| %s | %s | %s |", g.what, g.want, g.found) })
		add("| | wanted | found |\n| --- | --- | --- |\n%s\n", strings.Join(rows, "\n"))
	}
	for _, s := range r.sizes() {
		r.table(s, add)
	}
	r.circumstances(add)
	return w.String()
}

func (f figure) cell(run Run) (text string, values []float64) {
	if run.Failure != "" {
		return "no figure", nil
	}
	values = f.get(run)
	if len(values) == 0 && run.Exceeded != "" {
		return "not in time", nil
	}
	return strings.Join(each(values, f.write), " / "), values
}

func (r Report) table(s size, add func(string, ...any)) {
	a, b := r.run(ours, s), r.run(theirs, s)
	add("## %s Services, %s endpoints each\n", thousands(s.services), thousands(s.endpoints))
	for _, run := range []Run{a, b} {
		if run.Failure != "" {
			add("**No figure for %s**: %s\n", run.Program, oneLine(run.Failure))
		} else if run.Exceeded != "" {
			add("%s: %s.\n", run.Program, run.Exceeded)
		}
	}
	if a.Binding == "route" {
		add("%s with `vipBinding: route`.\n", ours)
	}
	add("| | %s | %s | ratio |\n| --- | ---: | ---: | ---: |", ours, theirs)
	for _, f := range figures() {
		left, have := f.cell(a)
		right, compared := f.cell(b)
		if len(have)+len(compared) > 0 {
			add("| %s | %s | %s | %s |", f.name, left, right, ratio(have, compared))
		}
	}
	add("")
	if f := r.floor(s); len(f.Laps) > 0 {
		f.table(a, add)
	}
}

// table compares what kube-ipvs took to write its rows with the least that they can take.
func (f Floor) table(run Run, add func(string, ...any)) {
	parts := each(f.Groups, func(g string) string {
		return g + " " + seconds(median(each(f.Laps, func(lap map[string]float64) float64 { return lap[g] })))
	})
	least := median(f.sums())
	add("The floor, which is the same rows in batches encoded beforehand and nothing else: **%s** (%s).", seconds(least), strings.Join(parts, ", "))
	if len(f.Ours) > 0 {
		kernel := median(f.Ours)
		add("%s wrote them in %s, the API server standing still meanwhile: **%s of the floor**.", ours, seconds(kernel), times(kernel/least))
	}
	if len(run.Cold) > 0 {
		start := median(each(run.Cold, Cold.took))
		add("Its whole start, from the process to the last row, is %s of it.", times(start/least))
	}
	add("")
}

func (r Report) circumstances(add func(string, ...any)) {
	add("## Where and how\n")
	m := r.Machine
	add("Begun %s, took %s. Kernel: %s, %d processors (%s), %d MiB of memory.", r.Began.UTC().Format("2006-01-02 15:04 MST"),
		time.Duration(r.Took*float64(time.Second)).Round(time.Second), m.Kernel, m.Processors, m.Processor, m.MemoryMiB)
	if m.Host != "" {
		add("It is a user-mode Linux, a program on `%s`. The API server, etcd, the service proxy and the bench share its one processor, and system calls are dear there: figures are for comparison within this page. The API server and etcd, which only serve, read the time off the processor's counter, for to ask this kernel for it is a system call; the programs that are measured ask the kernel.", m.Host)
	}
	add("")
	for _, name := range slices.Sorted(maps.Keys(m.Versions)) {
		add("- %s: %s", name, oneLine(m.Versions[name]))
	}
	add("\n```\n%s\n```\n", strings.Join(r.Commands, "\n"))
	if len(r.Unsaid) > 0 {
		add("Left out:\n\n- %s\n", strings.Join(each(r.Unsaid, oneLine), "\n- "))
	}
	add("What the words mean:\n\n- %s", strings.Join([]string{
		"**cold start**: from the start of the process on an empty node until the last row is in the kernel and the last Service answers; the median of all starts",
		"**one change**: from the write to the API until the kernel has it, the API server's own part included; `p50 / p99`. An endpoint that is removed or unready is gone once it gets no new connection. A Service that is deleted is, too; its last rows go when its connections are gone",
		"**load**: changes at a fixed rate, each a write to the API, or as many as the API server takes; the kernel is looked at every 20 to 200 ms, as others leave time for it",
		"**restart**: a start where everything is in place. Rows written are by the program's own word; notices are the kernel's, of addresses, routes and links",
		"**idle**: a minute without changes, the audits or full syncs of the default sync period in it",
		"**CPU** counts the programs that a program runs as its own",
		"**ratio**: " + theirs + " by " + ours,
	}, "\n- "))
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func ratio(a, b []float64) string {
	if len(a) == 0 || len(b) == 0 || a[0] <= 0 || b[0] <= 0 {
		return ""
	}
	return times(b[0] / a[0])
}

// seconds writes a time with three significant digits.
func seconds(v float64) string {
	switch {
	case v == 0:
		return "0 s"
	case v < 0.0009995:
		return digits(v*1e6) + " µs"
	case v < 0.9995:
		return digits(v*1e3) + " ms"
	}
	return digits(v) + " s"
}

// digits writes a number with three significant digits, and without a power of ten.
func digits(v float64) string {
	after := 2 - int(math.Floor(math.Log10(v*1.0005)))
	return fmt.Sprintf("%.*f", max(after, 0), v)
}

func thousands(n int) string     { return humanize.Comma(int64(n)) }
func whole(v float64) string     { return thousands(int(v)) }
func plain(v float64) string     { return fmt.Sprintf("%.1f", v) }
func mebibytes(v float64) string { return fmt.Sprintf("%.0f MiB", v) }

func rowsSaid(v float64) string {
	if v < 0 {
		return "does not say"
	}
	return whole(v)
}

func times(v float64) string {
	if v < 9.95 {
		return fmt.Sprintf("%.2f x", v)
	}
	return thousands(int(math.Round(v))) + " x"
}

// goal is something that a release has to reach, as a line of the page. What was not measured is empty.
type goal struct{ what, want, found string }

func (r Report) goals() []goal {
	tiny, usual, larger := size{100, 10}, size{1000, 10}, size{10000, 10}
	change, start, floor := r.values(ours, larger, added), r.values(ours, usual, coldStart), r.floor(larger)
	return []goal{
		{"programming 10,000 x 10, against the floor", "at most 1.5 x", ratio(values(median(floor.sums())), values(median(floor.Ours)))},
		{"cold start at 1,000 x 10, against kube-proxy's", "at least 50 x faster", ratio(start, r.values(theirs, usual, coldStart))},
		{"one endpoint's change, 10,000 x 10 against 100 x 10", "at most 3 x", ratio(r.values(ours, tiny, added), change)},
		{"one endpoint's change, kube-proxy's at 1,000 x 10 against ours at 10,000 x 10", "at least 200 x", ratio(change, r.values(theirs, usual, added))},
		{"100 changes a second at 10,000 x 10: p99", "under 1 s", r.p99(underLoad, larger)},
		{"the same, stored in etcd past the API server: p99", "under 1 s", r.p99(loadStored, larger)},
		{"resident memory: ours at 10,000 x 10, kube-proxy at 1,000 x 10", "less",
			beside(mebibytes, r.values(ours, larger, resident), r.values(theirs, usual, resident))},
		{"idle at 10,000 x 10, the median second", "no CPU worth measuring", beside(seconds, r.values(ours, larger, idleQuiet))},
	}
}

func (r Report) values(program string, s size, name string) []float64 {
	_, values := find(figures(), func(f figure) bool { return f.name == name }).cell(r.run(program, s))
	return values
}

// beside writes the first values of figures, if all have one.
func beside(write func(float64) string, figures ...[]float64) string {
	if slices.ContainsFunc(figures, func(f []float64) bool { return len(f) == 0 }) {
		return ""
	}
	return strings.Join(each(figures, func(f []float64) string { return write(f[0]) }), ", ")
}

func (r Report) p99(load string, s size) string {
	took := r.values(ours, s, load+oneChange)
	if len(took) == 0 {
		return ""
	}
	written, cpu := r.values(ours, s, load+writtenRate), r.values(ours, s, load+cpuOfChange)
	return fmt.Sprintf("%s at %.1f a second, CPU %s a change", seconds(took[1]), written[0], seconds(cpu[0]))
}

// bar is a height, or why there is none. Both are empty if none was wanted.
type bar struct {
	height float64
	why    string
}

type series struct {
	name, color string
	bars        []bar
}

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
	return append(list, series{least, "#8c959f", each(r.sizes(), func(s size) bar { return bar{height: median(r.floor(s).sums())} })})
}

// scale is the range of heights, as powers of ten. The library knows no logarithms: it gets powers above the lowest.
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

// add adds a series to a chart. The library asks for labels by height alone: a reason stands on a bar too short to be
// seen.
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
