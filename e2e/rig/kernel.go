// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster/file"
	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Keep takes all that the kernel holds now for somebody else's, which has to stay. It is called before kube-ipvs starts.
func (r *Rig) Keep(t testing.TB) {
	t.Helper()
	r.foreign = r.Kernel(t)
}

// Kernel is all that the kernel holds, whoever made it.
func (r *Rig) Kernel(t testing.TB) state.State {
	t.Helper()
	return r.list(t, r.kernel.Tables())
}

// KernelWithout is the kernel but for the rules, which take the tools of iptables and most of the time to read: their rows
// are those of s.
func (r *Rig) KernelWithout(t testing.TB, s state.State) state.State {
	t.Helper()
	tables := r.kernel.Tables()
	tables.Chains, tables.Jumps = still[state.ChainKey, state.Chain](s.Chains), still[state.JumpKey, state.Jump](s.Jumps)
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

// still is a table that is not read.
type still[K, V comparable] map[K]V

func (s still[K, V]) List(context.Context) (map[K]V, error) { return s, nil }

func (s still[K, V]) Apply(context.Context, diff.Delta[K, V]) kernel.Result[K] {
	panic("a rig writes no tables")
}

// Desired is all that the kernel should hold while the manifests are what they are, with what is somebody else's.
func (r *Rig) Desired(t testing.TB) state.State {
	t.Helper()
	return r.DesiredOf(t, Load(t, r.Folder))
}

// Load reads the manifests of a folder, in which nothing may be wrong.
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

// DesiredOf is Wish for the objects of an index in place of the manifests'.
func (r *Rig) DesiredOf(t testing.TB, index *cluster.Index) state.State {
	t.Helper()
	place := index.Place(r.Node.Name)
	c := plan.Settle(r.config, place.Node, place.ServiceCIDRs)
	d := desired.New()
	d.Upsert(desired.Owner{}, time.Time{}, plan.Base(c))
	n := plan.NodeOf(r.Node.Name, place.Node, place.Others)
	around := r.around(t)
	n.Addresses, n.Networks, n.MTU = around.Addresses, around.Networks, around.MTU
	n = n.Protecting("a gateway", around.Gateways...)
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

// Addresses are the node's own, but for those of Services.
func (r *Rig) Addresses(t testing.TB) []netip.Addr {
	t.Helper()
	return r.around(t).Addresses
}

// around is what kube-ipvs is told of the node.
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

// Union is all rows of some states. Of rows with the same key the last wins.
func Union(states ...state.State) state.State {
	u := state.New()
	for _, s := range states {
		state.Diff(state.New(), s).Apply(u)
	}
	return u
}

// Settle waits until the kernel is as the manifests wish, and as whoever else made rows in it. It returns what it holds.
func (r *Rig) Settle(t testing.TB) state.State {
	t.Helper()
	want := r.Desired(t)
	r.Await(t, Patience, want)
	return want
}

// SettleButDrains is Settle but for real servers that stay for their old connections, and what stays for these.
func (r *Rig) SettleButDrains(t testing.TB) {
	t.Helper()
	want := r.Desired(t)
	Until(t, Patience, func() error {
		have := r.KernelWithout(t, want)
		drained := map[state.VirtualServerKey]bool{}
		for k, v := range have.RealServers {
			if _, wished := want.RealServers[k]; !wished && v.Weight == 0 {
				delete(have.RealServers, k)
				drained[k.Server] = true
			}
		}
		for k := range drained {
			if _, wished := want.VirtualServers[k]; !wished {
				forget(have, want, k)
			}
		}
		return Differ(have, want)
	})
}

// forget takes a virtual server that drains out of have, and the entries and the address that stay for it alone.
func forget(have, want state.State, k state.VirtualServerKey) {
	delete(have.VirtualServers, k)
	a := k.Address.Addr()
	if _, wished := want.Addresses[state.Address{Addr: a}]; !wished {
		delete(have.Addresses, state.Address{Addr: a})
	}
	for e := range have.Entries {
		_, wished := want.Entries[e]
		about, _ := e.Server()
		if !wished && (about == k || e.Address == a && e.Port == 0) {
			delete(have.Entries, e)
		}
	}
}

// Await waits until the kernel holds exactly what is wanted, and returns how long that took.
func (r *Rig) Await(t testing.TB, limit time.Duration, want state.State) time.Duration {
	t.Helper()
	return Until(t, limit, func() error {
		if err := Differ(r.KernelWithout(t, want), want); err != nil {
			return err
		}
		return Differ(r.Kernel(t), want)
	})
}

// Differ says where the kernel is not as it should be.
func Differ(have, want state.State) error {
	d := state.Diff(have, want)
	if d.Len() == 0 {
		return nil
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d rows of the kernel are not as they should be (- missing, + too many, ~ wrong):", d.Len())
	describe(&text, "sysctl", d.Sysctls)
	describe(&text, "set", d.Sets)
	describe(&text, "entry", d.Entries)
	describe(&text, "chain", d.Chains)
	describe(&text, "jump", d.Jumps)
	describe(&text, "link", d.Links)
	describe(&text, "virtual server", d.VirtualServers)
	describe(&text, "real server", d.RealServers)
	describe(&text, "address", d.Addresses)
	return fmt.Errorf("%s", text.String())
}

// describe names the first rows of a table that differ.
func describe[K, V comparable](text *strings.Builder, table string, d diff.Delta[K, V]) {
	const most = 5
	for i, row := range d.Add {
		if i < most {
			fmt.Fprintf(text, "\n  - %s %v = %+v", table, row.Key, row.Value)
		}
	}
	for i, row := range d.Remove {
		if i < most {
			fmt.Fprintf(text, "\n  + %s %v = %+v", table, row.Key, row.Value)
		}
	}
	for i, c := range d.Update {
		if i < most {
			fmt.Fprintf(text, "\n  ~ %s %v = %+v, not %+v", table, c.Key, c.Old, c.New)
		}
	}
}

// Rules are all rules of the node, whoever made them.
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
