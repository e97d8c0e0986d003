// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"errors"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/benchmark/observe"
	"github.com/kube-ipvs/kube-ipvs/e2e/floor"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

const set state.SetName = "KUBE-CLUSTER-IP"

func address(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 96, 0, last}) }

func server(last byte) state.VirtualServerKey {
	return state.VirtualServerKey{Protocol: state.TCP, Address: netip.AddrPortFrom(address(last), 80)}
}

func entry(last byte) state.SetEntry {
	return state.SetEntry{Set: set, Address: address(last), Protocol: state.TCP, Port: 80}
}

func endpoint() netip.AddrPort { return netip.MustParseAddrPort("10.128.0.1:8080") }

// fill puts three Services into the kernel, of which one takes no connections, with addresses or with routes.
func fill(t *testing.T, b state.Binding) {
	t.Helper()
	want := state.New()
	want.Sysctls[state.TCPTimeout] = "900"
	want.Sets[set] = state.Set{Type: state.HashIPPort, Family: state.IPv4, MaxElem: 1024}
	for last := byte(1); last <= 3; last++ {
		want.Entries[entry(last)] = state.Entry{Comment: "x"}
		want.VirtualServers[server(last)] = state.VirtualServer{Scheduler: "rr"}
		want.RealServers[state.RealServerKey{Server: server(last), Address: endpoint()}] = state.RealServer{Weight: uint32(last - 1)}
		want.Addresses[state.Address{Addr: address(last)}] = b
	}
	f, err := floor.Prepare(want)
	if err != nil {
		t.Fatal(err)
	}
	testkit.CloseAtEnd(t, f)
	if _, err := f.Send(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// is fails unless a look found what it should.
func is[T comparable](t *testing.T, what string, want T) func(T, error) {
	return func(got T, err error) {
		t.Helper()
		if got != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", what, got, err, want)
		}
	}
}

func TestALookSeesWhatIsInTheKernel(t *testing.T) {
	for name, c := range map[string]struct {
		binding state.Binding
		more    int // addresses beside those of the Services
	}{"addresses": {state.Binding{}, 0}, "addresses with an MTU": {state.Binding{MTU: 1400}, 0}, "routes": {state.Binding{Means: state.Routed}, 1}} {
		t.Run(name, func(t *testing.T) {
			testkit.Namespace(t)
			k, err := observe.Open()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(k.Close)
			before, err := k.Locals()
			if err != nil {
				t.Fatal(err)
			}
			is(t, "entries of no set", 0)(k.Entries(set))
			is(t, "an entry of no set", false)(k.Has(entry(1)))
			is(t, "no virtual server", false)(k.Served(server(1)))
			is(t, "no address", false)(k.Local(address(1)))
			fill(t, c.binding)
			is(t, "addresses", before+3+c.more)(k.Locals())
			is(t, "entries", 3)(k.Entries(set))
			for last := byte(1); last <= 4; last++ {
				there := last < 4
				is(t, "an entry", there)(k.Has(entry(last)))
				is(t, "a virtual server", there)(k.Served(server(last)))
				is(t, "an address", there)(k.Local(address(last)))
				weights, err := k.Weights(server(last))
				if w, ok := weights[endpoint()]; err != nil || ok != there || ok && w != int(last-1) {
					t.Errorf("weights of %v: %v, %v", server(last), weights, err)
				}
			}
		})
	}
}

func TestProgramsThatEndAreCountedOrTheKernelIsSilent(t *testing.T) {
	p, err := observe.WatchPrograms()
	if errors.Is(err, observe.ErrSilent) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	before := p.Seen()
	for range 5 {
		if err := exec.Command("true").Run(); err != nil {
			t.Fatal(err)
		}
	}
	const patience = 10 * time.Second
	for begin := time.Now(); p.Since(before)["true"].Times < 5; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("of five programs were counted %v", p.Since(before))
		}
	}
}

func TestTheKernelIsSilentInAnotherNamespace(t *testing.T) {
	testkit.Namespace(t)
	if p, err := observe.WatchPrograms(); !errors.Is(err, observe.ErrSilent) {
		t.Errorf("watching in another network namespace: %v, %v", p, err)
	}
}

func TestNoticesAreCounted(t *testing.T) {
	testkit.Namespace(t)
	for _, c := range []struct {
		happens     func()
		least, most int
	}{
		{func() { fill(t, state.Binding{}) }, 7, 1000}, // a link, and an address and its route for each Service
		{func() {}, 0, 0},
	} {
		n, err := observe.WatchNotices()
		if err != nil {
			t.Fatal(err)
		}
		c.happens()
		if count, err := n.Close(); count < c.least || count > c.most || err != nil {
			t.Errorf("%d notices, %v; want %d to %d", count, err, c.least, c.most)
		}
	}
}
