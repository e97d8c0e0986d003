// SPDX-License-Identifier: Apache-2.0

package file

import (
	"maps"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// change is the result of one reading.
type change struct {
	cluster.Changes
	reports []Report
}

// pass is one reading of files into a folder.
type pass struct {
	*folder
	change
	fresh    map[string]bool   // files with new content
	doubtful map[string]bool   // files whose problems may have changed
	affected map[identity]bool // objects that were or are in fresh files
}

func (f *folder) begin() *pass {
	return &pass{folder: f, fresh: map[string]bool{}, doubtful: map[string]bool{}, affected: map[identity]bool{}}
}

// take takes in the contents of a file. If they are broken, its last valid objects stay.
func (p *pass) take(name string, c contents) {
	m := p.files[name]
	p.fresh[name] = true
	m.broken, m.ignored, m.problems = len(c.errors) > 0, c.ignored, append(c.errors, c.notes...)
	if !m.broken {
		objects := keep(c.objects)
		p.claims.replace(name, m.objects, objects, p.affected)
		m.objects = objects
	}
}

// end updates the index and returns what changed.
func (p *pass) end() change {
	for id := range p.affected {
		if all := p.claims[id]; len(all) > 0 {
			p.set(all[0].kept)
		} else {
			p.unset(id)
		}
		for _, claim := range p.claims[id] {
			p.doubtful[claim.file] = true
		}
	}
	maps.Copy(p.doubtful, p.fresh)
	for _, name := range slices.Sorted(maps.Keys(p.doubtful)) {
		p.report(name)
	}
	return p.change
}

func (p *pass) set(o kept) {
	switch {
	case !o.service.IsZero():
		p.Add(p.index.SetService(o.service))
	case !o.slice.IsZero():
		p.Add(p.index.SetSlice(o.slice))
	default:
		p.AddPlace(p.index.SetNode(o.node))
	}
}

func (p *pass) unset(id identity) {
	switch id.kind {
	case "Service":
		p.Add(p.index.DeleteService(id.name))
	case "EndpointSlice":
		p.Add(p.index.DeleteSlice(id.name))
	default:
		p.AddPlace(p.index.DeleteNode(id.name.Name))
	}
}

// report adds a report of a file, unless neither its content nor its problems changed. Problems also change
// when another file begins or ceases to claim its objects.
func (p *pass) report(name string) {
	m := p.files[name]
	problems := capped(name, slices.Concat(m.problems, p.claims.lost(name, m.objects)))
	var texts []string
	for _, err := range problems {
		texts = append(texts, err.Error())
	}
	if !p.fresh[name] && slices.Equal(texts, m.reported) {
		return
	}
	p.reports = append(p.reports, Report{
		File: name, Problems: problems, Broken: m.broken, Good: len(m.reported) > 0 && len(texts) == 0,
		Objects: len(m.objects), Ignored: m.ignored,
	})
	m.reported = texts
}
