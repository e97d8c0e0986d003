// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// The words that nodePortAddresses may have beside networks, in any mix.
const (
	primary   = "primary"   // the addresses of the Node object
	localhost = "localhost" // the loopback addresses
	all       = "all"       // all addresses
)

func (x *conversion) nodePorts() {
	x.to.LocalhostNodePorts = x.Own.LocalhostNodePorts
	x.nodePortAddresses(x.Proxy.NodePortAddresses)
	var err error
	if x.to.NodePortRange, err = config.ParsePortRange(x.Own.NodePortRange); err != nil {
		x.found.Add("nodePortRange", "%v", err)
	}
	x.to.NodePortSourceRanges = x.Own.NodePortSourceRanges
}

// nodePortAddresses reads networks and words. The word localhost asks for NodePorts at the loopback
// addresses. A loopback network in numbers does not: in kube-proxy's ipvs mode it is a way to have NodePorts
// nowhere, and that is how it is used.
func (x *conversion) nodePortAddresses(list []string) {
	for i, text := range list {
		path := at("nodePortAddresses", i)
		var networks []netip.Prefix
		switch text {
		case primary:
			x.to.NodePortPrimary = true
		case localhost:
			x.to.LocalhostNodePorts = true
			networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
		case all:
			networks = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
		default:
			networks = x.nodePortNetwork(path, text)
			x.to.NodePortAddresses = append(x.to.NodePortAddresses, networks...)
			continue
		}
		x.found.Unless(!slices.Contains(list[:i], text), path, "%s is there already", text)
		x.to.NodePortAddresses = append(x.to.NodePortAddresses, networks...)
	}
}

// nodePortNetwork is the network that text is, or none. What is wrong with it is said here: words make the
// places in a Config others than those in the document.
func (x *conversion) nodePortNetwork(path, text string) []netip.Prefix {
	p, ok := network(text)
	if !ok {
		x.found.Add(path, "%q is neither a CIDR such as 10.244.0.0/16 nor one of %s", text, strings.Join([]string{primary, localhost, all}, ", "))
		return nil
	}
	if !x.found.Network(path, p) {
		return nil
	}
	return []netip.Prefix{p}
}
