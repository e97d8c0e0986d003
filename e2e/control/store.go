// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
)

// mostAtOnce is how many keys etcd takes in one transaction (its --max-txn-ops).
const mostAtOnce = 128

// put is one write of a transaction, with the names that etcd's gateway knows. Bytes go in base 64.
type put struct {
	Request struct {
		Key   []byte `json:"key"`
		Value []byte `json:"value"`
	} `json:"request_put"`
}

// Store writes objects into etcd directly, in the form in which API servers keep them, a hundred times as fast as
// through one. Nothing checks the objects or adds what an API server would, such as a UID or the IPAddress of a
// Service. API servers see them as if another one had written them.
func (p *Plane) Store(ctx context.Context, objects []runtime.Object) error {
	for some := range slices.Chunk(objects, mostAtOnce) {
		puts := make([]put, len(some))
		for i, o := range some {
			key, value, err := stored(o)
			if err != nil {
				return err
			}
			puts[i].Request.Key, puts[i].Request.Value = []byte(key), value
		}
		var answer struct{}
		if err := p.askEtcd(ctx, "/v3/kv/txn", map[string]any{"success": puts}, &answer); err != nil {
			return fmt.Errorf("store %d objects: %w", len(some), err)
		}
	}
	return nil
}

// stored returns an object's key in etcd, and its encoding.
func stored(o runtime.Object) (key string, value []byte, err error) {
	switch o := o.(type) {
	case *corev1.Service:
		key = path.Join("services/specs", o.Namespace, o.Name)
	case *discoveryv1.EndpointSlice:
		key = path.Join("endpointslices", o.Namespace, o.Name)
	case *networkingv1.IPAddress:
		key = path.Join("ipaddresses", o.Name)
	default:
		return "", nil, fmt.Errorf("store a %T: where it belongs is not known", o)
	}
	kinds, _, err := scheme.Scheme.ObjectKinds(o)
	if err != nil {
		return "", nil, fmt.Errorf("store %s: %w", key, err)
	}
	o.GetObjectKind().SetGroupVersionKind(kinds[0])
	var text bytes.Buffer
	if err := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme).Encode(o, &text); err != nil {
		return "", nil, fmt.Errorf("encode %s: %w", key, err)
	}
	return path.Join("/registry", key), text.Bytes(), nil
}
