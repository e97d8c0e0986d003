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

// decoder fills API types from trees, by their JSON names, as encoding/json would, but says which field in
// which line is wrong, and goes on to find the next one. The usual way through JSON loses the lines.
type decoder struct {
	fields map[reflect.Type]map[string][]int
	budget int    // values that may still be visited
	depth  int    // of maps merged into maps
	object string // what is decoded, for problems
	errors []Problem
	notes  []Problem
}

// newDecoder returns a decoder for a file of size bytes. A file holds hardly more values than bytes, and each
// is visited once and counted once more by what it is in. Whoever needs more follows aliases to aliases
// without end.
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

// spend accounts for the visit of n and what is directly in it, and says whether there is an end to all this.
func (d *decoder) spend(n *yaml.Node) bool {
	if d.budget < 0 {
		return false
	}
	d.budget -= 1 + len(n.Content)
	if d.budget < 0 {
		d.fail(n, "", "aliases stand for too much")
	}
	return d.budget >= 0
}

// resolve follows an alias. An alias never leads to an alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// value fills v, which can be set, from n. The tag null leaves v as it is.
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
			// Half of many an object, and nobody here reads it.
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

// scalar fills a type that reads its own JSON: a time, a quantity, a number or a name.
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

// describe says what n is: `string "http"`, "number 12", "list".
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

// fieldsOf maps the JSON names of a struct type's fields to where they are, those of inlined structs
// included.
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
