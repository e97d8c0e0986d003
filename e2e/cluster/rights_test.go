// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/control"
	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
)

// right is one permission of a rule.
type right struct{ verb, group, resource string }

func (r right) String() string { return fmt.Sprintf("%s %s.%s", r.verb, r.resource, r.group) }

func rights(rules []rbacv1.PolicyRule) []right {
	var list []right
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					list = append(list, right{verb, group, resource})
				}
			}
		}
	}
	return list
}

// requests returns all that kube-ipvs has asked the API server so far.
func (s *site) requests() ([]control.Request, error) {
	all, err := s.plane.Requests()
	return slices.DeleteFunc(all, func(r control.Request) bool { return r.User != accountUser }), err
}

// denied returns an error if kube-ipvs, in any test so far, asked for more than its roles allow. An API server that has
// just started denies everything until it knows the roles.
func (s *site) denied() error {
	all, err := s.requests()
	if err != nil {
		return err
	}
	may := rights(s.rules)
	for _, r := range all {
		if r.Code >= 400 && !slices.Contains(may, right{r.Verb, r.Group, r.Resource}) {
			return fmt.Errorf("kube-ipvs asked for more than it may: %+v", r)
		}
	}
	return nil
}

func TestTheRightsAsShippedSufficeAndAllAreUsed(t *testing.T) {
	s := newStage(t)
	first, second := clusterIP(1, "first", pods("pod-a")...), clusterIP(2, "second", pods("pod-b")...)
	first.Externals = loadBalancer(1, first).Externals
	second.Externals = first.Externals // a conflict, which is worth an event
	s.put(t, first, second)
	s.startAll(t)
	s.settle(t)
	// Nodes may know only an older API server.
	older, err := s.plane.Serve(t.Context(), secondServer(), control.NoStreamingLists)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(older.Kill)
	s.server.Kill()
	t.Cleanup(func() { s.restore(t) })
	rig.Until(t, patience, func() error {
		all, err := s.requests()
		if err != nil {
			return err
		}
		unused := slices.DeleteFunc(rights(s.rules), func(right right) bool {
			return slices.ContainsFunc(all, func(r control.Request) bool {
				return r.Verb == right.verb && r.Group == right.group && r.Resource == right.resource && r.Code < 300
			})
		})
		if len(unused) > 0 {
			return fmt.Errorf("kube-ipvs does not use the rights %v", unused)
		}
		return nil
	})
	if err := s.denied(); err != nil {
		t.Error(err)
	}
}
