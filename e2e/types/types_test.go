// SPDX-License-Identifier: Apache-2.0

// Package types reads the files of other projects in our documents and manifests with the types of those projects: what
// Talos, Cluster API and the Prometheus operator would refuse, fails here. Package deploy reads the rest.
package types

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	addonsv1 "sigs.k8s.io/cluster-api/api/addons/v1beta2"
	controlplanev1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
	"sigs.k8s.io/yaml"
)

const root = "../.."

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// blocks returns the blocks of YAML that a page has for a reader.
func blocks(t *testing.T, page, reader string) []string {
	t.Helper()
	_, rest, found := strings.Cut(string(read(t, page)), "```yaml "+reader+"\n")
	if !found {
		t.Fatalf("%s has no block for %s", page, reader)
	}
	var all []string
	for found {
		var text string
		text, rest, _ = strings.Cut(rest, "```\n")
		all = append(all, text)
		_, rest, found = strings.Cut(rest, "```yaml "+reader+"\n")
	}
	return all
}

// strictly decodes a document. An unknown field fails the test.
func strictly[T any](t *testing.T, document []byte) *T {
	t.Helper()
	of := new(T)
	if err := yaml.UnmarshalStrict(document, of); err != nil {
		t.Errorf("%v\n%s", err, document)
	}
	return of
}

func TestTalosTakesTheMachineConfiguration(t *testing.T) {
	for _, text := range blocks(t, "docs/install/talos.md", "talos") {
		c, err := configloader.NewFromBytes([]byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		var modules []string
		for _, m := range c.Machine().Kernel().Modules() {
			modules = append(modules, m.Name())
		}
		if c.Cluster().Proxy().Enabled() || !slices.Contains(modules, "ip_vs") {
			t.Errorf("kube-proxy is enabled: %v, modules %v", c.Cluster().Proxy().Enabled(), modules)
		}
	}
	if _, err := configloader.NewFromBytes([]byte("cluster:\n  proxy:\n    disable: true\n")); err == nil {
		t.Error("an unknown field is taken")
	}
}

func TestClusterAPITakesItsObjects(t *testing.T) {
	seen := map[string]bool{}
	for _, text := range blocks(t, "docs/install/cluster-api.md", "cluster-api") {
		var meta struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal([]byte(text), &meta); err != nil {
			t.Fatal(err)
		}
		seen[meta.Kind] = true
		switch meta.APIVersion + " " + meta.Kind {
		case controlplanev1.GroupVersion.String() + " KubeadmControlPlane":
			p := strictly[controlplanev1.KubeadmControlPlane](t, []byte(text))
			_, skips := p.Annotations[controlplanev1.SkipKubeProxyAnnotation]
			if phases := p.Spec.KubeadmConfigSpec.InitConfiguration.SkipPhases; !skips || !slices.Contains(phases, "addon/kube-proxy") {
				t.Errorf("skips %v, annotations %v", phases, p.Annotations)
			}
		case addonsv1.GroupVersion.String() + " ClusterResourceSet":
			s := strictly[addonsv1.ClusterResourceSet](t, []byte(text))
			if len(s.Spec.Resources) != 1 || s.Spec.Strategy != string(addonsv1.ClusterResourceSetStrategyReconcile) {
				t.Errorf("%+v", s.Spec)
			}
		default:
			t.Errorf("nothing reads %s of %s", meta.Kind, meta.APIVersion)
		}
	}
	if len(seen) != 2 {
		t.Errorf("the page has %v", seen)
	}
}

func TestThePrometheusOperatorTakesItsObjects(t *testing.T) {
	m := strictly[monitoringv1.PodMonitor](t, read(t, "manifests/components/monitoring/pod-monitor.yaml"))
	if len(m.Spec.PodMetricsEndpoints) != 1 {
		t.Errorf("%+v", m.Spec)
	}
	r := strictly[monitoringv1.PrometheusRule](t, read(t, "manifests/components/monitoring/alerts.yaml"))
	if len(r.Spec.Groups) != 1 || len(r.Spec.Groups[0].Rules) < 10 {
		t.Errorf("%+v", r.Spec)
	}
}
