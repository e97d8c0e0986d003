// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
)

const subsystem = unix.NFNL_SUBSYS_NFTABLES << 8

// header is the size of struct nfgenmsg, whose families IPv4 and IPv6 have the numbers of AF_INET and AF_INET6.
const header = 4

func begin(b *netlink.Requests, kind uint16, family uint8) {
	b.Begin(subsystem|kind, 0)
	b.Raw(family, unix.NFNETLINK_V0, 0, 0)
}

func deleteTable(b *netlink.Requests, t table) {
	begin(b, unix.NFT_MSG_DELTABLE, t.family)
	b.String(unix.NFTA_TABLE_NAME, t.name)
}

func parseTable(body []byte) (table, error) {
	attributes, err := netlink.ParseBody(body, header)
	if err != nil {
		return table{}, err
	}
	name := attributes.Get(unix.NFTA_TABLE_NAME).String()
	if name == "" {
		return table{}, errors.New("nftables table came without a name")
	}
	return table{family: body[0], name: name}, nil
}
