// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/events"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

// Barriers returns the rules and policies of other programs that stop packets to Services, in the network namespace of
// the calling thread.
func Barriers(ctx context.Context) ([]trace.Barrier, error) {
	return readKernel(ctx, func(ctx context.Context, k *linux.Kernel) ([]trace.Barrier, error) {
		n, err := readNode(ctx, k)
		if err != nil {
			return nil, err
		}
		rules, err := k.Ruleset(ctx)
		if err != nil {
			return nil, err
		}
		return barriers(n.state, n.addresses, rules), nil
	})
}

func barriers(s state.State, addresses []netip.Addr, rules state.Ruleset) []trace.Barrier {
	return trace.Barriers(s, probes(s), trace.Where{Addresses: addresses, Rules: rules}, ourChain)
}

// probes returns a packet to one Service of each family and kind, as its set names it. A cluster IP is asked by a pod,
// everything else by a client outside, with an address reserved for examples.
func probes(s state.State) []trace.Packet {
	endpoints := firstEndpoints(s.RealServers)
	first := map[state.SetName]state.VirtualServerKey{}
	for k := range endpoints {
		set := setOf(s, k)
		if least, known := first[set]; set != "" && (!known || k.Compare(least) < 0) {
			first[set] = k
		}
	}
	var packets []trace.Packet
	for _, set := range slices.Sorted(maps.Keys(first)) {
		k := first[set]
		client := endpoints[k]
		if set.Bare() != state.SetClusterIP.For(k.Family()) {
			client = clientOutside(k.Family())
		}
		packets = append(packets, trace.Packet{Protocol: k.Protocol, Source: netip.AddrPortFrom(client, 0), Destination: k.Address})
	}
	return packets
}

// firstEndpoints returns the least endpoint of each virtual server that takes new connections.
func firstEndpoints(all map[state.RealServerKey]state.RealServer) map[state.VirtualServerKey]netip.Addr {
	endpoints := map[state.VirtualServerKey]netip.Addr{}
	for r, row := range all {
		a := r.Address.Addr()
		if least, known := endpoints[r.Server]; row.Weight > 0 && (!known || a.Less(least)) {
			endpoints[r.Server] = a
		}
	}
	return endpoints
}

// setOf returns the first set that proves virtual server k ours; empty if none does.
func setOf(s state.State, k state.VirtualServerKey) state.SetName {
	for _, e := range plan.ServerEntries(k) {
		if _, there := s.Entries[e]; there {
			return e.Set
		}
	}
	return ""
}

func clientOutside(f state.Family) netip.Addr {
	if f == state.IPv6 {
		return netip.MustParseAddr("2001:db8:ffff::1")
	}
	return netip.AddrFrom4([4]byte{203, 0, 113, 254})
}

// auditReader reads all tables for audits. It also reports which rules of other programs stop packets to Services.
type auditReader struct {
	reader   *linux.Reader
	log      *zap.Logger
	events   *events.Recorder
	reported []string
}

// List reads all tables.
func (a *auditReader) List(ctx context.Context) (state.State, error) {
	s, around, err := a.reader.ListAll(ctx)
	if err == nil && around.Err == nil {
		a.report(barriers(s, around.Addresses, around.Rules))
	}
	if around.Err != nil {
		a.log.Warn("could not read the rules of other programs; they may stop packets to Services", zap.Error(around.Err))
	}
	return s, err
}

// report reports barriers that are new, and those that are gone.
func (a *auditReader) report(found []trace.Barrier) {
	var now []string
	for _, b := range found {
		now = append(now, b.By)
		if !slices.Contains(a.reported, b.By) {
			a.log.Warn("a rule of another program stops packets to Services", zap.String("by", b.By), zap.String("rule", b.Rule), zap.Stringer("what", b))
			a.events.Node(corev1.EventTypeWarning, "ServicesStopped", b.String())
		}
	}
	for _, by := range a.reported {
		if !slices.Contains(now, by) {
			a.log.Info("a rule of another program no longer stops packets to Services", zap.String("by", by))
		}
	}
	a.reported = now
}
