// SPDX-License-Identifier: Apache-2.0

// Package node is the node that the program runs on, as the kernel tells of it:
// its name, its addresses and its gateways, and a watch on the latter two.
//
// Which of the addresses a Service uses is decided elsewhere, and the Node
// object is read elsewhere too.
package node

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Name is the name under which the node is known to the cluster: override if it
// is not empty, and else the host's name; trimmed and in lower case either way.
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

// Usable are those of the addresses on the node's devices at which a NodePort
// can be reached from outside: all but loopback and IPv6 link-local ones, sorted
// and without doubles. IPv4 link-local ones count, as clouds and node-local DNS
// caches use them. The addresses may not include those of the device that
// carries the Service addresses.
func Usable(assigned []netip.Addr) []netip.Addr {
	usable := []netip.Addr{}
	for _, a := range assigned {
		if counts(a) {
			usable = append(usable, a)
		}
	}
	slices.SortFunc(usable, netip.Addr.Compare)
	return slices.Compact(usable)
}

func counts(a netip.Addr) bool {
	return !a.IsLoopback() && !(a.Is6() && a.IsLinkLocalUnicast())
}
