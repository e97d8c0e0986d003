// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/binary"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Services and EndpointSlices are kept in a compact form, a fraction of the bytes of the API's structs: what
// is read of them, in one immutable string. An endpoint takes some ten bytes in place of four hundred.
// Objects are unpacked one Service at a time, when it is planned.
//
// What is not read of an object is left out here, so that two objects that differ in nothing that is read are
// equal. The form never leaves this program's memory: objects on disk are in Kubernetes' own form.

// Service is what is read of a Service. Two that are equal mean the same. The zero Service is none.
type Service struct{ text string }

// OfService packs a Service, which it does not keep.
func OfService(s *corev1.Service) Service {
	f := form{writing: true}
	f.service(s)
	return Service{string(f.out)}
}

// IsZero says whether there is no Service.
func (s Service) IsZero() bool { return s.text == "" }

// Object is the Service, but for what is not read. Whoever asked may change it.
func (s Service) Object() *corev1.Service {
	o := &corev1.Service{}
	s.form().service(o)
	return o
}

// Key is the Service's name.
func (s Service) Key() types.NamespacedName {
	var key types.NamespacedName
	s.form().key(&key.Namespace, &key.Name)
	return types.NamespacedName{Namespace: strings.Clone(key.Namespace), Name: strings.Clone(key.Name)}
}

func (s Service) form() *form { return &form{in: s.text} }

// Slice is what is read of an EndpointSlice, and when it changed. The zero Slice is none.
type Slice struct{ text string }

// triggerSize is that of the time of the change, which comes first: it says nothing of the endpoints.
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

// IsZero says whether there is no EndpointSlice.
func (s Slice) IsZero() bool { return s.text == "" }

// Same says whether two mean the same. They may have changed at different times.
func (s Slice) Same(o Slice) bool {
	return s == o || !s.IsZero() && !o.IsZero() && s.text[triggerSize:] == o.text[triggerSize:]
}

// Object is the EndpointSlice, but for what is not read. Whoever asked may change it.
func (s Slice) Object() *discoveryv1.EndpointSlice {
	o := &discoveryv1.EndpointSlice{}
	s.form().slice(o)
	return o
}

// Names are the EndpointSlice's own name, and that of the Service that it belongs to; without a name if to
// none.
func (s Slice) Names() (own, owner types.NamespacedName) {
	var namespace string
	s.form().names(&namespace, &own.Name, &owner.Name)
	own.Namespace, own.Name = strings.Clone(namespace), strings.Clone(own.Name)
	owner.Namespace, owner.Name = own.Namespace, strings.Clone(owner.Name)
	return own, owner
}

// Trigger is when the cluster changed in what the EndpointSlice tells, if it says so, and of which addresses
// it tells.
func (s Slice) Trigger() (at time.Time, of discoveryv1.AddressType, ok bool) {
	o := discoveryv1.EndpointSlice{}
	f := s.form()
	f.head(&o)
	nanoseconds := int64(binary.BigEndian.Uint64([]byte(s.text[:triggerSize])))
	return time.Unix(0, nanoseconds), o.AddressType, nanoseconds != 0
}

func (s Slice) form() *form { return &form{in: s.text[triggerSize:]} }
