// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// item is what is kept of an object. client-go sees an immutable object.
type item struct {
	key  types.NamespacedName
	kept any
}

// GetObjectKind returns nothing: an item is of the kind of its list.
func (item) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject returns the item.
func (i item) DeepCopyObject() runtime.Object { return i }

// list is a list from an API server without streaming lists. It packs each object as it is read: all objects
// unpacked would take a hundred times the memory.
type list struct {
	metav1.ListMeta
	Items []runtime.Object // client-go finds them by this name

	fresh func() runtime.Object
	item  func(any) (item, error)
}

// The wire type of a message in protobuf, and the largest field number.
const (
	message  = 2
	maxField = 1<<29 - 1
)

var errNoList = errors.New("it is no list in protobuf")

// GetObjectKind returns nothing: the caller knows the kind.
func (*list) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject shares the items, which are immutable.
func (l *list) DeepCopyObject() runtime.Object {
	c := *l
	return &c
}

// Reset is called before Unmarshal.
func (l *list) Reset() { l.ListMeta, l.Items = metav1.ListMeta{}, nil }

// Unmarshal reads a list of any kind: all have the same two fields.
func (l *list) Unmarshal(b []byte) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag&7 != message || tag>>3 == 0 || tag>>3 > maxField {
			return errNoList
		}
		b = b[n:]
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return errNoList
		}
		field := b[n : n+int(size)]
		b = b[n+int(size):]
		if err := l.field(tag>>3, field); err != nil {
			return err
		}
	}
	return nil
}

func (l *list) field(number uint64, b []byte) error {
	switch number {
	case 1:
		return l.ListMeta.Unmarshal(b)
	case 2:
		return l.add(func(o runtime.Object) error { return o.(interface{ Unmarshal([]byte) error }).Unmarshal(b) })
	}
	return nil // of a later Kubernetes
}

// UnmarshalJSON reads a list, for operators who chose JSON.
func (l *list) UnmarshalJSON(b []byte) error {
	var all struct {
		Metadata metav1.ListMeta   `json:"metadata"`
		Items    []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	l.ListMeta = all.Metadata
	for _, one := range all.Items {
		if err := l.add(func(o runtime.Object) error { return json.Unmarshal(one, o) }); err != nil {
			return err
		}
	}
	return nil
}

func (l *list) add(read func(runtime.Object) error) error {
	o := l.fresh()
	if err := read(o); err != nil {
		return fmt.Errorf("read object %d of a list: %w", len(l.Items)+1, err)
	}
	i, err := l.item(o)
	l.Items = append(l.Items, i)
	return err
}
