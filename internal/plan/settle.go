// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Settle completes the configuration from the cluster: its networks of cluster IPs, if none were configured, and this
// node's pod networks, if they identify pods. Until the Node object has some, pods are not recognized.
func Settle(c config.Config, self *corev1.Node, serviceCIDRs []netip.Prefix) config.Config {
	if len(c.ServiceCIDRs) == 0 {
		c.ServiceCIDRs = serviceCIDRs
	}
	if c.LocalDetector.Kind == config.DetectNodeCIDR {
		c.LocalDetector = config.LocalDetector{}
		if own := podCIDRs(self); len(own) > 0 {
			c.LocalDetector = config.LocalDetector{Kind: config.DetectCIDR, CIDRs: own}
		}
	}
	return c
}

// podCIDRs returns the first pod network of each family of a Node object.
func podCIDRs(n *corev1.Node) []netip.Prefix {
	if n == nil {
		return nil
	}
	var list []netip.Prefix
	seen := map[state.Family]bool{}
	for _, text := range n.Spec.PodCIDRs {
		if p, err := parsePrefix(text); err == nil && !seen[state.FamilyOf(p.Addr())] {
			seen[state.FamilyOf(p.Addr())] = true
			list = append(list, p)
		}
	}
	return list
}

// Doubt is a setting that may not be what its author meant on this node.
type Doubt struct {
	Field string // as in KubeProxyConfiguration, or of the Node
	Why   string
}

// Doubts returns warnings that need both the configuration and the node, most of all about an IP family that only one
// of them has. self is nil if there is no Node object. The rest works in spite of them.
func Doubts(c config.Config, self *corev1.Node) []Doubt {
	var found []Doubt
	doubt := func(field, format string, args ...any) {
		found = append(found, Doubt{field, fmt.Sprintf(format, args...)})
	}
	podField := "clusterCIDR"
	if c.LocalDetector.Kind == config.DetectNodeCIDR {
		podField = "spec.podCIDRs"
	}
	ips := NodeOf("", self, nil).At(c.BindAddress).IPs
	for _, f := range missing(ips, Settle(c, self, nil).LocalDetector.CIDRs) {
		doubt(podField, "no network of %v, which the node has: pods of that family are not recognized", f)
	}
	for _, f := range missing(ips, c.NodePortAddresses) {
		if !c.NodePortPrimary {
			doubt("nodePortAddresses", "no network of %v, which the node has: NodePorts are served at all its addresses of that family", f)
		}
	}
	if why := withoutPodCIDRs(self); why != "" && c.LocalDetector.Kind == config.DetectNodeCIDR {
		doubt(podField, "%s: pods of this node are not recognized", why)
	}
	return append(found, foreign(c)...)
}

// withoutPodCIDRs returns why a Node object has no pod network; empty if it has one.
func withoutPodCIDRs(self *corev1.Node) string {
	switch {
	case self == nil:
		return "there is no Node object"
	case len(self.Spec.PodCIDRs) == 0:
		return "the Node has none yet"
	case len(podCIDRs(self)) == 0:
		return fmt.Sprintf("%.256q has no network", self.Spec.PodCIDRs)
	}
	return ""
}

// missing returns the families with an address but without a network, if there is a network at all.
func missing(ips []netip.Addr, networks []netip.Prefix) []state.Family {
	var list []state.Family
	for _, ip := range ips {
		if f := state.FamilyOf(ip); len(networks) > 0 && !slices.Contains(familiesOf(networks), f) {
			list = append(list, f)
		}
	}
	return list
}

// foreign returns warnings about settings that are only for a family that this kernel lacks.
func foreign(c config.Config) []Doubt {
	var found []Doubt
	add := func(field string, families ...state.Family) {
		served := func(f state.Family) bool { return slices.Contains(c.Families, f) }
		if len(families) > 0 && !slices.ContainsFunc(families, served) {
			found = append(found, Doubt{field, fmt.Sprintf("%v is not a family of this node", families[0])})
		}
	}
	add("clusterCIDR", familiesOf(c.LocalDetector.CIDRs)...)
	add("ipvs.excludeCIDRs", familiesOf(c.ExcludeCIDRs)...)
	add("healthzBindAddress", listensAt(c.Serving.Healthz)...)
	add("metricsBindAddress", listensAt(c.Serving.Metrics)...)
	return found
}

// listensAt returns the family of an address, unless it stands for all.
func listensAt(at netip.AddrPort) []state.Family {
	if !at.IsValid() || at.Addr().IsUnspecified() {
		return nil
	}
	return []state.Family{state.FamilyOf(at.Addr())}
}

func familiesOf(networks []netip.Prefix) []state.Family {
	var list []state.Family
	for _, p := range networks {
		list = append(list, state.FamilyOf(p.Addr()))
	}
	return list
}
