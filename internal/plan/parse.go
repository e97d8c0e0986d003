// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// parseAddr reads an address as the API server's older validation accepts it: with leading zeros in IPv4
// ("10.180.00.001", decimal), which netip refuses. An IPv4 address in IPv6 form is the IPv4 address.
func parseAddr(s string) (netip.Addr, error) {
	a, err := parseForm(s)
	return a.Unmap(), err
}

// parseForm is parseAddr that leaves an IPv4 address in the form that it has.
func parseForm(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		a, err = netip.ParseAddr(withoutZeros(s))
	}
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%.64q is not an IP address", s)
	}
	return a, nil
}

// parsePrefix reads a network as leniently as parseAddr, with blanks around it and with bits behind its
// length. Whatever its spelling, the length counts from the first bit of what was written: of an IPv4 network
// in IPv6 form, and of no other with dots in it, 96 bits are the form's.
func parsePrefix(s string) (netip.Prefix, error) {
	text, length, found := strings.Cut(strings.TrimSpace(s), "/")
	a, err := parseForm(text)
	bits, badBits := strconv.Atoi(length)
	if a.Is4In6() {
		a, bits = a.Unmap(), bits-96
	}
	if !found || err != nil || badBits != nil || bits < 0 || bits > a.BitLen() {
		return netip.Prefix{}, fmt.Errorf("%.64q is not a network such as 192.0.2.0/24", s)
	}
	return netip.PrefixFrom(a, bits).Masked(), nil
}

func withoutZeros(s string) string {
	parts := strings.Split(s, ".")
	for i, p := range parts {
		if parts[i] = strings.TrimLeft(p, "0"); p != "" && parts[i] == "" {
			parts[i] = "0"
		}
	}
	return strings.Join(parts, ".")
}

// servable says why no Service can be reached at a. Link-local IPv4 can be: some clusters have their Services
// there.
func servable(a netip.Addr) error {
	switch {
	case a.IsUnspecified():
		return fmt.Errorf("%v is unspecified", a)
	case a.IsLoopback():
		return fmt.Errorf("%v is a loopback address", a)
	case a.IsMulticast():
		return fmt.Errorf("%v is a multicast address", a)
	case a.Is6() && a.IsLinkLocalUnicast():
		return fmt.Errorf("%v is a link-local address", a)
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%v is the broadcast address", a)
	}
	return nil
}

// endable says why a can be no endpoint: what the API server refuses, lest somebody's Service reaches into
// the node (CVE-2021-25737).
func endable(a netip.Addr) error {
	if a.IsLinkLocalUnicast() {
		return fmt.Errorf("%v is a link-local address", a)
	}
	return servable(a)
}

// parseProtocol takes nothing for TCP, as the API server does: objects from files have not been through it.
func parseProtocol(p corev1.Protocol) (state.Protocol, error) {
	switch p {
	case corev1.ProtocolTCP, "":
		return state.TCP, nil
	case corev1.ProtocolUDP:
		return state.UDP, nil
	case corev1.ProtocolSCTP:
		return state.SCTP, nil
	}
	return 0, fmt.Errorf("%.64q is none of TCP, UDP, SCTP", p)
}

func parsePort(n int32) (uint16, bool) {
	if n < 1 || n > 65535 {
		return 0, false
	}
	return uint16(n), true
}

// maxComment is the kernel's IPSET_MAX_COMMENT_SIZE.
const maxComment = 255

// comment names a Service, or one port of it, in a set entry. Names that the API server let pass are short
// and plain; in others, what ipset could not save and restore becomes an underscore.
func comment(namespace, name, port string) string {
	s := namespace + "/" + name
	if port != "" {
		s += ":" + port
	}
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, s)
	return s[:min(len(s), maxComment)]
}
