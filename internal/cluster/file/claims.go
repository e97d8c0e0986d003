// SPDX-License-Identifier: Apache-2.0

package file

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// claims decides which object counts if several files define the same one: the first by file name, and in a
// file the first by line.
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

// replace replaces the objects of a file, and returns the identities that were or are in it.
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

// files returns those that claim one of ids.
func (c claims) files(ids map[identity]bool) map[string]bool {
	all := map[string]bool{}
	for id := range ids {
		for _, claim := range c[id] {
			all[claim.file] = true
		}
	}
	return all
}

// settle updates the index to the objects that now count for ids.
func (f *folder) settle(c *change, ids map[identity]bool) {
	for id := range ids {
		if all := f.claims[id]; len(all) > 0 {
			f.set(c, all[0].kept)
		} else {
			f.unset(c, id)
		}
	}
}

func (f *folder) set(c *change, o kept) {
	switch {
	case !o.service.IsZero():
		c.Add(f.index.SetService(o.service))
	case !o.slice.IsZero():
		c.Add(f.index.SetSlice(o.slice))
	default:
		c.Place = f.index.SetNode(o.node) || c.Place
	}
}

func (f *folder) unset(c *change, id identity) {
	switch id.kind {
	case "Service":
		c.Add(f.index.DeleteService(id.name))
	case "EndpointSlice":
		c.Add(f.index.DeleteSlice(id.name))
	default:
		c.Place = f.index.DeleteNode(id.name.Name) || c.Place
	}
}

// report adds reports of the fresh files, and of the doubtful ones if their problems changed: another file
// may have begun or ceased to claim their objects.
func (f *folder) report(c *change, fresh, doubtful map[string]bool) {
	names := maps.Clone(doubtful)
	maps.Copy(names, fresh)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		m := f.files[name]
		problems := capped(name, slices.Concat(m.problems, f.claims.lost(name, m.objects)))
		texts := textsOf(problems)
		if !fresh[name] && slices.Equal(texts, m.reported) {
			continue
		}
		c.reports = append(c.reports, Report{
			File: name, Problems: problems, Broken: m.broken, Good: len(m.reported) > 0 && len(texts) == 0,
			Objects: len(m.objects), Ignored: m.ignored,
		})
		m.reported = texts
	}
}

func textsOf(all []error) []string {
	var texts []string
	for _, err := range all {
		texts = append(texts, err.Error())
	}
	return texts
}
