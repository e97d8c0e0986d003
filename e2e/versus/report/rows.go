// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// figure is what a cell shows: a number, two of which the first counts, or nothing.
type figure struct {
	value  float64
	second float64
	pair   bool
	there  bool
	why    string // there is none
}

func none(why string) figure { return figure{why: why} }

func number[T ~float64 | ~int | ~int64](v T) figure { return figure{value: float64(v), there: true} }

func two(a, b Seconds) figure {
	return figure{value: float64(a), second: float64(b), pair: true, there: true}
}

// is reports whether there is anything to say.
func (f figure) is() bool { return f.there }

func (f figure) text(write func(float64) string) string {
	switch {
	case !f.there:
		return f.why
	case f.pair:
		return write(f.value) + " / " + write(f.second)
	}
	return write(f.value)
}

// ratioOf is how many times the second figure is the first.
func ratioOf(a, b figure) string {
	if !a.there || !b.there || a.value <= 0 || b.value <= 0 {
		return ""
	}
	return times(b.value / a.value)
}

// row is one line of a table.
type row struct {
	name  string
	write func(float64) string
	get   func(Run) figure
}

// of is the figure of a run, or why there is none.
func (r row) of(run *Run) figure {
	switch {
	case run == nil:
		return none("")
	case run.Failure != "":
		return none("no figure")
	}
	f := r.get(*run)
	if !f.there && f.why == "" && run.Exceeded != "" {
		f.why = "not in time"
	}
	return f
}

// rows are all lines of a table.
func rows() []row {
	list := []row{
		{"cold start", seconds, func(r Run) figure { return median(r, func(c Cold) Seconds { return c.Took }) }},
		{"cold start: CPU time", seconds, func(r Run) figure { return median(r, func(c Cold) Seconds { return c.CPU }) }},
		{"cold start: writing to the kernel", seconds, func(r Run) figure { return median(r, func(c Cold) Seconds { return c.Kernel }) }},
	}
	for _, kind := range Kinds() {
		list = append(list, row{kind, seconds, func(r Run) figure { return change(r, kind, func(c Change) []Seconds { return c.Took }) }})
	}
	list = append(list, row{"the API server's answer to these, p50 / p99", seconds, func(r Run) figure {
		return change(r, Added, func(c Change) []Seconds { return c.Answered })
	}})
	return slices.Concat(list, loadRows(), restartRows(), steadyRows())
}

func median(r Run, one func(Cold) Seconds) figure {
	m := Median(r.Each(one))
	if math.IsNaN(float64(m)) || m == 0 {
		return none("")
	}
	return number(m)
}

func change(r Run, kind string, of func(Change) []Seconds) figure {
	c := r.Change(kind)
	if c == nil {
		return none("")
	}
	return two(Median(of(*c)), Quantile(of(*c), 0.99))
}

// when is a row of something that a run may not have.
func when[T any](name string, write func(float64) string, part func(Run) *T, get func(T) figure) row {
	return row{name, write, func(r Run) figure {
		if p := part(r); p != nil {
			return get(*p)
		}
		return none("")
	}}
}

func loadRows() []row {
	load, stored := func(r Run) *Load { return r.Load }, func(r Run) *Load { return r.Stored }
	return []row{
		when("load: changes a second that were written", plain, load, func(l Load) figure { return number(l.Written) }),
		when("load: one change, p50 / p99", seconds, load, func(l Load) figure { return two(l.Took.P50, l.Took.P99) }),
		when("load: the API server's answer, p50 / p99", seconds, load, func(l Load) figure { return two(l.Answered.P50, l.Answered.P99) }),
		when("load: CPU time for one change", seconds, load, func(l Load) figure { return number(l.CPU) }),
		when("load: behind the last write", seconds, load, func(l Load) figure { return number(l.Last) }),
		when("load stored in etcd: changes a second that were written", plain, stored, func(l Load) figure { return number(l.Written) }),
		when("load stored in etcd: one change, p50 / p99", seconds, stored, func(l Load) figure { return two(l.Took.P50, l.Took.P99) }),
		when("load stored in etcd: CPU time for one change", seconds, stored, func(l Load) figure { return number(l.CPU) }),
	}
}

func restartRows() []row {
	restart := func(r Run) *Restart { return r.Restart }
	return []row{
		when("restart: until done", seconds, restart, func(r Restart) figure { return number(r.Took) }),
		when("restart: rows written", whole, restart, func(r Restart) figure {
			if r.Written < 0 {
				return none("does not say")
			}
			return number(r.Written)
		}),
		when("restart: notices of the kernel", whole, restart, func(r Restart) figure { return number(r.Notices) }),
		when("restart: programs run", whole, restart, func(r Restart) figure { return number(tools(r.Programs)) }),
	}
}

func steadyRows() []row {
	steady := func(r Run) *Steady { return r.Steady }
	return []row{
		when("idle: CPU time in a minute", seconds, steady, func(s Steady) figure { return number(s.CPU / s.Lasted * 60) }),
		when("idle: CPU time in the median second", seconds, steady, func(s Steady) figure { return number(s.Quiet) }),
		when("idle: programs run in a minute", whole, steady, func(s Steady) figure { return number(tools(s.Programs)) }),
		when("resident memory", bytes, steady, func(s Steady) figure { return number(s.Resident) }),
		when("resident memory at most", bytes, steady, func(s Steady) figure { return number(s.Peak) }),
	}
}

// tools is how many of the programs are those that write to the kernel; others may have run for others.
func tools(programs map[string]int) int {
	n := 0
	for name, times := range programs {
		if strings.Contains(name, "tables") || strings.HasPrefix(name, "ipset") || strings.HasPrefix(name, "ipvsadm") || name == "modprobe" {
			n += times
		}
	}
	return n
}

// seconds writes a time with three digits that count.
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

// digits writes a number with three digits that count, and without a power of ten.
func digits(v float64) string {
	after := 2 - int(math.Floor(math.Log10(v*1.0005)))
	return strconv.FormatFloat(v, 'f', max(after, 0), 64)
}

func whole(v float64) string     { return thousands(int(v)) }
func plain(v float64) string     { return strconv.FormatFloat(v, 'f', 1, 64) }
func mebibytes(v float64) string { return fmt.Sprintf("%.0f MiB", v) }
func bytes(v float64) string     { return mebibytes(v / (1 << 20)) }

func times(v float64) string {
	if v < 9.95 {
		return fmt.Sprintf("%.2f x", v)
	}
	return thousands(int(math.Round(v))) + " x"
}

// thousands writes 10000 as 10,000.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
