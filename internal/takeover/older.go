// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Predecessors tell the rules of those that may have served on a node before: of kube-proxy, and of older
// versions of ours. These led packets to virtual servers by marks. As long as rules set such marks, the
// virtual servers have to take new connections, and the rules that know the marks stay: so none changes, and
// none goes, before all else is in the kernel.
type Predecessors struct{ KubeProxy }

// Left says whether a chain is a predecessor's, and no use to us.
func (p Predecessors) Left(k state.ChainKey) bool {
	marking := k.Table == state.Mangle && slices.Contains([]string{chainServices, chainPostrouting, "KUBE-NO-LOCAL"}, k.Name)
	return marking || p.KubeProxy.Left(k)
}

// Interim is what a chain should be before all else is in the kernel; false: as it will be. See KubeProxy.
func (p Predecessors) Interim(have, want state.Chain) (state.Chain, bool) {
	rules := have.Lines()
	if slices.ContainsFunc(rules, knowsMarks) {
		return have, true
	}
	if len(rules) > 0 && !slices.ContainsFunc(rules, refuses) && slices.ContainsFunc(want.Lines(), refuses) {
		return state.ChainOf(slices.DeleteFunc(want.Lines(), refuses)...), true
	}
	return p.KubeProxy.Interim(have, want)
}

// refuses reports whether a rule gives no answer where only other nodes have endpoints. Clients in the
// cluster get theirs, once they are led there; before, they may be sent to them by other means than rules
// that we know.
func refuses(rule string) bool { return strings.Contains(rule, "-NO-LOCAL dst,dst -j DROP") }

// knowsMarks reports whether a rule sets a mark by which an older version of ours knew a virtual server, or
// looks at it.
func knowsMarks(rule string) bool {
	return strings.Contains(rule, "--map-mark") || strings.Contains(rule, fmt.Sprintf("--mark %#x/%#x", state.MarkValue, state.MarkMask))
}
