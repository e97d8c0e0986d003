// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

// FuzzRules evaluates any rules, in chains that go to each other. It must end with a fate, twice with the same.
func FuzzRules(f *testing.F) {
	for k, chain := range rows(f, cidrs(), both()).Chains {
		if k.Family == state.IPv4 {
			f.Add(chain.Rules, "-j ONE\n-g TWO", true)
		}
	}
	f.Add("-j TWO\n-j TWO", "-j ONE\n-j ONE\n-j TWO", false)
	f.Add(`-m comment --comment "\`, `! ! -m`, false)
	f.Add("-j ACCEPT", "[immediate 1=1]", true)
	f.Fuzz(func(t *testing.T, one, two string, own bool) {
		s := small()
		for _, table := range []state.RuleTable{state.Mangle, state.NAT, state.Filter, "nft-mangle", "nft-nat", "nft-filter"} {
			for name, rules := range map[string]string{"ONE": one, "TWO": two} {
				s = withChain(s, state.IPv4, table, name, rules)
				for _, from := range []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"} {
					s.Jumps[state.JumpKey{Family: state.IPv4, Table: table, From: from, To: name}] = state.Jump{Rule: "-j " + name}
				}
			}
		}
		k := state.VirtualServerKey{Address: netip.MustParseAddrPort("192.0.2.1:80"), Protocol: tcp}
		s.VirtualServers[k] = state.VirtualServer{Scheduler: "rr"}
		s.RealServers[state.RealServerKey{Server: k, Address: netip.MustParseAddrPort("10.244.1.5:0")}] = state.RealServer{Weight: 1}
		for _, p := range []trace.Packet{packet(tcp, outside, nodeIP, 80), packet(trace.Ping, outside, "192.0.2.9", 0)} {
			w := where()
			w.Node = own
			v := trace.Of(s, p, w)
			if strings.HasPrefix(v.Fate.String(), "fate") || v.By == "" {
				t.Errorf("no fate: %+v", v)
			}
			var b, again strings.Builder
			if err := trace.Text(&b, v); err != nil {
				t.Error(err)
			}
			if err := trace.Text(&again, trace.Of(s, p, w)); err != nil || again.String() != b.String() {
				t.Errorf("%v\n%s\nand another time\n%s", err, b.String(), again.String())
			}
		}
	})
}
