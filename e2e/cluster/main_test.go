// SPDX-License-Identifier: Apache-2.0

// Package cluster runs kube-ipvs, and kube-proxy whose place it takes, on the nodes of a cluster with a real API
// server. The tests write what a kubelet and controllers would write: Nodes, the addresses of load balancers, and
// endpoints. Everything else is as in a cluster: kube-ipvs has only the roles of the manifests, and uses the API.
//
// Package packets tests what happens to packets in detail. This package tests that Services are served at all, on every
// node and at any time.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kube-ipvs/kube-ipvs/e2e/control"
	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// site is what all tests of this package share: an API server takes a quarter of a minute to start.
type site struct {
	world  *world.World
	plane  *control.Plane
	server *control.Server
	admin  *kubernetes.Clientset // at the server
	rules  []rbacv1.PolicyRule   // of kube-ipvs, as shipped
}

var shared site

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	status := 1
	err := shared.open(context.Background())
	if err == nil {
		status = m.Run()
		err = shared.denied()
	}
	if err = errors.Join(err, shared.close()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// The addresses of API servers, and the two nodes.
func firstServer() netip.Addr  { return control.Host().Addresses[0].Addr() }
func secondServer() netip.Addr { return control.Host().Addresses[1].Addr() }
func nodeNames() []string      { return []string{"node-1", "node-2"} }

// topology returns the small world with work for a service proxy on both nodes: each has pods as clients and servers,
// and an outside client that comes by way of it.
func topology() world.Topology {
	t := world.Small()
	for i := range t.Nodes {
		t.Nodes[i].Forward = true // as a CNI plugin would
	}
	two := &t.Nodes[1]
	two.Pods = append(two.Pods, world.Pod{
		Name:      "pod-e",
		Addresses: []netip.Addr{netip.MustParseAddr("10.244.2.11"), netip.MustParseAddr("fd00:10:244:2::11")},
	})
	visitor := world.Outside{
		Name:      "visitor",
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.101/24"), netip.MustParsePrefix("2001:db8:1::101/64")},
	}
	for _, r := range world.RoutesToServices() {
		for _, own := range two.Addresses {
			if own.Addr().Is4() == r.Via.Is4() {
				visitor.Routes = append(visitor.Routes, world.Route{To: r.To, Via: own.Addr()})
			}
		}
	}
	server := control.Host() // the API server is part of the cluster, and pods may talk to it
	for _, n := range t.Nodes {
		for i, p := range n.PodCIDRs {
			server.Routes = append(server.Routes, world.Route{To: p, Via: n.Addresses[i].Addr()})
		}
	}
	t.Outside = append(t.Outside, visitor, server)
	return t
}

// podPort is where every pod answers.
const podPort = 8080

func families() []state.Family    { return []state.Family{state.IPv4, state.IPv6} }
func protocols() []state.Protocol { return []state.Protocol{state.TCP, state.UDP} }

func (s *site) open(ctx context.Context) (err error) {
	if s.world, err = world.New(topology()); err != nil {
		return err
	}
	for _, n := range topology().Nodes {
		for _, pod := range n.Pods {
			for _, p := range protocols() {
				if err := s.world.Host(pod.Name).Serve(p, podPort); err != nil {
					return err
				}
			}
		}
	}
	if s.plane, err = control.New(ctx, s.world.Host("control")); err != nil {
		return err
	}
	if err := s.serve(ctx, firstServer()); err != nil {
		return err
	}
	if err := s.grant(ctx); err != nil {
		return err
	}
	return s.makeNodes(ctx)
}

func (s *site) close() error {
	var err error
	if s.plane != nil {
		err = s.plane.Close()
	}
	if s.world != nil {
		s.world.Close()
	}
	return err
}

// serve starts the API server and makes it the one that the tests use.
func (s *site) serve(ctx context.Context, at netip.Addr, flags ...string) (err error) {
	begin := time.Now()
	if s.server, err = s.plane.Serve(ctx, at, flags...); err != nil {
		return err
	}
	fmt.Printf("the API server at %v was ready after %v\n", at, time.Since(begin).Round(time.Second))
	s.admin, err = s.plane.Client(s.server.Address, s.plane.Admin())
	return err
}

// makeNodes makes the Node objects and the namespace of the tests.
func (s *site) makeNodes(ctx context.Context) error {
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: rig.Namespace}}
	if _, err := s.admin.CoreV1().Namespaces().Create(ctx, space, metav1.CreateOptions{}); err != nil {
		return err
	}
	for _, n := range topology().Nodes {
		o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name}}
		for _, p := range n.PodCIDRs {
			o.Spec.PodCIDRs = append(o.Spec.PodCIDRs, p.String())
		}
		o.Spec.PodCIDR = o.Spec.PodCIDRs[0]
		made, err := s.admin.CoreV1().Nodes().Create(ctx, o, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		for _, p := range n.Addresses {
			a := corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: p.Addr().String()}
			made.Status.Addresses = append(made.Status.Addresses, a)
		}
		if _, err := s.admin.CoreV1().Nodes().UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	return nil
}
