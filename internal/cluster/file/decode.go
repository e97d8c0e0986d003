// SPDX-License-Identifier: Apache-2.0

package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// decoder fills API types from trees, by their JSON names, as encoding/json would. But it reports the line and field of
// a problem, and goes on to find the next one.
type decoder struct {
	fields map[reflect.Type]map[string][]int
	budget int    // number of values that may still be visited
	depth  int    // of maps merged into maps
	object string // the current one, for problems
	errors []Problem
	notes  []Problem
}

// newDecoder returns a decoder for a file of size bytes. A file holds hardly more values than bytes, and each is
// visited once and counted once more in its parent. A file that needs more has endless aliases to aliases.
func newDecoder(size int) *decoder {
	const spare = 100_000 // for honest use of aliases
	return &decoder{fields: map[reflect.Type]map[string][]int{}, budget: 4*size + spare}
}

func (d *decoder) fail(n *yaml.Node, field, format string, args ...any) {
	d.errors = append(d.errors, d.problem(n, field, format, args...))
}

func (d *decoder) note(n *yaml.Node, field, format string, args ...any) {
	d.notes = append(d.notes, d.problem(n, field, format, args...))
}

func (d *decoder) problem(n *yaml.Node, field, format string, args ...any) Problem {
	return Problem{Line: n.Line, Object: d.object, Field: field, Text: fmt.Sprintf(format, args...)}
}

// spend counts n and its direct children as visited, and reports whether the budget allows that.
func (d *decoder) spend(n *yaml.Node) bool {
	if d.budget < 0 {
		return false
	}
	d.budget -= 1 + len(n.Content)
	if d.budget < 0 {
		d.fail(n, "", "aliases expand to too much")
	}
	return d.budget >= 0
}

// resolve follows an alias, which never leads to another one.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// value fills v, which is settable, from n. null leaves v as it is.
func (d *decoder) value(n *yaml.Node, v reflect.Value, field string) {
	n = resolve(n)
	if !d.spend(n) || n.ShortTag() == "!!null" {
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if u, ok := v.Addr().Interface().(json.Unmarshaler); ok {
		d.scalar(n, u, field)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, field)
	case reflect.Slice:
		d.list(n, v, field)
	case reflect.Map:
		d.dictionary(n, v, field)
	default:
		d.plain(n, v, field)
	}
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, field string) {
	known := d.fieldsOf(v.Type())
	for _, p := range d.pairs(n, field) {
		index, ok := known[p.name]
		switch {
		case !ok:
			d.note(p.key, join(field, p.name), "unknown field")
		case v.FieldByIndex(index).Type() == reflect.TypeFor[[]metav1.ManagedFieldsEntry]():
			// Half of many an object, and not used.
		default:
			d.value(p.value, v.FieldByIndex(index), join(field, p.name))
		}
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, field string) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, field, "expected list, got %s", describe(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, v.Index(i), field+"["+strconv.Itoa(i)+"]")
	}
}

func (d *decoder) dictionary(n *yaml.Node, v reflect.Value, field string) {
	v.Set(reflect.MakeMap(v.Type()))
	for _, p := range d.pairs(n, field) {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(p.value, item, field+"["+p.name+"]")
		v.SetMapIndex(reflect.ValueOf(p.name).Convert(v.Type().Key()), item)
	}
}

func (d *decoder) plain(n *yaml.Node, v reflect.Value, field string) {
	tag := n.ShortTag()
	switch {
	case v.Kind() == reflect.String && (tag == "!!str" || tag == "!!timestamp"):
		v.SetString(n.Value)
	case v.Kind() == reflect.String:
		d.fail(n, field, "expected string, got %s", describe(n))
	case v.Kind() == reflect.Bool && tag == "!!bool":
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case v.Kind() == reflect.Bool:
		d.fail(n, field, "expected true or false, got %s", describe(n))
	case !v.CanInt():
		d.note(n, field, "unknown field")
	case tag != "!!int":
		d.fail(n, field, "expected number, got %s", describe(n))
	default:
		number, err := strconv.ParseInt(n.Value, 0, v.Type().Bits())
		if err != nil {
			d.fail(n, field, "expected number of %d bits, got %s", v.Type().Bits(), describe(n))
		}
		v.SetInt(number)
	}
}

// scalar fills a type that reads its own JSON: a time, a quantity, or a number or name.
func (d *decoder) scalar(n *yaml.Node, u json.Unmarshaler, field string) {
	text, err := json.Marshal(n.Value)
	if tag := n.ShortTag(); tag != "!!str" && tag != "!!timestamp" && json.Valid([]byte(n.Value)) {
		text = []byte(n.Value)
	}
	if n.Kind != yaml.ScalarNode {
		d.fail(n, field, "expected single value, got %s", describe(n))
	} else if err = errors.Join(err, u.UnmarshalJSON(text)); err != nil {
		d.fail(n, field, "%v", err)
	}
}

// describe describes n: `string "http"`, "number 12", "list".
func describe(n *yaml.Node) string {
	const most = 40
	value := n.Value
	if len(value) > most {
		value = value[:most] + "..."
	}
	switch tag := n.ShortTag(); {
	case n.Kind == yaml.SequenceNode:
		return "list"
	case n.Kind == yaml.MappingNode:
		return "map"
	case tag == "!!int" || tag == "!!float":
		return "number " + value
	case tag == "!!bool" || tag == "!!null":
		return tag[2:] + " " + value
	}
	return fmt.Sprintf("string %q", value)
}

func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

// fieldsOf maps the JSON names of a struct type's fields to their index, inlined structs included.
func (d *decoder) fieldsOf(t reflect.Type) map[string][]int {
	if known, ok := d.fields[t]; ok {
		return known
	}
	known := map[string][]int{}
	d.fields[t] = known
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			known[name] = f.Index
		}
	}
	return known
}

type pair struct {
	name       string
	key, value *yaml.Node
}

// pairs returns the entries of a map in the order of the file, last those merged in by "<<", which replace none.
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
			d.fail(key, join(field, key.Value), "is already defined in line %d", line)
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

// merged returns the entries that "<<" brings into a map: from one map, or a list, of which the first wins.
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

// lookup returns the value of a name in a map, or nil.
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

func text(n *yaml.Node, name string) string {
	if value := lookup(n, name); value != nil && value.ShortTag() == "!!str" {
		return value.Value
	}
	return ""
}
