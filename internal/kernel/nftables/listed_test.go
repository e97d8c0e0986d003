// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/render"
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

// nft lists what is in the kernel; render.NFT writes the same of the rows.
func TestOurTextIsWhatNFTLists(t *testing.T) {
	cidrs := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/56")}
	for name, d := range map[string]config.LocalDetector{
		"cidr":   {Kind: config.DetectCIDR, CIDRs: cidrs},
		"bridge": {Kind: config.DetectBridge, Interface: "cni0"},
		"prefix": {Kind: config.DetectPrefix, Interface: "veth"},
		"none":   {},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			want := everyKind(t, d)
			r := c.tables().Apply(t.Context(), state.Diff(state.New(), want))
			if failures, n := r.Failures(5); n > 0 || r.Drift() > 0 {
				t.Fatalf("%d failures, drift %d: %v", n, r.Drift(), failures)
			}
			text := rendered(t, want)
			compareListings(t, text, testkit.Tool(t, "nft", "list", "ruleset"))
			have, err := c.tables().List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if of := rendered(t, have); of != text {
				t.Errorf("of the kernel's rows:\n%s\nof those that were written:\n%s", of, text)
			}
		})
	}
}

func rendered(t *testing.T, s state.State) string {
	t.Helper()
	var b strings.Builder
	if err := render.NFT(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// compareListings compares our text with nft's, but for the order of sets and chains in a table and of elements in a
// set, and for how nft shows a match of a map.
func compareListings(t *testing.T, ours, theirs string) {
	t.Helper()
	theirs = strings.ReplaceAll(theirs, "!= 0x0 [invalid type]", "!= 0")
	have, want := blocksOf(ours), blocksOf(theirs)
	if len(have) < 70 || len(have) != len(want) {
		t.Errorf("%d sets and chains, nft lists %d", len(have), len(want))
	}
	for head, block := range want {
		mine, its := have[head], inOrderOf(have[head], block)
		if mine != its {
			t.Errorf("%s\n got %s\nwant %s", head, mine, its)
		}
	}
}

// blocksOf returns the sets and chains of a listing by their first lines, with their tables.
func blocksOf(text string) map[string]string {
	blocks := map[string]string{}
	for table := range strings.SplitSeq(text, "\n}\n") {
		head, rest, _ := strings.Cut(table, "\n")
		for block := range strings.SplitSeq(rest, "\n\n") {
			first, _, _ := strings.Cut(block, "\n")
			blocks[head+first] = block
		}
	}
	return blocks
}

// inOrderOf returns the block of a set with its elements in the order of another text, if these are the same.
func inOrderOf(other, block string) string {
	inside, between := regexp.MustCompile(`(?s)elements = \{ (.*) \}`), regexp.MustCompile(`,\s+`)
	list := inside.FindStringSubmatch(block)
	theirs := inside.FindStringSubmatch(other)
	if list == nil || theirs == nil {
		return block
	}
	mine, its := between.Split(list[1], -1), between.Split(theirs[1], -1)
	if !slices.Equal(slices.Sorted(slices.Values(mine)), slices.Sorted(slices.Values(its))) {
		return block
	}
	gaps := append(between.FindAllString(list[1], -1), "")
	ordered := ""
	for i, element := range its {
		ordered += element + gaps[i]
	}
	return strings.Replace(block, list[1], ordered, 1)
}
