// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

// detector is a way to recognize pods.
type detector struct {
	name   string
	config config.Config
	knows  bool   // recognizes pods
	all    bool   // masqueradeAll
	by     string // the interface of pods' packets; empty: unknown
	routed bool   // Service addresses
}

func detectors() []detector {
	byCIDR := detector{name: "cidr", config: cidrs(), knows: true}
	byAll := detector{name: "masquerade all", config: cidrs(), knows: true, all: true}
	byAll.config.MasqueradeAll = true
	byNone := detector{name: "none", config: config.Default()}
	byBridge := detector{name: "bridge", config: config.Default(), knows: true, by: "cni0"}
	byBridge.config.LocalDetector = config.LocalDetector{Kind: config.DetectBridge, Interface: "cni0"}
	byPrefix := detector{name: "prefix", config: config.Default(), knows: true, by: "veth1234"}
	byPrefix.config.LocalDetector = config.LocalDetector{Kind: config.DetectPrefix, Interface: "veth"}
	list := []detector{byCIDR, byAll, byNone, byBridge, byPrefix}
	for _, d := range []detector{byCIDR, byNone} {
		d.name, d.config.VIPBinding, d.routed = d.name+", routed", config.RouteBinding, true
		list = append(list, d)
	}
	return list
}

// client is who sends.
type client string

const (
	pod     client = "pod"
	node    client = "node"
	nodeSrc client = "node with its address"
	foreign client = "outside"
)

// cell is one of the matrix.
type cell struct {
	detector detector
	client   client
	frontend string // "ClusterIP", "NodePort", "LB", "externalIP"
	policies policies
}

// outcome is what the matrix says of a cell.
type outcome struct {
	fate        trace.Fate
	endpoints   string // "", "here", "there", "here there"
	masqueraded bool
}

// reference returns what kube-proxy's iptables and nftables modes do, without any code of the plan.
func reference(c cell) outcome {
	var have []string
	if c.policies.here {
		have = append(have, "here")
	}
	if c.policies.there {
		have = append(have, "there")
	}
	inside := c.client == node || c.client == nodeSrc || c.client == pod && c.detector.knows
	if c.frontend == "ClusterIP" {
		o := among(have, c.policies.internalLocal)
		o.masqueraded = o.fate == trace.Served && clusterIPMasquerade(c)
		return o
	}
	o := among(have, c.policies.externalLocal && !inside)
	isNode := c.client == node || c.client == nodeSrc
	o.masqueraded = o.fate == trace.Served && (!c.policies.externalLocal || isNode)
	return o
}

func among(have []string, local bool) outcome {
	got := have
	if local {
		got = nil
		for _, e := range have {
			if e == "here" {
				got = append(got, e)
			}
		}
	}
	switch {
	case len(have) == 0:
		return outcome{fate: trace.Refused}
	case len(got) == 0:
		return outcome{fate: trace.Dropped}
	}
	return outcome{fate: trace.Served, endpoints: strings.Join(got, " ")}
}

// clusterIPMasquerade: if pods are not recognized, only the node is masqueraded: with the Service's own address as its
// source or, if that is routed, with its own.
func clusterIPMasquerade(c cell) bool {
	switch {
	case c.detector.all:
		return true
	case !c.detector.knows:
		return c.client == node || c.client == nodeSrc && c.detector.routed
	}
	return c.client != pod
}

func TestAPlannedNodeTreatsEveryClientAsTheReferenceDoes(t *testing.T) {
	cells := 0
	for _, d := range detectors() {
		for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP} {
			for bits := range 16 {
				p := policies{
					protocol:      protocol,
					externalLocal: bits&1 != 0, internalLocal: bits&2 != 0,
					here: bits&4 != 0, there: bits&8 != 0,
				}
				firewalls := []state.State{rows(t, d.config, p)}
				if !d.routed && !d.all && d.by != "veth1234" { // enough for nftables: the others differ in the same rules
					nft := d.config
					nft.Firewall = state.OnNFTables
					firewalls = append(firewalls, rows(t, nft, p))
				}
				for _, c := range []client{pod, node, nodeSrc, foreign} {
					for _, frontend := range []string{"ClusterIP", "NodePort", "LB", "externalIP"} {
						for _, f := range []state.Family{state.IPv4, state.IPv6} {
							for _, s := range firewalls {
								cells++
								checkCell(t, s, cell{d, c, frontend, p}, f)
							}
						}
					}
				}
			}
		}
	}
	if cells != (7+3)*3*16*4*4*2 {
		t.Errorf("%d cells were tried", cells)
	}
}

func checkCell(t *testing.T, s state.State, c cell, f state.Family) {
	t.Helper()
	p, w := c.packet(f)
	v := trace.Of(s, p, w)
	want := reference(c)
	got := outcome{fate: v.Fate, masqueraded: v.Masqueraded}
	var endpoints []string
	for _, e := range v.Endpoints {
		switch e.Address.Addr().String() {
		case podHere, podHere6:
			endpoints = append(endpoints, "here")
		case podThere, podThere6:
			endpoints = append(endpoints, "there")
		}
		if e.Masqueraded != v.Masqueraded || e.Fate != trace.Served || e.Address.Port() != targetPort {
			t.Errorf("%s %+v: endpoint %+v", f, c, e)
		}
	}
	got.endpoints = strings.Join(endpoints, " ")
	if got != want {
		var b strings.Builder
		_ = trace.Text(&b, v)
		t.Errorf("%v, %s, %s -> %s, %+v: got %+v, want %+v\n%s", f, c.detector.name, c.client, c.frontend, c.policies, got, want, b.String())
	}
	if v.Service != serviceName {
		t.Errorf("%v, %s -> %s: Service %q\n%+v", f, c.client, c.frontend, v.Service, v.Steps)
	}
	if len(v.Doubts) > 0 {
		t.Errorf("%v, %s, %s -> %s: doubts %q", f, c.detector.name, c.client, c.frontend, v.Doubts)
	}
}

func (c cell) packet(f state.Family) (trace.Packet, trace.Where) {
	pick := func(v4, v6 string) string {
		if f == state.IPv4 {
			return v4
		}
		return v6
	}
	var to string
	number := uint16(port)
	switch c.frontend {
	case "ClusterIP":
		to = pick(clusterIP, clusterIP6)
	case "NodePort":
		to, number = pick(nodeIP, nodeIP6), nodePort
	case "LB":
		to = pick(balancer, balancer6)
	case "externalIP":
		to = pick(external, external6)
	}
	w := where()
	w.Interface = "eth0"
	from := ""
	switch c.client {
	case pod:
		from = pick(podClient, podClient6)
		if c.detector.by != "" {
			w.Interface = c.detector.by
		}
	case foreign:
		from = pick(outside, outside6)
	case nodeSrc:
		from = pick(nodeIP, nodeIP6)
		w = fromNode()
	case node:
		w = fromNode()
	}
	protocol, err := state.ParseProtocol(string(c.policies.protocol))
	if err != nil {
		panic(fmt.Sprint(err))
	}
	return packet(protocol, from, to, number), w
}
