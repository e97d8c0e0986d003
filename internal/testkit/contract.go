// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"context"
	"maps"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Contract is what every implementation of the nine tables must do, with sets and rules of one firewall. open makes a
// kernel for one case; it is called on the case's own goroutine.
//
// A kernel may hold rows before: they must be there after each case as well, as far as the tables list them. Sets and
// chains are named KUBE-*. The settings net/ipv4/vs/conntrack and net/ipv4/ip_forward must exist, and the node must
// have the addresses of Sources.
func Contract(t *testing.T, w state.Firewall, open func(testing.TB) kernel.Tables) {
	c := contract{firewall(w), open}
	t.Run("sysctls stay and are written", c.sysctls)
	c.ofFirewall(t)
	check(t, c, linkTable())
	check(t, c, virtualServerTable())
	check(t, c, realServerTable())
	check(t, c, addressTable())
	t.Run("removing a virtual server takes its real servers", c.serverTakesRealServers)
	t.Run("removing the device takes its addresses", c.linkTakesAddresses)
	t.Run("without the device there are no addresses", c.noDeviceNoAddress)
	t.Run("addresses become routes and addresses again", c.otherMeans)
	t.Run("ten thousand rows in one delta", c.many)
	t.Run("all tables up and down again", c.upAndDown)
	t.Run("what is observed is what is listed", c.observes)
	t.Run("a cancelled change changes nothing", c.cancelled)
}

func (c contract) ofFirewall(t *testing.T) {
	check(t, c, c.setTable())
	check(t, c, c.entryTable())
	check(t, c, c.chainTable())
	check(t, c, c.jumpTable())
	t.Run("removing a set takes its entries", c.setTakesEntries)
	t.Run("a set in use by a chain stays", c.setInUse)
	t.Run("a chain in use by a jump or a chain stays", c.chainInUse)
	t.Run("chains that need each other come and go together", c.chainsTogether)
	if c.nftables() {
		t.Run("another type keeps the entries that it can hold", c.typeKeepsEntries)
		t.Run("one change exchanges networks that overlap", c.overlap)
		return
	}
	t.Run("another header keeps the entries of a set", c.headerKeepsEntries)
	t.Run("a set keeps its type and family", c.setKeepsType)
	t.Run("a set takes so many entries and no more", c.fullSet)
}

type contract struct {
	firewall
	open func(testing.TB) kernel.Tables
}

// bench is a kernel, and beside it the rows that its tables should list.
type bench struct {
	*testing.T
	kernel.Tables
	want state.State
}

// begin opens a kernel and puts rows into it.
func (c contract) begin(t *testing.T, rows state.State) *bench {
	t.Helper()
	b := &bench{T: t, Tables: c.open(t)}
	b.want = b.list()
	b.makes("making the rows of the case", state.Diff(state.New(), rows))
	return b
}

func (b *bench) list() state.State {
	b.Helper()
	s, err := b.List(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// does makes a change that must succeed: no failure, no drift, and nothing else touched.
func (b *bench) does(what string, d state.Delta) {
	b.Helper()
	b.makes(what, d)
	b.isAsWanted(what)
}

// makes is does without a look at what else was touched.
func (b *bench) makes(what string, d state.Delta) {
	b.Helper()
	r := b.Apply(context.Background(), d)
	if failures, all := r.Failures(5); all > 0 {
		b.Fatalf("%s: %d rows failed: %v", what, all, failures)
	}
	if drift := r.Drift(); drift != 0 {
		b.Errorf("%s: drift %d, want none", what, drift)
	}
	d.Apply(b.want)
}

// refuses makes a change of which exactly n rows fail. All other rows must succeed.
func (b *bench) refuses(what string, d state.Delta, n int) {
	b.Helper()
	r := b.Apply(context.Background(), d)
	if failures, all := r.Failures(5); all != n {
		b.Errorf("%s: %d rows failed, want %d: %v", what, all, n, failures)
	}
	b.isAsWanted(what)
}

func (b *bench) isAsWanted(after string) {
	b.Helper()
	if err := Differ(b.list(), b.want, shown); err != nil {
		b.Fatalf("after %s: %v", after, err)
	}
}

// shown is how many differing rows of each kind an error shows.
const shown = 3

// updates turns rows into changes with no old value.
func updates[K, V comparable](rows []diff.Row[K, V]) []diff.Change[K, V] {
	changes := make([]diff.Change[K, V], len(rows))
	for i, r := range rows {
		changes[i] = diff.Change[K, V]{Key: r.Key, New: r.Value}
	}
	return changes
}

func tableOf[K, V comparable](rows []diff.Row[K, V]) map[K]V {
	table := map[K]V{}
	for _, r := range rows {
		table[r.Key] = r.Value
	}
	return table
}

// with merges a and b; b's rows win.
func with[K, V comparable](a, b map[K]V) map[K]V {
	both := map[K]V{}
	maps.Copy(both, a)
	maps.Copy(both, b)
	return both
}
