// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// NodeOf is the node of that name as Node objects tell of it and its surroundings. self is nil if there is no
// object of the node's own. What its interfaces have is not in it.
func NodeOf(name string, self *corev1.Node, others []*corev1.Node) Node {
	n := Node{Name: name}
	own := NodeAddresses(self)
	if self != nil {
		n.Zone = self.Labels[corev1.LabelTopologyZone]
		n.IPs = firstOfFamily(own)
		n.PodCIDRs = podCIDRs(self)
	}
	for _, other := range others {
		whose := "node " + other.Name
		for _, a := range NodeAddresses(other) {
			if !slices.Contains(own, a) { // who has not heard that the address moved
				n.protect(whose, a)
			}
		}
	}
	return n
}

// NodeAddresses are the addresses that a Node object has, internal ones first. Its host names are none,
// whatever they look like.
func NodeAddresses(n *corev1.Node) []netip.Addr {
	if n == nil {
		return nil
	}
	var list []netip.Addr
	for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, in := range n.Status.Addresses {
			if in.Type != kind {
				continue
			}
			if a, err := parseAddr(in.Address); err == nil && !slices.Contains(list, a) {
				list = append(list, a)
			}
		}
	}
	return list
}

func firstOfFamily(list []netip.Addr) []netip.Addr {
	var first []netip.Addr
	for _, a := range list {
		same := func(b netip.Addr) bool { return state.FamilyOf(a) == state.FamilyOf(b) }
		if !slices.ContainsFunc(first, same) {
			first = append(first, a)
		}
	}
	return first
}

// At is n known by address a, which its operator chose (config.BindAddress): it takes the place of the Node
// object's of its family, and comes first. None or an unspecified one leaves n as it is.
func (n Node) At(a netip.Addr) Node {
	if a = a.Unmap(); a.IsValid() && !a.IsUnspecified() {
		n.IPs = firstOfFamily(append([]netip.Addr{a}, n.IPs...))
	}
	return n
}

// Protecting is n with more addresses in its Others.
func (n Node) Protecting(whose string, addresses ...netip.Addr) Node {
	n.Others = maps.Clone(n.Others)
	for _, a := range addresses {
		n.protect(whose, a)
	}
	return n
}

func (n *Node) protect(whose string, a netip.Addr) {
	if n.Others == nil {
		n.Others = map[netip.Addr]string{}
	}
	n.Others[a] = whose
}

// Equal says whether Services mean the same on both.
func (n Node) Equal(o Node) bool {
	return n.Name == o.Name && n.Zone == o.Zone && slices.Equal(n.IPs, o.IPs) &&
		n.MTU == o.MTU && slices.Equal(n.Addresses, o.Addresses) && slices.Equal(n.Networks, o.Networks) &&
		slices.Equal(n.PodCIDRs, o.PodCIDRs) && maps.Equal(n.Others, o.Others)
}
