// SPDX-License-Identifier: Apache-2.0

package file

import (
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// object is one object of a file. Exactly one of the three pointers is set.
type object struct {
	id      identity
	line    int
	service *corev1.Service
	slice   *discoveryv1.EndpointSlice
	node    *corev1.Node
}

type contents struct {
	objects []object       // in the order of the file
	ignored map[string]int // "apps/v1 Deployment" -> how many
	errors  []Problem      // any: the file is broken, objects are incomplete
	notes   []Problem      // strange, but the objects are used
}

// The kinds that are used, by apiVersion and kind.
const (
	serviceKind = "v1 Service"
	nodeKind    = "v1 Node"
	sliceKind   = "discovery.k8s.io/v1 EndpointSlice"
)

// parse reads the objects of one file: JSON if its name says so, otherwise YAML.
func parse(name string, content []byte) contents {
	all, syntax := documents(name, content)
	if syntax != nil {
		return contents{errors: []Problem{*syntax}}
	}
	p := parser{decoder: newDecoder(len(content)), contents: contents{ignored: map[string]int{}}}
	for _, document := range all {
		p.document(document, metav1.TypeMeta{}, 0)
	}
	p.contents.errors, p.contents.notes = p.decoder.errors, p.decoder.notes
	return p.contents
}

type parser struct {
	*decoder
	contents contents
}

// document reads one object or list. Items of a ServiceList inherit its kind if they have none.
func (p *parser) document(n *yaml.Node, inherited metav1.TypeMeta, depth int) {
	n = resolve(n)
	p.object = ""
	if !p.spend(n) || n.ShortTag() == "!!null" {
		return
	}
	if n.Kind != yaml.MappingNode {
		p.fail(n, "", "expected object, got %s", describe(n))
		return
	}
	is := metav1.TypeMeta{APIVersion: text(n, "apiVersion"), Kind: text(n, "kind")}
	if is.Kind == "" {
		is = inherited
	}
	switch kind := is.APIVersion + " " + is.Kind; {
	case is.Kind == "":
		p.fail(n, "kind", "is missing")
	case is.APIVersion == "":
		p.fail(n, "apiVersion", "is missing")
	case isList(kind):
		p.list(n, is, depth)
	case kind == serviceKind || kind == sliceKind || kind == nodeKind:
		p.one(n, is)
	default:
		p.contents.ignored[kind]++
	}
}

func isList(kind string) bool {
	return kind == "v1 List" || kind == serviceKind+"List" || kind == nodeKind+"List" || kind == sliceKind+"List"
}

func (p *parser) list(n *yaml.Node, is metav1.TypeMeta, depth int) {
	const deepest = 10
	is.Kind = strings.TrimSuffix(is.Kind, "List")
	items := lookup(n, "items")
	switch {
	case items == nil || items.ShortTag() == "!!null":
	case items.Kind != yaml.SequenceNode:
		p.fail(items, "items", "expected list, got %s", describe(items))
	case depth == deepest:
		p.fail(n, "", "nested too deeply")
	default:
		for _, item := range items.Content {
			p.document(item, is, depth+1)
		}
	}
}

func (p *parser) one(n *yaml.Node, is metav1.TypeMeta) {
	o := object{line: n.Line, id: identity{kind: is.Kind, name: nameOf(n, is.Kind)}}
	p.decoder.object = o.id.String()
	before := len(p.errors)
	switch is.Kind {
	case "Service":
		o.service = decode(p, n, o.id, &corev1.Service{TypeMeta: is})
		defaultService(o.service)
	case "EndpointSlice":
		o.slice = decode(p, n, o.id, &discoveryv1.EndpointSlice{TypeMeta: is})
		defaultSlice(o.slice)
	case "Node":
		o.node = decode(p, n, o.id, &corev1.Node{TypeMeta: is})
	}
	if len(p.errors) == before {
		p.check(n, o)
		p.contents.objects = append(p.contents.objects, o)
	}
}

func decode[T metav1.Object](p *parser, n *yaml.Node, id identity, into T) T {
	p.value(n, reflect.ValueOf(into).Elem(), "")
	into.SetNamespace(id.name.Namespace)
	return into
}

// nameOf returns the name of an object that may be invalid. The namespace defaults to "default", as in kubectl.
func nameOf(n *yaml.Node, kind string) types.NamespacedName {
	meta := lookup(n, "metadata")
	name := types.NamespacedName{Namespace: text(meta, "namespace"), Name: text(meta, "name")}
	switch {
	case kind == "Node":
		name.Namespace = ""
	case name.Namespace == "":
		name.Namespace = metav1.NamespaceDefault
	}
	return name
}
