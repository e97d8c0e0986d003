// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// APIClient is how those groups of the API are asked that are used. The client that client-go has for all of
// them would be a third of the program, and of the memory that it takes when it does nothing.
type APIClient struct{ core, discovery, networking, events rest.Interface }

// Core is for Services and Nodes.
func (c *APIClient) Core() rest.Interface { return c.core }

// Discovery is for EndpointSlices.
func (c *APIClient) Discovery() rest.Interface { return c.discovery }

// Networking is for ServiceCIDRs.
func (c *APIClient) Networking() rest.Interface { return c.networking }

// Events is for events.
func (c *APIClient) Events() rest.Interface { return c.events }

// Connect returns a client. It asks nothing of an API server yet. All that the client asks goes over one
// transport, for which one connection suffices.
func Connect(c config.Client, userAgent string) (*APIClient, error) {
	rc, err := loadRESTConfig(c)
	if err != nil {
		return nil, err
	}
	rc.UserAgent = userAgent
	rc.AcceptContentTypes, rc.ContentType = c.AcceptContentTypes, c.ContentType
	rc.QPS, rc.Burst = c.QPS, c.Burst
	if len(c.Servers) > 0 {
		// Not all nodes at the same one.
		newRing(c.Servers, rand.IntN(len(c.Servers))).carry(rc)
	}
	return newAPIClient(rc)
}

// loadRESTConfig says which API server, and who we are to it.
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

// carry makes the ring what rc connects by. The name in its URL is still the one that the server's
// certificate has to be for. A proxy of the environment is none of the addresses that the operator named.
func (r *ring) carry(rc *rest.Config) {
	rc.Dial = r.dial
	rc.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	rc.Wrap(func(next http.RoundTripper) http.RoundTripper { return answerListener{next, r} })
}

// answerListener tells the ring of answers.
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
