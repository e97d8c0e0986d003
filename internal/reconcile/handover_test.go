// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit/mem"
)

// old is a predecessor whose chains are called OLD, and whose rules go there.
type old struct{}

func (old) Left(k state.ChainKey) bool { return k.Name == "OLD" }

func (old) Interim(have, _ state.Chain) (state.Chain, bool) {
	return have, strings.Contains(have.Rules, "-j OLD")
}

func (old) Flows(chains map[state.ChainKey]state.Chain, _ []netip.Addr) []state.Flow {
	if _, there := chains[oldNAT]; !there {
		return nil
	}
	k := server(0, state.UDP)
	return []state.Flow{
		{Protocol: state.UDP, Service: k.Address, Endpoint: endpoint(k, 0).Address},
		{Protocol: state.UDP, Service: k.Address, Endpoint: endpoint(k, 99).Address},
	}
}

var (
	oldNAT    = state.ChainKey{Family: state.IPv4, Table: state.NAT, Name: "OLD"}
	oldFilter = state.ChainKey{Family: state.IPv4, Table: state.Filter, Name: "OLD"}
	oldJump   = state.JumpKey{Family: state.IPv4, Table: state.Filter, From: "INPUT", To: "OLD"}
	serving   = state.ChainOf("-j OLD")
)

// afterOld is a kernel that the predecessor left, and three Services.
func afterOld(wrap func(kernelTables) kernelTables) *bench {
	b := newBench(wrap)
	o := testOptions()
	o.Predecessor = old{}
	b.core = NewCore(o)
	b.step(Upsert{Fragment: base()})
	for n := range 3 {
		b.step(Upsert{Owner: owner(n), Fragment: service(server(n, state.UDP), 0, 2)})
	}
	s := b.kernel.State
	s.Chains[oldNAT] = state.ChainOf("-p udp -j DNAT")
	s.Chains[oldFilter] = state.ChainOf("-j REJECT")
	s.Jumps[oldJump] = state.Jump{Rule: "-j OLD"}
	s.Chains[natServices] = serving
	s.Jumps[state.JumpKey{Family: state.IPv4, Table: state.NAT, From: "PREROUTING", To: natServices.Name}] = state.Jump{Rule: "-j KUBE-SERVICES"}
	return b
}

// has says what of the two proxies is in the kernel.
func (b *bench) has() (addresses int, refusing, serves bool) {
	_, refusing = b.kernel.State.Chains[oldFilter]
	return len(b.kernel.State.Addresses), refusing, b.kernel.State.Chains[natServices] == serving
}

// follow works until nothing is due, and looks into the kernel after each change.
func (b *bench) follow(t *testing.T, each func()) {
	t.Helper()
	for range 100 {
		w := b.core.Ready(b.now)
		if w.Empty() {
			return
		}
		var o Outcome
		if w.Audit {
			o.Observed, o.ObserveErr = b.tables.List(context.Background())
		} else {
			o.Results = b.tables.Apply(context.Background(), w.Delta)
			b.flows = append(b.flows, w.Flows...)
		}
		b.core.Advance(w, o, b.now)
		each()
	}
	t.Fatal("the core does not come to rest")
}

func TestAPredecessorServesUntilAllIsThereAndItsRefusalsGoBefore(t *testing.T) {
	b := afterOld(nil)
	b.step(Synced{})
	var seen []string
	b.follow(t, func() {
		addresses, refusing, serves := b.has()
		now := "all of it"
		switch {
		case addresses < 3 && serves && refusing:
			now = "serves"
		case serves && refusing:
			now = "serves beside us"
		case serves:
			now = "serves and refuses no more"
		}
		if !slices.Contains(seen, now) {
			seen = append(seen, now)
		}
	})
	if want := []string{"serves", "serves beside us", "serves and refuses no more", "all of it"}; !slices.Equal(seen, want) {
		t.Errorf("seen %v, want %v", seen, want)
	}
	b.mustEqualDesired(t, "after the take-over")
	gone := state.Flow{Protocol: state.UDP, Service: server(0, state.UDP).Address, Endpoint: endpoint(server(0, state.UDP), 99).Address}
	if !slices.Contains(b.flows, gone) {
		t.Errorf("flows %v were flushed, and not %v", b.flows, gone)
	}
	if kept := (state.Flow{Protocol: state.UDP, Service: gone.Service, Endpoint: endpoint(server(0, state.UDP), 0).Address}); slices.Contains(b.flows, kept) {
		t.Errorf("flows to an endpoint that is one were flushed")
	}
}

func TestAPredecessorServesUntilAllIsKnown(t *testing.T) {
	b := afterOld(nil)
	b.step(Restored{})
	b.pass(t, 5*time.Minute)
	if addresses, refusing, serves := b.has(); addresses != 3 || !refusing || !serves {
		t.Errorf("%d addresses; refuses %v, serves %v", addresses, refusing, serves)
	}
	b.step(Synced{})
	b.settle(t)
	b.mustEqualDesired(t, "when all is known")
}

// stubborn are addresses of which one is refused for a while.
type stubborn struct {
	kernel.Store[state.Address, state.Binding]
	refuses *bool
}

func (s stubborn) Apply(ctx context.Context, d diff.Delta[state.Address, state.Binding]) kernel.Result[state.Address] {
	var r kernel.Result[state.Address]
	refused := func(row diff.Row[state.Address, state.Binding]) bool {
		if bad := *s.refuses && row.Key.Addr == server(1, state.UDP).Address.Addr(); bad {
			r.Fail(row.Key, errors.New("refused"))
			return true
		}
		return false
	}
	d.Add = slices.DeleteFunc(slices.Clone(d.Add), refused)
	r.Merge(s.Store.Apply(ctx, d))
	return r
}

func TestARowThatIsRefusedForLongDoesNotKeepAPredecessorForEver(t *testing.T) {
	refuses := true
	b := afterOld(func(k kernelTables) kernelTables {
		k.Addresses = stubborn{k.Addresses, &refuses}
		return k
	})
	b.step(Synced{})
	b.settle(t)
	b.pass(t, 2*time.Second)
	if _, _, serves := b.has(); !serves {
		t.Error("the predecessor's rules are gone at once")
	}
	b.pass(t, 5*time.Second)
	if _, _, serves := b.has(); serves {
		t.Error("the predecessor's rules are still there")
	}
	refuses = false
	b.pass(t, time.Minute)
	b.mustEqualDesired(t, "in the end")
}

func task(k *mem.Kernel, done func(state.Delta, kernel.Results)) Task {
	o := testOptions()
	o.DrainTimeout = 0
	return Task{Options: o, Kernel: Kernel{Tables: k.Tables(), Flusher: noConnections{}, Connections: noConnections{}}, Done: done}
}

// noConnections has neither flows nor connections.
type noConnections struct{}

func (noConnections) Flush(context.Context, []state.Flow) (int, error) { return 0, nil }

func (noConnections) Connections(context.Context, []state.VirtualServerKey) (map[state.RealServerKey]state.Connections, error) {
	return nil, nil
}

func TestATaskThatLeavesWhatDrainsLooksAtAllOfItFirst(t *testing.T) {
	b := syncedBench(t, 3*lookServers)
	busy := endpoint(server(1, state.TCP), 0)
	b.kernel.Connections[busy] = state.Connections{Active: 1}
	leaves := task(b.kernel, nil)
	leaves.Options.DrainTimeout, leaves.Leave = time.Hour, true
	leaves.Kernel.Connections = mem.Observer{Kernel: b.kernel}
	if err := leaves.Run(t.Context(), Synced{}); err != nil {
		t.Fatal(err)
	}
	if _, there := b.kernel.State.RealServers[busy]; !there || len(b.kernel.State.RealServers) != 1 {
		t.Errorf("left are %v, want the one with a connection", b.kernel.State.RealServers)
	}
}

func TestATaskThatWishesNothingRemovesWhatIsOursAndNothingElse(t *testing.T) {
	b := syncedBench(t, 3)
	other := state.VirtualServerKey{Address: netip.MustParseAddrPort("192.0.2.1:25"), Protocol: state.TCP}
	b.kernel.State.VirtualServers[other] = state.VirtualServer{Scheduler: "rr", Prefix: 32}
	stranger := state.Address{Addr: netip.MustParseAddr("192.0.2.77")}
	b.kernel.State.Addresses[stranger] = state.Binding{}
	removed := 0
	if err := task(b.kernel, func(d state.Delta, _ kernel.Results) { removed += d.Len() }).Run(t.Context(), Synced{}); err != nil {
		t.Fatal(err)
	}
	s := b.kernel.State
	if _, there := s.VirtualServers[other]; !there || len(s.VirtualServers) != 1 || len(s.Addresses) != 1 || len(s.Links) != 1 {
		t.Errorf("virtual servers %v, addresses %v, links %v are left", s.VirtualServers, s.Addresses, s.Links)
	}
	if n := len(s.Sets) + len(s.Entries) + len(s.Chains) + len(s.Jumps) + len(s.RealServers); n > 0 || removed == 0 {
		t.Errorf("%d rows of ours are left, %d were removed", n, removed)
	}
	delete(s.Addresses, stranger)
	if err := task(b.kernel, nil).Run(t.Context(), Synced{}); err != nil || len(s.Links) > 0 {
		t.Errorf("the device without foreign addresses: %v, %v", s.Links, err)
	}
}

// What the sets prove must be gone before they are: without them noConnections knows whose it is.
func TestSetsAreRemovedAfterWhatTheyProve(t *testing.T) {
	b := syncedBench(t, 3)
	k := task(b.kernel, nil)
	refuses := true
	k.Kernel.Tables.VirtualServers = unyielding{k.Kernel.Tables.VirtualServers, &refuses}
	err := k.Run(t.Context(), Synced{})
	if err == nil || !strings.Contains(err.Error(), "stays") {
		t.Errorf("the error is %v", err)
	}
	if n := len(b.kernel.State.Sets); n != len(base().Sets) {
		t.Errorf("%d sets, want all", n)
	}
	refuses = false
	if err := k.Run(t.Context(), Synced{}); err != nil {
		t.Error(err)
	}
	if n := len(b.kernel.State.Sets) + len(b.kernel.State.VirtualServers); n > 0 {
		t.Errorf("%d rows are left", n)
	}
}

// unyielding are virtual servers that can't be removed.
type unyielding struct {
	kernel.Store[state.VirtualServerKey, state.VirtualServer]
	refuses *bool
}

func (s unyielding) Apply(ctx context.Context, d diff.Delta[state.VirtualServerKey, state.VirtualServer]) kernel.Result[state.VirtualServerKey] {
	var r kernel.Result[state.VirtualServerKey]
	if *s.refuses {
		for _, row := range d.Remove {
			r.Fail(row.Key, errors.New("it stays"))
		}
		d.Remove = nil
	}
	r.Merge(s.Store.Apply(ctx, d))
	return r
}
