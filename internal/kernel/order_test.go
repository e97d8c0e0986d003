// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// diary records what was done to a table, in one list for several.
type diary[K, V comparable] struct {
	kernel.Store[K, V]
	name string
	list *[]string
}

func (d diary[K, V]) Apply(_ context.Context, c diff.Delta[K, V]) (none kernel.Result[K]) {
	for verb, n := range map[string]int{"add": len(c.Add), "update": len(c.Update), "remove": len(c.Remove)} {
		if n > 0 {
			*d.list = append(*d.list, fmt.Sprint(verb, " ", d.name))
		}
	}
	return none
}

func TestClientsKeepTheirAddressOnlyWhileNoEndpointIsElsewhere(t *testing.T) {
	servers := endpoints(1)
	one := diff.Row[state.RealServerKey, state.RealServer]{Key: servers[0].Key, Value: servers[0].Value}
	resting := diff.Change[state.RealServerKey, state.RealServer]{Key: one.Key, Old: one.Value}
	entry := []diff.Row[state.SetEntry, state.Entry]{{Key: state.SetEntry{Set: "KUBE-LOAD-BALANCER-LOCAL"}}}
	for name, c := range map[string]struct {
		delta state.Delta
		want  []string
	}{
		"others rest": {state.Delta{
			Entries:     diff.Delta[state.SetEntry, state.Entry]{Add: entry},
			RealServers: rowsDelta{Update: []diff.Change[state.RealServerKey, state.RealServer]{resting}},
		}, []string{"update server", "add entry"}},
		"others leave": {state.Delta{
			Entries:     diff.Delta[state.SetEntry, state.Entry]{Add: entry},
			RealServers: rowsDelta{Remove: rowsList{one}},
		}, []string{"remove server", "add entry"}},
		"others come": {state.Delta{
			Entries:     diff.Delta[state.SetEntry, state.Entry]{Remove: entry},
			RealServers: rowsDelta{Add: rowsList{one}},
		}, []string{"remove entry", "add server"}},
		"a new Service": {state.Delta{
			Entries:     diff.Delta[state.SetEntry, state.Entry]{Add: entry},
			RealServers: rowsDelta{Add: rowsList{one}},
		}, []string{"add entry", "add server"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			kernel.Tables{
				Entries:     diary[state.SetEntry, state.Entry]{name: "entry", list: &got},
				RealServers: diary[state.RealServerKey, state.RealServer]{name: "server", list: &got},
			}.Apply(context.Background(), c.delta)
			if !slices.Equal(got, c.want) {
				t.Errorf("done: %v, want %v", got, c.want)
			}
		})
	}
}

func TestWhatIsSteeredIsNeverRefused(t *testing.T) {
	row := func(set state.SetName, mark uint32) diff.Row[state.SetEntry, state.Entry] {
		return diff.Row[state.SetEntry, state.Entry]{Key: state.SetEntry{Set: set}, Value: state.Entry{Mark: mark}}
	}
	both := []diff.Row[state.SetEntry, state.Entry]{row("KUBE-6-CLUSTER-MARK", 1), row("KUBE-6-NO-LOCAL", 0)}
	for name, c := range map[string]struct {
		delta diff.Delta[state.SetEntry, state.Entry]
		want  []state.SetName
	}{
		"they come": {diff.Delta[state.SetEntry, state.Entry]{Add: both}, []state.SetName{"KUBE-6-CLUSTER-MARK", "KUBE-6-NO-LOCAL"}},
		"they go":   {diff.Delta[state.SetEntry, state.Entry]{Remove: both}, []state.SetName{"KUBE-6-NO-LOCAL", "KUBE-6-CLUSTER-MARK"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []state.SetName
			kernel.Tables{Entries: entered{sets: &got}}.Apply(context.Background(), state.Delta{Entries: c.delta})
			if !slices.Equal(got, c.want) {
				t.Errorf("done in the order %v, want %v", got, c.want)
			}
		})
	}
}

// entered writes down the sets whose entries are touched.
type entered struct {
	kernel.Store[state.SetEntry, state.Entry]
	sets *[]state.SetName
}

func (e entered) Apply(_ context.Context, d diff.Delta[state.SetEntry, state.Entry]) (none kernel.Result[state.SetEntry]) {
	for _, row := range slices.Concat(d.Add, d.Remove) {
		*e.sets = append(*e.sets, row.Key.Set)
	}
	return none
}
