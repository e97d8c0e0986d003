// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"io"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const nftListing = `table ip kube-ipvs {
	map KUBE-INSIDE {
		type ipv4_addr . inet_proto . inet_service : inet_service
		elements = { 192.0.2.1 . tcp . 80 comment "shop/web:http" : 32849,
			     192.0.2.1 . tcp . 443 : 33212 }
	}

	set KUBE-IPVS-IPS {
		type ipv4_addr
		elements = { 10.96.0.9, 10.96.0.10,
			     10.96.0.80 }
	}

	set KUBE-NODE-PORT-TCP {
		type inet_service
		elements = { 1, 2, 3, 4, 5,
			     30080 }
	}

	chain nat-KUBE-SERVICES {
		ip daddr . meta l4proto . th dport map @KUBE-INSIDE != 0 dnat to ip daddr
		# [immediate 1=1; verdict 0]
		jump nat-KUBE-MARK-MASQ
	}

	chain nat-POSTROUTING {
		type nat hook postrouting priority srcnat - 1; policy accept;
		jump nat-KUBE-POSTROUTING
	}

	chain nat-PREROUTING {
		type nat hook prerouting priority dstnat - 1; policy accept;
		jump nat-KUBE-SERVICES comment "x"
		# [asleep]
	}
}
table ip6 kube-ipvs {
	map KUBE-6-ALL-PORTS {
		type ipv6_addr . inet_proto . inet_service : ipv6_addr
		elements = { 2001:db8::1 . udp . 53 : fd5f:8a2c::1 }
	}

	set KUBE-6-LOAD-BALANCER-S {
		type ipv6_addr . inet_proto . inet_service . ipv6_addr
		flags interval
		elements = { 2001:db8::1 . sctp . 80 . 2001:db8::/32 }
	}

	set KUBE-6-LOOP-BACK {
		type ipv6_addr . inet_proto . inet_service . ipv6_addr
		elements = { fd00::1 . udp . 53 . fd00::1 }
	}

	set KUBE-6-ODD {
		# type 7, length 4
	}

	chain filter-KUBE-EMPTY {
	}
}
`

// nftRows returns rows of nftables, among some of iptables, and what another program has put among them.
func nftRows() state.State {
	s := desired()
	for n, v := range map[state.SetName]state.Set{
		"nft:KUBE-IPVS-IPS":          {Type: state.HashIP, Family: state.IPv4, Comment: true},
		"nft:KUBE-NODE-PORT-TCP":     {Type: state.BitmapPort, Comment: true},
		"nft:KUBE-INSIDE":            {Type: state.MapIPPortToPort, Family: state.IPv4, Comment: true},
		"nft:KUBE-6-ALL-PORTS":       {Type: state.MapIPPortToIP, Family: state.IPv6, Comment: true},
		"nft:KUBE-6-LOAD-BALANCER-S": {Type: state.HashIPPortNet, Family: state.IPv6, Comment: true},
		"nft:KUBE-6-LOOP-BACK":       {Type: state.HashIPPortIP, Family: state.IPv6, Comment: true},
		"nft:KUBE-6-ODD":             {Type: "type 7, length 4", Family: state.IPv6, Comment: true},
	} {
		s.Sets[n] = v
	}
	for _, e := range []string{
		"nft:KUBE-IPVS-IPS 10.96.0.10", "nft:KUBE-IPVS-IPS 10.96.0.9", "nft:KUBE-IPVS-IPS 10.96.0.80",
		"nft:KUBE-NODE-PORT-TCP 1", "nft:KUBE-NODE-PORT-TCP 2", "nft:KUBE-NODE-PORT-TCP 3", "nft:KUBE-NODE-PORT-TCP 4",
		"nft:KUBE-NODE-PORT-TCP 5", "nft:KUBE-NODE-PORT-TCP 30080", "nft:KUBE-INSIDE 192.0.2.1,tcp:443",
		"nft:KUBE-6-ALL-PORTS 2001:db8::1,udp:53", "nft:KUBE-6-LOOP-BACK fd00::1,udp:53,fd00::1",
		"nft:KUBE-6-LOAD-BALANCER-S 2001:db8::1,sctp:80,2001:db8::/32",
	} {
		s.Entries[entry(e)] = state.Entry{}
	}
	s.Entries[entry("nft:KUBE-INSIDE 192.0.2.1,tcp:80")] = state.Entry{Comment: "shop/web:http"}
	s.Chains[state.ChainKey{Family: state.IPv4, Table: "nft-nat", Name: "KUBE-SERVICES"}] = state.ChainOf(
		"-m set --match-set nft:KUBE-INSIDE dst,dst -j ACCEPT", "[immediate 1=1; verdict 0]", "-j KUBE-MARK-MASQ")
	s.Chains[state.ChainKey{Family: state.IPv6, Table: "nft-filter", Name: "KUBE-EMPTY"}] = state.Chain{}
	s.Jumps[state.JumpKey{Family: state.IPv4, Table: "nft-nat", From: "POSTROUTING", To: "KUBE-POSTROUTING"}] = state.Jump{Rule: "-j KUBE-POSTROUTING"}
	s.Jumps[state.JumpKey{Family: state.IPv4, Table: "nft-nat", From: "PREROUTING", To: "KUBE-SERVICES"}] = state.Jump{Rule: "-m comment --comment x -j KUBE-SERVICES\n[asleep]"}
	return s
}

func TestOurTableIsAsNFTListsIt(t *testing.T) {
	got := written(t, func(w io.Writer) error { return render.NFT(w, nftRows()) })
	equal(t, got, nftListing)
	if got := written(t, func(w io.Writer) error { return render.NFT(w, desired()) }); got != "" {
		t.Errorf("of rows of iptables:\n%s", got)
	}
}
