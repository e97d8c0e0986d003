// SPDX-License-Identifier: Apache-2.0

package install

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"
)

const (
	// kubeadms is the DaemonSet that kubeadm makes. e2e/upstream/kubeadm compares it with kubeadm's.
	kubeadms = "../deploy/testdata/kubeadm.yaml"
	patch    = root + "/manifests/kubeadm/kubeproxydaemonset+strategic.yaml"
)

func TestTheAPIServerTakesThePatchedDaemonSetWithoutAWarning(t *testing.T) {
	theirs, err := yaml.YAMLToJSON(read(t, kubeadms))
	if err != nil {
		t.Fatal(err)
	}
	change, err := yaml.YAMLToJSON(read(t, patch))
	if err != nil {
		t.Fatal(err)
	}
	patched, err := strategicpatch.StrategicMergePatch(theirs, change, appsv1.DaemonSet{})
	if err != nil {
		t.Fatal(err)
	}
	if kind, name := try(t, patched); kind != "DaemonSet" || name != "kube-proxy" {
		t.Errorf("the patch makes %s %s", kind, name)
	}
}

// The patched DaemonSet runs with kube-proxy's service account. kubeadm gives it this role.
func TestTheRoleOfKubeProxyHasAllThatKubeIPVSNeeds(t *testing.T) {
	theirs, err := shared.admin.RbacV1().ClusterRoles().Get(t.Context(), "system:node-proxier", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	needed := rendered(t).Rules
	if len(needed) < 5 {
		t.Fatalf("the chart needs %v", needed)
	}
	for _, need := range needed {
		if !slices.ContainsFunc(theirs.Rules, func(r rbacv1.PolicyRule) bool { return covers(r, need) }) {
			t.Errorf("system:node-proxier does not let %v", need)
		}
	}
}

// rendered returns the role of the chart, which is that of the overlays.
func rendered(t *testing.T) rbacv1.ClusterRole {
	t.Helper()
	out := runHelm(t, "template", "kube-ipvs", chart, "--set", "apiServers={192.0.2.10:6443}", "--show-only", "templates/rbac.yaml")
	for _, document := range documents(out) {
		var role rbacv1.ClusterRole
		if err := yaml.Unmarshal([]byte(document), &role); err == nil && role.Kind == "ClusterRole" {
			return role
		}
	}
	t.Fatalf("the chart has no role:\n%s", out)
	return rbacv1.ClusterRole{}
}

func covers(rule, need rbacv1.PolicyRule) bool {
	has := func(all, some []string) bool {
		return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
	}
	return has(rule.APIGroups, need.APIGroups) && has(rule.Resources, need.Resources) && has(rule.Verbs, need.Verbs)
}
