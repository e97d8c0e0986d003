// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Objects are a Service and its EndpointSlices, sorted by name. They are never changed, so they can be
// shared: there is one copy of each, in compact form. nil: there is no such Service.
type Objects struct {
	Service Service
	Slices  []Slice
}

// Pack returns the Objects of a Service and its EndpointSlices, which it does not keep; nil without a
// Service.
func Pack(service *corev1.Service, all ...*discoveryv1.EndpointSlice) *Objects {
	if service == nil {
		return nil
	}
	o := &Objects{Service: OfService(service)}
	for _, s := range all {
		o = o.With(OfSlice(s))
	}
	return o
}

// Unpack returns new API objects, without the fields that are not read.
func (o *Objects) Unpack() (*corev1.Service, []*discoveryv1.EndpointSlice) {
	if o == nil {
		return nil, nil
	}
	return o.Service.Object(), unpack(o.Slices)
}

// With returns Objects that have s in place of the EndpointSlice of its name.
func (o *Objects) With(s Slice) *Objects {
	var fresh Objects
	if o != nil {
		fresh = *o
	}
	own, _ := s.Names()
	before, after := fresh.around(own.Name)
	fresh.Slices = slices.Concat(before, []Slice{s}, after)
	return &fresh
}

// without returns Objects that lack the EndpointSlice of this name.
func (o *Objects) without(name string) *Objects {
	return &Objects{o.Service, slices.Concat(o.around(name))}
}

// around returns the EndpointSlices before and after this name.
func (o *Objects) around(name string) (before, after []Slice) {
	i, found := slices.BinarySearchFunc(o.Slices, name, func(s Slice, name string) int {
		own, _ := s.Names()
		return cmp.Compare(own.Name, name)
	})
	before, after = o.Slices[:i], o.Slices[i:]
	if found {
		after = after[1:]
	}
	return before, after
}

// Moved returns the EndpointSlices that a Service lost, and those that it got. If many changed, some that did
// not may be among both.
func Moved(before, now *Objects) (left, came []*discoveryv1.EndpointSlice) {
	var was, is []Slice
	if before != nil {
		was = before.Slices
	}
	if now != nil {
		is = now.Slices
	}
	for len(was) > 0 && len(is) > 0 && was[0].Same(is[0]) {
		was, is = was[1:], is[1:]
	}
	for len(was) > 0 && len(is) > 0 && was[len(was)-1].Same(is[len(is)-1]) {
		was, is = was[:len(was)-1], is[:len(is)-1]
	}
	return unpack(was), unpack(is)
}

func unpack(all []Slice) []*discoveryv1.EndpointSlice {
	var list []*discoveryv1.EndpointSlice
	for _, s := range all {
		list = append(list, s.Object())
	}
	return list
}
