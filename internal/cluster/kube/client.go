// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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

// carry makes rc connect by the ring. The host in its URL is still the name that the server's certificate must have. No
// proxy of the environment is used: the operator named the addresses.
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

// ring is several API servers. It uses one as long as its connections last, then the next: a server that is about to
// stop ends its connections, and an unnecessary move costs nothing.
type ring struct {
	servers []netip.AddrPort
	dialer  net.Dialer
	answer  time.Duration // wait for the first byte of a server, once connected

	mutex   sync.Mutex
	current int
	open    map[*conn]bool
	sick    int // number of answers in a row with a server error
}

const (
	connectTime = 3 * time.Second  // for one address; servers that run answer in a fraction of that
	answerTime  = 5 * time.Second  // for the first byte in TLS; a server that only accepts is not used
	deadTime    = 15 * time.Second // without acknowledgement of sent bytes; the kernel's own limit is some 15 minutes
	sickAnswers = 3                // errors in a row until another server is tried
)

func newRing(servers []netip.AddrPort, first int) *ring {
	return &ring{
		servers: servers,
		current: first,
		dialer: net.Dialer{
			Timeout:         connectTime,
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
			Control:         giveUpEarly,
		},
		answer: answerTime,
		open:   map[*conn]bool{},
	}
}

// giveUpEarly makes the kernel detect a dead server soon.
func giveUpEarly(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadTime.Milliseconds()))
	})
	return errors.Join(err, failed)
}

// dial connects to the first server that accepts, whatever address is requested.
func (r *ring) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	r.mutex.Lock()
	first := r.current
	r.mutex.Unlock()
	var errs []error
	for i := range r.servers {
		n := (first + i) % len(r.servers)
		raw, err := r.dialer.DialContext(ctx, "tcp", r.servers[n].String())
		if err == nil {
			return r.opened(raw, n)
		}
		if errs = append(errs, err); ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("connect to an API server: %w", errors.Join(errs...))
}

func (r *ring) opened(raw net.Conn, n int) (net.Conn, error) {
	if err := raw.SetReadDeadline(time.Now().Add(r.answer)); err != nil {
		return nil, errors.Join(fmt.Errorf("bound the wait for API server %v: %w", r.servers[n], err), raw.Close())
	}
	c := &conn{Conn: raw, ring: r, server: n}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.current = n
	r.open[c] = true
	return c, nil
}

func (r *ring) ended(c *conn) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	delete(r.open, c)
	if r.current == c.server {
		r.current = (c.server + 1) % len(r.servers)
		r.sick = 0
	}
}

// answered leaves a server that fails: an API server whose etcd is away still accepts connections.
func (r *ring) answered(status int) {
	var leave []*conn
	r.mutex.Lock()
	if r.sick++; status < http.StatusInternalServerError {
		r.sick = 0
	}
	if r.sick >= sickAnswers {
		for c := range r.open {
			leave = append(leave, c)
		}
	}
	r.mutex.Unlock()
	for _, c := range leave {
		_ = c.Close() // readers get an error
	}
}

type conn struct {
	net.Conn
	ring   *ring
	server int
	first  sync.Once // after the first byte
	last   sync.Once // after Close
}

// Read lifts the deadline after the first byte.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.first.Do(func() { _ = c.SetReadDeadline(time.Time{}) }) // if it is closed, the next read fails
	}
	return n, err
}

// Close notifies the ring.
func (c *conn) Close() error {
	c.last.Do(func() { c.ring.ended(c) })
	return c.Conn.Close()
}
