// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import (
	"net/netip"
	"strings"

	netutils "k8s.io/utils/net"
)

// words returns those of a comma-separated list.
func words(list string) []string {
	var all []string
	for word := range strings.SplitSeq(list, ",") {
		if word = strings.TrimSpace(word); word != "" {
			all = append(all, word)
		}
	}
	return all
}

// networks reads CIDRs. Invalid ones become zero, so that the others keep their places.
func (x *conversion) networks(path string, texts []string) []netip.Prefix {
	var all []netip.Prefix
	for i, text := range texts {
		p, ok := network(text)
		x.found.Unless(ok, at(path, i), "%q is not a CIDR such as 10.244.0.0/16", text)
		all = append(all, p)
	}
	return all
}

// network reads a CIDR. Like kube-proxy it accepts decimal numbers with leading zeros.
func network(text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	if err == nil {
		return p.Masked(), true
	}
	_, n, err := netutils.ParseCIDRSloppy(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a, bits), true
}

func (x *conversion) address(path, text string) netip.Addr {
	a, ok := address(text)
	x.found.Unless(ok, path, "%q is not an IP address", text)
	return a
}

func address(text string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap(), a.Zone() == ""
	}
	a, ok := netip.AddrFromSlice(netutils.ParseIPSloppy(text))
	return a.Unmap(), ok
}

func (x *conversion) addressPort(path, text string) netip.AddrPort {
	colon := strings.LastIndex(text, ":")
	host, port := text[:max(colon, 0)], text[colon+1:]
	inner, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		host = strings.TrimSuffix(inner, "]")
	}
	a, ok := address(host)
	n, err := netutils.ParsePort(port, true)
	if colon < 0 || !ok || err != nil || !bracketed && strings.Contains(host, ":") {
		x.found.Add(path, "%q is not an IP address and a port such as 192.0.2.1:6443", text)
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, uint16(n))
}
