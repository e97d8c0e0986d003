// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit/mem"
)

// bench drives a Core by hand over a kernel in memory: no goroutine, and time is a number.
type bench struct {
	core   *Core
	kernel *mem.Kernel
	tables kernelTables
	now    time.Time
	ops    testkit.Operations
	flows  []state.Flow // that were asked to be flushed

	looksFail, flushesFail error
}

func newBench(wrap func(kernelTables) kernelTables) *bench {
	b := &bench{kernel: mem.New(), now: time.Unix(1_000_000, 0)}
	b.tables = testkit.Metered(b.kernel.Tables(), &b.ops)
	if wrap != nil {
		b.tables = wrap(b.tables)
	}
	b.core = NewCore(testOptions())
	b.step(Upsert{Fragment: base()})
	return b
}

func testOptions() Options {
	return Options{
		Ownership:    oneSet{},
		SyncPeriod:   30 * time.Second,
		DrainTimeout: time.Minute,
		DrainCheck:   time.Second,
		AuditPause:   time.Second,
	}
}

// oneSet is a small Ownership: our one set holds our servers' addresses, and another our addresses. Of each there is a
// second one.
type oneSet struct{}

func (oneSet) Set(n state.SetName) bool {
	return n == ourSet || n == otherSet || n == addressSet || n == otherAddressSet
}
func (oneSet) Proofs(k state.VirtualServerKey, _ bool) iter.Seq[state.SetEntry] {
	return slices.Values([]state.SetEntry{entryOf(k), inSet(otherSet, entryOf(k))})
}
func (oneSet) AddressProofs(a state.Address) iter.Seq[state.SetEntry] {
	return slices.Values([]state.SetEntry{{Set: addressSet, Address: a.Addr}, {Set: otherAddressSet, Address: a.Addr}})
}

const (
	ourSet          state.SetName = "KUBE-CLUSTER-IP"
	otherSet        state.SetName = "KUBE-EXTERNAL-IP"
	addressSet      state.SetName = "KUBE-IPVS-IPS"
	otherAddressSet state.SetName = "KUBE-NODE-IPS"
)

func inSet(n state.SetName, e state.SetEntry) state.SetEntry {
	e.Set = n
	return e
}

func entryOf(k state.VirtualServerKey) state.SetEntry {
	return state.SetEntry{Set: ourSet, Address: k.Address.Addr(), Protocol: k.Protocol, Port: k.Address.Port()}
}

func base() state.Fragment {
	return state.Fragment{
		Sets: []diff.Row[state.SetName, state.Set]{
			{Key: ourSet, Value: state.Set{Type: state.HashIPPort, Family: state.IPv4, MaxElem: 1 << 16, Comment: true}},
			{Key: otherSet, Value: state.Set{Type: state.HashIPPort, Family: state.IPv4, MaxElem: 1 << 16, Comment: true}},
			{Key: addressSet, Value: state.Set{Type: state.HashIP, Family: state.IPv4, MaxElem: 1 << 16, Comment: true}},
			{Key: otherAddressSet, Value: state.Set{Type: state.HashIP, Family: state.IPv4, MaxElem: 1 << 16, Comment: true}},
		},
		Links:  []diff.Row[state.LinkName, state.Link]{{Key: state.DummyLink, Value: state.Link{Kind: "dummy"}}},
		Chains: []diff.Row[state.ChainKey, state.Chain]{{Key: natServices, Value: state.ChainOf("-m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT")}},
		Jumps: []diff.Row[state.JumpKey, state.Jump]{{
			Key:   state.JumpKey{Family: state.IPv4, Table: state.NAT, From: "PREROUTING", To: natServices.Name},
			Value: state.Jump{Rule: "-j KUBE-SERVICES"},
		}},
		Sysctls: []diff.Row[state.SysctlName, string]{{Key: "net/ipv4/vs/conntrack", Value: "1"}},
	}
}

var natServices = state.ChainKey{Family: state.IPv4, Table: state.NAT, Name: "KUBE-SERVICES"}

func server(n int, p state.Protocol) state.VirtualServerKey {
	return state.VirtualServerKey{
		Address:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(n >> 8), byte(n)}), 80),
		Protocol: p,
	}
}

func endpoint(k state.VirtualServerKey, n int) state.RealServerKey {
	return state.RealServerKey{Server: k, Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(n >> 8), byte(n)}), 8080)}
}

// service is the fragment of a Service with one port and n endpoints from a first one on.
func service(k state.VirtualServerKey, first, n int) state.Fragment {
	f := state.Fragment{
		Entries: []diff.Row[state.SetEntry, state.Entry]{
			{Key: entryOf(k), Value: state.Entry{Comment: "ns/name"}},
			{Key: state.SetEntry{Set: addressSet, Address: k.Address.Addr()}, Value: state.Entry{Comment: "ns/name"}},
		},
		VirtualServers: []diff.Row[state.VirtualServerKey, state.VirtualServer]{{Key: k, Value: state.VirtualServer{Scheduler: "rr", Prefix: 32}}},
		Addresses:      []diff.Row[state.Address, state.Binding]{{Key: state.Address{Addr: k.Address.Addr()}}},
	}
	for i := range n {
		f.RealServers = append(f.RealServers, diff.Row[state.RealServerKey, state.RealServer]{
			Key: endpoint(k, first+i), Value: state.RealServer{Weight: 1},
		})
	}
	return f
}

// moved returns a Service with its entries in the second ones of the sets.
func moved(f state.Fragment) state.Fragment {
	f.Entries = slices.Clone(f.Entries)
	f.Entries[0].Key.Set, f.Entries[1].Key.Set = otherSet, otherAddressSet
	return f
}

func owner(n int) desired.Owner { return desired.Owner{Namespace: "ns", Name: fmt.Sprintf("s%05d", n)} }

func (b *bench) step(e Event) { b.core.Step(e, b.now) }

// settle works until nothing is due at the present time.
func (b *bench) settle(t testing.TB) {
	t.Helper()
	for range 100 {
		w := b.core.Ready(b.now)
		if w.Empty() {
			return
		}
		var o Outcome
		if w.Audit {
			o.Observed, o.ObserveErr = b.tables.List(context.Background())
		}
		o.Results = b.tables.Apply(context.Background(), w.Delta)
		b.flows = append(b.flows, w.Flows...)
		o.FlushErr, o.LookErr = b.flushesFail, b.looksFail
		if o.LookErr == nil {
			o.Connections, _ = mem.Observer{Kernel: b.kernel}.Connections(context.Background(), w.Servers)
		}
		b.core.Advance(w, o, b.now)
	}
	t.Fatal("core does not settle: more than 100 works are due at one moment")
}

// pass lets time go by from one wake-up to the next.
func (b *bench) pass(t *testing.T, d time.Duration) {
	t.Helper()
	for end := b.now.Add(d); ; {
		b.settle(t)
		b.mustHoldRightly(t)
		wake := b.core.Wake()
		if wake.After(end) {
			b.now = end
			return
		}
		if !wake.After(b.now) {
			t.Fatalf("core wants to be woken at %v although nothing is due at %v", wake, b.now)
		}
		b.now = wake
	}
}

func (b *bench) mustEqualDesired(t testing.TB, when string) {
	t.Helper()
	if d := state.Diff(b.kernel.State, b.core.Desired()); d.Len() != 0 {
		t.Fatalf("%s: the kernel is %d rows away from the desired state: %+v", when, d.Len(), d)
	}
}

// TestARandomWalkWithFaultsEndsAtTheWish changes Services at random while a tenth of all row changes and lists fail,
// another program deletes rows, and the daemon is killed and started now and then.
func TestARandomWalkWithFaultsEndsAtTheWish(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 7))
			share := 0.1
			b := newBench(func(k kernelTables) kernelTables { return faultyNow(k, random, &share) })
			b.core.options.Chunk = int(seed % 7 * 3) // 0: some thousand
			b.step(Synced{})
			fragments := map[int]state.Fragment{}
			for range 300 {
				n := random.IntN(20)
				switch random.IntN(10) {
				case 0, 1:
					delete(fragments, n)
					b.step(Delete{Owner: owner(n)})
				case 2:
					vandalise(b.kernel, random)
				case 3:
					b.restart(fragments)
				default:
					protocol := []state.Protocol{state.TCP, state.UDP}[random.IntN(2)]
					fragments[n] = service(server(n%15, protocol), random.IntN(5), random.IntN(4))
					if random.IntN(3) == 0 {
						fragments[n] = moved(fragments[n])
					}
					b.step(Upsert{Owner: owner(n), Fragment: fragments[n]})
				}
				b.pass(t, time.Duration(random.IntN(3000))*time.Millisecond)
			}
			share = 0
			b.pass(t, 3*time.Minute)
			b.mustEqualDesired(t, "after the walk")
			if b.core.drains.book.Len() != 0 {
				t.Errorf("%d real servers still listed as draining", b.core.drains.book.Len())
			}
		})
	}
}

// restart is kill -9 and a new start: the new core knows only the kernel and the objects.
func (b *bench) restart(fragments map[int]state.Fragment) {
	chunk := b.core.options.Chunk
	b.core = NewCore(testOptions())
	b.core.options.Chunk = chunk
	b.step(Upsert{Fragment: base()})
	for n, f := range fragments {
		b.step(Upsert{Owner: owner(n), Fragment: f})
	}
	b.step(Synced{})
}

// vandalise deletes or changes rows behind the back of the daemon. Entries, which are the evidence of ownership, are
// spared: flushing them while the daemon is also killed leaves rows that cannot be known as ours.
func vandalise(k *mem.Kernel, random *rand.Rand) {
	if random.IntN(4) == 0 {
		delete(k.State.Links, state.DummyLink)
		clear(k.State.Addresses)
	}
	for r := range k.State.RealServers {
		k.State.RealServers[r] = state.RealServer{Weight: 7}
		break
	}
	for v := range k.State.VirtualServers {
		delete(k.State.VirtualServers, v)
		for r := range k.State.RealServers {
			if r.Server == v {
				delete(k.State.RealServers, r)
			}
		}
		break
	}
	delete(k.State.Jumps, state.JumpKey{Family: state.IPv4, Table: state.NAT, From: "PREROUTING", To: natServices.Name})
}
