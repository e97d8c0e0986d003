// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

// onNFTables returns the same sets and rules in nftables. A set that says where packets are led to is a map there.
func onNFTables(s state.State) state.State {
	maptypes := map[string]state.SetType{"-INSIDE": state.MapIPPortToPort, "-ALL-PORTS": state.MapIPPortToIP}
	moved := s
	moved.Sets, moved.Entries = map[state.SetName]state.Set{}, map[state.SetEntry]state.Entry{}
	moved.Chains, moved.Jumps = map[state.ChainKey]state.Chain{}, map[state.JumpKey]state.Jump{}
	for n, v := range s.Sets {
		for end, t := range maptypes {
			if strings.HasSuffix(string(n), end) {
				v.Type = t
			}
		}
		moved.Sets[n.On(state.OnNFTables)] = v
	}
	for e, v := range s.Entries {
		e.Set = e.Set.On(state.OnNFTables)
		moved.Entries[e] = v
	}
	for k, v := range s.Chains {
		k.Table = k.Table.On(state.OnNFTables)
		moved.Chains[k] = state.Chain{Rules: strings.ReplaceAll(v.Rules, "match-set ", "match-set nft:")}
	}
	for k, v := range s.Jumps {
		k.Table = k.Table.On(state.OnNFTables)
		moved.Jumps[k] = v
	}
	return moved
}

// asInIPTables returns a text about places in our table of nftables with those of iptables instead.
func asInIPTables(s string) string {
	return regexp.MustCompile(`\bnft (nat|filter|mangle)-`).ReplaceAllString(s, "$1 ")
}

// together returns the rows of both firewalls, of which the other's sets are empty: a node that changes from one to the
// other has both for a moment.
func together(s, other state.State) state.State {
	both := s
	both.Sets, both.Chains, both.Jumps = maps.Clone(s.Sets), maps.Clone(s.Chains), maps.Clone(s.Jumps)
	maps.Copy(both.Sets, other.Sets)
	maps.Copy(both.Chains, other.Chains)
	maps.Copy(both.Jumps, other.Jumps)
	both.Entries = maps.Clone(s.Entries)
	maps.Copy(both.Entries, other.Entries)
	return both
}

func TestAVerdictNamesTheChainsOfNFTables(t *testing.T) {
	s := onNFTables(rows(t, cidrs(), policies{protocol: "TCP", here: true}))
	want := `192.0.2.200 -> 10.96.0.80:80/TCP
answered by the one endpoint of shop/web:http, which sees an address of this node as the client's
  10.244.1.5:8080  weight 1
because
  nft nat-KUBE-SERVICES 5        the source is not in 10.244.0.0/16, and KUBE-CLUSTER-IP has 10.96.0.80,tcp:80 (shop/web:http) -> to nat-KUBE-MARK-MASQ
  nft nat-KUBE-MARK-MASQ 1       every packet here -> mark 0x4000
  nft nat-KUBE-SERVICES 10       KUBE-CLUSTER-IP has 10.96.0.80,tcp:80 (shop/web:http) -> keeps its destination, no more of nat
  routing                        10.96.0.80 is on kube-ipvs0 -> the packet is for this node
  nft filter-KUBE-IPVS-FILTER 4  KUBE-CLUSTER-IP has 10.96.0.80,tcp:80 (shop/web:http) -> no more of nft filter-INPUT
  IPVS                           virtual server TCP 10.96.0.80:80 (rr) with 1 real server
  nft nat-KUBE-POSTROUTING 2     every packet here -> mark 0x0
  nft nat-KUBE-POSTROUTING 3     the protocol is tcp -> masqueraded: the source becomes an address of this node
`
	if got := text(t, trace.Of(s, packet(tcp, outside, clusterIP, port), where())); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestWhileANodeChangesItsFirewallAPacketHasTheFateThatEachGivesIt(t *testing.T) {
	for _, p := range []policies{both(), {protocol: "UDP", externalLocal: true, here: true, there: true}} {
		s := rows(t, cidrs(), p)
		other := onNFTables(s)
		protocol, err := state.ParseProtocol(string(p.protocol))
		if err != nil {
			t.Fatal(err)
		}
		for _, client := range []string{podClient, podHere, outside, ""} {
			for _, to := range []string{clusterIP, balancer, external} {
				w := where()
				w.Node = client == ""
				q := packet(protocol, client, to, port)
				want := fate(trace.Of(s, q, w))
				for _, rows := range []state.State{other, together(s, other)} {
					if v := trace.Of(rows, q, w); asInIPTables(fate(v)) != want || len(v.Doubts) > 0 {
						t.Errorf("%v: got %s, want %s\n%s", q, fate(v), want, text(t, v))
					}
				}
			}
		}
	}
}

// inNFTables is shop with our rows in nftables. The node has those of other programs, as iptables and nftables list
// them.
func inNFTables(t *testing.T, others ...string) (state.State, trace.Where) {
	s := onNFTables(rows(t, cidrs(), both()))
	w := where()
	w.Interface = "eth0"
	w.Rules = rulesOf(state.New(), others...)
	return s, w
}

func TestInNFTablesAnAcceptEndsOurBaseChainAlone(t *testing.T) {
	const redirect = "-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.77:8080"
	for _, c := range []struct {
		name  string
		rules []string
		want  string
	}{
		{"nothing of others", nil, "served 10.244.1.5:8080! 10.244.2.6:8080!"},
		{"a host's firewall", []string{"filter -A INPUT -p tcp -m tcp --dport 80 -j DROP"}, "dropped by filter INPUT 1"},
		{"its policy", []string{"filter -P INPUT", "filter -A INPUT -i lo -j ACCEPT"}, "dropped by filter INPUT, policy DROP"},
		{"one that accepts what we refuse", []string{"filter -A INPUT -p tcp -m tcp --dport 81 -j ACCEPT"}, "served 10.244.1.5:8080! 10.244.2.6:8080!"},
		{"a port mapping, whose chain comes later", []string{"nat -A PREROUTING " + redirect}, "served 10.244.1.5:8080! 10.244.2.6:8080!"},
		{"a masquerade, whose chain comes later", []string{"nat -A POSTROUTING -j SNAT --to-source 192.0.2.1"}, "served 10.244.1.5:8080! 10.244.2.6:8080!"},
		{"a port mapping in mangle, which does not translate", []string{"mangle -A PREROUTING -j ACCEPT"}, "served 10.244.1.5:8080! 10.244.2.6:8080!"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, w := inNFTables(t, c.rules...)
			v := trace.Of(s, packet(tcp, outside, clusterIP, port), w)
			if fate(v) != c.want || len(v.Doubts) > 0 {
				t.Errorf("got %s, want %s\n%s", fate(v), c.want, text(t, v))
			}
		})
	}
}

func TestWhatNoServiceHasIsLeftToThePortMappingsOfOthers(t *testing.T) {
	s, w := inNFTables(t, "nat -A PREROUTING -p tcp -m tcp --dport 8443 -j DNAT --to-destination 10.244.1.77:443")
	if v := trace.Of(s, packet(tcp, outside, nodeIP, 8443), w); v.Fate != trace.Forwarded || v.Sent.String() != "10.244.1.77:443" {
		t.Errorf("got %s\n%s", fate(v), text(t, v))
	}
}

func TestOurOwnRefusalsInNFTablesAreNoBarriers(t *testing.T) {
	s, w := inNFTables(t)
	packets := []trace.Packet{packet(tcp, outside, clusterIP, 80), packet(tcp, outside, clusterIP, 99)}
	if got := trace.Barriers(s, packets, w, plan.OurChain); len(got) > 0 {
		t.Errorf("found %v", got)
	}
	w.Rules = rulesOf(state.New(), "filter -P INPUT")
	got := trace.Barriers(s, packets, w, plan.OurChain)
	if len(got) != 1 || got[0].By != "filter INPUT, policy DROP" || !got[0].Sure {
		t.Errorf("found %v", got)
	}
}

// The kernel lists such rows where another program changed our table.
func TestWhatIsNotOurRuleInOurTableIsDoubted(t *testing.T) {
	s, w := inNFTables(t)
	k := state.ChainKey{Family: state.IPv4, Table: state.Filter.On(state.OnNFTables), Name: "KUBE-IPVS-FILTER"}
	lines := s.Chains[k].Lines()
	s = withChain(s, k.Family, k.Table, k.Name, slices.Insert(lines, 0, "[immediate 1=1; verdict 0]")...)
	v := trace.Of(s, packet(tcp, outside, clusterIP, port), w)
	want := "nft filter-KUBE-IPVS-FILTER 1 is not understood, and counts as not matching (not as kube-ipvs wrote it): [immediate 1=1; verdict 0]"
	if v.Fate != trace.Served || !slices.Contains(v.Doubts, want) {
		t.Errorf("got %s, doubts %q", fate(v), v.Doubts)
	}
}

// A set of ports alone matches what is at the place of a port, in any protocol.
func TestASetOfPortsInNFTablesKnowsNoProtocol(t *testing.T) {
	s := small()
	name := state.SetName("PORTS").On(state.OnNFTables)
	s.Sets[name] = state.Set{Type: state.BitmapPort}
	s.Entries[state.SetEntry{Set: name, Port: 80}] = state.Entry{}
	s = withChain(s, state.IPv4, state.Filter, "TEST", "-m set --match-set nft:PORTS dst -j DROP")
	for p, want := range map[trace.Packet]string{
		packet(state.SCTP, outside, nodeIP, 80): "dropped by filter TEST 1",
		packet(state.SCTP, outside, nodeIP, 81): "host by routing",
		packet(trace.Ping, outside, nodeIP, 0):  "host by routing",
	} {
		if v := trace.Of(s, p, where()); fate(v) != want || p.Protocol == trace.Ping != (len(v.Doubts) > 0) {
			t.Errorf("%v: got %s, want %s, doubts %q", p, fate(v), want, v.Doubts)
		}
	}
}
