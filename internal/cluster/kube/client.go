// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// Client is a client of the API groups that are used. client-go's client for all groups would be a third of the
// program, and of the memory that it takes when idle.
type Client struct {
	Core       rest.Interface // Services and Nodes
	Discovery  rest.Interface // EndpointSlices
	Networking rest.Interface // ServiceCIDRs
	Events     rest.Interface
}

// Connect returns a Client. It sends no request yet. One connection suffices for all requests.
func Connect(c config.Client, userAgent string) (*Client, error) {
	rc, err := loadRESTConfig(c)
	if err != nil {
		return nil, err
	}
	rc.UserAgent = userAgent
	rc.AcceptContentTypes, rc.ContentType = c.AcceptContentTypes, c.ContentType
	rc.QPS, rc.Burst = c.QPS, c.Burst
	if len(c.Servers) > 0 {
		// Nodes start at different servers.
		newRing(c.Servers, rand.IntN(len(c.Servers))).carry(rc)
	}
	return newClient(rc)
}

// loadRESTConfig finds the API server and our credentials.
func loadRESTConfig(c config.Client) (*rest.Config, error) {
	if c.Kubeconfig == "" && c.Master == "" {
		rc, err := rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, errors.New("neither a kubeconfig nor the URL of an API server is given, and this is no pod of a cluster")
		}
		if err != nil {
			return nil, fmt.Errorf("read the service account: %w", err)
		}
		return rc, nil
	}
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: c.Kubeconfig}
	overrides := &clientcmd.ConfigOverrides{ClusterInfo: clientcmdapi.Cluster{Server: c.Master}}
	rc, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %q: %w", c.Kubeconfig, err)
	}
	return rc, nil
}

// newClient shares one connection and one rate limit between the groups.
func newClient(rc *rest.Config) (*Client, error) {
	rc.NegotiatedSerializer = codecs()
	if rc.RateLimiter == nil && rc.QPS > 0 {
		rc.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(rc.QPS, rc.Burst)
	}
	over, err := rest.HTTPClientFor(rc)
	if err != nil {
		return nil, fmt.Errorf("make a client of the API server %s: %w", rc.Host, err)
	}
	var c Client
	var errs []error
	for i, one := range []*rest.Interface{&c.Core, &c.Discovery, &c.Networking, &c.Events} {
		*one, err = clientOf(rc, over, groups()[i])
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("make a client of the API server %s: %w", rc.Host, err)
	}
	return &c, nil
}

// clientOf returns the client of one group. The core group has a path of its own.
func clientOf(rc *rest.Config, over *http.Client, group schema.GroupVersion) (rest.Interface, error) {
	of := rest.CopyConfig(rc)
	of.GroupVersion, of.APIPath = &group, "/apis"
	if group.Group == "" {
		of.APIPath = "/api"
	}
	return rest.RESTClientForConfigAndClient(of, over)
}

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

// carry makes rc connect by the ring. The host in its URL is still the name that the server's certificate must
// have. No proxy of the environment is used: the operator named the addresses.
func (r *ring) carry(rc *rest.Config) {
	rc.Dial = r.dial
	rc.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	rc.Wrap(func(next http.RoundTripper) http.RoundTripper { return answerListener{next, r} })
}

// answerListener reports answers to the ring.
type answerListener struct {
	next http.RoundTripper
	ring *ring
}

func (l answerListener) RoundTrip(q *http.Request) (*http.Response, error) {
	a, err := l.next.RoundTrip(q)
	if err == nil {
		l.ring.answered(a.StatusCode)
	}
	return a, err
}
