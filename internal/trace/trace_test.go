// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

func text(t *testing.T, v trace.Verdict) string {
	t.Helper()
	var b strings.Builder
	if err := trace.Text(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// fate returns a verdict in short: "served 10.244.1.5:8080! 10.244.2.6:8080", with a ! for an endpoint that sees the
// node's address.
func fate(v trace.Verdict) string {
	words := []string{v.Fate.String()}
	if v.Fate != trace.Served {
		words = append(words, "by", v.By)
	}
	for _, e := range v.Endpoints {
		word := e.Address.String()
		if e.Masqueraded {
			word += "!"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// question is a packet and its expected fate.
type question struct {
	name   string
	packet trace.Packet
	where  trace.Where
	want   string
}

// ask asks the rows of iptables, and the same in nftables.
func ask(t *testing.T, s state.State, questions []question) {
	t.Helper()
	for _, q := range questions {
		t.Run(q.name, func(t *testing.T) {
			for _, s := range []state.State{s, onNFTables(s)} {
				if v := trace.Of(s, q.packet, q.where); asInIPTables(fate(v)) != q.want || len(v.Doubts) > 0 {
					t.Errorf("got %s, want %s\n%s", fate(v), q.want, text(t, v))
				}
			}
		})
	}
}

const tcp, udp = state.TCP, state.UDP

func TestTheNodesPacketsToARoutedAddressComeFromItsOwn(t *testing.T) {
	c := cidrs()
	c.VIPBinding = config.RouteBinding
	s := rows(t, c, both())
	for to, from := range map[string]string{clusterIP: nodeIP, clusterIP6: nodeIP6} {
		v := trace.Of(s, packet(tcp, "", to, port), fromNode())
		if got := v.Packet.Source.Addr().String(); got != from || len(v.Doubts) > 0 {
			t.Errorf("to %s: from %s, want %s\n%s", to, got, from, text(t, v))
		}
	}
	for to, want := range map[string]struct {
		from   string
		doubts int
	}{clusterIP: {clusterIP, 0}, clusterIP6: {nodeIP6, 1}} { // the kernel chooses
		s.Addresses[state.Address{Addr: netip.MustParseAddr(to)}] = state.Binding{Means: state.Routed}
		v := trace.Of(s, packet(tcp, "", to, port), fromNode())
		if got := v.Packet.Source.Addr().String(); got != want.from || len(v.Doubts) != want.doubts {
			t.Errorf("to %s: from %s, want %+v\n%s", to, got, want, text(t, v))
		}
	}
}

func TestAnEndpointThatMeetsItselfIsMasqueraded(t *testing.T) {
	s := rows(t, cidrs(), both())
	local := both()
	local.externalLocal = true
	ask(t, s, []question{
		{"by the cluster IP", packet(tcp, podHere, clusterIP, port), where(), "served 10.244.1.5:8080! 10.244.2.6:8080"},
		{"by the cluster IP, IPv6", packet(tcp, podHere6, clusterIP6, port), where(),
			"served [fd00:10:244:1::5]:8080! [fd00:10:244:2::6]:8080"},
		{"by the load balancer", packet(tcp, podHere, balancer, port), where(), "served 10.244.1.5:8080! 10.244.2.6:8080!"},
	})
	ask(t, rows(t, cidrs(), local), []question{
		{"policy Local", packet(tcp, podHere, balancer, port), where(), "served 10.244.1.5:8080! 10.244.2.6:8080"},
		{"policy Local, by another node's pod", packet(tcp, podThere, nodeIP, nodePort), where(), "served 10.244.1.5:8080 10.244.2.6:8080!"},
	})
}

func TestSourceRangesLetOnlyTheirClientsToTheLoadBalancer(t *testing.T) {
	with := func(ranges ...string) state.State {
		p := both()
		p.ranges = ranges
		return rows(t, cidrs(), p)
	}
	const all, all6 = "served 10.244.1.5:8080! 10.244.2.6:8080!", "served [fd00:10:244:1::5]:8080! [fd00:10:244:2::6]:8080!"
	dropped, droppedOut := "dropped by filter KUBE-SOURCE-RANGES-FIREWALL 3", "dropped by mangle KUBE-SOURCE-RANGES-FIREWALL 3"
	ask(t, with(outsideNet, outsideNet6), []question{
		{"outside, in them", packet(tcp, outside, balancer, port), where(), all},
		{"outside, in them, IPv6", packet(tcp, outside6, balancer6, port), where(), all6},
		{"outside, not in them", packet(tcp, "192.0.2.100", balancer, port), where(), dropped},
		{"outside, not in them, IPv6", packet(tcp, "2001:db8::9", balancer6, port), where(), dropped},
		{"pod", packet(tcp, podClient, balancer, port), where(), dropped},
		{"node", packet(tcp, "", balancer, port), fromNode(), droppedOut},
		{"node, IPv6", packet(tcp, "", balancer6, port), fromNode(), droppedOut},
		{"node, its address", packet(tcp, nodeIP, balancer, port), fromNode(), droppedOut},
		{"the NodePort is not guarded", packet(tcp, "192.0.2.100", nodeIP, nodePort), where(), all},
		{"the external IP is not guarded", packet(tcp, "192.0.2.100", external, port), where(), all},
	})
	ask(t, with("192.0.2.1/32", "2001:db8:2::1/128"), []question{
		{"node in them", packet(tcp, "", balancer, port), fromNode(), all},
		{"node in them, IPv6", packet(tcp, "", balancer6, port), fromNode(), all6},
		{"node in them, its address", packet(tcp, nodeIP, balancer, port), fromNode(), all},
		{"others are not", packet(tcp, outside, balancer, port), where(), dropped},
	})
}

func TestAServiceAddressHasOnlyTheServicesPorts(t *testing.T) {
	const rejected = "refused by filter KUBE-IPVS-FILTER 10"
	ask(t, rows(t, cidrs(), both()), []question{
		{"another port", packet(tcp, outside, balancer, 22), where(), rejected},
		{"another port, IPv6", packet(tcp, outside6, clusterIP6, 22), where(), rejected},
		{"another protocol", packet(udp, podClient, clusterIP, port), where(), rejected},
		{"the NodePort's number", packet(tcp, outside, balancer, nodePort), where(), rejected},
		{"from the node", packet(tcp, "", clusterIP, 22), fromNode(), rejected},
		{"from the node, IPv6", packet(tcp, "", clusterIP6, 22), fromNode(), rejected},
		{"ping", packet(trace.Ping, outside, balancer, 0), where(), rejected},
		{"ping, IPv6", packet(trace.Ping, podClient6, clusterIP6, 0), where(), rejected},
		{"ping from the node", packet(trace.Ping, "", external, 0), fromNode(), rejected},
	})
}

func TestPingsAreAnsweredIfTheyAreToBe(t *testing.T) {
	c := cidrs()
	c.AnswerPing = true
	ask(t, rows(t, c, both()), []question{
		{"ping", packet(trace.Ping, outside, balancer, 0), where(), "host by routing"},
		{"ping, IPv6", packet(trace.Ping, podClient6, clusterIP6, 0), where(), "host by routing"},
		{"ping from the node", packet(trace.Ping, "", external, 0), fromNode(), "host by routing"},
		{"another port", packet(tcp, outside, balancer, 22), where(), "refused by filter KUBE-IPVS-FILTER 11"},
	})
}

func TestAFrontendIsLedToTheVirtualServerOfAllPorts(t *testing.T) {
	s := rows(t, cidrs(), both())
	lead := state.SetEntry{Set: "KUBE-ALL-PORTS", Address: netip.MustParseAddr(clusterIP), Protocol: tcp, Port: port}
	k, _ := lead.LeadsTo(state.Entry{})
	passes := state.SetEntry{Set: "KUBE-IPVS-SERVERS", Address: k.Address.Addr(), Protocol: tcp, Port: port}
	for _, e := range []state.SetEntry{lead, passes, {Set: "KUBE-IPVS-IPS", Address: k.Address.Addr()}} {
		s.Entries[e] = state.Entry{Comment: "shop/web:http"}
	}
	s.VirtualServers[k] = state.VirtualServer{Scheduler: "rr", Flags: state.Persistent, Timeout: 60, Prefix: 32}
	s.RealServers[state.RealServerKey{Server: k, Address: netip.MustParseAddrPort("10.244.1.5:0")}] = state.RealServer{Weight: 1}
	s.Addresses[state.Address{Addr: k.Address.Addr()}] = state.Binding{}
	r := trace.ReportOf(trace.Of(s, packet(tcp, podClient, clusterIP, port), where()))
	if r.Fate != "served" || r.VirtualServer != k.String() || len(r.Endpoints) != 1 || r.Endpoints[0].Address != "10.244.1.5" || r.Endpoints[0].Port != port {
		t.Errorf("%+v", r)
	}
	ask(t, s, []question{
		{"other ports of that address", packet(tcp, podClient, k.Address.Addr().String(), 22), where(), "refused by filter KUBE-IPVS-FILTER 10"},
		{"its own, without a rule that leads there", packet(tcp, podClient, k.Address.Addr().String(), port), where(), "refused by filter KUBE-IPVS-FILTER 10"},
	})
}

func TestTheProxysHealthIsTheHostsToAnswer(t *testing.T) {
	ask(t, rows(t, cidrs(), both()), []question{
		{"at a Service's address", packet(tcp, outside, balancer, 10256), where(), "host by routing"},
		{"IPv6", packet(tcp, outside6, clusterIP6, 10256), where(), "host by routing"},
		{"by UDP", packet(udp, outside, balancer, 10256), where(), "refused by filter KUBE-IPVS-FILTER 10"},
	})
}

func TestWhatIsNoServicesPassesBy(t *testing.T) {
	p := both()
	p.externalLocal = true
	s := rows(t, cidrs(), p)
	ask(t, s, []question{
		{"a port of the node", packet(tcp, outside, nodeIP, 22), where(), "host by routing"},
		{"the node to itself", packet(tcp, "", nodeIP, 22), fromNode(), "host by routing"},
		{"the node to itself by lo", packet(tcp, "", "127.0.0.1", nodePort), fromNode(), "host by routing"},
		{"the health check", packet(tcp, outside, nodeIP, healthPort), where(), "host by routing"},
		{"the health check at the VIP", packet(tcp, outside, balancer, healthPort), where(), "host by routing"},
		{"the NodePort of another node", packet(tcp, podClient, "192.0.2.2", nodePort), where(), "forwarded by routing"},
		{"a pod to a pod", packet(tcp, podClient, podThere, targetPort), where(), "forwarded by routing"},
		{"the node to the world", packet(tcp, nodeIP, "192.0.2.9", 443), fromNode(), "forwarded by routing"},
		{"a ping of the node", packet(trace.Ping, outside6, nodeIP6, 0), where(), "host by routing"},
	})
}

func TestClusterIPsThatNoServiceHasAreDropped(t *testing.T) {
	c := cidrs()
	c.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112")}
	ask(t, rows(t, c, both()), []question{
		{"from a pod", packet(tcp, podClient, "10.96.9.9", 80), where(), "dropped by filter KUBE-FORWARD 1"},
		{"from a pod, IPv6", packet(tcp, podClient6, "fd00:10:96::9", 80), where(), "dropped by filter KUBE-FORWARD 1"},
		{"from the node", packet(tcp, nodeIP, "10.96.9.9", 80), fromNode(), "dropped by filter KUBE-IPVS-OUT-FILTER 1"},
		{"those that a Service has are served", packet(tcp, podClient, clusterIP, port), where(), "served 10.244.1.5:8080 10.244.2.6:8080"},
	})
}

func TestAnAddressOfTheNodeDoesNotComeFromElsewhere(t *testing.T) {
	ask(t, rows(t, cidrs(), both()), []question{
		{"the node's", packet(tcp, nodeIP, clusterIP, port), where(), "dropped by routing"},
		{"a Service's", packet(tcp, balancer, clusterIP, port), where(), "dropped by routing"},
		{"loopback", packet(tcp, "127.0.0.1", nodeIP, nodePort), where(), "dropped by routing"},
		{"loopback, IPv6", packet(tcp, "::1", nodeIP6, nodePort), where(), "dropped by routing"},
	})
}

func TestDrainingEndpointsGetNoNewConnections(t *testing.T) {
	s := rows(t, cidrs(), both())
	for k, row := range s.RealServers {
		if k.Address.Addr().String() == podHere {
			row.Weight = 0
			s.RealServers[k] = row
		}
	}
	v := trace.Of(s, packet(tcp, podClient, clusterIP, port), where())
	if got := fate(v); got != "served 10.244.2.6:8080" || v.Resting != 1 {
		t.Errorf("%s, %d resting\n%s", got, v.Resting, text(t, v))
	}
	for k, row := range s.RealServers {
		row.Weight = 0
		s.RealServers[k] = row
	}
	v = trace.Of(s, packet(tcp, podClient, clusterIP, port), where())
	if got := fate(v); got != "refused by IPVS" || v.Resting != 2 {
		t.Errorf("%s, %d resting\n%s", got, v.Resting, text(t, v))
	}
}

func TestAnEndpointOnTheNodeItselfIsNotMasqueradedFromElsewhere(t *testing.T) {
	s := rows(t, cidrs(), both())
	k := state.VirtualServerKey{Address: netip.MustParseAddrPort(clusterIP + ":80"), Protocol: tcp}
	s.RealServers[state.RealServerKey{Server: k, Address: netip.MustParseAddrPort(nodeIP + ":8080")}] = state.RealServer{Weight: 1}
	ask(t, s, []question{
		{"outside", packet(tcp, outside, clusterIP, port), where(), "served 10.244.1.5:8080! 10.244.2.6:8080! 192.0.2.1:8080"},
		{"node", packet(tcp, "", clusterIP, port), fromNode(), "served 10.244.1.5:8080! 10.244.2.6:8080! 192.0.2.1:8080!"},
	})
}

func TestWithoutConntrackNothingIsMasqueraded(t *testing.T) {
	s := rows(t, cidrs(), both())
	s.Sysctls["net/ipv4/vs/conntrack"] = "0"
	ask(t, s, []question{{"outside", packet(tcp, outside, balancer, port), where(), "served 10.244.1.5:8080 10.244.2.6:8080"}})
}

func TestWithoutForwardingNothingIsForwarded(t *testing.T) {
	s := rows(t, cidrs(), both())
	s.Sysctls["net/ipv4/ip_forward"], s.Sysctls["net/ipv6/conf/all/forwarding"] = "0", "0"
	ask(t, s, []question{
		{"IPv4", packet(tcp, podClient, "192.0.2.9", port), where(), "dropped by routing"},
		{"IPv6", packet(tcp, podClient6, "2001:db8::9", port), where(), "dropped by routing"},
	})
}

func TestTheInterfaceOfAPodIsAssumedOnlyWhereItCounts(t *testing.T) {
	c := config.Default()
	c.LocalDetector = config.LocalDetector{Kind: config.DetectBridge, Interface: "cni0"}
	s := rows(t, c, both())
	want := []string{"the packet is taken not to come by cni0: its interface is not known"}
	if d := cmp.Diff(want, trace.Of(s, packet(tcp, podClient, clusterIP, port), where()).Doubts); d != "" {
		t.Errorf("doubts (-want +got):\n%s", d)
	}
	w := where()
	w.Interface = "cni0"
	ask(t, s, []question{
		{"it is known", packet(tcp, podClient, clusterIP, port), w, "served 10.244.1.5:8080 10.244.2.6:8080"},
		{"the node has none", packet(tcp, "", clusterIP, port), fromNode(), "served 10.244.1.5:8080! 10.244.2.6:8080!"},
	})
}

func TestTheSourceThatTheKernelPicksIsToldOrDoubted(t *testing.T) {
	s := rows(t, cidrs(), both())
	for _, c := range []struct {
		to, want, doubt string
	}{
		{clusterIP, clusterIP, ""},
		{nodeIP, nodeIP, ""},
		{"127.0.0.1", "127.0.0.1", ""},
		{"192.0.2.9", nodeIP, "the source is taken to be 192.0.2.1; the kernel picks it by the route to 192.0.2.9"},
	} {
		v := trace.Of(s, packet(tcp, "", c.to, 80), fromNode())
		if got := v.Packet.Source.Addr().String(); got != c.want || strings.Join(v.Doubts, "\n") != c.doubt {
			t.Errorf("to %s: source %s, doubts %q", c.to, got, v.Doubts)
		}
	}
	v := trace.Of(s, packet(tcp, "", "192.0.2.9", 80), trace.Where{Node: true})
	if want := "the source that the kernel picks is not known; it counts as in no network"; !slices.Contains(v.Doubts, want) {
		t.Errorf("doubts %q", v.Doubts)
	}
}

func TestTablesThatWereNotReadAreDoubted(t *testing.T) {
	s := rows(t, cidrs(), both())
	s.Chains, s.Jumps = nil, nil
	v := trace.Of(s, packet(tcp, outside, clusterIP, port), where())
	want := []string{"the chains were not read, and count as none", "the jumps were not read, and count as none"}
	if d := cmp.Diff(want, v.Doubts); d != "" || v.Fate != trace.Served {
		t.Errorf("%v (-want +got):\n%s", v.Fate, d)
	}
	if v := trace.Of(state.State{}, packet(tcp, outside, clusterIP, port), where()); v.Fate != trace.Forwarded || len(v.Doubts) != 7 {
		t.Errorf("%+v", v)
	}
}

func TestTracingChangesNothing(t *testing.T) {
	s, same := rows(t, cidrs(), both()), rows(t, cidrs(), both())
	trace.Of(s, packet(tcp, podHere, balancer, port), where())
	if d := state.Diff(same, s); d.Len() != 0 {
		t.Errorf("%+v", d)
	}
	first := trace.Of(s, packet(tcp, podHere, balancer, port), where())
	for range 20 {
		if d := cmp.Diff(first, trace.Of(s, packet(tcp, podHere, balancer, port), where()), cmp.Comparer(sameAddr)); d != "" {
			t.Fatalf("another time (-first +now):\n%s", d)
		}
	}
}

func sameAddr(a, b netip.AddrPort) bool { return a == b }

func TestPacketsThatMakeNoSenseAreTold(t *testing.T) {
	for want, p := range map[string]trace.Packet{
		"packet has no destination": {Protocol: tcp},
		"client 10.244.1.9 and destination fd00:10:96::80 are not of one IP family": packet(tcp, podClient, clusterIP6, 80),
		"a ping has no port, but 80 was given":                                      packet(trace.Ping, podClient, clusterIP, 80),
		"destination 10.96.0.80 has no port":                                        packet(udp, podClient, clusterIP, 0),
	} {
		if err := p.Check(); err == nil || err.Error() != want {
			t.Errorf("%+v: %v, want %s", p, err, want)
		}
		trace.Of(rows(t, cidrs(), both()), p, where())
	}
	if err := packet(tcp, "", clusterIP, 80).Check(); err != nil {
		t.Error(err)
	}
}

// withChain returns s with other rules in one chain.
func withChain(s state.State, f state.Family, table state.RuleTable, name string, lines ...string) state.State {
	s.Chains = maps.Clone(s.Chains)
	s.Chains[state.ChainKey{Family: f, Table: table, Name: name}] = state.ChainOf(lines...)
	return s
}
