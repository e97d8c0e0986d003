// SPDX-License-Identifier: Apache-2.0

package file

import "go.yaml.in/yaml/v3"

// pair is one name of a map, and what it stands for.
type pair struct {
	name       string
	key, value *yaml.Node
}

// pairs are the pairs of a map in the order of the file. Those that are merged in with "<<" come last and do
// not replace any.
func (d *decoder) pairs(n *yaml.Node, field string) []pair {
	if n.Kind != yaml.MappingNode {
		d.fail(n, field, "expected map, got %s", describe(n))
		return nil
	}
	var all []pair
	first := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := resolve(n.Content[i])
		line, twice := first[key.Value]
		switch {
		case key.Tag == "!!merge":
			continue
		case key.Kind != yaml.ScalarNode:
			d.fail(key, field, "expected name, got %s", describe(key))
		case twice:
			d.fail(key, join(field, key.Value), "is there already in line %d", line)
		default:
			first[key.Value] = key.Line
			all = append(all, pair{key.Value, key, n.Content[i+1]})
		}
	}
	for _, p := range d.merged(n, field) {
		if _, there := first[p.name]; !there {
			first[p.name] = p.key.Line
			all = append(all, p)
		}
	}
	return all
}

// merged are the pairs that "<<" brings into a map: from one map or, with those of the first winning, from a
// list of them.
func (d *decoder) merged(n *yaml.Node, field string) []pair {
	if d.depth++; d.depth > maxDepth {
		d.fail(n, field, "nested too deeply")
		d.budget = -1
	}
	defer func() { d.depth-- }()
	var all []pair
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag != "!!merge" {
			continue
		}
		sources := []*yaml.Node{resolve(n.Content[i+1])}
		if sources[0].Kind == yaml.SequenceNode {
			sources = sources[0].Content
		}
		for _, source := range sources {
			// A map can be merged into itself: only depth and budget end that.
			if source = resolve(source); d.spend(source) {
				all = append(all, d.pairs(source, field)...)
			}
		}
	}
	return all
}

// lookup returns what a map has for a name, or nil.
func lookup(n *yaml.Node, name string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return resolve(n.Content[i+1])
		}
	}
	return nil
}

// text is the text that a map has for a name, or empty.
func text(n *yaml.Node, name string) string {
	if value := lookup(n, name); value != nil && value.ShortTag() == "!!str" {
		return value.Value
	}
	return ""
}
