// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	"github.com/kube-ipvs/kube-ipvs/e2e/control"
	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The hosts of the world beside the node. All endpoints are on one, so that a request through any Service is answered. The
// client is no pod: an answer that is not masqueraded goes past the node, and is lost.
const (
	podsName   = "pods"
	clientName = "client"
)

// nodeName is where the service proxy runs: one of the nodes that endpoints are on.
func nodeName() string { return large.NodeName(0) }

// site is a control plane, and the network of a node that can get a new kernel.
type site struct {
	endpoints int // of each Service
	world     *world.World
	plane     *control.Plane
	server    *control.Server
	api       *kubernetes.Clientset
	self      *corev1.Node
	folder    string // of logs and configuration
}

func (s *site) file(name string) string { return filepath.Join(s.folder, name) }

// node is where the service proxy runs.
func (s *site) node() *world.Host { return s.world.Host(nodeName()) }

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

// open builds the network and starts the control plane. etcd looks less often than by default whether it is still its own
// leader, and whether there is something to write to its file.
func (s *site) open(ctx context.Context) {
	s.folder = must(os.MkdirTemp("/dev/shm", "kube-ipvs-benchmark-"))
	s.world = must(world.New(topology()))
	pods := s.world.Host(podsName)
	must(pods.Run(ctx, "ip", "route", "add", "local", large.PodNetwork().String(), "dev", "lo"))
	check(pods.ServeOn(state.TCP, netip.AddrPortFrom(netip.IPv4Unspecified(), large.TargetPort)))
	s.plane = must(control.New(ctx, s.world.Host("control"),
		"ETCD_HEARTBEAT_INTERVAL=500", "ETCD_ELECTION_TIMEOUT=5000", "ETCD_BACKEND_BATCH_INTERVAL=1s"))
	s.serve(ctx)
	c := must(s.plane.Config(s.server.Address, s.plane.Admin()))
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	s.api = must(kubernetes.NewForConfig(c))
	s.prepare(ctx)
}

// groups are those of the API that kube-proxy, kube-ipvs and the API server itself ask for. For each kind of object that it
// serves an API server looks every second whether there is something to report.
const groups = "api/all=false,/v1=true,admissionregistration.k8s.io/v1=true,apiextensions.k8s.io/v1=true,apiregistration.k8s.io/v1=true," +
	"authentication.k8s.io/v1=true,authorization.k8s.io/v1=true,coordination.k8s.io/v1=true,discovery.k8s.io/v1=true,events.k8s.io/v1=true," +
	"networking.k8s.io/v1=true,rbac.authorization.k8s.io/v1=true"

// serve starts the API server, without what costs it time with each change and has nothing to do with what is written here:
// the audit log, protection from its clients, older states of the objects, and admission plugins.
func (s *site) serve(ctx context.Context) {
	s.server = must(s.plane.Serve(ctx, control.Host().Addresses[0].Addr(),
		"--audit-policy-file=", "--audit-log-path=", "--enable-priority-and-fairness=false",
		"--max-requests-inflight=0", "--max-mutating-requests-inflight=0",
		"--feature-gates=ListFromCacheSnapshot=false,DetectCacheInconsistency=false",
		"--runtime-config="+groups, "--disable-admission-plugins="+strings.Join(must(control.Admission(ctx)), ",")))
}

// serving is an error if the API server has ended: then no program can work.
func (s *site) serving() error {
	if err := s.server.Alive(); err != nil {
		return fmt.Errorf("%w: %s", err, s.server.LastWords(lastLines))
	}
	return nil
}

// prepare makes the objects that are there at any size: namespaces and the node's own.
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

func (s *site) close() error {
	var err error
	if s.plane != nil {
		err = s.plane.Close()
	}
	if s.world != nil {
		s.world.Close()
	}
	if s.folder != "" {
		err = errors.Join(err, os.RemoveAll(s.folder))
	}
	return err
}
