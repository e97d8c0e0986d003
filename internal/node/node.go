// SPDX-License-Identifier: Apache-2.0

// Package node is the node that the program runs on, as the kernel tells of it: its name, its addresses and
// its gateways, and a watch on the latter two.
//
// Which of the addresses a Service uses is decided elsewhere, and the Node object is read elsewhere too.
package node

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Name is the name under which the node is known to the cluster: override if it is not empty, and else the
// host's name; trimmed and in lower case either way.
func Name(override string) (string, error) {
	name := override
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("reading the host's name: %w", err)
		}
		name = host
	}
	name = strings.ToLower(strings.TrimSpace(name))
	if name == "" {
		return "", fmt.Errorf("node name %q is empty", override)
	}
	return name, nil
}

// Usable are those of the addresses on the node's devices at which a NodePort can be reached from outside:
// all but loopback and IPv6 link-local ones, sorted and without doubles. IPv4 link-local ones count, as
// clouds and node-local DNS caches use them. The addresses may not include those of the device that carries
// the Service addresses.
func Usable(assigned []netip.Prefix) []netip.Addr {
	usable := []netip.Addr{}
	for _, p := range assigned {
		if a := p.Addr(); counts(a) {
			usable = append(usable, a)
		}
	}
	slices.SortFunc(usable, netip.Addr.Compare)
	return slices.Compact(usable)
}

// Networks are the IPv4 networks that the node's devices are in, but for loopback's, sorted and without
// doubles. One of a single address, or of two, has neither an address of its own nor one for all.
func Networks(assigned []netip.Prefix) []netip.Prefix {
	networks := []netip.Prefix{}
	for _, p := range assigned {
		if a := p.Addr(); a.Is4() && counts(a) && p.Bits() < a.BitLen()-1 {
			networks = append(networks, p.Masked())
		}
	}
	slices.SortFunc(networks, netip.Prefix.Compare)
	return slices.Compact(networks)
}

func counts(a netip.Addr) bool {
	return !a.IsLoopback() && !(a.Is6() && a.IsLinkLocalUnicast())
}
