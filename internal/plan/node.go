// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// NodeOf returns the node of that name, by the Node objects of itself and of others. self is nil if there is none.
// Addresses of interfaces are not in it.
func NodeOf(name string, self *corev1.Node, others []*corev1.Node) Node {
	n := Node{Name: name}
	own := NodeAddresses(self)
	if self != nil {
		n.Zone = self.Labels[corev1.LabelTopologyZone]
		n.IPs = firstOfFamily(own)
		n.PodCIDRs = podCIDRs(self)
	}
	for _, other := range others {
		for _, a := range NodeAddresses(other) {
			if !slices.Contains(own, a) { // else the other object is outdated: the address has moved here
				n.protect("node "+other.Name, a)
			}
		}
	}
	return n
}

// NodeAddresses returns the addresses of a Node object, internal ones first. Host names do not count, even if they look
// like addresses.
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

// At returns n with address a, which its operator chose (config.BindAddress): it replaces the Node object's address of
// its family, and comes first. An invalid or unspecified one changes nothing.
func (n Node) At(a netip.Addr) Node {
	if a = a.Unmap(); a.IsValid() && !a.IsUnspecified() {
		n.IPs = firstOfFamily(append([]netip.Addr{a}, n.IPs...))
	}
	return n
}

// Protecting returns n with more addresses in its Others.
func (n Node) Protecting(owner string, addresses ...netip.Addr) Node {
	n.Others = maps.Clone(n.Others)
	for _, a := range addresses {
		n.protect(owner, a)
	}
	return n
}

func (n *Node) protect(owner string, a netip.Addr) {
	if n.Others == nil {
		n.Others = map[netip.Addr]string{}
	}
	n.Others[a] = owner
}

// Equal reports whether Services get the same rows on both.
func (n Node) Equal(o Node) bool {
	return n.Name == o.Name && n.Zone == o.Zone && slices.Equal(n.IPs, o.IPs) &&
		n.MTU == o.MTU && slices.Equal(n.Addresses, o.Addresses) && slices.Equal(n.Networks, o.Networks) &&
		slices.Equal(n.PodCIDRs, o.PodCIDRs) && maps.Equal(n.Others, o.Others)
}
