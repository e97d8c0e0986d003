// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/config/proxyconfig"
)

// The chart and the overlays say the same twice. So each overlay is compared with what the chart makes of the values
// that ask for it.
func TestTheChartMakesTheObjectsOfTheOverlays(t *testing.T) {
	const kubeadms = "existingConfigMap.name=kube-proxy"
	for folder, values := range map[string][]string{
		"overlays/own-config":        {anAPIServer},
		"overlays/kube-proxy-config": {kubeadms},
		"overlays/migrate":           {kubeadms, "migrate.enabled=true"},
	} {
		want := plain(t, built(t, folder))
		got := plain(t, rendered(t, values...))
		if d := gocmp.Diff(want, got); d != "" {
			t.Errorf("%s (-) and the chart with %q (+):\n%s", folder, values, d)
		}
	}
}

func TestTheChartMonitorsAsTheComponentDoes(t *testing.T) {
	want := plain(t, built(t, "components/monitoring"))
	got := plain(t, rendered(t, anAPIServer, "monitoring.podMonitor.enabled=true", "monitoring.prometheusRule.enabled=true", "monitoring.dashboard.enabled=true"))
	maps.DeleteFunc(got, func(name string, _ any) bool { return want[name] == nil })
	if d := gocmp.Diff(want, got); d != "" {
		t.Errorf("the component (-) and the chart (+):\n%s", d)
	}
	elsewhere, stderr, err := helm(t, "template", "kube-ipvs", chart, "--namespace", "other", "--set", anAPIServer, "--set", "monitoring.prometheusRule.enabled=true")
	if err != nil || strings.Contains(elsewhere, "kube-system") || !strings.Contains(elsewhere, `job="other/kube-ipvs"`) {
		t.Errorf("in another namespace: %v, %s\n%s", err, stderr, elsewhere)
	}
}

// plain returns objects by kind and name, without what only one of both tools writes.
func plain(t *testing.T, objects []object) map[string]any {
	t.Helper()
	all := map[string]any{}
	for _, o := range objects {
		strip(o.typed.(metav1.Object))
		switch typed := o.typed.(type) {
		case *appsv1.DaemonSet:
			sorted(&typed.Spec.Template.Spec)
		case *corev1.ConfigMap:
			if text, is := typed.Data["config.yaml"]; is {
				all["configuration"] = pairOf(t, text)
				typed.Data = nil
			}
		}
		all[o.kind+" "+o.name] = o.typed
	}
	return all
}

// strip removes the labels that Helm and kustomize put on objects, which select nothing.
func strip(o metav1.Object) {
	labels := o.GetLabels()
	maps.DeleteFunc(labels, func(key, _ string) bool {
		return strings.HasPrefix(key, "app.kubernetes.io/") || key == "helm.sh/chart"
	})
	if len(labels) == 0 {
		labels = nil
	}
	o.SetLabels(labels)
}

// sorted sorts the lists of a pod whose order means nothing.
func sorted(p *corev1.PodSpec) {
	slices.SortFunc(p.Volumes, func(a, b corev1.Volume) int { return cmp.Compare(a.Name, b.Name) })
	for _, list := range [][]corev1.Container{p.InitContainers, p.Containers} {
		for _, c := range list {
			slices.SortFunc(c.VolumeMounts, func(a, b corev1.VolumeMount) int { return cmp.Compare(a.MountPath, b.MountPath) })
		}
	}
}

// pairOf returns the two documents of a configuration, as the daemon reads them. The overlay leaves the API servers to
// fill in.
func pairOf(t *testing.T, text string) proxyconfig.Pair {
	t.Helper()
	p := proxyconfig.Default()
	warnings, err := p.ReadConfig([]byte(strings.Replace(text, "FILL-IN", `"192.0.2.10:6443"`, 1)))
	if err != nil || len(warnings) > 0 {
		t.Errorf("%q, %v: %s", warnings, err, text)
	}
	return p
}

// Helm reads no file outside of a chart, so it has copies.
func TestTheFilesOfTheChartAreThoseOfTheComponent(t *testing.T) {
	for _, name := range []string{"alerts.yaml", "kube-ipvs.json"} {
		want, copied := string(read(t, filepath.Join(manifests, "components/monitoring", name))), filepath.Join(chart, "files", name)
		if *update {
			write(t, copied, want)
		}
		if d := gocmp.Diff(want, string(read(t, copied))); d != "" {
			t.Errorf("%s: -update writes it anew (-want +got):\n%s", copied, d)
		}
	}
}

// What the containers of the chart start is understood by the program, with each form of the configuration.
func TestTheProgramUnderstandsTheConfigurationOfTheChart(t *testing.T) {
	for name, values := range map[string]string{
		"own":  `apiServers: ["192.0.2.10:6443", "[2001:db8::10]:6443"]`,
		"full": fullConfiguration,
		"name": `apiServer: {host: api.example.com, port: 443}`,
		"kubeadm's and own": `
existingConfigMap: {name: kube-proxy}
kubeIPVSConfiguration: {drainTimeout: 5m}`,
	} {
		objects := renderedFile(t, values)
		folders := map[string]string{"/etc/kube-ipvs": t.TempDir(), "/var/lib/kube-proxy": t.TempDir()}
		write(t, folders["/var/lib/kube-proxy"]+"/config.conf", string(read(t, root+"/internal/config/proxyconfig/testdata/kubeadm.yaml")))
		for _, o := range objects {
			if m, is := o.typed.(*corev1.ConfigMap); is {
				for file, text := range m.Data {
					write(t, filepath.Join(folders["/etc/kube-ipvs"], file), text)
				}
			}
		}
		daemons, complaints := understoodIn(t, one[*appsv1.DaemonSet](t, objects), folders)
		if complaints != "" {
			t.Errorf("%s: %s", name, complaints)
			continue
		}
		checkDaemons(t, daemons)
		if name == "full" && fmt.Sprint(daemons["kube-ipvs"].Config.DrainTimeout) != "5m0s" {
			t.Errorf("drains for %v", daemons["kube-ipvs"].Config.DrainTimeout)
		}
	}
}

const fullConfiguration = `
apiServers: ["192.0.2.10:6443"]
clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
extraArgs: [--v=2]
kubeProxyConfiguration:
  nodePortAddresses: [primary]
  ipvs: {scheduler: lc, strictARP: true}
kubeIPVSConfiguration:
  vipBinding: route
  drainTimeout: 5m
  serviceCIDRs: [10.96.0.0/16]
`
