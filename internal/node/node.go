// SPDX-License-Identifier: Apache-2.0

// Package node reads this node from the kernel: its name, and its addresses, gateways and MTU, which it also watches.
// It does not read the Node object, and does not decide which addresses a Service uses.
package node

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Name returns the name of the node in the cluster: override, or else the host's name, in lower case.
func Name(override string) (string, error) {
	name := override
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("read the host's name: %w", err)
		}
		name = host
	}
	name = strings.ToLower(strings.TrimSpace(name))
	if name == "" {
		return "", fmt.Errorf("node name %q is empty", override)
	}
	return name, nil
}

// Usable returns the addresses at which a NodePort can be reached from outside, sorted and unique: all but loopback and
// IPv6 link-local ones. assigned must not include those of the device for Service addresses.
func Usable(assigned []netip.Prefix) []netip.Addr {
	usable := []netip.Addr{}
	for _, p := range assigned {
		if a := p.Addr(); counts(a) {
			usable = append(usable, a)
		}
	}
	return unique(usable, netip.Addr.Compare)
}

// Networks returns the IPv4 networks of the node's devices that have a broadcast address, without loopback.
func Networks(assigned []netip.Prefix) []netip.Prefix {
	networks := []netip.Prefix{}
	for _, p := range assigned {
		if a := p.Addr(); a.Is4() && counts(a) && p.Bits() < a.BitLen()-1 {
			networks = append(networks, p.Masked())
		}
	}
	return unique(networks, netip.Prefix.Compare)
}

func unique[T comparable](list []T, compare func(a, b T) int) []T {
	slices.SortFunc(list, compare)
	return slices.Compact(list)
}

// IPv4 link-local addresses count: clouds and node-local DNS caches use them.
func counts(a netip.Addr) bool {
	return !a.IsLoopback() && !(a.Is6() && a.IsLinkLocalUnicast())
}
