// SPDX-License-Identifier: Apache-2.0

// Package deploy checks what operators install and read: the manifests as kustomize builds them, the alerts and the
// dashboard, the Dockerfile, and the commands and outputs in the documents. Package pod tests what the containers may
// do, and package cluster that the API server lets them.
package deploy

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

const (
	root      = "../.."
	manifests = root + "/manifests"
	kustomize = "sigs.k8s.io/kustomize/kustomize/v5@v5.8.1"
)

// complete returns the folders that can be applied, and what each makes.
func complete() map[string][]string {
	base := []string{"ClusterRole", "ClusterRoleBinding", "DaemonSet", "ServiceAccount"}
	return map[string][]string{
		"base":                       base,
		"overlays/kube-proxy-config": base,
		"overlays/migrate":           append([]string{"DaemonSet", "DaemonSet"}, base...),
		"overlays/own-config":        append([]string{"ConfigMap"}, base...),
		"components/monitoring":      {"ConfigMap", "PodMonitor", "PrometheusRule"},
	}
}

// builds caches the built folders: a build takes a second.
var builds sync.Map

// built returns the objects that kustomize makes of a folder.
func built(t *testing.T, folder string) []object {
	t.Helper()
	if out, done := builds.Load(folder); done {
		return decoded(t, folder, out.([]byte))
	}
	// Components are not built alone: this is an overlay with one component.
	top := t.TempDir()
	from, err := filepath.Abs(filepath.Join(manifests, folder))
	if err != nil {
		t.Fatal(err)
	}
	kind := "resources"
	if strings.HasPrefix(folder, "components/") {
		kind = "components"
	}
	relative, err := filepath.Rel(top, from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(top, "kustomization.yaml"), kind+": ["+relative+"]\n")
	c := exec.Command("go", "run", kustomize, "build", top)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("building %s: %v\n%s", folder, err, stderr.String())
	}
	builds.Store(folder, out)
	return decoded(t, folder, out)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// object is one object, as text and as Kubernetes or Prometheus decodes it.
type object struct {
	kind, name, namespace string
	typed                 any
}

// decoded returns the objects of a file. An unknown field fails the test.
func decoded(t *testing.T, where string, text []byte) []object {
	t.Helper()
	var all []object
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var meta struct {
			Kind     string
			Metadata struct{ Name, Namespace string }
		}
		if err := yaml.Unmarshal([]byte(document), &meta); err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		if meta.Kind == "" {
			continue // a comment
		}
		typed, err := typed(meta.Kind, []byte(document))
		if err != nil {
			t.Errorf("%s: %s %s: %v", where, meta.Kind, meta.Metadata.Name, err)
			continue
		}
		all = append(all, object{meta.Kind, meta.Metadata.Name, meta.Metadata.Namespace, typed})
	}
	return all
}

func typed(kind string, document []byte) (any, error) {
	var of any
	switch kind {
	case "PodMonitor":
		of = &podMonitor{}
	case "PrometheusRule":
		of = &prometheusRule{}
	default:
		return runtime.Decode(serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer(), document)
	}
	return of, yaml.UnmarshalStrict(document, of)
}

// one returns the only object of its type, or the one of a name.
func one[T any](t *testing.T, objects []object, names ...string) T {
	t.Helper()
	var found []T
	for _, o := range objects {
		if typed, ok := o.typed.(T); ok && (len(names) == 0 || slices.Contains(names, o.name)) {
			found = append(found, typed)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects of %T, want one", len(found), *new(T))
	}
	return found[0]
}

func TestEveryFolderMakesWhatItIsFor(t *testing.T) {
	for folder, want := range complete() {
		var kinds []string
		for _, o := range built(t, folder) {
			kinds = append(kinds, o.kind)
			if namespaced := !strings.HasPrefix(o.kind, "ClusterRole"); namespaced && o.namespace != "kube-system" {
				t.Errorf("%s: %s %s is in namespace %q", folder, o.kind, o.name, o.namespace)
			}
		}
		if slices.Sort(kinds); !slices.Equal(kinds, slices.Sorted(slices.Values(want))) {
			t.Errorf("%s makes %v, want %v", folder, kinds, want)
		}
	}
}

func TestEveryFileIsOfUseAndMeansWhatItSays(t *testing.T) {
	used := map[string]bool{"overlays/migrate/kube-proxy.yaml": true} // by docs/migrate.md
	var files []string
	err := fs.WalkDir(os.DirFS(manifests), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == "demo" || name == "chart" || name == "kubeadm": // which kustomize does not read
			return fs.SkipDir
		case filepath.Base(name) == "kustomization.yaml":
			named(t, name, used)
		case d.Type().IsRegular():
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if !used[name] {
			t.Errorf("no kustomization.yaml names %s", name)
		}
		if text := read(t, filepath.Join(manifests, name)); filepath.Base(name) != "config.yaml" && filepath.Ext(name) == ".yaml" {
			decoded(t, name, text)
		}
	}
}

// named notes which files a kustomization.yaml names.
func named(t *testing.T, name string, used map[string]bool) {
	t.Helper()
	var k struct {
		Resources          []string
		Patches            []struct{ Path string }
		ConfigMapGenerator []struct{ Files []string }
	}
	if err := yaml.Unmarshal(read(t, filepath.Join(manifests, name)), &k); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	files := k.Resources
	for _, p := range k.Patches {
		files = append(files, p.Path)
	}
	for _, g := range k.ConfigMapGenerator {
		files = append(files, g.Files...)
	}
	for _, f := range files {
		used[filepath.Join(filepath.Dir(name), f)] = true
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Each label of a node means exactly what docs/migrate.md says, in any order of starting and ending pods.
func TestTheLabelOfANodeSaysWhoseItIs(t *testing.T) {
	const key = "kube-ipvs.io/proxy"
	all := built(t, "overlays/migrate")
	theirs := one[*appsv1.DaemonSet](t, decoded(t, "kube-proxy.yaml", read(t, manifests+"/overlays/migrate/kube-proxy.yaml"))).Spec.Template.Spec
	terms := theirs.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	if len(terms) != 1 || len(terms[0].MatchExpressions) != 1 || terms[0].MatchExpressions[0].Operator != corev1.NodeSelectorOpNotIn {
		t.Fatalf("kube-proxy's nodes are %v", terms)
	}
	got := map[string][]string{}
	for _, label := range []string{"", "kube-ipvs", "hand-back", "clean-up"} {
		for _, o := range all {
			if d, ok := o.typed.(*appsv1.DaemonSet); ok && d.Spec.Template.Spec.NodeSelector[key] == label {
				got[label] = append(got[label], o.name)
			}
		}
		if not := terms[0].MatchExpressions[0]; not.Key == key && !slices.Contains(not.Values, label) {
			got[label] = append(got[label], "kube-proxy")
		}
	}
	want := map[string][]string{
		"": {"kube-proxy"}, "kube-ipvs": {"kube-ipvs"}, "hand-back": {"kube-ipvs-hand-back"}, "clean-up": {"kube-ipvs-clean-up", "kube-proxy"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("by label (-want +got):\n%s", d)
	}
	everywhere := one[*appsv1.DaemonSet](t, built(t, "overlays/kube-proxy-config")).Spec.Template.Spec
	if _, some := everywhere.NodeSelector[key]; some {
		t.Errorf("without kube-proxy only on nodes with %v", everywhere.NodeSelector)
	}
}
