// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// script is the input of one iptables-restore. It commits table by table, each of them at once.
type script struct {
	text  string
	lines []origin
	of    int // how many pieces
}

// origin is where a line of a script comes from: a piece, and the pieces of its table, all by their index.
type origin struct{ piece, from, to int }

// noPiece is the piece of lines that belong to a table as a whole.
const noPiece = -1

// scriptOf writes pieces of which those of a table are next to each other.
func scriptOf(pieces []piece) script {
	s := script{of: len(pieces)}
	var text strings.Builder
	for from, to := 0, 0; from < len(pieces); from = to {
		for to < len(pieces) && pieces[to].table == pieces[from].table {
			to++
		}
		write := func(piece int, lines ...string) {
			for _, line := range lines {
				text.WriteString(line + "\n")
				s.lines = append(s.lines, origin{piece, from, to})
			}
		}
		write(noPiece, "*"+string(pieces[from].table))
		for i := from; i < to; i++ {
			write(i, pieces[i].first...)
		}
		for i := from; i < to; i++ {
			write(i, pieces[i].then...)
		}
		write(noPiece, "COMMIT")
	}
	s.text = text.String()
	return s
}

// at returns where a line comes from, counted from 1. One without a number may be of any table.
func (s script) at(line int) origin {
	if line < 1 || line > len(s.lines) {
		return origin{noPiece, 0, s.of}
	}
	return s.lines[line-1]
}

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
// kubelet's, which runs with the machine's own tools; then where most rules are; then that of the plain name, as a tool
// whose part the kernel lacks shows nothing, either.
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
