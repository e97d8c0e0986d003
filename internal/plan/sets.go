// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The sets, by their IPv4 names. They are kube-proxy's, so that taking over from it finds them, and so do the
// CNIs that look into them.
const (
	setLoopBack               state.SetName = "KUBE-LOOP-BACK"
	setClusterIP              state.SetName = "KUBE-CLUSTER-IP"
	setExternalIP             state.SetName = "KUBE-EXTERNAL-IP"
	setExternalIPLocal        state.SetName = "KUBE-EXTERNAL-IP-LOCAL"
	setLoadBalancer           state.SetName = "KUBE-LOAD-BALANCER"
	setLoadBalancerFW         state.SetName = "KUBE-LOAD-BALANCER-FW"
	setLoadBalancerLocal      state.SetName = "KUBE-LOAD-BALANCER-LOCAL"
	setLoadBalancerSourceIP   state.SetName = "KUBE-LOAD-BALANCER-SOURCE-IP"
	setLoadBalancerSourceCIDR state.SetName = "KUBE-LOAD-BALANCER-SOURCE-CIDR"
	setNodePortTCP            state.SetName = "KUBE-NODE-PORT-TCP"
	setNodePortLocalTCP       state.SetName = "KUBE-NODE-PORT-LOCAL-TCP"
	setNodePortUDP            state.SetName = "KUBE-NODE-PORT-UDP"
	setNodePortLocalUDP       state.SetName = "KUBE-NODE-PORT-LOCAL-UDP"
	setNodePortSCTP           state.SetName = "KUBE-NODE-PORT-SCTP-HASH"
	setNodePortLocalSCTP      state.SetName = "KUBE-NODE-PORT-LOCAL-SCTP-HASH"
	setHealthCheckNodePort    state.SetName = "KUBE-HEALTH-CHECK-NODE-PORT"
	setIPVSIPs                state.SetName = "KUBE-IPVS-IPS"

	// The ones that kube-proxy has no use for.
	setInside     state.SetName = "KUBE-INSIDE"
	setInsideNode state.SetName = "KUBE-INSIDE-NODE"
	setServers    state.SetName = "KUBE-IPVS-SERVERS"
	setNodeIPs    state.SetName = "KUBE-NODE-IPS"
	setNoLocal    state.SetName = "KUBE-NO-LOCAL"
	setAllPorts   state.SetName = "KUBE-ALL-PORTS"

	// Those that we made before.
	setClusterMark state.SetName = "KUBE-CLUSTER-MARK"
	setMark        state.SetName = "KUBE-SERVICE-MARK"
	setMarkMasq    state.SetName = "KUBE-SERVICE-MARK-MASQ"
)

// set is one of the sets that are there once per family.
type set struct {
	name  state.SetName // for IPv4
	kind  state.SetType
	about string // kube-proxy's comment of the rules that look into it, as iptables-save escapes it
}

// sets are all of them. Every one is always there: rules can't name a set that is not, and the rules are
// always the same.
func sets() []set {
	return []set{
		{setLoopBack, state.HashIPPortIP, "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose"},
		{setClusterIP, state.HashIPPort, "Kubernetes service cluster ip + port for masquerade purpose"},
		{setExternalIP, state.HashIPPort, "Kubernetes service external ip + port for masquerade and filter purpose"},
		{setExternalIPLocal, state.HashIPPort, "Kubernetes service external ip + port with externalTrafficPolicy=local"},
		{setLoadBalancer, state.HashIPPort, "Kubernetes service lb portal"},
		{setLoadBalancerFW, state.HashIPPort, "Kubernetes service load balancer ip + port for load balancer with sourceRange"},
		{setLoadBalancerLocal, state.HashIPPort, "Kubernetes service load balancer ip + port with externalTrafficPolicy=local"},
		{setLoadBalancerSourceIP, state.HashIPPortIP, "Kubernetes service load balancer ip + port + source IP for packet filter purpose"},
		{setLoadBalancerSourceCIDR, state.HashIPPortNet, "Kubernetes service load balancer ip + port + source cidr for packet filter purpose"},
		{setNodePortTCP, state.BitmapPort, "Kubernetes nodeport TCP port for masquerade purpose"},
		{setNodePortLocalTCP, state.BitmapPort, "Kubernetes nodeport TCP port with externalTrafficPolicy=local"},
		{setNodePortUDP, state.BitmapPort, "Kubernetes nodeport UDP port for masquerade purpose"},
		{setNodePortLocalUDP, state.BitmapPort, "Kubernetes nodeport UDP port with externalTrafficPolicy=local"},
		{setNodePortSCTP, state.HashIPPort, `Kubernetes nodeport SCTP port for masquerade purpose with type \'hash ip:port\'`},
		{setNodePortLocalSCTP, state.HashIPPort, `Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type \'hash ip:port\'`},
		{setHealthCheckNodePort, state.BitmapPort, "Kubernetes health check node port"},
		{setIPVSIPs, state.HashIP, "Addresses on the ipvs interface"},
		{setInside, state.HashIPPort, "Service frontends with local endpoints only, for which clients in the cluster get all"},
		{setInsideNode, state.HashIPPort, "Service frontends on node addresses with local endpoints only, for which clients in the cluster get all"},
		{setServers, state.HashIPPort, "Virtual servers that are no Service frontend, but take what was sent to one"},
		{setNodeIPs, state.HashIP, "Node addresses with NodePorts"},
		{setNoLocal, state.HashIPPort, "Service frontends with local endpoints only, without any"},
		{setAllPorts, state.HashIPPort, "Service frontends with one session affinity over all ports"},
	}
}

// maxElem is the greatest number of entries of a set. The kernel takes memory for those that are there, not
// for this number; with its default, 65,536, it refuses what a large cluster needs.
const maxElem = 1 << 20

// header is how set s has to be for family f.
func (s set) header(f state.Family) state.Set {
	if s.kind == state.BitmapPort {
		return state.Set{Type: s.kind, Comment: true}
	}
	return state.Set{Type: s.kind, Family: f, MaxElem: maxElem, Comment: true}
}

// maxSetName is the kernel's IPSET_MAXNAMELEN, without the final NUL.
const maxSetName = 31

// named is the name that a set has for family f. Two of the IPv6 names are longer than the kernel allows, and
// kube-proxy cuts them.
func named(f state.Family, ipv4 state.SetName) state.SetName {
	if f == state.IPv4 {
		return ipv4
	}
	name := "KUBE-6-" + ipv4[len("KUBE-"):]
	return name[:min(len(name), maxSetName)]
}

// SetNames are the names of all our sets for family f.
func SetNames(f state.Family) []state.SetName {
	var names []state.SetName
	for _, s := range sets() {
		names = append(names, named(f, s.name))
	}
	return names
}

// OurSet reports whether a set of this name is ours, of either family, or was.
func OurSet(n state.SetName) bool {
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		before := []state.SetName{named(f, setClusterMark), named(f, setMark), named(f, setMarkMasq)}
		if slices.Contains(SetNames(f), n) || slices.Contains(before, n) {
			return true
		}
	}
	return false
}

// ServerEntries are the set entries that say that virtual server k is ours: one of them in the kernel is
// enough. An entry without an address knows only the port: it counts only if k's address is one of the
// node's.
func ServerEntries(k state.VirtualServerKey) []state.SetEntry {
	if k.Mark != 0 || nodePortSet(k.Protocol) == "" {
		return nil
	}
	entries := serverEntries(k)
	return entries[:]
}

func serverEntries(k state.VirtualServerKey) [6]state.SetEntry {
	return [6]state.SetEntry{
		serverEntry(setClusterIP, k),
		serverEntry(setExternalIP, k),
		serverEntry(setExternalIPLocal, k),
		serverEntry(setLoadBalancer, k),
		nodePortEntry(k),
		serverEntry(setServers, k),
	}
}

// serverEntry is the entry of a hash:ip,port set for the address of k.
func serverEntry(s state.SetName, k state.VirtualServerKey) state.SetEntry {
	return state.SetEntry{
		Set:      named(k.Family(), s),
		Address:  k.Address.Addr(),
		Protocol: k.Protocol,
		Port:     k.Address.Port(),
	}
}

// nodePortEntry is the entry for a NodePort at the address of k. TCP and UDP have a bitmap of ports alone.
// That type matches no SCTP packet (the kernel's ip_set_get_ip_port knows the two others only), so SCTP has a
// hash type.
func nodePortEntry(k state.VirtualServerKey) state.SetEntry {
	if k.Protocol == state.SCTP {
		return serverEntry(setNodePortSCTP, k)
	}
	return state.SetEntry{Set: named(k.Family(), nodePortSet(k.Protocol)), Port: k.Address.Port()}
}

// nodePortLocalEntry says that clients of the NodePort at k keep their address.
func nodePortLocalEntry(k state.VirtualServerKey) state.SetEntry {
	switch k.Protocol {
	case state.SCTP:
		return serverEntry(setNodePortLocalSCTP, k)
	case state.UDP:
		return state.SetEntry{Set: named(k.Family(), setNodePortLocalUDP), Port: k.Address.Port()}
	}
	return state.SetEntry{Set: named(k.Family(), setNodePortLocalTCP), Port: k.Address.Port()}
}

func nodePortSet(p state.Protocol) state.SetName {
	switch p {
	case state.TCP:
		return setNodePortTCP
	case state.UDP:
		return setNodePortUDP
	case state.SCTP:
		return setNodePortSCTP
	}
	return ""
}
