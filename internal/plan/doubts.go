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

// Doubt is something of the configuration that may not be what its author meant on this node.
type Doubt struct {
	Field string // as in KubeProxyConfiguration, or of the Node
	Why   string
}

// Doubts are what can be seen only where configuration and node meet: most of all an IP family that one of
// them has and the other has not. self is nil if there is no Node object. None of them keeps the rest from
// working.
func Doubts(c config.Config, self *corev1.Node) []Doubt {
	var found []Doubt
	doubt := func(field, format string, args ...any) {
		found = append(found, Doubt{field, fmt.Sprintf(format, args...)})
	}
	ips := NodeOf("", self, nil).At(c.BindAddress).IPs
	for _, f := range missing(ips, Settle(c, self, nil).LocalDetector.CIDRs) {
		doubt(podField(c), "no network of %v, which the node has: of that family nobody is known to be a pod", f)
	}
	for _, f := range missing(ips, c.NodePortAddresses) {
		if !c.NodePortPrimary {
			doubt("nodePortAddresses", "no network of %v, which the node has: NodePorts are served at all its addresses of that family", f)
		}
	}
	if why := withoutPodCIDRs(self); why != "" && c.LocalDetector.Kind == config.DetectNodeCIDR {
		doubt(podField(c), "%s: nobody is known to be a pod of this node", why)
	}
	return append(found, foreign(c)...)
}

// podField is where the networks of pods are chosen.
func podField(c config.Config) string {
	if c.LocalDetector.Kind == config.DetectNodeCIDR {
		return "spec.podCIDRs"
	}
	return "clusterCIDR"
}

// withoutPodCIDRs says why a Node object gives no pod network; empty if it does.
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

// missing are the families of which there is an address but no network, if there is a network at all.
func missing(ips []netip.Addr, networks []netip.Prefix) []state.Family {
	var list []state.Family
	for _, ip := range ips {
		same := func(p netip.Prefix) bool { return state.FamilyOf(p.Addr()) == state.FamilyOf(ip) }
		if len(networks) > 0 && !slices.ContainsFunc(networks, same) {
			list = append(list, state.FamilyOf(ip))
		}
	}
	return list
}

// foreign are the settings that are only of a family which this kernel has not.
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

// listensAt is the family of an address, unless it stands for all.
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
