// SPDX-License-Identifier: Apache-2.0

// Package client makes the client by which the API server is reached: from a
// kubeconfig file or as a pod, and, where the operator names addresses of API
// servers, by whichever of them answers.
//
// Tokens, client certificates and CAs that are files are read again by client-go
// when they change. What is asked of the API server is others' business.
package client

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

// Client is how those groups of the API are asked that are used. The client that
// client-go has for all of them would be a third of the program, and of the memory
// that it takes when it does nothing.
type Client struct{ core, discovery, networking, events rest.Interface }

// Core is for Services and Nodes.
func (c *Client) Core() rest.Interface { return c.core }

// Discovery is for EndpointSlices.
func (c *Client) Discovery() rest.Interface { return c.discovery }

// Networking is for ServiceCIDRs.
func (c *Client) Networking() rest.Interface { return c.networking }

// Events is for events.
func (c *Client) Events() rest.Interface { return c.events }

// Connect returns a client. It asks nothing of an API server yet. All that the
// client asks goes over one transport, for which one connection suffices.
func Connect(c config.Client, userAgent string) (*Client, error) {
	rc, err := load(c)
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
	return newClient(rc)
}

// load says which API server, and who we are to it.
func load(c config.Client) (*rest.Config, error) {
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

// carry makes the ring what rc connects by. The name in its URL is still the
// one that the server's certificate has to be for. A proxy of the environment
// is none of the addresses that the operator named.
func (r *ring) carry(rc *rest.Config) {
	rc.Dial = r.dial
	rc.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	rc.Wrap(func(next http.RoundTripper) http.RoundTripper { return listener{next, r} })
}

// listener tells the ring of answers.
type listener struct {
	next http.RoundTripper
	ring *ring
}

func (l listener) RoundTrip(q *http.Request) (*http.Response, error) {
	a, err := l.next.RoundTrip(q)
	if err == nil {
		l.ring.answered(a.StatusCode)
	}
	return a, err
}
