// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// everyKind returns rows of every kind: all rules that any configuration has, and entries in every set.
func everyKind(t *testing.T, d config.LocalDetector) state.State {
	t.Helper()
	c := config.Default()
	c.Firewall, c.LocalDetector = state.OnNFTables, d
	c.AnswerPing, c.Serving.Healthz = true, netip.MustParseAddrPort("0.0.0.0:10256")
	c.NodePortRange = config.PortRange{First: 30000, Last: 32767}
	c.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112")}
	s := plan.Base(c).State()
	for n, set := range s.Sets {
		for e, v := range entriesOf(n, set) {
			s.Entries[e] = v
		}
	}
	return s
}

func entriesOf(n state.SetName, set state.Set) map[state.SetEntry]state.Entry {
	addresses, sources := []string{"10.96.0.10", "10.96.0.9", "9.255.0.1"}, []string{"192.0.2.0/24", "192.0.2.7/32", "10.0.0.0/8"}
	if n.Family() == state.IPv6 {
		addresses, sources = []string{"fd00:10:96::10", "fd00:10:96::9", "2001:db8::1"}, []string{"2001:db8::/32", "fd00::1/128"}
	}
	rows := map[state.SetEntry]state.Entry{}
	about := []state.Entry{{Comment: "shop/web:http"}, {}, {Comment: "kube-system/kube-dns:dns-tcp"}}
	for i, a := range addresses {
		for j, p := range []state.Protocol{state.TCP, state.UDP, state.SCTP} {
			e := state.SetEntry{Set: n, Address: netip.MustParseAddr(a), Protocol: p, Port: uint16(8 + 300*i + j)}
			switch set.Type {
			case state.BitmapPort:
				e.Address, e.Protocol = netip.Addr{}, 0
			case state.HashIP:
				e.Protocol, e.Port = 0, 0
			case state.HashIPPortIP, state.HashIPPortNet:
				e.Source = netip.MustParsePrefix(sources[j%len(sources)])
			}
			if set.Type == state.HashIPPortIP {
				e.Source = netip.PrefixFrom(e.Source.Addr(), e.Source.Addr().BitLen())
			}
			rows[e] = about[(i+j)%3]
		}
	}
	return rows
}

func TestDump(t *testing.T) {
	c := open(t)
	want := everyKind(t, config.LocalDetector{Kind: config.DetectCIDR, CIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/56")}})
	start := time.Now()
	r := c.tables().Apply(t.Context(), state.Diff(state.New(), want))
	if failures, n := r.Failures(5); n > 0 || r.Drift() > 0 {
		t.Fatalf("%d failures, drift %d: %v", n, r.Drift(), failures)
	}
	t.Log(time.Since(start))
	for _, f := range []string{"ip", "ip6"} {
		os.WriteFile("/tmp/show-"+f+".txt", []byte(testkit.Tool(t, "nft", "list", "table", f, "kube-ipvs")), 0o644)
	}
}
