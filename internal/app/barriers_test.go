// SPDX-License-Identifier: Apache-2.0

package app

import (
	"net/netip"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

func TestWhatStopsServicesIsToldOnceAndSoIsItsEnd(t *testing.T) {
	seen, logs := observer.New(zapcore.InfoLevel)
	w := &auditReader{log: zap.New(seen)}
	stops := []trace.Barrier{{By: "nftables inet firewalld filter_INPUT 3", Rule: "-j REJECT", Sure: true}}
	for _, found := range [][]trace.Barrier{nil, stops, stops, nil, nil} {
		w.report(found)
	}
	if n := logs.FilterMessage("a rule of another program stops packets to Services").Len(); n != 1 {
		t.Errorf("logged %d times, want once", n)
	}
	if n := logs.FilterMessage("a rule of another program no longer stops packets to Services").Len(); n != 1 {
		t.Errorf("its end was logged %d times, want once", n)
	}
}

func TestOneServiceOfEachKindIsTried(t *testing.T) {
	s := state.New()
	add := func(set state.SetName, at string, entry state.SetEntry) {
		k := state.VirtualServerKey{Address: netip.MustParseAddrPort(at), Protocol: state.TCP}
		entry.Set = set
		s.VirtualServers[k], s.Entries[entry] = state.VirtualServer{}, state.Entry{}
		s.RealServers[state.RealServerKey{Server: k, Address: netip.MustParseAddrPort("10.244.1.5:8080")}] = state.RealServer{Weight: 1}
	}
	for _, last := range []byte{1, 2} {
		a := netip.AddrFrom4([4]byte{10, 96, 0, last})
		add("KUBE-CLUSTER-IP", netip.AddrPortFrom(a, 80).String(), state.SetEntry{Address: a, Protocol: state.TCP, Port: 80})
	}
	add("KUBE-NODE-PORT-TCP", "192.0.2.1:30080", state.SetEntry{Port: 30080})
	got := probes(s, state.PackReals(s.RealServers))
	if len(got) != 2 || got[0].String() != "10.244.1.5 -> 10.96.0.1:80/TCP" || got[1].String() != "203.0.113.254 -> 192.0.2.1:30080/TCP" {
		t.Errorf("tried %v, want a cluster IP from a pod, and a NodePort from outside", got)
	}
}
