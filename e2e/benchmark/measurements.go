// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"
)

const (
	ours   = "kube-ipvs"
	theirs = "kube-proxy"
	least  = "floor" // the rows alone, in batches encoded beforehand
)

// Report is one run of the benchmark, as results.json has it. All times are in seconds.
type Report struct {
	Began    time.Time
	Took     float64
	Machine  Machine
	Commands []string // how the benchmark and the programs were started
	Runs     []Run
	Floors   []Floor
	Unsaid   []string `json:",omitempty"` // what was left out, and why
}

type Machine struct {
	Processor             string
	Processors, MemoryMiB int // that the lab's kernel has
	Kernel                string
	Host                  string `json:",omitempty"` // the kernel below, if the lab's is a program
	Versions              map[string]string
}

// Run is one program in a cluster of one size.
type Run struct {
	Program             string
	Services, Endpoints int
	Binding             string   `json:",omitempty"` // how it takes packets to Service addresses
	Failure             string   `json:",omitempty"` // what it did not do. Then it has no figures
	Exceeded            string   `json:",omitempty"` // what it had not done in time. What would have come after was not tried
	Cold                []Cold   `json:",omitempty"`
	Changes             []Change `json:",omitempty"`
	Load                *Load    `json:",omitempty"`
	Stored              *Load    `json:",omitempty"` // written to etcd, past the API server
	Restart             *Restart `json:",omitempty"`
	Steady              *Steady  `json:",omitempty"`
}

// Cold is a start on an empty node.
type Cold struct {
	Took   float64 // from the start of the process until the last row is in the kernel and the last Service answers
	Rows   float64 // until the last row is in the kernel
	Kernel float64 `json:",omitempty"` // how long the program says that it wrote to the kernel
	CPU    float64 // of it and its children
	Again  bool    `json:",omitempty"` // the numbers of rows were right before the rows were; the times are of when these were
}

// Change is one kind of change, measured several times.
type Change struct {
	Kind     string
	Took     []float64 // from the write to the API until the kernel has it
	Answered []float64 // until the API server has answered the write
}

// Load is many changes a second for some time.
type Load struct {
	Asked          float64 // changes a second
	Written        float64 // a second
	Changes        int
	Took, Answered Summary // as in Change
	CPU            float64 // of the program and its children for one change
	Last           float64 // from the last write until the kernel had all
}

// Restart is a start on a node where everything is in place.
type Restart struct {
	Took     float64        // from the start of the process until it says that it is done
	Written  int            // how many rows the program says that it wrote; -1 if it does not say
	Notices  int            // of the kernel, of addresses, routes and links that changed
	Programs map[string]int // that it ran
}

// Steady is some time without changes.
type Steady struct {
	Lasted         float64
	CPU            float64 // of the program and its children
	Busy, Quiet    float64 // the CPU time of the busiest second, and of the median one
	Resident, Peak int64   // bytes
	Programs       map[string]int
	CPUPerProgram  map[string]float64 `json:",omitempty"` // of those that it ran
}

// Floor is what the same rows cost when nothing is done but to write them.
type Floor struct {
	Services, Endpoints int
	Binding             string
	Groups              []string             // of tables, in the order of writing
	Laps                []map[string]float64 // one for each time
	Ours                []float64            // how long kube-ipvs wrote the same rows, each time
}

type Summary struct{ P50, P90, P99, Most float64 }

func summarize(list []float64) Summary {
	return Summary{quantile(list, 0.5), quantile(list, 0.9), quantile(list, 0.99), slices.Max(list)}
}

// quantile is the smallest of the values that so large a part of them does not exceed; 0 if there are none.
func quantile(list []float64, part float64) float64 {
	if len(list) == 0 {
		return 0
	}
	return stat.Quantile(part, stat.Empirical, slices.Sorted(slices.Values(list)), nil)
}

func median(list []float64) float64 { return quantile(list, 0.5) }

func (f Floor) sums() []float64 {
	return each(f.Laps, func(lap map[string]float64) float64 { return floats.Sum(slices.Collect(maps.Values(lap))) })
}

func each[T, V any](list []T, value func(T) V) []V {
	values := make([]V, len(list))
	for i, one := range list {
		values[i] = value(one)
	}
	return values
}

type size struct{ services, endpoints int }

func (r Run) size() size { return size{r.Services, r.Endpoints} }

// sizes are those of all runs, the number of all endpoints first.
func (r Report) sizes() []size {
	list := slices.SortedFunc(slices.Values(each(r.Runs, Run.size)), func(a, b size) int {
		return cmp.Or(a.services*a.endpoints-b.services*b.endpoints, a.services-b.services)
	})
	return slices.Compact(list)
}

func (r Report) run(program string, s size) Run {
	return find(r.Runs, func(run Run) bool { return run.Program == program && run.size() == s })
}

func (r Report) floor(s size) Floor {
	return find(r.Floors, func(f Floor) bool { return size{f.Services, f.Endpoints} == s })
}

func find[T any](list []T, is func(T) bool) (one T) {
	if i := slices.IndexFunc(list, is); i >= 0 {
		one = list[i]
	}
	return one
}

func (r Report) save(folder string) {
	replace(filepath.Join(folder, "results.json"), append(must(json.MarshalIndent(r, "", "  ")), '\n'))
	r.render(folder)
}

func load(folder string) (r Report) {
	check(json.Unmarshal(must(os.ReadFile(filepath.Join(folder, "results.json"))), &r))
	return r
}

// replace writes a file so that a reader sees the old one or the new.
func replace(path string, text []byte) {
	check(os.WriteFile(path+".new", text, 0o644))
	check(os.Rename(path+".new", path))
}

// figure is a line of the page's tables.
type figure struct {
	name  string
	write func(float64) string // a value with its unit
	get   getter
	chart *chart // nil: there is none
}

// getter returns the values of a figure; none if a run has none. The first is compared; a second stands beside it.
type getter func(Run) []float64

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

func figures() []figure {
	load, stored := of(func(r Run) *Load { return r.Load }), of(func(r Run) *Load { return r.Stored })
	restart, steady := of(func(r Run) *Restart { return r.Restart }), of(func(r Run) *Steady { return r.Steady })
	written := func(l Load) []float64 { return values(l.Written) }
	took := func(l Load) []float64 { return values(l.Took.P50, l.Took.P99) }
	answered := func(l Load) []float64 { return values(l.Answered.P50, l.Answered.P99) }
	cpu := func(l Load) []float64 { return values(l.CPU) }
	const mebibyte = 1 << 20
	return []figure{
		{coldStart, seconds, ofStarts(Cold.took),
			&chart{"cold-start.svg", "Cold start: from the process to the last row and an answer", "time", true}},
		{"cold start: CPU time", seconds, ofStarts(func(c Cold) float64 { return c.CPU }), nil},
		{"cold start: writing to the kernel", seconds, ofStarts(func(c Cold) float64 { return c.Kernel }), nil},
		{added, seconds, ofChange(added, Change.took),
			&chart{"one-change.svg", "One endpoint added: from the write to the API to the kernel (p50)", "time", false}},
		{removed, seconds, ofChange(removed, Change.took), nil},
		{unready, seconds, ofChange(unready, Change.took), nil},
		{serviceAdded, seconds, ofChange(serviceAdded, Change.took), nil},
		{serviceDeleted, seconds, ofChange(serviceDeleted, Change.took), nil},
		{serviceGone, seconds, ofChange(serviceGone, Change.took), nil},
		{"the API server's answer to these, p50 / p99", seconds, ofChange(added, func(c Change) []float64 { return c.Answered }), nil},
		{underLoad + writtenRate, plain, load(written), nil},
		{underLoad + oneChange, seconds, load(took), nil},
		{"load: the API server's answer, p50 / p99", seconds, load(answered), nil},
		{underLoad + cpuOfChange, seconds, load(cpu), nil},
		{"load: behind the last write", seconds, load(func(l Load) []float64 { return values(l.Last) }), nil},
		{loadStored + writtenRate, plain, stored(written), nil},
		{loadStored + oneChange, seconds, stored(took), nil},
		{loadStored + cpuOfChange, seconds, stored(cpu), nil},
		{"restart: until done", seconds, restart(func(r Restart) []float64 { return values(r.Took) }), nil},
		{"restart: rows written", rowsSaid, restart(func(r Restart) []float64 { return values(float64(r.Written)) }), nil},
		{"restart: notices of the kernel", whole, restart(func(r Restart) []float64 { return values(float64(r.Notices)) }), nil},
		{"restart: programs run", whole, restart(func(r Restart) []float64 { return values(tools(r.Programs)) }), nil},
		{"idle: CPU time in a minute", seconds, steady(func(s Steady) []float64 { return values(s.CPU / s.Lasted * 60) }), nil},
		{idleQuiet, seconds, steady(func(s Steady) []float64 { return values(s.Quiet) }), nil},
		{"idle: programs run in a minute", whole, steady(func(s Steady) []float64 { return values(tools(s.Programs)) }), nil},
		{resident, mebibytes, steady(func(s Steady) []float64 { return values(float64(s.Resident) / mebibyte) }),
			&chart{"memory.svg", "Resident memory", "MiB", false}},
		{"resident memory at most", mebibytes, steady(func(s Steady) []float64 { return values(float64(s.Peak) / mebibyte) }), nil},
	}
}

func values(list ...float64) []float64 { return list }

// of makes getters for a part of a run, which the run may lack.
func of[T any](part func(Run) *T) func(get func(T) []float64) getter {
	return func(get func(T) []float64) getter {
		return func(r Run) []float64 {
			if p := part(r); p != nil {
				return get(*p)
			}
			return nil
		}
	}
}

// ofStarts is the median of all cold starts. kube-proxy does not say how long it wrote to the kernel.
func ofStarts(get func(Cold) float64) getter {
	return func(r Run) []float64 {
		if m := median(each(r.Cold, get)); m != 0 {
			return values(m)
		}
		return nil
	}
}

func (c Cold) took() float64 { return c.Took }

func ofChange(kind string, get func(Change) []float64) getter {
	return func(r Run) []float64 {
		list := get(find(r.Changes, func(c Change) bool { return c.Kind == kind }))
		if len(list) == 0 {
			return nil
		}
		return values(median(list), quantile(list, 0.99))
	}
}

func (c Change) took() []float64 { return c.Took }

// tools is how many of the programs are those that write to the kernel; other programs of the machine may have run too.
func tools(programs map[string]int) float64 {
	n := 0
	for name, times := range programs {
		if strings.Contains(name, "tables") || strings.HasPrefix(name, "ipset") || strings.HasPrefix(name, "ipvsadm") || name == "modprobe" {
			n += times
		}
	}
	return float64(n)
}
