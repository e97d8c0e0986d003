// SPDX-License-Identifier: Apache-2.0

package linux_test

import (
	"context"
	"net/netip"
	"sync"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func reader(t *testing.T, k *linux.Kernel) *linux.Reader {
	t.Helper()
	r, err := k.Reader()
	if err != nil {
		t.Fatal(err)
	}
	testkit.CloseAtEnd(t, r)
	return r
}

// elsewhere lists on another thread, which is in the process's own namespace.
func elsewhere(t *testing.T, r *linux.Reader) (s state.State) {
	t.Helper()
	var err error
	var over sync.WaitGroup
	var reals state.Packed
	over.Go(func() { s, reals, err = r.Observe(context.Background()) })
	over.Wait()
	s.RealServers = testkit.Unpacked(reals)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAReaderListsWhatTheKernelListsFromAnyThread(t *testing.T) {
	k := open(t, "net/ipv4/vs/conntrack", "net/ipv4/ip_forward")
	testkit.Tool(t, "iptables", "-N", "KUBE-SERVICES")
	testkit.Tool(t, "iptables", "-A", "FORWARD", "-j", "KUBE-SERVICES")
	testkit.Tool(t, "sysctl", "-w", "net.ipv4.vs.conntrack=1")
	written(t, k.Tables(), someServices(0, 5))
	want, err := k.Tables().List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(want.Chains) != 1 || want.Sysctls["net/ipv4/vs/conntrack"] != "1" {
		t.Fatalf("the kernel lists %d chains, and settings %v", len(want.Chains), want.Sysctls)
	}
	if d := state.Diff(elsewhere(t, reader(t, k)), want); d.Len() != 0 {
		t.Errorf("a reader lacks %+v", d)
	}
}

// someServices returns the rows of n Services, numbered from from, with ten endpoints each.
func someServices(from, n int) state.State {
	s := state.New()
	s.Sets["KUBE-CLUSTER-IP"] = state.Set{Type: state.HashIPPort, Family: state.IPv4, MaxElem: 1 << 16, Comment: true}
	s.Links[state.DummyLink] = state.Link{Kind: "dummy"}
	for i := from; i < from+n; i++ {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), 80)
		k := state.VirtualServerKey{Address: at, Protocol: state.TCP}
		s.Entries[state.SetEntry{Set: "KUBE-CLUSTER-IP", Address: at.Addr(), Protocol: state.TCP, Port: 80}] = state.Entry{Comment: "ns/name"}
		s.VirtualServers[k] = state.VirtualServer{Scheduler: "rr", Prefix: 32}
		s.Addresses[state.Address{Addr: at.Addr()}] = state.Binding{}
		for e := range 10 {
			r := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), byte(e)}), 8080)
			s.RealServers[state.RealServerKey{Server: k, Address: r}] = state.RealServer{Weight: 1}
		}
	}
	return s
}

func written(t *testing.T, tables kernel.Tables, s state.State) {
	t.Helper()
	wroteAll(t, tables.Apply(context.Background(), state.Diff(state.New(), s)))
}

func wroteAll(t *testing.T, r kernel.Results) {
	t.Helper()
	if failures, all := r.Failures(3); all > 0 {
		t.Errorf("%d rows failed: %v", all, failures)
	}
}

// Audits that go on beside changes rely on this: endpoints and set entries that come and go hide no others.
func TestAListBesideAWriterHasTheUntouchedRows(t *testing.T) {
	const lists, least = 20, 20
	k := open(t)
	stable := someServices(0, 1000)
	written(t, k.Tables(), stable)
	r := reader(t, k)

	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(stop)
		for range lists {
			s, reals, err := r.Observe(context.Background())
			s.RealServers = testkit.Unpacked(reals)
			if err != nil {
				stopped <- err
				return
			}
			if d := state.Diff(s, stable); len(d.VirtualServers.Add)+len(d.RealServers.Add)+len(d.Entries.Add)+len(d.Addresses.Add) > 0 {
				t.Errorf("a list lacks %d virtual servers, %d real servers, %d entries, %d addresses",
					len(d.VirtualServers.Add), len(d.RealServers.Add), len(d.Entries.Add), len(d.Addresses.Add))
			}
		}
		stopped <- nil
	}()
	changes := 0
	for done := false; !done; changes++ {
		beingAdded := passing(changes, stable)
		wroteAll(t, k.Tables().Apply(context.Background(), beingAdded))
		wroteAll(t, k.Tables().Apply(context.Background(), state.Delta{
			Entries:     diff.Delta[state.SetEntry, state.Entry]{Remove: beingAdded.Entries.Add},
			RealServers: diff.Delta[state.RealServerKey, state.RealServer]{Remove: beingAdded.RealServers.Add},
		}))
		select {
		case <-stop:
			done = true
		default:
		}
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if changes < least {
		t.Errorf("only %d changes were made during %d lists", changes, lists)
	}
}

// passing returns an endpoint of each Service and as many set entries, which were not there before.
func passing(change int, stable state.State) (d state.Delta) {
	for k := range stable.VirtualServers {
		e := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 245, byte(change >> 8), byte(change)}), 8080)
		d.RealServers.Add = append(d.RealServers.Add, diff.Row[state.RealServerKey, state.RealServer]{
			Key: state.RealServerKey{Server: k, Address: e}, Value: state.RealServer{Weight: 1},
		})
		d.Entries.Add = append(d.Entries.Add, diff.Row[state.SetEntry, state.Entry]{
			Key: state.SetEntry{Set: "KUBE-CLUSTER-IP", Address: k.Address.Addr(), Protocol: state.UDP, Port: uint16(1 + change%60_000)},
		})
	}
	return d
}
