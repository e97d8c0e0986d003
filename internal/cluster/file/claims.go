// SPDX-License-Identifier: Apache-2.0

package file

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// claims says which file's object counts if several define the same: the first by file name, and in a file
// the first by line.
type claims map[identity][]claim

type claim struct {
	file string
	kept
}

// kept is an object of a file as it is remembered.
type kept struct {
	id      identity
	line    int
	service cluster.Service
	slice   cluster.Slice
	node    *corev1.Node
}

// keep packs the objects of a file.
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

// replace puts the objects of a file in the place of those it had before, and returns the identities that
// either had.
func (c claims) replace(file string, before, after []kept) map[identity]bool {
	touched := map[identity]bool{}
	for _, o := range before {
		touched[o.id] = true
		c[o.id] = slices.DeleteFunc(c[o.id], func(other claim) bool { return other.file == file })
	}
	for _, o := range after {
		touched[o.id] = true
		c[o.id] = append(c[o.id], claim{file, o})
	}
	for id := range touched {
		slices.SortStableFunc(c[id], func(a, b claim) int { return cmp.Compare(a.file, b.file) })
		if len(c[id]) == 0 {
			delete(c, id)
		}
	}
	return touched
}

// lost are the problems of a file whose objects other files or lines define before it does.
func (c claims) lost(file string, objects []kept) []Problem {
	var all []Problem
	for _, o := range objects {
		first := c[o.id][0]
		if first.file == file && first.kept == o {
			continue
		}
		p := Problem{Line: o.line, Object: o.id.String(), Text: "is defined in " + first.file + " too, which counts"}
		if first.file == file {
			p.Text = "is defined above too, which counts"
		}
		all = append(all, p)
	}
	return all
}

// files are those that claim one of ids.
func (c claims) files(ids map[identity]bool) map[string]bool {
	all := map[string]bool{}
	for id := range ids {
		for _, claim := range c[id] {
			all[claim.file] = true
		}
	}
	return all
}
