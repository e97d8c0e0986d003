// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Flows returns all that kube-proxy's rules of iptables mode can have sent on, over protocols without an end
// of connections: a client that keeps its port keeps its endpoint. local are the node's own addresses, at
// which NodePorts are.
func (KubeProxy) Flows(chains map[state.ChainKey]state.Chain, local []netip.Addr) []state.Flow {
	var flows []state.Flow
	for _, f := range Serving(chains) {
		w := way{family: f, chains: chains, local: local, below: map[string][]netip.AddrPort{}}
		w.follow(state.ChainServices)
		w.follow(state.ChainNodePorts)
		flows = append(flows, w.flows...)
	}
	return flows
}

// way is what leads from Service addresses to endpoints.
type way struct {
	family state.Family
	chains map[state.ChainKey]state.Chain
	local  []netip.Addr
	below  map[string][]netip.AddrPort // the endpoints behind a chain
	flows  []state.Flow
}

func (w *way) rules(chain string) []string {
	return w.chains[state.ChainKey{Family: w.family, Table: state.NAT, Name: chain}].Lines()
}

// follow adds the flows from a chain that all Services share.
func (w *way) follow(chain string) {
	for _, rule := range w.rules(chain) {
		protocol, err := state.ParseProtocol(option(rule, "-p"))
		if err != nil || protocol == state.TCP || !perService(target(rule)) {
			continue
		}
		port, err := strconv.ParseUint(option(rule, "--dport"), 10, 16)
		if err != nil {
			continue
		}
		for _, front := range w.fronts(rule, uint16(port)) {
			for _, to := range w.endpoints(target(rule)) {
				w.flows = append(w.flows, state.Flow{Protocol: protocol, Service: front, Endpoint: to})
			}
		}
	}
}

// fronts returns the addresses at which clients meet a rule.
func (w *way) fronts(rule string, port uint16) []netip.AddrPort {
	at := w.local
	if p, err := netip.ParsePrefix(option(rule, "-d")); err == nil {
		at = []netip.Addr{p.Addr()}
	}
	var list []netip.AddrPort
	for _, a := range at {
		if state.FamilyOf(a) == w.family {
			list = append(list, netip.AddrPortFrom(a, port))
		}
	}
	return list
}

// endpoints returns those behind a chain.
func (w *way) endpoints(chain string) []netip.AddrPort {
	if list, known := w.below[chain]; known {
		return list
	}
	w.below[chain] = nil // ends circles
	var list []netip.AddrPort
	for _, rule := range w.rules(chain) {
		if to, err := netip.ParseAddrPort(option(rule, "--to-destination")); err == nil {
			list = append(list, to)
		} else if next := target(rule); perService(next) {
			list = append(list, w.endpoints(next)...)
		}
	}
	slices.SortFunc(list, netip.AddrPort.Compare)
	list = slices.Compact(list)
	w.below[chain] = list
	return list
}

// option returns the word after an option of a rule.
func option(rule, name string) string {
	words := strings.Fields(rule)
	for i, word := range words[:max(0, len(words)-1)] {
		if word == name && (i == 0 || words[i-1] != "!") {
			return words[i+1]
		}
	}
	return ""
}
