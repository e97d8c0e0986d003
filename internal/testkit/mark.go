// SPDX-License-Identifier: Apache-2.0

package testkit

import "github.com/kube-ipvs/kube-ipvs/internal/state"

// Mark is the firewall mark that older versions gave to the packets of a NodePort.
func Mark(p state.Protocol, nodePort uint16) uint32 {
	kind := map[state.Protocol]uint32{state.TCP: 1, state.UDP: 2, state.SCTP: 3}[p]
	return state.MarkValue | kind<<22 | uint32(nodePort)
}
