// SPDX-License-Identifier: Apache-2.0

package report

import "fmt"

// aim is something that a release is to reach, as a line of the page.
type aim struct {
	what  string
	want  string
	found func(Report) (string, bool)
}

// The sizes that aims are about.
func tiny() size   { return size{100, 10} }
func usual() size  { return size{1000, 10} }
func larger() size { return size{10000, 10} }

func aims() []aim {
	return []aim{
		{"programming 10,000 x 10, against the floor", "at most 1.5 x", func(r Report) (string, bool) {
			f := r.floor(larger())
			if f == nil || len(f.Ours) == 0 {
				return "", false
			}
			return times(float64(Median(f.Ours) / Median(f.Sums()))), true
		}},
		{"cold start at 1,000 x 10, against kube-proxy's", "at least 50 x faster", func(r Report) (string, bool) {
			a, b := r.working(Ours, usual()), r.working(Theirs, usual())
			if a == nil || b == nil || len(a.Cold) == 0 || len(b.Cold) == 0 {
				return "", false
			}
			return times(float64(Median(b.Starts()) / Median(a.Starts()))), true
		}},
		{"one endpoint's change, 10,000 x 10 against 100 x 10", "at most 3 x", func(r Report) (string, bool) {
			return ratio(r.added(Ours, tiny()), r.added(Ours, larger()))
		}},
		{"one endpoint's change, kube-proxy's at 1,000 x 10 against ours at 10,000 x 10", "at least 200 x", func(r Report) (string, bool) {
			return ratio(r.added(Ours, larger()), r.added(Theirs, usual()))
		}},
		{"100 changes a second at 10,000 x 10: p99", "under 1 s", func(r Report) (string, bool) {
			return r.busy(func(r Run) *Load { return r.Load })
		}},
		{"the same, stored in etcd past the API server: p99", "under 1 s", func(r Report) (string, bool) {
			return r.busy(func(r Run) *Load { return r.Stored })
		}},
		{"resident memory: ours at 10,000 x 10, kube-proxy at 1,000 x 10", "less", func(r Report) (string, bool) {
			a, b := r.working(Ours, larger()), r.working(Theirs, usual())
			if a == nil || b == nil || a.Steady == nil || b.Steady == nil {
				return "", false
			}
			return bytes(float64(a.Steady.Resident)) + ", " + bytes(float64(b.Steady.Resident)), true
		}},
		{"idle at 10,000 x 10, the median second", "no CPU worth measuring", func(r Report) (string, bool) {
			run := r.working(Ours, larger())
			if run == nil || run.Steady == nil {
				return "", false
			}
			return seconds(float64(run.Steady.Quiet)), true
		}},
	}
}

// busy is one of the loads of ours at the larger size.
func (r Report) busy(of func(Run) *Load) (string, bool) {
	run := r.working(Ours, larger())
	if run == nil || of(*run) == nil {
		return "", false
	}
	l := of(*run)
	return fmt.Sprintf("%s at %.1f a second, CPU %s a change", seconds(float64(l.Took.P99)), l.Written, seconds(float64(l.CPU))), true
}

// glance is the aims of which the report has the figures.
func (r Report) glance(add func(string, ...any)) {
	var lines []string
	for _, a := range aims() {
		if found, ok := a.found(r); ok {
			lines = append(lines, fmt.Sprintf("| %s | %s | %s |", a.what, a.want, found))
		}
	}
	if len(lines) == 0 {
		return
	}
	add("| | wanted | found |\n| --- | --- | --- |")
	for _, line := range lines {
		add("%s", line)
	}
	add("")
}

// working is the run of a program that has figures; nil if there is none.
func (r Report) working(program string, s size) *Run {
	run := r.find(program, s)
	if run == nil || run.Failure != "" {
		return nil
	}
	return run
}

// added is the median of one endpoint's coming; nothing if it was not measured.
func (r Report) added(program string, s size) Seconds {
	if run := r.working(program, s); run != nil {
		if c := run.Change(Added); c != nil {
			return Median(c.Took)
		}
	}
	return 0
}

func ratio(a, b Seconds) (string, bool) {
	if a <= 0 || b <= 0 {
		return "", false
	}
	return times(float64(b / a)), true
}
