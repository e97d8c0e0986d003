// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func prefixes(list ...string) []netip.Prefix {
	var parsed []netip.Prefix
	for _, s := range list {
		parsed = append(parsed, netip.MustParsePrefix(s))
	}
	return parsed
}

// withPods returns a Node object with pod networks, and an address of each family.
func withPods(networks ...string) *corev1.Node {
	n := nodeObject("n1", "InternalIP", "192.0.2.1", "InternalIP", "2001:db8::1")
	n.Spec.PodCIDRs = networks
	return n
}

func TestPodsAreToldByTheNodesOwnNetworks(t *testing.T) {
	c := config.Default()
	c.LocalDetector = config.LocalDetector{Kind: config.DetectNodeCIDR}
	none := config.LocalDetector{}
	known := func(networks ...string) config.LocalDetector {
		return config.LocalDetector{Kind: config.DetectCIDR, CIDRs: prefixes(networks...)}
	}
	for name, x := range map[string]struct {
		self *corev1.Node
		want config.LocalDetector
	}{
		"no Node object yet":       {nil, none},
		"no networks yet":          {withPods(), none},
		"one":                      {withPods("10.244.1.0/24"), known("10.244.1.0/24")},
		"two families":             {withPods("10.244.1.0/24", "fd00:10:244:1::/64"), known("10.244.1.0/24", "fd00:10:244:1::/64")},
		"the other way round":      {withPods("fd00:10:244:1::/64", "10.244.1.0/24"), known("fd00:10:244:1::/64", "10.244.1.0/24")},
		"the first of each family": {withPods("10.244.1.0/24", "10.244.9.0/24", "fd00::/64", "fd01::/64"), known("10.244.1.0/24", "fd00::/64")},
		"garbage beside":           {withPods("x", "", "10.244.1.0/24"), known("10.244.1.0/24")},
		"nothing but garbage":      {withPods("x"), none},
		"bits behind the length":   {withPods("10.244.1.7/24"), known("10.244.1.0/24")},
	} {
		got := plan.Settle(c, x.self, nil).LocalDetector
		if d := cmp.Diff(x.want, got, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if c.LocalDetector.Kind != config.DetectNodeCIDR {
		t.Error("what was chosen has changed")
	}
}

func TestOtherDetectorsDoNotAskTheNode(t *testing.T) {
	for _, chosen := range []config.LocalDetector{
		{},
		{Kind: config.DetectCIDR, CIDRs: prefixes("10.0.0.0/8")},
		{Kind: config.DetectBridge, Interface: "cni0"},
		{Kind: config.DetectPrefix, Interface: "veth"},
	} {
		c := config.Default()
		c.LocalDetector = chosen
		got := plan.Settle(c, withPods("10.244.1.0/24"), nil).LocalDetector
		if d := cmp.Diff(chosen, got, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}

func TestTheClustersServiceNetworksCountUnlessSomeWereChosen(t *testing.T) {
	of := prefixes("10.96.0.0/12")
	if got := plan.Settle(config.Default(), nil, of).ServiceCIDRs; len(got) != 1 || got[0] != of[0] {
		t.Errorf("the cluster's are %v, got %v", of, got)
	}
	c := config.Default()
	c.ServiceCIDRs = prefixes("172.20.0.0/16")
	if got := plan.Settle(c, nil, of).ServiceCIDRs; len(got) != 1 || got[0] != c.ServiceCIDRs[0] {
		t.Errorf("%v were chosen, got %v", c.ServiceCIDRs, got)
	}
}

func TestAConfigurationThatDoesNotFitTheNodeIsDoubted(t *testing.T) {
	detect := func(k config.DetectorKind, networks ...string) func(*config.Config) {
		return func(c *config.Config) { c.LocalDetector = config.LocalDetector{Kind: k, CIDRs: prefixes(networks...)} }
	}
	nodeCIDR, single := detect(config.DetectNodeCIDR), nodeObject("n1", "InternalIP", "192.0.2.1")
	const pod, nodePort = "no network of IPv6, which the node has: pods of that family are not recognized",
		"no network of IPv6, which the node has: NodePorts are served at all its addresses of that family"
	for name, x := range map[string]struct {
		self   *corev1.Node
		change func(*config.Config)
		want   []plan.Doubt
	}{
		"nothing chosen":              {withPods(), func(*config.Config) {}, nil},
		"both families":               {withPods(), detect(config.DetectCIDR, "10.0.0.0/8", "fd00::/8"), nil},
		"one of two families":         {withPods(), detect(config.DetectCIDR, "10.0.0.0/8"), []plan.Doubt{{"clusterCIDR", pod}}},
		"the node has one":            {single, detect(config.DetectCIDR, "10.0.0.0/8"), nil},
		"the node's families unknown": {nil, detect(config.DetectCIDR, "10.0.0.0/8"), nil},
		"a second family by bindAddress": {single, func(c *config.Config) {
			detect(config.DetectCIDR, "10.0.0.0/8")(c)
			c.BindAddress = netip.MustParseAddr("2001:db8::1")
		}, []plan.Doubt{{"clusterCIDR", pod}}},
		"pod networks of both":           {withPods("10.244.1.0/24", "fd00::/64"), nodeCIDR, nil},
		"pod networks of one":            {withPods("10.244.1.0/24"), nodeCIDR, []plan.Doubt{{"spec.podCIDRs", pod}}},
		"no pod networks":                {withPods(), nodeCIDR, []plan.Doubt{{"spec.podCIDRs", "the Node has none yet: pods of this node are not recognized"}}},
		"no Node object":                 {nil, nodeCIDR, []plan.Doubt{{"spec.podCIDRs", "there is no Node object: pods of this node are not recognized"}}},
		"pod networks that are none":     {withPods("x"), nodeCIDR, []plan.Doubt{{"spec.podCIDRs", `["x"] has no network: pods of this node are not recognized`}}},
		"NodePorts of one family":        {withPods(), func(c *config.Config) { c.NodePortAddresses = prefixes("192.0.2.0/24") }, []plan.Doubt{{"nodePortAddresses", nodePort}}},
		"NodePorts of the node's family": {single, func(c *config.Config) { c.NodePortAddresses = prefixes("192.0.2.0/24") }, nil},
		"a kernel without IPv6, all of it": {single, func(c *config.Config) { allIPv6(c); c.Families = []state.Family{state.IPv4} }, []plan.Doubt{
			{"clusterCIDR", "no network of IPv4, which the node has: pods of that family are not recognized"},
			{"clusterCIDR", "IPv6 is not a family of this node"},
			{"ipvs.excludeCIDRs", "IPv6 is not a family of this node"},
			{"healthzBindAddress", "IPv6 is not a family of this node"},
		}},
		"a kernel with both": {single, func(c *config.Config) { allIPv6(c); c.LocalDetector = config.LocalDetector{} }, nil},
	} {
		c := config.Default()
		x.change(&c)
		if d := cmp.Diff(x.want, plan.Doubts(c, x.self)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// allIPv6 sets each field that may be of IPv6.
func allIPv6(c *config.Config) {
	c.LocalDetector = config.LocalDetector{Kind: config.DetectCIDR, CIDRs: prefixes("fd00::/8")}
	c.ExcludeCIDRs = prefixes("fd01::/64")
	c.Serving.Healthz = netip.MustParseAddrPort("[2001:db8::1]:10256")
	c.Serving.Metrics = netip.MustParseAddrPort("[::]:10249")
}
