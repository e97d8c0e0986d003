// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Objects are a Service and its EndpointSlices, sorted by name. They are never changed, so that all who know
// of them share them: there is one copy, and it is packed. Nil Objects are none.
type Objects struct {
	Service Service
	Slices  []Slice
}

// Pack returns Objects of a Service and its EndpointSlices, which it does not keep; none without a Service.
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

// Unpack returns the objects as the API has them, but for what is not read. They are the caller's own.
func (o *Objects) Unpack() (*corev1.Service, []*discoveryv1.EndpointSlice) {
	if o == nil {
		return nil, nil
	}
	return o.Service.Object(), unpack(o.Slices)
}

// With returns Objects in which s is in place of the EndpointSlice of its name.
func (o *Objects) With(s Slice) *Objects {
	var fresh Objects
	if o != nil {
		fresh = *o
	}
	own, _ := s.Names()
	i, there := fresh.find(own.Name)
	fresh.Slices = slices.Concat(fresh.Slices[:i], []Slice{s}, fresh.Slices[i+count(there):])
	return &fresh
}

// without returns Objects in which there is no EndpointSlice of this name.
func (o *Objects) without(name string) *Objects {
	fresh := *o
	i, there := fresh.find(name)
	fresh.Slices = slices.Concat(fresh.Slices[:i], fresh.Slices[i+count(there):])
	return &fresh
}

// find says where the EndpointSlice of this name is, or would be.
func (o *Objects) find(name string) (int, bool) {
	return slices.BinarySearchFunc(o.Slices, name, func(s Slice, name string) int {
		own, _ := s.Names()
		return cmp.Compare(own.Name, name)
	})
}

func count(there bool) int {
	if there {
		return 1
	}
	return 0
}

// Moved are the EndpointSlices that a Service had and has not any more, and those that it did not have. If
// many changed, some that did not may be among both.
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
