// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
)

// portion is how many Services are made at a time.
const portion = 1000

// fill makes the Services of a size from a number on. The first goes the way of all objects in a cluster. An API server in
// user-mode Linux takes some twenty a second: all others are stored past it while it is down, like the first in everything
// that it added. It would take objects that come past it for signs of damage, and begin to repair.
func (s *site) fill(ctx context.Context, size large.Size, from int) error {
	model, err := s.create(ctx, size.Service(from, 0))
	if err != nil {
		return err
	}
	if err := s.server.Stop(); err != nil {
		return err
	}
	for first := from + 1; first < size.Services; first += portion {
		var objects []runtime.Object
		for n := first; n < min(first+portion, size.Services); n++ {
			objects = append(objects, like(model, size.Service(n, 0))...)
		}
		if err := s.plane.Store(ctx, objects); err != nil {
			return err
		}
	}
	if err := s.serve(ctx); err != nil {
		return err
	}
	return s.told(ctx, size.Service(size.Services-1, 0))
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

// like gives objects all that an API server added to others of their kind, and returns what it would store of them: them,
// and whose the cluster IP is.
func like(model, o plan.Objects) []runtime.Object {
	service := model.Service.DeepCopy()
	service.ObjectMeta = metaLike(model.Service.ObjectMeta, o.Service.ObjectMeta)
	service.Spec.ClusterIP, service.Spec.ClusterIPs = o.Service.Spec.ClusterIP, o.Service.Spec.ClusterIPs
	list := []runtime.Object{service}
	for i, slice := range o.Slices {
		made := model.Slices[i].DeepCopy()
		made.ObjectMeta = metaLike(made.ObjectMeta, slice.ObjectMeta)
		made.Endpoints = slice.Endpoints
		list = append(list, made)
	}
	return append(list, &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{
			Name: service.Spec.ClusterIP, UID: uuid.NewUUID(), CreationTimestamp: service.CreationTimestamp,
			Labels: map[string]string{networkingv1.LabelIPAddressFamily: string(service.Spec.IPFamilies[0]), networkingv1.LabelManagedBy: "ipallocator.k8s.io"},
		},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{
			Resource: "services", Namespace: service.Namespace, Name: service.Name,
		}},
	})
}

// metaLike is the meta of an object after an API server took it as it took the model.
func metaLike(model, own metav1.ObjectMeta) metav1.ObjectMeta {
	m := *model.DeepCopy()
	m.Namespace, m.Name, m.Labels, m.CreationTimestamp = own.Namespace, own.Name, own.Labels, own.CreationTimestamp
	m.UID, m.ResourceVersion = uuid.NewUUID(), ""
	return m
}

// told waits until the API server's own memory, which it answers watches from, has objects that were stored last.
func (s *site) told(ctx context.Context, o plan.Objects) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	last, cached := o.Slices[len(o.Slices)-1], metav1.GetOptions{ResourceVersion: "0"}
	return poll(ctx, often, func() (bool, error) {
		_, err := s.api.CoreV1().Services(o.Service.Namespace).Get(ctx, o.Service.Name, cached)
		if err == nil {
			_, err = s.api.DiscoveryV1().EndpointSlices(last.Namespace).Get(ctx, last.Name, cached)
		}
		if err == nil {
			_, err = s.api.NetworkingV1().IPAddresses().Get(ctx, o.Service.Spec.ClusterIP, cached)
		}
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			err = errors.Join(err, s.serving())
		}
		return err == nil, err
	})
}
