// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// path returns where the API server has objects of a kind.
func path(t *testing.T, kind, name string) string {
	t.Helper()
	switch kind {
	case "ServiceAccount":
		return "/api/v1/namespaces/" + space + "/serviceaccounts/" + name
	case "ConfigMap":
		return "/api/v1/namespaces/" + space + "/configmaps/" + name
	case "DaemonSet":
		return "/apis/apps/v1/namespaces/" + space + "/daemonsets/" + name
	case "ClusterRole", "ClusterRoleBinding":
		return "/apis/rbac.authorization.k8s.io/v1/" + strings.ToLower(kind) + "s/" + name
	}
	t.Fatalf("where the API server has a %s is not known", kind)
	return ""
}

// try has the API server check an object as strictly as it can, without keeping it.
func try(t *testing.T, document []byte) (kind, name string) {
	t.Helper()
	var meta struct {
		Kind     string
		Metadata struct{ Name string }
	}
	if err := yaml.Unmarshal(document, &meta); err != nil {
		t.Fatal(err)
	}
	shared.warnings.take()
	err := shared.admin.RESTClient().Patch(types.ApplyYAMLPatchType).AbsPath(path(t, meta.Kind, meta.Metadata.Name)).
		Param("fieldManager", "test").Param("fieldValidation", "Strict").Param("dryRun", "All").Body(document).Do(t.Context()).Error()
	if warned := shared.warnings.take(); err != nil || len(warned) > 0 {
		t.Errorf("%s %s: %v, warnings: %q", meta.Kind, meta.Metadata.Name, err, warned)
	}
	return meta.Kind, meta.Metadata.Name
}

// The values of the largest rendering without kinds that only the Prometheus operator has.
func everything() []string {
	return []string{
		"--set", "apiServers={192.0.2.10:6443}", "--set", "kubeIPVSConfiguration.drainTimeout=5m", "--set", "migrate.enabled=true",
		"--set", "monitoring.dashboard.enabled=true", "--set", "apiServer.host=api.example.com", "--set", "podLabels.a=b",
		"--set", "imagePullSecrets[0].name=registry", "--set", "extraEnv[0].name=GOGC", "--set-string", "extraEnv[0].value=50",
	}
}

func TestTheAPIServerTakesEveryObjectOfTheChartWithoutAWarning(t *testing.T) {
	for name, values := range map[string][]string{
		"defaults":   {"--set", "apiServers={192.0.2.10:6443}"},
		"kubeadm's":  {"--set", "existingConfigMap.name=kube-proxy", "--set", "kubeIPVSConfiguration.answerPing=true"},
		"everything": everything(),
	} {
		t.Run(name, func(t *testing.T) {
			out := runHelm(t, append([]string{"template", "kube-ipvs", chart}, values...)...)
			tried := 0
			for _, document := range documents(out) {
				try(t, []byte(document))
				tried++
			}
			if tried < 5 {
				t.Errorf("%d objects in\n%s", tried, out)
			}
		})
	}
}

// documents returns the objects that helm prints.
func documents(text string) []string {
	return slices.DeleteFunc(strings.Split("\n"+text, "\n---\n"), func(d string) bool { return !strings.Contains(d, "\nkind: ") })
}

func TestAnUnknownFieldAndAWarningAreFound(t *testing.T) {
	const unknown = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: kube-system}\ndate: {}\n"
	err := shared.admin.RESTClient().Patch(types.ApplyYAMLPatchType).AbsPath(path(t, "ConfigMap", "a")).
		Param("fieldManager", "test").Param("fieldValidation", "Strict").Param("dryRun", "All").Body([]byte(unknown)).Do(t.Context()).Error()
	if err == nil || !strings.Contains(err.Error(), "date") {
		t.Errorf("an unknown field: %v", err)
	}
	shared.warnings.take()
	const old = `{"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "a"}}`
	err = shared.admin.RESTClient().Post().AbsPath("/api/v1/namespaces/"+space+"/endpoints").Param("dryRun", "All").
		SetHeader("Content-Type", "application/json").Body([]byte(old)).Do(t.Context()).Error()
	if warned := shared.warnings.take(); err != nil || len(warned) == 0 {
		t.Errorf("a deprecated kind: %v, warnings %q", err, warned)
	}
}

// The life of a release: it is installed, gets other values, and goes without a trace.
func TestTheChartIsInstalledUpgradedAndUninstalled(t *testing.T) {
	t.Cleanup(func() { removeTheirs(t) })
	runHelm(t, "install", "kube-ipvs", chart, "--set", "apiServers={192.0.2.10:6443}")
	if d := ours(t); d.Spec.Template.Spec.NodeSelector["kube-ipvs.io/proxy"] != "" {
		t.Errorf("only on nodes with %v", d.Spec.Template.Spec.NodeSelector)
	}
	makeTheirs(t)
	out := runHelm(t, "upgrade", "kube-ipvs", chart, "--reuse-values", "--set", "clusterCIDR=10.244.0.0/16")
	if !strings.Contains(out, "WARNING: kube-proxy runs on nodes of this cluster") {
		t.Errorf("the notes do not warn of kube-proxy:\n%s", out)
	}
	m, err := shared.admin.CoreV1().ConfigMaps(space).Get(t.Context(), "kube-ipvs", metav1.GetOptions{})
	if err != nil || !strings.Contains(m.Data["config.yaml"], "clusterCIDR: 10.244.0.0/16") {
		t.Errorf("the upgraded configuration: %v, %v", err, m.Data)
	}
	out = runHelm(t, append([]string{"upgrade", "kube-ipvs", chart}, everything()...)...)
	if d := ours(t); d.Spec.Template.Spec.NodeSelector["kube-ipvs.io/proxy"] != "kube-ipvs" || strings.Contains(out, "WARNING") {
		t.Errorf("in migration on nodes with %v\n%s", d.Spec.Template.Spec.NodeSelector, out)
	}
	runHelm(t, "uninstall", "kube-ipvs")
	if left := whatIsLeft(t); left != "" {
		t.Errorf("the release left %s", left)
	}
}

func ours(t *testing.T) *appsv1.DaemonSet {
	t.Helper()
	d, err := shared.admin.AppsV1().DaemonSets(space).Get(t.Context(), "kube-ipvs", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// makeTheirs makes a DaemonSet kube-proxy that runs on two nodes.
func makeTheirs(t *testing.T) {
	t.Helper()
	labels := map[string]string{"k8s-app": "kube-proxy"}
	d := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy", Namespace: space},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "kube-proxy", Image: "kube-proxy"}}},
			},
		},
	}
	made, err := shared.admin.AppsV1().DaemonSets(space).Create(t.Context(), d, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made.Status.DesiredNumberScheduled = 2
	if _, err := shared.admin.AppsV1().DaemonSets(space).UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func removeTheirs(t *testing.T) {
	t.Helper()
	err := shared.admin.AppsV1().DaemonSets(space).Delete(t.Context(), "kube-proxy", metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Error(err)
	}
}

// whatIsLeft returns the objects with a label of Helm.
func whatIsLeft(t *testing.T) string {
	t.Helper()
	ctx, options := t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=Helm"}
	sets, err := shared.admin.AppsV1().DaemonSets(space).List(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	maps, err := shared.admin.CoreV1().ConfigMaps(space).List(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	accounts, err := shared.admin.CoreV1().ServiceAccounts(space).List(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	roles, err := shared.admin.RbacV1().ClusterRoles().List(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(sets.Items) + len(maps.Items) + len(accounts.Items) + len(roles.Items); n > 0 {
		return fmt.Sprintf("%d objects: %v %v %v %v", n, sets.Items, maps.Items, accounts.Items, roles.Items)
	}
	return ""
}
