// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestQuantiles(t *testing.T) {
	var hundred []float64
	for i := 100; i >= 1; i-- {
		hundred = append(hundred, float64(i))
	}
	for name, c := range map[string]struct {
		list       []float64
		part, want float64
	}{
		"median of a hundred": {hundred, 0.5, 50},
		"p99 of a hundred":    {hundred, 0.99, 99},
		"the most":            {hundred, 1, 100},
		"the least":           {hundred, 0, 1},
		"median of three":     {[]float64{3, 1, 2}, 0.5, 2},
		"p99 of three":        {[]float64{3, 1, 2}, 0.99, 3},
		"of one":              {[]float64{7}, 0.5, 7},
		"of nothing":          {nil, 0.5, 0},
	} {
		if got := quantile(c.list, c.part); got != c.want {
			t.Errorf("%s is %v, want %v", name, got, c.want)
		}
	}
	if hundred[0] != 100 {
		t.Error("the list was sorted in place")
	}
}

// full is a report of both programs that has something of everything.
func full() Report {
	run := func(program string, services int, factor float64) Run {
		return Run{
			Program: program, Services: services, Endpoints: 10, Binding: "address",
			Cold: []Cold{{Took: 1.25 * factor, Rows: 1.2 * factor, Kernel: 0.5 * factor, CPU: factor}},
			Changes: []Change{
				{Kind: added, Took: []float64{0.0311 * factor}, Answered: []float64{0.0123}},
				{Kind: serviceGone, Took: []float64{1.07 * factor}, Answered: []float64{0.0123}},
			},
			Load:    &Load{Asked: 100, Written: 97.4, Changes: 6000, Took: Summary{0.04, 0.05, 0.21 * factor, 0.6}, CPU: 0.0027 * factor},
			Restart: &Restart{Took: 0.77 * factor, Written: 0, Programs: map[string]int{"iptables-save": 4, "sh": 9}},
			Steady:  &Steady{Lasted: 60, CPU: 0.61 * factor, Resident: int64(41 * factor * (1 << 20)), Peak: 1 << 27},
		}
	}
	return Report{
		Began: time.Unix(1_800_000_000, 0).UTC(), Took: 3723,
		Machine:  Machine{Processor: "UML", Processors: 1, MemoryMiB: 4000, Kernel: "Linux 6.1", Host: "Linux host", Versions: map[string]string{ours: "v1", theirs: "v2"}},
		Commands: []string{"benchmark run"},
		Runs:     []Run{run(ours, 1000, 1), run(theirs, 1000, 313), run(ours, 10000, 2)},
		Floors:   []Floor{{Services: 10000, Endpoints: 10, Groups: []string{"sets", "servers"}, Laps: []map[string]float64{{"sets": 0.3, "servers": 0.5}}, Ours: []float64{1}}},
		Unsaid:   []string{"something"},
	}
}

// mustSay fails unless the page of a report has all texts.
func mustSay(t *testing.T, r Report, texts ...string) {
	t.Helper()
	page := r.page()
	for _, want := range texts {
		if !strings.Contains(page, want) {
			t.Errorf("there is no %q in\n%s", want, page)
		}
	}
}

func TestThePageHasTheFiguresAndTheirRatios(t *testing.T) {
	mustSay(t, full(),
		"## 1,000 Services, 10 endpoints each",
		"| cold start | 1.25 s | 391 s | 313 x |",
		"| endpoint added | 31.1 ms / 31.1 ms | 9.73 s / 9.73 s | 313 x |",
		"| restart: programs run | 4 | 4 | 1.00 x |",
		"| resident memory | 41 MiB |",
		"The floor, which is the same rows in batches encoded beforehand and nothing else: **800 ms** (sets 300 ms, servers 500 ms).",
		"wrote them in 1.00 s, the API server standing still meanwhile: **1.25 x of the floor**",
		"| programming 10,000 x 10, against the floor | at most 1.5 x | 1.25 x |",
		"| cold start at 1,000 x 10, against kube-proxy's | at least 50 x faster | 313 x |",
		"1h2m3s", "`Linux host`", "- something", "![Resident memory](memory.svg)")
}

func TestAProgramThatFailedHasNoFigure(t *testing.T) {
	r := full()
	r.Runs[1].Failure = "its log says\nthat it failed"
	mustSay(t, r, "**No figure for kube-proxy**: its log says that it failed", "| cold start | 1.25 s | no figure |  |")
	for _, f := range figures() {
		if f.chart == nil {
			continue
		}
		if b := r.series(f)[1].bars[0]; b.height != 0 || b.why != "no figure" {
			t.Errorf("%s has %+v of a program that failed", f.chart.file, b)
		}
		if svg := r.draw(f); !strings.Contains(string(svg), ">no figure<") {
			t.Errorf("%s does not say that there is no figure", f.chart.file)
		}
	}
	for _, g := range r.goals() {
		if g.found != "" && strings.Contains(g.what, "kube-proxy") {
			t.Errorf("%s: found %s", g.what, g.found)
		}
	}
}

func TestAProgramThatHadNoTimeHasTheFiguresThatItGot(t *testing.T) {
	r := full()
	r.Runs[1].Exceeded = "load: not within 10m0s"
	r.Runs[1].Load = nil
	mustSay(t, r, "kube-proxy: load: not within 10m0s.", "| cold start | 1.25 s | 391 s | 313 x |",
		"| load: changes a second that were written | 97.4 | not in time |  |")
}

func TestAReportOfNothingIsAPage(t *testing.T) {
	(Report{}).render(t.TempDir())
}

func TestAReportIsReadAsItWasSaved(t *testing.T) {
	folder, r := t.TempDir(), full()
	r.save(folder)
	if got := load(folder); !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, want %+v", got, r)
	}
	for _, name := range []string{"README.md", "cold-start.svg", "one-change.svg", "memory.svg"} {
		if text, err := os.ReadFile(filepath.Join(folder, name)); err != nil || len(text) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
	}
}

func TestTheScaleHasWholePowersOfTen(t *testing.T) {
	for name, c := range map[string]struct {
		heights []float64
		want    scale
	}{
		"some":             {[]float64{0.02, 150}, scale{-2, 3}},
		"one":              {[]float64{5}, scale{0, 1}},
		"just above a ten": {[]float64{10.1}, scale{0, 2}},
		"a ten itself":     {[]float64{100}, scale{1, 2}},
		"none":             {[]float64{0}, scale{0, 1}},
	} {
		bars := each(c.heights, func(h float64) bar { return bar{height: h} })
		if got := scaleOf([]series{{bars: bars}}); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestNumbersOfThePage(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{seconds(0), "0 s"}, {seconds(0.0000123), "12.3 µs"}, {seconds(0.00123), "1.23 ms"}, {seconds(0.9996), "1.00 s"},
		{seconds(0.5), "500 ms"}, {seconds(12.34), "12.3 s"}, {seconds(157), "157 s"}, {seconds(1570), "1570 s"},
		{thousands(1), "1"}, {thousands(1000), "1,000"}, {thousands(-1234567), "-1,234,567"}, {thousands(-123), "-123"},
		{times(1.5), "1.50 x"}, {times(312.6), "313 x"}, {times(12345), "12,345 x"}, {mebibytes(1), "1 MiB"}, {rowsSaid(-1), "does not say"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
