// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"net/netip"
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// maxFlows bounds the flows that wait to be flushed, should the kernel refuse that for hours. The oldest are given up:
// they are the most likely to have ended by themselves.
const maxFlows = 1 << 16

// staleFlows are the flows that are to be flushed, each once, the oldest first.
type staleFlows struct {
	list    []state.Flow
	known   shrinkingMap[state.Flow, struct{}]
	givenUp int       // since some were flushed
	lost    bool      // some lead to endpoints that are gone
	due     time.Time // the next flush
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

// took takes in a flush. Those done are the first of the list.
func (s *staleFlows) took(done []state.Flow, err error, now time.Time) {
	switch {
	case len(done) == 0:
		return
	case err != nil:
		s.due = now.Add(retryLast)
		return
	}
	for _, f := range done {
		s.known.drop(f)
	}
	s.list, s.givenUp, s.lost = s.list[len(done):], 0, false
	if len(s.list) == 0 {
		s.list = nil
	}
}

// flowTo is of the packets that a client sends to front and that real server k gets.
func flowTo(k state.RealServerKey, front netip.AddrPort) state.Flow {
	return state.Flow{Protocol: k.Server.Transport(), Service: front, Endpoint: k.At(front.Port())}
}

// spareFlows is for a real server that is desired again while its flows wait: they lead to an endpoint, and to flush
// them could end a connection.
func (c *Core) spareFlows(k state.RealServerKey) {
	if len(c.flows.list) == 0 || !leavesFlows(k.Server) {
		return
	}
	for _, front := range c.fronts(k.Server, nil) {
		c.flows.spare(flowTo(k, front))
	}
}

// staleFlows notes the flows that the delta left behind in conntrack: those to a removed real server, and those to a
// new virtual server from before its address was there, which would go on untranslated. TCP ends its connections to a
// real server by itself; but a first packet of TCP that was sent before its Service was there has an entry as well, and
// so all that are sent again.
func (c *Core) staleFlows(d state.Delta, r kernel.Results) {
	var left map[state.VirtualServerKey][]state.SetEntry
	for _, row := range d.RealServers.Remove {
		k := row.Key
		if _, failed := r.RealServers.Failed[k]; failed || !leavesFlows(k.Server) {
			continue
		}
		if left == nil {
			left = leadingTo(d.Entries.Remove)
		}
		for _, front := range c.fronts(k.Server, left[k.Server]) {
			c.flows.add(flowTo(k, front))
			c.flows.lost = true
		}
	}
	for _, row := range d.VirtualServers.Add {
		k := row.Key
		if _, failed := r.VirtualServers.Failed[k]; !failed && k.Address.Port() != 0 {
			c.flows.add(state.Flow{Protocol: k.Protocol, Service: k.Address, Endpoint: k.Address})
		}
	}
	for _, row := range d.VirtualServers.Remove {
		delete(c.drains.chosen, row.Key)
	}
}

func leavesFlows(k state.VirtualServerKey) bool {
	return k.Transport() == state.UDP || k.Transport() == state.SCTP
}

// fronts are the addresses that clients send to whose packets reach the virtual server k: those from which entries lead
// to it, or did until they left, or else its own.
func (c *Core) fronts(k state.VirtualServerKey, left []state.SetEntry) []netip.AddrPort {
	var list []netip.AddrPort
	for _, e := range append(c.desired.Leading(k), left...) {
		list = append(list, netip.AddrPortFrom(e.Address, e.Port))
	}
	if len(list) == 0 && k.Mark == 0 {
		list = []netip.AddrPort{k.Address}
	}
	return list
}

// leadingTo sorts entries that lead to virtual servers by these.
func leadingTo(rows []diff.Row[state.SetEntry, state.Entry]) map[state.VirtualServerKey][]state.SetEntry {
	by := map[state.VirtualServerKey][]state.SetEntry{}
	for _, r := range rows {
		if k, leads := r.Key.LeadsTo(r.Value); leads {
			by[k] = append(by[k], r.Key)
		}
	}
	return by
}
