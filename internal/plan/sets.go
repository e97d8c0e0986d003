// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// set is one of the sets that exist once per family.
type set struct {
	name  state.SetName // for IPv4
	kind  state.SetType
	about string // kube-proxy's comment of the rules that look into it
}

// sets lists all of them. Every set always exists: rules cannot name a missing one, and the rules never change.
func sets() []set {
	return []set{
		{state.SetLoopBack, state.HashIPPortIP, "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose"},
		{state.SetClusterIP, state.HashIPPort, "Kubernetes service cluster ip + port for masquerade purpose"},
		{state.SetExternalIP, state.HashIPPort, "Kubernetes service external ip + port for masquerade and filter purpose"},
		{state.SetExternalIPLocal, state.HashIPPort, "Kubernetes service external ip + port with externalTrafficPolicy=local"},
		{state.SetLoadBalancer, state.HashIPPort, "Kubernetes service lb portal"},
		{state.SetLoadBalancerFW, state.HashIPPort, "Kubernetes service load balancer ip + port for load balancer with sourceRange"},
		{state.SetLoadBalancerLocal, state.HashIPPort, "Kubernetes service load balancer ip + port with externalTrafficPolicy=local"},
		{state.SetLoadBalancerSourceIP, state.HashIPPortIP, "Kubernetes service load balancer ip + port + source IP for packet filter purpose"},
		{state.SetLoadBalancerSourceCIDR, state.HashIPPortNet, "Kubernetes service load balancer ip + port + source cidr for packet filter purpose"},
		{state.SetNodePortTCP, state.BitmapPort, "Kubernetes nodeport TCP port for masquerade purpose"},
		{state.SetNodePortLocalTCP, state.BitmapPort, "Kubernetes nodeport TCP port with externalTrafficPolicy=local"},
		{state.SetNodePortUDP, state.BitmapPort, "Kubernetes nodeport UDP port for masquerade purpose"},
		{state.SetNodePortLocalUDP, state.BitmapPort, "Kubernetes nodeport UDP port with externalTrafficPolicy=local"},
		{state.SetNodePortSCTP, state.HashIPPort, "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'"},
		{state.SetNodePortLocalSCTP, state.HashIPPort, "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'"},
		{state.SetHealthCheckNodePort, state.BitmapPort, "Kubernetes health check node port"},
		{state.SetIPVSIPs, state.HashIP, "Addresses on the ipvs interface"},
		{state.SetInside, state.HashIPPort, "Service frontends with local endpoints only, for which clients in the cluster get all"},
		{state.SetInsideNode, state.HashIPPort, "Service frontends on node addresses with local endpoints only, for which clients in the cluster get all"},
		{state.SetServers, state.HashIPPort, "Virtual servers that are no Service frontend, but take what was sent to one"},
		{state.SetNodeIPs, state.HashIP, "Node addresses with NodePorts"},
		{state.SetNoLocal, state.HashIPPort, "Service frontends with local endpoints only, without any"},
		{state.SetAllPorts, state.HashIPPort, "Service frontends with one session affinity over all ports"},
	}
}

// maxElem is the greatest number of entries of a set. The kernel allocates memory for the entries that exist, not for
// this number. Its default, 65,536, is too small for a large cluster.
const maxElem = 1 << 20

// header returns the header of set s for family f in a firewall. Sets of nftables have no greatest number.
func (s set) header(f state.Family, w state.Firewall) state.Set {
	h := state.Set{Type: s.kind, Family: f, Comment: true}
	switch {
	case s.kind == state.BitmapPort:
		h.Family = 0
	case w == state.OnIPTables:
		h.MaxElem = maxElem
	case s.name == state.SetInside:
		h.Type = state.MapIPPortToPort
	case s.name == state.SetAllPorts:
		h.Type = state.MapIPPortToIP
	}
	return h
}

// SetNames returns the names of all our sets for family f, as ipset has them.
func SetNames(f state.Family) []state.SetName {
	var names []state.SetName
	for _, s := range sets() {
		names = append(names, s.name.For(f))
	}
	return names
}

// OurSet reports whether a set of this name is ours, in either firewall, of either family and of any version.
func OurSet(n state.SetName) bool {
	return slices.ContainsFunc([]state.Family{state.IPv4, state.IPv6}, func(f state.Family) bool {
		older := []state.SetName{state.SetClusterMark.For(f), state.SetMark.For(f), state.SetMarkMasq.For(f)}
		return slices.Contains(SetNames(f), n.Bare()) || slices.Contains(older, n.Bare())
	})
}

// ServerEntries returns the set entries of either firewall that prove virtual server k ours: one of them in the kernel
// is enough. One without an address knows only the port, and counts only if k's address is one of the node's.
func ServerEntries(k state.VirtualServerKey) []state.SetEntry {
	if !provable(k) {
		return nil
	}
	var all []state.SetEntry
	for _, w := range state.Firewalls() {
		for _, e := range serverEntries(k) {
			all = append(all, on(e, w))
		}
	}
	return all
}

// on returns the same entry in a firewall.
func on(e state.SetEntry, w state.Firewall) state.SetEntry {
	e.Set = e.Set.On(w)
	return e
}

// provable reports whether set entries can prove k ours. A virtual server with a mark of ours needs no proof.
func provable(k state.VirtualServerKey) bool {
	nodePorts, _ := nodePortSets(k.Protocol)
	return k.Mark == 0 && nodePorts != ""
}

func serverEntries(k state.VirtualServerKey) [6]state.SetEntry {
	nodePorts, _ := nodePortSets(k.Protocol)
	return [6]state.SetEntry{
		serverEntry(state.SetClusterIP, k),
		serverEntry(state.SetExternalIP, k),
		serverEntry(state.SetExternalIPLocal, k),
		serverEntry(state.SetLoadBalancer, k),
		nodePortEntry(nodePorts, k),
		serverEntry(state.SetServers, k),
	}
}

// serverEntry returns the entry of a hash:ip,port set for the address of k.
func serverEntry(s state.SetName, k state.VirtualServerKey) state.SetEntry {
	return state.SetEntry{Set: s.For(k.Family()), Address: k.Address.Addr(), Protocol: k.Protocol, Port: k.Address.Port()}
}

// nodePortEntry returns the entry of one of nodePortSets for the address of k. TCP and UDP have a bitmap of ports
// alone. That type matches no SCTP packet (the kernel's ip_set_get_ip_port knows only the two others), so SCTP has a
// hash type.
func nodePortEntry(s state.SetName, k state.VirtualServerKey) state.SetEntry {
	if k.Protocol == state.SCTP {
		return serverEntry(s, k)
	}
	return state.SetEntry{Set: s.For(k.Family()), Port: k.Address.Port()}
}

// nodePortSets returns the sets of a protocol's NodePorts: of all, and of those whose clients keep their address.
func nodePortSets(p state.Protocol) (all, local state.SetName) {
	switch p {
	case state.TCP:
		return state.SetNodePortTCP, state.SetNodePortLocalTCP
	case state.UDP:
		return state.SetNodePortUDP, state.SetNodePortLocalUDP
	case state.SCTP:
		return state.SetNodePortSCTP, state.SetNodePortLocalSCTP
	}
	return "", ""
}

// Ownership decides what in a kernel is ours, by the names and set entries that this package makes.
type Ownership struct {
	// Exclude are networks in which nothing is ours, whatever entries say.
	Exclude []netip.Prefix
}

// Set reports whether a set of that name is ours. A temporary one is, too: a crash may leave it behind.
func (Ownership) Set(n state.SetName) bool { return OurSet(n) || n.Temporary() }

// Proofs yields the set entries any of which proves virtual server k ours. They are of both firewalls, as a node that
// changes its firewall has virtual servers that only entries of the other one prove. local: its address is one of the
// node's own. Otherwise a port alone proves nothing.
func (o Ownership) Proofs(k state.VirtualServerKey, local bool) iter.Seq[state.SetEntry] {
	return func(yield func(state.SetEntry) bool) {
		if !provable(k) || o.excluded(k.Address.Addr()) {
			return
		}
		for _, w := range state.Firewalls() {
			for _, e := range serverEntries(k) {
				if (local || e.Address.IsValid()) && !yield(on(e, w)) {
					return
				}
			}
		}
	}
}

// AddressProofs yields the set entries any of which proves address a ours.
func (o Ownership) AddressProofs(a state.Address) iter.Seq[state.SetEntry] {
	return func(yield func(state.SetEntry) bool) {
		if o.excluded(a.Addr) {
			return
		}
		for _, w := range state.Firewalls() {
			if !yield(on(addressEntry(a.Addr), w)) {
				return
			}
		}
	}
}

func (o Ownership) excluded(a netip.Addr) bool {
	_, in := networkOf(o.Exclude, a)
	return in
}

// NoLocal counts the ports of a Service that traffic policy Local leaves without endpoints on this node while other
// nodes have some: for clients in the cluster, and for those outside.
func NoLocal(f Fragment, family state.Family) (internal, external int) {
	set := state.SetNoLocal.For(family)
	inside, outside := map[string]struct{}{}, map[string]struct{}{} // ports, by comment
	for _, r := range f.Entries {
		if r.Key.Set.Bare() != set {
			continue
		}
		k := r.Key
		k.Set = state.SetClusterIP.For(family).On(k.Set.Firewall())
		if _, found := slices.BinarySearchFunc(f.Entries, k, func(r entryRow, k state.SetEntry) int { return r.Key.Compare(k) }); found {
			inside[r.Value.Comment] = struct{}{}
		} else {
			outside[r.Value.Comment] = struct{}{}
		}
	}
	return len(inside), len(outside)
}
