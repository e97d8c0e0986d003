// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"

	"github.com/kube-ipvs/kube-ipvs/e2e/control"
	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The hosts of the world beside the node. All endpoints are on one, so that a request through any Service is answered.
// The client is no pod: an answer that is not masqueraded goes past the node, and is lost.
const (
	podsName   = "pods"
	clientName = "client"
)

func nodeName() string { return large.NodeName(0) }

// site is a control plane, and the network of a node that can get a new kernel.
type site struct {
	size       large.Size // of what is stored
	world      *world.World
	plane      *control.Plane
	server     *control.Server
	kubeconfig string // a path
	api        *kubernetes.Clientset
	self       *corev1.Node
}

// file is the path of a file that goes with the control plane, as the kubeconfig does.
func (s *site) file(name string) string { return filepath.Join(filepath.Dir(s.kubeconfig), name) }

func (s *site) node() *world.Host { return s.world.Host(nodeName()) }

// onNode works on a thread that is on the node.
func (s *site) onNode(work func()) { check(s.node().Do(func() error { return attempt(work) })) }

func prefixes(list ...string) []netip.Prefix { return each(list, netip.MustParsePrefix) }

// serviceNetworks are where package control lets API servers take cluster IPs from.
func serviceNetworks() []netip.Prefix { return prefixes("10.96.0.0/16", "fd00:10:96::/112") }

// topology has a second network of pods beside the one that all endpoints are in: that of the node itself.
func topology() world.Topology {
	node := world.Node{Name: nodeName(), Addresses: prefixes("192.0.2.1/24"), PodCIDRs: prefixes("10.244.0.0/24"), Forward: true}
	pods := world.Node{Name: podsName, Addresses: prefixes("192.0.2.2/24"), PodCIDRs: []netip.Prefix{large.PodNetwork()}}
	client := world.Outside{Name: clientName, Addresses: prefixes("192.0.2.100/24")}
	client.Routes = []world.Route{{To: serviceNetworks()[0], Via: node.Addresses[0].Addr()}}
	return world.Topology{Nodes: []world.Node{node, pods}, Outside: []world.Outside{client, control.Host()}}
}

// open builds the network and starts the control plane, whose etcd has less to do than by default when nothing changes.
func (s *site) open(ctx context.Context) {
	s.world = must(world.New(topology()))
	pods := s.world.Host(podsName)
	must(pods.Run(ctx, "ip", "route", "add", "local", large.PodNetwork().String(), "dev", "lo"))
	check(pods.ServeOn(state.TCP, netip.AddrPortFrom(netip.IPv4Unspecified(), large.TargetPort)))
	s.plane = must(control.New(ctx, s.world.Host("control"),
		"ETCD_HEARTBEAT_INTERVAL=500", "ETCD_ELECTION_TIMEOUT=5000", "ETCD_BACKEND_BATCH_INTERVAL=1s"))
	s.serve(ctx)
	s.kubeconfig = must(s.plane.Kubeconfig("kube-proxy", s.server.Address, s.plane.User("system:kube-proxy")))
	c := must(s.plane.Config(s.server.Address, s.plane.Admin()))
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	s.api = must(kubernetes.NewForConfig(c))
	s.prepare(ctx)
}

// groups are those of the API that have to be served. Each kind of object costs an API server some time every second.
const groups = "api/all=false,/v1=true,admissionregistration.k8s.io/v1=true,apiextensions.k8s.io/v1=true,apiregistration.k8s.io/v1=true," +
	"authentication.k8s.io/v1=true,authorization.k8s.io/v1=true,coordination.k8s.io/v1=true,discovery.k8s.io/v1=true,events.k8s.io/v1=true," +
	"networking.k8s.io/v1=true,rbac.authorization.k8s.io/v1=true"

// serve starts the API server, without what costs it time with each change and has nothing to do with what is measured.
func (s *site) serve(ctx context.Context) {
	s.server = must(s.plane.Serve(ctx, control.Host().Addresses[0].Addr(),
		"--audit-policy-file=", "--audit-log-path=", "--enable-priority-and-fairness=false",
		"--max-requests-inflight=0", "--max-mutating-requests-inflight=0",
		"--feature-gates=ListFromCacheSnapshot=false,DetectCacheInconsistency=false",
		"--runtime-config="+groups, "--disable-admission-plugins="+strings.Join(must(control.Admission(ctx)), ",")))
}

func (s *site) prepare(ctx context.Context) {
	for _, name := range large.Namespaces() {
		o := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		must(s.api.CoreV1().Namespaces().Create(ctx, o, metav1.CreateOptions{}))
	}
	node := topology().Nodes[0]
	network := node.PodCIDRs[0].String()
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name}, Spec: corev1.NodeSpec{PodCIDR: network, PodCIDRs: []string{network}}}
	s.self = must(s.api.CoreV1().Nodes().Create(ctx, o, metav1.CreateOptions{}))
	s.self.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: node.Addresses[0].Addr().String()}}
	s.self = must(s.api.CoreV1().Nodes().UpdateStatus(ctx, s.self, metav1.UpdateOptions{}))
}

func (s *site) close() (err error) {
	if s.plane != nil {
		err = s.plane.Close()
	}
	if s.world != nil {
		s.world.Close()
	}
	*s = site{}
	return err
}

const (
	atOnce = 1000        // how many Services are stored at a time
	grace  = time.Minute // after which an API server deletes an IPAddress whose Service never came
	// foundAtStart is how many Services an API server may find at its start, so that it is ready within its minute.
	foundAtStart = 10000
)

// fill stores in etcd the Services that are missing, for an API server takes some twenty a second: while it is down,
// which takes the least time, or else while it watches. If others are there it opens a new site.
func (s *site) fill(ctx context.Context, size large.Size) {
	if size.Endpoints != s.size.Endpoints || size.Services < s.size.Services {
		check(s.close())
		s.open(ctx)
	}
	from := s.size.Services
	s.size = size
	down := max(from, min(foundAtStart, size.Services))
	if from < down {
		check(s.server.Stop())
		s.store(ctx, size, from, down)
		s.serve(ctx)
	}
	if down < size.Services {
		s.store(ctx, size, down, size.Services)
		check(sleep(ctx, grace))
	}
	s.await(ctx, paths(size, size.Services-1)...)
}

// store stores Services after their IPAddresses: an API server that watches would repair a Service without one.
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

// stored are the objects of some Services in etcd: whose the cluster IPs are, and all else.
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
	in := "/namespaces/" + service.Namespace
	return []string{
		"/apis/networking.k8s.io/v1/ipaddresses/" + service.Spec.ClusterIP,
		"/api/v1" + in + "/services/" + service.Name,
		"/apis/discovery.k8s.io/v1" + in + "/endpointslices/" + slice.Name,
	}
}

// await waits until the API server's own memory, which it answers watches from, has all objects.
func (s *site) await(ctx context.Context, paths ...string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, path := range paths {
		check(poll(ctx, often, func() bool {
			err := s.api.CoreV1().RESTClient().Get().AbsPath(path).Param("resourceVersion", "0").Do(ctx).Error()
			if !apierrors.IsNotFound(err) {
				check(err)
			}
			return err == nil
		}))
	}
}
