// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Predecessors tell the rules of those that may have served on a node before: of
// kube-proxy, and of older versions of ours. These led packets to virtual servers by
// marks. As long as rules set such marks, the virtual servers have to take new
// connections, and the rules that know the marks stay: so none changes, and none goes,
// before all else is in the kernel.
type Predecessors struct{ KubeProxy }

// Left says whether a chain is a predecessor's, and no use to us.
func (p Predecessors) Left(k state.ChainKey) bool {
	marking := k.Table == state.Mangle && slices.Contains([]string{chainServices, chainPostrouting, "KUBE-NO-LOCAL"}, k.Name)
	return marking || p.KubeProxy.Left(k)
}

// Meanwhile is what a chain should be before all else is in the kernel; false: as it
// will be. See KubeProxy.
func (p Predecessors) Meanwhile(have, want state.Chain) (state.Chain, bool) {
	if slices.ContainsFunc(have.Lines(), knowsMarks) {
		return have, true
	}
	return p.KubeProxy.Meanwhile(have, want)
}

// knowsMarks reports whether a rule sets a mark by which an older version of ours knew a
// virtual server, or looks at it.
func knowsMarks(rule string) bool {
	return strings.Contains(rule, "--map-mark") || strings.Contains(rule, "--mark 0x4b000000/0xff000000")
}
