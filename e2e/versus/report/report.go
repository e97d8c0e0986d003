// SPDX-License-Identifier: Apache-2.0

// Package report is what was measured of service proxies, and how people read it: as a table and as plots. It measures
// nothing. A program that did not do what it was timed for has no figure in it.
package report

import (
	"maps"
	"math"
	"slices"
	"time"
)

// The programs, and who else is measured.
const (
	Ours   = "kube-ipvs"
	Theirs = "kube-proxy"
	Least  = "floor" // the rows alone, in batches encoded beforehand
)

// Report is one run of the bench.
type Report struct {
	Began    time.Time
	Took     Seconds
	Machine  Machine
	Commands []string // how programs were started, and the bench itself
	Runs     []Run
	Floors   []Floor
	Unsaid   []string `json:",omitempty"` // what was left out, and why
}

// Seconds is a time as JSON has it.
type Seconds float64

// Of is a time in seconds.
func Of(d time.Duration) Seconds { return Seconds(d.Seconds()) }

// Machine is where the bench ran.
type Machine struct {
	Processor  string
	Processors int // that the lab's kernel has
	MemoryMiB  int // that the lab's kernel has
	Kernel     string
	Host       string `json:",omitempty"` // the kernel below, if the lab's is a program
	Versions   map[string]string
}

// Run is one program in a cluster of one size.
type Run struct {
	Program             string
	Services, Endpoints int
	Binding             string `json:",omitempty"` // by which means it takes packets to Service addresses

	// Failure says what the program did not do. Then it has no figures.
	Failure string `json:",omitempty"`
	// Exceeded is what the program had not done when its time was over. What would have come after was not tried.
	Exceeded string `json:",omitempty"`

	Cold    []Cold   `json:",omitempty"`
	Changes []Change `json:",omitempty"`
	Load    *Load    `json:",omitempty"`
	Stored  *Load    `json:",omitempty"` // past the API server, which tells of it
	Restart *Restart `json:",omitempty"`
	Steady  *Steady  `json:",omitempty"`
}

// Failed is the run without figures, and why.
func (r Run) Failed(why string) Run {
	return Run{Program: r.Program, Services: r.Services, Endpoints: r.Endpoints, Binding: r.Binding, Failure: why}
}

// Cold is a start on a node where nothing is.
type Cold struct {
	// Took is from the start of the process until the last row was in the kernel and a request through the last Service was
	// answered.
	Took Seconds
	// Rows is until the last row was seen, by itself.
	Rows Seconds
	// Kernel is how long the program says that it wrote to the kernel, of which it says so.
	Kernel Seconds `json:",omitempty"`
	CPU    Seconds // of it and its children
	// Again says that the numbers of rows were right before the rows were. Then the times are those at which a look at all
	// rows began that found them right.
	Again bool `json:",omitempty"`
}

// The kinds of changes.
const (
	Added          = "endpoint added"
	Removed        = "endpoint removed"
	Unready        = "endpoint made unready"
	ServiceAdded   = "Service added"
	ServiceDeleted = "Service deleted"
	ServiceGone    = "Service deleted, its last row gone"
)

// Kinds are all kinds of changes.
func Kinds() []string {
	return []string{Added, Removed, Unready, ServiceAdded, ServiceDeleted, ServiceGone}
}

// Change is how long one change takes, from the write to the API until the kernel has it, measured several times.
type Change struct {
	Kind string
	Took []Seconds
	// Answered is until the API server has answered the write, which is part of Took.
	Answered []Seconds
}

// Load is many changes a second for some time.
type Load struct {
	Asked   float64 // changes a second
	Written float64 // a second, as they were taken
	Changes int
	Took    Summary
	// Answered is until the writes were answered.
	Answered Summary
	// CPU is what the program and its children took for one change.
	CPU Seconds
	// Last is from the last write until the kernel had all.
	Last Seconds
}

// Restart is a start on a node where everything is in place.
type Restart struct {
	Took Seconds // from the start of the process until it says that it is done
	// Written is how many rows the program says that it wrote; -1 if it does not say.
	Written int
	// Notices are the kernel's own of addresses, routes and links that were changed.
	Notices  int
	Programs map[string]int // that it ran
}

// Steady is some time without changes.
type Steady struct {
	Lasted Seconds
	CPU    Seconds // of the program and its children
	// Busy is the CPU time of the busiest second, and Quiet of the median one.
	Busy, Quiet   Seconds
	Resident      int64 // bytes
	Peak          int64 // the most that ever were resident
	Programs      map[string]int
	CPUPerProgram map[string]Seconds `json:",omitempty"` // of those that it ran
}

// Floor is what the same rows cost when nothing is done but to write them.
type Floor struct {
	Services, Endpoints int
	Binding             string
	Groups              []string             // of tables, in the order of writing
	Laps                []map[string]Seconds // one for each time
	Ours                []Seconds            // how long ours wrote the same rows, each time
}

// Sums are how long all groups took together, each time.
func (f Floor) Sums() []Seconds {
	var list []Seconds
	for _, lap := range f.Laps {
		var sum Seconds
		for _, one := range lap {
			sum += one
		}
		list = append(list, sum)
	}
	return list
}

// Group is how long one group of tables took, each time.
func (f Floor) Group(name string) []Seconds {
	var list []Seconds
	for _, lap := range f.Laps {
		list = append(list, lap[name])
	}
	return list
}

// Summary is many times in a few numbers.
type Summary struct {
	P50, P90, P99, Most Seconds
}

// Summarize is the summary of some times.
func Summarize(list []Seconds) Summary {
	return Summary{Quantile(list, 0.5), Quantile(list, 0.9), Quantile(list, 0.99), Quantile(list, 1)}
}

// Quantile is the least of the times that so large a part of them does not exceed. It is no number if there are none.
func Quantile(list []Seconds, part float64) Seconds {
	if len(list) == 0 {
		return Seconds(math.NaN())
	}
	sorted := slices.Sorted(slices.Values(list))
	i := int(math.Ceil(part*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// Median is the middle one of some times.
func Median(list []Seconds) Seconds { return Quantile(list, 0.5) }

// Each is one of the times of each start.
func (r Run) Each(one func(Cold) Seconds) []Seconds {
	var list []Seconds
	for _, c := range r.Cold {
		list = append(list, one(c))
	}
	return list
}

// Took is how long starts took.
func (c Cold) took() Seconds { return c.Took }

// Starts are how long all starts took.
func (r Run) Starts() []Seconds { return r.Each(Cold.took) }

// Change is the run's change of a kind; nil if that was not measured.
func (r Run) Change(kind string) *Change {
	for i := range r.Changes {
		if r.Changes[i].Kind == kind && len(r.Changes[i].Took) > 0 {
			return &r.Changes[i]
		}
	}
	return nil
}

// size orders runs.
type size struct{ services, endpoints int }

// sizes are those of all runs, the number of endpoints first: the clusters that are alike but for their size stand together.
func (r Report) sizes() []size {
	set := map[size]bool{}
	for _, one := range r.Runs {
		set[size{one.Services, one.Endpoints}] = true
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b size) int {
		if n := a.services*a.endpoints - b.services*b.endpoints; n != 0 {
			return n
		}
		return a.services - b.services
	})
}

// find is the run of a program at a size; nil if there was none.
func (r Report) find(program string, s size) *Run {
	for i := range r.Runs {
		if one := &r.Runs[i]; one.Program == program && one.Services == s.services && one.Endpoints == s.endpoints {
			return one
		}
	}
	return nil
}

func (r Report) floor(s size) *Floor {
	for i := range r.Floors {
		if one := &r.Floors[i]; one.Services == s.services && one.Endpoints == s.endpoints && len(one.Laps) > 0 {
			return one
		}
	}
	return nil
}
