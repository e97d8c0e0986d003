// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
)

const (
	// atOnce is how many Services are stored at a time.
	atOnce = 1000
	// foundAtStart is how many Services an API server may find at its start. It looks at all of them before it is ready, and
	// ends if that takes a minute: with many more it does in user-mode Linux.
	foundAtStart = 10000
	// grace is after what time an API server deletes an IPAddress whose Service never came.
	grace = time.Minute
)

// fill makes the Services of a size from a number on. An API server in user-mode Linux takes some twenty a second, so they are
// stored in etcd: up to foundAtStart while it is down, which takes the least time, and the rest while it watches.
func (s *site) fill(ctx context.Context, size large.Size, from int) {
	if down := min(foundAtStart, size.Services); from < down {
		check(s.server.Stop())
		s.store(ctx, size, from, down)
		s.serve(ctx)
		from = down
	}
	if from < size.Services {
		s.store(ctx, size, from, size.Services)
		check(sleep(ctx, grace))
	}
	s.await(ctx, paths(size, size.Services-1)...)
}

// store stores Services. An API server that watches takes a Service without an IPAddress for damaged, and repairs it: so it has
// to know the addresses first.
func (s *site) store(ctx context.Context, size large.Size, from, to int) {
	for ; from < to; from += atOnce {
		end := min(from+atOnce, to)
		known := paths(size, end-1)
		addresses, others := stored(size, from, end)
		check(s.plane.Store(ctx, addresses))
		if s.server.Alive() == nil {
			s.await(ctx, known[0])
		}
		check(s.plane.Store(ctx, others))
		if s.server.Alive() == nil {
			s.await(ctx, known...)
		}
	}
}

// stored are the objects of some Services in etcd: whose the cluster IPs are, and all else. The API server adds defaults when
// it reads them.
func stored(size large.Size, from, to int) (addresses, others []runtime.Object) {
	for n := from; n < to; n++ {
		o := size.Service(n, 0)
		o.Service.UID = uuid.NewUUID()
		addresses, others = append(addresses, addressOf(o.Service)), append(others, o.Service)
		for _, slice := range o.Slices {
			slice.UID = uuid.NewUUID()
			others = append(others, slice)
		}
	}
	return addresses, others
}

// addressOf says whose a cluster IP is. It is young, as is one whose Service is still to come.
func addressOf(service *corev1.Service) *networkingv1.IPAddress {
	labels := map[string]string{networkingv1.LabelIPAddressFamily: string(service.Spec.IPFamilies[0]), networkingv1.LabelManagedBy: "ipallocator.k8s.io"}
	return &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: service.Spec.ClusterIP, UID: uuid.NewUUID(), CreationTimestamp: metav1.Now(), Labels: labels},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{
			Resource: "services", Namespace: service.Namespace, Name: service.Name,
		}},
	}
}

// paths are where the API server has the last objects of the Service n that are stored: the address is the first.
func paths(size large.Size, n int) []string {
	service, slice := size.Service(n, 0).Service, lastSlice(size, n)
	return []string{
		"/apis/networking.k8s.io/v1/ipaddresses/" + service.Spec.ClusterIP,
		fmt.Sprintf("/api/v1/namespaces/%s/services/%s", service.Namespace, service.Name),
		fmt.Sprintf("/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices/%s", slice.Namespace, slice.Name),
	}
}

// await waits until the API server's own memory, which it answers watches from, has all objects.
func (s *site) await(ctx context.Context, paths ...string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, path := range paths {
		check(poll(ctx, often, func() bool {
			err := s.api.CoreV1().RESTClient().Get().AbsPath(path).Param("resourceVersion", "0").Do(ctx).Error()
			if err != nil && !apierrors.IsNotFound(err) {
				check(s.serving())
				check(err)
			}
			return err == nil
		}))
	}
}
