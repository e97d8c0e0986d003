// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
)

const (
	// portion is how many Services are made at a time.
	portion = 1000
	// before is how many Services an API server may find at its start. It looks at all of them before it says that it is ready,
	// and ends if that takes a minute: with many more it does in user-mode Linux.
	before = 10000
	// grace is after what time an API server looks again at an IPAddress whose Service was not there when it came, and
	// deletes it if the Service never came.
	grace = time.Minute
)

// fill makes the Services of a size from a number on. The first goes the way of all objects in a cluster. An API server in
// user-mode Linux takes some twenty a second: all others are stored past it, like the first in everything that it added but for
// who wrote which field, which it would go on to keep.
func (s *site) fill(ctx context.Context, size large.Size, from int) error {
	model, err := s.create(ctx, size.Service(from, 0))
	if err != nil {
		return err
	}
	from++
	if sooner := min(before, size.Services); from < sooner {
		if err := s.fillStopped(ctx, model, size, from, sooner); err != nil {
			return err
		}
		from = sooner
	}
	if from < size.Services {
		if err := s.fillServing(ctx, model, size, from); err != nil {
			return err
		}
	}
	return s.told(ctx, size.Service(size.Services-1, 0))
}

// fillStopped stores Services while the API server is down, which takes the least time.
func (s *site) fillStopped(ctx context.Context, model plan.Objects, size large.Size, from, to int) error {
	if err := s.server.Stop(); err != nil {
		return err
	}
	for ; from < to; from += portion {
		addresses, others := copies(model, size, from, min(from+portion, to))
		if err := s.plane.Store(ctx, append(addresses, others...)); err != nil {
			return err
		}
	}
	return s.serve(ctx)
}

// fillServing stores Services while the API server sees them come. It would take a Service without an IPAddress for damaged,
// and repair it, so it has to know the addresses first. Only when it has looked at all again there is quiet.
func (s *site) fillServing(ctx context.Context, model plan.Objects, size large.Size, from int) error {
	for ; from < size.Services; from += portion {
		to := min(from+portion, size.Services)
		last := size.Service(to-1, 0)
		addresses, others := copies(model, size, from, to)
		if err := s.plane.Store(ctx, addresses); err != nil {
			return err
		}
		if err := s.toldAddress(ctx, last); err != nil {
			return err
		}
		if err := s.plane.Store(ctx, others); err != nil {
			return err
		}
		if err := s.told(ctx, last); err != nil {
			return err
		}
	}
	return sleep(ctx, grace)
}

// copies are what an API server would store of some Services: whose the cluster IPs are, and all else.
func copies(model plan.Objects, size large.Size, from, to int) (addresses, others []runtime.Object) {
	for n := from; n < to; n++ {
		o := like(model, size.Service(n, 0))
		addresses = append(addresses, addressOfService(o.Service))
		others = append(others, o.Service)
		for _, slice := range o.Slices {
			others = append(others, slice)
		}
	}
	return addresses, others
}

// create makes a Service and its endpoints, in the order in which a cluster does, and returns what they became.
func (s *site) create(ctx context.Context, o plan.Objects) (made plan.Objects, err error) {
	if made.Service, err = s.api.CoreV1().Services(o.Service.Namespace).Create(ctx, o.Service, metav1.CreateOptions{}); err != nil {
		return made, fmt.Errorf("create Service %s: %w", o.Service.Name, err)
	}
	for _, slice := range o.Slices {
		c, err := s.api.DiscoveryV1().EndpointSlices(slice.Namespace).Create(ctx, slice, metav1.CreateOptions{})
		if err != nil {
			return made, fmt.Errorf("create EndpointSlice %s: %w", slice.Name, err)
		}
		made.Slices = append(made.Slices, c)
	}
	return made, nil
}

// like gives objects all that an API server added to others of their kind.
func like(model, o plan.Objects) (made plan.Objects) {
	made.Service = model.Service.DeepCopy()
	made.Service.ObjectMeta = metaLike(model.Service.ObjectMeta, o.Service.ObjectMeta)
	made.Service.Spec.ClusterIP, made.Service.Spec.ClusterIPs = o.Service.Spec.ClusterIP, o.Service.Spec.ClusterIPs
	for i, slice := range o.Slices {
		c := model.Slices[i].DeepCopy()
		c.ObjectMeta = metaLike(c.ObjectMeta, slice.ObjectMeta)
		c.Endpoints = slice.Endpoints
		made.Slices = append(made.Slices, c)
	}
	return made
}

// addressOfService says whose a cluster IP is. It is young, as is one whose Service is still to come.
func addressOfService(service *corev1.Service) *networkingv1.IPAddress {
	return &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{
			Name: service.Spec.ClusterIP, UID: uuid.NewUUID(), CreationTimestamp: metav1.Now(),
			Labels: map[string]string{networkingv1.LabelIPAddressFamily: string(service.Spec.IPFamilies[0]), networkingv1.LabelManagedBy: "ipallocator.k8s.io"},
		},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{
			Resource: "services", Namespace: service.Namespace, Name: service.Name,
		}},
	}
}

// metaLike is the meta of an object after an API server took it as it took the model.
func metaLike(model, own metav1.ObjectMeta) metav1.ObjectMeta {
	m := *model.DeepCopy()
	m.Namespace, m.Name, m.Labels, m.CreationTimestamp = own.Namespace, own.Name, own.Labels, own.CreationTimestamp
	m.ManagedFields = nil // who has none gets none
	m.UID, m.ResourceVersion = uuid.NewUUID(), ""
	return m
}

// stale asks for what the API server's own memory has, which it answers watches from.
func stale() metav1.GetOptions { return metav1.GetOptions{ResourceVersion: "0"} }

// told waits until the API server's own memory has objects that were stored last.
func (s *site) told(ctx context.Context, o plan.Objects) error {
	if err := s.toldAddress(ctx, o); err != nil {
		return err
	}
	err := s.await(ctx, func(ctx context.Context) error {
		_, err := s.api.CoreV1().Services(o.Service.Namespace).Get(ctx, o.Service.Name, stale())
		return err
	})
	if err != nil {
		return err
	}
	last := o.Slices[len(o.Slices)-1]
	return s.await(ctx, func(ctx context.Context) error {
		_, err := s.api.DiscoveryV1().EndpointSlices(last.Namespace).Get(ctx, last.Name, stale())
		return err
	})
}

// toldAddress is told, but of whose the cluster IP is alone.
func (s *site) toldAddress(ctx context.Context, o plan.Objects) error {
	return s.await(ctx, func(ctx context.Context) error {
		_, err := s.api.NetworkingV1().IPAddresses().Get(ctx, o.Service.Spec.ClusterIP, stale())
		return err
	})
}

// await asks again and again until there is what it asks for.
func (s *site) await(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return poll(ctx, often, func() (bool, error) {
		err := ask(ctx)
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			err = errors.Join(err, s.serving())
		}
		return err == nil, err
	})
}
