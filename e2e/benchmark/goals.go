// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// goal is something that a release has to reach, as a line of the page. What was not measured is empty.
type goal struct{ what, want, found string }

func (r Report) goals() []goal {
	tiny, usual, larger := size{100, 10}, size{1000, 10}, size{10000, 10}
	change, start := r.values(ours, larger, added), r.values(ours, usual, coldStart)
	return []goal{
		{"programming 10,000 x 10, against the floor", "at most 1.5 x", r.overFloor(larger)},
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

// values are those of a figure; none if a program has none at a size.
func (r Report) values(program string, s size, name string) []float64 {
	for _, f := range figures() {
		if f.name == name {
			_, values := f.cell(r.find(program, s))
			return values
		}
	}
	return nil
}

func (r Report) overFloor(s size) string {
	f := r.floor(s)
	if f == nil {
		return ""
	}
	return ratio(values(median(f.sums())), values(median(f.Ours)))
}

// beside writes the first values of figures, if all have one.
func beside(write func(float64) string, figures ...[]float64) (text string) {
	for i, f := range figures {
		if len(f) == 0 {
			return ""
		}
		if i > 0 {
			text += ", "
		}
		text += write(f[0])
	}
	return text
}

func (r Report) p99(load string, s size) string {
	took := r.values(ours, s, load+oneChange)
	if len(took) == 0 {
		return ""
	}
	written, cpu := r.values(ours, s, load+writtenRate), r.values(ours, s, load+cpuOfChange)
	return fmt.Sprintf("%s at %.1f a second, CPU %s a change", seconds(took[1]), written[0], seconds(cpu[0]))
}
