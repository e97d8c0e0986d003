// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// frontends returns entries of one set, with addresses from a first one on.
func frontends(n state.SetName, first, number int) map[state.SetEntry]state.Entry {
	rows := map[state.SetEntry]state.Entry{}
	for i := first; i < first+number; i++ {
		a := netip.AddrFrom4([4]byte{10, byte(96 + i>>16), byte(i >> 8), byte(i)})
		rows[state.SetEntry{Set: n, Address: a, Protocol: state.TCP, Port: 80}] = state.Entry{Comment: fmt.Sprintf("shop/web-%d:http", i)}
	}
	return rows
}

// The kernel does not mark a dump of elements beside which they change. What it lists is there, and what it lacks can be
// added again.
func TestADumpBesideAWriterListsNothingThatIsNotThere(t *testing.T) {
	c, want := open(t), baseRows(config.Default())
	n := state.SetClusterIP.On(state.OnNFTables)
	want.Entries = frontends(n, 0, 3000)
	changes(t, c, "nothing", state.New(), want)
	change, other := writer(t), connect(t)
	moving := testkit.Rows(frontends(n, 3000, 1000))
	have := map[state.SetEntry]state.Entry{}
	s, _ := shapeOf(state.IPv4, state.HashIPPort)
	err := c.dumpElements(t.Context(), n, func() func(netlink.Attributes) error {
		clear(have)
		return func(a netlink.Attributes) error {
			e, v, ours := s.parseElement(n, a)
			if !ours {
				t.Errorf("listed %+v, which was never written", a)
			}
			have[e] = v
			if len(have)%100 == 0 {
				change()
				testkit.Apply(t, other.Entries(), entryDelta{Add: moving}, 0) // the same set, which grows and shrinks
				testkit.Apply(t, other.Entries(), entryDelta{Remove: moving}, 0)
			}
			return nil
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range moving { // they may have been listed while they were there
		delete(have, r.Key)
	}
	d := diff.Of(have, want.Entries, state.SetEntry.Compare)
	if len(d.Remove)+len(d.Update) > 0 {
		t.Errorf("listed what is not there: %.500v %.500v", d.Remove, d.Update)
	}
	t.Logf("%d of %d were not listed", len(d.Add), len(want.Entries))
	testkit.Apply(t, c.Entries(), entryDelta{Add: d.Add}, len(d.Add))
	holds(t, c, "adding what was not listed", want)
}

// writer returns a function that changes a table of another program.
func writer(t *testing.T) func() {
	t.Helper()
	other := connect(t)
	other.table = "of-others"
	n := state.SetName("nft:THEIRS")
	testkit.AddAll(t, other.Sets(), map[state.SetName]state.Set{n: headerOf(state.IPv4, state.HashIPPort)})
	rows := testkit.Rows(frontends(n, 0, 1))
	return func() {
		testkit.Apply(t, other.Entries(), entryDelta{Add: rows}, 0)
		testkit.Apply(t, other.Entries(), entryDelta{Remove: rows}, 0)
	}
}

// A hash table that has grown is moved for a while, and a dump of it lacks elements then.
func TestListsRightAfterManyRowsLackNone(t *testing.T) {
	c, want := open(t), state.New()
	n := state.SetClusterIP.On(state.OnNFTables)
	for _, counted := range []bool{true, false} { // by the kernel, or as of an old kernel
		for i := range 8 {
			want.Sets[n], want.Entries = headerOf(state.IPv4, state.HashIPPort), frontends(n, i, 4000)
			r := c.tables().Apply(t.Context(), state.Diff(state.New(), want))
			if failures, all := r.Failures(3); all > 0 {
				t.Fatal(failures)
			}
			if !counted {
				clear(c.counts)
			}
			rows := map[state.SetEntry]state.Entry{}
			s, _ := shapeOf(state.IPv4, state.HashIPPort)
			if err := c.addElements(t.Context(), n, s, rows); err != nil {
				t.Fatal(err)
			}
			if len(rows) != len(want.Entries) {
				t.Errorf("listed %d of %d rows (counted: %t)", len(rows), len(want.Entries), counted)
			}
			testkit.Apply(t, c.Sets(), setDelta{Remove: testkit.Rows(want.Sets)}, 0)
		}
	}
}
