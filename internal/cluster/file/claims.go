// SPDX-License-Identifier: Apache-2.0

package file

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// claims decides which of several definitions counts: the first by file name, then by line.
type claims map[identity][]claim

type claim struct {
	file string
	kept
}

// kept is an object of a file in compact form.
type kept struct {
	id      identity
	line    int
	service cluster.Service
	slice   cluster.Slice
	node    *corev1.Node
}

func keep(all []object) []kept {
	var list []kept
	for _, o := range all {
		k := kept{id: o.id, line: o.line, node: o.node}
		switch {
		case o.service != nil:
			k.service = cluster.OfService(o.service)
		case o.slice != nil:
			k.slice = cluster.OfSlice(o.slice)
		}
		list = append(list, k)
	}
	return list
}

// replace replaces the objects of a file, and marks the identities that were or are in it as affected.
func (c claims) replace(file string, before, after []kept, affected map[identity]bool) {
	for _, o := range before {
		c[o.id] = slices.DeleteFunc(c[o.id], func(other claim) bool { return other.file == file })
	}
	for _, o := range after {
		c[o.id] = append(c[o.id], claim{file, o})
	}
	for _, o := range slices.Concat(before, after) {
		affected[o.id] = true
		slices.SortStableFunc(c[o.id], func(a, b claim) int { return cmp.Compare(a.file, b.file) })
		if len(c[o.id]) == 0 {
			delete(c, o.id)
		}
	}
}

// lost returns a problem for each object of a file that is also defined in a place that counts before it.
func (c claims) lost(file string, objects []kept) []Problem {
	var all []Problem
	for _, o := range objects {
		first := c[o.id][0]
		if first.file == file && first.kept == o {
			continue
		}
		p := Problem{Line: o.line, Object: o.id.String(), Text: "is also defined in " + first.file + ", which counts"}
		if first.file == file {
			p.Text = "is also defined above, which counts"
		}
		all = append(all, p)
	}
	return all
}
