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
		return barriers(n.state, state.PackReals(n.state.RealServers), n.addresses, rules), nil
	})
}

// barriers needs no real servers in s: those that count are taken from reals.
func barriers(s state.State, reals state.Packed, addresses []netip.Addr, rules state.Ruleset) []trace.Barrier {
	packets := probes(s, reals)
	s.RealServers = map[state.RealServerKey]state.RealServer{}
	for _, p := range packets {
		k := state.VirtualServerKey{Address: p.Destination, Protocol: p.Protocol}
		for _, r := range reals[k] {
			s.RealServers[r.Key(k)] = r.Value()
		}
	}
	return trace.Barriers(s, packets, trace.Where{Addresses: addresses, Rules: rules}, ourChain)
}

// probes returns a packet to one Service of each family and kind, as its set names it. A cluster IP is asked by a pod,
// everything else by a client outside, with an address reserved for examples.
func probes(s state.State, reals state.Packed) []trace.Packet {
	first := map[state.SetName]state.VirtualServerKey{}
	for k, rs := range reals {
		if !slices.ContainsFunc(rs, takesNew) {
			continue
		}
		set := setOf(s, k)
		if least, known := first[set]; set != "" && (!known || k.Compare(least) < 0) {
			first[set] = k
		}
	}
	var packets []trace.Packet
	for _, set := range slices.Sorted(maps.Keys(first)) {
		k := first[set]
		client := clientOutside(k.Family())
		if set.Bare() == state.SetClusterIP.For(k.Family()) {
			client = reals[k][slices.IndexFunc(reals[k], takesNew)].Address().Addr()
		}
		packets = append(packets, trace.Packet{Protocol: k.Protocol, Source: netip.AddrPortFrom(client, 0), Destination: k.Address})
	}
	return packets
}

// takesNew reports whether a real server takes new connections.
func takesNew(r state.Real) bool { return r.Weight() > 0 }

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

// Observe reads all tables.
func (a *auditReader) Observe(ctx context.Context) (state.State, state.Packed, error) {
	s, reals, around, err := a.reader.ObserveAround(ctx)
	if err == nil && around.Err == nil {
		a.report(barriers(s, reals, around.Addresses, around.Rules))
	}
	if around.Err != nil {
		a.log.Warn("could not read the rules of other programs; they may stop packets to Services", zap.Error(around.Err))
	}
	return s, reals, err
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
