// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Back is the way back to kube-proxy's IPVS mode, which Services are served all
// along. kube-proxy finds its virtual servers, addresses, chains and jumps, and
// needs no more for these to be right. But it makes its sets with `ipset create
// -exist`, which fails where one is there with comments or another maxelem, and
// gives up each sync there. And it knows nothing of what is behind marks.
type Back struct {
	// First is what is wished first: kube-proxy's sets, and nothing that steers
	// packets to virtual servers behind marks. These stay, or what is sent to
	// them until nothing steers any more would be refused.
	First state.State
	// Then is what is wished in the end. Virtual servers behind marks are not in
	// it; their connections go on for as long as they are left to.
	Then state.State
	// Flows are those through them that have no end.
	Flows []state.Flow
}

// setSize is how many entries kube-proxy's sets take.
const setSize = 65536

// names4 are the sets of kube-proxy's IPVS mode.
func names4() []state.SetName {
	return []state.SetName{
		"KUBE-LOOP-BACK", "KUBE-CLUSTER-IP", "KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL",
		"KUBE-LOAD-BALANCER", "KUBE-LOAD-BALANCER-FW", "KUBE-LOAD-BALANCER-LOCAL",
		"KUBE-LOAD-BALANCER-SOURCE-IP", "KUBE-LOAD-BALANCER-SOURCE-CIDR",
		"KUBE-NODE-PORT-TCP", "KUBE-NODE-PORT-LOCAL-TCP", "KUBE-NODE-PORT-UDP", "KUBE-NODE-PORT-LOCAL-UDP",
		"KUBE-NODE-PORT-SCTP-HASH", "KUBE-NODE-PORT-LOCAL-SCTP-HASH",
		"KUBE-HEALTH-CHECK-NODE-PORT", "KUBE-IPVS-IPS",
	}
}

// ItsSet says whether a set is one of kube-proxy's IPVS mode.
func ItsSet(n state.SetName) bool { return slices.Contains(Sets(), n) }

// Sets are the names of the sets of kube-proxy's IPVS mode, of both families. It
// cuts the IPv6 ones at what the kernel takes.
func Sets() []state.SetName {
	const longest = 31
	names := names4()
	for _, n := range names4() {
		v6 := "KUBE-6-" + n[len("KUBE-"):]
		names = append(names, v6[:min(len(v6), longest)])
	}
	return names
}

// ToKubeProxy is the way back from what the kernel holds. It wishes for no more
// than has to change: kube-proxy may be at work already. Chains and jumps of
// ours in mangle are not wished for, and all others not spoken of.
func ToKubeProxy(s state.State) Back {
	then := state.New()
	then.Links = s.Links
	for a, b := range s.Addresses {
		if b != (state.Binding{}) { // it knows no routes, and would leave them behind
			then.Addresses[a] = state.Binding{}
		}
	}
	for _, n := range Sets() {
		if have, there := s.Sets[n]; there && have != its(have) {
			then.Sets[n] = its(have)
		}
	}
	for e := range s.Entries {
		if _, changes := then.Sets[e.Set]; changes {
			then.Entries[e] = state.Entry{}
		}
	}
	flows := unsteer(s, then)
	first := then
	first.VirtualServers, first.RealServers = maps.Clone(then.VirtualServers), maps.Clone(then.RealServers)
	for k, v := range s.VirtualServers {
		if state.OurMark(k.Mark) {
			first.VirtualServers[k] = v
		}
	}
	for k, v := range s.RealServers {
		if state.OurMark(k.Server.Mark) {
			first.RealServers[k] = v
		}
	}
	return Back{First: first, Then: then, Flows: flows}
}

// its is the header of a set as kube-proxy makes it.
func its(set state.Set) state.Set {
	set.Comment, set.Marks = false, false
	if set.MaxElem > 0 {
		set.MaxElem = setSize
	}
	return set
}

// unsteer gives the real servers behind marks to the virtual servers that packets
// come to without a mark, where these have none: kube-proxy's IPVS mode does so.
// It returns the flows through those behind marks.
func unsteer(s, into state.State) []state.Flow {
	behind := map[state.VirtualServerKey][]state.RealServerKey{}
	for k := range s.RealServers {
		behind[k.Server] = append(behind[k.Server], k)
	}
	var flows []state.Flow
	for e, v := range s.Entries {
		if v.Mark == 0 {
			continue
		}
		front := state.VirtualServerKey{Address: netip.AddrPortFrom(e.Address, e.Port), Protocol: e.Protocol}
		server, served := s.VirtualServers[front]
		for _, k := range behind[state.MarkKey(state.FamilyOf(e.Address), v.Mark)] {
			to := k.Address
			if to.Port() == 0 { // the client's port is kept
				to = netip.AddrPortFrom(to.Addr(), e.Port)
			}
			if served && len(behind[front]) == 0 {
				into.VirtualServers[front] = server
				into.RealServers[state.RealServerKey{Server: front, Address: to}] = s.RealServers[k]
			}
			if e.Protocol != state.TCP {
				flows = append(flows, state.Flow{Protocol: e.Protocol, Service: front.Address, Endpoint: to})
			}
		}
	}
	slices.SortFunc(flows, state.Flow.Compare)
	return slices.Compact(flows)
}
