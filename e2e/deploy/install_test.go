// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// readers returns what a block of YAML for another program is held to, by the word after its language. A block that only
// has to be YAML here is read with the types of its program elsewhere.
func readers() map[string]func(t *testing.T, b block) {
	return map[string]func(*testing.T, block){
		"values":           func(t *testing.T, b block) { checkValues(t, b, b.text()) },
		"kubespray":        func(t *testing.T, b block) { checkFields(t, b, "kube_proxy_mode", "kube_proxy_remove") },
		"k3s":              func(t *testing.T, b block) { checkFields(t, b, "disable-kube-proxy") },
		"helm-controller":  checkHelmChart,
		"helm-chart-proxy": checkHelmChartProxy,
		"kubeadm":          checkDocuments, // e2e/upstream/kubeadm
		"talos":            checkDocuments, // e2e/types
		"cluster-api":      checkDocuments, // e2e/types
	}
}

// checkValues renders the chart with values, and has the program read the configuration.
func checkValues(t *testing.T, b block, values string) {
	t.Helper()
	objects := renderedFile(t, values)
	folder := t.TempDir()
	for _, o := range objects {
		if m, is := o.typed.(*corev1.ConfigMap); is && m.Name == "kube-ipvs" {
			write(t, filepath.Join(folder, "config.yaml"), m.Data["config.yaml"])
		}
	}
	daemons, complaints := understoodIn(t, one[*appsv1.DaemonSet](t, objects, "kube-ipvs"), map[string]string{"/etc/kube-ipvs": folder})
	if complaints != "" || len(daemons) != 2 {
		t.Errorf("%v: the program does not understand the configuration: %s", b, complaints)
	}
}

// checkFields reports settings that their program does not have. They are from its sources.
func checkFields(t *testing.T, b block, known ...string) {
	t.Helper()
	var fields map[string]any
	if err := yaml.UnmarshalStrict([]byte(b.text()), &fields); err != nil || len(fields) == 0 {
		t.Errorf("%v: %d fields, %v", b, len(fields), err)
	}
	for name := range fields {
		if !slices.Contains(known, name) {
			t.Errorf("%v: there is no setting %s", b, name)
		}
	}
}

func checkDocuments(t *testing.T, b block) {
	t.Helper()
	for document := range strings.SplitSeq(b.text(), "\n---\n") {
		var fields map[string]any
		if err := yaml.UnmarshalStrict([]byte(document), &fields); err != nil || len(fields) == 0 {
			t.Errorf("%v: %d fields, %v", b, len(fields), err)
		}
	}
}

// helmChart is the used part of HelmChart of k3s' helm-controller (v0.17.9), whose module is not worth its
// dependencies. Any other field counts as misspelt.
type helmChart struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Bootstrap       bool   `json:"bootstrap"`
		Chart           string `json:"chart"`
		Version         string `json:"version"`
		TargetNamespace string `json:"targetNamespace"`
		ValuesContent   string `json:"valuesContent"`
	} `json:"spec"`
}

func checkHelmChart(t *testing.T, b block) {
	t.Helper()
	var c helmChart
	if err := yaml.UnmarshalStrict([]byte(b.text()), &c); err != nil {
		t.Errorf("%v: %v", b, err)
	}
	if c.APIVersion != "helm.cattle.io/v1" || c.Kind != "HelmChart" || !c.Spec.Bootstrap || c.Spec.Version != chartVersion(t) {
		t.Errorf("%v: %s %s, bootstrap %v, version %s", b, c.APIVersion, c.Kind, c.Spec.Bootstrap, c.Spec.Version)
	}
	checkValues(t, b, c.Spec.ValuesContent)
}

// helmChartProxy is the used part of HelmChartProxy of cluster-api-addon-provider-helm.
type helmChartProxy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ClusterSelector  metav1.LabelSelector `json:"clusterSelector"`
		RepoURL          string               `json:"repoURL"`
		ChartName        string               `json:"chartName"`
		Version          string               `json:"version"`
		ReleaseName      string               `json:"releaseName"`
		ReleaseNamespace string               `json:"namespace"`
		ValuesTemplate   string               `json:"valuesTemplate"`
	} `json:"spec"`
}

// checkHelmChartProxy also fills in the template, for a cluster with two pod networks.
func checkHelmChartProxy(t *testing.T, b block) {
	t.Helper()
	var p helmChartProxy
	if err := yaml.UnmarshalStrict([]byte(b.text()), &p); err != nil {
		t.Errorf("%v: %v", b, err)
	}
	if p.APIVersion != "addons.cluster.x-k8s.io/v1alpha1" || p.Kind != "HelmChartProxy" || p.Spec.Version != chartVersion(t) {
		t.Errorf("%v: %s %s, version %s", b, p.APIVersion, p.Kind, p.Spec.Version)
	}
	cluster := map[string]any{"spec": map[string]any{
		"controlPlaneEndpoint": map[string]any{"host": "api.example.com", "port": 6443},
		"clusterNetwork":       map[string]any{"pods": map[string]any{"cidrBlocks": []any{"10.244.0.0/16", "fd00:10:244::/56"}}},
	}}
	values, err := template.New("values").Option("missingkey=error").Parse(p.Spec.ValuesTemplate)
	if err != nil {
		t.Fatalf("%v: %v", b, err)
	}
	var out bytes.Buffer
	if err := values.Execute(&out, map[string]any{"Cluster": cluster}); err != nil {
		t.Fatalf("%v: %v", b, err)
	}
	if want := "clusterCIDR: 10.244.0.0/16,fd00:10:244::/56\n"; !strings.Contains(out.String(), want) {
		t.Errorf("%v: the values are\n%s", b, out.String())
	}
	checkValues(t, b, out.String())
}

// chartVersion returns the version of the chart.
func chartVersion(t *testing.T) string {
	t.Helper()
	var c struct{ Version string }
	if err := yaml.Unmarshal(read(t, chart+"/Chart.yaml"), &c); err != nil {
		t.Fatal(err)
	}
	return c.Version
}

// checkHelm renders the chart as the command would, and reports what else is not there.
func checkHelm(t *testing.T, args []string) error {
	t.Helper()
	words, values := helmWords(t, args)
	path := func() string { return filepath.Join(root, words[len(words)-1]) }
	switch {
	case slices.Contains([]string{"install", "upgrade", "template"}, words[0]) && len(words) == 3 && words[1] == "kube-ipvs":
		_, stderr, err := helm(t, append([]string{"template", words[1], path(), "--namespace", "kube-system"}, values...)...)
		if err != nil {
			return fmt.Errorf("%w: %s", err, stderr)
		}
		return nil
	case words[0] == "package" && len(words) == 2:
		return checkFolder(t, words[1:])
	case words[0] == "push" && len(words) == 3 && words[1] == "kube-ipvs-"+chartVersion(t)+".tgz":
		return nil
	case words[0] == "uninstall" && len(words) == 2 && words[1] == "kube-ipvs":
		return nil
	}
	return fmt.Errorf("helm %v is no command of the documents", words)
}

// helmWords parts the words of a command from its values, which become complete: a file has what the pages say, and a
// release that is upgraded has values already.
func helmWords(t *testing.T, args []string) (words, values []string) {
	t.Helper()
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "--set":
			values = append(values, args[i], args[i+1])
			i++
		case "--namespace":
			i++
		case "--values", "--reuse-values":
			file := filepath.Join(t.TempDir(), "values.yaml")
			write(t, file, "apiServers: [\"192.0.2.10:6443\"]\n")
			values = append(values, "--values", file)
			if args[i] == "--values" {
				i++
			}
		default:
			words = append(words, args[i])
		}
	}
	return words, values
}

// checkCopy reports files of ours that are not there.
func checkCopy(_ *testing.T, args []string) error {
	_, err := os.Stat(filepath.Join(root, args[0]))
	return err
}

// Each page of a way in says what to check and how to go back, and the index names it.
func TestEveryWayInSaysWhatToCheckAndHowToGoBack(t *testing.T) {
	index := string(read(t, root+"/docs/install/README.md"))
	ways := slices.DeleteFunc(pages(t), func(page string) bool {
		return !strings.HasPrefix(page, "docs/install/") || page == "docs/install/README.md"
	})
	if len(ways) != 6 {
		t.Errorf("there are %q", ways)
	}
	for _, page := range ways {
		text := string(read(t, filepath.Join(root, page)))
		for _, want := range []string{"-- kube-ipvs dump -o wide", "rollout status daemonset", "# Back\n", "migrate.md"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %s", page, want)
			}
		}
		if !strings.Contains(index, "("+filepath.Base(page)+")") {
			t.Errorf("the index does not name %s", page)
		}
	}
}
