// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// maxFlows bounds the flows that wait to be flushed, should the kernel refuse that
// for hours. The oldest are given up: what they stand for is most likely to have
// ended by itself.
const maxFlows = 1 << 16

// staleFlows are the flows that are to be flushed, each once, the oldest first.
type staleFlows struct {
	list    []state.Flow
	known   elastic[state.Flow, struct{}]
	givenUp int // since some were flushed
}

func (s *staleFlows) add(f state.Flow) {
	if s.known.has(f) {
		return
	}
	if len(s.list) == maxFlows {
		s.known.drop(s.list[0])
		s.list = s.list[1:]
		s.givenUp++
	}
	s.known.put(f, struct{}{})
	s.list = append(s.list, f)
}

// spare takes off a flow that is not stale any more.
func (s *staleFlows) spare(f state.Flow) {
	if s.known.has(f) {
		s.known.drop(f)
		s.list = slices.DeleteFunc(s.list, func(o state.Flow) bool { return o == f })
	}
}

// flushed takes off the flows done, which are the first of the list.
func (s *staleFlows) flushed(done []state.Flow) {
	for _, f := range done {
		s.known.drop(f)
	}
	s.list, s.givenUp = s.list[len(done):], 0
	if len(s.list) == 0 {
		s.list = nil
	}
}

// flowTo is of the packets that a client sends to front and that real server k gets.
func flowTo(k state.RealServerKey, front netip.AddrPort) state.Flow {
	return state.Flow{Protocol: k.Server.Transport(), Service: front, Endpoint: k.At(front.Port())}
}

// spareFlows is for a real server that is wished again while its flows wait: they
// lead to somebody, and to flush them could end a connection.
func (c *Core) spareFlows(k state.RealServerKey) {
	if len(c.flows.list) == 0 || !leavesFlows(k.Server) {
		return
	}
	for _, front := range c.fronts(k.Server, nil) {
		c.flows.spare(flowTo(k, front))
	}
}
