// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"maps"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
)

// place is where the endpoints of a Service are, and which of them serve by each traffic policy.
type place struct {
	name           string
	endpoints      []rig.Endpoint
	cluster, local []string
}

func places() []place {
	return []place{
		{"local", rig.Pods("pod-a", "pod-b"), names("pod-a", "pod-b"), names("pod-a", "pod-b")},
		{"remote", rig.Pods("pod-d"), names("pod-d"), nil},
		{"both", rig.Pods("pod-a", "pod-d"), names("pod-a", "pod-d"), names("pod-a")},
		{"nowhere", nil, nil, nil},
		{"leaving here", []rig.Endpoint{terminating(rig.Pod("pod-a")), rig.Pod("pod-d")}, names("pod-d"), names("pod-a")},
		{"leaving", []rig.Endpoint{terminating(rig.Pod("pod-a")), terminating(rig.Pod("pod-d"))}, names("pod-a", "pod-d"), names("pod-a")},
	}
}

func names(list ...string) []string { return list }

// policy is the traffic policies of a Service: whether they are Local.
type policy struct {
	name            string
	inside, outside bool
}

func policies() []policy {
	return []policy{
		{"Cluster", false, false},
		{"external Local", false, true},
		{"internal Local", true, false},
		{"both Local", true, true},
	}
}

// eitherPolicy returns the same policy inside and outside: as each counts at frontends of its own, nothing is left out.
func eitherPolicy() []policy { return []policy{policies()[0], policies()[3]} }

// in returns the name of the Service of a place that has the policy.
func (p policy) in(at place) string { return at.name + ", " + p.name }

// placed returns Services of every policy, with endpoints at every place.
func placed() map[string]rig.Service {
	list := map[string]rig.Service{}
	for _, at := range places() {
		for _, p := range policies() {
			list[p.in(at)] = rig.Service{Endpoints: at.endpoints, InternalLocal: p.inside, ExternalLocal: p.outside}
		}
	}
	return numbered(50, list)
}

// rule is one rule of the reference: the endpoints of clients at a frontend by a traffic policy, and what address these
// see.
type rule struct {
	clients   []string
	frontends []frontend
	local     bool // traffic policy
	choice    func(place) []string
	sees      seen
	// through means that hairpins come back by the node that was asked, also those of other nodes' pods.
	through bool
}

// reference returns the fate of all packets to Services of every policy and place, at every frontend, by kube-proxy's
// TestInternalExternalMasquerade. How pods are detected decides which clients are pods of the cluster, and what address
// others are seen with at a cluster IP.
func reference(policies []policy, pods, others []string, at seen) []cell {
	f := frontends()
	inside, outside := []frontend{f.clusterIP}, []frontend{f.nodePort, f.loadBalancer, f.externalIP}
	cluster := func(p place) []string { return p.cluster }
	local := func(p place) []string { return p.local }
	node := []string{"node-1"}
	var list []cell
	for _, r := range []rule{
		{clients: pods, frontends: inside, local: false, choice: cluster, sees: own},
		{clients: node, frontends: inside, local: false, choice: cluster, sees: masked},
		{clients: others, frontends: inside, local: false, choice: cluster, sees: at},

		{clients: pods, frontends: inside, local: true, choice: local, sees: own},
		{clients: node, frontends: inside, local: true, choice: local, sees: masked},
		{clients: others, frontends: inside, local: true, choice: local, sees: at},

		{clients: pods, frontends: outside, local: false, choice: cluster, sees: masked},
		{clients: node, frontends: outside, local: false, choice: cluster, sees: masked},
		{clients: others, frontends: outside, local: false, choice: cluster, sees: masked},

		{clients: pods, frontends: outside, local: true, choice: cluster, sees: own},
		{clients: node, frontends: outside, local: true, choice: cluster, sees: masked},
		{clients: others, frontends: outside, local: true, choice: local, sees: own},
	} {
		list = append(list, r.cells(policies)...)
	}
	return list
}

// cells returns those of the Services whose policy at the frontend is the rule's; the other policy makes no difference.
func (r rule) cells(policies []policy) []cell {
	var list []cell
	for _, p := range policies {
		for _, at := range places() {
			for _, f := range r.frontends {
				if r.local != p.local(f) {
					continue
				}
				for _, client := range r.clients {
					if !r.bypasses(client, at) {
						list = append(list, cell{client, f, p.in(at), r.fate(client, at)})
					}
				}
			}
		}
	}
	return list
}

// local reports whether the policy that counts at a frontend is Local.
func (p policy) local(f frontend) bool {
	if f.String() == frontends().clusterIP.String() {
		return p.inside
	}
	return p.outside
}

// bypasses reports whether an endpoint's answer would not come by the node that the client asked: client and endpoint
// are both elsewhere, and see each other's addresses.
func (r rule) bypasses(client string, at place) bool {
	return !r.through && r.sees == own && !r.local && slices.Contains(names("pod-d", "client"), client) && slices.Contains(r.choice(at), "pod-d")
}

func (r rule) fate(client string, at place) fate {
	servers := r.choice(at)
	switch {
	case len(servers) == 0 && len(at.cluster) > 0:
		return silent()
	case len(servers) == 0:
		return refused()
	}
	f := fate{Answers: map[string]seen{}}.with(r.sees, servers)
	if _, itself := f.Answers[client]; itself {
		maps.Copy(f.Answers, masking(client).Answers)
	}
	return f
}
