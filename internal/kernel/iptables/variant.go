// SPDX-License-Identifier: Apache-2.0

package iptables

import "github.com/kube-ipvs/kube-ipvs/internal/state"

// variant is one of the two kinds of tools, which write to different parts of the kernel: packets meet the rules of
// both, but neither tool sees the other's. So kube-ipvs uses that of the machine's other programs.
type variant string

const (
	asNamed variant = "" // that of plain iptables
	nft     variant = "-nft"
	legacy  variant = "-legacy"
)

// proxyChain is made only by service proxies, kubeletChains only by kubelet: the first for programs in containers to
// find, the second, of older versions, to notice a flush.
const proxyChain = state.ChainServices

func kubeletChains() []string { return []string{state.ChainIPTablesHint, state.ChainKubeletCanary} }

// finding is what the tools of one variant show of all families together.
type finding struct {
	works          bool // each family could be read
	proxy, kubelet bool // has their chains
	rules          int
}

// choose finds the variant in use: where a service proxy has been before, lest its rules stay behind unseen; then
// kubelet's, which runs with the machine's own tools; then where most rules are; then that of the plain name, as a
// tool whose part the kernel lacks shows nothing, either.
func choose(n, l finding) variant {
	switch {
	case !n.works && !l.works:
		return asNamed
	case n.works != l.works:
		return either(n.works)
	case n.proxy != l.proxy:
		return either(n.proxy)
	case n.kubelet != l.kubelet:
		return either(n.kubelet)
	case n.rules != l.rules:
		return either(n.rules > l.rules)
	case n.proxy || n.kubelet:
		return nft // the machine changed, and is not likely to change back
	}
	return asNamed
}

func either(isNFT bool) variant {
	if isNFT {
		return nft
	}
	return legacy
}
