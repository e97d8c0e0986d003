// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"net/netip"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// ranges returns entries of a set of networks, two of each frontend.
func ranges(first, number int) map[state.SetEntry]state.Entry {
	rows := map[state.SetEntry]state.Entry{}
	for e, v := range frontends(state.SetLoadBalancerSourceCIDR.On(state.OnNFTables), first, number) {
		for _, source := range []string{"10.0.0.0/8", "192.168.0.0/16"} {
			e.Source = netip.MustParsePrefix(source)
			rows[e] = v
		}
	}
	return rows
}

// exchanged is a change in which a crowd leaves, some stay, some change and some come.
func exchanged() (before, after map[state.SetEntry]state.Entry) {
	before, after = ranges(0, 300), ranges(200, 200)
	for e, v := range ranges(220, 20) {
		v.Comment = "shop/other:http"
		after[e] = v
	}
	return before, after
}

func TestACrowdLeavesASetOfNetworksAtOnce(t *testing.T) {
	c, want := open(t), baseRows(config.Default())
	before, after := exchanged()
	want.Entries = before
	changes(t, c, "nothing", state.New(), want)
	d := diff.Of(before, after, state.SetEntry.Compare)
	gone, there := d.Remove[:3], d.Add[:2]
	testkit.Apply(t, c.Entries(), entryDelta{Remove: gone, Add: there}, 0)
	made := generation(t, c)
	testkit.Apply(t, c.Entries(), d, len(gone)+len(there))
	if made = generation(t, c) - made; made != 1 {
		t.Errorf("it took %d transactions", made)
	}
	want.Entries = after
	holds(t, c, "exchanging a crowd", want)
}

func TestABadRowInACrowdFailsAlone(t *testing.T) {
	c, want := open(t), baseRows(config.Default())
	before, after := exchanged()
	want.Entries = before
	changes(t, c, "nothing", state.New(), want)
	d := diff.Of(before, after, state.SetEntry.Compare)
	bad := d.Add[len(d.Add)-1]
	bad.Key.Source = netip.MustParsePrefix("192.168.1.0/24")
	d.Add = append(d.Add, bad)
	r := c.Entries().Apply(t.Context(), d)
	if len(r.Failed) != 1 || r.Failed[bad.Key] == nil || r.Drift != 0 {
		t.Errorf("%d rows failed, drift %d: %v", len(r.Failed), r.Drift, r.Failed)
	}
	want.Entries = after
	holds(t, c, "exchanging a crowd with a bad row", want)
}
