// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
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

// The hosts of the world. All endpoints are on one of them, so that a request through any Service is answered. The client is
// no pod: whoever answers it without being masqueraded answers past the node, in vain.
const (
	podsName   = "pods"
	clientName = "client"
)

// nodeName is where the service proxy runs: one of the nodes that endpoints are on.
func nodeName() string { return large.NodeName(0) }

// site is a control plane, and the network of a node whose kernel can be taken away and given anew.
type site struct {
	world  *world.World
	plane  *control.Plane
	server *control.Server
	api    *kubernetes.Clientset
	folder string // of logs and configuration
}

// topology has a second network of pods beside the one that all endpoints are in: those of the node itself.
func topology() world.Topology {
	prefix := func(text string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(text)} }
	node := world.Node{Name: nodeName(), Addresses: prefix("192.0.2.1/24"), PodCIDRs: prefix("10.244.0.0/24"), Forward: true}
	pods := world.Node{Name: podsName, Addresses: prefix("192.0.2.2/24"), PodCIDRs: []netip.Prefix{large.PodNetwork()}}
	client := world.Outside{Name: clientName, Addresses: prefix("192.0.2.100/24")}
	client.Routes = []world.Route{{To: serviceNetwork(), Via: node.Addresses[0].Addr()}}
	return world.Topology{Nodes: []world.Node{node, pods}, Outside: []world.Outside{client, control.Host()}}
}

func serviceNetwork() netip.Prefix { return netip.MustParsePrefix("10.96.0.0/16") }

// open builds the network and starts the control plane.
func (s *site) open(ctx context.Context) (err error) {
	if s.folder, err = os.MkdirTemp("/dev/shm", "kube-ipvs-versus-"); err != nil {
		return err
	}
	if s.world, err = world.New(topology()); err != nil {
		return err
	}
	if err := s.answer(ctx); err != nil {
		return err
	}
	if s.plane, err = control.New(ctx, s.world.Host("control"), settings()...); err != nil {
		return err
	}
	if err := s.serve(ctx); err != nil {
		return err
	}
	c, err := s.plane.Config(s.server.Address, s.plane.Admin())
	if err != nil {
		return err
	}
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	if s.api, err = kubernetes.NewForConfig(c); err != nil {
		return err
	}
	return s.prepare(ctx)
}

// settings make etcd look less often whether it is still its own leader, and whether there is something to write to its file.
func settings() []string {
	return []string{"ETCD_HEARTBEAT_INTERVAL=500", "ETCD_ELECTION_TIMEOUT=5000", "ETCD_BACKEND_BATCH_INTERVAL=1s"}
}

// serve starts the API server. There is no one whom it would have to be protected from, and nobody reads what was asked of it.
// What it keeps beside the present state of the objects, to answer who asks for a list in pages or to doubt itself, costs it
// time with each change. So do admission plugins: none has anything to do with what is written here, and each asks for the
// time before and after.
func (s *site) serve(ctx context.Context) error {
	admission, err := control.Admission(ctx)
	if err != nil {
		return err
	}
	s.server, err = s.plane.Serve(ctx, control.Host().Addresses[0].Addr(),
		"--audit-policy-file=", "--audit-log-path=", "--enable-priority-and-fairness=false",
		"--max-requests-inflight=0", "--max-mutating-requests-inflight=0",
		"--feature-gates=ListFromCacheSnapshot=false,DetectCacheInconsistency=false",
		"--runtime-config="+strings.Join(groups(), ","), "--disable-admission-plugins="+strings.Join(admission, ","))
	return err
}

// groups are those of the API that are served: those that kube-proxy, kube-ipvs and the API server itself ask for. For each
// kind of object that it serves an API server looks every second whether there is something to tell.
func groups() []string {
	list := []string{"api/all=false"}
	for _, group := range []string{
		"", "admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "authentication.k8s.io",
		"authorization.k8s.io", "coordination.k8s.io", "discovery.k8s.io", "events.k8s.io", "networking.k8s.io", "rbac.authorization.k8s.io",
	} {
		list = append(list, group+"/v1=true")
	}
	return list
}

// answer makes one host be all endpoints.
func (s *site) answer(ctx context.Context) error {
	pods := s.world.Host(podsName)
	if _, err := pods.Run(ctx, "ip", "route", "add", "local", large.PodNetwork().String(), "dev", "lo"); err != nil {
		return err
	}
	return pods.ServeOn(state.TCP, netip.AddrPortFrom(netip.IPv4Unspecified(), large.TargetPort))
}

// prepare makes the objects that are not of a size: namespaces and the node's own.
func (s *site) prepare(ctx context.Context) error {
	for _, name := range large.Namespaces() {
		o := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := s.api.CoreV1().Namespaces().Create(ctx, o, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create namespace %s: %w", name, err)
		}
	}
	node := topology().Nodes[0]
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name}}
	o.Spec.PodCIDRs = []string{node.PodCIDRs[0].String()}
	o.Spec.PodCIDR = o.Spec.PodCIDRs[0]
	made, err := s.api.CoreV1().Nodes().Create(ctx, o, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create the node: %w", err)
	}
	made.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: node.Addresses[0].Addr().String()}}
	_, err = s.api.CoreV1().Nodes().UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
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

// node is where the service proxy runs.
func (s *site) node() *world.Host { return s.world.Host(nodeName()) }
