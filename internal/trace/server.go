// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// schedule reports whether IPVS takes the packet, and follows it then.
func (w *walk) schedule() bool {
	k, found := w.find()
	if !found {
		return false
	}
	w.verdict.Server = k
	var takes []state.RealServerKey
	for r, row := range w.state.RealServers {
		switch {
		case r.Server != k:
		case row.Weight == 0:
			w.verdict.Resting++
		default:
			takes = append(takes, r)
		}
	}
	slices.SortFunc(takes, state.RealServerKey.Compare)
	w.step("IPVS", "%s", w.describe(k, len(takes)))
	if len(takes) == 0 {
		w.end(Refused, "IPVS")
		return true
	}
	w.serve(takes)
	return true
}

// find searches as the kernel does: by mark, by address and port, by address alone.
func (w *walk) find() (state.VirtualServerKey, bool) {
	p := w.packet
	if p.Protocol != state.TCP && p.Protocol != state.UDP && p.Protocol != state.SCTP {
		return state.VirtualServerKey{}, false
	}
	candidates := []state.VirtualServerKey{
		{Address: p.Destination, Protocol: p.Protocol},
		{Address: netip.AddrPortFrom(p.Destination.Addr(), 0), Protocol: p.Protocol},
	}
	if p.mark != 0 {
		candidates = slices.Insert(candidates, 0, state.MarkKey(w.family, p.mark))
	}
	for _, k := range candidates {
		if _, ok := w.state.VirtualServers[k]; ok {
			return k, true
		}
	}
	return state.VirtualServerKey{}, false
}

func (w *walk) describe(k state.VirtualServerKey, takes int) string {
	row := w.state.VirtualServers[k]
	text := fmt.Sprintf("virtual server %v (%s", k, row.Scheduler)
	if row.Flags&state.Persistent != 0 {
		text += fmt.Sprintf(", a client keeps its real server for %d s", row.Timeout)
	}
	text += fmt.Sprintf(") with %s", count(takes+w.verdict.Resting, "real server"))
	if w.verdict.Resting > 0 {
		text += fmt.Sprintf(", %d of weight 0", w.verdict.Resting)
	}
	if takes == 0 {
		return text + " -> refused (port unreachable): none takes a new connection"
	}
	return text
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// serve follows the packet to each of the real servers. Its fate is served, if it reaches any.
func (w *walk) serve(servers []state.RealServerKey) {
	var paths []*walk
	for _, r := range servers {
		one := *w
		one.verdict = Verdict{Doubts: slices.Clone(w.verdict.Doubts)}
		one.reach(r)
		row := w.state.RealServers[r]
		w.verdict.Endpoints = append(w.verdict.Endpoints, Endpoint{
			Address:     r.At(w.packet.Destination.Port()),
			Weight:      row.Weight,
			Method:      row.Method,
			Masqueraded: one.packet.masqueraded,
			Fate:        one.verdict.Fate,
		})
		paths = append(paths, &one)
		for _, d := range one.verdict.Doubts {
			w.doubt("%s", d)
		}
	}
	w.verdict.Steps = append(w.verdict.Steps, together(paths, servers)...)
	w.packet.masqueraded = !slices.ContainsFunc(paths, func(o *walk) bool { return !o.packet.masqueraded })
	best := max(0, slices.IndexFunc(paths, func(o *walk) bool { return o.verdict.Fate == Served }))
	w.end(paths[best].verdict.Fate, paths[best].verdict.By)
}

// reach is the path from IPVS to one real server. A forwarded packet passes OUTPUT, once more if the node itself sent
// it. A packet for a process on the node stays in its hook.
func (w *walk) reach(r state.RealServerKey) {
	p := &w.packet
	p.virtual = p.Destination
	if w.state.RealServers[r].Method == state.Masquerade {
		p.Destination = r.At(p.virtual.Port())
	}
	if w.state.Sysctls["net/ipv4/vs/conntrack"] == "0" {
		p.untracked = true
		w.step("IPVS", "net.ipv4.vs.conntrack is 0 -> conntrack forgets the packet")
	}
	why, local := w.local(p.Destination.Addr())
	passed := true
	switch {
	case local && !w.where.Node:
		w.step("routing", "%s -> the endpoint is a process on it", why)
	case local:
		passed = w.through("OUTPUT", after(ipvsOutput)) && w.through("POSTROUTING", whole())
	default:
		p.in, p.inUnknown = "", false
		passed = w.through("OUTPUT", whole().withoutNAT()) && w.through("POSTROUTING", whole())
	}
	if passed && !w.answer(local) {
		w.verdict.Fate, w.verdict.By = Served, "IPVS"
	}
}

// together returns the steps of the paths to all real servers: first those that all share, then the rest once for each
// group that shares them.
func together(paths []*walk, servers []state.RealServerKey) []Step {
	all := shared(paths)
	steps := slices.Clone(paths[0].verdict.Steps[:all])
	var groups [][]Step
	for i, path := range paths {
		rest := slices.Clone(path.verdict.Steps[all:])
		g := slices.IndexFunc(groups, func(g []Step) bool { return slices.EqualFunc(g, rest, sameStep) })
		if g < 0 {
			g = len(groups)
			groups = append(groups, rest)
		}
		for s := range groups[g] {
			groups[g][s].Only = append(groups[g][s].Only, servers[i].Address)
		}
	}
	return append(steps, slices.Concat(groups...)...)
}

// shared counts the steps with which all paths begin.
func shared(paths []*walk) int {
	first := paths[0].verdict.Steps
	n := len(first)
	for _, path := range paths[1:] {
		n = min(n, len(path.verdict.Steps))
		for i := range n {
			if !sameStep(first[i], path.verdict.Steps[i]) {
				n = i
				break
			}
		}
	}
	return n
}

func sameStep(a, b Step) bool { return a.At == b.At && a.Text == b.Text }

// named returns the Service whose entry for the address and port is in a set.
func (w *walk) named(at netip.AddrPort) string {
	for _, name := range slices.Sorted(maps.Keys(w.state.Sets)) {
		if t := w.state.Sets[name].Type; t == state.BitmapPort || !namesServices(t) {
			continue
		}
		e := state.SetEntry{Set: name, Address: at.Addr(), Protocol: w.packet.Protocol, Port: at.Port()}
		if c := w.state.Entries[e].Comment; c != "" {
			return c
		}
	}
	return ""
}
