// SPDX-License-Identifier: Apache-2.0

package file

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// settle brings the index to what now counts of each identity.
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
		c.add(f.index.SetService(o.service))
	case !o.slice.IsZero():
		c.add(f.index.SetSlice(o.slice))
	default:
		c.nodes = f.index.SetNode(o.node) || c.nodes
	}
}

func (f *folder) unset(c *change, id identity) {
	switch id.kind {
	case "Service":
		c.add(f.index.DeleteService(id.name))
	case "EndpointSlice":
		c.add(f.index.DeleteSlice(id.name))
	default:
		c.nodes = f.index.DeleteNode(id.name.Name) || c.nodes
	}
}

func (c *change) add(keys []types.NamespacedName) {
	for _, key := range keys {
		c.services[key] = true
	}
}

// report adds reports of the files with fresh content, and of the doubtful ones if their problems are not
// what was told last: another file may claim what they claim, or no more.
func (f *folder) report(c *change, fresh, doubtful map[string]bool) {
	names := maps.Clone(doubtful)
	maps.Copy(names, fresh)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		m := f.files[name]
		problems := capped(name, slices.Concat(m.problems, f.claims.lost(name, m.objects)))
		texts := textsOf(problems)
		if !fresh[name] && slices.Equal(texts, m.told) {
			continue
		}
		c.reports = append(c.reports, Report{
			File: name, Problems: problems, Broken: m.broken, Good: len(m.told) > 0 && len(texts) == 0,
			Objects: len(m.objects), Ignored: m.ignored,
		})
		m.told = texts
	}
}

func textsOf(all []error) []string {
	var texts []string
	for _, err := range all {
		texts = append(texts, err.Error())
	}
	return texts
}
