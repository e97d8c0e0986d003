// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"net/netip"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// nodeInNFTables returns the rows of a node whose rules are in nftables: a load balancer with local endpoints for clients
// outside, a cluster IP and a frontend that has none.
func nodeInNFTables() (s state.State, front, inside state.VirtualServerKey) {
	c := config.Default()
	c.Firewall = state.OnNFTables
	s = plan.Base(c).State()
	a := netip.MustParseAddr("203.0.113.1")
	front = state.VirtualServerKey{Address: netip.AddrPortFrom(a, 53), Protocol: state.UDP}
	for _, n := range []state.SetName{state.SetLoadBalancer, state.SetInside, state.SetNoLocal, state.SetClusterIP} {
		s.Entries[state.SetEntry{Set: n.On(state.OnNFTables), Address: a, Protocol: state.UDP, Port: 53}] = state.Entry{Comment: "dns/dns:udp"}
	}
	lead := state.SetEntry{Set: state.SetInside.On(state.OnNFTables), Address: a, Protocol: state.UDP, Port: 53}
	inside, _ = lead.LeadsTo(state.Entry{})
	proof := state.SetEntry{Set: state.SetServers.On(state.OnNFTables), Address: a, Protocol: state.UDP, Port: inside.Address.Port()}
	s.Entries[proof] = state.Entry{Comment: "dns/dns:udp"}
	s.Entries[state.SetEntry{Set: state.SetIPVSIPs.On(state.OnNFTables), Address: a}] = state.Entry{}
	s.Entries[state.SetEntry{Set: state.SetIPVSIPs.On(state.OnNFTables), Address: state.InsideAddress(state.IPv4)}] = state.Entry{}
	for _, k := range []state.VirtualServerKey{front, inside} {
		s.VirtualServers[k] = state.VirtualServer{Scheduler: "rr"}
	}
	s.RealServers[state.RealServerKey{Server: inside, Address: netip.MustParseAddrPort("10.244.2.1:53")}] = state.RealServer{Weight: 1}
	s.Addresses[state.Address{Addr: a}] = state.Binding{}
	s.Addresses[state.Address{Addr: state.InsideAddress(state.IPv4)}] = state.Binding{}
	return s, front, inside
}

func entriesIn(s state.State, n state.SetName) int {
	count := 0
	for e := range s.Entries {
		if e.Set == n.On(state.OnNFTables) {
			count++
		}
	}
	return count
}

func TestOurTableOfNFTablesServesUntilKubeProxysRulesDo(t *testing.T) {
	s, front, inside := nodeInNFTables()
	b := ToKubeProxy(s)
	if !b.Holds {
		t.Error("our table does not stay")
	}
	for name, want := range map[string]state.State{"first": b.First, "then": b.Then} {
		for table, n := range map[string][2]int{
			"sets": {len(want.Sets), len(s.Sets)}, "chains": {len(want.Chains), len(s.Chains)}, "jumps": {len(want.Jumps), len(s.Jumps)},
			"load balancers": {entriesIn(want, state.SetLoadBalancer), 1}, "cluster IPs": {entriesIn(want, state.SetClusterIP), 1},
			"entries that lead": {entriesIn(want, state.SetInside), 0}, "entries that refuse": {entriesIn(want, state.SetNoLocal), 0},
		} {
			if n[0] != n[1] {
				t.Errorf("%s, %d %s are desired, not %d", name, n[0], table, n[1])
			}
		}
		for k, v := range want.Chains {
			if v != s.Chains[k] || !b.Speaks(k) {
				t.Errorf("%s, chain %v changes, or is not seen", name, k)
			}
		}
		if n := len(want.RealServers); n != 1+entriesIn(want, state.SetServers) {
			t.Errorf("%s, %d real servers are desired", name, n)
		}
	}
	if entriesIn(b.First, state.SetServers) != 1 || entriesIn(b.Then, state.SetServers) != 0 || entriesIn(b.Then, state.SetIPVSIPs) != 1 {
		t.Error("what proves the virtual server behind does not stay for as long as that one")
	}
	_, firstInside := b.First.VirtualServers[inside]
	_, thenInside := b.Then.VirtualServers[inside]
	if !firstInside || thenInside || len(b.Flows) != 1 || b.Flows[0].Service != front.Address {
		t.Errorf("the virtual server behind stays: %v, then %v; flows %v", firstInside, thenInside, b.Flows)
	}
}

func TestOurTableOfNFTablesGoesOnceKubeProxysRulesServe(t *testing.T) {
	s, _, _ := nodeInNFTables()
	c := config.Default()
	its := plan.Base(c).State()
	for k, v := range its.Jumps {
		s.Jumps[k] = v
	}
	for n, v := range its.Sets {
		s.Sets[n] = v
	}
	if b := ToKubeProxy(s); !b.Holds {
		t.Error("our table goes though sets of kube-proxy have nothing yet")
	}
	s.Entries[state.SetEntry{Set: state.SetClusterIP, Address: netip.MustParseAddr("10.96.0.1"), Protocol: state.TCP, Port: 443}] = state.Entry{}
	b := ToKubeProxy(s)
	if b.Holds {
		t.Error("our table stays")
	}
	for k := range b.Then.Chains {
		if k.Table.Firewall() == state.OnNFTables {
			t.Errorf("chain %v is desired", k)
		}
	}
	for n := range b.Then.Sets {
		if n.Firewall() == state.OnNFTables {
			t.Errorf("set %s is desired", n)
		}
	}
	if !b.Speaks(state.ChainKey{Family: state.IPv4, Table: state.NAT.On(state.OnNFTables), Name: state.ChainServices}) {
		t.Error("our table is not seen, and so stays")
	}
	if b := ToKubeProxy(its); b.Holds {
		t.Error("a table of nftables stays that there is not")
	}
}

func TestNothingInOurTableOfNFTablesIsKubeProxys(t *testing.T) {
	for _, name := range []string{state.ChainServices, state.ChainNodePorts, state.ChainProxyCanary, "KUBE-SVC-X", state.ChainNoLocal} {
		for _, table := range []state.RuleTable{state.NAT, state.Filter, state.Mangle} {
			k := state.ChainKey{Family: state.IPv4, Table: table.On(state.OnNFTables), Name: name}
			if (Predecessors{}).Left(k) || Shared(k) {
				t.Errorf("%v counts as kube-proxy's", k)
			}
			chains := map[state.ChainKey]state.Chain{k: state.ChainOf("-j KUBE-SVC-X")}
			if families := Serving(chains); len(families) > 0 {
				t.Errorf("%v seems to serve %v", k, families)
			}
		}
	}
}
