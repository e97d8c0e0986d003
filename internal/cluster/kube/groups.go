// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

// codecs are the objects that are read or written, and how they are encoded.
func codecs() runtime.NegotiatedSerializer {
	s := runtime.NewScheme()
	s.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Service{}, &corev1.ServiceList{}, &corev1.Node{}, &corev1.NodeList{})
	s.AddKnownTypes(discoveryv1.SchemeGroupVersion, &discoveryv1.EndpointSlice{}, &discoveryv1.EndpointSliceList{})
	s.AddKnownTypes(networkingv1.SchemeGroupVersion, &networkingv1.ServiceCIDR{}, &networkingv1.ServiceCIDRList{})
	s.AddKnownTypes(eventsv1.SchemeGroupVersion, &eventsv1.Event{})
	for _, gv := range groups() {
		metav1.AddToGroupVersion(s, gv)
	}
	return serializer.NewCodecFactory(s).WithoutConversion()
}

func groups() []schema.GroupVersion {
	return []schema.GroupVersion{
		corev1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion, networkingv1.SchemeGroupVersion, eventsv1.SchemeGroupVersion,
	}
}

// newAPIClient shares one connection and one bound on requests between the groups.
func newAPIClient(rc *rest.Config) (*APIClient, error) {
	rc.NegotiatedSerializer = codecs()
	if rc.RateLimiter == nil && rc.QPS > 0 {
		rc.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(rc.QPS, rc.Burst)
	}
	over, err := rest.HTTPClientFor(rc)
	if err != nil {
		return nil, fmt.Errorf("make a client of the API server %s: %w", rc.Host, err)
	}
	var c APIClient
	var errs []error
	for i, one := range []*rest.Interface{&c.core, &c.discovery, &c.networking, &c.events} {
		*one, err = ask(rc, over, groups()[i])
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("make a client of the API server %s: %w", rc.Host, err)
	}
	return &c, nil
}

// ask is how one group is asked. The first group of the API has a path of its own.
func ask(rc *rest.Config, over *http.Client, group schema.GroupVersion) (rest.Interface, error) {
	of := rest.CopyConfig(rc)
	of.GroupVersion, of.APIPath = &group, "/apis"
	if group.Group == "" {
		of.APIPath = "/api"
	}
	return rest.RESTClientForConfigAndClient(of, over)
}
