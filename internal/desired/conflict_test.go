// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// holding is a fragment with a port of the node in a set of ports.
func holding(set state.SetName, port uint16) state.Fragment {
	return state.Fragment{Entries: []diff.Row[state.SetEntry, state.Entry]{{Key: state.SetEntry{Set: set, Port: port}}}}
}

func TestAPortForHealthChecksThatIsAnothersNodePortIsTold(t *testing.T) {
	for _, family := range []state.SetName{"KUBE-", "KUBE-6-"} {
		checks, nodePorts := family+"HEALTH-CHECK-NODE-PORT", family+"NODE-PORT-TCP"
		for _, oldFirst := range []bool{true, false} {
			d := New()
			third := Owner{"shop", "third"}
			claims := map[Owner]state.Fragment{old: holding(checks, 31000), young: holding(nodePorts, 31000)}
			d.Upsert(third, early, holding(nodePorts, 31001))
			d.Upsert(third, early, holding(family+"NODE-PORT-UDP", 31000))
			order := []Owner{young, old}
			if oldFirst {
				order = []Owner{old, young}
			}
			if found := d.Upsert(order[0], early, claims[order[0]]).Conflicts; len(found) != 0 {
				t.Errorf("%s, of one claim: found %v", family, found)
			}
			found := d.Upsert(order[1], late, claims[order[1]]).Conflicts
			if len(found) != 1 || found[0].Winner != young || found[0].Loser != old || !found[0].HealthCheck || found[0].Key.Address.Port() != 31000 {
				t.Errorf("%s: found %v, want that the NodePort has the packets", family, found)
			}
			if all := d.Conflicts(); !slices.Equal(all, found) {
				t.Errorf("%s: there are %v, want %v", family, all, found)
			}
			if again := d.Upsert(order[1], late, claims[order[1]]).Conflicts; len(again) != 0 {
				t.Errorf("%s, unchanged: found %v again", family, again)
			}
			d.Delete(young)
			if all := d.Conflicts(); len(all) != 0 {
				t.Errorf("%s, when the NodePort is gone: there are %v", family, all)
			}
		}
	}
}

func TestAConflictOverAPortSaysWhichAndWhose(t *testing.T) {
	d := New()
	d.Upsert(old, early, holding("KUBE-HEALTH-CHECK-NODE-PORT", 31000))
	for _, c := range d.Upsert(young, late, holding("KUBE-NODE-PORT-TCP", 31000)).Conflicts {
		if text := c.String(); !strings.Contains(text, "spec.healthCheckNodePort: 31000") || !strings.Contains(text, "shop/ant") {
			t.Errorf("the text is %q", text)
		}
	}
}
