// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Page is the report as people read it, in Markdown.
func (r Report) Page() string {
	var w strings.Builder
	add := func(format string, values ...any) { fmt.Fprintf(&w, format+"\n", values...) }
	add("# Benchmarks\n")
	add("%s and the real %s, in IPVS mode, side by side: one after the other on a node whose kernel is new, against the same API server with the same objects, one and the same configuration file. `make bench` measures this anew; it wrote this page.\n", Ours, Theirs)
	add("A program counts only if it works. After each thing that was measured, the bench looks for every row in the kernel, asks through the first and the last Service with a client that is no pod, and reads the log for anything that failed. Of who does not pass there is no figure.\n")
	for _, p := range r.Plots() {
		add("![%s](%s)\n", p.Chart.Title, p.File)
	}
	r.glance(add)
	for _, s := range r.sizes() {
		r.table(s, add)
	}
	r.circumstances(add)
	return w.String()
}

// table is all figures of a size.
func (r Report) table(s size, add func(string, ...any)) {
	ours, theirs, least := r.find(Ours, s), r.find(Theirs, s), r.floor(s)
	add("## %s Services, %s endpoints each\n", thousands(s.services), thousands(s.endpoints))
	for _, run := range []*Run{ours, theirs} {
		switch {
		case run == nil:
		case run.Failure != "":
			add("**No figure for %s**: %s\n", run.Program, oneLine(run.Failure))
		case run.Exceeded != "":
			add("%s: %s.\n", run.Program, run.Exceeded)
		}
	}
	if ours != nil && ours.Binding == "route" {
		add("%s with `vipBinding: route`.\n", Ours)
	}
	add("| | %s | %s | ratio |\n| --- | ---: | ---: | ---: |", Ours, Theirs)
	for _, row := range rows() {
		a, b := row.of(ours), row.of(theirs)
		if !a.is() && !b.is() {
			continue
		}
		add("| %s | %s | %s | %s |", row.name, a.text(row.write), b.text(row.write), ratioOf(a, b))
	}
	add("")
	if least != nil {
		r.floorTable(ours, *least, add)
	}
}

// floorTable compares what ours took to write its rows with the least that they can take.
func (r Report) floorTable(ours *Run, f Floor, add func(string, ...any)) {
	var parts []string
	for _, g := range f.Groups {
		parts = append(parts, fmt.Sprintf("%s %s", g, seconds(float64(Median(f.Group(g))))))
	}
	least := Median(f.Sums())
	add("The floor, which is the same rows in batches encoded beforehand and nothing else: **%s** (%s).", seconds(float64(least)), strings.Join(parts, ", "))
	if len(f.Ours) > 0 {
		kernel := Median(f.Ours)
		add("%s wrote them in %s, the API server standing still meanwhile: **%s of the floor**.", Ours, seconds(float64(kernel)), times(float64(kernel/least)))
	}
	if ours != nil && len(ours.Cold) > 0 {
		add("Its whole start, from the process to the last row, is %s of it.", times(float64(Median(ours.Starts())/least)))
	}
	add("")
}

// circumstances are where and how this was measured.
func (r Report) circumstances(add func(string, ...any)) {
	add("## Where and how\n")
	m := r.Machine
	add("Begun %s, took %s. Kernel: %s, %d processors (%s), %d MiB of memory.", r.Began.UTC().Format("2006-01-02 15:04 MST"),
		time.Duration(float64(r.Took)*float64(time.Second)).Round(time.Second), m.Kernel, m.Processors, m.Processor, m.MemoryMiB)
	if m.Host != "" {
		add("It is a user-mode Linux, a program on `%s`. The API server, etcd, the service proxy and the bench share its one processor, and system calls are dear there: figures are for comparison within this page. The API server and etcd, which only serve, read the time off the processor's counter, for to ask this kernel for it is a system call; the programs that are measured ask the kernel.", m.Host)
	}
	add("")
	for _, name := range slices.Sorted(maps.Keys(m.Versions)) {
		add("- %s: %s", name, oneLine(m.Versions[name]))
	}
	add("\n```")
	for _, c := range r.Commands {
		add("%s", c)
	}
	add("```\n")
	if len(r.Unsaid) > 0 {
		add("Left out:\n")
		for _, u := range r.Unsaid {
			add("- %s", oneLine(u))
		}
		add("")
	}
	add("What the words mean:\n")
	for _, line := range meanings() {
		add("- %s", line)
	}
}

func meanings() []string {
	return []string{
		"**cold start**: from the start of the process on an empty node until the last row is in the kernel and the last Service answers; the median of all starts",
		"**one change**: from the write to the API until the kernel has it, the API server's own part included; `p50 / p99`. An endpoint that is removed or unready is gone once it gets no new connection. A Service that is deleted is, too; its last rows go when its connections are gone",
		"**load**: changes at a fixed rate, each a write to the API, or as many as the API server takes; the kernel is looked at every 20 to 200 ms, as others leave time for it",
		"**restart**: a start where everything is in place. Rows written are by the program's own word; notices are the kernel's, of addresses, routes and links",
		"**idle**: a minute without changes, the audits or full syncs of the default sync period in it",
		"**CPU** counts the programs that a program runs as its own",
		"**ratio**: " + Theirs + " by " + Ours,
	}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
