// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const subsystem = unix.NFNL_SUBSYS_NFTABLES << 8

// header is what every message of netfilter begins with.
const header = 4

func begin(b *netlink.Requests, kind uint16, family uint8) {
	b.Begin(subsystem|kind, 0)
	b.Raw(family, unix.NFNETLINK_V0, 0, 0)
}

func listTables(b *netlink.Requests) { begin(b, unix.NFT_MSG_GETTABLE, unix.NFPROTO_UNSPEC) }

func deleteTable(b *netlink.Requests, t table) {
	begin(b, unix.NFT_MSG_DELTABLE, t.family)
	b.String(unix.NFTA_TABLE_NAME, t.name)
}

func parseTable(body []byte) (table, error) {
	if len(body) < header {
		return table{}, fmt.Errorf("nftables message of %d bytes", len(body))
	}
	attributes, err := netlink.ParseAttributes(body[header:])
	if err != nil {
		return table{}, err
	}
	t := table{family: body[0]}
	for _, a := range attributes {
		if a.Type == unix.NFTA_TABLE_NAME {
			t.name = a.String()
		}
	}
	if t.name == "" {
		return table{}, fmt.Errorf("nftables table came without a name")
	}
	return t, nil
}

// familyOf is 0 for tables of other families than the two: they are nobody's that we know.
func familyOf(protocol uint8) state.Family {
	switch protocol {
	case unix.NFPROTO_IPV4:
		return state.IPv4
	case unix.NFPROTO_IPV6:
		return state.IPv6
	}
	return 0
}

func protocolOf(f state.Family) uint8 {
	if f == state.IPv4 {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}
