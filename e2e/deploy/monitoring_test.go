// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// The used part of the Prometheus operator's types, which are not worth a dependency. Any other field counts as
// misspelt.
type podMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector            metav1.LabelSelector `json:"selector"`
		PodMetricsEndpoints []struct {
			Port          string `json:"port"`
			Interval      string `json:"interval"`
			ScrapeTimeout string `json:"scrapeTimeout"`
			HonorLabels   bool   `json:"honorLabels"`
			Relabelings   []struct {
				SourceLabels []string `json:"sourceLabels"`
				TargetLabel  string   `json:"targetLabel"`
			} `json:"relabelings"`
		} `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

type prometheusRule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []rule `json:"rules"`
		} `json:"groups"`
	} `json:"spec"`
}

type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// served returns the names of the metrics that kube-ipvs has, and those that Prometheus makes.
func served(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{"up": true}
	for name := range strings.FieldsSeq(string(read(t, root+"/internal/metrics/testdata/names.txt"))) {
		names[name] = true
	}
	return names
}

// known reports whether a name is one of those, a part of a histogram, or one that every Go program has.
func known(names map[string]bool, name string) bool {
	for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
		if base, cut := strings.CutSuffix(name, suffix); cut && names[base] {
			return true
		}
	}
	return false
}

func rules(t *testing.T) []rule {
	t.Helper()
	var all []rule
	for _, g := range one[*prometheusRule](t, built(t, "components/monitoring")).Spec.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

func TestAlertsAskForMetricsThatExistAndNameTheirPageOfTheRunbook(t *testing.T) {
	names := served(t)
	runbook := anchors(t, root+"/docs/operations.md")
	seen := map[string]bool{}
	for _, r := range rules(t) {
		if seen[r.Alert] {
			t.Errorf("%s is there twice", r.Alert)
		}
		seen[r.Alert] = true
		asked := metricsIn(r.Expr)
		if len(asked) == 0 {
			t.Errorf("%s asks for no metric", r.Alert)
		}
		for _, name := range asked {
			if !known(names, name) {
				t.Errorf("%s asks for %s, which nothing serves", r.Alert, name)
			}
		}
		if _, err := time.ParseDuration(r.For); err != nil {
			t.Errorf("%s: %v", r.Alert, err)
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s is of severity %q", r.Alert, s)
		}
		page, anchor, _ := strings.Cut(r.Annotations["runbook_url"], "#")
		if !strings.HasSuffix(page, "/docs/operations.md") || anchor != strings.ToLower(r.Alert) || !runbook[anchor] {
			t.Errorf("%s: docs/operations.md has no heading for %q", r.Alert, r.Annotations["runbook_url"])
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s does not say what it means", r.Alert)
		}
	}
	for anchor := range runbook {
		if strings.HasPrefix(anchor, "kubeipvs") && !slices.ContainsFunc(rules(t), func(r rule) bool { return strings.ToLower(r.Alert) == anchor }) {
			t.Errorf("docs/operations.md has a section for %s, which is no alert", anchor)
		}
	}
}

// anchors returns the anchors of a page's headings.
func anchors(t *testing.T, page string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(read(t, page)), -1) {
		all[strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")] = true
	}
	return all
}

// dashboard is the used part of a dashboard.
type dashboard struct {
	Title      string
	Templating struct {
		List []struct{ Query string }
	}
	Panels []struct {
		ID          int
		Title, Type string
		Targets     []struct{ Expr string }
		GridPos     struct{ X, Y, W, H int }
	}
}

func TestTheDashboardAsksForMetricsThatExist(t *testing.T) {
	text := one[*corev1.ConfigMap](t, built(t, "components/monitoring")).Data["kube-ipvs.json"]
	var d dashboard
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	names := served(t)
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if p.Type != "row" && len(p.Targets) == 0 || ids[p.ID] || p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q asks for nothing, is there twice, or has no place", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			for _, name := range metricsIn(target.Expr) {
				if !known(names, name) {
					t.Errorf("panel %q asks for %s, which nothing serves", p.Title, name)
				}
			}
		}
	}
	for _, v := range d.Templating.List {
		if name, found := strings.CutPrefix(v.Query, "label_values("); found {
			if name, _, _ = strings.Cut(name, ","); !known(names, name) {
				t.Errorf("a variable asks for %s, which nothing serves", name)
			}
		}
	}
}

func TestThePodMonitorFindsThePods(t *testing.T) {
	m := one[*podMonitor](t, built(t, "components/monitoring"))
	d := daemonSet(t)
	selector, err := metav1.LabelSelectorAsSelector(&m.Spec.Selector)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Spec.Selector.MatchLabels) == 0 || !selector.Matches(labels.Set(d.Spec.Template.Labels)) {
		t.Errorf("%v does not match %v", selector, d.Spec.Template.Labels)
	}
	ports := d.Spec.Template.Spec.Containers[0].Ports
	for _, e := range m.Spec.PodMetricsEndpoints {
		if !slices.ContainsFunc(ports, func(p corev1.ContainerPort) bool { return p.Name == e.Port }) {
			t.Errorf("the pods have no port %s", e.Port)
		}
	}
}

func TestTheDocumentsNameOnlyMetricsThatExist(t *testing.T) {
	names := served(t)
	for _, page := range pages(t) {
		for _, name := range regexp.MustCompile(`\bkube(proxy|ipvs)_\w+`).FindAllString(string(read(t, root+"/"+page)), -1) {
			if !known(names, name) {
				t.Errorf("%s names %s, which is no metric of kube-ipvs", page, name)
			}
		}
	}
}
