// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
)

// measurement is one thing that is measured of a program, and how the page shows it.
type measurement struct {
	name    string                               // as the flag -phases has it
	measure func(*runner, context.Context, *Run) // writes into the run
	made    func(Run) bool                       // whether the run has it
	figures []figure
	last    bool // of all on the page, not in time
}

// figure is a line of the page's tables.
type figure struct {
	name  string
	write func(float64) string // a value with its unit
	get   func(Run) []float64  // none: there is no figure. The first is compared; a second stands beside it
	chart *chart               // nil: there is none
}

// chart draws the first value of a figure for each program and size.
type chart struct {
	file, title, axis string
	floor             bool // whether the floor is in it too
}

const (
	coldStart   = "cold start"
	underLoad   = "load"
	loadStored  = "load stored in etcd"
	idleQuiet   = "idle: CPU time in the median second"
	resident    = "resident memory"
	oneChange   = ": one change, p50 / p99"
	writtenRate = ": changes a second that were written"
	cpuOfChange = ": CPU time for one change"
)

// measurements are all of them, in the order in which they are made: the memory is that of a program which has only
// started.
func measurements() []measurement {
	return []measurement{
		{coldStart, (*runner).measureCold, func(r Run) bool { return len(r.Cold) > 0 }, startFigures(), false},
		{"steady state", (*runner).measureSteady, func(r Run) bool { return r.Steady != nil }, steadyFigures(), true},
		{"changes", (*runner).measureChanges, func(r Run) bool { return len(r.Changes) > 0 }, changeFigures(), false},
		{underLoad, (*runner).measureLoad, func(r Run) bool { return r.Load != nil }, loadFigures(), false},
		{"stored load", (*runner).measureStored, func(r Run) bool { return r.Stored != nil }, storedFigures(), false},
		{"restart", (*runner).measureRestart, func(r Run) bool { return r.Restart != nil }, restartFigures(), false},
	}
}

// figures are the lines of a table, from top to bottom.
func figures() []figure {
	var list, last []figure
	for _, m := range measurements() {
		for _, f := range m.figures {
			get := f.get
			f.get = func(r Run) []float64 {
				if !m.made(r) {
					return nil
				}
				return get(r)
			}
			if m.last {
				last = append(last, f)
			} else {
				list = append(list, f)
			}
		}
	}
	return append(list, last...)
}

func values(list ...float64) []float64 { return list }

// startFigures are medians of all cold starts. kube-proxy does not say how long it wrote to the kernel.
func startFigures() []figure {
	median := func(get func(Cold) float64) func(Run) []float64 {
		return func(r Run) []float64 {
			if m := median(each(r.Cold, get)); m != 0 {
				return values(m)
			}
			return nil
		}
	}
	drawn := &chart{"cold-start.svg", "Cold start: from the process to the last row and an answer", "time", true}
	return []figure{
		{coldStart, seconds, median(Cold.took), drawn},
		{"cold start: CPU time", seconds, median(func(c Cold) float64 { return c.CPU }), nil},
		{"cold start: writing to the kernel", seconds, median(func(c Cold) float64 { return c.Kernel }), nil},
	}
}

func (c Cold) took() float64 { return c.Took }

// The kinds of changes.
const (
	added          = "endpoint added"
	removed        = "endpoint removed"
	unready        = "endpoint made unready"
	serviceAdded   = "Service added"
	serviceDeleted = "Service deleted"
	serviceGone    = "Service deleted, its last row gone"
)

func kinds() []string {
	return []string{added, removed, unready, serviceAdded, serviceDeleted, serviceGone}
}

func changeFigures() []figure {
	of := func(kind string, get func(Change) []float64) func(Run) []float64 {
		return func(r Run) []float64 {
			for _, c := range r.Changes {
				if c.Kind == kind && len(get(c)) > 0 {
					return values(median(get(c)), quantile(get(c), 0.99))
				}
			}
			return nil
		}
	}
	took := func(c Change) []float64 { return c.Took }
	list := each(kinds(), func(kind string) figure { return figure{kind, seconds, of(kind, took), nil} })
	list[0].chart = &chart{"one-change.svg", "One endpoint added: from the write to the API to the kernel (p50)", "time", false}
	answered := of(added, func(c Change) []float64 { return c.Answered })
	return append(list, figure{"the API server's answer to these, p50 / p99", seconds, answered, nil})
}

func loadFigures() []figure {
	return []figure{
		{underLoad + writtenRate, plain, func(r Run) []float64 { return values(r.Load.Written) }, nil},
		{underLoad + oneChange, seconds, func(r Run) []float64 { return values(r.Load.Took.P50, r.Load.Took.P99) }, nil},
		{"load: the API server's answer, p50 / p99", seconds, func(r Run) []float64 { return values(r.Load.Answered.P50, r.Load.Answered.P99) }, nil},
		{underLoad + cpuOfChange, seconds, func(r Run) []float64 { return values(r.Load.CPU) }, nil},
		{"load: behind the last write", seconds, func(r Run) []float64 { return values(r.Load.Last) }, nil},
	}
}

func storedFigures() []figure {
	return []figure{
		{loadStored + writtenRate, plain, func(r Run) []float64 { return values(r.Stored.Written) }, nil},
		{loadStored + oneChange, seconds, func(r Run) []float64 { return values(r.Stored.Took.P50, r.Stored.Took.P99) }, nil},
		{loadStored + cpuOfChange, seconds, func(r Run) []float64 { return values(r.Stored.CPU) }, nil},
	}
}

func restartFigures() []figure {
	return []figure{
		{"restart: until done", seconds, func(r Run) []float64 { return values(r.Restart.Took) }, nil},
		{"restart: rows written", rowsSaid, func(r Run) []float64 { return values(float64(r.Restart.Written)) }, nil},
		{"restart: notices of the kernel", whole, func(r Run) []float64 { return values(float64(r.Restart.Notices)) }, nil},
		{"restart: programs run", whole, func(r Run) []float64 { return values(tools(r.Restart.Programs)) }, nil},
	}
}

func steadyFigures() []figure {
	const mebibyte = 1 << 20
	drawn := &chart{"memory.svg", "Resident memory", "MiB", false}
	return []figure{
		{"idle: CPU time in a minute", seconds, func(r Run) []float64 { return values(r.Steady.CPU / r.Steady.Lasted * 60) }, nil},
		{idleQuiet, seconds, func(r Run) []float64 { return values(r.Steady.Quiet) }, nil},
		{"idle: programs run in a minute", whole, func(r Run) []float64 { return values(tools(r.Steady.Programs)) }, nil},
		{resident, mebibytes, func(r Run) []float64 { return values(float64(r.Steady.Resident) / mebibyte) }, drawn},
		{"resident memory at most", mebibytes, func(r Run) []float64 { return values(float64(r.Steady.Peak) / mebibyte) }, nil},
	}
}

// tools is how many of the programs are those that write to the kernel; other programs of the machine may have run
// too.
func tools(programs map[string]int) float64 {
	n := 0
	for name, times := range programs {
		if strings.Contains(name, "tables") || strings.HasPrefix(name, "ipset") || strings.HasPrefix(name, "ipvsadm") || name == "modprobe" {
			n += times
		}
	}
	return float64(n)
}
