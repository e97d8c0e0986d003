// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Back is the way back to kube-proxy's IPVS mode, during which Services keep working. kube-proxy finds its virtual
// servers, addresses, chains and jumps, and corrects them. But it makes its sets with `ipset create -exist`, which
// fails if a set exists with comments or another maxelem, and then gives up each sync. And it knows nothing of the
// virtual servers to which entries lead, nor of the sets and chains for that.
type Back struct {
	// First is desired first: kube-proxy's sets, and nothing that leads packets elsewhere. The virtual servers behind
	// such entries stay: without them the kernel would refuse packets until nothing leads there any more.
	First state.State
	// Then is desired in the end, without these virtual servers. Their connections go on for as long as they may.
	Then state.State
	// Flows are those through these virtual servers that have no end.
	Flows []state.Flow
	// Holds reports whether our table of nftables stays, as kube-proxy's own rules are not there yet.
	Holds bool
}

// Speaks reports whether the way back defines a chain. All others, and the jumps to them, must stay as they are.
func (b Back) Speaks(k state.ChainKey) bool {
	_, changes := b.Then.Chains[k]
	return changes || k.Table == state.Mangle || !itsChain(k.Name) || k.Table.Firewall() == state.OnNFTables
}

// setSize is the maxelem of kube-proxy's sets.
const setSize = 65536

// ItsSet reports whether a set is one of kube-proxy's IPVS mode.
func ItsSet(n state.SetName) bool { return slices.Contains(Sets(), n) }

// Sets returns the names of the sets of kube-proxy's IPVS mode, of both families.
func Sets() []state.SetName {
	names := []state.SetName{
		state.SetLoopBack, state.SetClusterIP, state.SetExternalIP, state.SetExternalIPLocal,
		state.SetLoadBalancer, state.SetLoadBalancerFW, state.SetLoadBalancerLocal,
		state.SetLoadBalancerSourceIP, state.SetLoadBalancerSourceCIDR,
		state.SetNodePortTCP, state.SetNodePortLocalTCP, state.SetNodePortUDP, state.SetNodePortLocalUDP,
		state.SetNodePortSCTP, state.SetNodePortLocalSCTP,
		state.SetHealthCheckNodePort, state.SetIPVSIPs,
	}
	for _, n := range names { // those of IPv4
		names = append(names, n.For(state.IPv6))
	}
	return names
}

// itsChain reports whether kube-proxy has a chain of that name.
func itsChain(name string) bool {
	return OnlyIts(name) || slices.Contains([]string{
		state.ChainServices, state.ChainPostrouting, state.ChainMarkMasq, state.ChainForward, state.ChainFirewall,
		state.ChainNodePort, state.ChainLoadBalancer, state.ChainSourceRanges, state.ChainIPVSFilter, state.ChainIPVSOut,
	}, name)
}

// ToKubeProxy returns the way back from a kernel's rows. It changes only what must change, as kube-proxy may be running
// already: it removes our own chains and jumps, and our rules in kube-proxy's chains.
//
// Our table of nftables serves until kube-proxy's rules do, but for what leads packets elsewhere. Then it has to go: its
// rules come first, and know no Service that is new.
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
	b := Back{First: first(s, then), Then: then, Flows: flows, Holds: inNFTables(s) && !rulesServe(s)}
	holdTable(s, b.First, true)
	if b.Holds {
		holdTable(s, b.Then, false)
	}
	return b
}

// inNFTables reports whether rules of ours are in nftables.
func inNFTables(s state.State) bool {
	for k := range s.Jumps {
		if k.Table.Firewall() == state.OnNFTables {
			return true
		}
	}
	return false
}

// rulesServe reports whether kube-proxy's rules serve every family that our table of nftables serves.
func rulesServe(s state.State) bool {
	have := map[state.SetName]bool{}
	for e := range s.Entries {
		have[e.Set] = true
	}
	for k := range s.Jumps {
		set := state.SetClusterIP.For(k.Family)
		its := state.JumpKey{Family: k.Family, Table: state.NAT, From: "PREROUTING", To: state.ChainServices}
		_, jumps := s.Jumps[its]
		if k.Table.Firewall() == state.OnNFTables && (!jumps || have[set.On(state.OnNFTables)] && !have[set]) {
			return false
		}
	}
	return true
}

// holdTable keeps our table of nftables, but for the entries that lead packets elsewhere, and for those that refuse what
// others led away. servers is whether the virtual servers behind the former stay, with what proves and admits them.
func holdTable(s, into state.State, servers bool) {
	for n, v := range s.Sets {
		if n.Firewall() == state.OnNFTables {
			into.Sets[n] = v
		}
	}
	for e, v := range s.Entries {
		_, leads := e.LeadsTo(v)
		behind := state.Inside(e.Address) || e.Set.Bare() == state.SetServers.For(e.Set.Family())
		if e.Set.Firewall() == state.OnNFTables && !leads && !e.Set.Refuses() && (servers || !behind) {
			into.Entries[e] = v
		}
	}
	for k, v := range s.Chains {
		if k.Table.Firewall() == state.OnNFTables {
			into.Chains[k] = v
		}
	}
	for k, v := range s.Jumps {
		if k.Table.Firewall() == state.OnNFTables {
			into.Jumps[k] = v
		}
	}
}

// rewrite removes our rules from kube-proxy's chains.
func rewrite(s, into state.State) {
	ours := func(word string) bool {
		_, set := s.Sets[state.SetName(word)]
		return set && !ItsSet(state.SetName(word))
	}
	for k := range s.Chains {
		if k.Table == state.Mangle || !itsChain(k.Name) || k.Table.Firewall() == state.OnNFTables {
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

// first returns the state before then, in which no entry leads elsewhere or refuses what another one leads away. Such
// entries go once real servers exist in their place. Rules would not wait for that, so rules stay as they are, with the
// sets that they match.
func first(s, then state.State) state.State {
	f := then
	f.Sets, f.Entries, f.Chains = maps.Clone(then.Sets), maps.Clone(then.Entries), maps.Clone(then.Chains)
	f.Jumps = maps.Clone(then.Jumps)
	f.Addresses = maps.Clone(then.Addresses)
	for a, b := range s.Addresses {
		if state.Inside(a.Addr) {
			f.Addresses[a] = b
		}
	}
	f.VirtualServers, f.RealServers = maps.Clone(then.VirtualServers), maps.Clone(then.RealServers)
	for k, v := range s.Chains {
		own := k.Table != state.Mangle && !itsChain(k.Name) && k.Table.Firewall() == state.OnIPTables
		if _, changes := then.Chains[k]; changes || own {
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
		if !ItsSet(n) && n.Firewall() == state.OnIPTables {
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

// its returns the header of a set as kube-proxy makes it.
func its(set state.Set) state.Set {
	set.Comment, set.Marks = false, false
	if set.MaxElem > 0 {
		set.MaxElem = setSize
	}
	return set
}

// unlead copies the real servers behind entries that lead elsewhere to the virtual servers that packets were sent to,
// if these have none, as kube-proxy's IPVS mode does. It returns the flows through the former.
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
