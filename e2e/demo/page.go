// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// page is what the demo writes on.
type page struct {
	w     io.Writer
	color bool
}

// style is how a terminal shows a text.
type style string

const (
	bold  style = "1"
	dim   style = "2"
	red   style = "31;1"
	green style = "32"
)

func (p page) in(s style, text string) string {
	if !p.color || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

const titleWidth = 36

// result is what a step showed.
type result struct {
	title  string
	tested map[state.Family]*tally
}

func families() []state.Family { return []state.Family{state.IPv4, state.IPv6} }

func (r result) passed() bool {
	for _, t := range r.tested {
		if t.wrong != nil {
			return false
		}
	}
	return true
}

func (p page) verdict(ok bool) string {
	if ok {
		return p.in(green, "ok")
	}
	return p.in(red, "FAILED")
}

func (p page) heading(text string) { fmt.Fprintf(p.w, "\n%s\n\n", p.in(bold, text)) }

// done reports something that is no step.
func (p page) done(title string, took time.Duration) {
	fmt.Fprintf(p.w, "  %-*s %s\n", titleWidth, title, p.in(dim, fmt.Sprintf("%.2f s", took.Seconds())))
}

// step shows a result: some lines for each family.
func (p page) step(r result) {
	title := r.title
	for _, f := range families() {
		t := r.tested[f]
		if t == nil {
			continue
		}
		lines := t.lines()
		fmt.Fprintf(p.w, "  %-*s %v  %s  %s\n", titleWidth, title, f, p.verdict(t.wrong == nil), lines[0])
		for _, line := range lines[1:] {
			fmt.Fprintf(p.w, "  %*s %s\n", titleWidth+len(" IPv4  ok "), "", line)
		}
		if t.wrong != nil {
			fmt.Fprintf(p.w, "  %*s %s\n", titleWidth+len(" IPv4  ok "), "", p.in(red, t.wrong.Error()))
		}
		title = ""
	}
}

// aside shows another program's text.
func (p page) aside(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintf(p.w, "    %s\n", p.in(dim, strings.TrimRight(line, "\n")))
	}
}

// summary is the table at the end.
func (p page) summary(results []result) {
	fmt.Fprintf(p.w, "  %s\n", p.in(dim, fmt.Sprintf("%-*s %-6s  %-6s  %8s  %8s", titleWidth, "step", "IPv4", "IPv6", "requests", "failures")))
	var all tally
	for _, r := range results {
		var sum tally
		cells := ""
		for _, f := range families() {
			cells += p.cell(r.tested[f]) + "  "
			if r.tested[f] != nil {
				sum.add(*r.tested[f])
			}
		}
		fmt.Fprintf(p.w, "  %-*s %s%8d  %8d\n", titleWidth, r.title, cells, sum.asked, sum.failed)
		all.add(sum)
	}
	fmt.Fprintf(p.w, "  %s\n", p.in(bold, fmt.Sprintf("%-*s %-6s  %-6s  %8d  %8d", titleWidth, "all", "", "", all.asked, all.failed)))
}

// cell returns a verdict six characters wide: colours must not count as width.
func (p page) cell(t *tally) string {
	if t == nil {
		return "-     "
	}
	if t.wrong != nil {
		return p.verdict(false)
	}
	return p.verdict(true) + "    "
}

func (p page) success(took time.Duration) {
	fmt.Fprintf(p.w, "\n%s\n", p.in(green, fmt.Sprintf("All of it held. That took %d seconds.", int(took.Seconds()))))
}

func (p page) failure(err error) { fmt.Fprintf(p.w, "\n%s %v\n", p.in(red, "failed:"), err) }
