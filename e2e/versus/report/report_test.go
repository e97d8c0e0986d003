// SPDX-License-Identifier: Apache-2.0

package report

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestQuantiles(t *testing.T) {
	var hundred []Seconds
	for i := 100; i >= 1; i-- {
		hundred = append(hundred, Seconds(i))
	}
	for name, c := range map[string]struct {
		list []Seconds
		part float64
		want Seconds
	}{
		"median of a hundred": {hundred, 0.5, 50},
		"p99 of a hundred":    {hundred, 0.99, 99},
		"the most":            {hundred, 1, 100},
		"the least":           {hundred, 0, 1},
		"median of three":     {[]Seconds{3, 1, 2}, 0.5, 2},
		"p99 of three":        {[]Seconds{3, 1, 2}, 0.99, 3},
		"of one":              {[]Seconds{7}, 0.5, 7},
	} {
		if got := Quantile(c.list, c.part); got != c.want {
			t.Errorf("%s is %v, want %v", name, got, c.want)
		}
	}
	if !math.IsNaN(float64(Quantile(nil, 0.5))) {
		t.Error("the median of nothing is a number")
	}
	if hundred[0] != 100 {
		t.Error("the list was sorted in place")
	}
}

// full is a report of both programs that has something of everything.
func full() Report {
	run := func(program string, services int, factor Seconds) Run {
		return Run{
			Program: program, Services: services, Endpoints: 10, Binding: "address",
			Cold: []Cold{{Took: 1.25 * factor, Rows: 1.2 * factor, Kernel: 0.5 * factor, CPU: factor}},
			Changes: []Change{
				{Kind: Added, Took: []Seconds{0.0311 * factor}, Answered: []Seconds{0.0123}},
				{Kind: ServiceGone, Took: []Seconds{1.07 * factor}, Answered: []Seconds{0.0123}},
			},
			Load:    &Load{Asked: 100, Written: 97.4, Changes: 6000, Took: Summary{0.04, 0.05, 0.21 * factor, 0.6}, CPU: 0.0027 * factor},
			Restart: &Restart{Took: 0.77 * factor, Written: 0, Programs: map[string]int{"iptables-save": 4, "sh": 9}},
			Steady:  &Steady{Lasted: 60, CPU: 0.61 * factor, Resident: int64(41 * factor * (1 << 20)), Peak: 1 << 27},
		}
	}
	return Report{
		Began: time.Unix(1_800_000_000, 0).UTC(), Took: 3723,
		Machine:  Machine{Processor: "UML", Processors: 1, MemoryMiB: 4000, Kernel: "Linux 6.1", Host: "Linux host", Versions: map[string]string{Ours: "v1", Theirs: "v2"}},
		Commands: []string{"versus run"},
		Runs:     []Run{run(Ours, 1000, 1), run(Theirs, 1000, 313), run(Ours, 10000, 2)},
		Floors:   []Floor{{Services: 10000, Endpoints: 10, Groups: []string{"sets", "servers"}, Laps: []map[string]Seconds{{"sets": 0.3, "servers": 0.5}}, Ours: []Seconds{1}}},
		Unsaid:   []string{"something"},
	}
}

func TestThePageHasTheFiguresAndTheirRatios(t *testing.T) {
	page := full().Page()
	for _, want := range []string{
		"## 1,000 Services, 10 endpoints each",
		"| cold start | 1.25 s | 391 s | 313 x |",
		"| endpoint added | 31.1 ms / 31.1 ms | 9.73 s / 9.73 s | 313 x |",
		"| restart: programs run | 4 | 4 | 1.00 x |",
		"| resident memory | 41 MiB |",
		"The floor, which is the same rows in batches encoded beforehand and nothing else: **800 ms** (sets 300 ms, servers 500 ms).",
		"wrote them in 1.00 s, the API server standing still meanwhile: **1.25 x of the floor**",
		"| programming 10,000 x 10, against the floor | at most 1.5 x | 1.25 x |",
		"| cold start at 1,000 x 10, against kube-proxy's | at least 50 x faster | 313 x |",
		"1h2m3s", "`Linux host`", "- something", "![Resident memory](memory.svg)",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("there is no %q in\n%s", want, page)
		}
	}
}

func TestWhoFailedHasNoFigure(t *testing.T) {
	r := full()
	r.Runs[1] = r.Runs[1].Failed("its log says\nthat it failed")
	page := r.Page()
	if !strings.Contains(page, "**No figure for kube-proxy**: its log says that it failed") || !strings.Contains(page, "| cold start | 1.25 s | no figure |  |") {
		t.Errorf("the page does not say that there is no figure:\n%s", page)
	}
	for _, p := range r.Plots() {
		if b := p.Chart.Series[1].Bars[0]; b.Height != 0 || b.Why != "no figure" {
			t.Errorf("%s has %+v of who failed", p.File, b)
		}
	}
	for _, a := range aims() {
		if found, ok := a.found(r); ok && strings.Contains(a.what, "kube-proxy") {
			t.Errorf("%s: found %s", a.what, found)
		}
	}
}

func TestWhoHadNoTimeHasTheFiguresThatItGot(t *testing.T) {
	r := full()
	r.Runs[1].Exceeded = "load: not within 10m0s"
	r.Runs[1].Load = nil
	page := r.Page()
	for _, want := range []string{"kube-proxy: load: not within 10m0s.", "| cold start | 1.25 s | 391 s | 313 x |", "| load: changes a second that were written | 97.4 | not in time |  |"} {
		if !strings.Contains(page, want) {
			t.Errorf("there is no %q in\n%s", want, page)
		}
	}
}

func TestAReportOfNothingIsAPage(t *testing.T) {
	folder := t.TempDir()
	if err := (Report{}).Render(folder); err != nil {
		t.Error(err)
	}
}

func TestAReportIsReadAsItWasSaved(t *testing.T) {
	folder, r := t.TempDir(), full()
	if err := r.Save(folder); err != nil {
		t.Fatal(err)
	}
	got, err := Read(folder)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, want %+v", got, r)
	}
	if err := got.Render(folder); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "cold-start.svg", "one-change.svg", "memory.svg"} {
		if text, err := os.ReadFile(filepath.Join(folder, name)); err != nil || len(text) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
	}
}

func TestNumbersAsPeopleReadThem(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{seconds(0), "0 s"}, {seconds(0.0000123), "12.3 µs"}, {seconds(0.00123), "1.23 ms"}, {seconds(0.9996), "1.00 s"},
		{seconds(0.5), "500 ms"}, {seconds(12.34), "12.3 s"}, {seconds(157), "157 s"}, {seconds(1570), "1570 s"},
		{thousands(1), "1"}, {thousands(1000), "1,000"}, {thousands(-1234567), "-1,234,567"}, {thousands(-123), "-123"},
		{times(1.5), "1.50 x"}, {times(312.6), "313 x"}, {times(12345), "12,345 x"}, {bytes(1 << 20), "1 MiB"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
