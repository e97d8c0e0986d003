// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func chain(table state.RuleTable, name string) state.ChainKey {
	return state.ChainKey{Family: state.IPv4, Table: table, Name: name}
}

func TestWhoseAChainIs(t *testing.T) {
	for _, c := range []struct {
		key  state.ChainKey
		left bool
	}{
		{chain(state.NAT, "KUBE-SERVICES"), false},
		{chain(state.Filter, "KUBE-SERVICES"), true},
		{chain(state.NAT, "KUBE-POSTROUTING"), false},
		{chain(state.NAT, "KUBE-MARK-MASQ"), false},
		{chain(state.Filter, "KUBE-FORWARD"), false},
		{chain(state.Filter, "KUBE-PROXY-FIREWALL"), false},
		{chain(state.Filter, "KUBE-EXTERNAL-SERVICES"), true},
		{chain(state.NAT, "KUBE-NODEPORTS"), true},
		{chain(state.Filter, "KUBE-NODEPORTS"), true},
		{chain(state.NAT, "KUBE-NODE-PORT"), false},
		{chain(state.Mangle, "KUBE-PROXY-CANARY"), true},
		{chain(state.NAT, "KUBE-SVC-ERIFXISQEP7F7OF4"), true},
		{chain(state.NAT, "KUBE-SVL-ERIFXISQEP7F7OF4"), true},
		{chain(state.NAT, "KUBE-EXT-ERIFXISQEP7F7OF4"), true},
		{chain(state.NAT, "KUBE-XLB-ERIFXISQEP7F7OF4"), true},
		{chain(state.NAT, "KUBE-FW-ERIFXISQEP7F7OF4"), true},
		{chain(state.NAT, "KUBE-SEP-ERIFXISQEP7F7OF4"), true},
		{chain(state.Filter, "KUBE-FIREWALL"), false}, // kubelet's
		{chain(state.Mangle, "KUBE-KUBELET-CANARY"), false},
		{chain(state.Mangle, "KUBE-IPTABLES-HINT"), false},
		{chain(state.NAT, "KUBE-MARK-DROP"), false},
		{chain(state.Filter, "KUBE-ROUTER-INPUT"), false}, // a CNI's
		{chain(state.Filter, "KUBE-NWPLCY-4R2W7QJ"), false},
		{chain(state.Filter, "KUBE-POD-FW-4R2W7QJ"), false},
		{chain(state.NFTables, "kube-proxy"), true},
		{chain(state.NFTables, "filter"), false},
	} {
		if got := (KubeProxy{}).Left(c.key); got != c.left {
			t.Errorf("%v is kube-proxy's and no use to us: %v, want %v", c.key, got, c.left)
		}
	}
}

// The chains of kube-proxy's IPVS mode are ours, kubelet's are not.
func TestOursAreAllNamesOfKubeProxysIPVSMode(t *testing.T) {
	for _, n := range Sets() {
		if !plan.OurSet(n) || len(n) > 31 {
			t.Errorf("set %s is not ours, or too long", n)
		}
	}
	if n := Sets(); len(n) != 34 || !ItsSet("KUBE-6-LOAD-BALANCER-SOURCE-CID") || !ItsSet("KUBE-6-NODE-PORT-LOCAL-SCTP-HAS") {
		t.Errorf("sets %v", n)
	}
	for _, n := range []string{
		"KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-NODE-PORT", "KUBE-LOAD-BALANCER", "KUBE-MARK-MASQ", "KUBE-FORWARD",
		"KUBE-PROXY-FIREWALL", "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER",
	} {
		if !plan.OurChain(n) {
			t.Errorf("chain %s is not ours", n)
		}
	}
	for _, n := range []string{"KUBE-FIREWALL", "KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT"} {
		if plan.OurChain(n) || OnlyIts(n) {
			t.Errorf("chain %s of kubelet counts as ours", n)
		}
	}
}

// served returns rules of kube-proxy, as iptables-save prints them.
func served() state.Chain {
	return state.ChainOf(
		`-d 10.96.0.10/32 -p udp -m comment --comment "kube-system/kube-dns:dns cluster IP" -m udp --dport 53 -j KUBE-SVC-DNS`,
		`-d 10.96.0.1/32 -p tcp -m comment --comment "default/kubernetes:https cluster IP" -m tcp --dport 443 -j KUBE-SVC-API`,
		`-d 203.0.113.9/32 -p sctp -m comment --comment "x -p udp loadbalancer IP" -m sctp --dport 9 -j KUBE-FW-X`,
		`-m comment --comment "kubernetes service nodeports" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`,
	)
}

// desired returns our KUBE-SERVICES where pods are not recognized.
func desired(t *testing.T) state.Chain {
	t.Helper()
	c := config.Default()
	for _, r := range plan.Base(c).Chains {
		if r.Key == chain(state.NAT, "KUBE-SERVICES") {
			return r.Value
		}
	}
	t.Fatal("no KUBE-SERVICES is desired")
	return state.Chain{}
}

func TestRulesThatServeStayBehindThoseThatMarkOrLead(t *testing.T) {
	want := desired(t)
	got, serves := (KubeProxy{}).Interim(served(), want)
	if !serves {
		t.Fatal("the rules do not seem to serve")
	}
	rules := got.Lines()
	marking := rules[:len(rules)-len(served().Lines())]
	if !slices.Equal(rules[len(marking):], served().Lines()) {
		t.Errorf("the rules have changed:\n%s", got.Rules)
	}
	if !slices.ContainsFunc(marking, func(r string) bool { return strings.Contains(r, "KUBE-CLUSTER-IP src,dst") }) {
		t.Errorf("what the node sends from a Service address is not marked:\n%s", got.Rules)
	}
	leads := func(r string) bool { return strings.HasSuffix(r, " --match-set KUBE-INSIDE dst,dst -j KUBE-INSIDE") }
	if !slices.ContainsFunc(marking, leads) {
		t.Errorf("what the node sends from a Service address that is not local yet has no way:\n%s", got.Rules)
	}
	for _, r := range marking {
		if !strings.HasSuffix(r, " -j KUBE-MARK-MASQ") && !leads(r) || !slices.Contains(want.Lines(), r) {
			t.Errorf("%q comes first", r)
		}
	}
	if again, _ := (KubeProxy{}).Interim(got, want); again != got {
		t.Errorf("the second time it is\n%s\nnot\n%s", again.Rules, got.Rules)
	}
	for name, have := range map[string]state.Chain{"empty": {}, "as desired": want} {
		if _, serves := (KubeProxy{}).Interim(have, want); serves {
			t.Errorf("a chain that is %s seems to serve", name)
		}
	}
}

func served4() map[state.ChainKey]state.Chain {
	nat := func(name string) state.ChainKey { return chain(state.NAT, name) }
	return map[state.ChainKey]state.Chain{
		nat("KUBE-SERVICES"): served(),
		nat("KUBE-SVC-DNS"): state.ChainOf(`-m comment --comment "a -> b" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-A`,
			`-m comment --comment "a -> c" -j KUBE-SEP-B`),
		nat("KUBE-SVC-API"): state.ChainOf(`-j KUBE-SEP-T`),
		nat("KUBE-SEP-A"): state.ChainOf(`-s 10.244.0.1/32 -m comment --comment x -j KUBE-MARK-MASQ`,
			`-p udp -m comment --comment x -m udp -j DNAT --to-destination 10.244.0.1:53`),
		nat("KUBE-SEP-B"):      state.ChainOf(`-p udp -m udp -j DNAT --to-destination 10.244.0.2:53`),
		nat("KUBE-SEP-T"):      state.ChainOf(`-p tcp -m tcp -j DNAT --to-destination 192.0.2.1:6443`),
		nat("KUBE-FW-X"):       state.ChainOf(`-s 192.0.2.0/24 -j KUBE-EXT-X`, `-m comment --comment "others will be dropped"`),
		nat("KUBE-EXT-X"):      state.ChainOf(`-j KUBE-MARK-MASQ`, `-j KUBE-SVC-X`),
		nat("KUBE-SVC-X"):      state.ChainOf(`-j KUBE-SEP-X`),
		nat("KUBE-SEP-X"):      state.ChainOf(`-p sctp -m sctp -j DNAT --to-destination 10.244.0.3:9`),
		nat("KUBE-NODEPORTS"):  state.ChainOf(`-p udp -m comment --comment "kube-system/kube-dns:dns" -m udp --dport 30053 -j KUBE-SVC-DNS`),
		nat("KUBE-SVC-UNUSED"): state.ChainOf(`-p udp -m udp -j DNAT --to-destination 10.244.0.9:53`),
	}
}

func TestFlowsAreFollowedThroughTheRules(t *testing.T) {
	flow := func(p state.Protocol, service, endpoint string) string {
		return state.Flow{Protocol: p, Service: netip.MustParseAddrPort(service), Endpoint: netip.MustParseAddrPort(endpoint)}.String()
	}
	var got []string
	for _, f := range (KubeProxy{}).Flows(served4(), []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}) {
		got = append(got, f.String())
	}
	want := []string{
		flow(state.UDP, "10.96.0.10:53", "10.244.0.1:53"), flow(state.UDP, "10.96.0.10:53", "10.244.0.2:53"),
		flow(state.SCTP, "203.0.113.9:9", "10.244.0.3:9"),
		flow(state.UDP, "192.0.2.1:30053", "10.244.0.1:53"), flow(state.UDP, "192.0.2.1:30053", "10.244.0.2:53"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flows (-want +got):\n%s", diff)
	}
}

func TestChainsThatGoInACircleEnd(t *testing.T) {
	chains := served4()
	chains[chain(state.NAT, "KUBE-SEP-B")] = state.ChainOf(`-j KUBE-SVC-DNS`)
	(KubeProxy{}).Flows(chains, nil)
}

func TestFamiliesInWhichRulesServe(t *testing.T) {
	if got := Serving(served4()); !slices.Equal(got, []state.Family{state.IPv4}) {
		t.Errorf("%v", got)
	}
	ours := map[state.ChainKey]state.Chain{chain(state.NAT, "KUBE-SERVICES"): desired(t)}
	if got := Serving(ours); len(got) > 0 {
		t.Errorf("ours seem to be kube-proxy's: %v", got)
	}
	for k, want := range map[state.ChainKey]bool{
		chain(state.NAT, "KUBE-POSTROUTING"): true, chain(state.Filter, "KUBE-PROXY-FIREWALL"): true,
		chain(state.Mangle, "KUBE-SERVICES"): false, chain(state.NAT, "KUBE-NODE-PORT"): false, chain(state.Filter, "KUBE-IPVS-FILTER"): false,
	} {
		if Shared(k) != want {
			t.Errorf("%v is kube-proxy's where it serves by rules: %v, want %v", k, !want, want)
		}
	}
}

// node returns the rows of a node with one load balancer whose clients from outside get local endpoints.
func node(local bool) (s state.State, front, behind state.VirtualServerKey) {
	s = state.New()
	front = state.VirtualServerKey{Address: netip.MustParseAddrPort("203.0.113.1:53"), Protocol: state.UDP}
	behind = state.MarkKey(state.IPv4, testkit.Mark(state.UDP, 30053))
	s.Links[state.DummyLink] = state.Link{Kind: "dummy"}
	s.Sets["KUBE-LOAD-BALANCER"] = state.Set{Type: state.HashIPPort, Family: state.IPv4, MaxElem: 1 << 20, Comment: true}
	s.Sets["KUBE-NODE-PORT-UDP"] = state.Set{Type: state.BitmapPort, Comment: true}
	s.Sets["KUBE-CLUSTER-MARK"] = state.Set{Type: state.HashIPPort, Family: state.IPv4, MaxElem: 1 << 20, Comment: true, Marks: true}
	entry := func(set state.SetName, mark uint32) {
		e := state.SetEntry{Set: set, Address: front.Address.Addr(), Protocol: state.UDP, Port: 53}
		s.Entries[e] = state.Entry{Comment: "dns/dns:udp", Mark: mark}
	}
	entry("KUBE-LOAD-BALANCER", 0)
	entry("KUBE-CLUSTER-MARK", behind.Mark)
	s.VirtualServers[front] = state.VirtualServer{Scheduler: "rr"}
	s.VirtualServers[behind] = state.VirtualServer{Scheduler: "rr"}
	for last, means := range []state.Means{state.Assigned, state.Routed, state.Doubled} {
		s.Addresses[bound(byte(last))] = state.Binding{Means: means}
	}
	s.Addresses[bound(3)] = state.Binding{MTU: 1500} // which is a route too
	for i, a := range []string{"10.244.1.1:53", "10.244.2.1:53"} {
		to := netip.MustParseAddrPort(a)
		s.RealServers[state.RealServerKey{Server: behind, Address: to}] = state.RealServer{Weight: 1}
		if local && i == 0 {
			s.RealServers[state.RealServerKey{Server: front, Address: to}] = state.RealServer{Weight: 1}
		}
	}
	return s, front, behind
}

func bound(last byte) state.Address {
	return state.Address{Addr: netip.AddrFrom4([4]byte{10, 96, 0, last})}
}

func TestTheWayBackGivesKubeProxyItsSetsAndNothingThatItDoesNotKnow(t *testing.T) {
	for _, local := range []bool{true, false} {
		t.Run(fmt.Sprint("local endpoints ", local), func(t *testing.T) {
			s, front, behind := node(local)
			b := ToKubeProxy(s)
			want := state.New()
			want.Links = s.Links
			want.Addresses[bound(1)], want.Addresses[bound(2)], want.Addresses[bound(3)] = state.Binding{}, state.Binding{}, state.Binding{}
			want.Sets["KUBE-LOAD-BALANCER"] = state.Set{Type: state.HashIPPort, Family: state.IPv4, MaxElem: 65536}
			want.Sets["KUBE-NODE-PORT-UDP"] = state.Set{Type: state.BitmapPort}
			want.Entries[state.SetEntry{Set: "KUBE-LOAD-BALANCER", Address: front.Address.Addr(), Protocol: state.UDP, Port: 53}] = state.Entry{}
			if !local { // kube-proxy sends to all then
				want.VirtualServers[front] = state.VirtualServer{Scheduler: "rr"}
				for k := range s.RealServers {
					want.RealServers[state.RealServerKey{Server: front, Address: k.Address}] = state.RealServer{Weight: 1}
				}
			}
			same := cmpopts.EquateComparable(state.VirtualServerKey{}, state.RealServerKey{}, state.SetEntry{}, state.Address{}, state.Binding{}, netip.AddrPort{})
			if diff := cmp.Diff(want, b.Then, same); diff != "" {
				t.Errorf("in the end (-want +got):\n%s", diff)
			}
			want.Sets["KUBE-CLUSTER-MARK"] = s.Sets["KUBE-CLUSTER-MARK"]
			want.VirtualServers[behind] = s.VirtualServers[behind]
			for k, v := range s.RealServers {
				if k.Server == behind {
					want.RealServers[k] = v
				}
			}
			if diff := cmp.Diff(want, b.First, same); diff != "" {
				t.Errorf("first (-want +got):\n%s", diff)
			}
			if len(b.Flows) != 2 || b.Flows[0].Service != front.Address {
				t.Errorf("flows %v", b.Flows)
			}
		})
	}
}

func TestTheWayBackFromWhatKubeProxyHasIsNoWay(t *testing.T) {
	s, _, behind := node(true)
	delete(s.Sets, "KUBE-CLUSTER-MARK")
	delete(s.VirtualServers, behind)
	for k := range s.Entries {
		if k.Set == "KUBE-CLUSTER-MARK" {
			delete(s.Entries, k)
		}
	}
	for n, set := range s.Sets {
		s.Sets[n] = its(set)
	}
	b := ToKubeProxy(s)
	if n := len(b.Then.Sets) + len(b.Then.Entries) + len(b.Then.VirtualServers) + len(b.Then.RealServers) + len(b.Flows); n > 0 {
		t.Errorf("%d rows are desired: %+v", n, b.Then)
	}
}

func FuzzRules(f *testing.F) {
	f.Add(served().Rules, "-j KUBE-SEP-A")
	f.Add("-j", "--dport -p -d")
	f.Fuzz(func(_ *testing.T, services, sep string) {
		chains := served4()
		chains[chain(state.NAT, "KUBE-SERVICES")] = state.Chain{Rules: services}
		chains[chain(state.NAT, "KUBE-SEP-A")] = state.Chain{Rules: sep}
		(KubeProxy{}).Flows(chains, []netip.Addr{netip.MustParseAddr("192.0.2.1")})
	})
}
