// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/app"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster/file"
	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// Keep records all that the kernel holds now as another program's, which must stay. It is called before kube-ipvs
// starts.
func (r *Rig) Keep(t testing.TB) {
	t.Helper()
	r.foreign = r.Kernel(t)
}

// Kernel returns all that the kernel holds, of any program.
func (r *Rig) Kernel(t testing.TB) state.State {
	t.Helper()
	return r.list(t, r.kernel.Tables())
}

// KernelWithout returns the kernel but for the rules, which take the tools of iptables and most of the time to read:
// their rows are those of s.
func (r *Rig) KernelWithout(t testing.TB, s state.State) state.State {
	t.Helper()
	tables := r.kernel.Tables()
	tables.Chains, tables.Jumps = fixed[state.ChainKey, state.Chain](s.Chains), fixed[state.JumpKey, state.Jump](s.Jumps)
	return r.list(t, tables)
}

func (r *Rig) list(t testing.TB, tables kernel.Tables) state.State {
	t.Helper()
	var s state.State
	err := r.Node.Do(func() (err error) {
		s, err = tables.List(context.Background())
		return err
	})
	if err != nil {
		t.Fatalf("listing the kernel of %s: %v", r.Node.Name, err)
	}
	return s
}

// fixed is a table that is not read.
type fixed[K, V comparable] map[K]V

func (s fixed[K, V]) List(context.Context) (map[K]V, error) { return s, nil }

func (s fixed[K, V]) Apply(context.Context, diff.Delta[K, V]) kernel.Result[K] {
	panic("a rig writes no tables")
}

// Desired returns all that the kernel should hold for the present manifests, with the rows of other programs.
func (r *Rig) Desired(t testing.TB) state.State {
	t.Helper()
	return r.DesiredOf(t, Load(t, r.Folder))
}

// Load reads the manifests of a folder, which must be valid.
func Load(t testing.TB, folder string) *cluster.Index {
	t.Helper()
	index, reports := file.Load(folder)
	for _, report := range reports {
		if len(report.Problems) > 0 {
			t.Fatalf("manifest %s: %v", report.File, report.Problems)
		}
	}
	return index
}

// DesiredOf is Desired for the objects of an index instead of the manifests'.
func (r *Rig) DesiredOf(t testing.TB, index *cluster.Index) state.State {
	t.Helper()
	place := index.Place(r.Node.Name)
	c := plan.Settle(r.config, place.Node, place.ServiceCIDRs)
	d := desired.New()
	d.Upsert(desired.Owner{}, time.Time{}, plan.Base(c))
	n := app.WithAddresses(plan.NodeOf(r.Node.Name, place.Node, place.Others), r.around(t))
	census := plan.NewCensus[types.NamespacedName]()
	for _, key := range index.Services() {
		_, all := index.Objects(key).Unpack()
		census.Move(nil, all)
	}
	for _, key := range index.Services() {
		var o plan.Objects
		o.Service, o.Slices = index.Objects(key).Unpack()
		o.Present = census.Of(o.Service)
		f := plan.Service(o, n, c)
		d.Upsert(desired.Owner{Namespace: key.Namespace, Name: key.Name}, o.Service.CreationTimestamp.Time, f)
	}
	return Union(r.foreign, d.State())
}

// Addresses returns the node's own addresses, without those of Services.
func (r *Rig) Addresses(t testing.TB) []netip.Addr {
	t.Helper()
	return r.around(t).Addresses
}

// around returns what kube-ipvs gets to know about the node.
func (r *Rig) around(t testing.TB) node.Event {
	t.Helper()
	now, err := Around(context.Background(), r.Node)
	if err != nil {
		t.Fatalf("reading the addresses of %s: %v", r.Node.Name, err)
	}
	return now
}

// Around is what kube-ipvs sees of the node that it runs on.
func Around(ctx context.Context, h *world.Host) (now node.Event, err error) {
	err = h.Do(func() error {
		c, err := node.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		now, err = c.Now(ctx)
		return err
	})
	return now, err
}

// Union returns all rows of some states. Of rows with the same key the last wins.
func Union(states ...state.State) state.State {
	u := state.New()
	for _, s := range states {
		state.Diff(state.New(), s).Apply(u)
	}
	return u
}

// Settle waits until the kernel holds what Desired returns, and returns that.
func (r *Rig) Settle(t testing.TB) state.State {
	t.Helper()
	want := r.Desired(t)
	r.Await(t, Patience, want)
	return want
}

// SettleButDrains is Settle, but allows real servers that stay for old connections, and the rows that these need.
func (r *Rig) SettleButDrains(t testing.TB) {
	t.Helper()
	want := r.Desired(t)
	Until(t, Patience, func() error {
		have := r.KernelWithout(t, want)
		drained := map[state.VirtualServerKey]bool{}
		for k, v := range have.RealServers {
			if _, wanted := want.RealServers[k]; !wanted && v.Weight == 0 {
				delete(have.RealServers, k)
				drained[k.Server] = true
			}
		}
		for k := range drained {
			if _, wanted := want.VirtualServers[k]; !wanted {
				forget(have, want, k)
			}
		}
		return Differ(have, want)
	})
}

// forget removes a draining virtual server from have, with the entries and the address that stay for it alone.
func forget(have, want state.State, k state.VirtualServerKey) {
	delete(have.VirtualServers, k)
	a := k.Address.Addr()
	if _, wanted := want.Addresses[state.Address{Addr: a}]; !wanted {
		delete(have.Addresses, state.Address{Addr: a})
	}
	for e := range have.Entries {
		_, wanted := want.Entries[e]
		about, _ := e.Server()
		if !wanted && (about == k || e.Address == a && e.Port == 0) {
			delete(have.Entries, e)
		}
	}
}

// Await waits until the kernel holds exactly the wanted rows, and returns how long that took.
func (r *Rig) Await(t testing.TB, limit time.Duration, want state.State) time.Duration {
	t.Helper()
	return Until(t, limit, func() error {
		if err := Differ(r.KernelWithout(t, want), want); err != nil {
			return err
		}
		return Differ(r.Kernel(t), want)
	})
}

// Differ returns an error that names the rows in which the kernel differs.
func Differ(have, want state.State) error { return testkit.Differ(have, want, 5) }

// Rules returns all rules of the node, of any program.
func (r *Rig) Rules(t testing.TB) (rules state.Ruleset) {
	t.Helper()
	err := r.Node.Do(func() (err error) {
		rules, err = r.kernel.Ruleset(context.Background())
		return err
	})
	if err != nil {
		t.Fatalf("listing the rules of %s: %v", r.Node.Name, err)
	}
	return rules
}
