// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The cases of all tables together.

// FirewallRows returns rows of every kind in the tables of a firewall.
func FirewallRows(w state.Firewall) state.State {
	rows := firewall(w)
	s := rows.ruleRows()
	maps.Copy(s.Sets, rows.setTable().rows)
	s.Entries = rows.setRows().Entries
	return s
}

// everything returns a state with rows of every kind in every table.
func (w firewall) everything() state.State {
	s := FirewallRows(state.Firewall(w))
	s.Links, s.Addresses = links(), addressTable().rows
	s.VirtualServers, s.RealServers = serverRows().VirtualServers, serverRows().RealServers
	return s
}

// Unpacked returns the rows of real servers.
func Unpacked(packed state.Packed) map[state.RealServerKey]state.RealServer {
	rows := map[state.RealServerKey]state.RealServer{}
	for k, rs := range packed {
		for _, r := range rs {
			rows[r.Key(k)] = r.Value()
		}
	}
	return rows
}

// observes compares what is observed with what is listed.
func (c contract) observes(t *testing.T) {
	b := c.begin(t, c.everything())
	s, reals, err := b.Observe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if s.RealServers != nil {
		t.Errorf("%d real servers are observed as rows, want them packed", len(s.RealServers))
	}
	for k, rs := range reals {
		if len(rs) == 0 || !slices.IsSortedFunc(rs, state.Real.Compare) {
			t.Errorf("%v has %v, want at least one real server, sorted", k, rs)
		}
	}
	s.RealServers = Unpacked(reals)
	if err := Differ(s, b.want, shown); err != nil {
		t.Error(err)
	}
}

func sysctlRows(settings map[state.SysctlName]string) []diff.Row[state.SysctlName, string] {
	return diff.Of(nil, settings, state.SysctlName.Compare).Add
}

// upAndDown leaves the sysctls as they are: they can't be removed.
func (c contract) upAndDown(t *testing.T) {
	b := c.begin(t, state.New())
	before := clone(b.want)
	settings := map[state.SysctlName]string{"net/ipv4/vs/conntrack": "1", "net/ipv4/ip_forward": "1"}
	for range 2 {
		up := c.everything()
		d := state.Diff(state.New(), up)
		d.Sysctls.Update = updates(sysctlRows(settings))
		b.does("making everything", d)
		b.does("making nothing", state.Delta{})
		d = state.Diff(up, state.New())
		d.Sysctls.Remove = sysctlRows(settings)
		r := b.Apply(context.Background(), d)
		if failures, all := r.Failures(shown); all > 0 {
			t.Errorf("removing everything: %d rows failed: %v", all, failures)
		}
		before.Sysctls = with(before.Sysctls, settings)
		b.want = clone(before)
		b.isAsWanted("removing everything")
	}
}

// half is how many rows of each family there are in a large delta.
const half = 5000

// crowd returns a state with half rows of each family in each large table, and one row more in each that the kernel
// refuses.
func (w firewall) crowd() (good, bad state.State) {
	good, bad = state.New(), state.New()
	good.Links, good.Sets = links(), w.hashSets()
	for _, f := range families() {
		bits := uint8(f.Bits())
		for n := range half {
			a, k := address(f, services, n), server(f, n, state.TCP)
			good.Entries[state.SetEntry{Set: w.set(f, state.HashIP), Address: a}] = state.Entry{Comment: fmt.Sprint("shop/web-", n)}
			good.VirtualServers[k] = state.VirtualServer{Scheduler: "rr", Prefix: bits}
			good.RealServers[state.RealServerKey{Server: k, Address: netip.AddrPortFrom(address(f, endpoints, n), 80)}] = state.RealServer{Weight: 1}
			good.Addresses[state.Address{Addr: a}] = state.Binding{Means: state.Means(n % 2)} // assigned and routed
		}
		// In the order of keys these are among the good ones.
		a, k := address(f, services, half/2), server(f, half/2, state.UDP)
		bad.Entries[state.SetEntry{Set: w.named("KUBE-5"), Address: a}] = state.Entry{}
		bad.VirtualServers[k] = state.VirtualServer{Scheduler: "nonesuch", Prefix: bits}
		bad.RealServers[state.RealServerKey{Server: k, Address: netip.AddrPortFrom(address(f, endpoints, 1), 80)}] = state.RealServer{Weight: 1}
	}
	bad.Addresses[state.Address{Addr: netip.MustParseAddr("ff02::1")}] = state.Binding{}
	return good, bad
}

func clone(s state.State) state.State {
	c := state.New()
	state.Diff(c, s).Apply(c)
	return c
}

func (c contract) many(t *testing.T) {
	good, bad := c.crowd()
	needs := state.New()
	needs.Sets, needs.Links = good.Sets, good.Links
	b := c.begin(t, needs)
	before := clone(b.want)
	all := clone(good)
	state.Diff(state.New(), bad).Apply(all)
	d := state.Diff(needs, all)
	state.Diff(needs, good).Apply(b.want)
	b.refuses("adding very many rows and a few bad ones", d, len(bad.Entries)+len(bad.VirtualServers)+len(bad.RealServers)+len(bad.Addresses))
	b.want = before
	b.refuses("removing very many rows", state.Diff(good, needs), 0)
}

// cancelled: tables without changes need not look at the context.
func (c contract) cancelled(t *testing.T) {
	b := c.begin(t, state.New())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	d := state.Diff(state.New(), c.everything())
	d.Sysctls.Update = updates(sysctlRows(map[state.SysctlName]string{"net/ipv4/ip_forward": "1"}))
	r := b.Apply(ctx, d)
	if failures, all := r.Failures(d.Len()); all != d.Len() {
		t.Errorf("%d of %d rows failed: %v", all, d.Len(), failures)
	}
	b.isAsWanted("a cancelled change")
	b.listsNot(ctx)
}

func (b *bench) listsNot(ctx context.Context) {
	b.Helper()
	s, err := b.List(ctx)
	if !errors.Is(err, context.Canceled) {
		b.Errorf("a cancelled list returned %v", err)
	}
	if missing := s.Missing(); len(missing) != int(state.Tables) {
		b.Errorf("a cancelled list returned a table: only %v are missing", missing)
	}
}
