// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/takeover"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

// Barriers are the rules and policies of others in the network namespace of the
// calling thread that stop packets to Services.
func Barriers(ctx context.Context) (found []trace.Barrier, err error) {
	err = withKernel(ctx, func(k *linux.Kernel) error {
		s, addresses, err := readNode(ctx, k)
		if err != nil {
			return err
		}
		rules, err := k.Ruleset(ctx)
		if err == nil {
			found = barriers(s, addresses, rules)
		}
		return err
	})
	return found, err
}

func barriers(s state.State, addresses []netip.Addr, rules state.Ruleset) []trace.Barrier {
	ours := func(chain string) bool { return plan.OurChain(chain) || takeover.OnlyIts(chain) }
	return trace.Barriers(s, probes(s), trace.Where{Addresses: addresses, Rules: rules}, ours)
}

// probes are packets to some Services: to one of each family and kind, which the set
// tells that has it. Who asks at a cluster IP is a pod, and elsewhere somebody
// outside, who has an address of those that are for examples.
func probes(s state.State) []trace.Packet {
	endpoints := answering(s.RealServers)
	first := map[state.SetName]state.VirtualServerKey{}
	for k := range endpoints {
		set := kind(s, k)
		if least, known := first[set]; set != "" && (!known || k.Compare(least) < 0) {
			first[set] = k
		}
	}
	var list []trace.Packet
	for _, set := range slices.Sorted(maps.Keys(first)) {
		k := first[set]
		client := endpoints[k]
		if set != plan.ServerEntries(k)[0].Set { // no cluster IP
			client = outside(k.Family())
		}
		list = append(list, trace.Packet{Protocol: k.Protocol, Source: netip.AddrPortFrom(client, 0), Destination: k.Address})
	}
	return list
}

// answering are the virtual servers that have endpoints for new connections, with the
// address of the first one.
func answering(all map[state.RealServerKey]state.RealServer) map[state.VirtualServerKey]netip.Addr {
	endpoints := map[state.VirtualServerKey]netip.Addr{}
	for r, row := range all {
		a := r.Address.Addr()
		if least, known := endpoints[r.Server]; row.Weight > 0 && (!known || a.Less(least)) {
			endpoints[r.Server] = a
		}
	}
	return endpoints
}

// kind is the first set that says that virtual server k is ours, and "" if none does.
func kind(s state.State, k state.VirtualServerKey) state.SetName {
	for _, e := range plan.ServerEntries(k) {
		if _, there := s.Entries[e]; there {
			return e.Set
		}
	}
	return ""
}

func outside(f state.Family) netip.Addr {
	if f == state.IPv6 {
		return netip.MustParseAddr("2001:db8:ffff::1")
	}
	return netip.AddrFrom4([4]byte{203, 0, 113, 254})
}
