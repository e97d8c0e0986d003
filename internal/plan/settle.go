// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Settle is what was chosen, completed by what the cluster tells: its networks of cluster IPs, if none were
// chosen, and the pod networks of this node's object, if pods are to be told by them. While the object has
// none, nobody is known to be a pod of this node.
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

// podCIDRs are the first pod networks of each family of a Node object.
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
