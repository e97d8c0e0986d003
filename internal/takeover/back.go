// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Back is the way back to kube-proxy's IPVS mode, which Services are served all along. kube-proxy finds its
// virtual servers, addresses, chains and jumps, and needs no more for these to be right. But it makes its
// sets with `ipset create -exist`, which fails where one is there with comments or another maxelem, and gives
// up each sync there. And it knows nothing of the virtual servers to which entries lead that were sent
// elsewhere, nor of the sets and chains for that.
type Back struct {
	// First is what is wished first: kube-proxy's sets, and nothing that leads packets elsewhere. The virtual
	// servers that it led to stay, or what is sent to them until nothing leads there any more would be
	// refused.
	First state.State
	// Then is what is wished in the end, without these virtual servers. Their connections go on for as long
	// as they are left to.
	Then state.State
	// Flows are those through them that have no end.
	Flows []state.Flow
}

// Speaks reports whether the way back says how a chain has to be. All others, and the jumps to them, have to
// be left alone.
func (b Back) Speaks(k state.ChainKey) bool {
	_, changes := b.Then.Chains[k]
	return changes || k.Table == state.Mangle || !itsChain(k.Name)
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

// Sets are the names of the sets of kube-proxy's IPVS mode, of both families. It cuts the IPv6 ones at what
// the kernel takes.
func Sets() []state.SetName {
	const longest = 31
	names := names4()
	for _, n := range names4() {
		v6 := "KUBE-6-" + n[len("KUBE-"):]
		names = append(names, v6[:min(len(v6), longest)])
	}
	return names
}

// itsChain reports whether a chain of that name is one of kube-proxy's.
func itsChain(name string) bool {
	return OnlyIts(name) || slices.Contains([]string{
		chainServices, chainPostrouting, chainMarkMasq, chainForward, chainFirewall, "KUBE-NODE-PORT", "KUBE-LOAD-BALANCER",
		"KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER",
	}, name)
}

// ToKubeProxy is the way back from what the kernel holds. It wishes for no more than has to change:
// kube-proxy may be at work already. Chains and jumps of ours are not wished for, nor what its chains have of
// ours, and all others not spoken of.
func ToKubeProxy(s state.State) Back {
	then := state.New()
	then.Links = s.Links
	for a, b := range s.Addresses {
		if b != (state.Binding{}) && !state.Inside(a.Addr) { // it knows no routes, and would leave them behind
			then.Addresses[a] = state.Binding{}
		}
	}
	for _, n := range Sets() {
		if have, there := s.Sets[n]; there && have != its(have) {
			then.Sets[n] = its(have)
		}
	}
	for e := range s.Entries {
		if _, changes := then.Sets[e.Set]; changes && !state.Inside(e.Address) {
			then.Entries[e] = state.Entry{}
		}
	}
	rewrite(s, then)
	flows := unlead(s, then)
	return Back{First: first(s, then), Then: then, Flows: flows}
}

// rewrite takes what is ours out of kube-proxy's chains.
func rewrite(s, into state.State) {
	ours := func(word string) bool {
		_, set := s.Sets[state.SetName(word)]
		return set && !ItsSet(state.SetName(word))
	}
	for k := range s.Chains {
		if k.Table == state.Mangle || !itsChain(k.Name) {
			continue
		}
		own := func(word string) bool {
			_, chain := s.Chains[state.ChainKey{Family: k.Family, Table: k.Table, Name: word}]
			return ours(word) || chain && !itsChain(word)
		}
		lines := s.Chains[k].Lines()
		without := slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
			return slices.ContainsFunc(strings.Fields(line), own)
		})
		if len(without) < len(lines) {
			into.Chains[k] = state.ChainOf(without...)
		}
	}
	for k, v := range s.Jumps {
		if _, changes := into.Chains[state.ChainKey{Family: k.Family, Table: k.Table, Name: k.To}]; changes {
			into.Jumps[k] = v
		}
	}
}

// first is what comes before then: no entry leads elsewhere, or refuses what another one leads away. These
// leave once real servers are there in their stead, which rules would not wait for: so rules stay as they
// are, and the sets that they look into.
func first(s, then state.State) state.State {
	f := then
	f.Sets, f.Entries, f.Chains = maps.Clone(then.Sets), maps.Clone(then.Entries), maps.Clone(then.Chains)
	f.Addresses = maps.Clone(then.Addresses)
	for a, b := range s.Addresses {
		if state.Inside(a.Addr) {
			f.Addresses[a] = b
		}
	}
	f.VirtualServers, f.RealServers = maps.Clone(then.VirtualServers), maps.Clone(then.RealServers)
	for k, v := range s.Chains {
		if _, changes := then.Chains[k]; changes || k.Table != state.Mangle && !itsChain(k.Name) {
			f.Chains[k] = v
		}
	}
	for e, v := range s.Entries {
		if to, ok := e.LeadsTo(v); ok {
			if v, there := s.VirtualServers[to]; there {
				f.VirtualServers[to] = v
			}
		}
	}
	for k, v := range s.VirtualServers {
		if state.OurMark(k.Mark) { // what led there may have gone already
			f.VirtualServers[k] = v
		}
	}
	for k, v := range s.RealServers {
		if _, stays := f.VirtualServers[k.Server]; stays {
			f.RealServers[k] = v
		}
	}
	for n, set := range s.Sets {
		if !ItsSet(n) {
			f.Sets[n] = set
		}
	}
	for e, v := range s.Entries {
		_, leads := e.LeadsTo(v)
		switch _, stays := f.Sets[e.Set]; {
		case leads || !stays:
		case state.Inside(e.Address) && ItsSet(e.Set):
			f.Entries[e] = state.Entry{}
		case !ItsSet(e.Set) && !e.Set.Refuses():
			f.Entries[e] = v
		}
	}
	return f
}

// its is the header of a set as kube-proxy makes it.
func its(set state.Set) state.Set {
	set.Comment, set.Marks = false, false
	if set.MaxElem > 0 {
		set.MaxElem = setSize
	}
	return set
}

// unlead gives the real servers to which entries lead to the virtual servers that packets were sent to, where
// these have none: kube-proxy's IPVS mode does so. It returns the flows through those that were led to.
func unlead(s, into state.State) []state.Flow {
	behind := map[state.VirtualServerKey][]state.RealServerKey{}
	for k := range s.RealServers {
		behind[k.Server] = append(behind[k.Server], k)
	}
	var flows []state.Flow
	for e, v := range s.Entries {
		to, leads := e.LeadsTo(v)
		if !leads {
			continue
		}
		front := state.VirtualServerKey{Address: netip.AddrPortFrom(e.Address, e.Port), Protocol: e.Protocol}
		server, served := s.VirtualServers[front]
		for _, k := range behind[to] {
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
