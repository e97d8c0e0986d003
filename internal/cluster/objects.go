// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Objects are a Service and its EndpointSlices, sorted by name. They are never changed, so they can be shared: there is
// one copy of each, in compact form. nil: there is no such Service.
type Objects struct {
	Service Service
	Slices  []Slice
}

// Pack returns the Objects of a Service and its EndpointSlices; nil without a Service.
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

// Moved returns the EndpointSlices that a Service lost and got. If many changed, both may have unchanged ones.
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

// Service holds what is read of a Service. Equal ones mean the same. The zero Service is none.
type Service struct{ text string }

// OfService packs a Service, which it does not keep.
func OfService(s *corev1.Service) Service {
	f := form{writing: true}
	f.service(s)
	return Service{string(f.out)}
}

// IsZero reports whether there is no Service.
func (s Service) IsZero() bool { return s.text == "" }

// Object returns a new API object, without the fields that are not read.
func (s Service) Object() *corev1.Service {
	o := &corev1.Service{}
	s.form().service(o)
	return o
}

// Key returns the Service's name.
func (s Service) Key() types.NamespacedName {
	var key types.NamespacedName
	s.form().key(&key.Namespace, &key.Name)
	return types.NamespacedName{Namespace: strings.Clone(key.Namespace), Name: strings.Clone(key.Name)}
}

func (s Service) form() *form { return &form{in: s.text} }

// Slice holds what is read of an EndpointSlice, and when it changed. The zero Slice is none.
type Slice struct{ text string }

// triggerSize is the size of the time of the change, which comes first. It says nothing about endpoints.
const triggerSize = 8

// OfSlice packs an EndpointSlice, which it does not keep.
func OfSlice(s *discoveryv1.EndpointSlice) Slice {
	var at int64
	if t, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil {
		at = t.UnixNano()
	}
	f := form{writing: true, out: binary.BigEndian.AppendUint64(nil, uint64(at))}
	f.slice(s)
	return Slice{string(f.out)}
}

// IsZero reports whether there is no EndpointSlice.
func (s Slice) IsZero() bool { return s.text == "" }

// Same reports whether two mean the same. They may have changed at different times.
func (s Slice) Same(o Slice) bool {
	return s == o || !s.IsZero() && !o.IsZero() && s.text[triggerSize:] == o.text[triggerSize:]
}

// Object returns a new API object, without the fields that are not read.
func (s Slice) Object() *discoveryv1.EndpointSlice {
	o := &discoveryv1.EndpointSlice{}
	s.form().slice(o)
	return o
}

// Names returns the name of the EndpointSlice and that of its Service, which is empty if it has none.
func (s Slice) Names() (own, owner types.NamespacedName) {
	if s.IsZero() {
		return own, owner
	}
	var namespace string
	s.form().names(&namespace, &own.Name, &owner.Name)
	own.Namespace, own.Name = strings.Clone(namespace), strings.Clone(own.Name)
	owner.Namespace, owner.Name = own.Namespace, strings.Clone(owner.Name)
	return own, owner
}

// Trigger returns when what the EndpointSlice describes changed, if known, and its type of addresses.
func (s Slice) Trigger() (at time.Time, of discoveryv1.AddressType, ok bool) {
	o := discoveryv1.EndpointSlice{}
	f := s.form()
	f.head(&o)
	nanoseconds := int64(binary.BigEndian.Uint64([]byte(s.text[:triggerSize])))
	return time.Unix(0, nanoseconds), o.AddressType, nanoseconds != 0
}

func (s Slice) form() *form { return &form{in: s.text[triggerSize:]} }
